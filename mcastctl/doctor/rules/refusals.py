"""The kernel refuses to send: no route, no such address, no zone, too big; or nobody tries."""

import errno

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules.verdict import INFERRED, PROVED, error, moved, refused, warning
from mcastctl.model import refusal
from mcastctl.model.address import keeps_zone
from mcastctl.model.records import Finding
from mcastctl.model.shell import word

_PMTUDISC = (2, 3)  # IP_PMTUDISC_DO, IP_PMTUDISC_PROBE: never fragment
_FEW = 3


def tentative(facts: Facts) -> Finding | None:
    """tx.ipv6_tentative: the source address may not be used yet."""
    for index, one in facts.links.items():
        for address in one.addresses:
            wanted = address.address in facts.question.sources or (
                index == facts.question.ifindex and facts.question.family == 6
            )
            bad = {"tentative", "dadfailed"}.intersection(address.states)
            if wanted and bad and ":" in address.address and not facts.outgoing():
                return error(
                    "tx.ipv6_tentative",
                    f"{address.address} on {one.name} is {', '.join(sorted(bad))}: not usable",
                    [f"address {address.address}/{address.prefixlen}: {', '.join(address.states)}"],
                    "wait for duplicate address detection, remove the duplicate, or do without: "
                    f"ip -6 addr add ADDRESS/LEN dev {word(one.name)} nodad",
                    "host",
                )
    return None


def not_local(facts: Facts) -> Finding | None:
    """tx.source_not_local: the source asked about is no address of this host."""
    own = {each.address for one in facts.links.values() for each in one.addresses}
    strange = [one for one in facts.question.sources if one not in own]
    if not strange or facts.outgoing():
        return None
    said = f"{', '.join(strange)} is none of the addresses here: {', '.join(sorted(own))}"
    return refused(errno.EADDRNOTAVAIL, facts, [said])


def no_zone(facts: Facts) -> Finding | None:
    """tx.missing_scope: a link-local address without a zone is refused."""
    question = facts.question
    near = [one for one in question.sources if keeps_zone(one)]
    if question.family == 4 or not (near or (facts.failing and keeps_zone(question.group))):
        return None
    if facts.why_no_wire and not facts.failing and _sending(facts):
        return None  # who sends may well name the zone
    which = near[0] if near else question.group
    name = facts.name(question.ifindex) if question.ifindex else "IFACE"
    return error(
        "tx.missing_scope",
        f"{which} is link-local: without a zone the kernel refuses it",
        [
            f"nothing left for {question.endpoint}",
            *([f"{facts.failing} sockets ended without a port"] if facts.failing else []),
        ],
        "bind and send with the scope id of the interface: "
        f"{word(f'{which}%{name}')} (sin6_scope_id)",
        "socket",
        INFERRED,
    )


def bound_no_route(facts: Facts) -> Finding | None:
    """tx.no_route by the interface in question: IPv6 on lo needs a local route."""
    route, question = facts.bound_route, facts.question
    if route is None or route.leaves or question.family == 4:
        return None
    name = facts.name(question.ifindex)
    link_ = facts.links.get(question.ifindex)
    said = [f"ip -6 route get {question.group} oif {name}: {route.reason}"]
    found = refused(errno.ENETUNREACH, facts, [*said, *moved(facts, "Ip6OutNoRoutes")])
    if link_ is not None and "loopback" in link_.flags:
        local = f"ip -6 route add local {question.group}/128 dev {word(name)} table local"
        return found._replace(hint=local)
    return found


def counted_no_route(facts: Facts) -> Finding | None:
    """The same, where the kernel counted sends without a route, or a route forbids them."""
    counted = facts.moved("Ip.OutNoRoutes") + facts.moved("Ip6OutNoRoutes")
    refused = facts.route is not None and facts.route.route_type is not None
    return no_route(facts) if counted or refused else None


def no_route(facts: Facts) -> Finding | None:
    """tx.no_route, tx.route_prohibited: the routing code refuses the group."""
    route = facts.route
    if route is None or route.leaves:
        return None
    counted = moved(facts, "Ip.OutNoRoutes", "Ip6OutNoRoutes")
    if facts.why_no_wire and not counted and route.route_type is None and _sending(facts):
        return None  # whoever names the interface needs no route
    said = [f"ip route get {facts.question.group}: {route.reason}", *counted]
    number = refusal.BY_ROUTE.get(route.route_type or "", errno.ENETUNREACH)
    # Who tries is counted; who names the interface needs no route.
    sure = bool(counted) or route.route_type is not None
    return refused(number, facts, said, PROVED if sure else INFERRED)


def _sending(facts: Facts) -> bool:
    """Tell whether programs of this host send datagrams, whichever."""
    return facts.moved("Udp.OutDatagrams") + facts.moved("Udp6OutDatagrams") >= _FEW


def mtu(facts: Facts) -> Finding | None:
    """tx.message_too_big: larger than the MTU, and fragments are forbidden."""
    never = [one for one in facts.ours() if one.options and one.options.discover in _PMTUDISC]
    fails = facts.moved("Ip.FragFails") + facts.moved("Ip6FragFails")
    if not never and not fails:
        return None
    link_ = facts.links.get(facts.question.ifindex)
    return refused(
        errno.EMSGSIZE,
        facts,
        [
            *(
                f"{facts.holders(one)}: IP_MTU_DISCOVER = {one.options.discover}"
                for one in never
                if one.options
            ),
            *([f"MTU of {link_.name}: {link_.mtu}"] if link_ else []),
            *moved(facts, "Ip.FragFails", "Ip6FragFails"),
        ],
        INFERRED,
        where="socket",
    )


def refused_bind(facts: Facts) -> Finding | None:
    """tx.source_not_local, as sockets that never got a port show it: behind silence, a warning.

    Programs that open a UDP socket for an ioctl leave the same behind.
    """
    if not facts.failing:
        return None
    return warning(
        "tx.source_not_local",
        "a program may keep failing to bind its source address",
        [f"{facts.failing} sockets ended without a port, nothing was sent"],
        "let it bind an address of this host: see 'ip addr'",
        "host",
    )


def idle(facts: Facts) -> Finding | None:
    """net.no_traffic: nothing is sent at all."""
    question = facts.question
    if facts.why_no_wire:
        return None
    sent = facts.probe.sent if facts.probe else None
    left = (
        [f"a datagram of --probe left by {one.iface} from {one.src}" for one in sent.left]
        if (sent)
        else []
    )
    return error(
        "net.no_traffic",
        f"this host sends nothing to {question.endpoint}",
        [f"capture: nothing left in {facts.watched_s:.1f} s, the kernel dropped nothing", *left],
        "is the sender running? 'mcastctl send' tells what the kernel says to the same send",
        "sender",
        PROVED if left else INFERRED,
    )
