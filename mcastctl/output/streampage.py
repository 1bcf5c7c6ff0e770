"""The live view of streams: who sends to which group, how fast, losing what, a strip for each."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from mcastctl.model.address import host_port
from mcastctl.model.history import COLUMNS, Sample, Tracks
from mcastctl.model.mark import MPEGTS
from mcastctl.model.watch import Row
from mcastctl.output import text
from mcastctl.output.grid import Chart, Column, bars, legend, strip
from mcastctl.output.streams import place
from mcastctl.output.summaries import MOST, counted
from mcastctl.output.view import Table

_LEAST_CHART = 8
_LEGEND = {
    "ok": "ok",
    "gap": "lost",
    "duplicate": "again",
    "reordered": "reordered",
    "late": "late",
}
_ABOUT = (
    "nothing yet",
    "ARRIVALS  the worst of each interval, the newest at the right: datagrams lost, heard again, "
    "overtaken by their successor, or none although one was due",
    "HISTORY   datagrams a second in each interval, from 0 to the most shown",
    "RATE      of the last interval; at the end of the whole run",
    "LOST      of probes, RTP and MPEG-TS (there transport packets); '-': nobody can know",
)
_SORTS: dict[str, Callable[[Sample], Any]] = {
    "rate": lambda one: -float(f"{one.packets_per_s:.1g}"),  # coarse: or rows change all the time
    "lost": lambda one: -one.lost,
    "jitter": lambda one: -one.row.stream.jitter.ns,
    "source": lambda one: 0,
    "group": lambda one: _address(one.row.stream.dst, one.row.stream.dport),
}


def _address(host: str, port: int) -> tuple[int, int, int]:
    number = ip_address(host)
    return number.version, int(number), port


def _order(sort: str) -> Callable[[Sample], Any]:
    chosen = _SORTS[sort]
    return lambda one: (
        chosen(one),
        _address(one.row.stream.src, one.row.stream.sport),
        _address(one.row.stream.dst, one.row.stream.dport),
        one.row.stream.iface,
        one.row.segment,
    )


class StreamPage:
    """Streams as a run has them: `rows` returns all, `counts` what is told of the whole run.

    `protocols` says that protocols and memberships are known (a capture), `end` makes the lines
    that end the run.
    """

    sorts = tuple(_SORTS)
    legend = legend(_LEGEND)
    about = _ABOUT

    def __init__(
        self,
        rows: Callable[[], Iterable[Row]],
        counts: Callable[[], Mapping[str, int]],
        end: Callable[[Mapping[str, Any]], list[str]],
        *,
        period_s: float,
        ascii_only: bool,
    ) -> None:
        self.period_s = period_s
        self._rows = rows
        self._counts = counts
        self._end = end
        self._ascii = ascii_only
        self._tracks = Tracks()
        self._samples: list[Sample] = []
        self._started_s = time.monotonic()

    def take(self, record: Any) -> None:
        """Take one record; streams are looked at instead."""

    def tick(self, elapsed_s: float) -> None:
        """End an interval of every stream."""
        self._samples = self._tracks.observe(self._rows(), elapsed_s)

    def reset(self) -> None:
        """Count from zero."""
        self._tracks.reset()
        self._samples = []

    def facts(self) -> Sequence[str]:
        """Return time, number of streams and the counts of the whole run."""
        return (
            f"{time.monotonic() - self._started_s:.0f} s",
            counted(len(self._samples) + self._tracks.untracked, "stream"),
            *(f"{name} {value}" for name, value in self._counts().items()),
        )

    def table(self, sort: str) -> Table:
        """Return the streams as the last interval left them."""
        ordered = sorted(self._samples, key=_order(sort))
        return Table(columns(ordered, self._ascii), len(ordered), self._tracks.untracked)

    def final(self, fields: Mapping[str, Any]) -> tuple[Table, list[str]]:
        """Return the busiest streams with the numbers of the whole run, in the order of rates."""
        every = sorted(self._rows(), key=lambda row: -row.stream.bytes)
        whole = sorted(self._tracks.final(every[:MOST]), key=_order("rate"))
        more = len(every) - len(whole)
        return Table(columns(whole, self._ascii), len(whole), more), self._end(fields)


def columns(samples: Sequence[Sample], ascii_only: bool) -> list[Column | Chart]:
    """Return the columns of these samples in the order they stand."""
    streams = [one.row.stream for one in samples]
    lost = [_lost(one) for one in samples]
    red = ["bold red" if one.lost > 0 else "" for one in samples]
    joined = ["-" if one.row.joined is None else ("no", "yes")[one.row.joined] for one in samples]
    timed = [one.numbered and one.kind != MPEGTS and one.packets > 1 for one in streams]
    jitter = [
        f"{one.jitter.ns / 1e6:.3f} ms" if known else "-"
        for one, known in zip(streams, timed, strict=True)
    ]

    def history(row: int, width: int) -> list[tuple[str, str]]:
        return bars(samples[row].rates, width, ascii_only=ascii_only)

    found: list[Column | Chart] = [
        Column("SOURCE", 0, [host_port(one.src, one.sport) for one in streams]),
        Column("GROUP", 0, [host_port(one.dst, one.dport) for one in streams]),
        Column("IFACE", 3, [place(one.row) for one in samples]),
        Column("TTL", 5, ["-" if one.ttl is None else str(one.ttl) for one in streams], right=True),
        Column("PROTOCOL", 10, [one.row.protocol for one in samples]),
        Column("PACKETS", 7, [str(one.packets) for one in samples], right=True),
        Column("RATE", 0, [_rate(one.packets_per_s, "/s") for one in samples], right=True),
        Column("BITRATE", 6, [_rate(one.bits_per_s, "bit/s") for one in samples], right=True),
        Column("LOST", 0, lost, right=True, styles=red),
        Column("DUP", 8, [str(one.duplicates) for one in samples], right=True),
        Column("REORD", 9, [str(one.reordered) for one in samples], right=True),
        Column("JITTER", 4, jitter, right=True),
        Column("JOINED", 6, joined),
        Chart("HISTORY", 2, history, _LEAST_CHART, COLUMNS),
        Chart(
            "ARRIVALS",
            1,
            lambda row, width: strip(samples[row].marks, width),
            _LEAST_CHART,
            COLUMNS,
        ),
    ]
    unknown, past = ["-"] * len(samples), any(one.marks for one in samples)
    return [one for one in found if (one.cells != unknown if isinstance(one, Column) else past)]


def _lost(one: Sample) -> str:
    if one.loss_percent is None:
        known = one.row.stream.numbered or one.row.stream.kind == MPEGTS
        return str(one.lost) if known else "-"
    return f"{one.lost} ({one.loss_percent:.2g}%)" if one.lost else "0"


def _rate(value: float, unit: str) -> str:
    return text.scaled(value, unit).replace(" ", "")
