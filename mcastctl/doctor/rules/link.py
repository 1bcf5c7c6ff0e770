"""Causes in the interface itself: down, without carrier, without IPv6, XDP, macvlan."""

import errno

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules.verdict import INFERRED, PROVED, error, moved, refused
from mcastctl.model.records import Finding
from mcastctl.model.shell import setting, word

_ENOUGH = 12
"""Frames that must be missing: a few come while the counters are read."""


def down(facts: Facts) -> Finding | None:
    """if.down, for a sender tx.interface_down: the interface is administratively down."""
    link = facts.links.get(facts.question.ifindex)
    if link is None and facts.links and facts.question.ifindex:
        return _gone(facts)
    if link is None or "up" in link.flags:
        return None
    said = [f"link {link.name}: flag UP is not set"]
    if facts.question.role == "sender":
        title = f"{link.name} is administratively down"  # most sends say ENETUNREACH then
        return refused(errno.ENETDOWN, facts, said)._replace(title=title)
    return error(
        "if.down",
        f"{link.name} is administratively down",
        said,
        f"ip link set {word(link.name)} up (routes over it are gone and must be added again)",
        "host",
    )


def _gone(facts: Facts) -> Finding:
    question = facts.question
    return error(
        "tx.interface_down" if question.role == "sender" else "if.down",
        f"{question.iface} is gone: deleted, or moved to another namespace",
        [f"rtnetlink: no link has index {question.ifindex} any more"],
        f"its memberships ended with it: make {question.iface} again, then join again",
        "host",
    )


def no_carrier(facts: Facts) -> Finding | None:
    """if.no_carrier: up, but nothing at the other end."""
    link = facts.links.get(facts.question.ifindex)
    if link is None or "up" not in link.flags or "carrier" in link.flags:
        return None
    return error(
        "if.no_carrier",
        f"{link.name} has no carrier",
        [f"link {link.name}: flag LOWER_UP is not set"],
        "look at the cable, the peer and the switch port",
        "network",
    )


def ipv6_disabled(facts: Facts) -> Finding | None:
    """host.ipv6_disabled, for a sender tx.ipv6_disabled: the interface does without IPv6."""
    question = facts.question
    settings = facts.knobs.get(question.ifindex)
    if question.family == 4 or settings is None or not settings.ipv6_disabled:
        return None
    name = facts.name(question.ifindex)
    return error(
        "tx.ipv6_disabled" if question.role == "sender" else "host.ipv6_disabled",
        f"IPv6 is disabled on {name}",
        [f"net.ipv6.conf.{name}.disable_ipv6 = 1", *moved(facts, "Ip6InDiscards")],
        f"sysctl {setting(6, name, 'disable_ipv6', 0)}, then add its addresses again",
        "host",
    )


def xdp(facts: Facts) -> Finding | None:
    """host.xdp_drop: a program at the driver takes frames before anything else sees them."""
    index = facts.question.ifindex
    name = facts.name(index)
    dropped = sum(count for one, count in facts.drops.items() if "xdp" in one.function)
    attached = index in facts.details and facts.details[index].xdp
    if not dropped and (not attached or facts.arrivals().get(name)):
        return None
    counters = moved(facts, f"dev.{name}.rx_packets")
    if not dropped and _untapped(facts) < _ENOUGH:
        return None
    evidence = [f"link {name}: an XDP program is attached (IFLA_XDP)"] if attached else []
    evidence += [str(one) for one in facts.programs if (one.hook, one.place) == ("xdp", name)]
    if dropped:
        evidence.append(f"kernel dropped {dropped} datagrams of the group in XDP")
    return error(
        "host.xdp_drop",
        f"an XDP program on {name} drops the group",
        [*evidence, *counters, "none of them reached the capture"],
        f"let the program pass the group: 'bpftool net show dev {word(name)}' tells whose it is; "
        f"without what it is for, also: ip link set dev {word(name)} xdp off",
        "host",
        PROVED if dropped else INFERRED,
    )


def _untapped(facts: Facts) -> int:
    """Return how many frames vanished before the capture; those that GRO merged did not."""
    marks = ("NoECTPkts", "ECT0Pkts", "ECT1Pkts", "CEPkts")  # these count what was merged
    four = sum(facts.moved(f"IpExt.In{one}") for one in marks) - facts.moved("Ip.InReceives")
    six = sum(facts.moved(f"Ip6In{one}") for one in marks) - facts.moved("Ip6InReceives")
    return (facts.untapped or 0) - max(four, 0) - max(six, 0)


def vanished(facts: Facts, name: str) -> int:
    """Return how many frames an interface counted that no IP layer did, those of others aside."""
    foreign = facts.moved(f"dev.{name}.rx_otherhost_dropped")
    frames = facts.moved(f"dev.{name}.rx_packets") - foreign
    return frames - facts.moved("Ip.InReceives") - facts.moved("Ip6InReceives")


def macvlan(facts: Facts) -> Finding | None:
    """net.macvlan_private: macvlan siblings that never see each other."""
    details = facts.details.get(facts.question.ifindex)
    if details is None or details.mode not in ("private", "vepa"):
        return None
    name = facts.name(facts.question.ifindex)
    return error(
        "net.macvlan_private",
        f"{name} is a macvlan of mode {details.mode}: it does not hear its siblings",
        [f"link {name}: macvlan mode {details.mode}", "nothing of the group arrived"],
        f"ip link set {word(name)} type macvlan mode bridge (on every sibling); the host itself "
        "needs a macvlan of its own",
        "network",
        INFERRED,
    )
