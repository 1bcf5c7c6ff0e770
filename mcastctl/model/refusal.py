"""Errno values of socket calls, put into words with the remedy.

Sources: ip(7), ipv6(7), udp(7), and what Linux was seen to answer. One errno means different
things to different operations, so the table is keyed by both. What a refused send(2) means is said
in the same words by `send`, to whom it happens, and by `doctor`, who finds it in others.
"""

import errno
from typing import NamedTuple

from mcastctl.model import surroundings
from mcastctl.model.shell import leading, word
from mcastctl.model.surroundings import WINSOCK, standard


class Cause(NamedTuple):
    """Why a send was refused: the doctor's finding, in a few words, and what to do."""

    ident: str
    title: str
    hint: str


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
    ("unicast", errno.ENETUNREACH): "no route leads there: see 'ip route get'",
    ("unicast", errno.EHOSTUNREACH): "it does not answer, or a route forbids it: 'ip route get'",
    ("unicast", errno.EACCES): "it is a broadcast address, or a route prohibits it: 'ip route get'",
    ("send", errno.ECONNREFUSED): "the other end has nothing listening on that port",
    ("send", errno.ENODEV): "the interface is gone: see 'mcastctl ifaces'",
    ("egress", errno.EADDRNOTAVAIL): _GONE,
    ("egress", errno.ENODEV): _GONE,
}
UNICAST: frozenset[int | None] = frozenset(
    number for operation, number in _REMEDIES if operation == "unicast"
)
"""Refusals that mean something else where an ordinary address is sent to."""
_NAMED = "name the interface (-i {iface}, IP_MULTICAST_IF)"
_TYPED = f"remove it (see 'ip route get {{group}}'), or {_NAMED}, or: {{leading}}"
_SENDING = {
    errno.ENETUNREACH: Cause(
        "tx.no_route",
        "no route to the group",
        f"{{route}}, or {_NAMED}; is it up? loopback routes no IPv6 groups",
    ),
    errno.EHOSTUNREACH: Cause("tx.route_prohibited", "a route calls the group unreachable", _TYPED),
    errno.EACCES: Cause("tx.route_prohibited", "a route prohibits the group", _TYPED),
    errno.EINVAL: Cause("tx.route_prohibited", "a blackhole route swallows the group", _TYPED),
    errno.EPERM: Cause(
        "tx.firewall_output",
        "the packet filter of this host drops the datagrams on their way out",
        "accept {group} in OUTPUT and POSTROUTING: see 'nft list ruleset'",
    ),
    errno.EMSGSIZE: Cause(
        "tx.message_too_big",
        "the datagrams are larger than the MTU and may not be cut, or than UDP's 65507 bytes",
        "send less at once (-s), or set IP_MTU_DISCOVER to IP_PMTUDISC_DONT",
    ),
    errno.ENOBUFS: Cause(
        "tx.qdisc_drop",
        "the queueing discipline of {iface} has no room",
        "lower the rate (--pps, -b), or raise its rate or limit: tc -s qdisc show dev {iface}",
    ),
    errno.ENETDOWN: Cause(
        "tx.interface_down", "{iface} is administratively down", "ip link set {iface} up"
    ),
    errno.EADDRNOTAVAIL: Cause(
        "tx.source_not_local",
        "the source is no address of this host",
        "ip addr add SOURCE/LEN dev {iface}, or send from an address that exists (--bind)",
    ),
}
BY_ROUTE = {"unreachable": errno.EHOSTUNREACH, "prohibit": errno.EACCES, "blackhole": errno.EINVAL}
"""What a route of a type that refuses answers a send with (ip-route(8))."""
_WORDS = {
    errno.EPERM: "operation not permitted",
    errno.EMSGSIZE: "message too long",
    errno.ENETUNREACH: "network is unreachable",
}


def name(number: int | None) -> str:
    """Return 'ENOBUFS' for 105, 'unknown' for None (if_nametoindex gives no number)."""
    if number is None:
        return "unknown"
    if number in WINSOCK:
        return WINSOCK[number][0]
    return errno.errorcode.get(number, str(number))


def cause(number: int | None, text: str | None) -> str:
    """Return 'no buffer space available (ENOBUFS)'."""
    words = _WORDS.get(standard(number) or 0) or (text or "refused").lower()
    return f"{words} ({name(number)})" if number is not None else words


def remedy(operation: str, number: int | None, system: str = "") -> str:
    """Return what to do when `operation` was refused with this errno, by this kind of system."""
    peculiar = surroundings.remedy(system, operation, number)
    if peculiar is not None:
        return peculiar
    number = standard(number)
    found = _REMEDIES.get((operation, number or 0))
    if operation == "send" and (refused := sending(number)) is not None:
        found = f"{refused.title}: {refused.hint}"
    return found or "see 'mcastctl ifaces' for the interfaces of this host and their state"


def sending(
    number: int | None, group: str = "GROUP", iface: str = "IFACE", *, chosen: bool = False
) -> Cause | None:
    """Return why the kernel refused to send to a group by an interface, None for other errnos.

    `chosen` says that the interface was named, which then needs no advice.
    """
    found = _SENDING.get(standard(number) or 0)
    if found is None:
        return None
    named = word(iface)
    table = f"ip -6 route add multicast ff00::/8 dev {named} table local"
    route = table if ":" in group else f"ip route add 224.0.0.0/4 dev {named}"
    title = found.title.format(group=group, iface=iface)
    hint = found.hint.replace(f", or {_NAMED}", "") if chosen else found.hint
    words = {"iface": named, "route": route, "leading": leading(group, iface)}
    return Cause(found.ident, title, hint.format(group=group, **words))
