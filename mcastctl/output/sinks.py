"""Where records go: one sink per format, chosen in one function.

Data goes to standard output; banners, notices and summaries for people go to standard error.
JSON puts everything on standard output. `quiet` 1 leaves the data out, 2 everything.
"""

from typing import TYPE_CHECKING

from mcastctl.model.errors import ValueRangeError
from mcastctl.model.records import (
    Datagram,
    Membership,
    Message,
    Notice,
    Record,
    Reply,
    Report,
    Start,
)
from mcastctl.model.units import parse_size
from mcastctl.output import stream, summaries, text

if TYPE_CHECKING:
    from mcastctl.model.aside import Aside
    from mcastctl.model.run import Run

MOST_JOINS = 8
"""Joins told one by one to people; -v tells all."""

FORMATS = ("text", "json", "jsonl", "hex", "raw")
"""What every streaming command can print."""


class Sink:
    """The text format; the base of all formats that differ only in how data looks.

    `detail` is '', 'x', 'X' or 'A': the dump under each line. With `verbose` the decisions
    taken (joins, sockets) are told as well.
    """

    payload_only = False
    """Whether standard output is for payload: then `quiet` concerns what is for people only."""
    for_people = True
    """Whether a terminal too slow for the data may go without some of it."""
    aside: "Aside | None" = None
    """What has a turn beside the run while this prints it."""

    def __init__(self, *, quiet: int = 0, verbose: int = 0, detail: str = "") -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.detail = detail
        self.out = stream.standard_output() if self.for_people else stream.Output(1)
        self._joined = 0
        self._explained = False  # silence, by the doctor: it knows more than a summary

    @property
    def shows_data(self) -> bool:
        """Whether anything is done with single datagrams."""
        return not self.quiet or self.payload_only

    def write(self, record: "Record | Run") -> None:
        """Take one record."""
        if not isinstance(record, tuple):  # a run: the one record that is no tuple
            if self.shows_data:
                self.run(record)
        elif isinstance(record, Datagram | Reply):
            if self.shows_data:
                self.data(record)
        elif isinstance(record, Message):
            if self.shows_data:
                self.message(record)
        elif self.quiet < 2 or (isinstance(record, Notice) and record.level == "error"):
            self.tell(record)

    def run(self, record: "Run") -> None:
        """Print many datagrams to standard output."""
        if self.detail:
            for datagram in record.datagrams():
                self.data(datagram)
            return
        from mcastctl.output import runs  # only who hears much

        self.out.write("\n".join([*runs.lines(record), ""]).encode(errors="backslashreplace"))

    def data(self, record: Datagram | Reply) -> None:
        """Print one record to standard output."""
        if isinstance(record, Reply):
            line = text.reply(record)
        else:
            line = text.datagram(record, payload_shown=not self.detail)
        if self.detail == "A":
            shown = record.payload.decode("ascii", "replace").translate(_DOTS)
            line = "\n\t".join([line, *shown.split("\n")])  # indented: no line of its own
        elif self.detail:
            rows = text.dump(record.payload, ascii_column=self.detail == "X")
            line = "\n".join([line, *rows])
        self.out.write(line.encode(errors="backslashreplace") + b"\n")

    def message(self, record: Message) -> None:
        """Print one message, or its payload."""
        if self.payload_only:
            self.data(record.datagram)
        else:
            self.out.write(text.message(record).encode(errors="backslashreplace") + b"\n")

    def tell(self, record: Record) -> None:
        """Print one record for people to standard error."""
        self.out.flush()
        for line in self._lines(record):
            stream.notice(line)

    def _membership(self, record: Membership) -> list[str]:
        """Tell the first few joins one by one, the rest as a number."""
        if record.event == "left":
            return [text.membership(record)] if self.verbose else []
        if self.quiet:
            return []
        self._joined += 1
        return [text.membership(record)] if self.verbose or self._joined <= MOST_JOINS else []

    def _more_joined(self) -> None:
        more, self._joined = self._joined - MOST_JOINS, 0
        if more > 0 and not self.verbose:
            stream.notice(f"joined {more} more; -v lists all")

    def _lines(self, record: Record) -> list[str]:
        match record:
            case Start():
                return [text.start(record)] if self.verbose else []
            case Membership():
                return self._membership(record)
            case Notice():
                self._explained = self._explained or record.code == "doctor"
                return text.notice(record) if self.verbose or record.level != "info" else []
            case Report(event="interval"):
                return [summaries.interval(record.fields)]
            case Report():
                # A run that failed before anything came has said so; counters of nothing hide it.
                empty = record.fields["reason"] == "error" and not record.fields["packets"]
                return [] if empty else summaries.summary(record.fields, explained=self._explained)
        return []

    def flush(self) -> bool:
        """Write out what was taken; tell whether a terminal still has to take some of it."""
        self._more_joined()
        return self.out.flush()

    def close(self) -> None:
        """End the output."""
        self.out.finish()


_DOTS = {code: "." for code in [*range(9), *range(11, 32), 127, 0xFFFD]}


class JsonLines(Sink):
    """One JSON object a line, everything on standard output. ASCII only, never NaN."""

    for_people = False

    def __init__(self, *, quiet: int = 0, verbose: int = 0, detail: str = "") -> None:
        from json import encoder  # only who asks for it pays for it

        super().__init__(quiet=quiet, verbose=verbose, detail=detail)
        self._quote = encoder.encode_basestring_ascii
        self._encode = encoder.JSONEncoder(allow_nan=False, separators=(",", ":")).encode

    def run(self, record: "Run") -> None:
        """Print many datagrams."""
        from mcastctl.output import runs

        lines = runs.json_lines(record, self._encode, self._quote)
        self.out.write("\n".join([*lines, ""]).encode())

    def data(self, record: Datagram | Reply) -> None:
        """Print one record."""
        self.out.write(self._encode(record.to_dict()).encode() + b"\n")

    def message(self, record: Message) -> None:
        """Print one message."""
        self.out.write(self._encode(record.to_dict()).encode() + b"\n")

    def tell(self, record: Record) -> None:
        """Print one record; of a report with thousands of streams one after the other."""
        fields = record.to_dict()
        streams = fields.get("streams")
        if not isinstance(streams, list):
            self.out.write(self._encode(fields).encode() + b"\n")
            return
        # Within a string the quotes would be escaped: this is the only place like it.
        empty = '"streams":[]'
        head, _, rest = self._encode(fields | {"streams": []}).partition(empty)
        self.out.write(f"{head}{empty[:-1]}".encode())
        for number, one in enumerate(streams):
            self.out.write(f"{',' if number else ''}{self._encode(one)}".encode())
        self.out.write(f"]{rest}\n".encode())


class Hex(Sink):
    """One line of hexadecimal digits per payload; `send --hex` takes it back."""

    payload_only = True
    for_people = False

    def run(self, record: "Run") -> None:
        """Print many payloads."""
        self.out.write("\n".join([*map(bytes.hex, record.payloads), ""]).encode())

    def data(self, record: Datagram | Reply) -> None:
        """Print one payload."""
        self.out.write(record.payload.hex().encode() + b"\n")


class Raw(Sink):
    """Payload bytes and nothing else, fit for a player or a file."""

    payload_only = True
    for_people = False

    def run(self, record: "Run") -> None:
        """Print many payloads."""
        self.out.write(b"".join(record.payloads))

    def data(self, record: Datagram | Reply) -> None:
        """Print one payload."""
        self.out.write(record.payload)


class Dots(Sink):
    """A progress mark for each `every` bytes received."""

    payload_only = True
    for_people = False

    def __init__(self, every: int, *, quiet: int, verbose: int) -> None:
        super().__init__(quiet=quiet, verbose=verbose)
        self._every = every
        self._rest = 0
        self._printed = False

    def run(self, record: "Run") -> None:
        """Print the marks of many."""
        for datagram in record.datagrams():
            self.data(datagram)

    def data(self, record: Datagram | Reply) -> None:
        """Print as many marks as the bytes so far are worth."""
        marks, self._rest = divmod(self._rest + record.length, self._every)
        self.out.write(b"." * marks)
        self._printed = self._printed or marks > 0

    def tell(self, record: Record) -> None:
        """Begin a new line before what is for people."""
        self._end_line()
        super().tell(record)

    def close(self) -> None:
        """End the line of marks."""
        self._end_line()
        super().close()

    def _end_line(self) -> None:
        if self._printed:
            self.out.write(b"\n")
            self._printed = False


def open_sink(name: str, *, quiet: int = 0, verbose: int = 0, detail: str = "") -> Sink:
    """Return the sink for a format: text, json, jsonl, hex, raw or dots=BYTES."""
    if name.startswith("dots="):
        every = parse_size(name.removeprefix("dots="))
        if every < 1:
            raise ValueRangeError(f"'{name}' is not a format", hint="write -o dots=BYTES, from 1")
        return Dots(every, quiet=quiet, verbose=verbose)
    chosen = {"json": JsonLines, "jsonl": JsonLines, "hex": Hex, "raw": Raw}.get(name, Sink)
    return chosen(quiet=quiet, verbose=verbose, detail=detail)
