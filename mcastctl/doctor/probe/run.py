"""Facts to facts with what active tests add: `doctor --probe`, and only then."""

from collections import Counter
from contextlib import ExitStack

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.probe import receiving, sending
from mcastctl.doctor.probe.results import Probed
from mcastctl.doctor.probe.scene import Say, Scene
from mcastctl.model.errors import SocketError
from mcastctl.net.loop import Loop

ROLES = {"receiver": receiving.probe, "sender": sending.probe}
"""The roles that have active tests."""


def probe(facts: Facts, loop: Loop, say: Say, *, named: bool) -> Facts:
    """Return the facts with the results; `say` is told what is sent, before it is.

    `named` tells that somebody chose the interface. Nothing is sent by any other one, and nothing
    stays: every socket, table and program ends with its descriptor.
    """
    question = facts.question
    link = facts.links.get(question.ifindex)
    if link is None or "up" not in link.flags:
        why = f"{link.name} is down" if link else "no interface is in question: name one with -i"
        return facts._replace(probe=Probed(link.name if link else "", missing=(why,)))
    above = facts.links.get(link.master or 0)
    if link.master and (above is None or above.kind != "vrf"):
        # What is sent there leaves by the cable, whatever the bridge or bond would do with it.
        whose = above.name if above else f"index {link.master}"
        why = f"nothing is sent: {link.name} is a port of {whose}; name that one with -i"
        return facts._replace(probe=Probed(link.name, missing=(why,)))
    if not named:
        say(f"by {link.name}: no -i names another interface, and the group or its route is there")
    scene = Scene(facts, link, say, loop)
    done = Probed(link.name)
    try:
        with ExitStack() as stack:
            scene.open(stack)
            done = ROLES[question.role](scene, stack)
    except SocketError as error:  # the interface went away, or the family is switched off
        scene.missing.append(error.message)
    if done.joined is not None and not done.joined.fresh and done.crafted is None:
        # What came needed none of this: the watch was too short for it.
        facts = facts._replace(flows=Counter(facts.flows) + Counter(scene.theirs()))
    return facts._replace(probe=done._replace(did=tuple(scene.did), missing=tuple(scene.missing)))
