"""From an endpoint to findings: the question completed, the facts collected, the rules asked."""

from mcastctl.doctor import collect, path, rules
from mcastctl.doctor.facts import Facts, Question
from mcastctl.doctor.path import Station
from mcastctl.doctor.probe import run as probe
from mcastctl.doctor.probe.scene import Say
from mcastctl.model.errors import InterfaceError
from mcastctl.model.records import Finding
from mcastctl.net import nic
from mcastctl.net.loop import Loop


def run(
    question: Question,
    watch_s: float,
    loop: Loop,
    say: Say | None = None,
    *,
    privileged: bool = True,
) -> tuple[list[Finding], list[Station]]:
    """Return the findings, the answer first, and for a receiver the stations of its path.

    With `say` active tests follow the watch; it is told what they send. Without `privileged` even
    root only looks at what anybody may see.
    """
    facts = placed(collect.collect(question, watch_s, loop, privileged=privileged))
    if say is not None and loop.stopped_by is None:
        facts = probe.probe(facts, loop, say, named=bool(question.ifindex))
    facts = raised(facts)
    walked = path.stations(facts) if question.role == "receiver" else []
    return rules.diagnose(facts), walked


def raised(facts: Facts) -> Facts:
    """Return the facts about the bridge or bond, where a port of it was named and it has joined.

    What comes in by such a port is the link's above it: programs hear nothing of the port itself.
    """
    question = facts.question
    port = facts.links.get(question.ifindex)
    above = facts.links.get(port.master or 0) if port else None
    if above is None or above.kind == "vrf" or question.role != "receiver":
        return facts
    if facts.member_on(question.ifindex) or not facts.member_on(above.ifindex):
        return facts
    question = question._replace(ifindex=above.ifindex, iface=above.name)
    return facts._replace(question=question)


def interface(text: str, *, elsewhere: bool) -> tuple[str, int]:
    """Return name and index of an interface; '' and 0 where it may be another host's."""
    try:
        found = nic.find(text)
    except InterfaceError:
        if not elsewhere:
            raise
        return "", 0
    return found.name, found.ifindex


def health(watch_s: float, loop: Loop) -> list[Finding]:
    """Return what may trouble multicast on this host, whatever the group."""
    question = Question(_ANY_GROUP, 1, role="host")
    return rules.health.diagnose(collect.collect(question, watch_s, loop))


_ANY_GROUP = "239.255.255.250"
"""An ordinary group, to ask the routing code about."""


def placed(facts: Facts) -> Facts:
    """Return the facts with the interface in question chosen, where none was named.

    Where datagrams of the question come in (a sender: where the route leads), else where the
    group is joined, else where the kernel would join it.
    """
    question = facts.question
    if question.ifindex or question.role in ("switch", "router", "host"):
        return facts
    seen = facts.wire("out") if question.role == "sender" else facts.arrivals()
    names = sorted(seen, key=lambda name: -seen[name])
    if question.role == "sender":
        names = [facts.route.iface] if facts.route and facts.route.iface else names
    joined = {one.ifindex for one in facts.members()}
    fitting = [name for name in names if facts.ifindex(name) in joined] or names
    index = facts.ifindex(fitting[0]) if fitting else next(iter(joined), 0)
    if not index and facts.route is not None:
        index = facts.route.ifindex or 0
    return facts._replace(question=question._replace(ifindex=index, iface=facts.name(index)))
