"""Interarrival jitter (RFC 3550 section 6.4.1) from send and arrival times."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000, 90000)
_SETTLE_NS = 200_000_000


MEMORY = 256
"""Updates after which the filter has forgotten: (15/16)**256 < 1e-7."""


class Jitter:
    """The filter J += (|D| - J) / 16, in nanoseconds, over (sent, arrived) pairs."""

    __slots__ = ("_sent", "_transit", "ns")

    def __init__(self) -> None:
        self.ns = 0.0
        self._sent: int | None = None
        self._transit: float | None = None

    def update(self, sent_ns: float, arrived_ns: int) -> None:
        """Account for one datagram; the two clocks need not agree, only run alike."""
        transit = arrived_ns - sent_ns
        if self._transit is not None:
            self.ns += (abs(transit - self._transit) - self.ns) / 16
        self._transit = transit

    def update_burst(self, sent_ns: int, arrived_ns: int) -> None:
        """Account for a datagram unless it was sent together with the one before.

        Of those with one send time the first alone left at that time.
        """
        if sent_ns != self._sent:
            self._sent = sent_ns
            self.update(sent_ns, arrived_ns)

    def extend(self, sent_ns: Sequence[int], base_ns: int, arrived_ns: Sequence[int]) -> None:
        """Account for many as `update_burst` does; arrivals are `base_ns` later than they say.

        What came MEMORY updates ago is a ten-millionth of the value: those before are left out.
        """
        places: list[int] = []
        end = len(sent_ns)
        while end and len(places) <= MEMORY:
            sent = sent_ns[end - 1]
            end -= 1
            if end and sent_ns[end - 1] == sent:
                end = _first_of(sent_ns, end)
            places.append(end)
        if len(places) > MEMORY:
            self._transit = None  # the last one is there for its transit time alone
        for place in reversed(places):
            self.update_burst(sent_ns[place], base_ns + arrived_ns[place])


def _first_of(sent_ns: Sequence[int], last: int) -> int:
    """Return where the equal values begin that end at place `last`."""
    sent = sent_ns[last]
    first = bisect_left(sent_ns, sent, 0, last)  # right for a sender whose clock rises
    if first < last and sent_ns[first] == sent:
        part: Any = sent_ns[first : last + 1]
        if part == part[:1] * len(part):
            return first
    while last and sent_ns[last - 1] == sent:
        last -= 1
    return last


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
