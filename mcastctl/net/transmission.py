"""The sending run: payloads to targets at their pace, errors counted, replies heard."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from mcastctl.model.pacing import Pacer
from mcastctl.model.records import Datagram, Notice
from mcastctl.net import remarks
from mcastctl.net.loop import Loop
from mcastctl.net.onebyone import OneByOne
from mcastctl.net.payloads import Payloads, Probes, Recorded, Repeated
from mcastctl.net.sender import Sender, Target, totals

if TYPE_CHECKING:
    from mcastctl.model.metrics import Family
    from mcastctl.model.pacing import Timetable

_REPLIES = 64
"""Replies taken between two looks at signals and deadlines."""
_FAST_NS = 200_000
"""Interval from which on datagrams are prepared in bursts: single ones cost a tenth of it."""
_FEW = 64
"""So many datagrams are sent before the machinery for many would be loaded."""
_MOST_BYTES = 1 << 20
"""Largest round that is prepared in a buffer."""
_SOME, _KEPT = 1000, 0.98
"""From so many datagrams on, a rate below this share of the asked one is worth a word."""
_SEGMENT_GROUP = 32
"""Datagrams due together from which on a paced run is worth segmentation offload."""


class Pace(NamedTuple):
    """How fast: seconds between rounds, or datagrams or bits per second; None for no limit."""

    interval_s: float | None = None
    pps: float | None = None
    bitrate: float | None = None

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self != Pace()

    def spacing_ns(self, size: int) -> float:
        """Return the time between datagrams of `size` bytes (rounds with `interval_s`)."""
        if self.interval_s is not None:
            return self.interval_s * 1e9
        if self.pps:
            return 1e9 / self.pps
        return max(size, 1) * 8e9 / self.bitrate if self.bitrate else 0.0


def _many(payloads: Probes | Repeated, targets: int, pace: Pace) -> bool:
    """Tell whether datagrams are made faster than they are well sent one by one."""
    slow = pace.limited and pace.spacing_ns(payloads.size) > _FAST_NS
    if slow or pace.interval_s is not None:
        return False
    few = payloads.left is not None and payloads.left * targets <= _FEW
    return not few and targets * payloads.size <= _MOST_BYTES


class Transmission:
    """One run of `send`. Iterate `run` for its records; the counters are kept here.

    `trace` asks for a record of every datagram sent, `segment` allows the kernel to cut
    datagrams out of larger payloads; `timetable` says when each is due, instead of `pace`.
    """

    def __init__(
        self,
        pairs: list[tuple[Sender, Target]],
        payloads: Payloads,
        pace: Pace,
        *,
        trace: bool,
        segment: bool = True,
        timetable: "Timetable | None" = None,
    ) -> None:
        self._pairs = pairs
        self._payloads = payloads
        self._senders = {sender.fileno(): sender for sender, _ in pairs}
        self.replies = 0
        self.reason = "end"
        spacing = pace.spacing_ns(getattr(payloads, "size", 0))
        self._timetable = timetable
        self._pacer = pacer = timetable or (Pacer(spacing, 0) if pace.limited else None)
        ready = isinstance(payloads, Probes | Repeated) and pace.interval_s is None
        self._asked = 1e9 / spacing if ready and spacing else 0.0
        if (
            isinstance(payloads, Probes | Repeated)
            and not trace
            and _many(payloads, len(pairs), pace)
        ):
            from mcastctl.net.bursts import Bursts

            cut = segment and (pacer is None or pacer.group >= _SEGMENT_GROUP)
            self._feed: OneByOne | Bursts = Bursts(pairs, payloads, pacer, segment=cut)
        else:
            self._feed = OneByOne(
                pairs,
                payloads,
                pacer,
                bitrate=pace.bitrate,
                per_round=pace.interval_s is not None or timetable is not None,
                trace=trace,
            )

    @property
    def fell_short(self) -> bool:
        """Whether time was up before all that was asked for was sent."""
        complete = self._payloads.ended and not self._feed.pending
        return self.reason == "timeout" and self._payloads.counted and not complete

    @property
    def senders(self) -> list[Sender]:
        """The sockets of the run."""
        return list(self._senders.values())

    def progress(self) -> tuple[int, int, int, int] | None:
        """Return parts done, parts in all, datagrams and bytes sent; None without a known end."""
        extent = self._payloads.extent
        if extent is None:
            return None
        return (
            *extent,
            sum(one.sent for one in self.senders),
            sum(one.sent_bytes for one in self.senders),
        )

    def summary(self, elapsed_s: float) -> dict[str, object]:
        """Return the counters of the run."""
        counted = totals(self.senders)
        sent = sum(one.sent for one in self.senders)
        sent_bytes = sum(one.sent_bytes for one in self.senders)
        rate = self._feed.times.per_s()
        if rate is None:
            rate = counted["attempted"] / elapsed_s if elapsed_s > 0 else 0.0
        rate *= sent / counted["attempted"] if sent else 0
        return {
            **counted,
            "worst_gap_ms": round(self._feed.times.worst_gap_ns / 1e6, 6),
            "largest_burst": self._feed.largest if sent else 0,
            "replies": self.replies,
            "packets": sent,
            "bytes": sent_bytes,
            "lost": 0,
            "duplicates": 0,
            "reordered": 0,
            "elapsed_s": round(elapsed_s, 6),
            "packets_per_s": round(rate, 3),
            "bits_per_s": round(8 * rate * sent_bytes / sent, 3) if sent else 0.0,
            "streams": [],
            **self._replayed(),
        }

    def _replayed(self) -> dict[str, object]:
        """Return how true to its recording a run was, nothing of any other."""
        fields: dict[str, object] = {}
        if isinstance(self._payloads, Recorded):
            fields["cut"] = self._payloads.cut
        if self._timetable is not None:
            fields["worst_late_ms"] = round(self._timetable.worst_ns / 1e6, 6)
            fields["mean_late_ms"] = round(self._timetable.mean_ns / 1e6, 6)
        return fields

    def close(self) -> None:
        """Close every socket."""
        for one in self.senders:
            one.close()

    def metrics(self) -> "list[Family]":
        """Return the counters so far, as metrics."""
        from mcastctl.net import metering

        worst = self._feed.times.worst_gap_ns
        return metering.sent(self.senders, replies=self.replies, worst_gap_ns=worst)

    def run(
        self, loop: Loop, deadline_ns: float | None, wait_ns: float
    ) -> Iterator[Datagram | Notice]:
        """Send everything, then listen `wait_ns` for replies; yield records as they happen."""
        yield from remarks.sending(self._pairs, getattr(self._payloads, "size", None))
        for descriptor in self._senders:
            loop.watch(descriptor)
        if self._pacer is not None:
            self._pacer.start(time.monotonic_ns())
        while not self._done(loop, deadline_ns):
            yield from self._feed.send_due()
            if self._payloads.ended and not self._feed.pending:
                break
            yield from self._wait(loop, deadline_ns)
        yield from self._remarks()
        yield from self._linger(loop, deadline_ns, time.monotonic_ns() + wait_ns)

    def _remarks(self) -> Iterator[Notice]:
        """Tell of a pace that was not kept, where nothing but time was wanting."""
        rate = self._feed.times.per_s()
        if not self._asked or rate is None or sum(one.attempted for one in self.senders) < _SOME:
            return
        if rate < _KEPT * self._asked:
            yield Notice(
                time.time_ns(),
                "warning",
                "pace",
                f"{rate:.0f} datagrams a second left instead of {self._asked:.0f}",
                "the machine was busy or the pace is beyond it; -q prints no datagrams",
            )

    def _done(self, loop: Loop, deadline_ns: float | None) -> bool:
        if loop.stopped_by is not None:
            self.reason = "signal"
        elif deadline_ns is not None and time.monotonic_ns() >= deadline_ns:
            self.reason = "timeout"
        return self.reason != "end"

    def _wait(self, loop: Loop, deadline_ns: float | None) -> Iterator[Datagram]:
        """Wait for room in the socket buffer, for input, or for the next send time."""
        blocked, self._feed.blocked = self._feed.blocked, None
        if blocked is not None:
            loop.watch(blocked, writable=True)
            loop.wait(deadline_ns)
            if blocked in self._senders:
                loop.watch(blocked)
            else:  # one that hears no replies
                loop.unwatch(blocked)
            return
        until: float | None = self._feed.wake_ns()
        hungry = self._payloads.hungry and not self._feed.pending
        if hungry:
            until = deadline_ns
            loop.watch(self._payloads.descriptor)
        elif deadline_ns is not None and until is not None:
            until = min(until, deadline_ns)
        ready = loop.wait(until)
        if hungry:
            loop.unwatch(self._payloads.descriptor)
            if self._payloads.descriptor in ready:
                self._payloads.fill()
        yield from self._replies(ready)

    def _linger(self, loop: Loop, deadline_ns: float | None, until_ns: float) -> Iterator[Datagram]:
        until = until_ns if deadline_ns is None else min(until_ns, deadline_ns)
        while loop.stopped_by is None and time.monotonic_ns() < until:
            yield from self._replies(loop.wait(until))
        if loop.stopped_by is not None:
            self.reason = "signal"

    def _replies(self, ready: list[int]) -> Iterator[Datagram]:
        for descriptor in ready:
            sender = self._senders.get(descriptor)
            for _ in range(_REPLIES if sender else 0):
                heard = sender.receive() if sender else None
                if heard is None:
                    break
                self.replies += 1
                yield heard[0]
