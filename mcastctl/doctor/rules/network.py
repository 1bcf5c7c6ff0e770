"""Nothing of the group came in: what of that lies in this host's reports, else in the network."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import delivery
from mcastctl.doctor.rules.packetfilter import Packet, describe, must_match, remedy, suspects
from mcastctl.doctor.rules.verdict import INFERRED, PROVED, error, warning
from mcastctl.host.firewall import Rule
from mcastctl.model.address import INTERFACE_LOCAL, LINK_LOCAL, scope6
from mcastctl.model.records import Finding
from mcastctl.model.shell import word

_REPORTS = {4: "224.0.0.22", 6: "ff02::16"}
_WAY_OUT = ("output", "postrouting", "egress")
_WORDS = {4: ("igmp",), 6: ("icmpv6", "ipv6-icmp")}
_TYPES: dict[str, tuple[str, ...]] = {
    "224.0.0.22": ("membership-report-v3", "34"),
    "224.0.0.1": ("membership-query", "17"),
    "ff02::16": ("mld2-listener-report", "143"),
    "ff02::1": ("mld-listener-query", "130"),
}
"""As nft names them, by the group they go to."""
_QUERIES = {4: "224.0.0.1", 6: "ff02::1"}
_UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104 - of queriers without an address: switches
_NAMES = {4: ("igmp", "igmp"), 6: ("mld", "ipv6-icmp")}


def link_local(facts: Facts) -> Finding | None:
    """group.link_local_scope: the group never leaves a link, the sender is on another."""
    question = facts.question
    if not is_link_local(question.group):
        return None
    far = [one for one in question.sources if not facts.on_link(one, question.ifindex or None)]
    if not far and question.role == "receiver":
        return None
    if question.role == "sender" and not _routed_away(facts):
        return None
    routed = question.role == "router" and len(facts.links) > 2
    if question.role == "router" and not routed:
        return None
    off = f"{', '.join(far)} is not on this link" if far else "nobody on this link reports it"
    asked = question.role == "sender"
    scope = "224.0.0.0/24 (RFC 5771)" if question.family == 4 else "scope 2 (RFC 4291)"
    return error(
        "group.link_local_scope",
        f"{question.group} stays on its link: no router ever forwards it",
        [f"{question.group} lies in {scope}", off],
        f"use a group of wider scope: {'ff15::/16' if question.family == 6 else '239.0.0.0/8'}",
        "network",
        INFERRED if asked else PROVED,
    )


def stays(facts: Facts) -> Finding:
    """Return, for a sender, that a group is heard on its own link only."""
    return warning(
        "group.link_local_scope",
        f"{facts.question.group} is heard on this link only: no router ever forwards it",
        ["224.0.0.0/24 (RFC 5771), ff02::/16 (RFC 4291)"],
        "for listeners elsewhere, a group of wider scope: 239.0.0.0/8, ff15::/16",
        "network",
    )


def _routed_away(facts: Facts) -> bool:
    """Tell whether a sender's listeners must be elsewhere: asked, nobody here reports the group.

    Without a router's query members have no cause to, and without a capture none is seen.
    """
    group = facts.question.group
    if not any(one.kind == "query" and one.src not in _UNSPECIFIED for one in facts.control):
        return False
    reported = any(
        one.group == group and one.kind == "report" and one.direction == "in"
        for one in facts.control
    )
    return not reported and not facts.members()


def is_link_local(group: str) -> bool:
    """Tell whether no router forwards a group."""
    return group.startswith("224.0.0.") or scope6(group) == LINK_LOCAL


def interface_local(facts: Facts) -> Finding | None:
    """group.interface_local_scope: such a group never leaves the host that sends it."""
    if scope6(facts.question.group) != INTERFACE_LOCAL:
        return None
    if facts.question.role == "receiver" and facts.local_source():
        return None
    return error(
        "group.interface_local_scope",
        f"{facts.question.group} never leaves the sending host",
        ["scope 1, interface-local (RFC 4291 section 2.7)"],
        "use a group of wider scope: ff12::/16 on the link, ff15::/16 beyond",
        "network",
    )


def reports_dropped(facts: Facts) -> Finding | None:
    """host.firewall_igmp_out, host.firewall_mld_out: reports do not leave this host."""
    version = facts.question.family
    name, _ = _NAMES[version]
    dropped = sum(
        count
        for one, count in facts.drops.items()
        if one.control and one.ifindex == 0 and one.reason == "NETFILTER_DROP"
    )
    tried = facts.probe.reports if facts.probe else None
    dropped += (tried.dropped or 0) if tried else 0
    rule = _rule(facts, _WAY_OUT, _REPORTS[version])
    unsent = tried is not None and tried.left == 0
    if not dropped and not unsent:
        rule = rule if rule is not None and _takes(facts, rule, _REPORTS[version]) else None
    if not dropped and (rule is None or _left(facts)):
        return None
    evidence = [f"kernel dropped {dropped} reports: NETFILTER_DROP"] if dropped else []
    if rule is not None:
        evidence.append(describe(facts, rule))
    accept = "ip protocol igmp" if version == 4 else "icmpv6 type { 131, 132, 143 }"
    return error(
        f"host.firewall_{name}_out",
        f"the packet filter keeps {name.upper()} reports in: switch and router never learn of "
        "the membership",
        [*evidence, f"no {name.upper()} report for {facts.question.group} left"],
        remedy(rule, accept),
        "host",
        PROVED if dropped or (rule is not None and tried and tried.left == 0) else INFERRED,
    )


def _left(facts: Facts) -> bool:
    """Tell whether a report was seen leaving, or that of a throw-away join."""
    if facts.probe is not None and facts.probe.reports is not None and facts.probe.reports.left:
        return True
    return any(
        one.direction == "out" and one.kind == "report" and one.group == facts.question.group
        for one in facts.control
    )


def queries_dropped(facts: Facts) -> Finding | None:
    """host.firewall_igmp_in, host.firewall_mld_in: queries come and are not answered."""
    version = facts.question.family
    name, _ = _NAMES[version]
    asked = sum(count for one, count in facts.control.items() if is_query(facts, one))
    dropped = sum(
        count
        for one, count in facts.drops.items()
        if one.control and one.ifindex == facts.question.ifindex and one.reason == "NETFILTER_DROP"
    )
    injected = (facts.probe.queries or 0) if facts.probe else 0
    seen = dropped > 0
    dropped += injected
    rule = _rule(facts, ("ingress", "prerouting", "input"), _QUERIES[version])
    if not dropped or (not asked and not injected and rule is None):
        return None
    evidence = [
        *([f"{injected} queries put in by --probe were dropped"] if injected else []),
        f"capture: {asked} {name.upper()} queries came in",
        f"kernel dropped {dropped} {name.upper()} messages: NETFILTER_DROP",
    ]
    if rule is not None:
        evidence.append(describe(facts, rule))
    accept = "ip protocol igmp" if version == 4 else "icmpv6 type 130"
    return error(
        f"host.firewall_{name}_in",
        f"the packet filter drops {name.upper()} queries: the membership ages out unanswered",
        evidence,
        remedy(rule, accept),
        "host",
        PROVED if seen or _whoever(facts, rule) else INFERRED,
    )


def queries_refused(facts: Facts) -> Finding | None:
    """The same before any query came: a rule that is about them without a doubt."""
    version = facts.question.family
    name, protocol = _NAMES[version]
    packet = Packet("", _QUERIES[version], protocol, 0, facts.name(facts.question.ifindex))
    rule = _rule(facts, ("ingress", "prerouting", "input"), _QUERIES[version])
    if rule is None or not (must_match(rule, packet) or "mld-listener-query" in rule.text):
        return None
    return error(
        f"host.firewall_{name}_in",
        f"the packet filter would drop {name.upper()} queries: a switch forgets this host then",
        [describe(facts, rule)],
        remedy(rule, "ip protocol igmp" if version == 4 else "icmpv6 type 130"),
        "host",
        INFERRED,
    )


def _whoever(facts: Facts, rule: Rule | None) -> bool:
    """Tell whether a rule drops queries of any querier: those put in are nobody's."""
    version = facts.question.family
    return rule is not None and must_match(rule, _control(facts, _QUERIES[version]))


def is_query(facts: Facts, one: object) -> bool:
    name = facts.name(facts.question.ifindex)
    six = facts.question.family == 6
    return (
        getattr(one, "kind", "") == "query"
        and getattr(one, "iface", "") == name
        and (":" in getattr(one, "src", "")) == six
    )


def _control(facts: Facts, dst: str) -> Packet:
    protocol = _NAMES[facts.question.family][1]
    return Packet("", dst, protocol, 0, facts.name(facts.question.ifindex))


def _rule(facts: Facts, hooks: tuple[str, ...], dst: str) -> Rule | None:
    """Return a rule that names the protocol of reports, and drops it."""
    for one in suspects(facts, hooks, _control(facts, dst)):
        named = any(word in one.text for word in _WORDS[facts.question.family])
        other = _type(one) is not None and not _type_takes(one, dst)
        if (named or dst in one.text or one.verdict == "policy") and not other:
            return one
    return None


def _type(rule: Rule) -> Mapping[str, Any] | None:
    """Return the expression of a rule that looks at the type of ICMP or IGMP messages."""
    for each in rule.matches:
        match = each.get("match")
        left = match.get("left") if isinstance(match, dict) else None
        looked = left.get("payload") if isinstance(left, dict) else None
        if isinstance(looked, dict) and looked.get("field") == "type":
            return match
    return None


def _type_takes(rule: Rule, dst: str) -> bool:
    """Tell whether the type that a rule names is that of the messages sent to `dst`."""
    match = _type(rule)
    if match is None or match.get("op") == "!=":
        return False
    right = match.get("right")
    listed = right.get("set", []) if isinstance(right, dict) else [right]
    return any(str(one) in _TYPES[dst] for one in listed)


def _takes(facts: Facts, rule: Rule, dst: str) -> bool:
    """Tell whether a rule drops these messages without a doubt, and no earlier one lets them by."""
    return must_match(rule, _control(facts, dst)) or (
        len(rule.matches) == 1 and _type_takes(rule, dst)
    )


def other_port(facts: Facts) -> Finding | None:
    """rx.bound_wrong_port: the group arrives, at another port."""
    question = facts.question
    ports = {
        one.dport: count
        for one, count in facts.group_flows("in").items()
        if one.dport is not None and one.dport != question.port
    }
    # What a program here hears is a stream of its own, as RTCP beside RTP (RFC 3550 section 11).
    ports = {port: count for port, count in ports.items() if not _heard(facts, port)}
    if not ports:
        return None
    listed = ", ".join(f"{port} ({count} datagrams)" for port, count in ports.items())
    return error(
        "rx.bound_wrong_port",
        f"the sender uses port {next(iter(ports))}, the receiver {question.port}",
        [f"capture: {question.group} arrives at port {listed}, nothing at {question.port}"],
        f"send to port {question.port}, or bind to {next(iter(ports))}",
        "socket",
        INFERRED,
    )


def _heard(facts: Facts, port: int) -> bool:
    """Tell whether a socket here takes the group at another port, beside one at ours."""
    here = {one.bound.port for one in facts.ours()}
    if facts.question.port not in here:
        return False
    asked = facts._replace(question=facts.question._replace(port=port))
    return bool(delivery.hearing(asked))


def other_group(facts: Facts) -> Finding | None:
    """tx.wrong_group: the port is right, the group another one that nobody here joined."""
    question = facts.question
    name = facts.name(question.ifindex)
    groups = {
        one.dst: count
        for one, count in facts.flows.items()
        if one.direction == "in"
        and one.iface == name
        and one.dport == question.port
        and one.dst != question.group
        and facts.wanted_source(one.src)
        and not facts.members(one.dst)
    }
    if not groups:
        return None
    group = max(groups, key=lambda each: groups[each])
    return error(
        "tx.wrong_group",
        f"the sender uses {group}, this host waits for {question.group}",
        [f"capture: {groups[group]} datagrams to {group}:{question.port}, none to the other"],
        "compare group and port at both ends",
        "sender",
        INFERRED,
    )


def other_source(facts: Facts) -> Finding | None:
    """rx.source_filter: the group arrives, from sources that the join does not name."""
    question = facts.question
    member = facts.member_on(question.ifindex)
    name = facts.name(question.ifindex)
    strange: Counter[str] = Counter()
    for one, count in facts.flows.items():
        where = (one.direction, one.iface, one.dst, one.dport)
        if where == ("in", name, question.group, question.port) and question.sources:
            strange[one.src] += count
    if member is None or member.mode != "include" or set(strange) & set(member.sources):
        return None
    if not strange:
        return None
    seen = ", ".join(f"{src} ({count} datagrams)" for src, count in strange.items())
    asked = ", ".join(member.sources)
    return error(
        "rx.source_filter",
        f"{question.group} arrives from {', '.join(strange)}, the join names {asked}",
        [f"capture: {question.group} on {name} comes from {seen}"],
        f"join {next(iter(strange))}@{question.group}, or mend the sender's address: a second one, "
        "or source NAT (--role sender there)",
        "socket",
        INFERRED,
    )


def remarks(facts: Facts) -> list[Finding]:
    """Return what else may keep a silent interface silent, each a warning."""
    details = facts.details.get(facts.question.ifindex)
    name = facts.name(facts.question.ifindex)
    found = []
    if details is not None and details.mode == "bridge":
        found.append(
            warning(
                "net.macvlan_parent",
                f"{name} is a macvlan: it never hears the host it sits on",
                [f"link {name}: macvlan mode bridge over index {details.below}"],
                "if the sender is that host, give it a macvlan of its own to send from",
                "network",
            )
        )
    policy = _rule(facts, _WAY_OUT, _REPORTS[facts.question.family])
    if policy is not None and policy.verdict == "policy" and not _left(facts):
        protocol = _NAMES[facts.question.family][0]
        found.append(
            warning(
                f"host.firewall_{protocol}_out",
                f"what leaves is dropped unless a rule accepts it: are {protocol.upper()} reports?",
                [describe(facts, policy)],
                "--probe tells whether a report leaves; see 'nft list ruleset'",
                "host",
            )
        )
    if details is not None and details.xdp:
        found.append(
            warning(
                "host.xdp_drop",
                f"an XDP program on {name} sees every frame before anything else does",
                [f"link {name}: an XDP program is attached (IFLA_XDP)"],
                f"does it pass the group? 'bpftool net show dev {word(name)}' tells whose it is",
                "host",
            )
        )
    asked = any(is_query(facts, one) for one in facts.control)
    if not asked and not facts.why_no_wire:
        found.append(
            warning(
                "net.no_querier",
                f"no querier was heard on {name}: a snooping switch forgets members in minutes",
                [f"capture: no general query in {facts.watched_s:.1f} s (one is due every 125 s)"],
                "listen longer (-T 130s); if a new join revives it, the switch has no querier",
                "network",
            )
        )
    return found
