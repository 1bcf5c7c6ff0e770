"""A terminal taken over: its second screen, keys one by one, and all of it given back.

Drawing never waits: while the terminal has not taken the frame before, the next is left out.
Ctrl-Z gives the terminal back and 'fg' takes it again; in the background nothing is touched.
"""

import os
import re
import select
import signal
import termios
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

from mcastctl.output.stream import Output, foreground

_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"
"""Second screen, no cursor, no wrapping; from its upper left corner, empty."""
_LEAVE = b"\x1b[0m\x1b[H\x1b[J\x1b[?7h\x1b[?25h\x1b[?1049l"
_BEGIN, _END = b"\x1b[?2026h", b"\x1b[?2026l"
"""Synchronized output: a terminal that knows it shows the frame at once."""
_KEY_FLAGS = termios.ICANON | termios.ECHO
_LOCAL = 3  # c_lflag of what tcgetattr returns
_MOST_KEYS = 64
_DEADLY = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU)
"""What ends a process without a summary, and would leave the terminal as it is."""
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
"""What arrows and function keys send (ECMA-48 section 5.4, SS3): no key of a view."""


def ascii_only(environ: Mapping[str, str]) -> bool:
    """Tell whether the terminal's encoding, as the locale names it, is not UTF-8."""
    names = (environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    locale = next((name for name in names if name), "")
    return "utf8" not in locale.lower().replace("-", "")


class Screen:
    """The terminal of standard output, and the keys of standard input if that is one too.

    `keys_from` is the descriptor keys are read from, None without. `changed` is set when the
    terminal has another size or must be drawn anew.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self.keys_from = 0 if os.isatty(0) else None
        self.changed = False
        self._taken = False
        self._modes: list[Any] | None = None
        self._asked_to_stop = self._continued = False
        self._handlers: dict[int, Any] = {}

    def take(self) -> None:
        """Take the terminal, now or as soon as this is its foreground process."""
        actions: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGTSTP: self._note_stop,
            signal.SIGCONT: self._note_continued,
            signal.SIGWINCH: self._note_change,
            **dict.fromkeys(_DEADLY, self._die),
        }
        for number, action in actions.items():
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, action)
        self.attend()

    def give_back(self) -> None:
        """Give everything back as it was; once more does no harm."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        self._leave()

    @property
    def waiting(self) -> bool:
        """Whether a signal asks for attention."""
        return self._asked_to_stop or self._continued

    def attend(self) -> bool:
        """Stop or go on as the signals asked; tell whether the terminal is ours."""
        if self._asked_to_stop:
            self._asked_to_stop = False
            self._leave()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # here it stands still
            signal.signal(signal.SIGTSTP, self._note_stop)
        if self._continued:
            self._continued = self._taken = False  # whoever stopped us may have changed it
        if not self._taken and foreground(1):
            self._enter()
        return self._taken

    def _enter(self) -> None:
        self._taken = self.changed = True
        self._out.write(_ENTER)
        if self.keys_from is None:
            return
        with suppress(termios.error):
            now = termios.tcgetattr(self.keys_from)
            if now[_LOCAL] & termios.ICANON:  # else it is still as we left it
                self._modes = now
            chosen = list(now)
            chosen[_LOCAL] &= ~_KEY_FLAGS
            termios.tcsetattr(self.keys_from, termios.TCSANOW, chosen)

    def _leave(self) -> None:
        if not self._taken:
            return
        self._taken = False
        if not foreground(1):  # it belongs to the shell by now
            return
        self._out.write(_LEAVE)
        self._out.settle()
        if self.keys_from is not None and self._modes is not None:
            with suppress(termios.error):
                termios.tcsetattr(self.keys_from, termios.TCSANOW, self._modes)

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def _note_continued(self, number: int, frame: FrameType | None) -> None:
        self._continued = True

    def _note_change(self, number: int, frame: FrameType | None) -> None:
        self.changed = True

    def _die(self, number: int, frame: FrameType | None) -> None:
        self.give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def size(self) -> tuple[int, int]:
        """Return columns and lines; 80 and 24 where the terminal does not tell."""
        with suppress(OSError):
            columns, lines = os.get_terminal_size(1)
            if columns and lines:
                return columns, lines
        return 80, 24

    def pressed(self) -> str:
        """Return the keys pressed since the last look."""
        if self.keys_from is None or not self._taken:
            return ""
        waiter = select.poll()
        waiter.register(self.keys_from, select.POLLIN)
        if not waiter.poll(0):
            return ""
        try:
            data = os.read(self.keys_from, _MOST_KEYS)
        except OSError:
            data = b""
        if not data:
            self.keys_from = None  # the terminal is gone
        return _SEQUENCE.sub("", data.decode("ascii", "replace"))

    def draw(self, lines: list[str]) -> bool:
        """Draw a frame, a line for each of the terminal's; tell whether there was room for it."""
        if self._out.flush():
            return False
        self.changed = False
        # Each line is erased before it is written: behind a full one the cursor stands on its
        # last character.
        text = "\r\n".join(f"\x1b[0m\x1b[K{line}" for line in lines)
        body = text.encode(errors="backslashreplace")
        self._out.write(_BEGIN + b"\x1b[H" + body + b"\x1b[0m" + _END)
        self._out.flush()
        return True
