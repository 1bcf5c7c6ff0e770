"""The receiving host without the right to capture: counters, route questions and settings.

The first rung of the counter ladder that does not move is the place; IPv4's own input decision
is asked of the routing code. What root would add is said at the end.
"""

from ipaddress import ip_address

from mcastctl.doctor.facts import Answers, Facts
from mcastctl.doctor.rules import (
    delivery,
    dropped,
    link,
    membership,
    network,
    packetfilter,
    probed,
    sender,
    series,
    silence,
    traffic,
    unread,
)
from mcastctl.doctor.rules.counted import (
    ENOUGH,
    arrives,
    idle,
    lost_early,
    mostly,
    served,
    steady,
    uncounted,
    undelivered,
)
from mcastctl.doctor.rules.verdict import (
    INFERRED,
    PROVED,
    Rule,
    error,
    info,
    moved,
    what_root_adds,
)
from mcastctl.model.records import Finding
from mcastctl.model.shell import setting, word

_OR_FOREIGN = "or they are of groups that nobody here has joined"


def diagnose(facts: Facts) -> list[Finding]:
    """Return the cause as far as anybody may know it, and what root would add."""
    claims = (rule(facts) for rule in _RULES)
    found = next((one for one in claims if one and not probed.contradicted(facts, one)), None)
    if found is not None:
        known = [found, *series.behind(facts, found)]
        return known if found.certain == PROVED else [*known, what_root_adds(facts)]
    return [_nothing_found(facts), what_root_adds(facts)]


def _nothing_found(facts: Facts) -> Finding:
    name = facts.name(facts.question.ifindex)
    evidence = [f"{facts.question.group} is joined on {name}"]
    if not facts.why_no_wire:
        evidence.append(f"capture: {facts.wire().get(name, 0)} datagrams on {name}")
    return info(
        "ok",
        "nothing on this host speaks against delivery, as far as it can be seen",
        [*evidence, f"UDP delivered {facts.delivered()} datagrams to programs"],
    )


def _accepts(facts: Facts) -> bool | None:
    answers = facts.answers.get(facts.question.ifindex)
    return answers.wanted if answers else None


def _source_validation(facts: Facts) -> Finding | None:
    """host.rp_filter and its kin: the routing code would refuse this source here."""
    answers = facts.answers.get(facts.question.ifindex)
    source = facts.reverse.source if facts.reverse else None
    if answers is None or source is None:
        return None
    if answers.wanted is not False or answers.unicast is not False:
        return None
    name = facts.name(facts.question.ifindex)
    said = f"route get from {source} iif {name}: refused, to the group and to this host itself"
    value = ip_address(source)
    if facts.local_source():  # of a sender on this very host: looped back, not received
        own = dropped.own_source(facts, said)
        return own._replace(certain=PROVED) if lost_early(facts) else None
    if value.is_loopback or value.is_multicast or value.packed[0] in (0, 255):
        return dropped.martian(facts, said)._replace(certain=INFERRED)
    counters = moved(facts, "TcpExt.IPReversePathFilter")
    if not counters and lost_early(facts):
        return None  # they do not even come to routing: PREROUTING is the answer
    return error("host.rp_filter", *dropped.rp_filter_words(facts, [said, *counters]), "host")


def _reverse_path(facts: Facts) -> Finding | None:
    """host.rp_filter where no source was named: the kernel counts what it refuses."""
    settings = facts.knobs.get(facts.question.ifindex)
    refused = facts.moved("TcpExt.IPReversePathFilter")
    if facts.reverse is not None or facts.question.family == 6 or refused < ENOUGH:
        return None
    if settings is None or not settings.rp_filter or not idle(facts):
        return None
    name = facts.name(facts.question.ifindex)
    return error(
        "host.rp_filter",
        f"reverse path filter: what comes in by {name} is not routed back by it",
        [
            *moved(facts, "TcpExt.IPReversePathFilter"),
            f"effective rp_filter of {name} (the larger of all and {name}) = {settings.rp_filter}",
        ],
        f"ip route add SRC dev {word(name)}, or: "
        f"sysctl {setting(4, name, 'rp_filter', 2)} (undo: =1)",
        "host",
        INFERRED,
    )


def _without_address(facts: Facts) -> Finding | None:
    settings = facts.knobs.get(facts.question.ifindex)
    link_ = facts.links.get(facts.question.ifindex)
    if facts.question.family == 6 or link_ is None or link_.has_address(4):
        return None
    if settings is None or not settings.rp_filter:
        return None
    said = "without an address no reverse path can fit"
    return dropped.no_address(facts, said)._replace(certain=INFERRED)


def _fragments(facts: Facts) -> Finding | None:
    if served(facts):
        return None
    found = delivery.fragments(facts)
    return found._replace(certain=INFERRED) if found and facts.why_no_wire else found


def _ip_checksum(facts: Facts) -> Finding | None:
    if facts.moved("IpExt.InCsumErrors") < ENOUGH or served(facts):
        return None
    found = dropped.ip_checksum(facts, "counters: the IP layer refuses headers")
    return found._replace(certain=INFERRED)


def _udp_checksum(facts: Facts) -> Finding | None:
    six = facts.question.family == 6
    if facts.moved("Udp6InCsumErrors" if six else "Udp.InCsumErrors") < ENOUGH or served(facts):
        return None
    found = dropped.udp_checksum(facts, "counters: UDP refuses checksums")
    return found._replace(certain=INFERRED)


def _ipsec(facts: Facts) -> Finding | None:
    refusing = ("XfrmInPolBlock", "XfrmInNoPols", "XfrmInTmplMismatch", "XfrmInNoStates")
    if sum(map(facts.moved, refusing)) < ENOUGH or served(facts):
        return None
    found = dropped.ipsec(facts, "counters: a policy refuses")
    return found._replace(certain=INFERRED)


def _overflow(facts: Facts) -> Finding | None:
    six = facts.question.family == 6
    if not facts.moved("Udp6RcvbufErrors" if six else "Udp.RcvbufErrors"):
        return None
    return delivery.overflow(facts, [])


def _refused(facts: Facts) -> Finding | None:
    """Errors of UDP that are neither buffer nor checksum: a filter program, or IPsec."""
    head = "Udp6" if facts.question.family == 6 else "Udp."
    explained = facts.moved(f"{head}RcvbufErrors") + facts.moved(f"{head}InCsumErrors")
    if facts.moved(f"{head}InErrors") - explained < ENOUGH:
        return None
    if not any(map(facts.losing, delivery.hearing(facts))):
        return None  # some other socket's
    return delivery.refused(facts, moved(facts, f"{head}InErrors"))


def _unmatched(facts: Facts) -> Finding | None:
    six = facts.question.family == 6
    head = "Udp6" if six else "Udp."
    if facts.moved(f"{head}IgnoredMulti") < ENOUGH:
        lost = undelivered(facts)
        if lost_early(facts) or steady(facts, lost) if six else lost >= 2 * ENOUGH:
            return None  # they do not even come to UDP: the packet filter is the answer
        deaf = delivery.deaf(facts) or delivery.not_on_port(facts)
        return delivery.unmatched(facts) if deaf else None
    found = delivery.unmatched(facts)
    if found is not None:
        found.evidence.extend(moved(facts, f"{head}IgnoredMulti"))
    return found


def _by_another(facts: Facts) -> Finding | None:
    """rx.joined_wrong_iface without the wire: only another interface brings in anything."""
    index, lost = facts.question.ifindex, uncounted(facts)
    if facts.question.family == 6:  # not joined is told after the count there
        lost += max(undelivered(facts), 0)
    if lost < 2 * ENOUGH or not idle(facts):
        return None
    own = facts.moved(f"dev.{facts.name(index)}.rx_packets")
    others = {
        one.name: facts.moved(f"dev.{one.name}.rx_packets")
        for one in facts.links.values()
        if one.ifindex != index and "loopback" not in one.flags and not facts.member_on(one.ifindex)
    }
    way = max(others, key=lambda name: others[name], default="")
    if not way or others[way] < lost * 0.8 or own > lost * 0.2:
        return None
    name, group = facts.name(index), facts.question.group
    return error(
        "rx.joined_wrong_iface",
        f"{group} is joined on {name}, but packets for groups come in by {way}",
        [
            *moved(facts, f"dev.{way}.rx_packets", f"dev.{name}.rx_packets"),
            f"IP took {lost} of them for nobody: their group is not joined on {way}",
        ],
        f"join it on {word(way)}: name that interface (-i {word(way)}, imr_ifindex)",
        "socket",
        INFERRED,
    )


def _other_port(facts: Facts) -> Finding | None:
    """rx.bound_wrong_port without the wire: UDP gets datagrams of joined groups for no socket."""
    head = "Udp6" if facts.question.family == 6 else "Udp."
    ignored = facts.moved(f"{head}IgnoredMulti")
    if ignored < ENOUGH or not idle(facts) or not delivery.hearing(facts):
        return None
    question = facts.question
    member, source = facts.member_on(question.ifindex), next(iter(question.sources), None)
    included = {one.source for one in member.filter if one.including} if member else set()
    if member is not None and source and included and source not in included:
        listed = ", ".join(sorted(included))
        return error(
            "rx.source_filter",
            f"a socket takes {question.group} from {listed} only: {source} is kept out",
            [
                f"/proc/net/mcfilter: {member.iface} has sources included: {listed}",
                *moved(facts, f"{head}IgnoredMulti", f"{head}InDatagrams"),
            ],
            f"join {source}@{question.group}",
            "socket",
            INFERRED,
        )
    return error(
        "rx.bound_wrong_port",
        f"datagrams of joined groups arrive, but none for port {question.port}",
        moved(facts, f"{head}IgnoredMulti", f"{head}InDatagrams"),
        f"which port does the sender use? mcastctl sniff -i {word(facts.name(question.ifindex))}",
        "socket",
        INFERRED,
    )


def _firewall(facts: Facts, hook: str, evidence: list[str], certain: str) -> Finding:
    rule = dropped.suspect(facts, hook)
    if rule is not None:
        evidence = [*evidence, packetfilter.describe(facts, rule)]
    return error(
        f"host.firewall_{hook}",
        f"the packet filter drops multicast in {hook.upper()}",
        evidence,
        dropped.accepting(facts, rule)
        if rule
        else "as root, 'nft list ruleset' and doctor name the rule",
        "host",
        certain,
    )


def _input(facts: Facts) -> Finding | None:
    """host.firewall_input: counted as multicast, not delivered to UDP."""
    six = facts.question.family == 6
    head = "Ip6" if six else "Ip."
    if undelivered(facts) < 2 * ENOUGH or served(facts):
        return None
    counters = moved(facts, "IpExt.InMcastPkts", "Ip6InMcastPkts", f"{head}InDelivers")
    if six and facts.arrived_here() < ENOUGH:
        # IPv6 counts as multicast also what nobody here has joined.
        if not facts.why_no_wire or not steady(facts, undelivered(facts)):
            return None
        counters.append(_OR_FOREIGN)
    return _firewall(facts, "input", counters, INFERRED)


def _kept_out(facts: Facts) -> Finding | None:
    """rx.source_filter: packets come in and vanish where a source filter is applied.

    IPv4 asks it before it counts them as multicast, IPv6 discards what it keeps out.
    """
    member = facts.member_on(facts.question.ifindex)
    lost = facts.moved("Ip6InDiscards") if facts.question.family == 6 else uncounted(facts)
    if member is None or not (member.mode == "include" or member.sources):
        return None
    if not idle(facts) or lost < 2 * ENOUGH or not mostly(facts, lost):
        return None
    group, listed = facts.question.group, ", ".join(member.sources)
    only = (
        f"from {listed or 'no source'} only" if member.mode == "include" else f"not from {listed}"
    )
    names = ("Ip6InMcastPkts", "Ip6InDiscards", "Ip.InReceives", "IpExt.InMcastPkts")
    return error(
        "rx.source_filter",
        f"packets come in by {member.iface} and none is taken: {group} is joined {only}",
        [
            f"/proc/net/mcfilter: {member.iface} {member.mode}s {listed}",
            *moved(facts, *names),
            "or they are of other groups, or a packet filter drops them",
        ],
        f"which source sends? mcastctl sniff -i {word(member.iface)}; join it: SRC@{group}",
        "socket",
        INFERRED,
    )


def _prerouting(facts: Facts) -> Finding | None:
    """host.firewall_prerouting: received, accepted by the routing code, yet not counted."""
    six = facts.question.family == 6
    refused = facts.answers.get(facts.question.ifindex, Answers()).unicast is False
    if not lost_early(facts) or (not six and not refused and not _accepts(facts)):
        return None
    counters = ("Ip.InReceives", "IpExt.InMcastPkts", "Ip6InReceives", "Ip6InMcastPkts")
    said = [*moved(facts, *counters), _OR_FOREIGN]
    return _firewall(facts, "prerouting", said, INFERRED)


def _early(facts: Facts) -> Finding | None:
    """host.firewall_ingress: frames come in, IP counts nothing."""
    name = facts.name(facts.question.ifindex)
    unknown = facts.moved(f"dev.{name}.rx_dropped")  # frames of protocols that nobody handles
    if link.vanished(facts, name) - unknown < 4 * ENOUGH or not idle(facts):
        return None
    known = traffic.suspects(facts, "ingress")
    if known or (dropped.suspect(facts, "ingress") is None and not facts.why_no_rules):
        return dropped.traffic_control(facts, "counters: frames come in, IP counts none")._replace(
            certain=INFERRED
        )
    counters = moved(facts, f"dev.{name}.rx_packets", "Ip.InReceives", "Ip6InReceives")
    return _firewall(facts, "ingress", counters, INFERRED)


def _port_taken(facts: Facts) -> Finding | None:
    """rx.port_in_use: by a holder whose options cannot be read, only while nobody is served."""
    unknown = all(one.options is None for one in membership.on_port(facts))
    found = membership.port_in_use(facts)
    well = facts.hidden_uid is None and served(facts)  # hidden, others may be the served ones
    if found is None and unknown and not well:
        return membership.port_shared(facts)
    return found


def _silent(facts: Facts) -> Finding | None:
    """net.not_on_wire: nothing has reached UDP at all."""
    head = "Udp6" if facts.question.family == 6 else "Udp."
    counters = ("InDatagrams", "InErrors", "IgnoredMulti")
    reached = sum(facts.moved(f"{head}{name}") for name in counters)
    return silence.silent(facts) if facts.why_no_wire and reached < ENOUGH else None


def _unaccounted(facts: Facts) -> Finding | None:
    """net.not_on_wire, not so sure: packets come in, and nobody may see what they are."""
    lost = undelivered(facts) if facts.question.family == 6 else uncounted(facts)
    if not facts.why_no_wire or lost < 2 * ENOUGH or not idle(facts) or not mostly(facts, lost):
        return None
    found = silence.silent(facts)
    name, question = facts.name(facts.question.ifindex), facts.question
    return found._replace(
        title=f"packets come in by {name}, and none is counted as one for {question.endpoint}",
        evidence=[*found.evidence, f"IP took in {lost} packets and delivered none of them"],
        hint="they are of another group, or a packet filter drops them early: only root can tell",
        where="host",
    )


def _older(facts: Facts) -> Finding | None:
    return membership.older_version(facts) if not arrives(facts) else None


def _asm(facts: Facts) -> Finding | None:
    return membership.ssm_without_source(facts) if not arrives(facts) else None


_RULES: tuple[Rule, ...] = (
    dropped.foreign_frames,
    probed.traced,
    network.interface_local,
    network.link_local,
    traffic.redirected,
    unread.forwarded,
    membership.missing,
    membership.filtered,
    sender.loop_off,
    _source_validation,
    _without_address,
    _reverse_path,
    _older,
    _ip_checksum,
    _fragments,
    _udp_checksum,
    _ipsec,
    _overflow,
    _refused,
    _unmatched,
    _port_taken,
    _by_another,
    _kept_out,
    _input,
    link.xdp,
    _prerouting,
    dropped.foreign_counted,
    unread.rewritten,
    unread.piling_up,
    _early,
    _other_port,
    delivery.crosstalk,
    delivery.duplicates,
    _asm,
    probed.host_drops,
    _unaccounted,
    _silent,
)
