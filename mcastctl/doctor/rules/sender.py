"""The sending host: why a datagram of the group does not leave as it should."""

from ipaddress import ip_address

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import link, network
from mcastctl.doctor.rules.packetfilter import Packet, describe, remedy, suspects
from mcastctl.doctor.rules.verdict import INFERRED, Rule, error, first, info, moved, warning
from mcastctl.doctor.wire import Flow
from mcastctl.host.applications import Application
from mcastctl.host.firewall import Rule as FilterRule
from mcastctl.model.address import keeps_zone
from mcastctl.model.records import Finding

_PMTUDISC = (2, 3)  # IP_PMTUDISC_DO, IP_PMTUDISC_PROBE: never fragment


def diagnose(facts: Facts) -> list[Finding]:
    """Return the cause, none of severity error where datagrams leave as asked."""
    out = outgoing(facts)
    found = first(facts, _LOCAL) or first(facts, _DROPPED)
    if found is None:
        found = first(facts, _LEFT if out else _SILENT)
    if found is not None:
        return [found]
    return [_leaves(facts), *_remarks(facts)]


def outgoing(facts: Facts) -> dict[Flow, int]:
    """Return the flows of the question that left, from whatever source."""
    question = facts.question
    return {
        one: count
        for one, count in facts.flows.items()
        if one.direction == "out"
        and one.dst == question.group
        and one.dport in (question.port, None)
    }


def _sockets(facts: Facts, flows: dict[Flow, int]) -> list[Application]:
    """Return the sockets that sent these flows."""
    ports = {one.sport for one in flows}
    return [one for one in facts.ours() if one.bound.port in ports]


def _lost(facts: Facts, reason: str) -> int:
    return sum(
        count for one, count in facts.drops.items() if one.reason == reason and not one.control
    )


def _tentative(facts: Facts) -> Finding | None:
    """tx.ipv6_tentative: the source address may not be used yet."""
    for index, one in facts.links.items():
        for address in one.addresses:
            wanted = address.address in facts.question.sources or (
                index == facts.question.ifindex and facts.question.family == 6
            )
            bad = {"tentative", "dadfailed"}.intersection(address.states)
            if wanted and bad and ":" in address.address and not outgoing(facts):
                return error(
                    "tx.ipv6_tentative",
                    f"{address.address} on {one.name} is {', '.join(sorted(bad))}: not usable",
                    [f"address {address.address}/{address.prefixlen}: {', '.join(address.states)}"],
                    "wait for duplicate address detection, or remove the duplicate; "
                    f"'ip -6 addr add ADDRESS/LEN dev {one.name} nodad' skips it",
                    "host",
                )
    return None


def _not_local(facts: Facts) -> Finding | None:
    """tx.source_not_local: the source asked about is no address of this host."""
    own = {each.address for one in facts.links.values() for each in one.addresses}
    strange = [one for one in facts.question.sources if one not in own]
    if not strange or outgoing(facts):
        return None
    return error(
        "tx.source_not_local",
        f"{', '.join(strange)} is no address of this host: nothing can be sent from it",
        [f"addresses here: {', '.join(sorted(own))}"],
        f"ip addr add {strange[0]}/LEN dev IFACE, or send from an address that exists",
        "host",
    )


def _firewall(facts: Facts) -> Finding | None:
    """tx.firewall_output or tx.firewall_egress: the packet filter drops what is sent."""
    count = _lost(facts, "NETFILTER_DROP")
    if not count:
        return None
    said = f"kernel dropped {count} datagrams: NETFILTER_DROP"
    question = facts.question
    source = next(iter(question.sources), "")
    packet = Packet(source, question.group, "udp", question.port, "")
    egress = suspects(facts, ("egress",), packet)
    output = suspects(facts, ("output", "postrouting"), packet)
    errors = facts.moved("Udp.SndbufErrors") + facts.moved("Udp6SndbufErrors")
    silent = bool(egress) and (not output or errors > 0)
    return _filtered(facts, [said], next(iter(egress if silent else output), None), silent=silent)


def _filtered(
    facts: Facts, evidence: list[str], rule: FilterRule | None, *, silent: bool
) -> Finding:
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
    return error(
        "tx.firewall_output",
        "the packet filter drops the datagrams on their way out: sendto says EPERM",
        evidence,
        remedy(rule, accept),
        "host",
    )


def _qdisc(facts: Facts) -> Finding | None:
    """tx.qdisc_drop: the queue of the interface has no room."""
    reasons = [one for one in facts.drops if one.reason.startswith(("QDISC", "SUBSYS"))]
    count = sum(facts.drops[one] for one in reasons if not one.control and one.ifindex == 0)
    if not count:
        return None
    name = facts.name(facts.question.ifindex)
    return error(
        "tx.qdisc_drop",
        f"the queueing discipline of {name} drops {count} datagrams; sendto reports success",
        [
            f"kernel dropped {count} datagrams: {reasons[0].reason} @ {reasons[0].function}",
            *moved(facts, "Udp.SndbufErrors", "Ip.OutDiscards", "Ip6OutDiscards"),
        ],
        f"tc -s qdisc show dev {name}: raise rate or limit, or remove it: tc qdisc del dev "
        f"{name} root",
        "host",
    )


def _cgroup(facts: Facts) -> Finding | None:
    """tx.cgroup_bpf: a program of the sender's control group refuses."""
    count = _lost(facts, "BPF_CGROUP_EGRESS")
    if not count:
        return None
    return error(
        "tx.cgroup_bpf",
        "a BPF program of the sender's control group refuses the datagrams: EPERM",
        [f"kernel dropped {count} datagrams: BPF_CGROUP_EGRESS"],
        f"systemd: IPAddressAllow={facts.question.group} in the unit, or remove IPAddressDeny",
        "host",
    )


def _ttl_zero(facts: Facts) -> Finding | None:
    """tx.ttl_zero: TTL 0, and this host is a member itself: the kernel keeps it."""
    count = sum(
        number
        for one, number in facts.drops.items()
        if one.function.startswith(("ip_mc_output", "ip6_finish_output", "ip6_output"))
        and one.reason == "NOT_SPECIFIED"
        and not one.control
    )
    senders = [one for one in facts.applications if one.options and one.options.ttl == 0]
    if not count or outgoing(facts):
        return None
    who = facts.holders(senders[0]) if senders else "the sender"
    return error(
        "tx.ttl_zero",
        f"{who} sends with TTL 0: the datagrams do not leave this host",
        [f"kernel dropped {count} datagrams at its output, without a reason of its own"],
        "IP_MULTICAST_TTL (IPV6_MULTICAST_HOPS) of 1 or more; IP_TTL is another option",
        "socket",
    )


def _mtu(facts: Facts) -> Finding | None:
    """tx.message_too_big: larger than the MTU, and fragments are forbidden."""
    never = [one for one in facts.ours() if one.options and one.options.discover in _PMTUDISC]
    fails = facts.moved("Ip.FragFails") + facts.moved("Ip6FragFails")
    if not never and not fails:
        return None
    link_ = facts.links.get(facts.question.ifindex)
    return error(
        "tx.message_too_big",
        "the datagrams are larger than the MTU and may not be cut: EMSGSIZE",
        [
            *(
                f"{facts.holders(one)}: IP_MTU_DISCOVER = {one.options.discover}"
                for one in never
                if one.options
            ),
            *([f"MTU of {link_.name}: {link_.mtu}"] if link_ else []),
            *moved(facts, "Ip.FragFails", "Ip6FragFails"),
        ],
        "send less than the MTU at once, or IP_MTU_DISCOVER = IP_PMTUDISC_DONT",
        "socket",
        INFERRED,
    )


def _no_route(facts: Facts) -> Finding | None:
    """tx.no_route, tx.route_prohibited: the routing code refuses the group."""
    route = facts.route
    if route is None or route.leaves:
        return None
    name = facts.name(facts.question.ifindex) if facts.question.ifindex else "IFACE"
    counters = moved(facts, "Ip.OutNoRoutes", "Ip6OutNoRoutes")
    said = f"ip route get {facts.question.group}: {route.reason}"
    if route.route_type in ("unreachable", "prohibit", "blackhole"):
        return error(
            "tx.route_prohibited",
            f"a route of type {route.route_type} refuses the group",
            [said, *counters],
            f"ip route get {facts.question.group}; remove that route, or: ip route add "
            f"{facts.question.group} dev {name}",
            "host",
        )
    six = facts.question.family == 6
    group = "-6 route add multicast ff00::/8" if six else "route add 224.0.0.0/4"
    tail = " table local" if six else ""
    return error(
        "tx.no_route",
        "no route leads to the group: sendto says ENETUNREACH",
        [said, *counters],
        f"ip {group} dev {name}{tail}, or IP_MULTICAST_IF, or bind() a source address",
        "host",
    )


def _elsewhere(facts: Facts) -> Finding | None:
    """tx.wrong_egress, tx.route_lo, tx.missing_scope: they leave by another interface."""
    question = facts.question
    flows = outgoing(facts)
    used = {one.iface for one in flows}
    wanted = facts.name(question.ifindex)
    if not question.ifindex or wanted in used or not used:
        return None
    return _wrong_way(facts, sorted(used), flows)


def _wrong_way(facts: Facts, used: list[str], flows: dict[Flow, int]) -> Finding:
    question = facts.question
    wanted = facts.name(question.ifindex)
    loop = facts.links.get(facts.ifindex(used[0]))
    count = sum(flows.values())
    evidence = [f"capture: {count} datagrams left by {', '.join(used)}, none by {wanted}"]
    if facts.route is not None and facts.route.iface:
        evidence.append(f"ip route get {question.group}: {facts.route.iface}")
    if loop is not None and "loopback" in loop.flags:
        return error(
            "tx.route_lo",
            f"{question.group} is routed to {used[0]} and never leaves this host",
            evidence,
            f"ip route add {question.group} dev {wanted}; remove the route to {used[0]}",
            "host",
        )
    if question.family == 6 and keeps_zone(question.group):
        return error(
            "tx.missing_scope",
            f"{question.group} names no zone: it leaves by {', '.join(used)}, not {wanted}",
            evidence,
            f"send to {question.group}%{wanted} (sin6_scope_id), or IPV6_MULTICAST_IF",
            "socket",
        )
    return error(
        "tx.wrong_egress",
        f"the datagrams leave by {', '.join(used)}, not by {wanted}",
        evidence,
        f"IP_MULTICAST_IF = {wanted} in the sender, or: ip route add {question.group} "
        f"dev {wanted} (undo: ip route del)",
        "socket",
    )


def _nat(facts: Facts) -> Finding | None:
    """tx.source_nat: another source on the wire than the sender has."""
    sources = set(facts.question.sources)
    seen = {one.src for one in outgoing(facts)}
    if not sources or not seen or sources & seen:
        return None
    rule = next(iter(facts.rewriting), None)
    bound = {one.bound.local for one in _sockets(facts, outgoing(facts))}
    if rule is None and not bound & sources:
        return error(
            "tx.wrong_source",
            f"the datagrams leave from {', '.join(sorted(seen))}, not {', '.join(sources)}",
            ["capture: source on the wire"],
            "bind() the source address in the sender",
            "socket",
            INFERRED,
        )
    family = "ip6" if facts.question.family == 6 else "ip"
    block = "ff00::/8" if facts.question.family == 6 else "224.0.0.0/4"
    evidence = [f"capture: source {', '.join(sorted(seen))} on the wire"]
    if rule is not None:
        evidence.append(describe(facts, rule))
    return error(
        "tx.source_nat",
        f"source NAT turns {', '.join(sources)} into {', '.join(sorted(seen))}: receivers that "
        "name the source hear nothing",
        evidence,
        f"exempt groups: nft insert rule TABLE CHAIN {family} daddr {block} accept",
        "host",
    )


def loop_off(facts: Facts) -> Finding | None:
    """tx.loop_off: other hosts hear it, programs on this host do not."""
    flows = outgoing(facts)
    members = [one for one in facts.members() if one.iface in {each.iface for each in flows}]
    if not members:
        return None
    for one in _sockets(facts, flows) or [
        each for each in facts.applications if each.bound.port in {f.sport for f in flows}
    ]:
        loop = one.options.loop if one.options else one.bound.multicast_loop
        if loop is False:
            return error(
                "tx.loop_off",
                f"{facts.holders(one)} sends with IP_MULTICAST_LOOP=0: programs on this host "
                "hear nothing",
                [
                    f"sock_diag: {one.bound.local}:{one.bound.port} has mc_loop clear",
                    f"{facts.question.group} is joined on {members[0].iface} of this host",
                ],
                "IP_MULTICAST_LOOP=1 in the sender (Linux takes the sender's option)",
                "socket",
            )
    return None


def _idle(facts: Facts) -> Finding | None:
    """net.no_traffic: nothing is sent at all."""
    question = facts.question
    if facts.why_no_wire:
        return None
    return error(
        "net.no_traffic",
        f"this host sends nothing to {question.endpoint}",
        [f"capture: nothing left in {facts.watched_s:.1f} s, the kernel dropped nothing"],
        "is the sender running? 'mcastctl send' tells what the kernel says to the same send",
        "sender",
        INFERRED,
    )


def _unseen_egress(facts: Facts) -> Finding | None:
    """Without the wire: the counters say that datagrams die at the interface's queue."""
    errors = facts.moved("Udp.SndbufErrors") + facts.moved("Udp6SndbufErrors")
    if not facts.why_no_drops or errors < 3:
        return None
    return error(
        "tx.qdisc_drop",
        "datagrams die at the egress of the interface; sendto reports success",
        moved(facts, "Udp.SndbufErrors", "Ip.OutDiscards", "Ip6OutDiscards"),
        "tc -s qdisc show; as root, doctor tells a queue from a netdev egress rule",
        "host",
        INFERRED,
    )


def _unseen_route(facts: Facts) -> Finding | None:
    """Without the wire: the route says by which interface they leave."""
    route, question = facts.route, facts.question
    if not facts.why_no_wire or route is None or not route.leaves or not question.ifindex:
        return None
    if route.ifindex == question.ifindex or route.iface is None:
        return None
    return _wrong_way(facts, [route.iface], {})._replace(
        evidence=[f"ip route get {question.group}: {route.iface}"], certain=INFERRED
    )


def _leaves(facts: Facts) -> Finding:
    flows = outgoing(facts)
    used = sorted({one.iface for one in flows})
    ttls = sorted({one.ttl for one in flows})
    return info(
        "ok",
        f"datagrams to {facts.question.endpoint} leave by {', '.join(used) or 'this host'}",
        [
            f"capture: {sum(flows.values())} datagrams, TTL {', '.join(map(str, ttls))}",
            "the kernel dropped none of them",
        ],
    )


def _remarks(facts: Facts) -> list[Finding]:
    """Return what a receiver further away may suffer from."""
    ttls = {one.ttl for one in outgoing(facts)}
    if not ttls or max(ttls) > 1 or not ip_address(facts.question.group).is_multicast:
        return []
    return [
        warning(
            "tx.ttl_too_low",
            "TTL 1: the datagrams end at the first router",
            [f"capture: TTL {min(ttls)} on the wire"],
            "IP_MULTICAST_TTL (IPV6_MULTICAST_HOPS) of at least the number of hops; IP_TTL is "
            "another option",
            "socket",
        )
    ]


_LOCAL: tuple[Rule, ...] = (
    link.down,
    link.no_carrier,
    link.ipv6_disabled,
    network.interface_local,
    _tentative,
)
_DROPPED: tuple[Rule, ...] = (_cgroup, _firewall, _qdisc, _ttl_zero, _unseen_egress)
_LEFT: tuple[Rule, ...] = (_elsewhere, _nat, loop_off, network.link_local)
_SILENT: tuple[Rule, ...] = (
    _not_local,
    _no_route,
    network.link_local,
    _unseen_route,
    _mtu,
    _idle,
)
