"""Which rule of the packet filter drops a datagram: the hooks on its path, in order."""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from mcastctl.doctor.facts import Facts
from mcastctl.host.firewall import Rule
from mcastctl.model.shell import word


class Packet(NamedTuple):
    """What a rule may look at; '' and 0 where it is not known."""

    src: str
    dst: str
    protocol: str
    dport: int
    iface: str


def may_match(rule: Rule, packet: Packet) -> bool:
    """Tell whether a rule can be about a packet; expressions not understood may."""
    if rule.family in ("ip", "ip6") and (rule.family == "ip6") != (":" in packet.dst):
        return False
    if rule.devices and packet.iface and packet.iface not in rule.devices:
        return False
    return all(_fits(one.get("match"), packet) is not False for one in rule.matches)


def must_match(rule: Rule, packet: Packet) -> bool:
    """Tell whether a rule is about a packet for certain, and no earlier one of its chain may be."""
    fits = (_fits(one.get("match"), packet) for one in rule.matches)
    known = bool(rule.matches) or (rule.verdict == "policy" and rule.handle is None)
    if not known or "legacy" in rule.table or not may_match(rule, packet) or not all(fits):
        return False
    spared = (rule._replace(matches=matches) for matches in rule.spared)
    return not any(may_match(one, packet) for one in spared)


def _fits(match: object, packet: Packet) -> bool | None:
    """Tell whether one expression holds, None where this cannot be told."""
    if not isinstance(match, dict):
        return None
    if _replies_only(match) or _of_another(match.get("left"), packet):
        return False
    known = _known(match.get("left"), packet)
    if known is None:
        return None
    holds = _within(match.get("right"), known)
    if holds is None:
        return None
    return not holds if match.get("op") == "!=" else holds


def _replies_only(match: Mapping[str, Any]) -> bool:
    """Tell whether it asks for a connection with replies: nobody replies to a multicast stream."""
    left, right = match.get("left"), match.get("right")
    if not isinstance(left, Mapping) or left.get("ct") != {"key": "state"}:
        return False
    states = right.get("set") if isinstance(right, Mapping) else right
    wanted = set(map(str, states if isinstance(states, list) else [states]))
    return match.get("op") in ("in", "==") and wanted <= {"established", "related"}


def _of_another(left: Any, packet: Packet) -> bool:
    """Tell whether it looks into another protocol: nft asks for that one first, always."""
    payload = left.get("payload") if isinstance(left, Mapping) else None
    asked = payload.get("protocol") if isinstance(payload, Mapping) else None
    if asked in ("ip", "ip6"):
        return bool((asked == "ip6") != (":" in packet.dst))
    own = {"ipv6-icmp": "icmpv6"}.get(packet.protocol, packet.protocol)
    return bool(own) and asked in _TRANSPORTS and asked != own


_TRANSPORTS = ("tcp", "udp", "udplite", "sctp", "dccp", "icmp", "icmpv6", "igmp", "esp", "ah")


def _known(left: Any, packet: Packet) -> str | None:
    """Return the packet's value of what an expression looks at."""
    if not isinstance(left, Mapping):
        return None
    payload, meta = left.get("payload"), left.get("meta")
    if isinstance(payload, Mapping):
        asked = payload.get("protocol"), payload.get("field")
        six = ":" in packet.dst
        values: dict[tuple[Any, Any], str] = {
            ("ip6" if six else "ip", "daddr"): packet.dst,
            ("ip6" if six else "ip", "saddr"): packet.src,
            ("ip6" if six else "ip", "nexthdr" if six else "protocol"): packet.protocol,
            ("udp", "dport"): str(packet.dport) if packet.protocol == "udp" else "no",
            ("th", "dport"): str(packet.dport) if packet.protocol == "udp" else "no",
        }
        return values.get(asked) or None
    if isinstance(meta, Mapping):
        return {
            "l4proto": packet.protocol,
            "pkttype": "multicast",
            "iifname": packet.iface,
            "iif": packet.iface,
        }.get(str(meta.get("key"))) or None
    return None


def _within(right: Any, value: str) -> bool | None:
    """Tell whether a value is among those of an expression, None where this cannot be told."""
    if isinstance(right, list):
        right = {"set": right}
    if not isinstance(right, Mapping):
        return None if str(right).startswith("@") else str(right) == value
    if isinstance(right.get("set"), list):
        found = [_within(one, value) for one in right["set"]]
        return True if True in found else None if None in found else False
    if "prefix" in right:
        return _in_prefix(right["prefix"], value)
    return _in_range(right.get("range"), value)


def _in_range(bounds: Any, value: str) -> bool | None:
    if not isinstance(bounds, list) or not all(isinstance(one, int) for one in bounds):
        return None
    return value.isdecimal() and bounds[0] <= int(value) <= bounds[-1]


def _in_prefix(prefix: Any, value: str) -> bool | None:
    try:
        return ip_address(value) in ip_network(f"{prefix['addr']}/{prefix['len']}", strict=False)
    except (ValueError, KeyError, TypeError):
        return False if value == "no" else None


def suspects(facts: Facts, hooks: tuple[str, ...], packet: Packet) -> list[Rule]:
    """Return the rules that may drop a packet, those that counted something first."""
    found = [
        one for one in facts.dropping if set(one.hooks) & set(hooks) and may_match(one, packet)
    ]
    return sorted(found, key=lambda one: -facts.moved_rules.get(one.key, 0))


def traced(facts: Facts) -> Rule | None:
    """Return the rule that dropped the traced packets most often, where there was a trace."""
    verdicts = facts.probe.verdicts if facts.probe else {}
    for family, table, chain, handle in sorted(verdicts, key=lambda one: -verdicts[one]):
        place = family, table, chain, handle
        for one in facts.dropping:
            if (one.family, one.table, one.chain, one.handle) == place:
                return one
        # A verdict map, or rules that could not be read.
        return Rule(*place, (), (), "drop", (), None, "drop")
    return None


def describe(facts: Facts, rule: Rule) -> str:
    """Return a rule as evidence."""
    place = f"{rule.family} {rule.table} {rule.chain}"
    handle = f" handle {rule.handle}" if rule.handle is not None else ""
    count = facts.moved_rules.get(rule.key)
    counted = f" (counted {count} more meanwhile, {rule.packets} in all)" if count else ""
    verdicts = facts.probe.verdicts if facts.probe else {}
    named = (rule.family, rule.table, rule.chain, rule.handle) in {tuple(one) for one in verdicts}
    said = ", and the kernel's trace names it" if named else ""
    return f"nft rule {place}{handle}: {rule.text}{counted}{said}"


def remedy(rule: Rule | None, accept: str) -> str:
    """Return how to let the datagrams pass, and how to undo that; `accept` in the words of nft.

    Without a handle, before everything else in its chain.
    """
    if rule is None:
        return f"accept {accept} before the rule that drops it: see 'nft list ruleset'"
    if "legacy" in rule.table:
        return _legacy_remedy(rule, accept)
    place = " ".join(map(word, (rule.family, rule.table, rule.chain)))
    before = "" if rule.handle is None else f" handle {rule.handle}"
    return (
        f"nft -ae insert rule {place}{before} {accept} accept; "
        f"undo: nft delete rule {place} handle N, the number that it prints"
    )


_LEGACY = (
    (re.compile(r"ip6? daddr (\S+)"), r"-d \1"),
    (re.compile(r"udp dport (\d+)"), r"-p udp --dport \1"),
    (re.compile(r"ip protocol (\w+)"), r"-p \1"),
    (re.compile(r"icmpv6 type .*"), "-p icmpv6"),
)
"""Expressions of nft, and what the old program calls them."""


def _legacy_remedy(rule: Rule, accept: str) -> str:
    for told, words in _LEGACY:
        accept = told.sub(words, accept)
    program = "ip6tables-legacy" if rule.family == "ip6" else "iptables-legacy"
    table = word(rule.table.partition(" ")[0])
    return f"{program} -t {table} -I {word(rule.chain)} {accept} -j ACCEPT (undo: -D for -I)"
