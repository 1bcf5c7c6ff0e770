"""When a run ends by itself: enough heard, time over, or silence too long."""


class Limits:
    """Stop conditions on the monotonic clock, in ns; None for no such limit.

    `reason` tells in the end which one it was: count, timeout, idle (or what the caller sets).
    """

    __slots__ = ("_last_ns", "count", "deadline_ns", "idle_ns", "reason", "taken")

    def __init__(
        self, now_ns: int, *, count: int | None, timeout_s: float | None, idle_s: float | None
    ) -> None:
        self.count = count
        self.deadline_ns = None if timeout_s is None else now_ns + timeout_s * 1e9
        self.idle_ns = None if idle_s is None else idle_s * 1e9
        self.taken = 0
        self.reason = ""
        self._last_ns = now_ns

    def room(self, wanted: int) -> int:
        """Return how many of `wanted` more may still be taken."""
        return wanted if self.count is None else min(wanted, self.count - self.taken)

    def take(self, number: int, now_ns: int) -> None:
        """Note that `number` were taken."""
        if number:
            self.taken += number
            self._last_ns = now_ns

    def next_ns(self) -> float | None:
        """Return the time at which to look again, None for never."""
        idle = None if self.idle_ns is None else self._last_ns + self.idle_ns
        times = [time for time in (self.deadline_ns, idle) if time is not None]
        return min(times, default=None)

    def reached(self, now_ns: int, *, quiet: bool = True) -> bool:
        """Tell whether to stop, and set `reason`.

        `quiet` says that nothing was waiting just now: what was not read yet is no silence.
        """
        if self.reason:
            return True
        if self.count is not None and self.taken >= self.count:
            self.reason = "count"
        elif self.deadline_ns is not None and now_ns >= self.deadline_ns:
            self.reason = "timeout"
        elif quiet and self.idle_ns is not None and now_ns - self._last_ns >= self.idle_ns:
            self.reason = "idle"
        return bool(self.reason)
