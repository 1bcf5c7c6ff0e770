"""Columns of text and of small charts to a table exactly as wide as the terminal.

Where it is narrow, columns go one by one, the least important first; addresses that still do not
fit go on in the next line. Charts take what is left. Cells must be escaped by whoever makes them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, chop_cells
from rich.text import Text

MARKS = {"ok": ".", "gap": "x", "late": "_", "duplicate": ":", "reordered": "<", "quiet": " "}
"""Marks of a strip (`model.history`): apart without colour, and in ASCII."""
_COLORS = {"ok": "green", "gap": "bold red", "late": "magenta", "duplicate": "yellow"}
STYLES = {**_COLORS, "reordered": "cyan", "quiet": ""}

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.:-=+*#"
_GAP = 2
_LEAST_FOLDED = 8

Pieces = list[tuple[str, str]]
"""Text and style, one after the other."""


class Column(NamedTuple):
    """A column of text; those of the highest `rank` go first, those of rank 0 never.

    `styles` has one style a row, or is empty.
    """

    name: str
    rank: int
    cells: Sequence[str]
    right: bool = False
    styles: Sequence[str] = ()

    @property
    def least(self) -> int:
        """The width that shows every cell whole."""
        return max(map(cell_len, (self.name, *self.cells)))


class Chart(NamedTuple):
    """A column that is as wide as there is room, between `least` and `most`.

    `draw(row, width)` returns the pieces of one cell.
    """

    name: str
    rank: int
    draw: Callable[[int, int], Pieces]
    least: int
    most: int


class Grid(NamedTuple):
    """What fitted: lines, and how many rows did not."""

    lines: list[Text]
    left_out: int


def lay(columns: Sequence[Column | Chart], rows: int, width: int, height: int) -> Grid:
    """Return a heading and as many of the rows as fit, in lines of at most `width`."""
    kept = list(columns)
    while _needed(kept) > width and (spare := max(one.rank for one in kept)):
        kept.remove(next(one for one in reversed(kept) if one.rank == spare))
    widths = _widths(kept, width)
    lines = [_heading(kept, widths)]
    for row in range(rows):
        shown = _row(kept, widths, row)
        if len(lines) + len(shown) > max(height, 2):
            return Grid(lines, rows - row)
        lines += shown
    return Grid(lines, 0)


def _needed(columns: Sequence[Column | Chart]) -> int:
    return sum(one.least for one in columns) + _GAP * (len(columns) - 1)


def _widths(columns: Sequence[Column | Chart], width: int) -> list[int]:
    """Return the width of each column: charts share what is left, else long texts are folded."""
    widths = [one.least for one in columns]
    spare = width - _needed(columns)
    charts = [at for at, one in enumerate(columns) if isinstance(one, Chart)]
    while spare > 0 and charts:
        at = min(charts, key=lambda at: widths[at])
        if widths[at] >= _most(columns[at]):
            charts.remove(at)
            continue
        widths[at] += 1
        spare -= 1
    texts = [at for at, one in enumerate(columns) if isinstance(one, Column) and not one.right]
    while spare < 0 and texts:
        at = max(texts, key=lambda at: widths[at])
        if widths[at] <= _LEAST_FOLDED:
            break
        widths[at] -= 1
        spare += 1
    return widths


def _most(column: Column | Chart) -> int:
    return column.most if isinstance(column, Chart) else column.least


def _line() -> Text:
    return Text(no_wrap=True, overflow="crop", end="")


def _heading(columns: Sequence[Column | Chart], widths: Sequence[int]) -> Text:
    line = _line()
    for at, (one, width) in enumerate(zip(columns, widths, strict=True)):
        right = isinstance(one, Column) and one.right
        line.append(_padded(one.name[:width], width, right=right), "bold")
        line.append(" " * _GAP if at < len(columns) - 1 else "")
    return line


def _row(columns: Sequence[Column | Chart], widths: Sequence[int], row: int) -> list[Text]:
    """Return the lines of one row: one, or more where a long cell is folded."""
    cells: list[list[Pieces]] = []
    for one, width in zip(columns, widths, strict=True):
        if isinstance(one, Chart):
            pieces = one.draw(row, width)
            used = sum(cell_len(text) for text, _ in pieces)
            cells.append([[*pieces, (" " * (width - used), "")]])
        else:
            style = one.styles[row] if one.styles else ""
            cell = one.cells[row]
            parts = [cell] if cell_len(cell) <= width else chop_cells(cell, width)
            cells.append([[(_padded(part, width, right=one.right), style)] for part in parts])
    lines = []
    for number in range(max(map(len, cells))):
        line = _line()
        for at, (parts_, width) in enumerate(zip(cells, widths, strict=True)):
            for text, style in parts_[number] if number < len(parts_) else [(" " * width, "")]:
                line.append(text, style or None)
            line.append(" " * _GAP if at < len(cells) - 1 else "")
        lines.append(line)
    return lines


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def bars(values: Sequence[float | None], width: int, *, ascii_only: bool) -> Pieces:
    """Return the last values as bars from 0 to their largest, the newest at the right.

    None is a blank, a negative value an 'x': there should have been one.
    """
    shown = values[-width:] if width else ()
    top = max((value for value in shown if value is not None), default=0.0)
    ladder = _ASCII_BARS if ascii_only else _BARS
    pieces: Pieces = [(" " * (width - len(shown)), "")]
    for value in shown:
        if value is None:
            pieces.append((" ", ""))
        elif value < 0:
            pieces.append((MARKS["gap"], STYLES["gap"]))
        else:
            step = round(value / top * (len(ladder) - 1)) if top > 0 else 0
            pieces.append((ladder[step], "cyan"))
    return merged(pieces)


def strip(marks: Sequence[str], width: int) -> Pieces:
    """Return the last marks, the newest at the right."""
    shown = marks[-width:] if width else ()
    blank = (" " * (width - len(shown)), "")
    return merged([blank, *((MARKS[mark], STYLES[mark]) for mark in shown)])


def merged(pieces: Pieces) -> Pieces:
    """Return the pieces with neighbours of one style as one."""
    found: Pieces = []
    for text, style in pieces:
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + text, style)
        else:
            found.append((text, style))
    return found


def legend(names: Mapping[str, str]) -> Text:
    """Return '. ok  x missing': what each mark means."""
    line = _line()
    for mark, meaning in names.items():
        line.append(MARKS[mark], STYLES[mark])
        line.append(f" {meaning}  ")
    return line
