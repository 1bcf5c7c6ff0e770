"""Causes that the kernel itself names: a datagram of the group came in and was thrown away.

The reason decides first, the function second; the facts word the cause. Reasons as in
<net/dropreason-core.h>; the firewall's hook is told by its rules, else by the counters.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import delivery, membership, packetfilter, traffic
from mcastctl.doctor.rules.packetfilter import Packet
from mcastctl.doctor.rules.verdict import INFERRED, PROVED, error, moved
from mcastctl.host.firewall import Rule
from mcastctl.model.records import Finding
from mcastctl.model.shell import setting, word

_MEMBERSHIP = ("ip_rcv_finish", "ip6_mc_input", "ip_mc_validate", "ip_route_input", "ip6_input")
_STAGES = {"ingress": "host.firewall_ingress", "prerouting": "host.firewall_prerouting"}
_STAGES |= {"input": "host.firewall_input"}


_STREAM_PER_S = 3
_SHOWN, _COUNTED = 3, 0.8
"""Rules named where several may be it; the share of the drops that a rule's counter must show."""
_FREQUENT = 0.25
"""Drops as many as this share of the most frequent ones may be the answer."""
_WAY = (
    *("OTHERHOST", "TC_INGRESS", "IP_CSUM", "IP_INHDR", "IPV6DISABLED"),
    *("IP_INVALID_SOURCE", "IP_LOCALNET", "IP_LOCAL_SOURCE", "IP_RPFILTER", "NETFILTER_DROP"),
    *("FRAG_REASM_TIMEOUT", "IP_INADDRERRORS", "NOT_SPECIFIED", "XFRM_POLICY", "SOCKET_RCVBUFF"),
    *("SOCKET_FILTER", "UDP_CSUM"),
)
"""Reasons in the order of the path."""


def here(facts: Facts) -> Counter[tuple[str, str]]:
    """Return what was dropped of the group on its way in, by (reason, function).

    Without an interface it was this host's own sending, except in the queue of fragments.
    """
    found: Counter[tuple[str, str]] = Counter()
    local = facts.local_source()
    for one, count in facts.drops.items():
        placeless = one.ifindex == 0 and (local or one.reason.startswith("FRAG"))
        if not one.control and (placeless or one.ifindex == facts.question.ifindex):
            found[one.reason, one.function] += count
    return found


def dominant(facts: Facts) -> Finding | None:
    """Return the cause that the drops stand for, the first on the path of those that are many."""
    return next(findings(facts), None)


def findings(facts: Facts) -> Iterator[Finding]:
    """Yield the causes that the drops stand for: frequent ones along the path, then the rest."""
    counted = here(facts)
    many = max(counted.values(), default=0) * _FREQUENT

    def place(one: tuple[tuple[str, str], int]) -> tuple[int, int]:
        (reason, _), count = one
        if count < many:
            return len(_WAY) + 1, -count
        return _WAY.index(reason) if reason in _WAY else len(_WAY), -count

    for (reason, function), count in sorted(counted.items(), key=place):
        explain = _REASONS.get(reason)
        if explain is None and reason == "NOT_SPECIFIED":
            explain = _by_function(function)
        said = f"kernel dropped {count} datagrams: {reason} @ {function}"
        found = explain(facts, said) if explain else None
        if found is not None:
            yield found


def _by_function(function: str) -> "Callable[[Facts, str], Finding | None] | None":
    if "udp" in function:
        return _no_socket
    if function.startswith(_MEMBERSHIP):
        return _not_member
    return None


def _not_member(facts: Facts, said: str) -> Finding | None:
    found = membership.missing(facts) or membership.filtered(facts)
    return _with(found, said)


def _no_socket(facts: Facts, said: str) -> Finding | None:
    counters = moved(facts, "Udp.IgnoredMulti", "Udp6IgnoredMulti")
    return _with(delivery.unmatched(facts), said, *counters)


def _with(found: Finding | None, *evidence: str) -> Finding | None:
    if found is None:
        return None
    return found._replace(evidence=[*evidence, *found.evidence], certain=PROVED)


def _rp_filter(facts: Facts, said: str) -> Finding | None:
    link = facts.links.get(facts.question.ifindex)
    counters = moved(facts, "TcpExt.IPReversePathFilter")
    if link is not None and not link.has_address(4):
        return no_address(facts, said)
    return error("host.rp_filter", *rp_filter_words(facts, [said, *counters]), "host")


def no_address(facts: Facts, said: str) -> Finding:
    """host.no_ipv4_address: without an address no reverse path can fit."""
    name, settings = facts.name(facts.question.ifindex), facts.knobs.get(facts.question.ifindex)
    value = settings.rp_filter if settings else None
    counters = moved(facts, "TcpExt.IPReversePathFilter")
    return error(
        "host.no_ipv4_address",
        f"{name} has no IPv4 address, so the reverse path filter refuses everything",
        [said, f"link {name}: no IPv4 address", f"effective rp_filter = {value}", *counters],
        f"sysctl {setting(4, 'all', 'rp_filter', 0)} {setting(4, name, 'rp_filter', 0)} (the "
        f"larger one counts), or give {word(name)} an address",
        "host",
    )


def rp_filter_words(facts: Facts, evidence: list[str]) -> tuple[str, list[str], str]:
    """Return title, evidence and hint of a reverse path that leads elsewhere."""
    index = facts.question.ifindex
    name = facts.name(index)
    settings, reverse = facts.knobs.get(index), facts.reverse
    value = settings.rp_filter if settings else None
    source = reverse.source if reverse else "the sender"
    way = f"by {reverse.iface}" if reverse and reverse.iface else "nowhere: no route"
    kind = "loose" if value == 2 else "strict"
    evidence = [
        *evidence,
        f"effective rp_filter of {name} (the larger of all and {name}) = {value} ({kind})",
        f"the route back to {source} leads {way}",
    ]
    route = f"{source} dev {word(name)}"
    hint = f"ip route add {route} (undo: ip route del {route})"
    if reverse and not reverse.iface:  # loose mode asks for any route
        off = f"{setting(4, 'all', 'rp_filter', 0)} {setting(4, name, 'rp_filter', 0)}"
        hint += f", or: sysctl {off}"
    elif value != 2:
        hint += f", or: sysctl {setting(4, name, 'rp_filter', 2)}"
    title = f"reverse path filter: {source} arrives on {name}, the route back leads {way}"
    return title, evidence, hint


def _firewall(facts: Facts, said: str) -> Finding | None:
    hook, rule, certain = input_hook(facts)
    candidates = _suspects(facts, hook)
    if rule is not None:
        evidence = [said, packetfilter.describe(facts, rule)]
    elif candidates:
        listed = [packetfilter.describe(facts, one) for one in candidates[:_SHOWN]]
        evidence = [said, *(f"may be it: {one}" for one in listed)]
        rule = candidates[0]._replace(handle=None)
    elif facts.why_no_rules:
        evidence = [said, facts.why_no_rules]
    else:
        evidence = [said, "no rule of nft seems to be it: iptables-legacy, or another namespace's"]
    counters = ("Ip.InReceives", "IpExt.InMcastPkts", "Ip.InDelivers")
    if facts.question.family == 6:
        counters = ("Ip6InReceives", "Ip6InMcastPkts", "Ip6InDelivers")
    return error(
        _STAGES[hook],
        f"the packet filter drops the group in {hook.upper()}",
        [*evidence, *moved(facts, *counters)],
        accepting(facts, rule),
        "host",
        certain,
    )


def accepting(facts: Facts, rule: Rule | None) -> str:
    """Return how to let the datagrams in question pass a rule."""
    question = facts.question
    accept = f"{'ip6' if question.family == 6 else 'ip'} daddr {question.group}"
    return packetfilter.remedy(rule, f"{accept} udp dport {question.port}")


def suspect(facts: Facts, hook: str) -> Rule | None:
    """Return the rule of a hook that most likely drops the datagrams in question."""
    return next(iter(_suspects(facts, hook)), None)


def certain_suspect(facts: Facts, hook: str) -> Rule | None:
    """Return a rule of a hook that is about the datagrams in question without a doubt."""
    packet = _packet(facts)
    return next(
        (one for one in _suspects(facts, hook) if packetfilter.must_match(one, packet)), None
    )


def _suspects(facts: Facts, hook: str) -> list[Rule]:
    return packetfilter.suspects(facts, (hook,), _packet(facts))


def possible(facts: Facts, rule: Rule) -> bool:
    """Tell whether a rule may be about the datagrams in question."""
    return packetfilter.may_match(rule, _packet(facts))


def about(facts: Facts, rule: Rule) -> bool:
    """Tell whether a rule is about the datagrams in question without a doubt."""
    return packetfilter.must_match(rule, _packet(facts))


def _packet(facts: Facts) -> Packet:
    question = facts.question
    source = facts.reverse.source if facts.reverse else next(iter(question.sources), "")
    name = facts.name(question.ifindex)
    return Packet(source, question.group, "udp", question.port, name)


def input_hook(facts: Facts) -> tuple[str, Rule | None, str]:
    """Return the hook that drops on the way in, its rule, and how certain that is."""
    traced = packetfilter.traced(facts)
    if traced is not None:
        hook = next((one for one in _STAGES if one in traced.hooks), "") or _by_ladder(facts)
        return hook, traced, PROVED
    possible = {hook: rules for hook in _STAGES if (rules := _suspects(facts, hook))}
    sure = {hook: rule for hook, rules in possible.items() if (rule := _culprit(facts, rules))}
    if len(sure) == 1:
        return *next(iter(sure.items())), PROVED
    if len(possible) == 1 and not facts.why_no_rules:
        hook, rules = next(iter(possible.items()))
        return hook, rules[0] if len(rules) == 1 else None, INFERRED
    hook = _by_ladder(facts)
    if hook not in possible and possible:
        hook = next(iter(possible))
    return hook, sure.get(hook), INFERRED


def _culprit(facts: Facts, rules: list[Rule]) -> Rule | None:
    """Return the rule that is it without a doubt: it counted as many, or cannot but match."""
    lost = sum(count for (reason, _), count in here(facts).items() if reason == "NETFILTER_DROP")
    for one in rules:
        if lost and facts.moved_rules.get(one.key, 0) >= lost * _COUNTED:
            return one
    return next((one for one in rules if about(facts, one)), None)


def _by_ladder(facts: Facts) -> str:
    """Return the stage after the last counter that kept up with the wire."""
    wire = sum(facts.wire().values())
    six = facts.question.family == 6
    received = facts.moved("Ip6InReceives" if six else "Ip.InReceives")
    multicast = facts.moved("Ip6InMcastPkts" if six else "IpExt.InMcastPkts")
    if multicast >= wire * 0.8:
        return "input"
    return "prerouting" if received >= wire * 0.8 else "ingress"


def traffic_control(facts: Facts, said: str) -> Finding:
    """host.tc_drop: a program on the interface's ingress."""
    name = facts.name(facts.question.ifindex)
    return error(
        "host.tc_drop",
        f"a traffic control program on the ingress of {name} drops the group",
        [said, f"dev.{name}: the capture saw them before", *traffic.culprits(facts, "ingress")],
        traffic.remedy(facts, "ingress"),
        "host",
    )


def control_taken(facts: Facts) -> Finding | None:
    """host.tc_drop where it takes the queries, too: the switch forgot this host, nothing comes."""
    count = sum(
        number
        for one, number in facts.drops.items()
        if one.control and one.ifindex == facts.question.ifindex and one.reason == "TC_INGRESS"
    )
    if not count:
        return None
    return traffic_control(facts, f"kernel dropped {count} IGMP or MLD messages: TC_INGRESS")


def udp_checksum(facts: Facts, said: str) -> Finding:
    """host.udp_checksum: the payload was damaged, or never summed."""
    counters = moved(facts, "Udp.InCsumErrors", "Udp6InCsumErrors")
    return error(
        "host.udp_checksum",
        "the datagrams arrive with wrong UDP checksums",
        [said, *counters],
        "a broken offload or tunnel at the sender: there, 'ethtool -K IF tx off' (undo: tx on)",
        "sender",
    )


def ip_checksum(facts: Facts, said: str) -> Finding:
    """host.ip_checksum: the header was damaged on its way."""
    return error(
        "host.ip_checksum",
        "the packets arrive with wrong IP header checksums",
        [said, *moved(facts, "IpExt.InCsumErrors", "Ip.InHdrErrors")],
        "a broken offload or tunnel at the sender: there, 'ethtool -K IF tx off' (undo: tx on)",
        "sender",
    )


def martian(facts: Facts, said: str) -> Finding:
    """host.martian_source: a source that no host may have."""
    flows = facts.group_flows("in") or {one: 1 for one in facts.flows if one.direction == "in"}
    seen = sorted({one.src for one in flows if one.dst == facts.question.group})
    sources = seen or list(facts.question.sources)
    return error(
        "host.martian_source",
        f"no host may send from {', '.join(sources) or 'that address'}: the kernel refuses it",
        [said, f"source on the wire: {', '.join(sources)}"],
        "give the sender's interface a proper address, or make it bind one",
        "sender",
    )


def own_source(facts: Facts, said: str) -> Finding:
    """host.source_is_local: somebody else uses our address."""
    sources = sorted({one.src for one in facts.group_flows("in")}) or list(facts.question.sources)
    return error(
        "host.source_is_local",
        f"the datagrams carry this host's own address {', '.join(sources)} as source",
        [said, "the same address is configured here"],
        "two hosts have one address: change one (accept_local=1 is only for deliberate loops)",
        "network",
    )


def other_host(facts: Facts, said: str) -> Finding:
    """host.wrong_dst_mac: the frames are addressed to another host."""
    return error(
        "host.wrong_dst_mac",
        "the frames carry a link-layer address that is neither the group's nor ours",
        [said, *moved(facts, f"dev.{facts.name(facts.question.ifindex)}.rx_packets")],
        "a static neighbour entry or multicast-to-unicast conversion on the way: look for it at "
        "the sender, switch or access point",
        "network",
    )


def foreign_frames(facts: Facts) -> Finding | None:
    """host.wrong_dst_mac: seen by the capture, addressed to somebody else."""
    name = facts.name(facts.question.ifindex)
    flows = [one for one in facts.group_flows("in") if one.iface == name]
    if not flows or not all(one.cast for one in flows):
        return None
    return other_host(facts, "capture: every frame of the group is for another host")


def foreign_counted(facts: Facts) -> Finding | None:
    """The same unseen: an idle host gets a stream of frames, and most are for another one."""
    name = facts.name(facts.question.ifindex)
    foreign = facts.moved(f"dev.{name}.rx_otherhost_dropped")
    link = facts.links.get(facts.question.ifindex)
    meant = link is not None and "promiscuous" in link.flags
    if meant or facts.delivered() or foreign < _STREAM_PER_S * max(facts.watched_s, 1):
        return None
    if foreign < facts.moved(f"dev.{name}.rx_packets") * _COUNTED:
        return None
    said = moved(facts, f"dev.{name}.rx_otherhost_dropped")[0]
    return other_host(facts, said)._replace(certain=INFERRED)


def _buffer(facts: Facts, said: str) -> Finding | None:
    return delivery.overflow(facts, [said])


def _filter(facts: Facts, said: str) -> Finding | None:
    return delivery.refused(facts, [said])


def ipsec(facts: Facts, said: str) -> Finding:
    """host.xfrm_policy: a policy wants what is not encrypted."""
    return error(
        "host.xfrm_policy",
        "an IPsec policy refuses the group",
        [said, *moved(facts, *(name for name in facts.after if name.startswith("XfrmIn")))],
        f"ip xfrm policy update dir in dst {facts.question.group} action allow (undo: delete dir "
        "in dst ...); a wider policy ('ip xfrm policy list dir in') needs a larger priority number",
        "host",
    )


def _fragment(facts: Facts, said: str) -> Finding | None:
    return delivery.fragments(facts)


def _ipv6_off(facts: Facts, said: str) -> Finding | None:
    name = facts.name(facts.question.ifindex)
    return error(
        "host.ipv6_disabled",
        f"IPv6 is disabled on {name}",
        [said],
        f"sysctl {setting(6, name, 'disable_ipv6', 0)}, then add its addresses again",
        "host",
    )


def _filtered(facts: Facts, said: str) -> Finding | None:
    return _with(membership.filtered(facts), said)


def _header(facts: Facts, said: str) -> Finding | None:
    return martian(facts, said) if facts.question.family == 6 else None


_REASONS: dict[str, Callable[[Facts, str], Finding | None]] = {
    "OTHERHOST": other_host,
    "TC_INGRESS": traffic_control,
    "NETFILTER_DROP": _firewall,
    "IP_CSUM": ip_checksum,
    "IP_INHDR": _header,
    "IP_RPFILTER": _rp_filter,
    "IP_INVALID_SOURCE": martian,
    "IP_LOCALNET": martian,
    "IP_LOCAL_SOURCE": own_source,
    "IP_INADDRERRORS": _filtered,
    "IPV6DISABLED": _ipv6_off,
    "FRAG_REASM_TIMEOUT": _fragment,
    "UDP_CSUM": udp_checksum,
    "SOCKET_RCVBUFF": _buffer,
    "SOCKET_FILTER": _filter,
    "XFRM_POLICY": ipsec,
}
