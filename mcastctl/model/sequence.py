"""Sequence numbers to counts: lost, duplicate, reordered, whatever the order of arrival.

A late number turns a loss into a reordering and a duplicate never hides a loss. Memory is
bounded: the oldest gaps are forgotten (their numbers stay lost).
"""

from bisect import bisect_right

from mcastctl.model.room import OWN, Room

NEW, LATE, DUPLICATE, STRAY = "new", "late", "duplicate", "stray"

MAX_RANGES = 4096
"""Open gaps remembered per stream."""
MAX_BACK = 100
"""How far before the first number heard one may lie and still be late rather than a restart
(MAX_MISORDER of RFC 3550 appendix A.1): the stream then began earlier than it seemed."""
MAX_LATE = 3000
"""How far back a number of a narrow counter may lie at all (MAX_DROPOUT of RFC 3550 appendix
A.1): 16 bits come round within minutes, so further back is another time, not a late arrival."""
MAX_GAP = 2**32
"""Largest forward step that counts as loss."""


class SequenceTracker:
    """Exact counters for one stream of `bits`-wide sequence numbers.

    `unique + duplicates + strays` is the number of updates; without restarts
    `unique + lost` is the span from `first` to `highest`. `room` is where many streams find
    places for their gaps; `release` gives them back.
    """

    __slots__ = (
        "_floor",
        "_granted",
        "_half",
        "_mask",
        "_reach",
        "_room",
        "_starts",
        "_stops",
        "_suspect",
        "duplicates",
        "first",
        "highest",
        "lost",
        "reordered",
        "restarts",
        "strays",
        "unique",
    )

    def __init__(self, bits: int = 64, room: Room | None = None) -> None:
        self._room = Room(MAX_RANGES) if room is None else room
        self._granted = OWN
        self._mask = (1 << bits) - 1
        self._half = 1 << (bits - 1)
        self._reach = MAX_LATE if bits < 64 else self._mask
        self.first = self.highest = -1
        self.unique = self.lost = self.duplicates = self.reordered = 0
        self.restarts = self.strays = 0
        self._starts: list[int] = []  # open gaps, ascending, as [start, stop)
        self._stops: list[int] = []
        self._floor = -(1 << 64)  # gaps below this number are forgotten
        self._suspect: int | None = None

    def update(self, seq: int) -> str:
        """Account for one arrival; return NEW, LATE, DUPLICATE or STRAY."""
        if self.unique == 0:
            return self._start(seq)
        step = (seq - self.highest) & self._mask
        if step == 1:
            self.highest += 1
            self.unique += 1
            return NEW
        if step >= self._half:
            step -= self._mask + 1
        if step == 0:
            self.duplicates += 1
            return DUPLICATE
        if 0 < step <= MAX_GAP:
            return self._skip(step)
        number = self.highest + step
        if step < 0 and number >= max(self.first - MAX_BACK, self.highest - self._reach):
            return self._look_back(number)
        return self._jump(seq)

    def continues(self, seq: int) -> bool:
        """Tell whether `seq` is the number after the highest."""
        return self.unique > 0 and (seq - self.highest) & self._mask == 1

    def extend(self, count: int) -> None:
        """Account for the `count` numbers after the highest, in order."""
        self.highest += count
        self.unique += count

    def _start(self, seq: int) -> str:
        self.first = self.highest = seq
        self.unique += 1
        return NEW

    def _skip(self, step: int) -> str:
        self._starts.append(self.highest + 1)
        self.highest += step
        self._stops.append(self.highest)
        self.lost += step - 1
        self.unique += 1
        self._bound()
        return NEW

    def _look_back(self, number: int) -> str:
        if number < self.first:
            return self._extend_back(number)
        if number < self._floor:
            self.strays += 1  # its gap is forgotten: late or twice, nobody can tell
            return STRAY
        at = bisect_right(self._starts, number) - 1
        if at < 0 or number >= self._stops[at]:
            self.duplicates += 1
            return DUPLICATE
        self._fill(at, number)
        self.lost -= 1
        self.reordered += 1
        self.unique += 1
        return LATE

    def _fill(self, at: int, number: int) -> None:
        """Take one number out of the open gap at index `at`."""
        start, stop = self._starts[at], self._stops[at]
        pieces = [(a, b) for a, b in ((start, number), (number + 1, stop)) if a < b]
        self._starts[at : at + 1] = [a for a, _ in pieces]
        self._stops[at : at + 1] = [b for _, b in pieces]
        self._bound()

    def _extend_back(self, number: int) -> str:
        """A number from before the first: the stream began earlier than it seemed."""
        if number + 1 < self.first:
            self._starts.insert(0, number + 1)
            self._stops.insert(0, self.first)
            self.lost += self.first - number - 1
        self.first = number
        self.reordered += 1
        self.unique += 1
        self._bound()
        return LATE

    def release(self) -> None:
        """Forget the open gaps: the numbers in them stay lost."""
        self._room.left += self._granted - OWN
        self._granted = OWN
        self._starts.clear()
        self._stops.clear()

    def _bound(self) -> None:
        while len(self._starts) > self._granted:
            if self._granted < MAX_RANGES and self._room.take():
                self._granted += OWN
                continue
            self._floor = max(self._floor, self._stops.pop(0))
            del self._starts[0]

    def _jump(self, seq: int) -> str:
        """Far from everything: two in a row are a restart (RFC 3550 appendix A.1)."""
        if self._suspect == seq:
            self.restarts += 1
            self.strays -= 1
            self.release()
            self.first = (seq - 1) & self._mask
            self._floor = -(1 << 64)
            self.highest = self.first + 1
            self.unique += 2
            self._suspect = None
            return NEW
        self._suspect = (seq + 1) & self._mask
        self.strays += 1
        return STRAY
