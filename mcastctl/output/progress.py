"""How far a run that has an end has come: one line at the foot of standard error, redrawn.

Plain text and no library: `send` stays as light as it is. It never waits for the terminal.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress

from mcastctl.output.stream import Terminal, foreground
from mcastctl.output.text import scaled

_PATIENCE_NS = 1_000_000_000
"""Runs shorter than this need no bar."""
_FRAME_NS = 250_000_000
_LEAST_BAR = 10
_ERASE = b"\r\x1b[K"

Progress = tuple[int, int, int, int]
"""Parts done, parts in all, datagrams and bytes sent."""


def line(progress: Progress, elapsed_s: float, rest_s: float | None, width: int) -> str:
    """Return the line for a terminal of `width`; `rest_s` is how long there is at the most."""
    done, whole, packets, size = progress
    part = min(done / whole, 1.0)
    left_s = elapsed_s * (1 - part) / part if part else None
    known = [one for one in (left_s, rest_s) if one is not None]
    left = f", {span(min(known))} left" if known else ""
    rate = f", {scaled(packets / elapsed_s, '/s')}"
    bits = f", {scaled(8 * size / elapsed_s, 'bit/s')}"
    for told in (f"sent {packets}{rate}{bits}{left}", f"{rate[2:]}{left}", ""):
        room = width - len(told) - 9  # percent, brackets, blanks, the last column
        if room >= _LEAST_BAR:
            full = int(room * part)
            return f"{100 * part:3.0f}% [{'#' * full}{'.' * (room - full)}] {told}".rstrip()
    return f"{100 * part:3.0f}%"


def span(seconds: float) -> str:
    """Return '12 s', '3:05' or '2:03:05'."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{whole} s"


class Bar:
    """Draws while the run waits (`model.aside`); `deadline_ns` is when it ends at the latest."""

    descriptor: int | None = None

    def __init__(self, progress: Callable[[], Progress | None], deadline_ns: float | None) -> None:
        self._progress = progress
        self._deadline_ns = deadline_ns
        self._out: Terminal | None = None
        self._drawn = False
        self._started_ns = time.monotonic_ns()
        self._next_ns = self._started_ns + _PATIENCE_NS

    def enter(self, stop: Callable[[], None]) -> None:
        """Begin."""
        self._started_ns = time.monotonic_ns()
        self._next_ns = self._started_ns + _PATIENCE_NS

    def next_ns(self) -> float:
        """Return the time of the next look."""
        return self._next_ns

    def turn(self) -> None:
        """Draw, unless the terminal has no room or belongs to somebody else now."""
        now_ns = time.monotonic_ns()
        self._next_ns = now_ns + _FRAME_NS
        if self._out is None:
            with suppress(OSError):  # not ours to open
                self._out = Terminal(os.ttyname(2))
        progress = self._progress()
        if self._out is None or progress is None or self._out.flush() or not foreground(2):
            return
        if progress[0] >= progress[1]:
            self.clear()  # what is left is waiting for replies
            return
        rest_s = None if self._deadline_ns is None else max(self._deadline_ns - now_ns, 0) / 1e9
        shown = line(progress, (now_ns - self._started_ns) / 1e9, rest_s, _width())
        self._out.write(_ERASE + shown.encode())
        self._out.flush()
        self._drawn = True

    def clear(self) -> None:
        """Erase the line."""
        if self._drawn and self._out is not None:
            self._drawn = False
            self._out.write(_ERASE)
            self._out.settle()

    def leave(self) -> None:
        """Erase the line for good."""
        self.clear()
        if self._out is not None:
            self._out.finish()
            self._out = None


def _width() -> int:
    with suppress(OSError):
        return os.get_terminal_size(2).columns or 80
    return 80
