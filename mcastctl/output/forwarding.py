"""Forwarding and bridges for people: a paragraph and its tables for each."""

import os
from collections.abc import Mapping, Sequence

from mcastctl.model.forwarding import (
    Bridge,
    BridgePort,
    DatabaseEntry,
    Forwarding,
    ForwardingEntry,
    ForwardingInterface,
)
from mcastctl.output import color, stream, tables
from mcastctl.output.escape import escape

_VIFS = ("VIF", "IFACE", "KIND", "PKTS_IN", "BYTES_IN", "PKTS_OUT", "BYTES_OUT")
_ENTRIES = ("SOURCE", "GROUP", "IN", "OUT", "PKTS", "WRONG_IF", "IDLE", "STATE")
_PORTS = ("PORT", "STATE", "FLOOD", "ROUTER", "FAST_LEAVE", "TO_UNICAST", "ISOLATED")
_DATABASE = ("GROUP", "PORT", "SOURCES", "STATE", "TIMER", "VLAN", "FLAGS")
_SPARE = (
    *("BYTES_IN", "BYTES_OUT", "IDLE", "KIND", "TO_UNICAST", "FAST_LEAVE", "VLAN", "FLAGS"),
    *("ISOLATED", "TIMER"),
)

Page = tuple[str, Sequence[str], list[list[str]]]


def forwarding(
    found: Sequence[Forwarding | ForwardingInterface | ForwardingEntry],
    color_option: str,
    environ: Mapping[str, str],
) -> None:
    """Print, for each family, whether it forwards, by which interfaces, and what."""
    for family in ("ipv4", "ipv6"):
        mine = [one for one in found if one.family == family]
        pages: list[Page] = []
        for head in (one for one in mine if isinstance(one, Forwarding)):
            pages.append((_forwarding(head), (), []))
        vifs = [_vif(one) for one in mine if isinstance(one, ForwardingInterface)]
        entries = [_entry(one) for one in mine if isinstance(one, ForwardingEntry)]
        pages += [("", _VIFS, vifs), ("", _ENTRIES, entries)]
        _print(pages, color_option, environ)


def bridges(
    found: Sequence[Bridge | DatabaseEntry], color_option: str, environ: Mapping[str, str]
) -> None:
    """Print each bridge with its ports and its database."""
    heads = [one for one in found if isinstance(one, Bridge)]
    if not heads:
        stream.say("no bridge")
    for head in heads:
        database = [
            _database(one)
            for one in found
            if isinstance(one, DatabaseEntry) and one.bridge_ifindex == head.ifindex
        ]
        ports = [_port(one) for one in head.ports]
        pages: list[Page] = [(_bridge(head), (), []), ("", _PORTS, ports)]
        _print([*pages, ("", _DATABASE, database)], color_option, environ)


def _print(pages: Sequence[Page], color_option: str, environ: Mapping[str, str]) -> None:
    colored = color.wanted(color_option, environ, terminal=os.isatty(1))
    for text, headings, rows in pages:
        if text:
            stream.say(text)
        if rows:
            stream.say(tables.render(headings, rows, spare=_SPARE, color=colored))


def _forwarding(one: Forwarding) -> str:
    state = {True: "on", False: "off", None: "unknown"}[one.mc_forwarding]
    lines = [f"{one.family} forwarding {state}"]
    if one.interfaces:
        lines[0] += f" on {', '.join(map(escape, one.interfaces))}"
    lines[0] += f"; {one.entries} entries, {one.unresolved} unresolved"
    for holder in one.holders:
        lines.append(f"  routing socket: {escape(holder.name)}[{holder.pid}] fd {holder.fd}")
    return "\n".join([*lines, *(f"  {escape(note)}" for note in one.notes)])


def _vif(one: ForwardingInterface) -> list[str]:
    numbers = (one.packets_in, one.bytes_in, one.packets_out, one.bytes_out)
    return [str(one.vif), escape(one.iface), one.kind, *map(str, numbers)]


def _entry(one: ForwardingEntry) -> list[str]:
    outgoing = [f"{escape(each.iface)}>{each.threshold}" for each in one.oifs]
    return [
        one.source,
        one.group,
        escape(one.iface or "-"),
        " ".join(outgoing) or "nowhere",
        _known(one.packets),
        _known(one.wrong_iif),
        "-" if one.idle_s is None else f"{one.idle_s:.1f}",
        one.state,
    ]


def _bridge(one: Bridge) -> str:
    name = escape(one.iface)
    lines = [f"bridge {name} (index {one.ifindex}): snooping {_switch(one.snooping)}"]
    lines[0] += f", asks itself {_switch(one.querier)}"
    lines[0] += f", IGMPv{_known(one.igmp_version)}, MLDv{_known(one.mld_version)}"
    for each in one.queriers:
        where = f"behind {escape(each.port)}" if each.port else "this bridge"
        timer = f", gone in {each.other_timer_s:.0f} s" if each.other_timer_s else ""
        lines.append(f"  {each.family} querier {each.address}, {where}{timer}")
    if one.query_interval_s is not None and one.membership_interval_s is not None:
        times = f"  queries every {one.query_interval_s:.0f} s"
        lines.append(f"{times}, memberships last {one.membership_interval_s:.0f} s")
    if one.router_ports:
        lines.append(f"  router ports: {', '.join(map(escape, one.router_ports))}")
    return "\n".join([*lines, *(f"  {escape(note)}" for note in one.notes)])


def _port(one: BridgePort) -> list[str]:
    switches = (one.fast_leave, one.to_unicast, one.isolated)
    shown = [escape(one.iface), one.state, _switch(one.flood), one.router or "-"]
    return [*shown, *map(_switch, switches)]


def _database(one: DatabaseEntry) -> list[str]:
    sources = [*([one.source] if one.source else []), *one.sources]
    mode = "not " if one.mode == "exclude" and one.sources else ""
    return [
        one.group,
        escape(one.port),
        mode + " ".join(sources) or "-",
        one.state,
        "-" if one.timer_s is None else f"{one.timer_s:.0f}",
        _known(one.vlan),
        ",".join(one.flags) or "-",
    ]


def _switch(value: bool | None) -> str:
    return {True: "on", False: "off", None: "-"}[value]


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)
