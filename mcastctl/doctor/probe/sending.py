"""The active test of a sending host: one datagram to the group, TTL 1, by the interface asked."""

from contextlib import ExitStack

from mcastctl.doctor.probe.results import Probed, Sent
from mcastctl.doctor.probe.scene import PAYLOAD, Scene
from mcastctl.doctor.wire import Flow
from mcastctl.model import refusal
from mcastctl.model.address import keeps_zone
from mcastctl.net import sockopts

_LEAVE_S = 0.3


def probe(scene: Scene, stack: ExitStack) -> Probed:
    """Send, unless datagrams of the group leave anyway: then there is nothing to find out."""
    done = Probed(scene.link.name)
    if scene.facts.wire("out").get(scene.link.name):
        scene.missing.append("nothing was sent: datagrams of the group leave already")
        return done
    scene.trace(stack, ours=True)
    sent = _send(scene)
    return done._replace(sent=sent, verdicts=scene.verdicts())


def _send(scene: Scene) -> Sent:
    question, name = scene.facts.question, scene.link.name
    source = scene.source()
    scene.say(
        f"one datagram {source or 'from the address the kernel chooses'} -> {question.endpoint} "
        f"out of {name}, TTL 1"
    )
    version, scope = question.family, scene.link.ifindex
    sock, number = scene.sending, None
    where = (question.group, question.port, 0, scope if keeps_zone(question.group) else 0)
    try:
        sockopts.report_errors(sock, version)
        sockopts.set_ttl(sock, version, 1)
        sockopts.set_loop(sock, version, False)
        sockopts.set_egress(sock, version, scene.link.ifindex)
        sock.sendto(PAYLOAD, where if version == 6 else where[:2])
    except OSError as error:
        number = error.errno or 0
    scene.wait(_LEAVE_S, lambda: bool(_left(scene) or scene.drops(control=False)))
    left, drops = _left(scene), scene.drops(control=False)
    said = "the kernel took it" if number is None else f"refused: {refusal.name(number)}"
    said += "".join(f", left by {one.iface} from {one.src}" for one in left)
    said += "".join(f", {one.reason} @ {one.function}" for one in drops)
    scene.did.append(f"one datagram to {question.endpoint} out of {name}: {said}")
    return Sent(number, source, tuple(left), drops)


def _left(scene: Scene) -> list[Flow]:
    if scene.wire is None:
        return []
    return [one for one in scene.wire.flows if one.direction == "out" and one.sport == scene.port]
