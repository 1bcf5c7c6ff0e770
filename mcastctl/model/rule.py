"""Policy rules (ip-rule(8)): which one led a flow of this host to a routing table."""

from ipaddress import ip_address, ip_network
from typing import NamedTuple

INVERT = 0x2
"""FIB_RULE_INVERT, <linux/fib_rules.h>."""


class Rule(NamedTuple):
    """A rule's selectors; None selects everything. `action` is table, or what it refuses with."""

    priority: int
    table: int
    action: str
    invert: bool
    source: str | None
    destination: str | None
    iif: str | None
    oif: str | None
    mark: int
    uids: tuple[int, int] | None
    narrower: bool
    """It asks for a protocol, a port, a tunnel or a class: nothing our question has."""


class Flow(NamedTuple):
    """A datagram of this host that is about to be routed."""

    group: str
    source: str | None
    oif: str | None
    uid: int


def matches(rule: Rule, flow: Flow) -> bool:
    """Tell whether a rule selects a flow (net/core/fib_rules.c: fib_rule_match).

    What this host sends has 'lo' for its incoming interface, and no mark.
    """
    selected = (
        not rule.narrower
        and rule.mark == 0
        and rule.iif in (None, "lo")
        and rule.oif in (None, flow.oif)
        and _within(flow.group, rule.destination)
        and _within(flow.source, rule.source)
        and (rule.uids is None or rule.uids[0] <= flow.uid <= rule.uids[1])
    )
    return selected != rule.invert


def leading_to(rules: list[Rule], table: int, flow: Flow) -> Rule | None:
    """Return the first rule that selects the flow and names the table that answered."""
    for rule in sorted(rules, key=lambda one: one.priority):
        if rule.action == "table" and rule.table == table and matches(rule, flow):
            return rule
    return None


def rejecting(rules: list[Rule], flow: Flow) -> Rule | None:
    """Return the first rule that calls the flow unreachable; a route would say so otherwise."""
    for rule in sorted(rules, key=lambda one: one.priority):
        if rule.action == "unreachable" and matches(rule, flow):
            return rule
    return None


def _within(address: str | None, network: str | None) -> bool:
    if network is None:
        return True
    return address is not None and ip_address(address) in ip_network(network, strict=False)
