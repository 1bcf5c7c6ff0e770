"""What is sent dies on this host's way out: packet filter, queue, control group, TTL 0."""

import errno

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import traffic
from mcastctl.doctor.rules.packetfilter import Packet, describe, remedy, suspects, traced
from mcastctl.doctor.rules.verdict import INFERRED, error, moved, refused
from mcastctl.host.firewall import Rule as FilterRule
from mcastctl.model.records import Finding


def _packet(facts: Facts) -> Packet:
    question = facts.question
    source = next(iter(question.sources), "")
    return Packet(source, question.group, "udp", question.port, "")


def _lost(facts: Facts, reason: str) -> int:
    return sum(
        count for one, count in facts.drops.items() if one.reason == reason and not one.control
    )


def firewall(facts: Facts) -> Finding | None:
    """tx.firewall_output or tx.firewall_egress: the packet filter drops what is sent."""
    count = _lost(facts, "NETFILTER_DROP")
    if not count:
        return None
    said = f"kernel dropped {count} datagrams: NETFILTER_DROP"
    packet = _packet(facts)
    egress = suspects(facts, ("egress",), packet)
    output = suspects(facts, ("output", "postrouting"), packet)
    errors = facts.moved("Udp.SndbufErrors") + facts.moved("Udp6SndbufErrors")
    silent = bool(egress) and (not output or errors > 0)
    rule = traced(facts) or next(iter(egress if silent else output), None)
    return by_rule(facts, [said], rule, silent=silent)


def suspect(facts: Facts, *hooks: str) -> FilterRule | None:
    """Return the rule on the way out that most likely drops the datagrams in question."""
    return next(iter(suspects(facts, hooks or ("output", "postrouting"), _packet(facts))), None)


def by_rule(facts: Facts, evidence: list[str], rule: FilterRule | None, *, silent: bool) -> Finding:
    """Return tx.firewall_output, or tx.firewall_egress where the sender is told nothing."""
    question = facts.question
    if rule is not None:
        evidence = [*evidence, describe(facts, rule)]
    counters = ("Ip.OutDiscards", "Udp.SndbufErrors", "Ip6OutDiscards", "Udp6SndbufErrors")
    evidence += moved(facts, *counters)
    family = "ip6" if question.family == 6 else "ip"
    accept = f"{family} daddr {question.group} udp dport {question.port}"
    if silent:
        return error(
            "tx.firewall_egress",
            "a netdev egress rule drops the datagrams; sendto reports success",
            evidence,
            remedy(rule, accept),
            "host",
        )
    found = refused(errno.EPERM, facts, evidence)
    return found if rule is None else found._replace(hint=remedy(rule, accept))


def qdisc(facts: Facts) -> Finding | None:
    """tx.qdisc_drop: the queue of the interface has no room."""
    reasons = [one for one in facts.drops if one.reason.startswith(("QDISC", "SUBSYS"))]
    count = sum(facts.drops[one] for one in reasons if not one.control and one.ifindex == 0)
    if not count:
        return None
    found = refused(
        errno.ENOBUFS,
        facts,
        [
            f"kernel dropped {count} datagrams: {reasons[0].reason} @ {reasons[0].function}",
            "sendto reports success; ENOBUFS only where IP_RECVERR (IPV6_RECVERR) is set",
            *traffic.queue_losses(facts),
            *moved(facts, "Udp.SndbufErrors", "Ip.OutDiscards", "Ip6OutDiscards"),
        ],
    )
    return found._replace(title=found.title.partition(": sendto")[0])


def filtered(facts: Facts) -> Finding | None:
    """tx.qdisc_drop by a filter or program of traffic control on the way out."""
    count = _lost(facts, "TC_EGRESS")
    if not count:
        return None
    name = facts.name(facts.question.ifindex)
    return error(
        "tx.qdisc_drop",
        f"a traffic control program on the egress of {name} drops the datagrams",
        [f"kernel dropped {count} datagrams: TC_EGRESS", *traffic.culprits(facts, "egress")],
        traffic.remedy(facts, "egress"),
        "host",
    )


def cgroup(facts: Facts) -> Finding | None:
    """tx.cgroup_bpf: a program of the sender's control group refuses."""
    count = _lost(facts, "BPF_CGROUP_EGRESS")
    if not count:
        return None
    return error(
        "tx.cgroup_bpf",
        "a BPF program of the sender's control group refuses the datagrams: EPERM",
        [
            f"kernel dropped {count} datagrams: BPF_CGROUP_EGRESS",
            *traffic.programs_of(facts, "cgroup egress"),
        ],
        f"systemd: IPAddressAllow={facts.question.group} in the unit, or remove IPAddressDeny",
        "host",
    )


def ttl_zero(facts: Facts) -> Finding | None:
    """tx.ttl_zero: TTL 0, and this host is a member itself: the kernel keeps it."""
    count = sum(
        number
        for one, number in facts.drops.items()
        if one.function.startswith(("ip_mc_output", "ip6_finish_output", "ip6_output"))
        and one.reason == "NOT_SPECIFIED"
        and not one.control
    )
    senders = [one for one in facts.applications if one.options and one.options.ttl == 0]
    if not count or facts.outgoing():
        return None
    who = facts.holders(senders[0]) if senders else "the sender"
    return error(
        "tx.ttl_zero",
        f"{who} sends with TTL 0: the datagrams do not leave this host",
        [f"kernel dropped {count} datagrams at its output, without a reason of its own"],
        "IP_MULTICAST_TTL (IPV6_MULTICAST_HOPS) of 1 or more; IP_TTL is another option",
        "socket",
    )


def _others(facts: Facts, lost: int) -> bool:
    """Tell whether what was lost may be of other programs, as much as ours leaves.

    The counters are of the whole network namespace, and count what went well, too.
    """
    sent = facts.moved("Udp.OutDatagrams") + facts.moved("Udp6OutDatagrams")
    return bool(facts.outgoing()) or sent * 2 >= lost


def unseen_egress(facts: Facts) -> Finding | None:
    """Without the wire: the counters say that datagrams die at the interface's queue."""
    errors = facts.moved("Udp.SndbufErrors") + facts.moved("Udp6SndbufErrors")
    losses = traffic.queue_drops(facts)
    if not facts.why_no_drops or errors < 3:
        return None
    counters = moved(facts, "Udp.SndbufErrors", "Ip.OutDiscards", "Ip6OutDiscards")
    if losses:
        return refused(errno.ENOBUFS, facts, [*traffic.queue_losses(facts), *counters], INFERRED)
    if _others(facts, errors):
        return None
    return error(
        "tx.firewall_egress",
        "datagrams die at the egress of the interface, not in its queue; sendto reports success",
        counters,
        "as root: nft list ruleset (netdev tables), tc filter show dev IFACE egress",
        "host",
        INFERRED,
    )


def unseen_output(facts: Facts) -> Finding | None:
    """Without drop reasons: sends are refused before they reach an interface's queue."""
    refused = facts.moved("Ip.OutDiscards") + facts.moved("Ip6OutDiscards")
    if not facts.why_no_drops or refused < 3 or _others(facts, refused):
        return None
    rules = suspects(facts, ("output", "postrouting"), _packet(facts))
    return by_rule(facts, [], next(iter(rules), None), silent=False)._replace(certain=INFERRED)
