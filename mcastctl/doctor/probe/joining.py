"""A join for a moment, and a report made by hand: does a report leave, does the group come?"""

import errno
from contextlib import ExitStack, closing, suppress

from mcastctl.capture import packet
from mcastctl.doctor.facts import Facts
from mcastctl.doctor.probe import frames
from mcastctl.doctor.probe.results import Crafted, Joined, Probed, Reports
from mcastctl.doctor.probe.scene import SETTLE_S, Scene
from mcastctl.model import refusal
from mcastctl.model.address import is_ssm, keeps_zone
from mcastctl.model.errors import SocketError
from mcastctl.net import sockopts

_REPORT_S, _TRAFFIC_S, _CRAFTED_S = 0.25, 0.8, 0.4
_TEST_GROUPS = {4: "233.252.0.124", 6: "ff12::8000:7c"}
"""Joined to see reports leave where the group itself is joined already (RFC 5771 section 9.2)."""


def join(scene: Scene, stack: ExitStack, done: Probed) -> Probed:
    """Join the group as the endpoint says, and see what comes of it."""
    question, name = scene.facts.question, scene.link.name
    fresh = scene.facts.member_on(question.ifindex) is None
    source = next(iter(question.sources), "") if _may_name(scene.facts) else ""
    wanted = f"{source}@{question.group}" if source else question.group
    own = scene.reporter()
    member = scene.facts.member_on(question.ifindex)
    wider = member is None or (member.mode == "include" and source not in member.sources)
    reported = "the kernel reports it" if wider else "it is joined already: no new report"
    scene.say(f"a join of {wanted} on {name} for a moment ({reported}, from {own}, TTL 1)")
    sock = stack.enter_context(closing(sockopts.open_udp(question.family)))
    joined = Joined(fresh, source, bind_errno=bind(scene, sock))
    before = scene.came()
    try:
        sockopts.join(sock, question.group, question.ifindex, source or None)
    except OSError as error:
        scene.did.append(f"a join of {wanted} on {name}: {refusal.name(error.errno)}")
        return done._replace(joined=joined._replace(errno=error.errno or 0))
    heard = scene.hear(sock)
    reports = _reports(scene, question.group) if fresh else None
    bound = joined.bind_errno is None
    patience_s = _TRAFFIC_S if fresh or scene.wire is None else SETTLE_S
    scene.wait(patience_s, lambda: bool(heard["theirs"]) if bound else scene.came() > before + 1)
    came = None if scene.wire is None else scene.came() - before
    joined = joined._replace(
        waited_s=patience_s, heard=heard["theirs"] if bound else None, came=came
    )
    told = "wire not seen" if came is None else f"{came} datagrams came by the wire"
    told += f", a socket of ours heard {joined.heard}" if bound else ", the port is taken"
    scene.did.append(f"joined {wanted} on {name} and left: {told}")
    return done._replace(joined=joined, reports=reports)


def _may_name(facts: Facts) -> bool:
    """Tell whether a join can name its source: not where an older IGMP is in force."""
    settings = facts.knobs.get(facts.question.ifindex)
    version = settings.igmp if settings and facts.question.family == 4 else None
    return version in (None, 3)


def bind(scene: Scene, sock: sockopts.Socket) -> int | None:
    """Bind to the group and port beside others; return the errno where that is refused."""
    question = scene.facts.question
    scope = scene.link.ifindex if keeps_zone(question.group) else 0
    where = (question.group, question.port, 0, scope)
    sockopts.share_port(sock)
    sockopts.hear_only_own_groups(sock, question.family)
    sockopts.set_receive_buffer(sock, sockopts.DEFAULT_BUFFER)
    if question.family == 6:
        sockopts.hear_only_interface(sock, question.ifindex)
    try:
        sock.bind(where if question.family == 6 else where[:2])
    except OSError as error:
        return error.errno or errno.EADDRINUSE
    return None


def _reports(scene: Scene, group: str) -> Reports | None:
    """Wait until a report for the group left or was dropped."""
    if "loopback" in scene.link.flags or (scene.wire is None and not scene.told_drops):
        return None
    before = _kept_in(scene)
    scene.wait(_REPORT_S, lambda: bool(scene.reported(group)) or _kept_in(scene) > before)
    left = None if scene.wire is None else scene.reported(group)
    dropped = _kept_in(scene) - before if scene.told_drops else None
    told = "leaving is not seen" if left is None else f"{left} seen leaving"
    told += "" if dropped is None else f", {dropped} dropped"
    scene.did.append(f"reports of {group}: {told}")
    return Reports(group, left, dropped)


def _kept_in(scene: Scene) -> int:
    """Return how many control messages were dropped on their way out."""
    drops = scene.drops(control=True)
    return sum(
        count for one, count in drops.items() if one.ifindex == 0 and one.reason == "NETFILTER_DROP"
    )


def report_other(scene: Scene, stack: ExitStack) -> Reports | None:
    """Join a group for tests, to see whether reports leave."""
    question = scene.facts.question
    group = _TEST_GROUPS[question.family]
    own = scene.reporter()
    if scene.facts.members(group) or "loopback" in scene.link.flags:
        return None
    scene.say(f"a join of {group} on {scene.link.name}, to see a report leave from {own}, TTL 1")
    sock = stack.enter_context(closing(sockopts.open_udp(question.family)))
    try:
        sockopts.join(sock, group, question.ifindex)
    except OSError:
        return None
    return _reports(scene, group)


def craft(scene: Scene, stack: ExitStack) -> Crafted | None:
    """Report the membership by hand, past the packet filter, where the host itself has one."""
    facts = scene.facts
    question = facts.question
    member = facts.member_on(question.ifindex)
    source = scene.own_address(near=True)
    if member is None or not scene.ethernet or not source:
        return None
    version = int((member.protocol or "")[-1:] or (2 if question.family == 6 else 3))
    sources: tuple[str, ...] = member.sources if member.mode == "include" else ()
    if is_ssm(question.group) and not sources:
        sources = question.sources
    mode = frames.INCLUDE if sources else frames.EXCLUDE
    said = f"{'MLD' if question.family == 6 else 'IGMP'}v{version} report of "
    said += f"{','.join(sources) + '@' if sources else ''}{question.group}"
    # Of sources that nobody joined: the host itself would never take it back.
    back = mode == frames.INCLUDE and member.mode != "include" and version >= (3 - (":" in source))
    after = ", and one that takes it back (BLOCK_OLD_SOURCES)" if back else ""
    scene.say(f"one {said}, made by hand, from {source} out of {scene.link.name}, TTL 1{after}")
    try:
        sock = stack.enter_context(closing(packet.open_socket(every=False)))
        sock.bind((scene.link.name, 0))
        mac = sock.getsockname()[4]
        frame = frames.report(source, question.group, version, mode, sources, mac)
        before = scene.came()
        if back:
            undo = frames.report(source, question.group, version, frames.BLOCK, sources, mac)
            stack.callback(_send, sock, undo)
        sock.send(frame)
    except (OSError, SocketError) as error:
        scene.missing.append(f"no report could be made by hand: {error}")
        return None
    scene.wait(_CRAFTED_S, lambda: scene.came() > before + 1)
    came = scene.came() - before
    scene.did.append(f"one {said} out of {scene.link.name}: {came} datagrams came after it{after}")
    return Crafted(said, came)


def _send(sock: packet.Socket, frame: bytes) -> None:
    with suppress(OSError):  # the interface is gone, and with it who would be told
        sock.send(frame)
