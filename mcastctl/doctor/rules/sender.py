"""The sending host: why a datagram of the group does not leave as it should."""

from ipaddress import ip_address

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import egress, link, network, probed, refusals, series
from mcastctl.doctor.rules.packetfilter import describe, remedy
from mcastctl.doctor.rules.verdict import (
    INFERRED,
    PROVED,
    Rule,
    error,
    first,
    info,
    joining,
    warning,
    what_root_adds,
)
from mcastctl.doctor.wire import Flow
from mcastctl.host.applications import Application
from mcastctl.model.address import keeps_zone
from mcastctl.model.records import Finding
from mcastctl.model.shell import word


def diagnose(facts: Facts) -> list[Finding]:
    """Return the cause, none of severity error where datagrams leave as asked."""
    out = facts.outgoing()
    found = first(facts, _LOCAL) or first(facts, _DROPPED)
    if found is None:
        found = first(facts, _LEFT if out else _SILENT)
    if found is not None:
        refused = refusals.refused_bind(facts) if found.id == "net.no_traffic" else None
        return [found, *series.behind(facts, found), *([refused] if refused else [])]
    if facts.why_no_wire:
        stays = [network.stays(facts)] if network.is_link_local(facts.question.group) else []
        return [_nothing_found(facts), *stays, what_root_adds(facts)]
    return [_leaves(facts), *_remarks(facts)]


def _nothing_found(facts: Facts) -> Finding:
    way = facts.route.iface if facts.route else None
    return info(
        "ok",
        "nothing on this host speaks against sending, as far as it can be seen",
        [f"ip route get {facts.question.group}: {way}"] if way else [],
    )


def _sockets(facts: Facts, flows: dict[Flow, int]) -> list[Application]:
    """Return the sockets that sent these flows."""
    ports = {one.sport for one in flows}
    return [one for one in facts.ours() if one.bound.port in ports]


def _elsewhere(facts: Facts) -> Finding | None:
    """tx.wrong_egress, tx.route_lo, tx.missing_scope: they leave by another interface."""
    question = facts.question
    flows = facts.outgoing()
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
            f"{joining(question.group, wanted)}; or remove the route to {word(used[0])}",
            "host",
        )
    near = any(":" in one.src and keeps_zone(one.src) for one in flows)
    if question.family == 6 and (near or keeps_zone(question.group)):
        return error(
            "tx.missing_scope",
            f"{question.group} names no zone: it leaves by {', '.join(used)}, not {wanted}",
            evidence,
            f"send to {word(f'{question.group}%{wanted}')} (sin6_scope_id), or IPV6_MULTICAST_IF",
            "socket",
        )
    return error(
        "tx.wrong_egress",
        f"the datagrams leave by {', '.join(used)}, not by {wanted}",
        evidence,
        f"IP_MULTICAST_IF (IPV6_MULTICAST_IF) = {word(wanted)} in the sender, or: "
        f"{joining(question.group, wanted)}",
        "socket",
    )


def _nat(facts: Facts) -> Finding | None:
    """tx.source_nat: another source on the wire than the sender has."""
    sources = set(facts.question.sources)
    seen = {one.src for one in facts.outgoing()}
    if not sources or not seen or sources & seen:
        return None
    leaving = ("postrouting", "input", "output")
    rule = next((one for one in facts.rewriting if set(one.hooks) & set(leaving)), None)
    bound = {one.bound.local for one in _sockets(facts, facts.outgoing())}
    if rule is None and not bound & sources:
        return None  # the sender may well have bound another address
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
        f"exempt groups: {remedy(rule, f'{family} daddr {block}')}; then start the sender again: "
        "its flow keeps the address it was given",
        "host",
    )


def loop_off(facts: Facts) -> Finding | None:
    """tx.loop_off: other hosts hear it, another program on this host that joined does not."""
    flows = facts.outgoing()
    here = facts.local_source() or (flows and not facts.question.sources and not facts.wire())
    if facts.question.role == "receiver" and not here:
        return None
    used = {one.iface for one in flows}
    members = [one for one in facts.members() if one.iface in used or facts.why_no_wire]
    if not members:
        return None
    for one in facts.applications:
        loop = one.options.loop if one.options else one.bound.multicast_loop
        if loop is not False or not _sends(facts, one, {each.sport for each in flows}):
            continue
        if any(_hears_beside(facts, other, one) for other in facts.applications):
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
                INFERRED if facts.why_no_wire else PROVED,
            )
    return None


def _sends(facts: Facts, one: Application, ports: set[int | None]) -> bool:
    """Tell whether a socket sends what is asked about; unseen, one that joined nothing may."""
    if not facts.why_no_wire:
        return one.bound.port in ports
    return one.bound.port == facts.question.port or not one.bound.option_bytes


def _hears_beside(facts: Facts, one: Application, sending: Application) -> bool:
    """Tell whether a socket of another program means to hear the group: its own is no fault."""
    own = {pid for pid, _name, _descriptor in sending.holders}
    alone = not own.intersection(pid for pid, _name, _descriptor in one.holders)
    port, joined = one.bound.port == facts.question.port, bool(one.bound.option_bytes)
    return alone and one != sending and port and joined


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
    flows = facts.outgoing()
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
    ttls = {one.ttl for one in facts.outgoing()}
    if network.is_link_local(facts.question.group):
        return [network.stays(facts)]
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
    refusals.tentative,
)
_DROPPED: tuple[Rule, ...] = (
    egress.cgroup,
    egress.firewall,
    egress.qdisc,
    egress.filtered,
    egress.ttl_zero,
    egress.unseen_egress,
    egress.unseen_output,
)
_LEFT: tuple[Rule, ...] = (_elsewhere, _nat, loop_off, network.link_local)
_SILENT: tuple[Rule, ...] = (
    refusals.no_zone,
    refusals.not_local,
    refusals.bound_no_route,
    refusals.counted_no_route,
    _unseen_route,
    network.link_local,
    refusals.mtu,
    refusals.no_route,
    loop_off,
    probed.not_sent,
    refusals.idle,
)
