"""Payloads to targets one datagram at a time: any input, any pace, a record of each on request."""

import time
from collections.abc import Iterator

from mcastctl.model.pacing import Pacer, SendTimes
from mcastctl.model.records import Datagram, Notice
from mcastctl.net.payloads import Payloads
from mcastctl.net.sender import Sender, Target, refused

_MOST_SENDS = 64
"""Sends between two looks at signals, deadlines and replies."""


class OneByOne:
    """The feed of an ordinary run; `pacer` None for as fast as it goes.

    `bitrate` makes the interval follow the size of each datagram; `per_round` paces rounds
    instead of datagrams; `trace` asks for a record of every datagram sent. `blocked` is the
    descriptor whose buffer is full, `times` tells when what was sent.
    """

    largest = 1

    def __init__(
        self,
        pairs: list[tuple[Sender, Target]],
        payloads: Payloads,
        pacer: Pacer | None,
        *,
        bitrate: float | None,
        per_round: bool,
        trace: bool,
    ) -> None:
        self._pairs = pairs
        self._payloads = payloads
        self._pacer = pacer
        self._bitrate = bitrate
        self._per_round = per_round
        self._trace = trace
        self._sources = {target: sender.source_for(target) for sender, target in pairs if trace}
        self._queue: list[tuple[Sender, Target, bytes]] = []
        self._told: set[int] = set()
        self.blocked: int | None = None
        self.times = SendTimes()

    @property
    def pending(self) -> bool:
        """Whether a round is not wholly sent."""
        return bool(self._queue)

    def wake_ns(self) -> float:
        """Return when to send next; 0 for at once."""
        return 0 if self._pacer is None else self._pacer.next_ns

    def send_due(self) -> Iterator[Datagram | Notice]:
        """Send until the pace, the input or the socket buffer says wait."""
        for _ in range(_MOST_SENDS):
            now_ns = time.monotonic_ns()
            if now_ns < self.wake_ns():
                return
            if not self._queue and not self._next_round():
                return
            sender, target, payload = self._queue[0]
            try:
                error = sender.send(payload, target)
            except BlockingIOError:
                self.blocked = sender.fileno()
                return
            del self._queue[0]
            self._note_pace(now_ns, len(payload))
            if error is not None and error not in self._told:
                self._told.add(error)
                yield refused(target, error)
            if self._trace and error is None:
                yield self._record(sender, target, payload)

    def _next_round(self) -> bool:
        if self._payloads.ended:
            return False
        round_ = self._payloads.take(time.time_ns())
        if round_ is None:
            return False
        self._queue = [
            (sender, target, payload)
            for (sender, target), payload in zip(self._pairs, round_, strict=True)
        ]
        return True

    def _note_pace(self, now_ns: int, size: int) -> None:
        self.times.note(now_ns)
        if self._pacer is None or (self._per_round and self._queue):
            return
        if self._bitrate:
            self._pacer.interval_ns = max(size, 1) * 8e9 / self._bitrate
        self._pacer.sent(now_ns)

    def _record(self, sender: Sender, target: Target, payload: bytes) -> Datagram:
        from mcastctl.decode.stream import recognise  # only who traces

        return Datagram(
            time.time_ns(),
            "tx",
            *(sender.out or target.nic or ("", 0)),
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
