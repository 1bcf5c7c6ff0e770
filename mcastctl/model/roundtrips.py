"""What each responder answered lately: its round trips by request, bounded in length.

Requests since the last reset and the answers to them; the counters of the whole run are those of
`model.responders`.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

from mcastctl.model.history import COLUMNS
from mcastctl.model.records import Reply
from mcastctl.model.responders import MULTICAST, UNICAST, Leg, Responder, Responders


class Trip(NamedTuple):
    """One kind of request to one responder, times in ms, None where nothing was answered."""

    sent: int
    received: int
    duplicates: int
    last_ms: float | None
    avg_ms: float | None
    best_ms: float | None
    worst_ms: float | None
    hops: int | None

    @property
    def loss_percent(self) -> float | None:
        """Unanswered of what was asked, None when nothing was."""
        lost = max(self.sent - self.received, 0)
        return 100 * lost / self.sent if self.sent else None


class Line(NamedTuple):
    """A responder: both kinds, and the round trips by multicast of the last requests.

    In `past` -1 is a request without an answer, None one before its first answer or under way.
    """

    host: str
    expected: bool
    multicast: Trip
    unicast: Trip
    past: tuple[float | None, ...]


class _Answers:
    """Answers of one kind from one responder."""

    __slots__ = ("_best", "_last", "_sum", "_worst", "by_seq", "duplicates", "received")

    def __init__(self) -> None:
        self.by_seq: OrderedDict[int, float] = OrderedDict()
        self.received = self.duplicates = 0
        self._sum = self._best = self._worst = self._last = 0.0

    def add(self, seq: int, rtt_ms: float) -> None:
        if seq in self.by_seq:
            return  # the same round by another interface
        self.by_seq[seq] = rtt_ms
        while len(self.by_seq) > COLUMNS:
            self.by_seq.popitem(last=False)
        self._best = min(self._best, rtt_ms) if self.received else rtt_ms
        self._worst = max(self._worst, rtt_ms)
        self._last = rtt_ms
        self._sum += rtt_ms
        self.received += 1

    def trip(self, sent: int, hops: int | None) -> Trip:
        if not self.received:
            return Trip(sent, 0, self.duplicates, None, None, None, None, hops)
        mean = self._sum / self.received
        times = (self._last, mean, self._best, self._worst)
        return Trip(sent, self.received, self.duplicates, *times, hops)


class RoundTrips:
    """All responders of one run of `ping`."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], _Answers] = {}
        self._base: dict[tuple[str, str], int] = {}
        self._since = 0

    def update(self, reply: Reply) -> None:
        """Account for one answer."""
        answers = self._answers.setdefault((reply.responder, reply.kind), _Answers())
        if reply.duplicate:
            answers.duplicates += 1
        else:
            answers.add(reply.seq, reply.rtt_ns / 1e6)

    def reset(self, responders: Responders, rounds: int) -> None:
        """Count from here, from the request after the last of `rounds`."""
        self._answers.clear()
        self._since = rounds
        for host, one in responders.by_address.items():
            for kind, leg in one.legs.items():
                self._base[host, kind] = leg.sent_count

    def lines(self, responders: Responders, rounds: int) -> list[Line]:
        """Return a line for each responder after so many `rounds`."""
        return [
            Line(
                host,
                one.expected,
                self._trip(host, MULTICAST, one, rounds),
                self._trip(host, UNICAST, one, rounds),
                self._past(host, one, rounds),
            )
            for host, one in responders.by_address.items()
        ]

    def final(self, responders: Responders, rounds: int) -> list[Line]:
        """Return a line for each responder with the counters of the whole run."""
        found = []
        for line in self.lines(responders, rounds):
            legs = responders.by_address[line.host].legs
            whole = [
                _whole(leg, trip)
                for leg, trip in ((legs[MULTICAST], line.multicast), (legs[UNICAST], line.unicast))
            ]
            found.append(line._replace(multicast=whole[0], unicast=whole[1]))
        return found

    def _trip(self, host: str, kind: str, one: Responder, rounds: int) -> Trip:
        leg = one.legs[kind]
        answers = self._answers.get((host, kind)) or _Answers()
        sent = leg.sent_count - self._base.get((host, kind), 0)
        under_way = leg.last_sent == rounds - 1 and rounds - 1 not in answers.by_seq
        return answers.trip(max(sent - under_way, answers.received), leg.hops)

    def _past(self, host: str, one: Responder, rounds: int) -> tuple[float | None, ...]:
        answers = self._answers.get((host, MULTICAST)) or _Answers()
        first = one.legs[MULTICAST].first_seq
        begin = max(self._since, rounds - COLUMNS, rounds if first is None else first)
        lost = [-1.0] * (rounds - 1 - begin) + [None]
        past = [answers.by_seq.get(seq, lost[seq - begin]) for seq in range(begin, rounds)]
        return tuple(past)


def _whole(leg: Leg, trip: Trip) -> Trip:
    """Return a trip with what the summary of the run says of its leg."""
    told: Any = leg.to_dict()
    return Trip(
        told["sent"],
        told["received"],
        told["duplicates"],
        trip.last_ms,
        told["rtt_avg_ms"],
        told["rtt_min_ms"],
        told["rtt_max_ms"],
        told["hops"],
    )
