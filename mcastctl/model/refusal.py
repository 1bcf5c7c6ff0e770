"""Errno values of socket calls, put into words with the remedy.

Sources: ip(7), ipv6(7), udp(7), and what Linux was seen to answer. One errno means different
things to different operations, so the table is keyed by both.
"""

import errno

_FULL = "net.ipv4.igmp_max_memberships and net.core.optmem_max limit memberships per socket"
_GONE = "the interface is gone or down: see 'mcastctl ifaces'"
_REMEDIES: dict[tuple[str, int], str] = {
    ("join", errno.ENOBUFS): _FULL,
    ("join", errno.ENOMEM): "net.core.optmem_max limits what one socket may join: raise it",
    ("filter", errno.ENOMEM): "net.core.optmem_max limits the sources of one socket: raise it",
    ("filter", errno.ENOBUFS): "net.ipv4.igmp_max_msf and net.ipv6.mld_max_msf limit sources",
    ("join", errno.ENODEV): "no such interface, or no route to the group: name one with -i",
    ("join", errno.EADDRINUSE): "this socket is already in the group on that interface",
    ("join", errno.EINVAL): "the kernel takes this group or source for no valid one",
    ("bind", errno.EADDRINUSE): (
        "another program holds the port without address reuse; 'ss -ulpn' names it"
    ),
    ("bind", errno.EADDRNOTAVAIL): (
        "the address is on no interface of this host; see 'mcastctl ifaces'"
    ),
    ("bind", errno.EACCES): "ports below net.ipv4.ip_unprivileged_port_start need root",
    ("open", errno.EMFILE): "each group, port and interface takes a descriptor: raise 'ulimit -n'",
    ("open", errno.EAFNOSUPPORT): "this kernel has that address family switched off",
    ("send", errno.ENETUNREACH): (
        "no route to the group: is the interface up? loopback routes no IPv6 groups; "
        "-i names another interface"
    ),
    ("send", errno.EHOSTUNREACH): "a route calls the group unreachable; -i IFACE overrides it",
    ("send", errno.EACCES): (
        "a route prohibits the group (-i IFACE overrides it), or it is a broadcast address"
    ),
    ("send", errno.EPERM): "a firewall rule of this host drops it: see 'nft list ruleset'",
    ("send", errno.EMSGSIZE): "one datagram carries at most 65507 bytes: lower -s",
    ("send", errno.ENOBUFS): "the interface's queue is full: lower the rate (--pps, -b)",
    ("send", errno.ENETDOWN): "the interface is down: 'ip link set IFACE up'",
    ("send", errno.EADDRNOTAVAIL): "the source address left this host: choose another --bind",
    ("send", errno.ECONNREFUSED): "the other end has nothing listening on that port",
    ("send", errno.EINVAL): "a blackhole route or the destination forbids it: try -i IFACE",
    ("send", errno.ENODEV): "the interface is gone: see 'mcastctl ifaces'",
    ("egress", errno.EADDRNOTAVAIL): _GONE,
    ("egress", errno.ENODEV): _GONE,
}
_WORDS = {
    errno.EPERM: "operation not permitted",
    errno.EMSGSIZE: "message too long",
    errno.ENETUNREACH: "network is unreachable",
}


def name(number: int | None) -> str:
    """Return 'ENOBUFS' for 105, 'unknown' for None (if_nametoindex gives no number)."""
    if number is None:
        return "unknown"
    return errno.errorcode.get(number, str(number))


def cause(number: int | None, text: str | None) -> str:
    """Return 'no buffer space available (ENOBUFS)'."""
    words = _WORDS.get(number or 0) or (text or "refused").lower()
    return f"{words} ({name(number)})" if number is not None else words


def remedy(operation: str, number: int | None) -> str:
    """Return what to do when `operation` was refused with this errno."""
    found = _REMEDIES.get((operation, number or 0))
    return found or "see 'mcastctl ifaces' for the interfaces of this host and their state"
