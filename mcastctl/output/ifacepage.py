"""The live view of interfaces: what comes in and goes out of each, and how that was lately."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcastctl.model.history import COLUMNS
from mcastctl.model.interface import Rates
from mcastctl.output import summaries, text, watching
from mcastctl.output.escape import escape
from mcastctl.output.grid import Chart, Column, bars
from mcastctl.output.view import Table

_LEAST_CHART = 8
_GONE = 2.5
"""Intervals without news after which an interface is no more."""
_ABOUT = (
    "nothing yet",
    "IN, OUT   packets a second of the last interval, then bits a second",
    "GROUPS    packets a second to groups; '-': the driver has counted none so far",
    "DROPPED   packets dropped on the way in and out, since the beginning",
)
_SORTS: dict[str, Callable[[Rates], Any]] = {
    "index": lambda one: 0,
    "name": lambda one: one.name,
    "rate": lambda one: -(one.rx_packets_per_s + one.tx_packets_per_s),
    "groups": lambda one: -(one.rx_multicast_per_s or 0.0),
}


class _Past:
    """What one interface did."""

    __slots__ = ("dropped", "last", "rx", "tx")

    def __init__(self, first: Rates) -> None:
        self.last = first
        self.dropped = 0
        self.rx: deque[float] = deque(maxlen=COLUMNS)
        self.tx: deque[float] = deque(maxlen=COLUMNS)

    def add(self, rates: Rates) -> None:
        self.last = rates
        self.dropped += rates.rx_dropped + rates.tx_dropped
        self.rx.append(rates.rx_packets_per_s)
        self.tx.append(rates.tx_packets_per_s)


class IfacePage:
    """Interfaces by their rates as they come."""

    period_s = 1.0
    sorts = tuple(_SORTS)
    legend = None
    about = _ABOUT

    def __init__(self, *, ascii_only: bool) -> None:
        self._ascii = ascii_only
        self._known: dict[int, _Past] = {}
        self._started_s = time.monotonic()

    def take(self, record: Any) -> None:
        """Account for the rates of one interface."""
        if isinstance(record, Rates):
            self._known.setdefault(record.ifindex, _Past(record)).add(record)

    def tick(self, elapsed_s: float) -> None:
        """Forget interfaces that are no more."""
        newest = max((one.last.ts_ns for one in self._known.values()), default=0)
        for index, one in list(self._known.items()):
            if newest - one.last.ts_ns > _GONE * one.last.elapsed_s * 1e9:
                del self._known[index]

    def reset(self) -> None:
        """Forget the past."""
        for one in self._known.values():
            one.dropped = 0
            one.rx.clear()
            one.tx.clear()

    def facts(self) -> Sequence[str]:
        """Return time and number."""
        number = summaries.counted(len(self._known), "interface")
        return f"{time.monotonic() - self._started_s:.0f} s", number

    def table(self, sort: str) -> Table:
        """Return the interfaces as they are now."""
        past = sorted(
            self._known.values(), key=lambda one: (_SORTS[sort](one.last), one.last.ifindex)
        )
        last = [one.last for one in past]
        rx, tx = [tuple(one.rx) for one in past], [tuple(one.tx) for one in past]

        def chart(of: list[tuple[float, ...]]) -> Callable[[int, int], list[tuple[str, str]]]:
            return lambda row, width: bars(of[row], width, ascii_only=self._ascii)

        groups = [one.rx_multicast_per_s for one in last]
        dropped = [one.dropped for one in past]
        columns: list[Column | Chart] = [
            Column("INDEX", 6, [str(one.ifindex) for one in last], right=True),
            Column("NAME", 0, [escape(one.name) for one in last]),
            Column("IN/s", 0, [f"{one.rx_packets_per_s:.0f}" for one in last], right=True),
            Column("GROUPS/s", 1, ["-" if n is None else f"{n:.0f}" for n in groups], right=True),
            Column("IN", 3, [text.scaled(one.rx_bits_per_s, "bit/s") for one in last], right=True),
            Column("OUT/s", 2, [f"{one.tx_packets_per_s:.0f}" for one in last], right=True),
            Column("OUT", 4, [text.scaled(one.tx_bits_per_s, "bit/s") for one in last], right=True),
            Column(
                "DROPPED",
                1,
                list(map(str, dropped)),
                right=True,
                styles=["bold red" if number else "" for number in dropped],
            ),
            Chart("IN HISTORY", 0, chart(rx), _LEAST_CHART + 2, COLUMNS),
            Chart("OUT HISTORY", 5, chart(tx), _LEAST_CHART + 3, COLUMNS),
        ]
        return Table(columns, len(past))

    def final(self, fields: Mapping[str, Any]) -> tuple[Table, list[str]]:
        """Return the rates of the last interval."""
        return self.table("index"), [watching.Rates().end(fields)]
