"""What is open during the active tests: capture, drop reasons, trace, and a source port of ours.

Everything is held by descriptors of this process: the kernel takes it back when they close, also
after a signal that cannot be caught.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress

from mcastctl.capture.glance import Glance
from mcastctl.doctor.facts import Facts
from mcastctl.doctor.wire import Flow, Wire
from mcastctl.host import drops, nftables
from mcastctl.host.drops import Drop
from mcastctl.host.nftrace import Trace, Verdict
from mcastctl.model import refusal
from mcastctl.model.address import keeps_zone
from mcastctl.model.errors import SocketError
from mcastctl.model.link import Link
from mcastctl.net import sockopts
from mcastctl.net.loop import Loop

_LOOK_S = 0.05
_MOST_FRAMES = 2000
_TRACED_PER_S = 20
_ETHERNET = 1
SETTLE_S = 0.15
"""A packet within the host needs microseconds; this is for a busy machine."""
PAYLOAD = b"mcastctl doctor --probe"
Say = Callable[[str], None]
"""Tells people what is about to be sent, before it is."""


class Scene:
    """The interface in question, watched until the stack closes."""

    def __init__(self, facts: Facts, link: Link, say: Say, loop: Loop) -> None:
        self.facts, self.link, self.say = facts, link, say
        self.did: list[str] = []
        self.missing: list[str] = []
        self.wire: Wire | None = None
        self._loop = loop
        self._glance: Glance | None = None
        self._drops: drops.Watch | None = None
        self._trace: Trace | None = None
        self._hearing: list[tuple[sockopts.Socket, Counter[str]]] = []

    def open(self, stack: ExitStack) -> None:
        """Open what this user may; what he may not is noted as missing. Sends nothing."""
        question = self.facts.question
        self.sending = stack.enter_context(closing(sockopts.open_udp(question.family)))
        source = self.source()
        scope = self.link.ifindex if source and keeps_zone(source) else 0
        with sockopts.naming("bind", f"bind a socket to {source or 'any address'}"):
            self.sending.bind((source, 0, 0, scope) if question.family == 6 else (source, 0))
        self.port = int(self.sending.getsockname()[1])
        try:
            self._glance = stack.enter_context(Glance())
            self.wire = Wire()
            self._loop.watch(self._glance.fileno())
            stack.callback(self._loop.unwatch, self._glance.fileno())
        except SocketError:
            self.missing.append("the wire is not seen: as root, what leaves and comes is told")
        watch = drops.watch(question.group, question.port, sport=self.port)
        self._drops = stack.enter_context(watch)
        if not self._drops.method:
            self.missing.append("drop reasons are told to root of the machine only")

    def trace(self, stack: ExitStack, *, ours: bool) -> None:
        """Let the packet filter tell who drops our own datagrams, else some of all."""
        question = self.facts.question
        role = "sender" if question.role == "sender" else "receiver"
        if ours:
            match = [*nftables.udp_to(question.group, question.port, sport=self.port)]
        else:
            source = next(iter(question.sources), None)
            match = [*nftables.udp_to(question.group, question.port, source=source)]
            match.append(nftables.limit(_TRACED_PER_S))
        inner = stack.enter_context(ExitStack())
        try:
            self._trace = Trace(match, self.link.name, role, inner)
        except OSError as error:
            inner.close()
            why = refusal.cause(error.errno, error.strerror)
            self.missing.append(f"the packet filter cannot be traced: {why}")

    def hear(self, sock: sockopts.Socket) -> Counter[str]:
        """Return what counts the datagrams a socket gets, by 'ours' and 'theirs'."""
        counter: Counter[str] = Counter()
        self._hearing.append((sock, counter))
        return counter

    def wait(self, seconds: float, until: Callable[[], bool]) -> None:
        """Watch until something is so, the seconds are over, or a signal comes."""
        end = time.monotonic_ns() + int(seconds * 1e9)
        self._take()
        while not until() and self._loop.stopped_by is None:
            now = time.monotonic_ns()
            if now >= end:
                return
            self._loop.wait(min(end, now + int(_LOOK_S * 1e9)))
            self._take()

    def over(self) -> bool:
        """Tell whether a signal came: then nothing more is begun."""
        return self._loop.stopped_by is not None

    def _take(self) -> None:
        if self._glance is not None and self.wire is not None:
            for frame in self._glance.frames(_MOST_FRAMES):
                self.wire.take(frame.iface, frame.cast, frame.hatype, frame.data)
        if self._drops is not None:
            self._drops.poll()
        if self._trace is not None:
            with suppress(OSError):  # more was told than found room: what was read counts
                self._trace.poll()
        for sock, counter in self._hearing:
            for _ in range(_MOST_FRAMES):
                try:
                    sender = sock.recvfrom(1)[1]
                except OSError:
                    break  # nothing more, or an ICMP error about nothing of ours
                counter["ours" if sender[1] == self.port else "theirs"] += 1

    @property
    def told_drops(self) -> bool:
        """Tell whether drop reasons are seen."""
        return self._drops is not None and self._drops.method == "bpf"

    def looped(self) -> int:
        """Return how many of our own datagrams the sockets heard."""
        return sum(counter["ours"] for _, counter in self._hearing)

    def drops(self, *, control: bool) -> dict[Drop, int]:
        """Return what was dropped of ours, or of IGMP and MLD."""
        found = self._drops.drops if self._drops is not None else {}
        return {one: count for one, count in found.items() if one.control == control}

    def verdicts(self) -> Mapping[Verdict, int]:
        """Return the rules that dropped the traced packets."""
        return dict(self._trace.dropped) if self._trace is not None else {}

    def came(self) -> int:
        """Return how many datagrams of the question came in by the interface, not ours."""
        return self.facts._replace(flows=self.theirs()).wire("in").get(self.link.name, 0)

    def theirs(self) -> dict[Flow, int]:
        """Return the datagrams seen that are not ours."""
        seen = self.wire.flows if self.wire is not None else {}
        return {one: count for one, count in seen.items() if one.sport != self.port}

    def reported(self, group: str) -> int:
        """Return how many reports for a group were seen leaving by the interface."""
        if self.wire is None:
            return 0
        return sum(
            count
            for one, count in self.wire.control.items()
            if one.direction == "out"
            and one.kind == "report"
            and one.group == group
            and one.iface == self.link.name
        )

    def source(self) -> str:
        """Return the address to send from, '' for the kernel's choice.

        It is the source asked about if it is this interface's. What we send to ourselves, or out
        of loopback, gets the interface's own: left alone, the kernel takes none.
        """
        own = {one.address for one in self.link.addresses}
        asked = next((one for one in self.facts.question.sources if one in own), "")
        to_ourselves = self.facts.question.role != "sender" or "loopback" in self.link.flags
        return asked or (self.own_address() if to_ourselves else "")

    def own_address(self, *, near: bool = False) -> str:
        """Return an address of the interface of the family asked about, '' for none."""
        six = self.facts.question.family == 6
        found = [
            one.address
            for one in self.link.addresses
            if (":" in one.address) == six and not {"tentative", "dadfailed"} & set(one.states)
        ]
        if six and near:
            found = [one for one in found if one.startswith("fe80")]
        return next(iter(found), "")

    def reporter(self) -> str:
        """Return the address that the kernel's own reports come from."""
        unspecified = "::" if self.facts.question.family == 6 else "0.0.0.0"  # noqa: S104
        return self.own_address(near=True) or unspecified

    @property
    def ethernet(self) -> bool:
        """Tell whether frames on the interface begin as on Ethernet."""
        return self.link.hardware == _ETHERNET
