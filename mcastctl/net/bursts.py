"""Rounds of datagrams in bursts: prepared in buffers, handed over by the ladder of each socket."""

import time
from collections.abc import Iterator

from mcastctl.model.pacing import Pacer, SendTimes
from mcastctl.model.records import Notice
from mcastctl.net.ladder import Ladder, together
from mcastctl.net.payloads import Probes, Repeated
from mcastctl.net.sender import Sender, Target, refused

MOST_SLOTS = 128
_MOST_BYTES = 1 << 18
"""Datagrams and bytes that are prepared at once: more gains nothing and leaves the cache."""
_MOST_CALLS = 8
"""Calls between two looks at signals, deadlines and replies."""
_CATCH_UP = 4
"""Largest burst of a paced run in groups of its pacer."""


class Bursts:
    """The feed of a fast run; `pacer` None for as fast as it goes. Counts as `OneByOne` does."""

    def __init__(
        self,
        pairs: list[tuple[Sender, Target]],
        payloads: Probes | Repeated,
        pacer: Pacer | None,
        *,
        segment: bool,
    ) -> None:
        self._payloads = payloads
        self._pacer = pacer
        self._targets = len(pairs)
        self._rounds = _rounds(payloads.size, len(pairs), segment=segment)
        places: dict[Sender, list[int]] = {}
        for place, (sender, _) in enumerate(pairs):
            places.setdefault(sender, []).append(place)
        self._ladders = [
            Ladder(
                sender,
                [pairs[place][1] for place in mine],
                payloads.slots(mine, self._rounds),
                segment=segment,
            )
            for sender, mine in places.items()
        ]
        self._queue: list[tuple[Ladder, int, int]] = []  # ladder, first slot, end
        self._told: set[int] = set()
        self.blocked: int | None = None
        self.times = SendTimes()

    @property
    def pending(self) -> bool:
        """Whether a round is not wholly sent."""
        return bool(self._queue)

    @property
    def largest(self) -> int:
        """The most datagrams of one call."""
        return max(ladder.largest for ladder in self._ladders)

    def wake_ns(self) -> float:
        """Return when to send next; 0 for at once."""
        return 0 if self._pacer is None or self._queue else self._pacer.group_ns

    def send_due(self) -> Iterator[Notice]:
        """Send until the pace, the input or the socket buffer says wait."""
        for _ in range(_MOST_CALLS):
            now_ns = time.monotonic_ns()
            if not self._queue and not self._prepare(now_ns):
                return
            ladder, first, end = self._queue[0]
            try:
                taken, error = ladder.send(first, end - first)
            except BlockingIOError:
                self.blocked = ladder.fileno()
                return
            self._advance(taken)
            self.times.note(now_ns, taken)
            if self._pacer is not None:
                self._pacer.sent(now_ns, taken)
            if error and error not in self._told:
                self._told.add(error)
                yield refused(ladder.targets[first % len(ladder.targets)], error)

    def _prepare(self, now_ns: int) -> bool:
        rounds = self._rounds
        if self._pacer is not None:
            due = min(self._pacer.due(now_ns), _CATCH_UP * self._pacer.group)
            rounds = min(rounds, -(-due // self._targets))
        first, rounds = self._payloads.claim(rounds)
        for ladder in self._ladders if rounds else ():
            ladder.slots.stamp(first, rounds, time.time_ns())
            self._queue.append((ladder, 0, rounds * len(ladder.targets)))
        return rounds > 0

    def _advance(self, taken: int) -> None:
        ladder, first, end = self._queue.pop(0)
        if first + taken < end:
            self._queue.insert(0, (ladder, first + taken, end))


def _rounds(size: int, targets: int, *, segment: bool) -> int:
    """Return how many rounds of payloads of `size` bytes are prepared at once."""
    slots = min(MOST_SLOTS, _MOST_BYTES // max(size, 1))
    whole = together(size)
    if segment and targets == 1 and whole > 1:
        return max(slots // whole, 1) * whole  # no call for a rest
    return max(slots // targets, 1)
