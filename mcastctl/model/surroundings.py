"""What refusals mean on other systems, and where a Linux is a guest: numbers to names and remedies.

Windows numbers its socket errors apart (Winsock, <winerror.h> 10000 and up); macOS asks the user
before a program may reach the local network; WSL stands behind address translation, which no group
crosses.
"""

import errno

WINDOWS, MACOS, WSL = "win32", "darwin", "wsl"
"""What `net.whereabouts` may call where we are; any other name is plain."""

WINSOCK = {
    10004: ("WSAEINTR", errno.EINTR),
    10013: ("WSAEACCES", errno.EACCES),
    10022: ("WSAEINVAL", errno.EINVAL),
    10024: ("WSAEMFILE", errno.EMFILE),
    10035: ("WSAEWOULDBLOCK", errno.EAGAIN),
    10040: ("WSAEMSGSIZE", errno.EMSGSIZE),
    10042: ("WSAENOPROTOOPT", errno.ENOPROTOOPT),
    10043: ("WSAEPROTONOSUPPORT", errno.EPROTONOSUPPORT),
    10045: ("WSAEOPNOTSUPP", errno.EOPNOTSUPP),
    10047: ("WSAEAFNOSUPPORT", errno.EAFNOSUPPORT),
    10048: ("WSAEADDRINUSE", errno.EADDRINUSE),
    10049: ("WSAEADDRNOTAVAIL", errno.EADDRNOTAVAIL),
    10050: ("WSAENETDOWN", errno.ENETDOWN),
    10051: ("WSAENETUNREACH", errno.ENETUNREACH),
    10052: ("WSAENETRESET", errno.ENETRESET),
    10054: ("WSAECONNRESET", errno.ECONNRESET),
    10055: ("WSAENOBUFS", errno.ENOBUFS),
    10061: ("WSAECONNREFUSED", errno.ECONNREFUSED),
    10065: ("WSAEHOSTUNREACH", errno.EHOSTUNREACH),
}
"""Winsock's number: its name, and the errno that says the same ("Windows Sockets Error Codes")."""

_LOCAL_NETWORK = (
    "macOS lets a program into the local network when its user allows it: System Settings > "
    "Privacy & Security > Local Network, for the terminal it runs in"
)
_ALLOWED = "Windows reserves some ports: 'netsh int ipv4 show excludedportrange udp' lists them"
_MIRRORED = (
    "WSL stands behind address translation, which no group crosses: networkingMode=mirrored in "
    ".wslconfig, then 'wsl --shutdown'"
)
_REMEDIES = {
    (MACOS, "send", errno.EHOSTUNREACH): _LOCAL_NETWORK,
    (MACOS, "join", errno.EHOSTUNREACH): _LOCAL_NETWORK,
    (MACOS, "send", errno.EPERM): _LOCAL_NETWORK,
    (WINDOWS, "bind", errno.EADDRNOTAVAIL): (
        "Windows binds to an address of this host or to any, never to a group: see "
        "'mcastctl ifaces' for the addresses"
    ),
    (WINDOWS, "bind", errno.EACCES): _ALLOWED,
    (WINDOWS, "join", errno.EADDRNOTAVAIL): (
        "no such interface here: 'mcastctl ifaces' has the index of each"
    ),
    (WINDOWS, "send", errno.EADDRNOTAVAIL): (
        "the interface has no address of that family: see 'mcastctl ifaces'"
    ),
    (WINDOWS, "send", errno.EACCES): "the firewall of Windows blocks it: 'wf.msc', outbound rules",
    (WSL, "send", errno.ENETUNREACH): _MIRRORED,
    (WSL, "join", errno.ENODEV): _MIRRORED,
}


def standard(number: int | None) -> int | None:
    """Return the errno that a number of Winsock stands for; any other stays."""
    return WINSOCK[number][1] if number in WINSOCK else number


def remedy(system: str, operation: str, number: int | None) -> str | None:
    """Return what to do about a refusal there, None where it means what it means on Linux."""
    return _REMEDIES.get((system, operation, standard(number) or 0))
