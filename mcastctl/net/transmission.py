"""The sending run: payloads to targets at their pace, errors counted, replies heard."""

import time
from collections.abc import Iterator

from mcastctl.decode.stream import recognise
from mcastctl.model.pacing import Pacer
from mcastctl.model.records import Datagram, Notice
from mcastctl.net.loop import Loop
from mcastctl.net.payloads import Payloads
from mcastctl.net.sender import Sender, Target, totals
from mcastctl.net.sender import refused as refused_notice

_SEND_BATCH = 64
"""Sends, or replies taken, between two looks at signals and deadlines."""


class Pace:
    """How fast: seconds between rounds, or datagrams or bits per second; None for no limit."""

    def __init__(
        self,
        *,
        interval_s: float | None = None,
        pps: float | None = None,
        bitrate: float | None = None,
    ) -> None:
        self.per_round = interval_s is not None
        self.bitrate = bitrate
        self.limited = interval_s is not None or pps is not None or bitrate is not None
        spacing = interval_s if interval_s is not None else (1 / pps if pps else 0.0)
        self.spacing_ns = spacing * 1e9


class Transmission:
    """One run of `send`. Iterate `run` for its records; the counters are kept here.

    `trace` asks for a record of every datagram sent. `worst_gap_ns` is the
    longest time between two sends.
    """

    def __init__(
        self, pairs: list[tuple[Sender, Target]], payloads: Payloads, pace: Pace, *, trace: bool
    ) -> None:
        self._pairs = pairs
        self._payloads = payloads
        self._pace = pace
        self._trace = trace
        self._senders = {sender.fileno(): sender for sender, _ in pairs}
        self._told: set[int] = set()
        self._sources = {target: sender.source_for(target) for sender, target in pairs if trace}
        self._pending: list[tuple[Sender, Target, bytes]] = []
        self._pacer = Pacer(pace.spacing_ns, time.monotonic_ns())
        self._blocked: int | None = None
        self.replies = 0
        self.worst_gap_ns = 0
        self._last_ns: int | None = None
        self.reason = "end"

    @property
    def fell_short(self) -> bool:
        """Whether time was up before all that was asked for was sent."""
        return self.reason == "timeout" and self._payloads.counted and not self._payloads.ended

    @property
    def senders(self) -> list[Sender]:
        """The sockets of the run."""
        return list(self._senders.values())

    def summary(self, elapsed_s: float) -> dict[str, object]:
        """Return the counters of the run."""
        counted = totals(self.senders)
        sent = sum(one.sent for one in self.senders)
        sent_bytes = sum(one.sent_bytes for one in self.senders)
        span = elapsed_s if elapsed_s > 0 else 1.0
        return {
            **counted,
            "worst_gap_ms": round(self.worst_gap_ns / 1e6, 6),
            "replies": self.replies,
            "packets": sent,
            "bytes": sent_bytes,
            "lost": 0,
            "duplicates": 0,
            "reordered": 0,
            "elapsed_s": round(elapsed_s, 6),
            "packets_per_s": round(sent / span, 3),
            "bits_per_s": round(8 * sent_bytes / span, 3),
            "streams": [],
        }

    def run(
        self, loop: Loop, deadline_ns: float | None, wait_ns: float
    ) -> Iterator[Datagram | Notice]:
        """Send everything, then listen `wait_ns` for replies; yield records as they happen."""
        for descriptor in self._senders:
            loop.watch(descriptor)
        while not self._done(loop, deadline_ns):
            yield from self._send_due()
            if self._payloads.ended and not self._pending:
                break
            yield from self._wait(loop, deadline_ns)
        yield from self._linger(loop, deadline_ns, time.monotonic_ns() + wait_ns)

    def _done(self, loop: Loop, deadline_ns: float | None) -> bool:
        if loop.stopped_by is not None:
            self.reason = "signal"
        elif deadline_ns is not None and time.monotonic_ns() >= deadline_ns:
            self.reason = "timeout"
        return self.reason != "end"

    def _send_due(self) -> Iterator[Datagram | Notice]:
        """Send until the pace, the input or the socket buffer says wait."""
        for _ in range(_SEND_BATCH):
            now_ns = time.monotonic_ns()
            if self._pace.limited and now_ns < self._pacer.next_ns:
                return
            if not self._pending and not self._next_round():
                return
            sender, target, payload = self._pending[0]
            try:
                refused = sender.send(payload, target)
            except BlockingIOError:
                self._blocked = sender.fileno()
                return
            del self._pending[0]
            self._note_pace(now_ns, len(payload))
            if refused is not None and refused not in self._told:
                self._told.add(refused)
                yield refused_notice(target, refused)
            if self._trace and refused is None:
                yield self._record(sender, target, payload)

    def _next_round(self) -> bool:
        if self._payloads.ended:
            return False
        round_ = self._payloads.take(time.time_ns())
        if round_ is None:
            return False
        self._pending = [
            (sender, target, payload)
            for (sender, target), payload in zip(self._pairs, round_, strict=True)
        ]
        return True

    def _note_pace(self, now_ns: int, size: int) -> None:
        if self._last_ns is not None:
            self.worst_gap_ns = max(self.worst_gap_ns, now_ns - self._last_ns)
        self._last_ns = now_ns
        if self._pace.per_round and self._pending:
            return
        if self._pace.bitrate:
            self._pacer.interval_ns = max(size, 1) * 8e9 / self._pace.bitrate
        self._pacer.sent(now_ns)

    def _record(self, sender: Sender, target: Target, payload: bytes) -> Datagram:
        return Datagram(
            time.time_ns(),
            "tx",
            target.nic.name if target.nic else "",
            target.nic.ifindex if target.nic else 0,
            self._sources[target],
            sender.local_port,
            target.host,
            target.port,
            sender.ttl_for(target),
            sender.egress.dscp,
            len(payload),
            payload,
            recognise(payload),
        )

    def _wait(self, loop: Loop, deadline_ns: float | None) -> Iterator[Datagram]:
        """Wait for room in the socket buffer, for input, or for the next send time."""
        if self._blocked is not None:
            loop.watch(self._blocked, writable=True)
            loop.wait(deadline_ns)
            loop.watch(self._blocked)
            self._blocked = None
            return
        until: float | None = 0  # nothing limits the rate: only look
        hungry = self._payloads.hungry and not self._pending
        if hungry:
            until = deadline_ns
            loop.watch(self._payloads.descriptor)
        elif self._pace.limited:
            next_ns = self._pacer.next_ns
            until = next_ns if deadline_ns is None else min(next_ns, deadline_ns)
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
            for _ in range(_SEND_BATCH if sender else 0):
                heard = sender.receive() if sender else None
                if heard is None:
                    break
                self.replies += 1
                yield heard[0]
