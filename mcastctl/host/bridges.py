"""Linux bridges: snooping, queriers, ports and the multicast database, by rtnetlink. Linux only.

Settings come with RTM_GETLINK (IFLA_BR_*, IFLA_BRPORT_*, <linux/if_link.h>), the database with
RTM_GETMDB (<linux/if_bridge.h>); /sys would show those of another network namespace.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mcastctl.host import elsewhere, netlink
from mcastctl.model.forwarding import Bridge, BridgePort, DatabaseEntry, Querier
from mcastctl.model.shell import word

_RTM_GETLINK, _RTM_GETMDB = 18, 86
_IFINFO = struct.Struct("=BBHiII")  # struct ifinfomsg
_PORT_MESSAGE = struct.Struct("=B3xI")  # struct br_port_msg
_ENTRY = struct.Struct("=IBBH16s2s2x")  # struct br_mdb_entry
_PF_BRIDGE = 7
_IFLA_LINKINFO, _INFO_DATA, _QUERIER_STATE = 18, 2, 47
_MDB, _ROUTER = 1, 2  # MDBA_MDB, MDBA_ROUTER
_TIMER, _SOURCES, _MODE, _SOURCE = 1, 2, 3, 4  # MDBA_MDB_EATTR_*
_FLAGS = {0x1: "offload", 0x2: "fast_leave", 0x4: "star_excl", 0x8: "blocked"}
_ROUTERS = {0: "off", 1: "auto", 2: "always", 3: "learnt"}
_STATES = {0: "disabled", 1: "listening", 2: "learning", 3: "forwarding", 4: "blocking"}


def read() -> list[Bridge | DatabaseEntry]:
    """Return every bridge of this network namespace, followed by its database.

    Raises OSError where the kernel cannot be asked.
    """
    if sys.platform != "linux":
        raise elsewhere.refuse("show bridges")
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    names = dict(socket.if_nameindex())
    found: list[Bridge | DatabaseEntry] = []
    with netlink.Netlink() as connection:
        raw = [one for _, one in connection.dump(_RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0, 0))]
        links = [(*netlink.decode(ifinfmsg, message), message) for message in raw]
        entries, routers = _database(connection, names)
    ports: dict[int, list[BridgePort]] = {}
    for fields, told, _message in links:
        info = dict(told.get("IFLA_LINKINFO", {"attrs": []})["attrs"])
        if info.get("IFLA_INFO_SLAVE_KIND") == "bridge" and told.get("IFLA_MASTER"):
            port = _port(fields["index"], names, dict(info["IFLA_INFO_SLAVE_DATA"]["attrs"]))
            ports.setdefault(told["IFLA_MASTER"], []).append(port)
    for fields, told, message in links:
        info = dict(told.get("IFLA_LINKINFO", {"attrs": []})["attrs"])
        index = fields["index"]
        if info.get("IFLA_INFO_KIND") == "bridge" and "IFLA_INFO_DATA" in info:
            settings = dict(info["IFLA_INFO_DATA"]["attrs"])
            bridge = _bridge(index, names, settings)
            bridge = bridge._replace(
                queriers=tuple(_queriers(message, names, bool(bridge.querier))),
                ports=tuple(ports.get(index, ())),
                router_ports=tuple(routers.get(index, ())),
            )
            mine = [one for one in entries if one.bridge_ifindex == index]
            found += [bridge._replace(notes=_notes(bridge)), *mine]
    return found


def _name(names: Mapping[int, str], index: int) -> str:
    return names.get(index, f"index {index}")


def _seconds(ticks: int | None) -> float | None:
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _bridge(index: int, names: Mapping[int, str], told: Mapping[str, Any]) -> Bridge:
    return Bridge(
        iface=_name(names, index),
        ifindex=index,
        snooping=_flag(told.get("IFLA_BR_MCAST_SNOOPING")),
        querier=_flag(told.get("IFLA_BR_MCAST_QUERIER")),
        queriers=(),
        igmp_version=told.get("IFLA_BR_MCAST_IGMP_VERSION"),
        mld_version=told.get("IFLA_BR_MCAST_MLD_VERSION"),
        router=_ROUTERS.get(told.get("IFLA_BR_MCAST_ROUTER", -1)),
        query_interval_s=_seconds(told.get("IFLA_BR_MCAST_QUERY_INTVL")),
        membership_interval_s=_seconds(told.get("IFLA_BR_MCAST_MEMBERSHIP_INTVL")),
        querier_interval_s=_seconds(told.get("IFLA_BR_MCAST_QUERIER_INTVL")),
        ports=(),
        router_ports=(),
    )


def _port(index: int, names: Mapping[int, str], told: Mapping[str, Any]) -> BridgePort:
    return BridgePort(
        iface=_name(names, index),
        ifindex=index,
        state=_STATES.get(told.get("IFLA_BRPORT_STATE", -1), "unknown"),
        flood=_flag(told.get("IFLA_BRPORT_MCAST_FLOOD")),
        router=_ROUTERS.get(told.get("IFLA_BRPORT_MULTICAST_ROUTER", -1)),
        fast_leave=_flag(told.get("IFLA_BRPORT_FAST_LEAVE")),
        to_unicast=_flag(told.get("IFLA_BRPORT_MCAST_TO_UCAST")),
        isolated=_flag(told.get("IFLA_BRPORT_ISOLATED")),
    )


def _queriers(message: bytes, names: Mapping[int, str], own: bool) -> Iterator[Querier]:
    """Yield who asks, of both families (BRIDGE_QUERIER_*, Linux 5.16); pyroute2 drops it.

    A bridge without an address asks from 0.0.0.0, but cannot ask by MLD from ::.
    """
    link = dict(netlink.attributes(message, 16 + _IFINFO.size))
    info = dict(netlink.attributes(link.get(_IFLA_LINKINFO, b"")))
    settings = dict(netlink.attributes(info.get(_INFO_DATA, b"")))
    told = dict(netlink.attributes(settings.get(_QUERIER_STATE, b"")))
    for family, number, first in (("ipv4", socket.AF_INET, 1), ("ipv6", socket.AF_INET6, 5)):
        raw = told.get(first, b"")
        if len(raw) == (4 if first == 1 else 16) and (any(raw) or (own and first == 1)):
            port = netlink.number(told[first + 1]) if first + 1 in told else None
            timer = netlink.number(told[first + 2]) if first + 2 in told else None
            yield Querier(
                family,
                socket.inet_ntop(number, raw),
                _name(names, port) if port else None,
                _seconds(timer) if timer else None,
            )


def _notes(bridge: Bridge) -> tuple[str, ...]:
    """Return what a person should know about how this bridge treats groups."""
    if bridge.snooping is False:
        return ("snooping is off: groups are flooded to every port",)
    if bridge.snooping and not bridge.querier and not bridge.queriers:
        return (
            "no querier is known: groups are flooded, and its database will run empty;"
            f" ip link set {word(bridge.iface)} type bridge mcast_querier 1",
        )
    return ()


def _database(
    connection: netlink.Netlink, names: Mapping[int, str]
) -> tuple[list[DatabaseEntry], dict[int, list[str]]]:
    """Return the entries of all bridges, and the router ports by bridge."""
    found: list[DatabaseEntry] = []
    routers: dict[int, list[str]] = {}
    try:
        answers = connection.dump(_RTM_GETMDB, _PORT_MESSAGE.pack(_PF_BRIDGE, 0))
    except OSError:
        return found, routers  # a kernel without bridges
    for _, message in answers:
        if len(message) < 16 + _PORT_MESSAGE.size:
            continue
        bridge = _PORT_MESSAGE.unpack_from(message, 16)[1]
        for kind, value in netlink.attributes(message, 16 + _PORT_MESSAGE.size):
            if kind == _MDB:
                for _, group in netlink.attributes(value):
                    for _, one in netlink.attributes(group):
                        if len(one) >= _ENTRY.size:
                            found.append(_entry(bridge, one, names))
            elif kind == _ROUTER:
                ports = [one for _, one in netlink.attributes(value) if len(one) >= 4]
                listed = [_name(names, netlink.number(one[:4])) for one in ports]
                routers.setdefault(bridge, []).extend(listed)
    return found, routers


def _entry(bridge: int, data: bytes, names: Mapping[int, str]) -> DatabaseEntry:
    port, state, flags, vlan, address, protocol = _ENTRY.unpack_from(data)
    told = dict(netlink.attributes(data, _ENTRY.size))
    timer = _seconds(netlink.number(told[_TIMER])) if _TIMER in told else None
    mode = netlink.number(told[_MODE]) if _MODE in told else None
    sources = []
    for _, nested in netlink.attributes(told.get(_SOURCES, b"")):
        source = dict(netlink.attributes(nested)).get(1)  # MDBA_MDB_SRCATTR_ADDRESS
        sources += [_text(source)] if source else []
    return DatabaseEntry(
        bridge=_name(names, bridge),
        bridge_ifindex=bridge,
        port=_name(names, port),
        port_ifindex=port,
        group=_group(address, int.from_bytes(protocol)),
        source=_text(told[_SOURCE]) if _SOURCE in told else None,
        vlan=vlan or None,
        state="permanent" if state else "temp",
        flags=tuple(word for bit, word in _FLAGS.items() if flags & bit),
        mode={0: "exclude", 1: "include"}.get(-1 if mode is None else mode),
        sources=tuple(sources),
        timer_s=timer if state == 0 else None,
    )


def _group(address: bytes, protocol: int) -> str:
    if protocol == 0x0800:
        return socket.inet_ntop(socket.AF_INET, address[:4])
    if protocol == 0x86DD:
        return socket.inet_ntop(socket.AF_INET6, address)
    return address[:6].hex(":")  # a static entry for a link-layer address


def _text(raw: bytes) -> str:
    number = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return socket.inet_ntop(number, raw) if len(raw) in (4, 16) else raw.hex(":")
