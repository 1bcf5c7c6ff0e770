"""A diagnosis for people: the verdict on one line, its evidence indented, the fix to paste."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mcastctl.model.records import Finding
from mcastctl.output import color, stream
from mcastctl.output.escape import escape

_WORDS = {"error": "FAULT", "warning": "note", "info": "ok"}
_COLORS = {"info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}


_TICKS = {True: "yes", False: "NO", None: "?"}


class _Station(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def passed(self) -> bool | None: ...
    @property
    def said(self) -> str: ...


def show(
    found: Sequence[Finding],
    path: Sequence[_Station],
    color_option: str,
    environ: Mapping[str, str],
) -> None:
    """Print the findings, the answer first, and below them the stations of the path."""
    colored = color.wanted(color_option, environ, terminal=os.isatty(1))
    shown = [line for one in found for line in lines(one, colored=colored)]
    shown += [f"{_TICKS[one.passed]:<4} {escape(one.name):<30} {escape(one.said)}" for one in path]
    stream.say("\n".join(shown))


def announcing(quiet: int) -> Callable[[str], None]:
    """Return what tells on standard error, unless one wants it quiet, what is about to be sent."""
    return lambda text: None if quiet else stream.notice(f"probe: {escape(text)}")


def lines(one: Finding, *, colored: bool = False) -> list[str]:
    """Return a finding as lines."""
    word = _WORDS[one.severity]
    word = f"{_COLORS[one.severity]}{word}\x1b[0m" if colored else word
    sure = ", inferred" if one.severity == "error" and one.certain == "inferred" else ""
    shown = [f"{word}  {escape(one.title)}  [{one.id}, {one.where}{sure}]"]
    shown += [f"      {escape(each)}" for each in one.evidence if each]
    if one.hint:
        fix, _, undo = one.hint.partition("; undo: ")
        shown.append(f"  fix: {escape(fix)}")
        shown += [f" undo: {escape(undo)}"] if undo else []
    return shown
