"""Interarrival jitter (RFC 3550 section 6.4.1) from send and arrival times."""

_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000, 90000)
_SETTLE_NS = 200_000_000


class Jitter:
    """The filter J += (|D| - J) / 16, in nanoseconds, over (sent, arrived) pairs."""

    __slots__ = ("_transit", "ns")

    def __init__(self) -> None:
        self.ns = 0.0
        self._transit: float | None = None

    def update(self, sent_ns: float, arrived_ns: int) -> None:
        """Account for one datagram; the two clocks need not agree, only run alike."""
        transit = arrived_ns - sent_ns
        if self._transit is not None:
            self.ns += (abs(transit - self._transit) - self.ns) / 16
        self._transit = transit


class RtpClock:
    """RTP timestamps to nanoseconds, finding the clock rate when the payload type is dynamic.

    A dynamic type does not say its rate; after 0.2 s the usual rate closest to what was
    observed is taken. Until then `to_ns` returns None.
    """

    __slots__ = ("_first", "_last", "_rate", "_ticks")

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._last: int | None = None
        self._ticks = 0
        self._first = 0

    def to_ns(self, timestamp: int, arrived_ns: int) -> float | None:
        """Return the media time of `timestamp` in nanoseconds since the first one."""
        if self._last is None:
            self._first = arrived_ns
        else:
            step = (timestamp - self._last) & 0xFFFFFFFF
            self._ticks += step if step < 1 << 31 else step - (1 << 32)
        self._last = timestamp
        elapsed = arrived_ns - self._first
        if self._rate is None and elapsed >= _SETTLE_NS and self._ticks > 0:
            seen = self._ticks * 1e9 / elapsed
            self._rate = min(_RATES, key=lambda rate: abs(rate / seen - 1))
        return self._ticks * 1e9 / self._rate if self._rate else None
