"""Datagrams like the missing ones in the receive path: put in, or sent to ourselves."""

from contextlib import ExitStack, closing
from ipaddress import ip_network

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.probe import frames
from mcastctl.doctor.probe.joining import bind
from mcastctl.doctor.probe.results import Injected, Joined
from mcastctl.doctor.probe.scene import PAYLOAD, SETTLE_S, Scene
from mcastctl.doctor.rules.packetfilter import Packet, may_match
from mcastctl.doctor.rules.traffic import describe
from mcastctl.host.ingress import Ingress
from mcastctl.model import refusal
from mcastctl.model.address import keeps_zone
from mcastctl.net import sockopts

_COUNT = 3


def ingress(scene: Scene, stack: ExitStack) -> Ingress | None:
    """Return the way into the interface, where the kernel has one and it leads nowhere else."""
    if scene.facts.local_source() or "loopback" in scene.link.flags:
        scene.missing.append("nothing is injected: the sender is this host itself")
        return None
    if way := scene.facts.why_no_rules or _way_out(scene.facts):
        scene.missing.append(f"nothing is injected, it could leave this host: {way}")
        return None
    inner = stack.enter_context(ExitStack())
    try:
        return Ingress(scene.link.ifindex, inner)
    except OSError as error:
        inner.close()
        why = refusal.cause(error.errno, error.strerror)
        scene.missing.append(f"nothing can be injected: {why}; root and Linux 6.6 can")
        return None


def _way_out(facts: Facts) -> str:
    """Return what on the way in may send frames out by another interface, '' for nothing."""
    index, name = facts.question.ifindex, facts.name(facts.question.ifindex)
    for one in facts.traffic.filters:
        moved = any(each.kind == "mirred" for each in one.actions)
        if (one.ifindex, one.direction) == (index, "ingress") and (moved or one.program):
            return describe(facts, one)
    foreign = [one for one in facts.programs if one.place == name]
    if program := next((one for one in foreign if one.hook in ("tcx ingress", "xdp")), None):
        return str(program)
    packet = Packet("", facts.question.group, "udp", facts.question.port, name)
    asking = "ff02::1" if facts.question.family == 6 else "224.0.0.1"
    control = packet._replace(dst=asking, protocol="", dport=0)
    for rule in facts.diverting:
        aside = not {"ingress", "prerouting", "input"}.intersection(rule.hooks)
        if not aside and (may_match(rule, packet) or may_match(rule, control)):
            return f"nft rule {rule.family} {rule.table} {rule.chain}: {rule.text}"
    return ""


def _source(facts: Facts) -> tuple[str, bool]:
    """Return the source to inject from, and whether it is the real one ('' for none)."""
    seen = sorted(facts.group_flows("in"), key=lambda one: -facts.flows[one])
    if seen or facts.question.sources:
        return seen[0].src if seen else facts.question.sources[0], True
    return _neighbour(facts), False


def _neighbour(facts: Facts) -> str:
    """Return an address that a neighbour on the interface could have, '' where there is none."""
    if facts.question.family == 6:
        return "fe80::6d63:6173:74ff"
    link = facts.links[facts.question.ifindex]
    for one in link.addresses:
        if ":" not in one.address and one.prefixlen <= 30:
            hosts = ip_network(f"{one.address}/{one.prefixlen}", strict=False).hosts()
            own = {each.address for each in link.addresses}
            return next(text for host in hosts if (text := str(host)) not in own)
    return ""


def inject(scene: Scene, ingress: Ingress) -> Injected | None:
    """Put datagrams like the missing ones in; return what became of them, None where untold."""
    source, real = _source(scene.facts)
    question = scene.facts.question
    if not source or (scene.facts.forwarding and not real):
        scene.missing.append("no datagram is injected: name the sender, SRC@GROUP")
        return None  # a router would make an entry for a source that is none
    if not scene.told_drops:
        return None
    scene.say(
        f"{_COUNT} datagrams {source}:{scene.port} -> {question.endpoint}, TTL 1, with a wrong "
        f"checksum, into the receive path of {scene.link.name}; nothing leaves this host"
    )
    frame = frames.datagram(source, scene.port, question.group, question.port, PAYLOAD)
    if not _put(scene, ingress, frame, _COUNT):
        return None
    scene.wait(SETTLE_S, lambda: sum(scene.drops(control=False).values()) >= _COUNT)
    drops = scene.drops(control=False)
    lost = _COUNT - sum(drops.values())
    if not drops:
        scene.did.append(f"{_COUNT} datagrams put into {scene.link.name} vanished untold")
        return None
    listed = ", ".join(f"{n} {one.reason} @ {one.function}" for one, n in drops.items())
    listed += f", {lost} vanished" if lost > 0 else ""
    scene.did.append(f"{_COUNT} datagrams from {source} put into {scene.link.name}: {listed}")
    return Injected(source, real, "ingress", _COUNT, drops)


def _put(scene: Scene, ingress: Ingress, frame: bytes, count: int) -> bool:
    try:
        for _ in range(count):
            ingress.put(frame)
    except OSError as error:
        why = refusal.cause(error.errno, error.strerror)
        scene.missing.append(f"nothing could be injected: {why}; is loopback up?")
        return False
    return True


def query(scene: Scene, ingress: Ingress) -> int | None:
    """Return how many of the injected queries the packet filter dropped."""
    source = _neighbour(scene.facts)
    heard = any(one.kind == "query" and one.iface == scene.link.name for one in scene.facts.control)
    if not source or not scene.told_drops or scene.over() or heard:
        return None  # where real ones were heard, what became of them was seen
    name = "MLD" if scene.facts.question.family == 6 else "IGMP"
    scene.say(
        f"{_COUNT} {name} queries with a wrong checksum into the receive path of {scene.link.name}"
    )
    if not _put(scene, ingress, frames.query(source), _COUNT):
        return None
    scene.wait(SETTLE_S, lambda: _here(scene, "") >= _COUNT)
    lost = _here(scene, "NETFILTER_DROP")
    scene.did.append(f"{_COUNT} {name} queries put into {scene.link.name}: {lost} filtered")
    return lost


def _here(scene: Scene, reason: str) -> int:
    """Return how many control messages were dropped on their way in, for a reason or any."""
    return sum(
        count
        for one, count in scene.drops(control=True).items()
        if one.ifindex == scene.link.ifindex and reason in ("", one.reason)
    )


def loop_back(scene: Scene, stack: ExitStack, joined: Joined) -> Injected | None:
    """Send to ourselves where nothing can be injected: TTL 0, which a member's host keeps."""
    question, own = scene.facts.question, scene.own_address()
    member = scene.facts.member_on(question.ifindex)
    closed = member.mode != "exclude" or own in member.sources if member else bool(joined.source)
    refused = joined.errno is not None or joined.bind_errno is not None
    if closed or not own or refused or _way_out(scene.facts):
        return None  # a filter would keep it out, and then it left the host
    ear = stack.enter_context(closing(sockopts.open_udp(question.family)))
    if bind(scene, ear) is not None:
        return None
    scene.say(
        f"a datagram {own}:{scene.port} -> {question.endpoint}, TTL 0, to programs of this host"
    )
    sock, version = scene.sending, question.family
    scope = scene.link.ifindex if keeps_zone(question.group) else 0
    where = (question.group, question.port, 0, scope)
    try:
        sockopts.join(ear, question.group, question.ifindex)
        scene.hear(ear)
        sockopts.set_egress(sock, version, question.ifindex)
        sockopts.set_ttl(sock, version, 0)
        sock.sendto(PAYLOAD, where if version == 6 else where[:2])
    except OSError as error:
        scene.did.append(f"a datagram to ourselves: {refusal.name(error.errno)}")
        return None
    scene.wait(SETTLE_S, lambda: bool(scene.looped()))
    scene.did.append(f"a datagram to ourselves on {scene.link.name}: heard {scene.looped()}")
    return Injected(own, False, "loop", 1, {}, scene.looped())
