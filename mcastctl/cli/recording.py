"""`listen -w`: what was heard into a capture file, beside whatever is printed."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import click

from mcastctl.cli import params as p
from mcastctl.cli import run
from mcastctl.model.errors import COULD_NOT_ASK, McastError, ValueRangeError
from mcastctl.model.records import Datagram, Record
from mcastctl.model.run import Run
from mcastctl.net.loop import Loop

if TYPE_CHECKING:
    from mcastctl.capture.writer import Writer

Heard: TypeAlias = "Iterator[Record | Run]"
Records = Callable[[Loop], Heard]

option = click.option(
    "-w", "--write", "write", type=p.FILE, help="Record what is heard; .pcapng or pcap."
)


def wanted(path: str | None) -> "Recording | None":
    """Return what writes to the file, None without one. Raises CaptureFileError."""
    if path is None:
        return None
    if path == "-":
        raise ValueRangeError(
            "-w - would mix a capture with what is printed",
            hint="name a file, or capture to standard output with 'mcastctl sniff -w -'",
        )
    from mcastctl.capture.writer import Writer

    return Recording(Writer(path))


class Recording:
    """Writes every datagram of a run."""

    def __init__(self, writer: "Writer") -> None:
        self._writer = writer

    def of(self, records: Records, *, shown: bool) -> Records:
        """Return what writes each datagram before it passes it on, if it is `shown` at all."""

        def recorded(loop: Loop) -> Heard:
            from mcastctl.capture.rebuilt import frame

            for record in records(loop):
                if isinstance(record, Run | Datagram):
                    for datagram in record.datagrams():
                        self._writer.write(frame(datagram))
                    if not shown:
                        continue
                yield record

        return recorded

    def ending(self, ask: Callable[[], run.Outcome]) -> Callable[[], run.Outcome]:
        """Return what closes the file before it tells how the run ended."""
        return lambda: self._end(ask())

    def _end(self, outcome: run.Outcome) -> run.Outcome:
        """Tell how many datagrams are in the file, or why not all of them."""
        status, failed = outcome.status, outcome.failed
        try:
            self._writer.close()
        except McastError as error:
            status, failed = COULD_NOT_ASK, error
        fields = {**outcome.fields, "written": self._writer.written}
        return run.Outcome(outcome.reason, fields, status, failed)
