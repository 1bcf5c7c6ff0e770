"""When to send next, and how many answers are enough. Time is a parameter everywhere."""

from collections.abc import Callable

DEBT_NS = 100_000_000
"""How much lateness is made up. Timers oversleep and other programs take the processor; what is
asked for is a mean rate. A pause ends in no burst, for HASTE limits how fast it is made up."""
HASTE = 4
"""How many times the rate is the most while lateness is made up."""
GROUP_NS = 100_000
"""How long datagrams of a high rate are gathered to be sent together: sleeping takes as long."""


class Pacer:
    """Send times `interval_ns` apart on a monotonic clock."""

    __slots__ = ("_plan_ns", "_soonest_ns", "interval_ns")

    def __init__(self, interval_ns: float, start_ns: int) -> None:
        self.interval_ns = interval_ns
        self.start(start_ns)

    def start(self, now_ns: int) -> None:
        """Let the first be due now."""
        self._plan_ns = self._soonest_ns = float(now_ns)

    @property
    def next_ns(self) -> float:
        """When the next one is due."""
        return max(self._plan_ns, self._soonest_ns)

    @property
    def group(self) -> int:
        """How many to send together: one, unless sleeping takes longer than the interval."""
        return max(1, int(GROUP_NS / self.interval_ns))

    @property
    def group_ns(self) -> float:
        """When so many are due."""
        return max(self._plan_ns + (self.group - 1) * self.interval_ns, self._soonest_ns)

    def due(self, now_ns: int) -> int:
        """Return how many may be sent at `now_ns`."""
        if now_ns < self.next_ns:
            return 0
        return 1 + int((now_ns - self._plan_ns) / self.interval_ns)

    def sent(self, now_ns: int, number: int = 1) -> None:
        """Note that `number` were sent at `now_ns`."""
        planned = self._plan_ns + number * self.interval_ns
        self._plan_ns = max(planned, now_ns + self.interval_ns - DEBT_NS)
        self._soonest_ns = now_ns + number * self.interval_ns / HASTE


class Timetable(Pacer):
    """Send times as far apart as those of a recording, `speed` times as fast.

    `due_ns` tells the recorded time of what is to be sent next, None after the last. Time that
    goes backwards in the recording stands still here. What is late is not made up for by the
    rest: each has its own time. `worst_ns` and `mean_ns` are how late they left.
    """

    __slots__ = ("_ask", "_begin_ns", "_first_ns", "_late_ns", "_number", "_speed", "worst_ns")

    def __init__(self, due_ns: Callable[[], int | None], speed: float) -> None:
        self._ask, self._speed = due_ns, speed
        self._number = self._late_ns = self.worst_ns = 0
        super().__init__(1.0, 0)

    def start(self, now_ns: int) -> None:
        """Let the first be due now."""
        self._begin_ns = now_ns
        self._first_ns = self._ask() or 0
        self._plan_ns = self._soonest_ns = float(now_ns)

    def sent(self, now_ns: int, number: int = 1) -> None:
        """Note that what was due was sent at `now_ns`; look up the next."""
        late_ns = max(now_ns - int(self._plan_ns), 0)
        self._number += 1
        self._late_ns += late_ns
        self.worst_ns = max(self.worst_ns, late_ns)
        due_ns = self._ask()
        if due_ns is not None:
            at_ns = self._begin_ns + (due_ns - self._first_ns) / self._speed
            self._plan_ns = max(at_ns, self._plan_ns)

    @property
    def mean_ns(self) -> float:
        """How late they left on average."""
        return self._late_ns / self._number if self._number else 0.0


class SendTimes:
    """When datagrams left: the longest time between two sends, and the rate."""

    __slots__ = ("_first_ns", "_last_ns", "_latest", "_number", "worst_gap_ns")

    def __init__(self) -> None:
        self.worst_gap_ns = self._number = self._latest = 0
        self._first_ns = self._last_ns = 0

    def note(self, now_ns: int, number: int = 1) -> None:
        """Note that `number` left together."""
        if self._number:
            self.worst_gap_ns = max(self.worst_gap_ns, now_ns - self._last_ns)
        else:
            self._first_ns = now_ns
        self._last_ns = now_ns
        self._number += number
        self._latest = number

    def per_s(self) -> float | None:
        """Return datagrams per second from the first to the last, None if they left together."""
        span = self._last_ns - self._first_ns
        return (self._number - self._latest) * 1e9 / span if span else None


OF_SOURCE, IN_ALL = "rate", "rate-total"
"""Which limit is reached: that of one source, or that of all together."""


class SourceLimit:
    """At most `rate` per second in all and `per_source` to each, with a second's worth at once.

    Kept is when each source will have paid for what it got (the generic cell rate algorithm of
    ITU-T I.371): who owes nothing needs no entry. When more owe than `keep`, the debts that end
    soonest are forgiven: those of ever new sources, not those of who asks for much.
    """

    def __init__(self, rate: float, per_source: float, keep: int = 4096) -> None:
        self._each_ns, self._total_ns = 1e9 / per_source, 1e9 / rate
        self._ahead_ns = max(1e9 - self._each_ns, 0.0)
        self._total_ahead_ns = max(1e9 - self._total_ns, 0.0)
        self._keep = keep
        self._paid_ns = 0.0
        self._sources: dict[str, float] = {}

    def refusal(self, source: str, now_ns: int) -> str | None:
        """Return None when `source` may have one more now, else which limit forbids it."""
        paid_ns = self._sources.get(source)
        if paid_ns is None:
            if len(self._sources) >= self._keep:
                self._forget(now_ns)
            paid_ns = now_ns
        elif paid_ns < now_ns:
            paid_ns = now_ns
        elif paid_ns > now_ns + self._ahead_ns:
            return OF_SOURCE
        total_ns = self._paid_ns
        if total_ns < now_ns:
            total_ns = now_ns
        elif total_ns > now_ns + self._total_ahead_ns:
            return IN_ALL
        self._sources[source] = paid_ns + self._each_ns
        self._paid_ns = total_ns + self._total_ns
        return None

    def _forget(self, now_ns: int) -> None:
        """Keep the greatest debts, half as many as there is room for."""
        owing = [one for one in self._sources.items() if one[1] > now_ns]
        owing.sort(key=lambda one: one[1], reverse=True)
        self._sources = dict(owing[: self._keep // 2])
