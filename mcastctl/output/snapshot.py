"""Snapshots to standard output: one JSON array, JSON lines, or a table."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Protocol

from mcastctl.model.interface import Interface
from mcastctl.model.records import Finding
from mcastctl.output import color, stream, tables
from mcastctl.output.escape import escape

_MARKS = {"info": "ok", "warning": "skip", "error": "FAIL"}
_COLORS = {"info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}


class _Record(Protocol):
    def to_dict(self) -> dict[str, object]: ...


def records(found: Sequence[_Record], name: str) -> None:
    """Print records as one array ('json') or a line each ('jsonl')."""
    rows = [json.dumps(one.to_dict(), allow_nan=False) for one in found]
    text = "\n".join(rows) if name == "jsonl" else "[" + ",\n ".join(rows) + "]"
    stream.say(text)


def interfaces(
    found: Sequence[Interface],
    name: str,
    color_option: str,
    environ: Mapping[str, str],
    *,
    verbose: bool,
) -> None:
    """Print interfaces in a format of `ifaces`; `verbose` adds the joined groups."""
    if name in ("json", "jsonl"):
        records(found, name)
        return
    if name == "index":
        stream.say("\n".join(str(one.ifindex) for one in found))
        return
    pages: list[tuple[Sequence[str], list[list[str]]]] = [
        (tables.HEADINGS, tables.interface_rows(found))
    ]
    if verbose:
        pages.append((tables.GROUP_HEADINGS, tables.group_rows(found)))
    terminal = os.isatty(1)
    colored = color.wanted(color_option, environ, terminal=terminal)
    for headings, rows in pages:
        if terminal:
            stream.say(tables.show(headings, rows, color=colored).rstrip("\n"))
        else:
            stream.say("\n".join(tables.plain(headings, rows)))


def checks(
    found: Sequence[Finding], name: str, color_option: str, environ: Mapping[str, str]
) -> None:
    """Print the checks of a self-test, a line each."""
    if name in ("json", "jsonl"):
        records(found, name)
        return
    colored = color.wanted(color_option, environ, terminal=os.isatty(1))
    lines = []
    for one in found:
        mark = f"{_MARKS[one.severity]:<4}"
        mark = f"{_COLORS[one.severity]}{mark}\x1b[0m" if colored else mark
        lines.append(f"{mark}  {escape(one.title):<28}  {escape('; '.join(one.evidence))}")
        if one.hint:
            lines.append(f"      hint: {escape(one.hint)}")
    stream.say("\n".join(lines))
    counts = [sum(one.severity == severity for one in found) for severity in _MARKS]
    stream.notice("{} checks passed, {} not run, {} failed".format(*counts))
