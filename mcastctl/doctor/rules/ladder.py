"""The receiving host without the right to capture: counters, route questions and settings.

The first rung of the counter ladder that does not move is the place; IPv4's own input decision
is asked of the routing code. What root would add is said at the end.
"""

from ipaddress import ip_address

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import (
    delivery,
    dropped,
    link,
    membership,
    network,
    packetfilter,
    sender,
)
from mcastctl.doctor.rules.verdict import (
    INFERRED,
    PROVED,
    Rule,
    error,
    first,
    info,
    moved,
    what_root_adds,
)
from mcastctl.model.records import Finding

_ENOUGH = 3
"""Datagrams of which a rung must have counted more than its neighbour."""


def diagnose(facts: Facts) -> list[Finding]:
    """Return the cause as far as anybody may know it, and what root would add."""
    found = first(facts, _RULES)
    if found is not None:
        return [found] if found.certain == PROVED else [found, what_root_adds(facts)]
    return [_nothing_found(facts), what_root_adds(facts)]


def _nothing_found(facts: Facts) -> Finding:
    read = facts.moved("Udp.InDatagrams") + facts.moved("Udp6InDatagrams")
    name = facts.name(facts.question.ifindex)
    evidence = [f"{facts.question.group} is joined on {name}"]
    if not facts.why_no_wire:
        evidence.append(f"capture: {facts.wire().get(name, 0)} datagrams on {name}")
    return info(
        "ok",
        "nothing on this host speaks against delivery, as far as it can be seen",
        [*evidence, f"UDP delivered {read} datagrams to programs"],
    )


def _accepts(facts: Facts) -> bool | None:
    answers = facts.answers.get(facts.question.ifindex)
    return answers.wanted if answers else None


def _source_validation(facts: Facts) -> Finding | None:
    """host.rp_filter and its kin: the routing code would refuse this source here."""
    answers = facts.answers.get(facts.question.ifindex)
    source = facts.reverse.source if facts.reverse else None
    if answers is None or source is None or answers.wanted is not False:
        return None
    if answers.unicast is not False or answers.neighbour is False:
        return None
    said = f"route get {facts.question.group} from {source} iif: refused, a neighbour's: taken"
    value = ip_address(source)
    if facts.local_source():
        if not _idle(facts):
            return None  # a sender on this very host: what it sends is looped back, not received
        own = dropped.own_source(facts, said)
        return own._replace(certain=PROVED)
    if value.is_loopback or value.is_multicast or value.packed[0] in (0, 255):
        return dropped.martian(facts, said)._replace(certain=INFERRED)
    counters = moved(facts, "TcpExt.IPReversePathFilter")
    return error("host.rp_filter", *dropped.rp_filter_words(facts, [said, *counters]), "host")


def _without_address(facts: Facts) -> Finding | None:
    settings = facts.knobs.get(facts.question.ifindex)
    link_ = facts.links.get(facts.question.ifindex)
    if facts.question.family == 6 or link_ is None or link_.has_address(4):
        return None
    if settings is None or not settings.rp_filter:
        return None
    said = "counters: the reverse path filter refuses what comes in"
    return dropped.no_address(facts, said)


def _ip_checksum(facts: Facts) -> Finding | None:
    if facts.moved("IpExt.InCsumErrors") < _ENOUGH:
        return None
    return dropped.ip_checksum(facts, "counters: the IP layer refuses headers")


def _udp_checksum(facts: Facts) -> Finding | None:
    six = facts.question.family == 6
    if facts.moved("Udp6InCsumErrors" if six else "Udp.InCsumErrors") < _ENOUGH:
        return None
    return dropped.udp_checksum(facts, "counters: UDP refuses checksums")


def _ipsec(facts: Facts) -> Finding | None:
    blocked = facts.moved("XfrmInPolBlock") + facts.moved("XfrmInNoPols")
    return dropped.ipsec(facts, "counters: a policy refuses") if blocked >= _ENOUGH else None


def _overflow(facts: Facts) -> Finding | None:
    six = facts.question.family == 6
    if not facts.moved("Udp6RcvbufErrors" if six else "Udp.RcvbufErrors"):
        return None
    return delivery.overflow(facts, [])


def _refused(facts: Facts) -> Finding | None:
    """Errors of UDP that are neither buffer nor checksum: a filter program, or IPsec."""
    head = "Udp6" if facts.question.family == 6 else "Udp."
    explained = facts.moved(f"{head}RcvbufErrors") + facts.moved(f"{head}InCsumErrors")
    if facts.moved(f"{head}InErrors") - explained < _ENOUGH:
        return None
    return delivery.refused(facts, moved(facts, f"{head}InErrors"))


def _unmatched(facts: Facts) -> Finding | None:
    head = "Udp6" if facts.question.family == 6 else "Udp."
    if facts.moved(f"{head}IgnoredMulti") < _ENOUGH:
        return delivery.unmatched(facts) if delivery.deaf(facts) else None
    found = delivery.unmatched(facts)
    if found is not None:
        found.evidence.extend(moved(facts, f"{head}IgnoredMulti"))
    return found


def _other_host(facts: Facts) -> Finding | None:
    """host.wrong_dst_mac: seen by the capture, addressed to somebody else."""
    name = facts.name(facts.question.ifindex)
    flows = [one for one in facts.group_flows("in") if one.iface == name]
    if not flows or not all(one.cast for one in flows):
        return None
    return dropped.other_host(facts, "capture: every frame of the group is for another host")


def _idle(facts: Facts) -> bool:
    """Tell whether UDP delivered nothing to any program."""
    return not facts.moved("Udp.InDatagrams") + facts.moved("Udp6InDatagrams")


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
    multicast = facts.moved("Ip6InMcastPkts" if six else "IpExt.InMcastPkts")
    delivered = facts.moved(f"{head}InDelivers")
    waiting = facts.moved(f"{head}ReasmReqds")
    discards = facts.moved("Ip6InDiscards") if six else 0
    if multicast - delivered - waiting - discards < 2 * _ENOUGH:
        return None
    counters = moved(facts, "IpExt.InMcastPkts", "Ip6InMcastPkts", f"{head}InDelivers")
    return _firewall(facts, "input", counters, PROVED)


def _prerouting(facts: Facts) -> Finding | None:
    """host.firewall_prerouting: received, accepted by the routing code, yet not counted."""
    six = facts.question.family == 6
    received = facts.moved("Ip6InReceives" if six else "Ip.InReceives")
    multicast = facts.moved("Ip6InMcastPkts" if six else "IpExt.InMcastPkts")
    delivered = facts.moved("Ip6InDelivers" if six else "Ip.InDelivers")
    unexplained = received - max(multicast, delivered) - facts.moved("TcpExt.IPReversePathFilter")
    unexplained -= facts.moved("Ip.InHdrErrors") + facts.moved("Ip6InHdrErrors")
    if unexplained < 2 * _ENOUGH or not _idle(facts) or (not six and not _accepts(facts)):
        return None
    counters = ("Ip.InReceives", "IpExt.InMcastPkts", "Ip6InReceives", "Ip6InMcastPkts")
    return _firewall(facts, "prerouting", moved(facts, *counters), INFERRED)


def _early(facts: Facts) -> Finding | None:
    """host.firewall_ingress: frames come in, IP counts nothing."""
    name = facts.name(facts.question.ifindex)
    if link.vanished(facts, name) < 4 * _ENOUGH or not _idle(facts):
        return None
    if dropped.suspect(facts, "ingress") is None and not facts.why_no_rules:
        return dropped.traffic_control(facts, "counters: frames come in, IP counts none")._replace(
            certain=INFERRED
        )
    counters = moved(facts, f"dev.{name}.rx_packets", "Ip.InReceives", "Ip6InReceives")
    return _firewall(facts, "ingress", counters, INFERRED)


def _silent(facts: Facts) -> Finding | None:
    """net.not_on_wire: nothing has reached UDP at all."""
    head = "Udp6" if facts.question.family == 6 else "Udp."
    counters = ("InDatagrams", "InErrors", "IgnoredMulti")
    reached = sum(facts.moved(f"{head}{name}") for name in counters)
    return network.silent(facts) if facts.why_no_wire and reached < _ENOUGH else None


def _older(facts: Facts) -> Finding | None:
    return membership.older_version(facts) if not _arrives(facts) else None


def _asm(facts: Facts) -> Finding | None:
    return membership.ssm_without_source(facts) if not _arrives(facts) else None


def _arrives(facts: Facts) -> bool:
    read = facts.moved("Udp.InDatagrams") + facts.moved("Udp6InDatagrams")
    return read >= _ENOUGH


_RULES: tuple[Rule, ...] = (
    _other_host,
    network.interface_local,
    network.link_local,
    membership.missing,
    membership.filtered,
    _source_validation,
    _without_address,
    _older,
    _ip_checksum,
    delivery.fragments,
    _udp_checksum,
    _ipsec,
    _overflow,
    _refused,
    _unmatched,
    membership.port_in_use,
    _input,
    link.xdp,
    _prerouting,
    _early,
    delivery.crosstalk,
    delivery.duplicates,
    sender.loop_off,
    _asm,
    _silent,
)
