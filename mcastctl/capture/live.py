"""A live capture: which frames are wanted, and the ring's blocks until it is time to stop."""

import _socket as socket
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mcastctl.capture import packet, program
from mcastctl.capture.ring import RETIRE_MS, Ring
from mcastctl.model.errors import InterfaceError
from mcastctl.model.frame import ETHERNET, LINUX_SLL, Frame
from mcastctl.model.limits import Limits
from mcastctl.model.records import Notice
from mcastctl.model.ring import Gathered, Slice, frames, linktype_of

if TYPE_CHECKING:
    from mcastctl.capture.anywhere import Sockets
    from mcastctl.capture.bpf import Program


class Waiter(Protocol):
    """What is needed of the loop (`net.loop.Loop`)."""

    stopped_by: int | None

    def watch(self, descriptor: int, *, writable: bool = False) -> None:
        """Report the descriptor when it can be read."""

    def wait(self, until_ns: float | None = None) -> list[int]:
        """Wait for a descriptor, a signal or a time."""


class Present(Protocol):
    """What befalls the interfaces (`net.presence.Presence`)."""

    changes: int
    """How often something befell any interface: what was known of it may not be true any more."""

    @property
    def deaf(self) -> bool:
        """Whether any of them cannot be heard now."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is news, -1 without one."""

    def alarm_ns(self) -> float | None:
        """Return when to attend to them although there is no news."""

    def attend(self, restore: "Restore") -> Iterator[Notice]:
        """Say what befell them; `restore` is called with what is back."""


Restore = Callable[[int, tuple[str, int]], bool]
"""Hear the interface that had this index (0: a new one) again; tells whether that went well."""


class Wanted(NamedTuple):
    """What to capture: `interfaces` are names with indexes, none for all of them.

    `expression` is a filter of pcap-filter(7), '' for multicast and its control plane, with
    `control` for the latter alone. `direction` is 'in', 'out' or ''; `ring` and `snaplen` are
    bytes.
    """

    interfaces: tuple[tuple[str, int], ...]
    expression: str
    direction: str
    promisc: bool
    ring: int
    snaplen: int
    control: bool = False

    @property
    def device(self) -> str:
        """The interface if it is one, else 'any' (libpcap's name for all)."""
        return self.interfaces[0][0] if len(self.interfaces) == 1 else "any"

    def renumbered(self, before: int, found: tuple[str, int]) -> "Wanted":
        """Return the same with the interface that had index `before` as it is now."""
        now = tuple(found if index == before else (name, index) for name, index in self.interfaces)
        return self._replace(interfaces=now)


_BACKLOG_S = 1.0
"""How long frames already captured are still looked at when the time is over."""
RINGS = sys.platform.startswith("linux")
"""Whether this system has packet rings."""


def open_live(wanted: Wanted, present: Present) -> "Live | Sockets":
    """Open a capture the way this system has. Raises SocketError, InterfaceError, FilterError."""
    if RINGS:
        return Live(wanted, present)
    from mcastctl.capture.anywhere import Sockets

    return Sockets(wanted)


class Live:
    """One live capture: iterate `slices`, turn each into frames, ask for `drops`, close."""

    def __init__(self, wanted: Wanted, present: Present) -> None:
        """Open it. Raises SocketError, InterfaceError and FilterError."""
        self._wanted = wanted
        self._present = present
        self._unread = 0
        self._keep: _FrameFilter | None = None
        single = wanted.device != "any"
        self.ring = Ring(wanted.ring, wanted.device if single else "")
        try:
            everything = wanted.interfaces or all_interfaces()
            loops = [index for name, index in everything if packet.is_loopback(name)]
            self._loopback = loops[0] if loops else 0
            self._kinds = Kinds(wanted.interfaces)
            members = [one for one in everything if wanted.promisc or packet.hears_groups(one[0])]
            self._code = _program(wanted)
            if program.loops(self._code) or len(self._narrowed()) > program.LONGEST:
                self._code = program.accept(wanted.snaplen)
                self._keep = _FrameFilter(wanted.expression)
            self.ring.listen(members, self._narrowed(), promisc=wanted.promisc)
        except BaseException:
            self.ring.close()
            raise

    def _narrowed(self) -> list[program.Instruction]:
        """Return the filter for the interfaces as they are now."""
        wanted = self._wanted
        return program.narrowed(
            self._code,
            ifindexes=[index for _, index in wanted.interfaces] if wanted.device == "any" else (),
            direction=wanted.direction,
            loopback=self._loopback,
        )

    def slices(self, loop: Waiter, limits: Limits) -> Iterator[Slice | Gathered | Notice]:
        """Yield blocks as they become ready, and what befalls the interface.

        The caller notes in `limits` what it took. Ends at a limit or a signal, with what
        came before it.
        """
        ring = self.ring
        loop.watch(ring.fileno())
        if self._present.fileno() >= 0:
            loop.watch(self._present.fileno())
        while True:
            heard = False
            for block in ring.ready():
                heard = True
                yield self._kept(block)
                break  # a backlog delays neither the end nor what befell the interface
            quiet = not heard and not ring.pending()
            if loop.stopped_by is not None:
                limits.reason = "signal"
            if limits.reached(time.monotonic_ns(), quiet=quiet):
                break
            if not heard and ring.fileno() in loop.wait(self._look_again(limits)):
                ring.error()  # what is reported there once, the news tell better
            changes = self._present.changes
            yield from self._present.attend(self._restore)
            if self._present.changes != changes:
                ring.forget_names()
        if limits.reason != "count":
            yield from self._rest()

    def _look_again(self, limits: Limits) -> float | None:
        """Return when to look again although nothing came."""
        times = [limits.next_ns(), self._present.alarm_ns()]
        if limits.idle_ns is not None and self.ring.pending():
            times.append(time.monotonic_ns() + RETIRE_MS * 1e6)
        return min((moment for moment in times if moment is not None), default=None)

    def _restore(self, before: int, found: tuple[str, int]) -> bool:
        """Hear an interface that is back, or a new one; False when it went again."""
        name, wanted = found[0], self._wanted
        if before and not self._kinds.back(before, found):
            return False
        members = [found] if wanted.promisc or packet.hears_groups(name) else []
        self._wanted = wanted.renumbered(before, found)
        device = name if wanted.device != "any" else ""
        try:
            self.ring.listen_again(members, self._narrowed(), promisc=wanted.promisc, device=device)
        except OSError:
            return False
        return True

    def _kept(self, block: Slice) -> Slice | Gathered:
        """Return what passes a filter that the kernel could not run."""
        if self._keep is None:
            return block
        return Gathered([frame for frame in frames(block) if self._keep(frame)])

    def _rest(self) -> Iterator[Slice | Gathered]:
        """Yield what came in until now: the kernel hands an unfinished block over late.

        Nobody waits for a long backlog; what is left of it counts as dropped.
        """
        ring = self.ring
        ring.shut()
        waiter = select.poll()
        waiter.register(ring.fileno(), select.POLLIN)
        deadline = time.monotonic() + _BACKLOG_S
        while True:
            for block in ring.ready():
                if time.monotonic() < deadline:
                    yield self._kept(block)
                else:
                    self._unread += block.held
            if not ring.pending() or time.monotonic() > deadline:
                return
            waiter.poll(RETIRE_MS)

    def drops(self) -> int:
        """Return how many frames passed the filter and were not looked at, for want of time."""
        return self.ring.statistics().dropped + self._unread

    def close(self) -> None:
        """End the capture."""
        self.ring.close()


class _FrameFilter:
    """A filter expression run here, compiled for each link type that comes along."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._programs: dict[int, Program] = {}

    def __call__(self, frame: Frame) -> bool:
        """Tell whether a frame passes."""
        from mcastctl.capture.bpf import Program

        program = self._programs.get(frame.linktype)
        if program is None:
            program = self._programs[frame.linktype] = Program(self._expression, frame.linktype)
        return program.match(bytes(frame.data), frame.length)


class Kinds:
    """The link types (ARPHRD_) interfaces had when the capture began, by index."""

    def __init__(self, interfaces: tuple[tuple[str, int], ...]) -> None:
        self._kinds = {index: packet.hatype(name) for name, index in interfaces}

    def back(self, before: int, found: tuple[str, int]) -> bool:
        """Tell whether an interface is back that had index `before`; InterfaceError if unlike."""
        name, index = found
        try:
            kind = packet.hatype(name)
        except InterfaceError:
            return False  # it went again
        if self._kinds.setdefault(before, kind) != kind:
            raise InterfaceError(
                f"{name} is back as another kind of interface: this capture cannot go on",
                hint="start it anew; what came before is kept",
            )
        self._kinds[index] = kind
        return True


def all_interfaces() -> tuple[tuple[str, int], ...]:
    """Return name and index of every interface there is now."""
    return tuple((name, index) for index, name in socket.if_nameindex())


def _program(wanted: Wanted) -> list[program.Instruction]:
    """Return the program that keeps what is wanted of the frames of these interfaces."""
    kinds = {linktype_of(packet.hatype(name)) for name, _ in wanted.interfaces}
    linktype = kinds.pop() if len(kinds) == 1 else None
    if not wanted.expression:
        return program.multicast(linktype, wanted.snaplen, data=not wanted.control)
    from mcastctl.capture import libpcap

    alike = linktype == ETHERNET or len(wanted.interfaces) == 1
    device = wanted.interfaces[0][0] if alike else "any"
    code, compiled_for = libpcap.compile_for(device, wanted.expression, wanted.snaplen)
    return program.independent(code) if compiled_for == LINUX_SLL else code
