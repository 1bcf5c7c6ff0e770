"""The receiving run: many receivers, one loop, statistics, until a limit is reached."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from mcastctl.model import address
from mcastctl.model.endpoint import Endpoint
from mcastctl.model.limits import Limits
from mcastctl.model.records import Datagram, Notice, Record, Report
from mcastctl.model.stats import Statistics
from mcastctl.net import receiver
from mcastctl.net.ancillary import Arrival
from mcastctl.net.loop import Loop
from mcastctl.net.receiver import Receiver, Subscription

_BATCH = 256
"""Datagrams taken from one socket before the others get their turn."""


class Reader(Protocol):
    """Anything with a descriptor that yields datagrams."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def receive(self) -> tuple[Datagram, Arrival] | None:
        """Return the next datagram, None when there is none now."""


Batch = list[tuple[Datagram, Arrival]]


def batches(
    readers: Sequence[Reader],
    loop: Loop,
    limits: Limits,
    alarm: Callable[[], float | None] = lambda: None,
) -> Iterator[tuple[Reader | None, Batch]]:
    """Yield what each reader heard, a batch at a time; (None, []) at each alarm and wake-up.

    `alarm` gives the monotonic time in ns at which the caller wants its turn. The caller
    notes in `limits` what it took. Ends at a limit (`limits.reason` says which) or a signal
    (reason 'signal').
    """
    by_descriptor = {one.fileno(): one for one in readers}
    for descriptor in by_descriptor:
        loop.watch(descriptor)
    while not limits.reached(time.monotonic_ns()):
        if loop.stopped_by is not None:
            limits.reason = "signal"
            return
        times = [moment for moment in (limits.next_ns(), alarm()) if moment is not None]
        until = min(times, default=None)
        ready = [fd for fd in loop.wait(until) if fd in by_descriptor]
        for descriptor in ready:
            reader = by_descriptor[descriptor]
            yield reader, _read(reader, limits.room(_BATCH))
        if not ready or (until is not None and time.monotonic_ns() >= until):
            yield None, []


def _read(reader: Reader, most: int) -> Batch:
    batch = []
    for _ in range(most):
        heard = reader.receive()
        if heard is None:
            break
        batch.append(heard)
    return batch


class Listening:
    """One run of `listen`: iterate `records`, then ask for `summary`."""

    def __init__(
        self, endpoints: list[Endpoint], wanted: list[Subscription], buffer_size: int
    ) -> None:
        self.statistics = Statistics(assume_rtp=any(one.scheme == "rtp" for one in endpoints))
        self._wanted = wanted
        self._buffer_size = buffer_size
        self._receivers: list[Receiver] = []
        self._started_ns = self._reported_ns = time.monotonic_ns()

    def records(self, loop: Loop, limits: Limits, tick_s: float | None) -> Iterator[Record]:
        """Join, then yield memberships, datagrams, interval reports and notices."""
        self._receivers = receiver.open_all(self._wanted, self._buffer_size)
        for one in self._receivers:
            yield from one.memberships("joined")
        yield from self._remarks()
        self._reported_ns = time.monotonic_ns()
        alarm = (lambda: None) if tick_s is None else (lambda: self._reported_ns + tick_s * 1e9)
        for _, batch in batches(self._receivers, loop, limits, alarm):
            limits.take(len(batch), time.monotonic_ns())
            for datagram, _arrival in batch:
                mark = self.statistics.update(datagram)
                yield datagram if mark is datagram.mark else datagram._replace(mark=mark)
            now_ns = time.monotonic_ns()
            if tick_s is not None and now_ns - self._reported_ns >= tick_s * 1e9:
                yield self._interval(now_ns)
        yield from self._closing_remarks()

    def _interval(self, now_ns: int) -> Report:
        fields = self.statistics.interval((now_ns - self._reported_ns) / 1e9)
        self._reported_ns = now_ns
        return Report(time.time_ns(), "interval", fields | {"kernel_drops": self.kernel_drops()})

    def kernel_drops(self) -> int:
        """Return how many datagrams found a socket buffer full so far."""
        return sum(one.kernel_drops() for one in self._receivers)

    def _remarks(self) -> Iterator[Notice]:
        now_ns = time.time_ns()
        told = set()
        for wanted in self._wanted:
            for remark in address.remarks(wanted.group, with_sources=wanted.mode == "include"):
                if remark not in told:
                    told.add(remark)
                    yield Notice(now_ns, "warning", *remark)
        granted = min((one.granted_buffer for one in self._receivers), default=0)
        if granted < self._buffer_size:
            yield Notice(
                now_ns,
                "info",
                "rcvbuf",
                f"receive buffer is {granted} bytes, {self._buffer_size} were asked for",
                "raise net.core.rmem_max",
            )

    def _closing_remarks(self) -> Iterator[Notice]:
        drops = self.kernel_drops()
        if drops:
            yield Notice(
                time.time_ns(),
                "warning",
                "kernel-drops",
                f"this host dropped {drops} datagrams: the receive buffer was full",
                "raise --rcvbuf and net.core.rmem_max, or print less (-q)",
            )

    def summary(self) -> dict[str, object]:
        """Return the counters of the run."""
        fields = self.statistics.summary((time.monotonic_ns() - self._started_ns) / 1e9)
        fields["kernel_drops"] = self.kernel_drops()
        fields["skipped"] = sum(one.skipped for one in self._receivers)
        return fields

    def close(self) -> None:
        """Leave every group."""
        for one in self._receivers:
            one.close()
