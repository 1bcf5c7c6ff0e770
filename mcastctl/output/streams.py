"""Captured streams as a table and control traffic as a commentary, for people."""

from collections.abc import Callable, Iterable
from typing import Any

from mcastctl.model.address import host_port
from mcastctl.model.mark import MPEGTS
from mcastctl.model.packet import Packet
from mcastctl.model.records import Notice, Record, Report
from mcastctl.model.run import Run
from mcastctl.model.watch import Row
from mcastctl.output import tables, text
from mcastctl.output.escape import escape
from mcastctl.output.packets import CAPTURING, PRIVILEGE, Messages, where

HEADINGS = (
    *("SOURCE", "GROUP", "IFACE", "TTL", "PROTOCOL", "PACKETS"),
    *("RATE", "BITRATE", "LOST", "JITTER", "JOINED"),
)


def cells(row: Row) -> list[str]:
    """Return one row of text."""
    one = row.stream
    told = one.to_dict()
    lost = "-"
    if one.numbered or one.kind == MPEGTS:
        lost = f"{one.lost} ({one.loss_percent:.2g}%)" if one.lost else "0"
    joined = "-" if row.joined is None else ("yes" if row.joined else "no")
    return [
        host_port(one.src, one.sport),
        host_port(one.dst, one.dport),
        place(row),
        "-" if one.ttl is None else str(one.ttl),
        row.protocol,
        str(one.packets),
        _rate(told["packets_per_s"], "/s"),
        _rate(told["bits_per_s"], "bit/s"),
        lost,
        f"{one.jitter.ns / 1e6:.3f} ms" if one.numbered and one.kind != MPEGTS else "-",
        joined,
    ]


def place(row: Row) -> str:
    """Return 'eth0 vlan 5', as far as it is known."""
    return escape(" ".join(part for part in (row.stream.iface, *row.segment) if part)) or "-"


def _rate(value: Any, unit: str) -> str:
    return text.scaled(float(value), unit).replace(" ", "") if value else "-"


def table(rows: Iterable[Row]) -> list[str]:
    """Return the busiest first, in columns; a column that knows nothing is left out."""
    ordered = sorted(rows, key=lambda row: -row.stream.bytes)
    filled = [cells(row) for row in ordered]
    kept = [at for at in range(len(HEADINGS)) if at < 2 or any(row[at] != "-" for row in filled)]
    return tables.plain([HEADINGS[at] for at in kept], [[row[at] for at in kept] for row in filled])


class StreamTable(Messages):
    """The table of streams at the end of a capture."""

    def __init__(self, rows: Callable[[], Iterable[Row]], *, quiet: int, verbose: int) -> None:
        super().__init__(quiet=quiet, verbose=verbose)
        self._rows = rows

    def write(self, record: "Record | Run") -> None:
        """Take one record; packets were counted before they came here."""
        if not isinstance(record, Packet):
            super().write(record)

    def tell(self, record: Record) -> None:
        """Print the table before the summary."""
        if isinstance(record, Report) and not self.quiet:
            rows = list(self._rows())
            lines = table(rows) if rows else []
            self.out.write("".join(f"{line}\n" for line in lines).encode())
        super().tell(record)


class Comments(Messages):
    """One line for each change; the packets themselves are passed over."""

    def __init__(self, *, quiet: int, verbose: int) -> None:
        super().__init__(quiet=quiet, verbose=verbose)
        self._place = ""

    def write(self, record: "Record | Run") -> None:
        """Take one record; the events of a packet follow it."""
        if isinstance(record, Packet):
            segment = "".join(f"{escape(one)} " for one in record.segment)
            self._place = where(record.iface, record.direction) + segment
        elif isinstance(record, Notice) and record.code in (CAPTURING, PRIVILEGE):
            super().write(record)
        elif isinstance(record, Notice) and record.level == "info":
            if not self.quiet:
                line = f"{text.clock(record.ts_ns)} {self._place}{escape(record.text)}\n"
                self.out.write(line.encode(errors="backslashreplace"))
        else:
            super().write(record)
