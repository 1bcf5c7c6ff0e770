"""What each stream did lately: a rate and a mark an interval, bounded in streams and in length.

A mark is the worst that happened in the interval, in the spirit of mcjoin's strips: something is
missing, nothing came although it was due, a datagram came twice or behind its successor.
"""

from collections import deque
from collections.abc import Iterable
from heapq import nlargest
from typing import NamedTuple

from mcastctl.model.mark import MPEGTS
from mcastctl.model.stream import Counters, StreamStats
from mcastctl.model.watch import Row

OK, GAP, LATE, DUPLICATE, REORDERED, QUIET = "ok", "gap", "late", "duplicate", "reordered", "quiet"
COLUMNS = 240
"""Intervals remembered: more than any terminal has columns for."""
MAX_TRACKS = 512
"""Streams with a history, the busiest; of others only their number is told."""
_OVERDUE = 3
"""Usual distances between two datagrams after which silence is no accident."""
_ZERO: Counters = (0, 0, 0, 0, 0)


class Sample(NamedTuple):
    """One stream at one moment; counters since the last reset, rates of the last interval.

    `loss_percent` is None where it cannot be known since then.
    """

    row: Row
    packets: int
    bytes: int
    lost: int
    duplicates: int
    reordered: int
    loss_percent: float | None
    packets_per_s: float
    bits_per_s: float
    rates: tuple[float, ...]
    marks: tuple[str, ...]


class Track:
    """The past of one stream."""

    __slots__ = ("_base", "_bits", "_gap_ns", "_seen", "_silent_s", "marks", "rates")

    def __init__(self) -> None:
        self.rates: deque[float] = deque(maxlen=COLUMNS)
        self.marks: deque[str] = deque(maxlen=COLUMNS)
        self._base = self._seen = _ZERO
        self._bits = self._silent_s = 0.0
        self._gap_ns = 0

    def observe(self, stream: StreamStats, elapsed_s: float) -> None:
        """Account for the interval that ends now and took `elapsed_s`."""
        now = stream.counters()
        packets, size, lost, duplicates, reordered = _less(now, self._seen)
        self._seen = now
        silent_s = self._silent_s
        self._silent_s = 0.0 if packets else silent_s + elapsed_s
        self.rates.append(packets / elapsed_s)
        self._bits = 8 * size / elapsed_s
        if lost > 0:
            mark = GAP
        elif self._late(stream, packets, elapsed_s, known=silent_s > 0):
            mark = LATE
        elif duplicates:
            mark = DUPLICATE
        else:
            mark = REORDERED if reordered else (OK if packets else QUIET)
        self.marks.append(mark)
        self._gap_ns = stream.max_gap_ns

    def _late(self, stream: StreamStats, packets: int, elapsed_s: float, *, known: bool) -> bool:
        """Tell whether nothing came for much longer than usual, and for long at all.

        Silence that is `known` from the interval before is not told of this one again.
        """
        if stream.packets < 2:
            return False
        usual_s = (stream.last_ns - stream.first_ns) / 1e9 / (stream.packets - 1)
        if not packets:
            return self._silent_s > _OVERDUE * usual_s
        gap_s = stream.max_gap_ns / 1e9
        grew = stream.max_gap_ns > self._gap_ns and not known
        return grew and gap_s >= elapsed_s / 2 and gap_s > _OVERDUE * usual_s

    def reset(self) -> None:
        """Forget the past and count from zero."""
        self.rates.clear()
        self.marks.clear()
        self._base = self._seen

    def sample(self, row: Row) -> Sample:
        """Return what there is to show."""
        stream = row.stream
        packets, size, lost, duplicates, reordered = _less(stream.counters(), self._base)
        percent: float | None = stream.loss_percent
        if not (stream.numbered or stream.kind == MPEGTS):
            percent = None
        elif self._base != _ZERO:
            whole = packets - duplicates + lost
            known = stream.kind != MPEGTS and whole > 0  # that loses transport packets
            percent = 100 * max(lost, 0) / whole if known else None
        rate = self.rates[-1] if self.rates else 0.0
        bits = self._bits if self.rates else 0.0
        counted = (packets, size, lost, duplicates, reordered)
        return Sample(row, *counted, percent, rate, bits, tuple(self.rates), tuple(self.marks))


class Tracks:
    """The tracks of all streams; `untracked` is how many of the last look had none."""

    def __init__(self) -> None:
        self._tracks: dict[StreamStats, Track] = {}
        self.untracked = 0

    def observe(self, rows: Iterable[Row], elapsed_s: float) -> list[Sample]:
        """End an interval; return a sample of each stream, as busy as they come."""
        every = list(rows)
        kept = nlargest(MAX_TRACKS, every, key=lambda row: row.stream.bytes)
        self.untracked = len(every) - len(kept)
        old, self._tracks = self._tracks, {}
        for row in kept:
            track = self._tracks[row.stream] = old.get(row.stream) or Track()
            track.observe(row.stream, elapsed_s)
        return [self._tracks[row.stream].sample(row) for row in kept]

    def final(self, rows: Iterable[Row]) -> list[Sample]:
        """Return the whole run of each stream, with its mean rate, as its summary has it."""
        return [_whole(row, self._tracks.get(row.stream)) for row in rows]

    def reset(self) -> None:
        """Forget the past of every stream and count from zero."""
        for track in self._tracks.values():
            track.reset()


def _whole(row: Row, track: Track | None) -> Sample:
    told = row.stream.to_dict()
    known = row.stream.numbered or row.stream.kind == MPEGTS
    past = (tuple(track.rates), tuple(track.marks)) if track else ((), ())
    return Sample(
        row,
        *row.stream.counters(),
        row.stream.loss_percent if known else None,
        float(str(told["packets_per_s"])),
        float(str(told["bits_per_s"])),
        *past,
    )


def _less(a: Counters, b: Counters) -> Counters:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4])
