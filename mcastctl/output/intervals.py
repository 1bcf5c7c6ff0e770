"""What `listen --live` prints where nothing can be drawn: a line for each stream and interval."""

from mcastctl.model.records import Record, Report
from mcastctl.output import summaries, text
from mcastctl.output.sinks import Sink


class IntervalLines(Sink):
    """Lines of streams to standard output; all else as in the text format."""

    @property
    def shows_data(self) -> bool:
        """Single datagrams are not shown."""
        return False

    def tell(self, record: Record) -> None:
        """Print the streams that moved in an interval; the summary without them."""
        if not isinstance(record, Report):
            super().tell(record)
            return
        if record.event == "interval":
            streams: list[summaries.Fields] = record.fields["streams"]  # type: ignore[assignment]
            lines = [
                f"{text.clock(record.ts_ns)} {summaries.stream(one)}\n"
                for one in sorted(streams, key=lambda one: -one["packets"])[: summaries.MOST]
            ]
            self.out.write("".join(lines).encode(errors="backslashreplace"))
            return
        super().tell(record)
