"""A diagnosis for people: the verdict on one line, its evidence indented, the fix to paste."""

import os
from collections.abc import Mapping, Sequence

from mcastctl.model.records import Finding
from mcastctl.output import color, stream
from mcastctl.output.escape import escape

_WORDS = {"error": "FAULT", "warning": "note", "info": "ok"}
_COLORS = {"info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}


def show(found: Sequence[Finding], color_option: str, environ: Mapping[str, str]) -> None:
    """Print the findings, the answer first."""
    colored = color.wanted(color_option, environ, terminal=os.isatty(1))
    stream.say("\n".join(line for one in found for line in lines(one, colored=colored)))


def lines(one: Finding, *, colored: bool = False) -> list[str]:
    """Return a finding as lines."""
    word = _WORDS[one.severity]
    word = f"{_COLORS[one.severity]}{word}\x1b[0m" if colored else word
    sure = ", inferred" if one.severity == "error" and one.certain == "inferred" else ""
    shown = [f"{word}  {escape(one.title)}  [{one.id}, {one.where}{sure}]"]
    shown += [f"      {escape(each)}" for each in one.evidence if each]
    if one.hint:
        shown.append(f"  fix: {escape(one.hint)}")
    return shown
