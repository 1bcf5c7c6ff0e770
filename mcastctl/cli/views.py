"""`--live`: where it draws and where it prints lines, and what each view is given.

rich is loaded only by what draws.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import options
from mcastctl.model.errors import ValueRangeError

if TYPE_CHECKING:
    from mcastctl.model.watch import Row
    from mcastctl.net.listener import Listening
    from mcastctl.net.pinger import Pinging
    from mcastctl.net.transmission import Transmission
    from mcastctl.output.progress import Bar
    from mcastctl.output.sinks import Sink
    from mcastctl.output.view import Page

PERIOD_S = 1.0
"""How often a view looks unless told."""
SHORTEST_S = 0.1

option = click.option(
    "--live", is_flag=True, help="Draw a table that follows the run; '?' explains its keys."
)


def wanted(given: Mapping[str, Any], name: str) -> bool:
    """Tell whether to follow the run instead of printing it; refuse what cannot go together."""
    if not given["live"]:
        return False
    lines = name != "text" or given.get("exec_command") is not None
    if lines and not options.typed("live"):
        return False  # a setting for every run, and this one is for a program
    if lines:
        other = "--exec" if name == "text" else options.spelled_format(given, name)
        raise ValueRangeError(
            f"--live and {other} cannot go together", hint="a table is drawn, or lines are printed"
        )
    options.refuse_dumps(given, "--live")
    refuse_haste(given["interval"])
    return not given["quiet"]


def refuse_haste(interval_s: float | None) -> None:
    """Refuse to look more often than makes sense."""
    if interval_s is not None and interval_s < SHORTEST_S:
        raise ValueRangeError(
            "--live does not go with so short an interval",
            hint=f"write --live --interval 1s (at least {SHORTEST_S} s)",
        )


def drawn(given: Mapping[str, Any]) -> bool:
    """Tell whether there is a terminal to draw on, and somebody who wants to look."""
    return os.isatty(1) and not given["quiet"] and os.environ.get("TERM", "") not in _DUMB


_DUMB = ("", "dumb", "unknown")
"""Names of terminals that understand nothing but lines; Windows gives none."""


def listening(given: Mapping[str, Any], heard: "Listening") -> "Sink":
    """Return the view of a run of `listen`; without a terminal, lines of each interval."""
    if not drawn(given):
        from mcastctl.output.intervals import IntervalLines

        return IntervalLines(verbose=given["verbose"])
    from mcastctl.model.watch import Row
    from mcastctl.output import summaries

    def rows() -> "Iterable[Row]":
        return (Row(one, one.kind, None) for one in heard.statistics.streams.values())

    def counts() -> dict[str, int]:
        statistics = heard.statistics
        return {
            "lost": statistics.total("lost"),
            "dropped here": heard.kernel_drops(),
            "datagrams": statistics.packets,
        }

    return streams(given, rows, counts, lambda fields: summaries.summary(fields, listed=False))


def interval_s(given: Mapping[str, Any], live: bool) -> float | None:
    """Return how often a run reports: as asked; never to a view, which looks itself."""
    if live and drawn(given):
        return None
    asked: float | None = given["interval"]
    return PERIOD_S if live and asked is None else asked


def streams(
    given: Mapping[str, Any],
    rows: "Callable[[], Iterable[Row]]",
    counts: Callable[[], Mapping[str, int]],
    end: Callable[[Mapping[str, Any]], list[str]],
) -> "Sink":
    """Return the view of streams that `rows` tells whenever asked."""
    from mcastctl.output.streampage import StreamPage

    period_s = given.get("interval") or PERIOD_S
    return _view(given, StreamPage(rows, counts, end, period_s=period_s, ascii_only=_ascii_only()))


def responders(given: Mapping[str, Any], pinging: "Pinging") -> "Sink":
    """Return the view of a run of `ping`."""
    from mcastctl.output.pingpage import PingPage

    page = PingPage(pinging.responders, lambda: pinging.rounds, ascii_only=_ascii_only())
    return _view(given, page)


def interfaces(given: Mapping[str, Any]) -> "Sink":
    """Return the view of the rates of interfaces."""
    from mcastctl.output.ifacepage import IfacePage

    return _view(given, IfacePage(ascii_only=_ascii_only()))


def progress(
    given: Mapping[str, Any], sending: "Transmission", end_ns: float | None
) -> "Bar | None":
    """Return the bar of a run of `send` whose end is known, None where nobody would see it."""
    seen = os.isatty(2) and os.environ.get("TERM", "") not in _DUMB
    if not seen or given["quiet"] or given["verbose"] or sending.progress() is None:
        return None
    from mcastctl.output.progress import Bar

    return Bar(sending.progress, end_ns)


def _view(given: Mapping[str, Any], page: "Page") -> "Sink":
    from mcastctl.output import color
    from mcastctl.output.view import View

    colored = color.wanted(given["color"], os.environ, terminal=True)
    return View(page, color=colored, verbose=given["verbose"])


def _ascii_only() -> bool:
    from mcastctl.output import screen

    return screen.ascii_only(os.environ)
