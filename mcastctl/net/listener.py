"""The receiving run: many receivers, one loop, statistics, until a limit is reached."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Protocol, TypeVar

from mcastctl.model.endpoint import Endpoint
from mcastctl.model.hearing import Unheard
from mcastctl.model.limits import Limits
from mcastctl.model.records import Datagram, Notice, Record, Report
from mcastctl.model.run import Heard, Run
from mcastctl.model.stats import Statistics
from mcastctl.net import remarks
from mcastctl.net.ancillary import Arrival
from mcastctl.net.following import Following
from mcastctl.net.loop import Loop
from mcastctl.net.receiver import Receiver, Subscription
from mcastctl.net.sockopts import DEFAULT_BUFFER

if TYPE_CHECKING:
    from mcastctl.model.metrics import Family
    from mcastctl.net.advice import Advice
    from mcastctl.net.children import Children

_BATCH = 4096
"""Datagrams taken from one socket before the others get their turn."""
_REST_NS = 500_000_000
"""How long what waits in the buffers is read when the time is up; a flood fills them anew."""


class Watched(Protocol):
    """Anything with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Reader(Watched, Protocol):
    """What yields datagrams one by one."""

    def receive(self) -> tuple[Datagram, Arrival] | None:
        """Return the next datagram, None when there is none now."""


R = TypeVar("R", bound=Watched)
B = TypeVar("B")


def batches(
    readers: Mapping[int, R],
    read: Callable[[R, int], Iterable[B]],
    loop: Loop,
    limits: Limits,
    *,
    alarm: Callable[[], float | None] = lambda: None,
    nap_s: Callable[[list[R]], float] = lambda _: 0.0,
) -> Iterator[tuple[R | None, Iterable[B]]]:
    """Yield what each reader heard, a batch at a time; (None, []) at each alarm and wake-up.

    `readers` by descriptor may change at the turns without one, and others may be watched by
    the loop: their news makes such a turn. `read` takes up to so many from a reader. `alarm` gives
    the monotonic time in ns at which the caller wants its turn, `nap_s` how long those just read
    need not be looked at again. The caller notes in `limits` what it took. Ends at a limit
    (`limits.reason` says which) or a signal (reason 'signal').
    """
    for descriptor in readers:
        loop.watch(descriptor)
    ready: list[int] = []
    while not _over(loop, limits, quiet=not ready):
        times = [moment for moment in (limits.next_ns(), alarm()) if moment is not None]
        until = min(times, default=None)
        woken = loop.wait(until)
        ready = [descriptor for descriptor in woken if descriptor in readers]
        for descriptor in ready:
            if _over(loop, limits, quiet=False):
                return
            reader = readers[descriptor]
            yield reader, read(reader, limits.room(_BATCH))
        pause = nap_s([readers[descriptor] for descriptor in ready]) if ready else 0.0
        if pause:
            time.sleep(pause)
        if (
            len(ready) < len(woken)
            or not ready
            or (until is not None and time.monotonic_ns() >= until)
        ):
            yield None, []


def _over(loop: Loop, limits: Limits, *, quiet: bool) -> bool:
    if limits.reached(time.monotonic_ns(), quiet=quiet):
        return True
    if loop.stopped_by is not None:
        limits.reason = "signal"
    return bool(limits.reason)


def arrivals(reader: Reader, most: int) -> Iterator[tuple[Datagram, Arrival]]:
    """Yield up to `most` datagrams with what the kernel told of each, read when asked for."""
    for _ in range(most):
        heard = reader.receive()
        if heard is None:
            break
        yield heard


def _nap_s(ready: list[Receiver]) -> float:
    return min(one.nap_s() for one in ready)


class Listening:
    """One run of `listen`: iterate `records`, then ask for `summary`.

    `children`, if any, run for each datagram; `advice`, if any, is told when nothing is heard;
    `shown` says that somebody looks at each.
    """

    def __init__(
        self,
        endpoints: list[Endpoint],
        wanted: list[Subscription],
        buffer_size: int,
        children: "Children | None" = None,
        *,
        advice: "Advice | None" = None,
        shown: bool = True,
    ) -> None:
        rtp = [one for endpoint in endpoints for one in endpoint.expand() if one.scheme == "rtp"]
        self.statistics = Statistics(rtp=frozenset((one.group, one.port or 0) for one in rtp))
        self._wanted = wanted
        self._buffer_size = buffer_size
        self._children = children
        self._advice = advice
        self._shown = shown
        whole = shown or children is not None
        self._readers: dict[int, Receiver] = {}
        self._following = Following(
            wanted,
            lambda one: Receiver(one, buffer_size, whole=whole),
            self._readers,
            renamed=self.statistics.rename,
        )
        self._started_ns = self._reported_ns = time.monotonic_ns()
        self._reported_drops = 0
        self._measured = False
        self._sounded: set[int] = set()

    def records(self, loop: Loop, limits: Limits, tick_s: float | None) -> Iterator["Record | Run"]:
        """Join, then yield memberships, datagrams, interval reports and notices; leave."""
        yield from self._following.begin(loop)
        yield from remarks.receiving(self._wanted)
        yield from self._buffer_remark()
        if self._children:
            self._children.attach(loop)
        if self._advice:
            self._advice.attach(limits.next_ns())
            self._advice.about(self._following.audible())
        self._reported_ns = time.monotonic_ns()
        tick_ns = None if tick_s is None else int(tick_s * 1e9)
        alarm = partial(self._alarm, tick_ns)
        turns = batches(self._readers, Receiver.read, loop, limits, alarm=alarm, nap_s=_nap_s)
        for reader, batch in chain(turns, self._rest(limits)):
            number = 0
            place = 0 if reader is None else self._following.place_of(reader)
            for heard in batch:
                for piece in self.statistics.account(heard, place):
                    number += piece.number
                    yield from self._pass_on(piece)
            limits.take(number, time.monotonic_ns())
            if number:
                self._sounded.add(place)
            if reader is None:
                yield from self._following.attend()
                yield from self._buffer_remark()
                if self._advice:
                    self._advice.about(self._following.audible())
            if self._children:
                self._children.poll()
                yield from self._children.trouble()
            if self._advice:
                yield from self._advised(self._advice, loop, heard=number > 0)
            if tick_ns is not None and time.monotonic_ns() - self._reported_ns >= tick_ns:
                yield self._interval(tick_ns)
        if tick_ns is not None and self.statistics.moved:
            yield self._interval(tick_ns)  # the last one is seldom whole
        yield from self._closing_remarks(loop, limits)
        yield from self._following.end()

    def _rest(self, limits: Limits) -> Iterator[tuple[Receiver, list[Heard]]]:
        """Yield what came before a deadline or a signal and was not read yet."""
        interrupted = limits.reason == "signal" and self._children  # no more commands then
        if limits.reason not in ("timeout", "signal") or interrupted:
            return
        ended_ns, until_ns = time.time_ns(), time.monotonic_ns() + _REST_NS
        for reader in list(self._readers.values()):
            while time.monotonic_ns() < until_ns and (room := limits.room(_BATCH)):
                batch = reader.read(room)
                yield reader, batch
                if not batch or batch[-1].last_ns > ended_ns:
                    break

    def _advised(self, advice: "Advice", loop: Loop, *, heard: bool) -> Iterator[Notice]:
        if heard:  # no question any more
            advice.stop()
            self._advice = None
        else:
            yield from advice.poll(loop)

    def _pass_on(self, heard: Heard) -> Iterator[Heard]:
        if self._shown:
            yield heard
        if self._children:
            for datagram in heard.datagrams():
                self._children.run(datagram)

    def _alarm(self, tick_ns: int | None) -> float | None:
        """Return when the next interval report, child, advice or look for interfaces is due."""
        report = None if tick_ns is None else self._reported_ns + tick_ns
        child = self._children.next_ns() if self._children else None
        advice = self._advice.next_ns() if self._advice else None
        times = (report, child, advice, self._following.alarm_ns)
        return min((one for one in times if one is not None), default=None)

    def _interval(self, tick_ns: int) -> Report:
        now_ns, drops = time.monotonic_ns(), self.kernel_drops()
        elapsed_ns = now_ns - self._reported_ns
        fields = self.statistics.interval(elapsed_ns / 1e9)
        fields["start_s"] = round((self._reported_ns - self._started_ns) / 1e9, 6)
        fields["end_s"] = round((now_ns - self._started_ns) / 1e9, 6)
        fields["kernel_drops"] = drops - self._reported_drops
        self._reported_drops = drops
        self._reported_ns += elapsed_ns // tick_ns * tick_ns  # no drift from waking late
        return Report(time.time_ns(), "interval", fields)

    def kernel_drops(self) -> int:
        """Return how many datagrams found a socket buffer full so far."""
        return self._following.kernel_drops()

    def _buffer_remark(self) -> Iterator[Notice]:
        """Say once, as soon as there is a socket, that its buffer is smaller than asked for."""
        if self._measured or not self._readers:
            return
        self._measured = True
        granted = min(one.granted_buffer for one in self._readers.values())
        if granted < self._buffer_size:
            yield Notice(
                time.time_ns(),
                "info" if self._buffer_size == DEFAULT_BUFFER else "warning",
                "rcvbuf",
                f"the receive buffer is {granted} bytes: net.core.rmem_max allows no more than "
                f"that of the {self._buffer_size} asked for",
                f"sysctl -w net.core.rmem_max={self._buffer_size}, or run as root",
            )

    def _closing_remarks(self, loop: Loop, limits: Limits) -> Iterator[Notice]:
        if self._children:
            if loop.stopped_by is None:  # who interrupts does not wait for a queue of commands
                self._children.finish(limits.deadline_ns)
            yield from self._children.remarks()
        if self._sounded and limits.reason in ("timeout", "idle"):
            yield from remarks.silent(self._following.without(self._sounded))
        drops = self.kernel_drops()
        if drops:
            # The kernel counts a super-packet as one.
            least = "at least " if any(one.takes_supers for one in self._readers.values()) else ""
            yield Notice(
                time.time_ns(),
                "warning",
                "kernel-drops",
                f"this host dropped {least}{drops} datagrams: the receive buffer was full",
                "raise --rcvbuf and net.core.rmem_max, or print less (-q)",
            )

    def summary(self) -> dict[str, object]:
        """Return the counters of the run."""
        fields = self.statistics.summary((time.monotonic_ns() - self._started_ns) / 1e9)
        fields["kernel_drops"] = self.kernel_drops()
        fields["skipped"] = self._following.skipped
        fields["deaf_s"] = self._following.deaf_s()
        return fields

    def unheard(self) -> Unheard:
        """Return for how long something could not be heard."""
        return self._following.unheard()

    def metrics(self) -> "list[Family]":
        """Return the counters so far, as metrics."""
        from mcastctl.model import metrics

        following = self._following
        return metrics.received(
            self.statistics,
            kernel_drops=self.kernel_drops(),
            skipped=following.skipped,
            deaf_s=following.deaf_s(),
        )

    def close(self) -> None:
        """Leave every group and end the children that still run."""
        if self._advice:
            self._advice.stop()
        if self._children:
            self._children.stop()
        self._following.close()
