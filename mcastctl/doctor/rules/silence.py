"""Nothing of the group came in, and nothing on this host explains it: what is left to look at."""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules.network import is_query
from mcastctl.doctor.rules.verdict import INFERRED, PROVED, error
from mcastctl.model.address import keeps_zone
from mcastctl.model.records import Finding

_LONG_S = 4.5  # the default watch, as measured


def silent(facts: Facts) -> Finding:
    """net.not_on_wire: nothing arrives, and nothing on this host explains it."""
    question = facts.question
    name = facts.name(question.ifindex) if question.ifindex else "any interface"
    protocol = "MLD" if question.family == 6 else "IGMP"
    asked = sum(count for one, count in facts.control.items() if is_query(facts, one))
    evidence = [f"capture: no datagram to {question.endpoint} on {name} in {facts.watched_s:.1f} s"]
    if facts.why_no_wire:
        evidence = [f"the wire could not be watched: {facts.why_no_wire}"]
    if facts.member_on(question.ifindex):
        evidence.append(f"{question.group} is joined on {name}")
    if asked:
        evidence.append(f"capture: {asked} {protocol} queries on {name}")
    elif not facts.why_no_wire:
        evidence.append(
            f"no {protocol} query was heard on {name} in {facts.watched_s:.0f} s, which alone says "
            "little: one is due every 125 s, and without any a switch forgets members after minutes"
        )
    acquitted = facts.probe is not None and facts.probe.acquits()
    joined = facts.probe.joined if facts.probe else None
    if joined is not None and joined.fresh and joined.came == 0:
        evidence.append(f"nothing came in {joined.waited_s} s after a throw-away join either")
    reports = facts.probe.reports if facts.probe else None
    if reports is not None and reports.left == 0:
        acquitted = False
        evidence.append(f"a throw-away join of {reports.group}: no report of it was seen leaving")
    if acquitted:
        evidence.append("datagrams like them, put into the receive path, pass all of this host")
    hint = "look at the sender, then at each switch and router on the way (--role sender, switch)"
    if beyond := _behind_router(facts):
        hint = beyond
    elif not asked and not facts.why_no_wire:
        hint += (
            "; is there a querier (-T 130s tells)? 'ip link set BRIDGE type bridge mcast_querier 1'"
        )
    return error(
        "net.not_on_wire",
        f"no datagram to {question.endpoint} reaches {name}: look at sender and network",
        evidence,
        hint,
        "network",
        PROVED if acquitted and _long(facts) else INFERRED,
    )


def _behind_router(facts: Facts) -> str:
    """Return what to do about a source that is no neighbour, '' where none is known."""
    far = [one for one in facts.question.sources if not keeps_zone(one) and not facts.on_link(one)]
    if not far or facts.local_source():
        return ""
    way = facts.reverse.gateway if facts.reverse and facts.reverse.source == far[0] else None
    return (
        f"{far[0]} is behind {way or 'a router'}: its TTL must exceed the hops (-t), and each "
        "router must forward the group ('mcastctl routes --forwarding', --role router there)"
    )


def _long(facts: Facts) -> bool:
    """Tell whether silence on the wire was more than a pause between two bursts."""
    return not facts.why_no_wire and facts.watched_s >= _LONG_S
