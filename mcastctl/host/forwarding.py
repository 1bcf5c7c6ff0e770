"""The kernel's multicast forwarding cache, IPv4 and IPv6, and who fills it. Linux only.

Entries come by RTM_GETROUTE of the families RTNL_FAMILY_IPMR and _IP6MR, interfaces by RTM_GETLINK
(IPv4) or /proc/net/ip6_mr_vif, where the kernel has nothing better (net/ipv4/ipmr.c, ip6mr.c).
"""

import os
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping

from mcastctl.host import elsewhere, knobs, netlink, owners, procnet, sockets
from mcastctl.model.forwarding import (
    Forwarding,
    ForwardingEntry,
    ForwardingInterface,
    Holder,
    Outgoing,
)

_FAMILIES = {4: 128, 6: 129}  # RTNL_FAMILY_IPMR, RTNL_FAMILY_IP6MR
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWROUTE, _RTM_GETROUTE = 16, 18, 24, 26
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_IFINFO = struct.Struct("=BBHiII")  # struct ifinfomsg
_NEXTHOP = struct.Struct("=HBBi")  # struct rtnexthop: its hops are the threshold
_STATISTICS = struct.Struct("=QQQ")  # struct rta_mfc_stats
_DST, _SRC, _IIF, _MULTIPATH, _TABLE, _STATS, _EXPIRES = 1, 2, 3, 9, 15, 17, 23
_AF_SPEC, _TABLE_ID, _VIFS = 26, 1, 6  # IFLA_AF_SPEC; IPMRA_TABLE_*, <linux/mroute.h>
_TABLES = {253: "default", 254: "main"}
_KINDS = {0x1: "tunnel", 0x4: "register"}  # VIFF_TUNNEL, VIFF_REGISTER; MIFF_REGISTER is 1
_VIF_LINE = re.compile(r"\s*(\d+) (.*?)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([0-9A-F]{5})(?: .*)?")
_HOLDERS = {4: ("raw", 2), 6: ("raw6", 58)}  # IPPROTO_IGMP, IPPROTO_ICMPV6

Names = Mapping[int, str]
Forwarded = Forwarding | ForwardingInterface | ForwardingEntry


def read() -> list[Forwarded]:
    """Return what this host forwards: per family the switch, the interfaces, the entries.

    Raises OSError where the kernel cannot be asked at all.
    """
    if sys.platform != "linux":
        raise elsewhere.refuse("show what this host forwards")
    names = dict(socket.if_nameindex())
    found: list[Forwarded] = []
    with netlink.Netlink() as connection:
        for version in (4, 6):
            interfaces = _interfaces(connection, version, names)
            entries = list(_entries(connection, version, names))
            found += [_summary(version, names, interfaces, entries), *interfaces, *entries]
    return found


def _summary(
    version: int,
    names: Names,
    interfaces: list[ForwardingInterface],
    entries: list[ForwardingEntry],
) -> Forwarding:
    switched = knobs.mc_forwarding("all", version)
    taking_part = tuple(name for name in names.values() if knobs.mc_forwarding(name, version))
    active = bool(switched or interfaces)
    holders = _holders(version) if active else ()
    notes = []
    if not active:
        notes.append("nothing is forwarded: no daemon (smcroute, pimd, FRR) holds the socket")
    elif not holders:
        wanted = "it runs in another pid namespace" if os.geteuid() == 0 else "run as root"
        notes.append(f"who holds the routing socket could not be seen: {wanted}")
    return Forwarding(
        family=f"ipv{version}",
        mc_forwarding=switched,
        interfaces=taking_part,
        holders=holders,
        entries=len(entries),
        unresolved=sum(one.state == "unresolved" for one in entries),
        notes=tuple(notes),
    )


def _holders(version: int) -> tuple[Holder, ...]:
    """Return the processes with a raw IGMP (IPv6: ICMPv6) socket.

    One of them holds the routing socket; ICMPv6 has more uses, so these only may.
    """
    file, number = _HOLDERS[version]
    inodes = {one.inode for one in sockets.parse(file, procnet.read(file)) if one.port == number}
    return tuple(Holder(*one) for one in owners.having_open(inodes))


def _interfaces(
    connection: netlink.Netlink, version: int, names: Names
) -> list[ForwardingInterface]:
    if version == 4:
        question = _IFINFO.pack(_FAMILIES[4], 0, 0, 0, 0, 0)
        try:
            answers = connection.dump(_RTM_GETLINK, question)
        except OSError:
            answers = []
        ours = [one for _, one in answers if len(one) > 16 and one[16] == _FAMILIES[4]]
        if ours:
            return [vif for message in ours for vif in _vifs(message, names)]
        return vifs_of_text(4, procnet.read("ip_mr_vif"), names)
    return vifs_of_text(6, procnet.read("ip6_mr_vif"), names)


def _vifs(message: bytes, names: Names) -> Iterator[ForwardingInterface]:
    """Yield the VIFs of one routing table."""
    told = dict(netlink.attributes(message, 16 + _IFINFO.size))
    spec = dict(netlink.attributes(told.get(_AF_SPEC, b"")))
    table = netlink.number(spec.get(_TABLE_ID, b""))
    for _, value in netlink.attributes(spec.get(_VIFS, b"")):
        fields = {kind: netlink.number(raw) for kind, raw in netlink.attributes(value)}
        index = fields.get(1, 0)
        yield ForwardingInterface(
            family="ipv4",
            table=_TABLES.get(table, str(table)),
            vif=fields.get(2, 0),
            iface=names.get(index, f"index {index}"),
            ifindex=index or None,
            kind=_kind(4, fields.get(3, 0)),
            packets_in=fields.get(6, 0),
            bytes_in=fields.get(4, 0),
            packets_out=fields.get(7, 0),
            bytes_out=fields.get(5, 0),
        )


def vifs_of_text(version: int, text: str, names: Names) -> list[ForwardingInterface]:
    """Return the interfaces of /proc/net/ip_mr_vif or ip6_mr_vif (default table only)."""
    indexes = {name: index for index, name in names.items()}
    found = []
    for line in filter(None, map(_VIF_LINE.fullmatch, text.split("\n"))):
        vif, name, bytes_in, packets_in, bytes_out, packets_out, flags = line.groups()
        if len(vif) < 6 and all(len(one) < 21 for one in line.groups()[2:]):
            found.append(
                ForwardingInterface(
                    family=f"ipv{version}",
                    table="default" if version == 4 else "main",
                    vif=int(vif),
                    iface=name,
                    ifindex=indexes.get(name),
                    kind=_kind(version, int(flags, 16)),
                    packets_in=int(packets_in),
                    bytes_in=int(bytes_in),
                    packets_out=int(packets_out),
                    bytes_out=int(bytes_out),
                )
            )
    return found


def _kind(version: int, flags: int) -> str:
    if version == 6:
        return "register" if flags & 0x1 else "physical"
    return next((kind for bit, kind in _KINDS.items() if flags & bit), "physical")


def _entries(connection: netlink.Netlink, version: int, names: Names) -> Iterable[ForwardingEntry]:
    question = _ROUTE.pack(_FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0)
    try:
        answers = connection.dump(_RTM_GETROUTE, question)
    except OSError:
        return  # a kernel without multicast routing
    for kind, message in answers:
        # A kernel that has no such family answers with its ordinary routes.
        if kind == _RTM_NEWROUTE and len(message) > 16 and message[16] == _FAMILIES[version]:
            yield entry(message, version, names)


def entry(message: bytes, version: int, names: Names) -> ForwardingEntry:
    """Return the entry an RTM_NEWROUTE message of the multicast families holds."""
    told = dict(netlink.attributes(message, 16 + _ROUTE.size))
    iif = netlink.number(told.get(_IIF, b""))
    table = netlink.number(told.get(_TABLE, b""))
    statistics: tuple[int | None, ...] = (None, None, None)
    if len(told.get(_STATS, b"")) >= _STATISTICS.size:
        statistics = _STATISTICS.unpack_from(told[_STATS])
    ticks = netlink.number(told[_EXPIRES]) if _EXPIRES in told else None
    return ForwardingEntry(
        family=f"ipv{version}",
        table=_TABLES.get(table, str(table)),
        source=_address(version, told.get(_SRC)),
        group=_address(version, told.get(_DST)),
        iface=names.get(iif, f"index {iif}") if iif else None,
        ifindex=iif or None,
        oifs=tuple(_outgoing(told.get(_MULTIPATH, b""), names)),
        state="resolved" if iif else "unresolved",
        packets=statistics[0],
        bytes=statistics[1],
        wrong_iif=statistics[2],
        idle_s=None if ticks is None else ticks / os.sysconf("SC_CLK_TCK"),
    )


def _outgoing(hops: bytes, names: Names) -> Iterator[Outgoing]:
    at = 0
    while at + _NEXTHOP.size <= len(hops):
        length, _flags, threshold, index = _NEXTHOP.unpack_from(hops, at)
        if length < _NEXTHOP.size:
            return
        yield Outgoing(names.get(index, f"index {index}"), index, threshold)
        at += (length + 3) & ~3


def _address(version: int, raw: bytes | None) -> str:
    number, length = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
    whole = raw if raw is not None and len(raw) == length else bytes(length)
    return socket.inet_ntop(number, whole)
