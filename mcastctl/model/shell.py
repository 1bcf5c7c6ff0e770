"""Words of the commands that hints suggest: who pastes one must not run what a name in it says.

The kernel takes almost any name for an interface, nftables for a chain: `$(id)` is one.
"""


def word(text: str) -> str:
    """Return `text` as one word of a shell command, as it is where no shell sees more in it."""
    import shlex  # a run that finds nothing wrong needs none

    return shlex.quote(text)


def setting(version: int, iface: str, key: str, value: int) -> str:
    """Return the argument of sysctl(8) that sets what an interface has of its own.

    A dot in a name (VLANs have one) is a slash there, lest it end the name.
    """
    name = iface.replace(".", "/")
    return word(f"net.ipv{version}.conf.{name}.{key}={value}")
