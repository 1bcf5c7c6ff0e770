"""The way of a datagram through the receiving host, station by station, from facts. Pure."""

from typing import NamedTuple

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import delivery


class Station(NamedTuple):
    """A station: `passed` is None where it cannot be told; `said` holds its numbers."""

    name: str
    passed: bool | None
    said: str


_STAGES = (
    ("tc, netdev ingress", ("TC_INGRESS", "OTHERHOST")),
    ("IP header and source", ("IP_CSUM", "IP_INHDR", "IP_RPFILTER", "IP_INVALID_SOURCE")),
    ("packet filter", ("NETFILTER_DROP",)),
    ("UDP checksum", ("UDP_CSUM",)),
    ("receive buffer", ("SOCKET_RCVBUFF",)),
    ("socket filter, cgroup, IPsec", ("SOCKET_FILTER", "XFRM_POLICY")),
)
"""Stations with the drop reasons that stand for each, in the order of the path."""


def stations(facts: Facts) -> list[Station]:
    """Return the stations in order; what lies behind the first that fails is still judged."""
    question = facts.question
    name = facts.name(question.ifindex)
    link = facts.links.get(question.ifindex)
    flags = link.flags if link else frozenset()
    up = {"up", "carrier"} <= flags
    wire = facts.wire().get(name, 0)
    seen = None if facts.why_no_wire else wire > 0
    found = [
        Station(f"interface {name}", up, f"flags {', '.join(sorted(flags))}"),
        Station("wire", seen, facts.why_no_wire or f"{wire} datagrams to {question.endpoint}"),
    ]
    for stage, reasons in _STAGES:
        lost = _lost(facts, reasons)
        passed = None if facts.why_no_drops else not lost
        found.append(Station(stage, passed, facts.why_no_drops or f"{lost} dropped"))
    member = facts.member_on(question.ifindex)
    said = f"{member.mode} {{ {', '.join(member.sources)} }}" if member else "no member"
    said += "" if member is None or member.mode_certain else ", as far as the kernel tells"
    found.append(Station(f"membership of {name}", member is not None, said))
    takers = delivery.hearing(facts)
    who = ", ".join(facts.holders(one) for one in takers) or "no socket takes it"
    found.append(Station(f"socket on port {question.port}", bool(takers), who))
    return found


def _lost(facts: Facts, reasons: tuple[str, ...]) -> int:
    index = facts.question.ifindex
    return sum(
        count
        for one, count in facts.drops.items()
        if one.reason in reasons and not one.control and one.ifindex in (0, index)
    )
