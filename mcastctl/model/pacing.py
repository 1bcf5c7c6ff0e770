"""When to send next, and how many answers are enough. Time is a parameter everywhere."""

from collections import OrderedDict

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


class TokenBucket:
    """At most `rate` per second, `burst` at once."""

    __slots__ = ("_at_ns", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now_ns: int) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at_ns = now_ns

    def take(self, now_ns: int) -> bool:
        """Take one token if there is one."""
        earned = (now_ns - self._at_ns) * self.rate / 1e9
        self._tokens = min(self.burst, self._tokens + earned)
        self._at_ns = now_ns
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class SourceLimit:
    """A global bucket and one per source; the source longest silent is forgotten first."""

    def __init__(self, rate: float, per_source: float, now_ns: int, keep: int = 4096) -> None:
        self._all = TokenBucket(rate, max(rate, 1), now_ns)
        self._per_source = per_source
        self._keep = keep
        self._sources: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, source: str, now_ns: int) -> bool:
        """Tell whether `source` may have one more answer now."""
        bucket = self._sources.get(source)
        if bucket is None:
            bucket = TokenBucket(self._per_source, max(self._per_source, 1), now_ns)
            self._sources[source] = bucket
            if len(self._sources) > self._keep:
                self._sources.popitem(last=False)
        else:
            self._sources.move_to_end(source)
        return bucket.take(now_ns) and self._all.take(now_ns)
