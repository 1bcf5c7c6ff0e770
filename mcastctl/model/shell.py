"""Words of the commands that hints suggest: who pastes one must not run what a name in it says.

The kernel takes almost any name for an interface, nftables for a chain: `$(id)` is one.
"""

_PLAIN = "@%+=:,./-_"


def word(text: str) -> str:
    """Return `text` as one word of a shell command, as it is where no shell sees more in it.

    As shlex.quote does; that would be loaded when there may be no descriptor left to load it by.
    """
    plain = text.isascii() and text and all(one.isalnum() or one in _PLAIN for one in text)
    return text if plain else "'" + text.replace("'", "'\"'\"'") + "'"


def leading(group: str, iface: str) -> str:
    """Return the command that routes a group, and it alone, to an interface, whatever is there.

    The newest of equal routes comes first in IPv4. IPv6 looks at the table `local` first, where
    every interface has ff00::/8.
    """
    if ":" in group:
        return f"ip -6 route replace multicast {group}/128 dev {word(iface)} table local metric 1"
    return f"ip route prepend {group} dev {word(iface)}"


def setting(version: int, iface: str, key: str, value: int) -> str:
    """Return the argument of sysctl(8) that sets what an interface has of its own.

    A dot in a name (VLANs have one) is a slash there, lest it end the name.
    """
    name = iface.replace(".", "/")
    return word(f"net.ipv{version}.conf.{name}.{key}={value}")
