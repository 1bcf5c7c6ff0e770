"""The live view of `ping`: every host that answers, its loss, and its round trips one by one."""

import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from mcastctl.model.history import COLUMNS
from mcastctl.model.records import Reply
from mcastctl.model.responders import Responders
from mcastctl.model.roundtrips import Line, RoundTrips, Trip
from mcastctl.output import summaries
from mcastctl.output.escape import escape
from mcastctl.output.grid import Chart, Column, bars
from mcastctl.output.view import Table

_LEAST_CHART = 8
_ABOUT = (
    "nobody has answered yet",
    "HISTORY   round trips by multicast, the newest at the right, from 0 to the longest shown;",
    "          x is a request without an answer",
    "LOSS      of the requests since the first answer, by multicast; UNICAST: loss and mean there",
)
_NEVER = float("inf")
_SORTS: dict[str, Callable[[Line], Any]] = {
    "address": lambda one: 0,
    "loss": lambda one: -(one.multicast.loss_percent or 0.0),
    "time": lambda one: _NEVER if one.multicast.avg_ms is None else one.multicast.avg_ms,
}


class PingPage:
    """Responders of a run; `rounds` tells how many requests went to the group so far."""

    period_s = 1.0
    sorts = tuple(_SORTS)
    legend = None
    about = _ABOUT

    def __init__(
        self, responders: Responders, rounds: Callable[[], int], *, ascii_only: bool
    ) -> None:
        self._responders = responders
        self._rounds = rounds
        self._ascii = ascii_only
        self._trips = RoundTrips()
        self._started_s = time.monotonic()

    def take(self, record: Any) -> None:
        """Account for an answer."""
        if isinstance(record, Reply):
            self._trips.update(record)

    def tick(self, elapsed_s: float) -> None:
        """Look again: a request may have gone unanswered."""

    def reset(self) -> None:
        """Count from zero."""
        self._trips.reset(self._responders, self._rounds())

    def facts(self) -> Sequence[str]:
        """Return time, requests and hosts."""
        hosts = summaries.counted(len(self._responders.by_address), "host")
        asked = summaries.counted(self._rounds(), "time")
        elapsed_s = time.monotonic() - self._started_s
        return f"{elapsed_s:.0f} s", f"asked {asked}", hosts, "times in ms"

    def table(self, sort: str) -> Table:
        """Return the responders as they are now."""
        return _table(self._trips.lines(self._responders, self._rounds()), sort, self._ascii)

    def final(self, fields: Mapping[str, Any]) -> tuple[Table, list[str]]:
        """Return the responders with the numbers of the whole run."""
        lines = self._trips.final(self._responders, self._rounds())
        return _table(lines, "address", self._ascii), summaries.summary(fields, listed=False)


def _table(lines: Sequence[Line], sort: str, ascii_only: bool) -> Table:
    ordered = sorted(lines, key=lambda one: (_SORTS[sort](one), _address(one.host)))
    return Table(columns(ordered, ascii_only), len(ordered))


def _address(host: str) -> tuple[int, int]:
    number = ip_address(host)
    return number.version, int(number)


def columns(lines: Sequence[Line], ascii_only: bool) -> list[Column | Chart]:
    """Return the columns of these responders in the order they stand."""
    trips = [one.multicast for one in lines]
    red = ["bold red" if one.loss_percent else "" for one in trips]

    def history(row: int, width: int) -> list[tuple[str, str]]:
        return bars(lines[row].past, width, ascii_only=ascii_only)

    return [
        Column("HOST", 0, [escape(one.host) for one in lines]),
        Column(
            "HOPS", 3, ["-" if one.hops is None else str(one.hops) for one in trips], right=True
        ),
        Column("SENT", 5, [str(one.sent) for one in trips], right=True),
        Column("LOSS", 0, [_loss(one) for one in trips], right=True, styles=red),
        Column("DUP", 7, [str(one.duplicates) for one in trips], right=True),
        Column("LAST", 1, [_ms(one.last_ms) for one in trips], right=True),
        Column("AVG", 0, [_ms(one.avg_ms) for one in trips], right=True),
        Column("BEST", 4, [_ms(one.best_ms) for one in trips], right=True),
        Column("WORST", 3, [_ms(one.worst_ms) for one in trips], right=True),
        Column("UNICAST", 2, [_both(one.unicast) for one in lines], right=True),
        Chart("HISTORY", 0, history, _LEAST_CHART, COLUMNS),
    ]


def _loss(trip: Trip) -> str:
    return "-" if trip.loss_percent is None else f"{trip.loss_percent:.3g}%"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _both(trip: Trip) -> str:
    return f"{_loss(trip)} {_ms(trip.avg_ms)}" if trip.sent else "-"
