"""When to send next, and how many answers are enough. Time is a parameter everywhere."""

from collections import OrderedDict

CREDIT_NS = 5_000_000
"""How much lateness may be made up. Timers oversleep by 0.1 ms, so without any credit a high
rate is never reached; with more, a pause would end in a burst."""


class Pacer:
    """Send times `interval_ns` apart on a monotonic clock, without catch-up bursts."""

    __slots__ = ("interval_ns", "next_ns")

    def __init__(self, interval_ns: float, start_ns: int) -> None:
        self.interval_ns = interval_ns
        self.next_ns = float(start_ns)

    def sent(self, now_ns: int) -> None:
        """Note a send at `now_ns`; the next one is due at `next_ns`."""
        self.next_ns += self.interval_ns
        if now_ns - self.next_ns > CREDIT_NS:
            self.next_ns = now_ns + self.interval_ns


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
