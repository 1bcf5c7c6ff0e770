"""Causes in series: the first on the datagram's path is the answer, here is what comes after it.

Behind the first cause no datagram proves anything, so these are what rules, memberships, routes
and sockets say in advance: warnings, each 'behind that'.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import (
    delivery,
    dropped,
    membership,
    network,
    packetfilter,
    traffic,
)
from mcastctl.doctor.rules.verdict import INFERRED, Rule, error
from mcastctl.model.records import Finding


class Station(NamedTuple):
    """A place on the path: the ids (or their beginnings) found there, and what tells in advance."""

    ids: tuple[str, ...]
    ahead: Rule | None = None


def firewall(hook: str, ident: str) -> Rule:
    """Return the rule that finds what a hook of the packet filter would surely drop."""

    def would_drop(facts: Facts) -> Finding | None:
        rule = dropped.certain_suspect(facts, hook)
        if rule is None:
            return None
        return error(
            ident,
            f"a rule in {hook.upper()} would drop the group",
            [packetfilter.describe(facts, rule)],
            dropped.accepting(facts, rule),
            "host",
            INFERRED,
        )

    return would_drop


def _source_refused(facts: Facts) -> Finding | None:
    """host.rp_filter: the routing code refuses the source here, member or not."""
    answers = facts.answers.get(facts.question.ifindex)
    source = facts.reverse.source if facts.reverse else None
    settings = facts.knobs.get(facts.question.ifindex)
    if answers is None or source is None or answers.unicast is not False:
        return None
    value = ip_address(source)
    odd = value.is_loopback or value.is_multicast or value.packed[0] in (0, 255)
    if odd or facts.local_source() or settings is None or not settings.rp_filter:
        return None
    said = f"route get to this host from {source} iif {facts.name(facts.question.ifindex)}: refused"
    return error("host.rp_filter", *dropped.rp_filter_words(facts, [said]), "host", INFERRED)


def _no_socket(facts: Facts) -> Finding | None:
    """Why the sockets in question would not take it, were they members of the group."""
    found = delivery.unmatched(facts) if facts.applications else None
    return None if found is None or found.id == "rx.not_joined" else found


NOT_MEMBER = (
    *("rx.not_joined", "rx.joined_wrong_iface", "rx.membership_limit", "rx.join_no_interface"),
    *("rx.missing_scope", "rx.port_in_use"),
)
_MEMBERSHIP = Station((*NOT_MEMBER, "host.igmp_version", "rx.ssm_asm_join"), membership.missing)
_SOURCES = Station(("rx.source_filter", "rx.msf_limit"), membership.filtered)
_INPUT = Station(("host.firewall_input",), firewall("input", "host.firewall_input"))
_ROUTING = Station(
    ("host.rp_filter", "host.no_ipv4_address", "host.martian_source", "host.source_is_local"),
    _source_refused,
)


def _receiver(facts: Facts) -> tuple[Station, ...]:
    """Return the way in; IPv6 looks at a group's sources only after INPUT."""
    six = facts.question.family == 6
    inner = (_MEMBERSHIP, _INPUT, _SOURCES) if six else (_MEMBERSHIP, _SOURCES, _ROUTING, _INPUT)
    return (
        Station(("net.", "group.", "tx.", "container.")),
        Station(("host.firewall_igmp", "host.firewall_mld"), network.queries_refused),
        Station(("host.xdp_drop", "host.wrong_dst_mac")),
        Station(("host.tc_drop",), traffic.redirected),
        Station(("host.firewall_ingress",), firewall("ingress", "host.firewall_ingress")),
        Station(("host.ip_checksum",)),
        Station(("host.firewall_prerouting",), firewall("prerouting", "host.firewall_prerouting")),
        *inner,
        Station(("host.fragment_incomplete",)),
        Station(("rx.bound", "rx.connected_filter", "rx.family_mismatch"), _no_socket),
    )


_SENDER = (
    Station(("tx.no_route", "tx.route_", "tx.source_not_local", "tx.missing_scope")),
    Station(("tx.cgroup_bpf",)),
    Station(("tx.firewall_output",), firewall("output", "tx.firewall_output")),
    Station(("tx.source_nat",), firewall("postrouting", "tx.firewall_output")),
    Station(("tx.qdisc_drop", "tx.firewall_egress"), firewall("egress", "tx.firewall_egress")),
)


def behind(facts: Facts, answer: Finding) -> list[Finding]:
    """Return what would keep the datagrams out next, once the answer is repaired: warnings."""
    if facts.question.role == "sender":
        return after(facts, answer, _SENDER)
    return after(facts, answer, _receiver(facts), dropped.findings(facts))


def after(
    facts: Facts, answer: Finding, way: tuple[Station, ...], seen: Iterable[Finding] = ()
) -> list[Finding]:
    """Return the same for any way; `seen` are other causes that drops prove already."""
    here = next((n for n, one in enumerate(way) if answer.id.startswith(one.ids)), len(way))
    later = [*seen, *(one.ahead(facts) for one in way[here + 1 :] if one.ahead is not None)]
    found = {one.id: one for one in later if one is not None and one.id != answer.id}
    return [mentioned(one) for one in found.values()]


def mentioned(one: Finding) -> Finding:
    """Return a cause as the one after the answer."""
    return one._replace(severity="warning", title=f"behind that, {one.title}", certain=INFERRED)
