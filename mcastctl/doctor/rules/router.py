"""A multicast router: why a datagram that came in is not forwarded."""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import dropped, network, series
from mcastctl.doctor.rules.packetfilter import Packet, describe, remedy, suspects
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
from mcastctl.model.forwarding import ForwardingEntry
from mcastctl.model.records import Finding
from mcastctl.model.shell import setting, word

_FEW = 3
_MOST = 0.8
"""What is lost on the way is more than what came while the counters were read."""
_FILES = {4: ("ip_mr_cache", "ip_mr_vif"), 6: ("ip6_mr_cache", "ip6_mr_vif")}


def diagnose(facts: Facts) -> list[Finding]:
    """Return the cause, none of severity error where the group is forwarded."""
    found = first(facts, _RULES)
    if found is not None:
        return [found, *series.after(facts, found, _WAY)]
    shown = [describe_entry(one) for one in _entries(facts)]
    passing = info("ok", f"{facts.question.group} is forwarded", shown)
    return [passing, what_root_adds(facts)] if facts.why_no_wire else [passing]


def _entries(facts: Facts) -> list[ForwardingEntry]:
    """Return the cache's entries for the group and the sources asked about."""
    any_source = ("0.0.0.0", "::")  # noqa: S104
    return [
        one
        for one in facts.entries
        if one.group == facts.question.group
        and (one.source in any_source or facts.wanted_source(one.source))
    ]


def _earlier(facts: Facts, entry: ForwardingEntry) -> ForwardingEntry | None:
    return next(
        (
            one
            for one in facts.entries_before
            if (one.source, one.group, one.table) == (entry.source, entry.group, entry.table)
        ),
        None,
    )


def describe_entry(one: ForwardingEntry) -> str:
    """Return an entry as evidence."""
    ways = ", ".join(f"{way.iface}:{way.threshold}" for way in one.oifs) or "none"
    return f"({one.source}, {one.group}) in {one.iface or '?'}, out {ways}: {one.packets} packets"


def container(facts: Facts) -> Finding | None:
    """container.bridge_nat: the group ends at this host, its listener is behind a bridge."""
    question = facts.question
    if facts.forwarding or facts.forwarding_interfaces:
        return None
    inside = {one.bridge for one in facts.database if one.group == question.group}
    ports = {port: bridge.iface for bridge, port in facts.bridged()}
    arrived = [name for name in facts.wire() if name not in ports and name not in inside]
    if not inside or not arrived or any(facts.member_on(facts.ifindex(one)) for one in arrived):
        return None
    bridge = sorted(inside)[0]
    listeners = sorted({one.port for one in facts.database if one.group == question.group})
    return error(
        "container.bridge_nat",
        f"{question.group} ends on {arrived[0]}: nothing carries it into {bridge}",
        [
            f"capture: {facts.wire()[arrived[0]]} datagrams on {arrived[0]}",
            f"multicast database of {bridge}: {question.group} is wanted at {', '.join(listeners)}",
            "mc_forwarding = 0: this host routes no multicast",
        ],
        "host network or a macvlan for the container, or a multicast router (smcroute) here",
        "network",
    )


def _no_daemon(facts: Facts) -> Finding | None:
    """router.mc_forwarding_off: nobody holds the routing socket."""
    if facts.forwarding or facts.forwarding_interfaces:
        return None
    version = facts.question.family
    return error(
        "router.mc_forwarding_off",
        "this host forwards no multicast: no routing daemon runs",
        [
            f"net.ipv{version}.conf.all.mc_forwarding = 0 (read-only: a daemon sets it)",
            f"/proc/net/{_FILES[version][1]}: no interfaces",
        ],
        "run smcroute, pimd or FRR's pimd; ip_forward plays no part in it",
        "host",
    )


def _link_scope(facts: Facts) -> Finding | None:
    return network.link_local(facts) or network.interface_local(facts)


def _wrong_interface(facts: Facts) -> Finding | None:
    """router.wrong_iif: datagrams come in where the entry does not expect them."""
    for one in _entries(facts):
        earlier = _earlier(facts, one)
        wrong = (one.wrong_iif or 0) - ((earlier.wrong_iif or 0) if earlier else 0)
        came = [name for name in facts.wire() if name != one.iface]
        if one.state == "resolved" and wrong > 0 and (came or facts.why_no_wire):
            where = ", ".join(came) or "another interface"
            return error(
                "router.wrong_iif",
                f"{one.source} arrives on {where}, the entry expects it on {one.iface}",
                [
                    describe_entry(one),
                    f"/proc/net/{_FILES[facts.question.family][0]}: Wrong grew by {wrong}",
                ],
                f"the unicast route to {one.source} must point to "
                f"{', '.join(map(word, came)) or where} (RPF): ip route get {one.source}",
                "host",
            )
    return None


def _unresolved(facts: Facts) -> Finding | None:
    """router.no_mroute: the daemon has not said where to."""
    entries = _entries(facts)
    if any(one.state == "resolved" for one in entries):
        return None
    if not entries and not facts.wire():
        return None
    said = [f"{describe_entry(one)}: unresolved" for one in entries]
    return error(
        "router.no_mroute",
        f"the routing daemon has no route for {facts.question.group}",
        said or ["the forwarding cache has no entry for it, although datagrams come in"],
        "add the route (smcroutectl add IN SRC GROUP OUT), or ask the daemon why it has none",
        "host",
    )


def _no_exit(facts: Facts) -> Finding | None:
    """router.no_oif: an entry that leads nowhere."""
    entries = [one for one in _entries(facts) if one.state == "resolved"]
    if not entries or any(one.oifs for one in entries):
        return None
    return error(
        "router.no_oif",
        f"the entry for {facts.question.group} has no outgoing interface",
        [describe_entry(one) for one in entries],
        "no member is known downstream: do its IGMP or MLD reports reach this router?",
        "network",
    )


def _ttl(facts: Facts) -> Finding | None:
    """tx.ttl_too_low, router.ttl_threshold: the TTL does not carry it further."""
    name_wire = facts.wire()
    thresholds = [way.threshold for one in _entries(facts) for way in one.oifs]
    ttls = [
        one.ttl
        for one in facts.group_flows("in")
        if one.dport == facts.question.port and one.iface in name_wire
    ]
    if not thresholds or not ttls or max(ttls) > max(1, min(thresholds)):
        return None
    ttl = max(ttls)
    evidence = [f"capture: TTL {ttl} on arrival", *map(describe_entry, _entries(facts))]
    if ttl <= 1:
        return error(
            "tx.ttl_too_low",
            "the datagrams arrive with TTL 1: this router may not forward them",
            evidence,
            "IP_MULTICAST_TTL (IPV6_MULTICAST_HOPS) of at least the number of hops in the "
            "sender; IP_TTL is another option",
            "sender",
        )
    return error(
        "router.ttl_threshold",
        f"TTL {ttl} does not exceed the threshold {min(thresholds)} of the way out",
        evidence,
        "lower the threshold of the interface in the daemon, or raise the sender's TTL",
        "host",
    )


def _grown(facts: Facts) -> int:
    """Return how many datagrams the entries of the group counted meanwhile."""
    return sum(
        (one.packets or 0) - ((earlier.packets or 0) if (earlier := _earlier(facts, one)) else 0)
        for one in _entries(facts)
    )


def _passed_on(facts: Facts) -> bool:
    """Tell whether most of what the entries counted left by every interface they name."""
    grown = _grown(facts)
    ways = {way.iface for one in _entries(facts) for way in one.oifs}
    if grown < _FEW or not ways:
        return False
    if facts.why_no_wire:
        sent = sum(one.packets_out for one in facts.forwarding_interfaces) - facts.forwarded_before
        forwarded = facts.moved("Ip.ForwDatagrams") + facts.moved("Ip6OutForwDatagrams")
        return min(sent, forwarded) >= grown * len(ways) * _MOST
    came, left = sum(facts.wire().values()), facts.wire("out")
    return came > 0 and all(left.get(name, 0) >= came * _MOST for name in ways)


def _unseen_way(facts: Facts) -> Finding | None:
    """Without the wire: the entry's counters, those of the interfaces and of forwarding."""
    entries = _entries(facts)
    blind = bool(facts.why_no_wire)
    if not blind or (entries and not any(one.oifs for one in entries)):
        return None
    if facts.moved("Ip.FragFails") + facts.moved("Ip6FragFails"):
        return None  # too large for the way out
    grown = _grown(facts)
    sent = sum(one.packets_out for one in facts.forwarding_interfaces) - facts.forwarded_before
    forwarded = facts.moved("Ip.ForwDatagrams") + facts.moved("Ip6OutForwDatagrams")
    said = [*map(describe_entry, entries), f"it counted {grown} datagrams meanwhile"]
    if not grown:
        return error(
            "net.not_on_wire",
            f"no datagram to {facts.question.endpoint} reaches the forwarding cache",
            said,
            "look at the sender: --role sender there; as root, doctor tells whether they arrive",
            "network",
            INFERRED,
        )
    if grown < _FEW or (sent and forwarded >= grown // 2):
        return None
    if sent:
        return error(
            "router.firewall_forward",
            "the entry matches, and the datagrams die in FORWARD",
            [*said, f"the interfaces were to send {sent}, IP forwarded {forwarded}"],
            "as root, 'nft list ruleset' and doctor name the rule",
            "host",
            INFERRED,
        )
    return error(
        "tx.ttl_too_low",
        "the entry matches, and nothing leaves: the TTL is likely used up",
        [*said, "the interfaces sent none"],
        "as root, doctor reads the TTL off the wire; in the sender: IP_MULTICAST_TTL",
        "sender",
        INFERRED,
    )


def _dropped(facts: Facts) -> Finding | None:
    """router.firewall_forward, router.rp_filter: the kernel names the reason."""
    if _passed_on(facts):
        return None  # what it dropped was the copy for this host itself, or for another way
    counts = {one.reason: 0 for one in facts.drops}
    for one, count in facts.drops.items():
        if not one.control:
            counts[one.reason] += count
    question = facts.question
    if counts.get("IP_RPFILTER"):
        name = next(iter(facts.wire()), "")
        settled = facts._replace(question=question._replace(ifindex=facts.ifindex(name)))
        said = f"kernel dropped {counts['IP_RPFILTER']} datagrams: IP_RPFILTER"
        words = dropped.rp_filter_words(settled, [said])
        return error("router.rp_filter", *words, "host")
    if counts.get("NETFILTER_DROP"):
        source = next(iter(question.sources), "")
        packet = Packet(source, question.group, "udp", question.port, "")
        rules = suspects(facts, ("ingress", "prerouting", "forward", "postrouting"), packet)
        rule = next(iter(rules), None)
        said = f"kernel dropped {counts['NETFILTER_DROP']} datagrams: NETFILTER_DROP"
        family = "ip6" if question.family == 6 else "ip"
        return error(
            "router.firewall_forward",
            "the packet filter of this router drops the group",
            [said, *([describe(facts, rule)] if rule else [])],
            remedy(rule, f"{family} daddr {question.group}"),
            "host",
        )
    return None


def _unseen_rp_filter(facts: Facts) -> Finding | None:
    """router.rp_filter without drop reasons: the kernel counts what the filter refuses."""
    refused = facts.moved("TcpExt.IPReversePathFilter")
    strict = [facts.name(index) for index, one in facts.knobs.items() if one.rp_filter]
    if not facts.why_no_drops or refused < 3 or not strict or facts.question.family == 6:
        return None
    if _grown(facts) >= _FEW:
        return None  # it refused others: those asked about got as far as the cache
    way = facts.reverse.iface if facts.reverse else None
    return error(
        "router.rp_filter",
        f"the reverse path filter of {', '.join(strict)} refuses what comes in",
        [
            *moved(facts, "TcpExt.IPReversePathFilter"),
            *(
                [f"the route back to {facts.reverse.source} leads by {way}"]
                if facts.reverse
                else []
            ),
        ],
        f"the unicast route to the source must point to where it arrives, or: sysctl "
        f"{setting(4, strict[0], 'rp_filter', 2)} (undo: =1)",
        "host",
        INFERRED,
    )


def _too_big(facts: Facts) -> Finding | None:
    """router.mtu: larger than the way out, and fragments are forbidden."""
    fails = facts.moved("Ip.FragFails") + facts.moved("Ip6FragFails")
    if not fails or not _entries(facts):
        return None
    return error(
        "router.mtu",
        "the datagrams are larger than the MTU of the way out and may not be cut",
        [
            *moved(facts, "Ip.FragFails", "Ip6FragFails"),
            "no ICMP is ever sent about a multicast datagram",
            *map(describe_entry, _entries(facts)),
        ],
        "smaller datagrams, or let the sender allow fragments (IP_PMTUDISC_DONT)",
        "network",
        PROVED if fails > 2 else INFERRED,
    )


def _nothing(facts: Facts) -> Finding | None:
    """net.not_on_wire: the group does not reach this router either."""
    if facts.wire() or facts.why_no_wire:
        return None
    if any((one.idle_s or 0) < 2 and one.packets for one in _entries(facts)):
        return None
    return error(
        "net.not_on_wire",
        f"no datagram to {facts.question.endpoint} reaches this router",
        [f"capture: nothing in {facts.watched_s:.1f} s", *map(describe_entry, _entries(facts))],
        "look at the sender: --role sender there",
        "network",
        INFERRED,
    )


_RULES: tuple[Rule, ...] = (
    _link_scope,
    container,
    _no_daemon,
    _dropped,
    _unseen_rp_filter,
    _wrong_interface,
    _ttl,
    _unseen_way,
    _unresolved,
    _no_exit,
    _too_big,
    _nothing,
)


def _ttl_ahead(facts: Facts) -> Finding | None:
    """tx.ttl_too_low before there is any way out to compare it with."""
    flows = [one for one in facts.group_flows("in") if one.dport == facts.question.port]
    if not flows or max(one.ttl for one in flows) > 1:
        return None
    return error(
        "tx.ttl_too_low",
        "the datagrams arrive with TTL 1: no router forwards them",
        [f"capture: TTL {max(one.ttl for one in flows)} on arrival"],
        "IP_MULTICAST_TTL (IPV6_MULTICAST_HOPS) of at least the number of hops in the sender",
        "sender",
    )


_WAY = (
    series.Station(("net.", "group.", "container.", "router.mc_forwarding_off")),
    series.Station(("router.rp_filter",)),
    series.Station(("router.wrong_iif",), _wrong_interface),
    series.Station(("router.no_mroute", "router.no_oif"), _no_exit),
    series.Station(("tx.ttl_too_low", "router.ttl_threshold"), _ttl_ahead),
    series.Station(
        ("router.firewall_forward",), series.firewall("forward", "router.firewall_forward")
    ),
    series.Station(("router.mtu",), _too_big),
)
"""The way through, for what comes after the answer."""
