"""What only active tests tell (`doctor --probe`); silent without them."""

import errno

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.probe.results import Injected, Sent
from mcastctl.doctor.rules import dropped, egress, packetfilter, series
from mcastctl.doctor.rules.verdict import INFERRED, PROVED, error, info, refused
from mcastctl.model import refusal
from mcastctl.model.records import Finding

_OF_SOURCES = ("IP_RPFILTER", "IP_LOCALNET", "IP_INVALID_SOURCE", "IP_LOCAL_SOURCE", "IP_INHDR")
"""Reasons that say nothing where the source was made up."""


def host_drops(facts: Facts) -> Finding | None:
    """Return what on this host throws datagrams like the missing ones away."""
    injected = facts.probe.injected if facts.probe else None
    if injected is None or injected.passed:
        return None
    if injected.way == "loop":
        return _not_looped(facts, injected)
    # As if they had been seen: what was counted while others watched says nothing about them.
    lost = injected.lost()
    if not injected.real_source:
        lost = {one: count for one, count in lost.items() if one.reason not in _OF_SOURCES}
    found = dropped.dominant(facts._replace(drops=lost, before={}, after={}))
    if found is None:
        return None
    whose = "the sender's address" if injected.real_source else "a neighbour's address"
    put = f"--probe put {injected.sent} datagrams from {injected.source} in ({whose})"
    certain = found.certain if injected.real_source else INFERRED
    return found._replace(evidence=[put, *found.evidence], certain=certain)


def _not_looped(facts: Facts, injected: Injected) -> Finding | None:
    hook, rule, _ = dropped.input_hook(facts)
    named = packetfilter.traced(facts) is not None
    if rule is None or not (named or dropped.about(facts, rule)):
        return None
    said = "a datagram sent to ourselves did not come back"
    return error(
        f"host.firewall_{hook}",
        f"the packet filter drops the group in {hook.upper()}",
        [said, packetfilter.describe(facts, rule)],
        dropped.accepting(facts, rule),
        "host",
        PROVED if named and dropped.about(facts, rule) else INFERRED,
    )


def traced(facts: Facts) -> Finding | None:
    """Return the rule that the trace names, where drop reasons are not told."""
    if packetfilter.traced(facts) is None or facts.probe is None or facts.probe.heard():
        return None
    if facts.probe.injected is not None:
        return host_drops(facts)
    hook, rule, certain = dropped.input_hook(facts)
    if rule is None:
        return None
    return error(
        f"host.firewall_{hook}",
        f"the packet filter drops the group in {hook.upper()}",
        [packetfilter.describe(facts, rule)],
        dropped.accepting(facts, rule),
        "host",
        certain,
    )


def forgotten(facts: Facts) -> Finding | None:
    """net.no_querier: the group comes back after a report made by hand."""
    probe = facts.probe
    if probe is None or probe.crafted is None or not probe.crafted.came:
        return None
    came = f"after one {probe.crafted.said}, made by hand, {probe.crafted.came} datagrams came"
    if probe.reports is not None and probe.reports.left == 0:
        name = "mld" if facts.question.family == 6 else "igmp"
        return error(
            f"host.firewall_{name}_out",
            f"this host's own {name.upper()} reports do not leave: one made by hand does",
            [came, f"no report of {probe.reports.group} left"],
            "look for a filter on the way out: nft list ruleset, tc filter show",
            "host",
            INFERRED,
        )
    name = facts.name(facts.question.ifindex)
    if any(one.kind == "query" and one.iface == name for one in facts.control):
        return error(
            "net.switch_no_mdb",
            f"the switch behind {name} had no entry for this host, although a querier asks",
            [came, "the answers to its queries got lost on the way, or were not understood"],
            "look at what the switch hears: 'bridge mdb', 'show ip igmp snooping groups'",
            "network",
            INFERRED,
        )
    return error(
        "net.no_querier",
        f"the switch behind {name} had forgotten the membership: nobody asked for it",
        [
            came,
            f"before, nothing came in {facts.watched_s:.1f} s although it is joined here; a sender "
            "that pauses longer looks the same",
        ],
        "enable a querier: 'ip link set BRIDGE type bridge mcast_querier 1', or a router's",
        "network",
        INFERRED,
    )


def not_sent(facts: Facts) -> Finding | None:
    """Return why the kernel refused, or dropped, a datagram of ours."""
    sent = facts.probe.sent if facts.probe else None
    if sent is None or sent.left:
        return None
    if sent.drops:
        return _lost(facts, sent)
    if sent.errno is None:
        return None
    said = [f"a datagram of --probe was refused: {refusal.name(sent.errno)}"]
    if sent.errno != errno.EPERM:
        return refused(sent.errno, facts, said)
    rule = packetfilter.traced(facts)
    found = egress.by_rule(facts, said, rule or egress.suspect(facts), silent=False)
    return found if rule else found._replace(certain=INFERRED)


def _lost(facts: Facts, sent: Sent) -> Finding | None:
    seen = facts._replace(drops=sent.drops, before={}, after={})
    taken = "taken by the kernel" if sent.errno is None else refusal.name(sent.errno)
    said = f"a datagram of --probe: {taken}"
    if sent.errno is None and any(one.reason == "NETFILTER_DROP" for one in sent.drops):
        rule = packetfilter.traced(facts) or egress.suspect(facts, "egress")
        return egress.by_rule(facts, [said], rule, silent=True)
    found = (
        egress.filtered(seen) or egress.cgroup(seen) or egress.firewall(seen) or egress.qdisc(seen)
    )
    return found._replace(evidence=[said, *found.evidence]) if found else None


def contradicted(facts: Facts, found: Finding) -> bool:
    """Tell whether a socket of ours heard what a finding says cannot be heard here.

    What was sent to ourselves passes the packet filter only: both hooks of the way in.
    """
    if facts.probe is None or found.certain != INFERRED:
        return False
    looped = facts.probe.injected is not None and bool(facts.probe.injected.heard)
    on_the_way = found.id.startswith(("host.", "net.", "if."))
    filtered = found.id in ("host.firewall_prerouting", "host.firewall_input")
    return (facts.probe.heard() and on_the_way) or (looped and filtered)


def completed(facts: Facts, found: list[Finding]) -> list[Finding]:
    """Return the findings with what active tests add to them, and what was done."""
    probe = facts.probe
    if probe is None:
        return found
    told = [_strengthened(facts, one) for one in found]
    title = f"active tests on {probe.iface}; all of it is undone" if probe.iface else "not tested"
    return [*told, info("doctor.probe", title, [*probe.did, *probe.missing])]


def _strengthened(facts: Facts, found: Finding) -> Finding:
    """Return a finding with the evidence of the throw-away join."""
    joined = facts.probe.joined if facts.probe else None
    if joined is None:
        return found
    if found.id == "rx.port_in_use" and joined.bind_errno == errno.EADDRINUSE:
        said = "a bind of --probe, with SO_REUSEADDR, was refused too: EADDRINUSE"
        return found._replace(evidence=[*found.evidence, said], certain=PROVED)
    if found.id in series.NOT_MEMBER and joined.fresh:
        got = max(joined.came or 0, joined.heard or 0)
        said = f"a throw-away join brought {got} datagrams: only the membership was missing"
        return found._replace(evidence=[*found.evidence, *([said] if got else [])])
    if joined.heard and found.severity == "info" and found.id == "ok":
        said = "a socket of ours, joined for a moment, heard them too"
        return found._replace(evidence=[*found.evidence, said])
    return found
