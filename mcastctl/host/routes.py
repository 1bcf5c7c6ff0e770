"""Which interface the kernel sends a group by: RTM_GETROUTE of rtnetlink(7), asked once per group.

The answer is that of `ip route get`; a second question tells which route of which table made it
(RTM_F_FIB_MATCH). Linux only; other systems are asked in `host.elsewhere`.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mcastctl.host import elsewhere, links, netlink
from mcastctl.model import refusal, rule
from mcastctl.model.address import family
from mcastctl.model.link import Link
from mcastctl.model.route import REFUSING, Reverse, Route, fragile, unanswered

_RTM_GETROUTE, _RTM_GETRULE = 26, 34
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg, <linux/rtnetlink.h>
_RULE = struct.Struct("=BBBBBBBBI")  # struct fib_rule_hdr, <linux/fib_rules.h>
_DST, _SRC, _IIF, _OIF = 1, 2, 3, 4
_LOOKUP_TABLE, _FIB_MATCH = 0x1000, 0x2000  # RTM_F_*
_TABLES = {253: "default", 254: "main", 255: "local"}
_TYPES = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"}
_TYPES |= {6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
_PROTOCOLS = {1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp"}
_PROTOCOLS |= {11: "zebra", 12: "bird", 42: "babel", 186: "bgp", 188: "ospf", 189: "rip"}
_REFUSED_BY = {refusal.name(number): kind for kind, number in refusal.BY_ROUTE.items()}
"""What routes of these types answer (net/ipv4/fib_semantics.c: fib_props)."""
_ACTIONS = {1: "table", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}


class Routing:
    """The routing code of this network namespace, ready to be asked; a context manager."""

    def __init__(self) -> None:
        self._connection = netlink.Netlink()
        self.links: Mapping[int, Link] = links.links(self._connection)
        self._rules = {version: self._read_rules(version) for version in (4, 6)}

    def __enter__(self) -> "Routing":
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.__exit__()

    def route(self, group: str, ifindex: int | None = None, source: str | None = None) -> Route:
        """Return where `group` leaves, by the interface given or from the source given."""
        asked = self._name(ifindex)
        question = _question(group, ifindex, source)
        flow = rule.Flow(group, source, asked, os.getuid())
        try:
            fields, told = self._ask(group, question, _LOOKUP_TABLE)
        except OSError as error:
            refused = _refused(group, asked, source, error)
            by = rule.rejecting(self._rules[family(group)], flow)
            return _by_rule(refused, by) if by and error.errno == errno.ENETUNREACH else refused
        table = told.get("RTA_TABLE", fields["table"])
        led = rule.leading_to(self._rules[family(group)], table, flow) if table else None
        matched: tuple[str | None, dict[str, Any]] = (None, {})
        if table:
            with suppress(OSError):  # none matched: -i or the bound source decided alone
                matched = self._match(group, question)
        kind = _TYPES.get(fields["type"], str(fields["type"]))
        found = Route(
            group=group,
            iface=self._name(told.get("RTA_OIF")),
            ifindex=told.get("RTA_OIF"),
            source=source or told.get("RTA_PREFSRC"),
            gateway=_gateway(told),
            route_type=kind,
            table=_TABLES.get(table, str(table)) if table else None,
            rule=led.priority if led else None,
            prefix=matched[0],
            protocol=_protocol(matched[1]),
            metric=matched[1].get("RTA_PRIORITY"),
            asked_iface=asked,
            asked_source=source,
            error=None,
            reason="",
        )
        found = found._replace(reason=_reason(found))
        return found._replace(warnings=tuple(fragile(found, self.links)))

    def reverse(self, source: str) -> Reverse:
        """Return the route back to a sender."""
        try:
            fields, told = self._ask(source, _question(source, None, None), 0)
        except OSError:
            return Reverse(source, None, None, None, local=False)
        index = told.get("RTA_OIF")
        local = _TYPES.get(fields["type"]) == "local"
        return Reverse(source, self._name(index), index, _gateway(told), local=local)

    def accepts(self, group: str, source: str, ifindex: int) -> bool | None:
        """Tell whether a datagram from `source` to `group` would be taken in on an interface.

        Membership, source filter, reverse path and martian checks in one (RTM_GETROUTE with
        RTA_IIF); None for IPv6, where the kernel does not answer this.
        """
        if family(group) == 6:
            return None
        question = _question(group, None, source) + netlink.attribute(_IIF, _u32(ifindex))
        try:
            self._ask(group, question, 0)
        except OSError:
            return False
        return True

    def _name(self, ifindex: int | None) -> str | None:
        if ifindex is None:
            return None
        return self.links[ifindex].name if ifindex in self.links else f"index {ifindex}"

    def _ask(self, group: str, question: bytes, flags: int) -> tuple[Any, Any]:
        from pyroute2.netlink.rtnl.rtmsg import rtmsg

        number = socket.AF_INET6 if family(group) == 6 else socket.AF_INET
        lengths = (128 if number == socket.AF_INET6 else 32, 0)
        header = _ROUTE.pack(number, *lengths, 0, 0, 0, 0, 0, flags)
        _, answer = self._connection.get(_RTM_GETROUTE, header + question)
        return netlink.decode(rtmsg, answer)

    def _match(self, group: str, question: bytes) -> tuple[str, dict[str, Any]]:
        """Return the prefix of the route that matched, and its attributes."""
        fields, told = self._ask(group, question, _FIB_MATCH)
        nothing = "::" if family(group) == 6 else "0.0.0.0"  # noqa: S104
        prefix = f"{told.get('RTA_DST', nothing)}/{fields['dst_len']}"
        return prefix, told | {"proto": fields["proto"]}

    def _read_rules(self, version: int) -> list[rule.Rule]:
        from pyroute2.netlink.rtnl.fibmsg import fibmsg

        number = socket.AF_INET6 if version == 6 else socket.AF_INET
        try:
            answers = self._connection.dump(
                _RTM_GETRULE, _RULE.pack(number, 0, 0, 0, 0, 0, 0, 0, 0)
            )
        except OSError:
            return []  # a kernel without policy routing
        return [_rule(*netlink.decode(fibmsg, message)) for _, message in answers]


def open_routing() -> "Routing | elsewhere.Routing":
    """Return the routing code, or raise with the remedy where there is none to ask."""
    if sys.platform != "linux":
        return elsewhere.Routing()
    with netlink.naming("ask the kernel for routes"):
        return Routing()


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


def _packed(address: str) -> bytes:
    number = socket.AF_INET6 if family(address) == 6 else socket.AF_INET
    return socket.inet_pton(number, address)


def _question(group: str, ifindex: int | None, source: str | None) -> bytes:
    question = netlink.attribute(_DST, _packed(group))
    if source is not None:
        question += netlink.attribute(_SRC, _packed(source))
    if ifindex is not None:
        question += netlink.attribute(_OIF, _u32(ifindex))
    return question


def _gateway(told: Mapping[str, Any]) -> str | None:
    """Return the gateway; an IPv4 route may have an IPv6 one (RTA_VIA, RFC 5549)."""
    via = told.get("RTA_VIA")
    found = told.get("RTA_GATEWAY") or (via or {}).get("addr")
    return str(found) if found else None


def _protocol(told: Mapping[str, Any]) -> str | None:
    number = told.get("proto")
    return _PROTOCOLS.get(number, str(number)) if number else None


def _rule(fields: Mapping[str, Any], told: Mapping[str, Any]) -> rule.Rule:
    uids = told.get("FRA_UID_RANGE")
    ports = ("FRA_SPORT_RANGE", "FRA_DPORT_RANGE", "FRA_TUN_ID", "FRA_IP_PROTO")
    mark = told.get("FRA_FWMARK") or 0
    return rule.Rule(
        priority=told.get("FRA_PRIORITY") or 0,
        table=told.get("FRA_TABLE") or fields["table"],
        action=_ACTIONS.get(fields["action"], str(fields["action"])),
        invert=bool(fields["flags"] & rule.INVERT),
        source=_network(told.get("FRA_SRC"), fields["src_len"]),
        destination=_network(told.get("FRA_DST"), fields["dst_len"]),
        iif=told.get("FRA_IIFNAME"),
        oif=told.get("FRA_OIFNAME"),
        mark=mark & told.get("FRA_FWMASK", 0xFFFFFFFF),
        uids=(uids["start"], uids["end"]) if isinstance(uids, Mapping) else None,
        narrower=bool(fields["tos"]) or any(told.get(name) for name in ports),
    )


def _network(address: str | None, length: int) -> str | None:
    return f"{address}/{length}" if address and length else None


def _refused(group: str, iface: str | None, source: str | None, error: OSError) -> Route:
    """Return the route that is none: refused by a route's type, or not there."""
    name = refusal.name(error.errno)
    kind = _REFUSED_BY.get(name)
    cause = refusal.cause(error.errno, error.strerror)
    if source is not None and kind in (None, "blackhole"):
        kind = None
        reason = f"{source} is no address of this host, or no route leads to the group: {cause}"
    elif kind in REFUSING:
        reason = f"a route or rule of type {kind} refuses the group: {cause}"
    else:
        reason = f"no route leads to the group: {cause}"
    route = unanswered(group, iface, source)
    return route._replace(route_type=kind, error=name, reason=reason)


def _by_rule(refused: Route, by: rule.Rule) -> Route:
    """Return the route refused by a rule: routes of that type answer EHOSTUNREACH instead."""
    reason = f"rule {by.priority} calls the group unreachable"
    return refused._replace(route_type="unreachable", rule=by.priority, reason=reason)


def _reason(found: Route) -> str:
    """Return why the kernel chose this, in one sentence."""
    if found.table is None:
        by = found.asked_source or found.asked_iface
        return f"{by} decides: the kernel asked no routing table"
    rule_ = f"rule {found.rule}" if found.rule is not None else "a rule"
    what = "the default route" if found.prefix in ("0.0.0.0/0", "::/0") else found.prefix
    return f"{rule_} leads to table {found.table}, {what or 'a route'} matches"
