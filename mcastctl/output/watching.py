"""Changes of this host to lines: joins and leaves, rates; data goes to standard output."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mcastctl.model.interface import Rates as InterfaceRates
from mcastctl.model.membership import Change
from mcastctl.model.records import Notice, Record, Report, Start
from mcastctl.output import sinks, stream
from mcastctl.output.escape import escape
from mcastctl.output.groups import holder, source_filter
from mcastctl.output.text import clock, scaled

if TYPE_CHECKING:
    from mcastctl.model.run import Run


class Words(Protocol):
    """How one kind of record reads."""

    def line(self, record: Any) -> str:
        """Return the line of a record."""

    def end(self, fields: Mapping[str, Any]) -> str:
        """Return the line that ends a run."""


class Lines(sinks.Sink):
    """The text format: a line a record to standard output, the rest to standard error."""

    def __init__(self, words: Words, *, quiet: int, verbose: int) -> None:
        super().__init__(quiet=quiet, verbose=verbose)
        self._words = words

    def write(self, record: "Record | Run") -> None:
        """Take one record."""
        if isinstance(record, Start | Notice):
            super().write(record)
        elif isinstance(record, Report):
            self.out.flush()
            if self.quiet < 2:
                stream.notice(self._words.end(record.fields))
        elif isinstance(record, Change | InterfaceRates) and not self.quiet:
            self.out.write(self._words.line(record).encode(errors="backslashreplace") + b"\n")


class Memberships:
    """Joins and leaves."""

    def line(self, record: Change) -> str:
        """Return 'joined 239.1.1.1 on eth0 (index 2), only 192.0.2.1, by app[123]:5004'."""
        row = record.row
        source = f" from {record.source}" if record.source else ""
        shape = source_filter(row.mode, row.sources, certain=row.mode_certain)
        told = "" if source or shape in ("any", "-") else f", {shape}"
        by = ", ".join(dict.fromkeys(map(holder, record.owners)))
        return (
            f"{clock(record.ts_ns)} {record.event} {row.group}{source} on {escape(row.iface)}"
            f" (index {row.ifindex}){told}{f', by {by}' if by else ''}"
        )

    def end(self, fields: Mapping[str, Any]) -> str:
        """Return the counts."""
        span = f"{fields['elapsed_s']:.1f} s"
        return f"watched {span}: {fields['joins']} joined, {fields['leaves']} left"


class Rates:
    """Rates of interfaces."""

    def line(self, record: InterfaceRates) -> str:
        """Return received and sent packets, groups and bits a second, and drops."""
        groups = record.rx_multicast_per_s
        multicast = "" if groups is None else f" ({groups:.0f} to groups)"
        dropped = record.rx_dropped + record.tx_dropped
        return (
            f"{clock(record.ts_ns)} {escape(record.name)}"
            f" in {record.rx_packets_per_s:.0f} packets/s{multicast}"
            f" {scaled(record.rx_bits_per_s, 'bit/s')}"
            f", out {record.tx_packets_per_s:.0f} packets/s {scaled(record.tx_bits_per_s, 'bit/s')}"
            f"{f', {dropped} dropped' if dropped else ''}"
        )

    def end(self, fields: Mapping[str, Any]) -> str:
        """Return the time it took."""
        return f"watched {fields['elapsed_s']:.1f} s"


def open_sink(name: str, words: Words, given: Mapping[str, Any]) -> sinks.Sink:
    """Return the sink for text, json or jsonl."""
    if name == "text":
        return Lines(words, quiet=given["quiet"], verbose=given["verbose"])
    return sinks.open_sink("jsonl", quiet=given["quiet"], verbose=given["verbose"])
