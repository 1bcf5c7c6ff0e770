"""A terminal that understands what it is sent: a command runs on it, a test looks and types.

`Terminal` is a pty whose other end is interpreted by pyte; pyte knows no second screen, so what
comes after the command left its own is shown on a fresh one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Sequence
from itertools import groupby
from types import TracebackType
from typing import Any

import pyte
from place import Outcome, Place, Running
from rich.style import Style

LEFT = b"\x1b[?1049l"
"""What gives the first screen back."""
FRAME = b"\x1b[?2026h"
FRAME_END = b"\x1b[?2026l"
"""What begins and ends a frame: as a terminal that knows them, this shows whole ones only."""
CHARTS = {"HISTORY", "ARRIVALS", "IN HISTORY", "OUT HISTORY"}


class Terminal:
    """So many columns and lines; use as a context manager. `raw` is all that was written to it."""

    def __init__(self, columns: int, lines: int = 24) -> None:
        self.ours, self.theirs = pty.openpty()
        self.raw = self._held = b""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._kept: list[list[tuple[str, Style]]] = []
        self.resize(columns, lines)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.ours)
        if self.theirs >= 0:
            os.close(self.theirs)

    def start(self, place: Place, args: Sequence[str], **options: Any) -> Running:
        """Start mcastctl with all three standard descriptors here, unless options say otherwise."""
        here = dict.fromkeys(("stdin", "stdout", "stderr"), self.theirs)
        env = {"TERM": "xterm-256color"} | options.pop("env", {})
        return place.start_mcastctl(*args, env=env, **here | options)

    def resize(self, columns: int, lines: int) -> None:
        """Have another size; the kernel tells only those whose controlling terminal it is."""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.resize(lines, columns)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.ours, keys.encode())

    @property
    def lines(self) -> list[str]:
        """What is on the screen now."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """What is on the screen now, as one string."""
        return "\n".join(self.lines)

    def wait(self, pattern: str, timeout: float = 30) -> re.Match[str]:
        """Read until the screen shows the pattern."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.text, re.MULTILINE)):
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} after {timeout} s on\n{self.text}"
            assert self._read(left), f"it ended without {pattern!r}:\n{self.text}"
        return found

    def finish(self, running: Running, timeout: float = 30) -> Outcome:
        """Read until the command has ended and everything it wrote was seen."""
        os.close(self.theirs)
        self.theirs = -1
        deadline = time.monotonic() + timeout
        while self._read(deadline - time.monotonic()):
            assert time.monotonic() < deadline, f"still there after {timeout} s:\n{self.text}"
        return running.finish(timeout)

    def _read(self, timeout: float) -> bool:
        """Take what is there, False at the end or when nothing comes."""
        if not select.select([self.ours], [], [], max(timeout, 0))[0]:
            return False
        try:
            data = os.read(self.ours, 65536)
        except OSError as error:  # Linux tells so that the other end is closed
            assert error.errno == errno.EIO
            return False
        self.raw += data
        self._held += data
        begun = self._held.rfind(FRAME)
        whole = len(self._held) if FRAME_END in self._held[begun:] or begun < 0 else begun
        shown, self._held = self._held[:whole], self._held[whole:]
        _, left, after = shown.rpartition(LEFT)
        if left:
            self._screen.reset()
            shown = after
        self._stream.feed(shown)
        return bool(data)

    def snapshot(self) -> None:
        """Keep what is on the screen now: `styled` then tells of this moment."""
        self._kept = self.styled()

    def styled(self) -> list[list[tuple[str, Style]]]:
        """What is (or was at the snapshot) on the screen: lines of pieces with their style."""
        if self._kept:
            return self._kept
        rows = [self._screen.buffer[at] for at in range(self._screen.lines)]
        cells = [[row[at] for at in range(self._screen.columns)] for row in rows]
        lines = [
            [("".join(one.data for one in same), style) for style, same in groupby(row, _style)]
            for row in cells
        ]
        while lines and not "".join(text for text, _ in lines[-1]).strip():
            del lines[-1]
        return lines

    @property
    def attentive(self) -> bool:
        """Whether it echoes and gathers lines, as a shell left it."""
        local = termios.tcgetattr(self.ours)[3]
        return bool(local & termios.ECHO and local & termios.ICANON)

    def table(self, first: str) -> list[dict[str, str]]:
        """The rows of the table whose heading begins with `first`: cells by the name above them.

        Charts stand at the end and are left out: they may hold blanks.
        """
        lines = iter(self.lines)
        heading = next(line for line in lines if line.startswith(f"{first} "))
        names = [name for name in _cells(heading) if name not in CHARTS]
        rows = []
        for line in lines:
            cells = _cells(line)
            if len(cells) < len(names):
                break
            rows.append(dict(zip(names, cells, strict=False)))
        return rows


def _style(char: pyte.screens.Char) -> Style:
    colour = {"default": None, "brown": "yellow"}.get(char.fg, char.fg)
    return Style(color=colour, bold=char.bold or None, reverse=char.reverse or None)


def _cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())
