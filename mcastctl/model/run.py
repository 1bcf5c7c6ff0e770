"""Datagrams of one stream that followed each other: told once, with what differs in columns."""

from collections.abc import Iterator
from operator import sub
from typing import TYPE_CHECKING

from mcastctl.model.mark import RTP, Mark
from mcastctl.model.records import Datagram

if TYPE_CHECKING:
    from array import array


class Run:
    """`first` in full; all others share its flow, length and stream.

    `times_ns` are their arrivals less `base_ns`, `stamps` the sender's clock as `Mark.stamp` (empty
    where there is none). Numbers, where the kind has them, count up by one. `payloads` is empty
    when only the beginnings were received.
    """

    __slots__ = ("base_ns", "first", "payloads", "stamps", "times_ns")

    def __init__(
        self,
        first: Datagram,
        base_ns: int,
        times_ns: "array[int]",
        stamps: "array[int]",
        payloads: list[bytes],
    ) -> None:
        self.first = first
        self.base_ns = base_ns
        self.times_ns = times_ns
        self.stamps = stamps
        self.payloads = payloads

    @property
    def mark(self) -> Mark:
        """The mark of the first."""
        return self.first.mark

    @property
    def number(self) -> int:
        """How many datagrams."""
        return len(self.times_ns)

    @property
    def last_ns(self) -> int:
        """When the last one came."""
        return self.base_ns + self.times_ns[-1]

    def at(self, place: int) -> Datagram:
        """Return one of them."""
        mark = self.first.mark
        if mark.seq is not None:
            mask = 0xFFFF if mark.kind == RTP else (1 << 64) - 1
            mark = mark._replace(seq=(mark.seq + place) & mask, stamp=self.stamps[place])
        return self.first._replace(
            ts_ns=self.base_ns + self.times_ns[place],
            payload=self.payloads[place] if self.payloads else self.first.payload,
            mark=mark,
        )

    def datagrams(self) -> Iterator[Datagram]:
        """Yield every one."""
        return map(self.at, range(self.number))

    def absorb(self, later: "Run") -> bool:
        """Take over a run that goes on where this one ends; tell whether it does.

        A later one without TTL and traffic class was received without asking for them.
        """
        first, then = self.first, later.first
        flow = _FLOW if then.ttl is not None or then.dscp is not None else _ENDS
        if first[flow] != then[flow] or first.length != then.length:
            return False
        if first.mark[:2] != then.mark[:2]:
            return False
        if first.mark.seq is not None:
            mask = 0xFFFF if first.mark.kind == RTP else (1 << 64) - 1
            if then.mark.seq != (first.mark.seq + self.number) & mask:
                return False
        shift = later.base_ns - self.base_ns
        self.times_ns.extend([time + shift for time in later.times_ns] if shift else later.times_ns)
        self.stamps.extend(later.stamps)
        self.payloads.extend(later.payloads)
        return True

    def after(self, place: int) -> "Run":
        """Return the run that begins at `place`."""
        return Run(
            self.at(place),
            self.base_ns,
            self.times_ns[place:],
            self.stamps[place:],
            self.payloads[place:],
        )

    def before(self, place: int) -> "Run":
        """Return the run that ends before `place`."""
        return Run(
            self.first,
            self.base_ns,
            self.times_ns[:place],
            self.stamps[:place],
            self.payloads[:place],
        )

    def widest_gap_ns(self, known_ns: int) -> int:
        """Return the longest time between two arrivals if it is more than `known_ns`, else that.

        Arrivals in order cannot be further apart than the ends of the stretch they lie in: only
        stretches longer than what is known need a closer look.
        """
        times = self.times_ns
        if times[-1] - times[0] <= known_ns:
            return known_ns
        edges = [*times[::_STRETCH], times[-1]]
        spans = list(map(sub, edges[1:], edges))
        longest = spans.index(max(spans)) * _STRETCH  # what it holds rules most others out
        known_ns = _widest(times[longest : longest + _STRETCH + 1], known_ns)
        longer = [place for place, span in enumerate(spans) if span > known_ns]
        if len(longer) > _FEW:
            return _widest(times, known_ns)
        for place in longer:
            part = times[place * _STRETCH : (place + 1) * _STRETCH + 1]
            known_ns = _widest(part, known_ns)
        return known_ns


def _widest(times: "array[int]", known_ns: int) -> int:
    """Return the longest time between two neighbours if it is more than `known_ns`, else that."""
    return max(known_ns, max(map(sub, times[1:], times), default=0))


_FLOW, _ENDS = (
    slice(Datagram._fields.index("direction"), Datagram._fields.index(end))
    for end in ("length", "ttl")
)
"""The fields of a datagram that a flow shares, and those of them that are always known."""
_STRETCH, _FEW = 8, 64
"""Arrivals of a stretch; more stretches than that are looked at all in one."""

Heard = Datagram | Run
"""What a receiver hands on: one datagram, or many at once."""


def without_last(heard: list[Heard], number: int) -> list[Heard]:
    """Return what was heard but for the last `number` datagrams: more than were asked for."""
    while number > 0 and heard:
        last = heard.pop()
        size = last.number if isinstance(last, Run) else 1
        if isinstance(last, Run) and size > number:
            heard.append(last.before(size - number))
        number -= size
    return heard
