"""Every interface of the host: psutil's picture, the index it lacks, and multicast state."""

import socket
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import psutil

from mcastctl.host import knobs, links, procnet
from mcastctl.model.errors import InterfaceError
from mcastctl.model.interface import Address, Interface
from mcastctl.model.link import Link

_COUNTERS = {
    "packets_recv": "rx_packets",
    "bytes_recv": "rx_bytes",
    "dropin": "rx_dropped",
    "errin": "rx_errors",
    "packets_sent": "tx_packets",
    "bytes_sent": "tx_bytes",
    "dropout": "tx_dropped",
    "errout": "tx_errors",
}
_COUNTERS6 = {
    "Ip6InMcastPkts": "ip6_in_multicast",
    "Ip6OutMcastPkts": "ip6_out_multicast",
}


def interfaces(*, brief: bool = False) -> list[Interface]:
    """Return all interfaces by index; what cannot be read is None.

    `brief` leaves out what takes a library to ask: kinds, masters, states of addresses.
    """
    addresses = _or_empty(psutil.net_if_addrs)
    stats = _or_empty(psutil.net_if_stats)
    counters = _or_empty(lambda: psutil.net_io_counters(pernic=True))
    igmp_text = procnet.read("igmp")
    igmp = procnet.igmp_versions(igmp_text)
    groups: dict[int, list[str]] = {}
    for one in procnet.igmp(igmp_text) + procnet.igmp6(procnet.read("igmp6")):
        groups.setdefault(one.ifindex, []).append(one.group)
    found = [
        _interface(
            name, index, addresses.get(name, []), stats.get(name), counters.get(name)
        )._replace(igmp_version=igmp.get(index), groups=tuple(groups.get(index, ())))
        for index, name in sorted(socket.if_nameindex())
    ]
    known = {} if brief else links.here()
    return [_completed(one, known) for one in found]


def complete() -> bool:
    """Tell whether this host can be asked for all there is to know of an interface."""
    return sys.platform != "linux" or procnet.present()


def _completed(one: Interface, known: dict[int, Link]) -> Interface:
    """Return the interface with what rtnetlink adds."""
    link = known.get(one.ifindex)
    if link is None:
        return one
    master = known.get(link.master or 0)
    states = {each.address: each.states for each in link.addresses}
    counted = {} if link.rx_multicast is None else {"rx_multicast": link.rx_multicast}
    return one._replace(
        kind="wireless" if links.is_wireless(link) else link.role,
        master=master.name if master else None,
        addresses=tuple(
            each._replace(states=states.get(each.address, ())) for each in one.addresses
        ),
        counters=one.counters | counted | _ip6_counters(one.name),
    )


def _ip6_counters(name: str) -> dict[str, int]:
    """Return the IPv6 multicast counters of an interface (/proc/net/dev_snmp6)."""
    if "/" in name or name in ("", ".", ".."):
        return {}
    pairs = (line.split() for line in procnet.read(f"dev_snmp6/{name}").split("\n"))
    return {
        _COUNTERS6[pair[0]]: int(pair[1])
        for pair in pairs
        if len(pair) == 2 and pair[0] in _COUNTERS6 and pair[1].isascii() and pair[1].isdigit()
    }


def select(found: list[Interface], names: tuple[str, ...]) -> list[Interface]:
    """Return those named by name, index or address, all without names.

    Raises InterfaceError for a name that fits none.
    """
    if not names:
        return found
    chosen = []
    for name in names:
        bare = name.partition("%")[0]
        fitting = [
            one
            for one in found
            if name in (one.name, str(one.ifindex))
            or any(bare == address.address for address in one.addresses)
        ]
        if not fitting:
            raise InterfaceError(
                f"no interface has the name, index or address '{name}'",
                hint=f"this host has: {', '.join(one.name for one in found)}",
            )
        chosen += fitting
    return chosen


def _or_empty(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """psutil reads /proc, which a sandbox may hide, and knows interface names in UTF-8 only."""
    try:
        return read()
    except (OSError, RuntimeError, UnicodeError):
        return {}


def _interface(name: str, index: int, addresses: list[Any], stats: Any, counters: Any) -> Interface:
    flags = set(stats.flags.split(",")) if stats and stats.flags else None

    def told(*spellings: str) -> bool | None:
        return None if flags is None else not flags.isdisjoint(spellings)

    mac = next((one.address for one in addresses if one.family == psutil.AF_LINK), None)
    return Interface(
        name=name,
        ifindex=index,
        mtu=stats.mtu if stats else None,
        mac=mac or None,
        up=told("up"),
        carrier=told("running"),
        multicast=told("multicast"),
        loopback=told("loopback"),
        point_to_point=told("pointopoint", "pointtopoint"),
        addresses=tuple(_addresses(name, addresses)),
        igmp_version=None,
        mld_version=knobs.mld_version(name),
        rp_filter=knobs.rp_filter(name),
        mc_forwarding=knobs.mc_forwarding(name),
        mc_forwarding6=knobs.mc_forwarding(name, 6),
        groups=(),
        counters={ours: getattr(counters, theirs) for theirs, ours in _COUNTERS.items()}
        if counters
        else {},
    )


def _addresses(name: str, entries: list[Any]) -> Iterator[Address]:
    for one in entries:
        if one.family == socket.AF_INET:
            value = IPv4Address(one.address)
            scope = "host" if value.is_loopback else "link" if value.is_link_local else "global"
            yield Address("ipv4", one.address, _prefix(one.netmask, 4), scope, None)
        elif one.family == socket.AF_INET6:
            text = one.address.partition("%")[0]
            value6 = IPv6Address(text)
            scope = "host" if value6.is_loopback else "link" if value6.is_link_local else "global"
            zone = name if value6.is_link_local else None
            yield Address("ipv6", text, _prefix(one.netmask, 6), scope, zone)


def _prefix(netmask: str | None, version: int) -> int | None:
    if not netmask:
        return None
    value = IPv4Address(netmask) if version == 4 else IPv6Address(netmask)
    return int(value).bit_count()
