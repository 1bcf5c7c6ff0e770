"""The facts of a host: looked at before, watched for a while, looked at again. Changes nothing."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from mcastctl.capture.glance import Glance
from mcastctl.doctor.facts import Answers, Facts, Knobs, Question
from mcastctl.doctor.tally import Tally
from mcastctl.doctor.wire import Wire
from mcastctl.host import (
    applications,
    bridges,
    counters,
    drops,
    elsewhere,
    firewall,
    forwarding,
    knobs,
    linkdetails,
    memberships,
    netlink,
    owners,
    procnet,
    programs,
    routes,
    sockets,
    trafficcontrol,
)
from mcastctl.host.failing import Failing
from mcastctl.host.sockets import BoundSocket
from mcastctl.model.address import keeps_zone
from mcastctl.model.errors import SocketError, ValueRangeError
from mcastctl.model.forwarding import Bridge, DatabaseEntry, ForwardingEntry, ForwardingInterface
from mcastctl.model.membership import GroupMembership
from mcastctl.net.loop import Loop

_LIMITS = ("ipv4/igmp_max_memberships", "ipv4/igmp_max_msf", "ipv6/mld_max_msf")
_SAMPLE_NS = 200_000_000
_MOST_FRAMES = 2000
_MOST_DECODED = 60_000
"""Frames looked at in all: enough for any verdict, and bounded in time."""
_ORDINARY = "not looked at: only what anybody may see was asked for"


class _Look(NamedTuple):
    """What is compared with itself later."""

    counters: dict[str, int]
    rules: firewall.Ruleset
    entries: tuple[ForwardingEntry, ...]
    forwarded: int
    drops: dict[int, int]
    traffic: trafficcontrol.Control


def collect(question: Question, watch_s: float, loop: Loop, *, privileged: bool = True) -> Facts:
    """Return the facts after watching for `watch_s` seconds, less if the loop is stopped.

    Without `privileged` even root only looks at what anybody may see. Raises on systems whose
    kernels tell none of this, and without /proc.
    """
    if sys.platform != "linux":
        raise elsewhere.refuse("diagnose")
    procnet.require()
    if question.pid is not None:
        _present(question.pid)
    read_rules = firewall.read if privileged else _no_rules
    first = _look(read_rules())
    watched = _watch(question, watch_s, loop, privileged=privileged)
    again = first.rules if first.rules.why_not else read_rules()  # once is enough to learn why not
    last = _look(again)
    joined = _joined(question)
    facts = Facts(
        question,
        **watched,
        before=first.counters,
        after=last.counters,
        dropping=last.rules.dropping,
        rewriting=last.rules.rewriting,
        diverting=last.rules.diverting,
        moved_rules=_moved(first.rules, last.rules),
        why_no_rules=last.rules.why_not,
        entries=last.entries,
        entries_before=first.entries,
        forwarded_before=first.forwarded,
        drops_before=first.drops,
        traffic=last.traffic,
        traffic_before=first.traffic,
        memberships=joined,
        hidden_uid=_hidden_uid(question.pid),
        limits={key: value for key in _LIMITS if (value := knobs.limit(key)) is not None},
        bridge_netfilter=_bridge_netfilter(),
    )
    facts = _with_bridges(_with_routes(facts))
    facts = facts._replace(applications=_applications(facts))
    return facts._replace(programs=_programs(facts)) if privileged else facts


def _present(pid: int) -> None:
    """Raise ValueRangeError where there is no such process, or none that this user may see."""
    try:
        os.kill(pid, 0)  # no signal at all: kill(2)
    except PermissionError:
        return
    except OSError as error:
        raise ValueRangeError(
            f"cannot look at process {pid}: {(error.strerror or 'refused').lower()}",
            hint="name a running one: 'ps -e'",
        ) from None


def _hidden_uid(pid: int | None) -> int | None:
    """Return whose a process is that does not let us list its descriptors, else None."""
    if pid is None:
        return None
    folder = Path(f"/proc/{pid}")
    try:
        with os.scandir(folder / "fd"):
            return None
    except PermissionError:
        with suppress(OSError, ValueError, StopIteration):
            lines = (folder / "status").read_text(errors="replace").splitlines()
            words = next(line for line in lines if line.startswith("Uid:")).split()
            return int(words[-1])  # the one that sockets are made with: fsuid, proc(5)
    except OSError:
        pass
    return None


def _no_rules() -> firewall.Ruleset:
    return firewall.Ruleset((), (), _ORDINARY)


def _look(rules: firewall.Ruleset) -> _Look:
    dropped = {inode: one.drops for inode, one in sockets.bound().items()}
    routed: list[forwarding.Forwarded] = []
    with suppress(OSError):
        routed = forwarding.read()
    found = tuple(one for one in routed if isinstance(one, ForwardingEntry))
    sent = sum(one.packets_out for one in routed if isinstance(one, ForwardingInterface))
    counted = counters.read() | linkdetails.foreign()
    return _Look(counted, rules, found, sent, dropped, trafficcontrol.read())


def _watch(question: Question, watch_s: float, loop: Loop, *, privileged: bool) -> dict[str, Any]:
    """Watch the wire, the drops and the queues; return these facts."""
    wire = Wire()
    told: dict[str, Any] = {}
    samples = _Samples({}, {})
    version = question.family
    with ExitStack() as stack:
        failing = stack.enter_context(Failing())
        watch = drops.Watch()
        of_source = watch
        watch.why_not = told["why_no_wire"] = _ORDINARY
        glance = None
        if privileged:
            watch, of_source = _drops(question, stack)
            try:
                glance = stack.enter_context(Glance())
                loop.watch(glance.fileno())
                told["why_no_wire"] = ""
            except SocketError as error:
                told["why_no_wire"] = error.message
        tally = _tally(question, stack) if glance is not None else None
        start = time.monotonic_ns()  # to open all that may take longer than the watch itself
        deadline = start + int(watch_s * 1e9)
        sample = decoded = 0
        while loop.stopped_by is None and (now := time.monotonic_ns()) < deadline:
            loop.wait(min(deadline, sample))
            if glance is not None and decoded < _MOST_DECODED:
                for frame in glance.frames(_MOST_FRAMES):
                    decoded += 1
                    wire.take(frame.iface, frame.cast, frame.hatype, frame.data)
            elif glance is not None:
                loop.unwatch(glance.fileno())
                glance = None
            if now >= sample:
                sample = now + _SAMPLE_NS
                samples.take(question, wire if glance is not None else None)  # at once: it compares
                failing.poll()
                watch.poll()
                of_source.poll()
        if glance is not None:
            loop.unwatch(glance.fileno())
        told["untapped"] = tally.missing() if tally is not None else None
        watch.poll()
        of_source.poll()
        failing.poll()
        told["drops_method"] = watch.method
        told["why_no_drops"] = "" if watch.method else watch.why_not
    wire.settle()
    # Where the source in question is not heard at all, it may come under another address.
    seen = {one.src for one in wire.flows if one.direction == "in" and one.dst == question.group}
    heard = of_source.method == "bpf" and not seen.isdisjoint(question.sources)
    told["drops"] = dict(of_source.drops if heard else watch.drops)
    return told | {
        "flows": wire.flows,
        "control": wire.control,
        "copies": wire.copies,
        "queues": {inode: tuple(one) for inode, one in samples.queues.items()},
        "kept": {inode: one[-1] - one[0] for inode, one in samples.kept.items()},
        "failing": failing.count[version],
        "watched_s": (time.monotonic_ns() - start) / 1e9,
    }


def _drops(question: Question, stack: ExitStack) -> tuple[drops.Watch, drops.Watch]:
    """Return the watches of drops: of any source, and of the one in question where there is one."""
    watch = stack.enter_context(drops.watch(question.group, question.port))
    source = _only_source(question)
    if watch.method != "bpf" or source is None:
        return watch, watch
    narrow = drops.watch(question.group, question.port, source=source)
    return watch, stack.enter_context(narrow)


def _only_source(question: Question) -> str | None:
    """Return the source whose drops count, None for any.

    On its way out a datagram's source may be rewritten; to a link-local group a host sends from
    its link-local address, whatever it was asked about.
    """
    several = len(question.sources) != 1 or question.role != "receiver"
    if several or (question.family == 6 and keeps_zone(question.group)):
        return None
    return question.sources[0]


def _tally(question: Question, stack: ExitStack) -> Tally | None:
    """Return what counts the frames that no capture sees, None where nothing is named or there."""
    with suppress(SocketError, OSError):
        return stack.enter_context(Tally(question.ifindex))
    return None


class _Samples(NamedTuple):
    """By inode of the sockets on the port: their queues, and what arrived less what they dropped.

    The latter is how many they kept so far, but for a constant.
    """

    queues: dict[int, list[int]]
    kept: dict[int, list[int]]

    def take(self, question: Question, wire: Wire | None) -> None:
        """Add what is so now; without the wire nobody knows what arrived."""
        arrived = _arrived(question, wire) if wire is not None else 0
        for name in ("udp", "udp6"):
            for one in sockets.parse(name, procnet.read(name)):
                if one.port == question.port:
                    self.queues.setdefault(one.inode, []).append(one.receive_queue)
                    if wire is not None:
                        self.kept.setdefault(one.inode, []).append(arrived - one.drops)


def _arrived(question: Question, wire: Wire) -> int:
    """Return how many datagrams of the question were seen so far; else those that left."""
    seen = {"in": 0, "out": 0}
    for one, count in wire.flows.items():
        if (one.dst, one.dport) == (question.group, question.port):
            seen[one.direction] += count
    return seen["in"] or seen["out"]


def _joined(question: Question) -> tuple[GroupMembership, ...]:
    """Return the memberships; where the kernel leaves the filter open, the sockets are asked."""
    found = memberships.memberships()
    open_ = [one for one in found if one.group == question.group and not one.mode_certain]
    told = {one.ifindex: one for one in owners.find(open_)} if open_ else {}
    return tuple(told.get(one.ifindex, one) if one in open_ else one for one in found)


def _moved(
    first: firewall.Ruleset, last: firewall.Ruleset
) -> dict[tuple[str, str, str, int | None, str], int]:
    old = {one.key: one.packets or 0 for one in first.dropping}
    return {
        one.key: one.packets - old.get(one.key, 0)
        for one in last.dropping
        if one.packets is not None
    }


def _applications(facts: Facts) -> tuple[applications.Application, ...]:
    """Return the sockets on the port, and those that may have joined something or send."""
    question = facts.question
    sending = question.role == "sender" or facts.local_source()
    ports = {one.sport for one in facts.outgoing()} | {question.port}

    def wanted(one: BoundSocket) -> bool:
        return sending or one.port in ports or bool(one.option_bytes)

    groups = [(one.ifindex, one.group) for one in facts.memberships if not one.by_kernel]
    return applications.find(wanted, groups)


def _with_routes(facts: Facts) -> Facts:
    """Add links, settings and what the routing code answers."""
    question = facts.question
    details = linkdetails.read()
    try:
        with netlink.naming("ask the routing code"), routes.Routing() as routing:
            links = dict(routing.links)
            source = next(iter(question.sources), None) or _seen_source(facts)
            answers = {}
            for index, link in links.items():
                own = next((a.address for a in link.addresses if ":" not in a.address), None)
                if source and question.family == 4 and ":" not in source:
                    answers[index] = Answers(
                        routing.accepts(question.group, source, index),
                        routing.accepts(own, source, index) if own else None,
                        _neighbour(routing.accepts, question.group, link.addresses, index),
                    )
            facts = facts._replace(
                links=links,
                answers=answers,
                route=routing.route(question.group),
                bound_route=routing.route(question.group, question.ifindex)
                if question.ifindex
                else None,
                reverse=routing.reverse(source) if source else None,
            )
    except SocketError:
        links = {}
    igmp = procnet.igmp_versions(procnet.read("igmp"))
    settings = {
        index: Knobs(
            knobs.rp_filter(link.name),
            knobs.ipv6_disabled(link.name),
            igmp.get(index),
            knobs.forced_igmp_version(link.name),
        )
        for index, link in links.items()
    }
    return facts._replace(details=details, knobs=settings)


def _seen_source(facts: Facts) -> str | None:
    return next((one.src for one in facts.group_flows("in")), None)


def _neighbour(
    accepts: Callable[[str, str, int], bool | None], group: str, addresses: Any, index: int
) -> bool | None:
    """Ask for a datagram from a neighbour: the first address of a network that is not ours."""
    from ipaddress import ip_network

    for one in addresses:
        if ":" in one.address or one.prefixlen > 30:
            continue
        hosts = ip_network(f"{one.address}/{one.prefixlen}", strict=False).hosts()
        other = next(host for host in hosts if str(host) != one.address)
        return accepts(group, str(other), index)
    return None


def _with_bridges(facts: Facts) -> Facts:
    """Add what this host switches and routes."""
    version = f"ipv{facts.question.family}"
    with suppress(OSError):
        found = bridges.read()
        facts = facts._replace(
            bridges=tuple(one for one in found if isinstance(one, Bridge)),
            database=tuple(one for one in found if isinstance(one, DatabaseEntry)),
        )
    with suppress(OSError):
        routed = [one for one in forwarding.read() if one.family == version]
        facts = facts._replace(
            forwarding_interfaces=tuple(
                one for one in routed if isinstance(one, ForwardingInterface)
            ),
            forwarding=knobs.mc_forwarding("all", facts.question.family),
        )
    return facts


def _programs(facts: Facts) -> tuple[programs.Program, ...]:
    """Return the BPF programs of the links, and of the control groups of those who may be meant."""
    names = {index: link.name for index, link in facts.links.items()}
    pids = (pid for one in facts.applications for pid, *_ in one.holders)
    drivers = {
        names[index]: one.program
        for index, one in facts.details.items()
        if one.program and index in names
    }
    return (
        *programs.of_drivers(drivers),
        *programs.on_interfaces(names),
        *programs.of_processes(pids),
    )


def _bridge_netfilter() -> bool:
    """Tell whether bridged packets pass the packet filter of IP (br_netfilter)."""
    folder = Path("/proc/sys/net/bridge")
    for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
        with suppress(OSError):
            if (folder / name).read_text().strip() == "1":
                return True
    return False
