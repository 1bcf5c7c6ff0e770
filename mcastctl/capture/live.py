"""A live capture: which frames are wanted, and the ring's blocks until it is time to stop."""

import _socket as socket
import errno
import select
import sys
import time
from collections.abc import Iterator
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


_BACKLOG_S = 1.0
"""How long frames already captured are still looked at when the time is over."""
RINGS = sys.platform.startswith("linux")
"""Whether this system has packet rings."""


def open_live(wanted: Wanted) -> "Live | Sockets":
    """Open a capture the way this system has. Raises SocketError, InterfaceError, FilterError."""
    if RINGS:
        return Live(wanted)
    from mcastctl.capture.anywhere import Sockets

    return Sockets(wanted)


class Live:
    """One live capture: iterate `slices`, turn each into frames, ask for `drops`, close."""

    def __init__(self, wanted: Wanted) -> None:
        """Open it. Raises SocketError, InterfaceError and FilterError."""
        self._wanted = wanted
        self._down = False
        self._unread = 0
        self._keep: _FrameFilter | None = None
        single = wanted.device != "any"
        self.ring = Ring(wanted.ring, wanted.device if single else "")
        try:
            everything = wanted.interfaces or all_interfaces()
            loops = [index for name, index in everything if packet.is_loopback(name)]
            members = [one for one in everything if wanted.promisc or packet.hears_groups(one[0])]
            code = _program(wanted)
            if program.loops(code):
                code = program.accept(wanted.snaplen)
                self._keep = _FrameFilter(wanted.expression)
            code = program.narrowed(
                code,
                ifindexes=() if single else [index for _, index in wanted.interfaces],
                direction=wanted.direction,
                loopback=loops[0] if loops else 0,
            )
            self.ring.listen(members, code, promisc=wanted.promisc)
        except BaseException:
            self.ring.close()
            raise

    def slices(self, loop: Waiter, limits: Limits) -> Iterator[Slice | Gathered | Notice]:
        """Yield blocks as they become ready, and what befalls the interface.

        The caller notes in `limits` what it took. Ends at a limit or a signal, with what
        came before it.
        """
        ring = self.ring
        loop.watch(ring.fileno())
        while True:
            heard = False
            for block in ring.ready():
                heard = True
                yield self._kept(block)
                if loop.stopped_by is not None or limits.reached(time.monotonic_ns(), quiet=False):
                    break
            quiet = not heard and not ring.pending()
            if loop.stopped_by is not None:
                limits.reason = "signal"
            if limits.reached(time.monotonic_ns(), quiet=quiet):
                break
            if heard:
                self._down = False
                continue
            if loop.wait(self._look_again(limits)) or self._down:
                yield from self._befallen()
        if limits.reason != "count":
            yield from self._rest()

    def _look_again(self, limits: Limits) -> float | None:
        """Return when to look again although nothing came."""
        times = [limits.next_ns()]
        if self._down:  # the kernel says that it went, before it is gone
            times.append(time.monotonic_ns() + 200e6)
        if limits.idle_ns is not None and self.ring.pending():
            times.append(time.monotonic_ns() + RETIRE_MS * 1e6)
        return min((moment for moment in times if moment is not None), default=None)

    def _befallen(self) -> Iterator[Notice]:
        """Say that an interface went down; raise when it is gone."""
        number = self.ring.error()
        if not number and not self._down:
            return
        for name, index in self._wanted.interfaces:
            try:
                socket.if_indextoname(index)
            except OSError:
                raise InterfaceError(
                    f"interface {name} is gone: nothing more can be captured on it",
                    hint="see 'mcastctl ifaces'; a new interface of that name needs a new start",
                ) from None
        if number == errno.ENETDOWN and not self._down:
            self._down = True
            text = f"{self._wanted.device} went down; what comes after it is up again is shown"
            yield Notice(time.time_ns(), "warning", "down", text)

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
