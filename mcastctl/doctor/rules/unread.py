"""Datagrams that came in and were not dropped, yet no program gets them: led away, or not read."""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import delivery, dropped, packetfilter, traffic
from mcastctl.doctor.rules.verdict import INFERRED, error
from mcastctl.host.firewall import Rule
from mcastctl.model.records import Finding

_ENOUGH = 3


def forwarded(facts: Facts) -> Finding | None:
    """host.firewall_ingress without a drop: a netdev rule sends the datagrams to another device."""
    rules = [one for one in facts.diverting if one.verdict == "fwd" and "ingress" in one.hooks]
    rule = next((one for one in rules if dropped.possible(facts, one)), None)
    if rule is None or facts.why_no_wire or not traffic.uncounted(facts):
        return None
    name = facts.name(facts.question.ifindex)
    return error(
        "host.firewall_ingress",
        f"the packet filter sends the group away in INGRESS of {name}",
        [packetfilter.describe(facts, rule), "IP has counted none of them"],
        dropped.accepting(facts, rule),
        "host",
    )


def rewritten(facts: Facts) -> Finding | None:
    """host.firewall_prerouting without a drop: NAT gives the datagrams another port or address."""
    if facts.why_no_wire or facts.arrived_here() < _ENOUGH or facts.delivered():
        return None
    rules = [one for one in facts.rewriting if "prerouting" in one.hooks]
    rule: Rule | None = next((one for one in rules if dropped.possible(facts, one)), None)
    if rule is None:
        return None
    return error(
        "host.firewall_prerouting",
        "a NAT rule in PREROUTING rewrites the group's datagrams: nobody waits for what becomes "
        "of them",
        [
            packetfilter.describe(facts, rule),
            f"capture: {facts.arrived_here()} datagrams came in, UDP gave none to any program",
        ],
        f"{dropped.accepting(facts, rule)}; flows that are known keep their translation until "
        "they pause",
        "host",
        INFERRED,
    )


def piling_up(facts: Facts) -> Finding | None:
    """rx.app_not_reading before the queue is full: it only grows, and nobody reads anything."""
    if facts.delivered():
        return None
    for one in delivery.hearing(facts):
        samples = facts.queues.get(one.bound.inode, ())
        grows = len(samples) >= _ENOUGH and list(samples) == sorted(samples)
        if one not in facts.ours() or not grows or samples[-1] <= samples[0]:
            continue
        return error(
            "rx.app_not_reading",
            f"{facts.holders(one)} does not read its socket: the receive queue only grows",
            [
                f"receive queue, sampled: {', '.join(map(str, samples[-8:]))} bytes",
                "UDP gave no datagram to any program meanwhile",
            ],
            f"look at the process: cat /proc/{delivery.pid(one)}/wchan; fix or restart it",
            "socket",
        )
    return None
