"""A live view: what a run does on the terminal's second screen, and its last state on the first.

At most four frames a second. Numbers come from the same objects as the summary of the run; what
is to be told to people meanwhile is kept, shown at the foot and printed at the end.
"""

import io
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.text import Text

from mcastctl.model.interface import Rates
from mcastctl.model.packet import Packet
from mcastctl.model.records import Datagram, Notice, Record, Reply, Report, Start
from mcastctl.model.run import Run
from mcastctl.output import stream, text
from mcastctl.output.escape import escape
from mcastctl.output.grid import Chart, Column, lay
from mcastctl.output.screen import Screen
from mcastctl.output.sinks import Sink

FRAME_NS = 250_000_000
"""Least time between two frames."""
_CHECK_EVERY = 64
"""Packets handed over between two looks at the clock."""
_MOST_KEPT = 200
_SHOWN = 2
_HELP = (
    ("q", "quit; the summary and the last table stay on the screen"),
    ("p", "pause: the picture stands still, counting goes on"),
    ("s", "sort by the next column"),
    ("r", "count from zero; the summary still has the whole run"),
    ("?", "this page, and back"),
)


class Table(NamedTuple):
    """What a page has to show: columns of so many rows, and how many more there are."""

    columns: Sequence[Column | Chart]
    rows: int
    more: int = 0


class Page(Protocol):
    """One kind of view: it gathers, and turns what it gathered into a table."""

    @property
    def period_s(self) -> float:
        """Seconds between two ticks."""

    @property
    def sorts(self) -> tuple[str, ...]:
        """Names of the orders."""

    @property
    def legend(self) -> Text | None:
        """What marks mean, for the foot."""

    @property
    def about(self) -> tuple[str, ...]:
        """What is shown while there is nothing, then lines for the page of help."""

    def take(self, record: Any) -> None:
        """Take one record."""

    def tick(self, elapsed_s: float) -> None:
        """Take a look, so long after the last."""

    def reset(self) -> None:
        """Count from zero."""

    def facts(self) -> Sequence[str]:
        """Return what stands above the table, the most important first."""

    def table(self, sort: str) -> Table:
        """Return what the last look saw; a pure function of it."""

    def final(self, fields: Mapping[str, Any]) -> tuple[Table, list[str]]:
        """Return the table that stays, and what is said at the end to standard error."""


class View(Sink):
    """Draws a page; nothing of single datagrams is asked for."""

    def __init__(self, page: Page, *, color: bool, verbose: int) -> None:
        super().__init__(verbose=verbose)
        self.aside = self
        self._page = page
        self._color = color
        self._screen = Screen(self.out)
        self.descriptor = self._screen.keys_from
        self._title = ""
        self._kept: deque[str] = deque(maxlen=_MOST_KEPT)
        self._warnings: list[str] = []
        self._sort = 0
        self._paused = self._helping = False
        self._passed = 0
        self._dirty = True
        self._drawn_ns = self._ticked_ns = time.monotonic_ns()
        self._stop: Callable[[], None] = lambda: None
        self._table = page.table(page.sorts[0])
        self._facts: Sequence[str] = ()

    @property
    def shows_data(self) -> bool:
        """Single datagrams are not shown."""
        return False

    # --- beside the run

    def enter(self, stop: Callable[[], None]) -> None:
        """Begin; the terminal is taken at the first turn, when nothing has failed."""
        self._stop = stop
        self._drawn_ns = 0
        self._ticked_ns = time.monotonic_ns()

    def next_ns(self) -> float:
        """Return the time of the next tick, or of the next frame if something changed."""
        if self._screen.waiting or not self._drawn_ns:
            return 0
        tick_ns = self._ticked_ns + self._page.period_s * 1e9
        if self._dirty or self._screen.changed:
            return min(tick_ns, self._drawn_ns + FRAME_NS)
        return tick_ns

    def turn(self) -> None:
        """Read keys, tick, draw."""
        if not self._drawn_ns:
            self._screen.take()
        ours = self._screen.attend()
        for key in self._screen.pressed():
            self._press(key)
        self.descriptor = self._screen.keys_from
        now_ns = time.monotonic_ns()
        elapsed_s = (now_ns - self._ticked_ns) / 1e9
        if elapsed_s >= self._page.period_s:
            self._ticked_ns = now_ns
            self._page.tick(elapsed_s)
            self._dirty = True
        if now_ns - self._drawn_ns >= FRAME_NS:
            self._drawn_ns = now_ns
            if ours and (self._dirty or self._screen.changed):
                self._dirty = not self._screen.draw(self._frame())

    def clear(self) -> None:
        """Nothing is written beside the view."""

    def leave(self) -> None:
        """Give the terminal back, and tell what was kept."""
        self._screen.give_back()
        while self._kept:
            stream.notice(self._kept.popleft())
        self._more_joined()

    def _press(self, key: str) -> None:
        self._dirty = True
        if key == "q":
            self._stop()
        elif key == "p":
            self._paused = not self._paused
        elif key == "s":
            self._sort = (self._sort + 1) % len(self._page.sorts)
        elif key == "r":
            self._page.reset()
        elif key in "?h":
            self._helping = not self._helping

    # --- what comes

    def write(self, record: "Record | Run") -> None:
        """Take one record."""
        match record:
            case Packet() | Datagram():  # many, and counted already
                self._passed += 1
                if not self._passed % _CHECK_EVERY and time.monotonic_ns() >= self.next_ns():
                    self.turn()
            case Reply() | Rates():
                self._page.take(record)
                self._dirty = True
            case Start():
                self._title = text.start(record)
            case Notice(code="capturing"):
                self._title = escape(record.text)
            case _:
                super().write(record)

    def tell(self, record: Record) -> None:
        """Keep what is for people until the screen is theirs again; end with the last state."""
        if not isinstance(record, Report):
            lines = self._lines(record)
            self._kept.extend(lines)
            if isinstance(record, Notice) and record.level != "info":
                self._warnings = lines[:_SHOWN]
            self._dirty = True
            return
        self.leave()
        table, lines = self._page.final(record.fields)
        if table.rows:
            width, _ = self._screen.size()
            shown = self._drawn(lay(table.columns, table.rows, width, 1 << 16).lines, width)
            if table.more:
                shown.append(f"and {table.more} more; -j shows all")
            lasting = "".join(f"{line.rstrip()}\n" for line in shown)
            self.out.write(lasting.encode(errors="backslashreplace"))
        self.out.settle()
        for line in lines:
            stream.notice(line)

    def flush(self) -> bool:
        """Go on with what the terminal had no room for."""
        return self.out.flush()

    # --- the picture

    def _frame(self) -> list[str]:
        """Return one frame, a line for each of the terminal's."""
        if not self._paused:
            self._facts = self._page.facts()
            self._table = self._page.table(self._page.sorts[self._sort])
        width, height = self._screen.size()
        head = [Text(self._title, "bold"), Text(_fitting(self._facts, width)), Text("")]
        foot = self._foot()
        room = height - len(head) - len(foot)
        body = (self._help(width) if self._helping else self._rows(width, room))[: max(room, 0)]
        filling = [Text("")] * (room - len(body))
        return self._drawn([*head, *body, *filling, *foot][:height], width)

    def _rows(self, width: int, height: int) -> list[Text]:
        table = self._table
        if not table.rows:
            return [Text(self._page.about[0], "dim")]
        grid = lay(table.columns, table.rows, width, height - 1)
        more = grid.left_out + table.more
        return [*grid.lines, Text(f"and {more} more" if more else "", "dim")]

    def _help(self, width: int) -> list[Text]:
        lines = [f"{key}  {meaning}" for key, meaning in _HELP] + ["", *self._page.about[1:]]
        return [Text(part) for line in lines for part in _wrapped(line, width)]

    def _foot(self) -> list[Text]:
        legend = [] if self._page.legend is None else [self._page.legend]
        warnings = [Text(line, "yellow") for line in self._warnings]
        if self._screen.keys_from is None:
            return [
                *warnings,
                *legend,
                Text("Ctrl-C quits; no keys, standard input is no terminal"),
            ]
        state = Text("PAUSED  " if self._paused else "", "bold reverse")
        go = "go on" if self._paused else "pause"
        order = self._page.sorts[self._sort]
        keys = f"q quit  p {go}  s sort: {order}  r reset  ? help"
        state.append(keys, "not bold not reverse")
        return [*warnings, *legend, state]

    def _drawn(self, lines: Sequence[Text], width: int) -> list[str]:
        """Return lines as the terminal takes them."""
        console = Console(
            file=io.StringIO(),
            width=width,
            height=len(lines),
            force_terminal=self._color,
            no_color=not self._color,
            markup=False,
            highlight=False,
            emoji=False,
            legacy_windows=False,
        )
        with console.capture() as captured:
            for line in lines:
                console.print(line, no_wrap=True, overflow="crop", end="\n")
        return captured.get().split("\n")[: len(lines)]


def _fitting(facts: Sequence[str], width: int) -> str:
    """Return as many facts as fit whole: half a number is another number."""
    line = ""
    for fact in facts:
        longer = f"{line}, {fact}" if line else fact
        if len(longer) > width:
            break
        line = longer
    return line


def _wrapped(line: str, width: int) -> list[str]:
    """Return 'WORD  explanation' in lines of at most `width`, the explanation in a column."""
    word, gap, explained = line.partition("  ")
    indent = len(word + gap) + len(explained) - len(explained.lstrip())
    return wrap(line, width, subsequent_indent=" " * indent) or [""]
