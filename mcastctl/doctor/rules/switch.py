"""A Linux bridge as the switch: which port does not get the group, and why."""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import dropped
from mcastctl.doctor.rules.packetfilter import Packet, describe, remedy, suspects
from mcastctl.doctor.rules.verdict import (
    INFERRED,
    PROVED,
    Rule,
    error,
    first,
    info,
    what_root_adds,
)
from mcastctl.host.firewall import Rule as FilterRule
from mcastctl.model.forwarding import Bridge, BridgePort
from mcastctl.model.records import Finding
from mcastctl.model.shell import word

_PASSING = ("forwarding", "unknown")
_SOON = ("listening", "learning")


def diagnose(facts: Facts) -> list[Finding]:
    """Return the cause, none of severity error where every member's port gets the group."""
    found = first(facts, _RULES)
    if found is not None:
        blind = facts.why_no_wire and found.certain != PROVED
        return [found, what_root_adds(facts)] if blind else [found]
    listed = [f"{one.port}: {one.group}" for one in facts.database if _mine(facts, one.group)]
    title = f"the bridges of this host pass {facts.question.group} on"
    passing = info("ok", title, listed or ["its database has no entry for the group"])
    return [passing, what_root_adds(facts)] if facts.why_no_wire else [passing]


def _mine(facts: Facts, group: str) -> bool:
    return group == facts.question.group


def _bridge(facts: Facts) -> Bridge | None:
    """Return the bridge the group arrives at, else the one of -i, else the first."""
    ports = {port: bridge for bridge, port in facts.bridged()}
    for name in (*facts.wire(), facts.question.iface):
        if name in ports:
            return ports[name]
    return next((one for one in facts.bridges if one.ports), None)


def _entering(facts: Facts, bridge: Bridge) -> set[str]:
    """Return the ports by which the group comes."""
    return {port.iface for port in bridge.ports if facts.wire().get(port.iface)}


def _leaving(facts: Facts, bridge: Bridge) -> set[str]:
    left = facts.wire("out")
    return {port.iface for port in bridge.ports if left.get(port.iface)}


def _others(facts: Facts, bridge: Bridge) -> list[BridgePort]:
    """Return the ports that the group does not come by and does not leave by."""
    busy = _entering(facts, bridge) | _leaving(facts, bridge)
    return [one for one in bridge.ports if one.iface not in busy]


def effective(bridge: Bridge, family: int) -> bool:
    """Tell whether the bridge sorts groups by its database: it snoops and knows a querier."""
    known = any(one.family == f"ipv{family}" for one in bridge.queriers)
    return bool(bridge.snooping) and (known or (bool(bridge.querier) and family == 4))


def _count(facts: Facts, reason: str) -> int:
    return sum(
        count for one, count in facts.drops.items() if one.reason == reason and not one.control
    )


def _none(facts: Facts) -> Finding | None:
    if _bridge(facts) is not None:
        return None
    return error(
        "net.not_on_wire",
        "there is no bridge with ports on this host",
        ["rtnetlink: no link of kind bridge has ports"],
        "use --role receiver, sender or router here",
        "network",
        INFERRED,
    )


def _checksum(facts: Facts) -> Finding | None:
    """host.ip_checksum: a snooping bridge refuses headers that are damaged."""
    bad = sum(
        count
        for one, count in facts.drops.items()
        if one.reason == "NOT_SPECIFIED" and one.function.startswith(("br_handle", "br_multicast"))
    )
    count = bad + _count(facts, "IP_CSUM")
    said = f"the bridge dropped {count} datagrams: their IP header is not valid"
    return dropped.ip_checksum(facts, said) if count else None


def _state(facts: Facts) -> Finding | None:
    """net.stp_blocked: a port that does not forward, and leads to somebody.

    A spanning tree blocks redundant ports: that is no fault while others lead to the same place.
    """
    bridge = _bridge(facts)
    for port in bridge.ports if bridge else ():
        link = facts.links.get(port.ifindex)
        plugged = link is None or "carrier" in link.flags
        if bridge is None or port.state in _PASSING or not plugged:
            continue
        details = facts.details.get(bridge.ifindex)
        tree = details is not None and details.tree
        behind = _only_behind(facts, bridge, port)
        soon = port.state in _SOON and not _leaving(facts, bridge)
        if not tree or behind or soon:
            return error(
                "net.stp_blocked",
                f"port {port.iface} of {bridge.iface} is in state {port.state}: it passes nothing",
                [f"bridge link: {port.iface} state {port.state}", *behind],
                _opening(bridge, port, tree=tree),
                "network",
                PROVED if behind or not tree else INFERRED,
            )
    return None


def _opening(bridge: Bridge, port: BridgePort, *, tree: bool) -> str:
    """Return what opens a port; never by force, which could close a loop."""
    if port.state in _SOON:
        least = 200 if tree else 0  # hundredths of a second
        return (
            "wait twice the forward delay; ports of hosts: portfast on a switch, here "
            f"ip link set {word(bridge.iface)} type bridge forward_delay {least}"
        )
    if tree:
        return (
            f"the spanning tree blocks it: find the second way that it sees (bridge link show dev "
            f"{word(port.iface)}, and the switch behind it); why does that one not pass the group?"
        )
    return (
        f"STP is off on {bridge.iface}, so somebody blocked it: find out why; where it is no "
        f"second way to the same switch: ip link set {word(port.iface)} down, then up"
    )


def _only_behind(facts: Facts, bridge: Bridge, port: BridgePort) -> list[str]:
    """Return, as evidence, the sender or member that this port leads to, and no other does."""
    others = {one.iface for one in bridge.ports if one.state in _PASSING}
    came = facts.wire().get(port.iface)
    found = []
    if came and not others & _entering(facts, bridge):
        found.append(f"capture: {came} datagrams came in by {port.iface}, none by any other port")
    served = others & (_leaving(facts, bridge) | _reported(facts, bridge))
    if port.iface in _reported(facts, bridge) and not served:
        found.append(f"capture: a report of {facts.question.group} came in by {port.iface} alone")
    return found


def _isolated(facts: Facts) -> Finding | None:
    """net.port_isolated: isolated ports do not talk to each other."""
    bridge = _bridge(facts)
    isolated = [one.iface for one in bridge.ports if one.isolated] if bridge else []
    entering = _entering(facts, bridge) if bridge else set()
    apart = [one for one in isolated if one not in entering]
    if not apart or (entering and not entering & set(isolated)) or len(isolated) < 2:
        return None
    return error(
        "net.port_isolated",
        f"ports {', '.join(isolated)} are isolated: nothing passes between them",
        [f"bridge -d link: {one} isolated on" for one in isolated],
        f"bridge link set dev {word(apart[0])} isolated off (undo: isolated on)",
        "network",
    )


def _netfilter(facts: Facts) -> Finding | None:
    """net.switch_filter, net.bridge_netfilter: the packet filter drops bridged datagrams."""
    count = _count(facts, "NETFILTER_DROP")
    question = facts.question
    packet = Packet(next(iter(question.sources), ""), question.group, "udp", question.port, "")
    rules = suspects(
        facts, ("ingress", "prerouting", "forward", "postrouting", "egress", "input"), packet
    )
    layer2 = [one for one in rules if one.family in ("bridge", "netdev", "arp")]
    layer3 = [one for one in rules if one.family not in ("bridge", "netdev", "arp")]
    said = [f"kernel dropped {count} bridged datagrams: NETFILTER_DROP"] if count else []
    if not count and not facts.why_no_drops:
        return None
    if layer2 and (not layer3 or facts.moved_rules.get(layer2[0].key) or not count):
        if not count and not facts.moved_rules.get(layer2[0].key):
            return None
        return _filtered(facts, said, layer2[0])
    if not count or not facts.bridge_netfilter:
        return _filtered(facts, said, None) if count else None
    rule = next(iter(layer3), None)
    return error(
        "net.bridge_netfilter",
        "bridged datagrams pass the IP packet filter, and its FORWARD chain drops them",
        [
            *said,
            "net.bridge.bridge-nf-call-iptables = 1",
            *([describe(facts, rule)] if rule else []),
        ],
        "sysctl net.bridge.bridge-nf-call-iptables=0 (undo: =1), or accept the group in FORWARD",
        "network",
    )


def _filtered(facts: Facts, said: list[str], rule: FilterRule | None) -> Finding:
    return error(
        "net.switch_filter",
        "a filter rule of the bridge drops the group",
        [*said, *([describe(facts, rule)] if rule else [])],
        remedy(
            rule, f"{'ip6' if facts.question.family == 6 else 'ip'} daddr {facts.question.group}"
        ),
        "network",
    )


def _no_flood(facts: Facts) -> Finding | None:
    """net.switch_flood_off: the port floods no groups, and no database is in force."""
    bridge = _bridge(facts)
    if bridge is None or effective(bridge, facts.question.family):
        return None
    for port in _others(facts, bridge):
        if port.flood is False and port.router != "always":
            why = "snooping is off" if not bridge.snooping else "no querier is known"
            return error(
                "net.switch_flood_off",
                f"port {port.iface} of {bridge.iface} floods no groups, and {why}",
                [f"bridge -d link: {port.iface} mcast_flood off", f"{bridge.iface}: {why}"],
                f"bridge link set dev {word(port.iface)} mcast_flood on, or enable a querier: "
                f"ip link set {word(bridge.iface)} type bridge mcast_snooping 1 mcast_querier 1",
                "network",
            )
    return None


def _no_entry(facts: Facts) -> Finding | None:
    """net.switch_no_mdb, net.no_querier: the database does not lead to the port."""
    bridge = _bridge(facts)
    # Where some port has it, only the wire tells whether the sender is behind the others.
    if bridge is None or not bridge.snooping or (facts.why_no_wire and _listed(facts, bridge)):
        return None
    listed = _listed(facts, bridge)
    entering = _entering(facts, bridge)
    waiting = [one.iface for one in _others(facts, bridge) if one.iface not in listed]
    lost = _count(facts, "NO_TX_TARGET")
    if not lost and (not waiting or _leaving(facts, bridge) - {bridge.iface}):
        wanting = _reported(facts, bridge) - listed
        if not wanting or not effective(bridge, facts.question.family):
            return None
        waiting = sorted(wanting)
    if not lost and not effective(bridge, facts.question.family):
        return None
    if not waiting and not lost:
        return None
    evidence = [f"kernel dropped {lost} datagrams: NO_TX_TARGET"] if lost else []
    evidence += (
        [f"capture: the group comes in by {', '.join(sorted(entering))}"] if entering else []
    )
    named = ", ".join(sorted(listed)) or "no port"
    evidence.append(f"bridge mdb: {facts.question.group} leads to {named}")
    queries = [one for one in facts.control if one.kind == "query"]
    if _aged(facts, bridge, waiting):
        return error(
            "net.no_querier",
            f"no querier asks the members behind {', '.join(waiting)}: they were forgotten",
            [*evidence, f"capture: {len(queries)} kinds of queries seen, none left by that port"],
            f"ip link set {word(bridge.iface)} type bridge mcast_querier 1 "
            "(or enable it on a router)",
            "network",
            INFERRED,
        )
    where = ", ".join(waiting) or "any port"
    port = word(waiting[0]) if waiting and entering else "PORT"  # not that of an unseen sender
    return error(
        "net.switch_no_mdb",
        f"{bridge.iface} has no entry for {facts.question.group} at {where}",
        evidence,
        f"find what eats the report; a static entry: bridge mdb add dev {word(bridge.iface)} "
        f"port {port} grp {facts.question.group} permanent",
        "network",
        PROVED if lost else INFERRED,
    )


def _listed(facts: Facts, bridge: Bridge) -> set[str]:
    """Return the ports that the database has for the group."""
    return {
        one.port for one in facts.database if one.bridge == bridge.iface and _mine(facts, one.group)
    }


def _reported(facts: Facts, bridge: Bridge) -> set[str]:
    """Return the ports by which a report for the group came."""
    ports = {one.iface for one in bridge.ports}
    return {
        one.iface
        for one in facts.control
        if one.kind == "report" and one.group == facts.question.group and one.direction == "in"
    } & ports


def _aged(facts: Facts, bridge: Bridge, waiting: list[str]) -> bool:
    """Tell whether members were forgotten for want of queries at their ports.

    Most watches are shorter than a querier's pause: one that is known, and asks before the
    members' time is up, needs not be heard.
    """
    known = effective(bridge, facts.question.family)
    interval, members = bridge.query_interval_s, bridge.membership_interval_s
    in_time = interval is not None and members is not None and interval < members
    if facts.why_no_wire or (known and in_time):
        return not known
    asked = {one.iface for one in facts.control if one.kind == "query" and one.direction == "out"}
    heard = {one.iface for one in facts.control if one.kind == "query" and one.direction == "in"}
    return not heard and not asked.intersection(waiting) and not _reported(facts, bridge)


_RULES: tuple[Rule, ...] = (
    _none,
    _state,
    _isolated,
    _netfilter,
    _checksum,
    _no_flood,
    _no_entry,
)
