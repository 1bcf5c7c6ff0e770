"""Traffic control and BPF programs as evidence and as a cause: who took the datagrams, by name."""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules.verdict import INFERRED, PROVED, error, moved
from mcastctl.host.trafficcontrol import Action, Filter
from mcastctl.model.records import Finding
from mcastctl.model.shell import word

_SHARE, _MOST, _ENOUGH = 0.5, 0.8, 3
"""Of the datagrams on the wire, how many a filter must have seen to be theirs."""


def describe(facts: Facts, one: Filter) -> str:
    """Return a filter as evidence."""
    words = [f"{each.kind} {each.verdict}" for each in one.actions]
    words = [_named(facts, word) for word in words]
    program = f" {one.program}" if one.program else ""
    seen = _grown(facts, one)
    count = f" (saw {seen} packets meanwhile)" if seen else ""
    place = f"tc filter {facts.name(one.ifindex)} {one.direction} pref {one.preference}"
    return f"{place}: {one.kind}{program} {', '.join(words)}".rstrip() + count


def _named(facts: Facts, words: str) -> str:
    head, found, index = words.rpartition(" index ")
    return f"{head} {facts.name(int(index))}" if found and index.isdecimal() else words


def _grown(facts: Facts, one: Filter) -> int:
    before = next((each for each in facts.traffic_before.filters if each.key == one.key), None)
    return one.packets - (before.packets if before else 0)


def suspects(facts: Facts, direction: str) -> list[Filter]:
    """Return the filters of the interface in question that may take a packet, the busiest first."""
    found = [
        one
        for one in facts.traffic.filters
        if one.ifindex == facts.question.ifindex
        and one.direction == direction
        and (one.program or any(each.takes for each in one.actions))
    ]
    return sorted(found, key=lambda one: -_grown(facts, one))


def culprits(facts: Facts, direction: str) -> list[str]:
    """Return, as evidence, what may have dropped packets at tc of the interface in question."""
    name = facts.name(facts.question.ifindex)
    hook = f"tcx {direction}"
    found = [str(one) for one in facts.programs if (one.hook, one.place) == (hook, name)]
    return [*found, *(describe(facts, one) for one in suspects(facts, direction)[:3])]


def remedy(facts: Facts, direction: str) -> str:
    """Return how to look at what sits at tc: others may need it, even of the same preference."""
    name = word(facts.name(facts.question.ifindex))
    filters = suspects(facts, direction)
    show = f"tc filter show dev {name} {direction}; 'bpftool net' lists tcx programs, tc does not"
    if not filters:
        return show
    one = filters[0]
    return f"exempt the group before pref {one.preference}: see {show}"


def programs_of(facts: Facts, hook: str) -> list[str]:
    """Return the programs at a hook as evidence."""
    return [str(one) for one in facts.programs if one.hook == hook]


def redirected(facts: Facts) -> Finding | None:
    """host.tc_drop without a drop: a filter on ingress sends the datagrams somewhere else.

    What it matches is not told, only how much: it is theirs where IP has not counted them either.
    """
    name = facts.name(facts.question.ifindex)
    wire = facts.wire().get(name, 0)
    said = [f"capture: {wire} datagrams came in by {name} before it"]
    if facts.why_no_wire:
        wire = facts.moved(f"dev.{name}.rx_packets")
        said = moved(facts, f"dev.{name}.rx_packets")
    if not uncounted(facts):
        return None
    for one in suspects(facts, "ingress"):
        elsewhere = any(_leads_away(facts, each) for each in one.actions)
        share = _MOST if facts.why_no_wire else _SHARE
        if elsewhere and _grown(facts, one) >= max(wire * share, _ENOUGH):
            return error(
                "host.tc_drop",
                f"a traffic control filter on {name} redirects what comes in",
                [describe(facts, one), *said],
                remedy(facts, "ingress"),
                "host",
                INFERRED if facts.why_no_wire else PROVED,
            )
    return None


def uncounted(facts: Facts) -> bool:
    """Tell whether what came in by the interface in question is missing where IP counts."""
    name = facts.name(facts.question.ifindex)
    counted = facts.moved("Ip6InReceives" if facts.question.family == 6 else "Ip.InReceives")
    least = facts.wire().get(name, 0) * _SHARE
    if facts.why_no_wire:
        counted -= _elsewhere(facts, name)
        least = facts.moved(f"dev.{name}.rx_packets") * (1 - _MOST)
    return counted < max(least, _ENOUGH) or _gone(facts, counted)


def _elsewhere(facts: Facts, name: str) -> int:
    """Return how many frames came in by all other interfaces."""
    own = f"dev.{name}.rx_packets"
    return sum(
        facts.moved(key) for key in facts.after if key.endswith(".rx_packets") and key != own
    )


def _leads_away(facts: Facts, one: Action) -> bool:
    """Tell whether an action redirects for good: an ifb device gives back what it shaped."""
    head, _, index = one.verdict.rpartition(" index ")
    if not head.startswith("redirect"):
        return False
    target = facts.links.get(int(index)) if index.isdecimal() else None
    return target is None or target.kind != "ifb"


def _gone(facts: Facts, counted: int) -> bool:
    """Tell whether IP missed the group although other packets came: nothing else can be missing."""
    name = facts.name(facts.question.ifindex)
    six = facts.question.family == 6
    seen = {
        one: count
        for one, count in facts.flows.items()
        if one.direction == "in" and (":" in one.dst) == six
    }
    group = facts.wire().get(name, 0)
    # The group elsewhere may well be what the filter sent there, to another end of this host.
    others = [count for one, count in seen.items() if one.dst != facts.question.group]
    lost = sum(seen.values()) - counted
    alike = any(count >= group * _SHARE for count in others)
    return bool(group) and not alike and lost >= group * _SHARE


def queue_losses(facts: Facts) -> list[str]:
    """Return what the queueing disciplines of the interface in question lost meanwhile."""
    before = {one.key: one for one in facts.traffic_before.qdiscs}
    found = []
    for one in facts.traffic.qdiscs:
        old = before.get(one.key)
        if one.ifindex != facts.question.ifindex or old is None:
            continue
        counts = {
            "drops": one.drops - old.drops,
            "overlimits": one.overlimits - old.overlimits,
            "requeues": one.requeues - old.requeues,
        }
        moved = ", ".join(f"{name} +{count}" for name, count in counts.items() if count)
        if moved:
            found.append(f"qdisc {one.kind} {one.handle} {one.parent}: {moved}")
    return found


def queue_drops(facts: Facts) -> int:
    """Return how many packets the qdiscs of the way out dropped meanwhile, ingress left out."""
    before = {one.key: one.drops for one in facts.traffic_before.qdiscs}
    return sum(
        one.drops - before.get(one.key, one.drops)
        for one in facts.traffic.qdiscs
        if one.ifindex == facts.question.ifindex and one.kind not in ("ingress", "clsact")
    )
