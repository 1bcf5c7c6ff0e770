"""What counters say was lost between two rungs of the way to a socket, whoever asks.

They are of the whole network namespace: what they count may be of any group.
"""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import delivery

ENOUGH = 3
"""Datagrams of which a rung must have counted more than its neighbour."""
STREAM_PER_S = 5


def uncounted(facts: Facts) -> int:
    """Return how many packets IP took in, did not count as multicast and did not deliver.

    IPv4: of groups not joined where they arrive, or dropped in PREROUTING; IPv6: only the latter.
    """
    six = facts.question.family == 6
    head = "Ip6" if six else "Ip."
    forwarded = "OutForwDatagrams" if six else "ForwDatagrams"
    explained = ("InHdrErrors", "InAddrErrors", "InNoRoutes", "ReasmReqds", forwarded)
    known = sum(facts.moved(f"{head}{name}") for name in explained)
    known += 0 if six else facts.moved("TcpExt.IPReversePathFilter")
    multicast = facts.moved("Ip6InMcastPkts" if six else "IpExt.InMcastPkts")
    reached = max(multicast, facts.moved(f"{head}InDelivers"))
    return facts.moved(f"{head}InReceives") - reached - known


def undelivered(facts: Facts) -> int:
    """Return how many packets were counted as multicast and not delivered to UDP."""
    six = facts.question.family == 6
    head = "Ip6" if six else "Ip."
    multicast = facts.moved("Ip6InMcastPkts" if six else "IpExt.InMcastPkts")
    discards = facts.moved("Ip6InDiscards") if six else 0
    waiting = facts.moved(f"{head}ReasmReqds")
    return multicast - facts.moved(f"{head}InDelivers") - waiting - discards


def idle(facts: Facts) -> bool:
    """Tell whether UDP delivered nothing to any program."""
    return not facts.delivered()


def arrives(facts: Facts) -> bool:
    """Tell whether UDP delivered more than chance to programs."""
    return facts.delivered() >= ENOUGH


def served(facts: Facts) -> bool:
    """Tell whether the sockets in question may well get all that arrives.

    The counters are of the whole network namespace: while programs read as much as came in, what
    was refused besides may be of any other group.
    """
    if not facts.member_on(facts.question.ifindex) or not delivery.hearing(facts):
        return False
    read = facts.moved("Udp6InDatagrams" if facts.question.family == 6 else "Udp.InDatagrams")
    arrived = 0 if facts.why_no_wire else facts.arrived_here()
    return read >= max(ENOUGH, arrived * 0.8)


def mostly(facts: Facts, lost: int) -> bool:
    """Tell whether what was lost can have come in by the interface in question."""
    return facts.moved(f"dev.{facts.name(facts.question.ifindex)}.rx_packets") >= lost * 0.8


def steady(facts: Facts, lost: int) -> bool:
    """Tell whether what an idle host lost is most of what came in, and a stream, no chatter."""
    own = facts.moved(f"dev.{facts.name(facts.question.ifindex)}.rx_packets")
    least = max(4 * ENOUGH, STREAM_PER_S * facts.watched_s)
    return idle(facts) and lost >= least and own * 0.5 <= lost <= own * 1.25


def lost_early(facts: Facts) -> bool:
    """Tell whether packets of the interface vanish between IP's first count and its routing."""
    lost = uncounted(facts)
    return lost >= 2 * ENOUGH and idle(facts) and mostly(facts, lost)
