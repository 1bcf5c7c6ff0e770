"""A capture file to records: filtered, counted, decoded or in blocks, up to the limits."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mcastctl.capture.bpf import FilterError, Program
from mcastctl.capture.files import CaptureFile, open_file
from mcastctl.capture.writer import Writer
from mcastctl.decode.explain import Explainer
from mcastctl.model.frame import ETHERNET, Block, frame_at, frames
from mcastctl.model.limits import Limits
from mcastctl.model.packet import Packet
from mcastctl.model.records import Notice

Ready = Callable[[int], bool]


class Filter:
    """A filter expression over the frames of a file, compiled for each link type it holds.

    Frames of a link type it means nothing for do not pass; `mute` counts them by type.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.mute: dict[int, int] = {}
        self._programs: dict[int, Program] = {}
        self._refused: FilterError | None = None

    def __call__(self, block: Block) -> Block:
        """Return the block with only the records that pass. Raises FilterError."""
        program = self._fit(block.linktype)
        if program is None:
            self.mute[block.linktype] += len(block.offsets)
            return block._replace(offsets=[], numbers=[])
        kept = []
        for number, at in zip(block.numbers, block.offsets, strict=True):
            frame = frame_at(block, at)
            if program.match(bytes(frame.data), frame.length):
                kept.append((number, at))
        return block._replace(
            offsets=[at for _, at in kept], numbers=[number for number, _ in kept]
        )

    def _fit(self, linktype: int) -> Program | None:
        """Return the program for a link type, None where the expression fits others only."""
        if linktype in self.mute:
            return None
        try:
            return self.compiled(linktype)
        except FilterError as error:
            if linktype != ETHERNET:
                Program(self.expression, ETHERNET)  # raises what is wrong on any link
            self._refused = error
            self.mute[linktype] = 0
            return None

    def end(self) -> None:
        """Raise FilterError when the expression fitted nothing there was."""
        if self._refused is not None and not self._programs:
            raise self._refused

    def compiled(self, linktype: int) -> Program:
        """Return the program for a link type. Raises FilterError."""
        program = self._programs.get(linktype)
        if program is None:
            program = self._programs[linktype] = Program(self.expression, linktype)
        return program


class Span(NamedTuple):
    """First and last time seen, in ns since the epoch."""

    first_ns: int
    last_ns: int


class Reading:
    """One run over a capture file.

    `blocks` yields what passes the filter, at most as many as `limits` allow; `records`
    decodes it. Both raise CaptureFileError, for damage after everything that was whole.
    """

    def __init__(
        self, path: str, limits: Limits, explainer: Explainer, keep: Filter | None = None
    ) -> None:
        self.explainer = explainer
        self.span: Span | None = None
        self.begun = False
        """Whether there is such a file, and a filter that it understands."""
        self._path = path
        self._limits = limits
        self._keep = keep

    def blocks(self, ready: Ready = lambda descriptor: True) -> Iterator[Block]:
        """Yield blocks of records; `ready` is asked before each read (`files.Input`)."""
        source = open_file(self._path, ready)
        try:
            if self._keep is not None and source.kind == "pcap":
                self._keep.compiled(max(source.linktype, ETHERNET))  # the only one there will be
            yield from self._passing(source)
        finally:
            source.source.close()
        if self._keep is not None:
            self._keep.end()
            if not source.records:
                self._keep.compiled(max(source.linktype, ETHERNET))  # so that a mistake is told
        self.begun = True

    def _passing(self, source: CaptureFile) -> Iterator[Block]:
        limits = self._limits
        for block in source.blocks():
            kept = self._keep(block) if self._keep is not None else block
            self.begun = True
            room = limits.room(len(kept.offsets))
            if room < len(kept.offsets):
                kept = kept._replace(offsets=kept.offsets[:room], numbers=kept.numbers[:room])
            if room:
                self._note(kept)
                limits.take(room, time.monotonic_ns())
                yield kept
            if limits.reached(time.monotonic_ns(), quiet=False):
                return

    def records(self, ready: Ready = lambda descriptor: True) -> Iterator[Packet | Notice]:
        """Yield the same, decoded."""
        for block in self.blocks(ready):
            for number, frame in frames(block):
                yield from self.explainer.explain(frame, number)

    def copy(self, writer: Writer, ready: Ready = lambda descriptor: True) -> Iterator[Block]:
        """Write the same to another file; yield nothing."""
        for block in self.blocks(ready):
            for _, frame in frames(block):
                writer.write(frame)
        yield from ()

    def remarks(self) -> Iterator[Notice]:
        """Yield what the filter could not be asked of."""
        for linktype, number in self._keep.mute.items() if self._keep is not None else ():
            yield Notice(
                time.time_ns(),
                "warning",
                "filter",
                f"the filter means nothing for link type {linktype}: its frames ({number}) "
                "are left out",
                "read without a filter to see them",
            )

    def _note(self, block: Block) -> None:
        first = frame_at(block, block.offsets[0]).ts_ns
        last = frame_at(block, block.offsets[-1]).ts_ns
        self.span = Span(self.span.first_ns if self.span else first, last)

    def summary(self) -> dict[str, object]:
        """Return the counters of the run; the clock is that of the file."""
        span = self.span or Span(0, 0)
        elapsed_s = max((span.last_ns - span.first_ns) / 1e9, 0.0)
        return self.explainer.summary(self._limits.taken, elapsed_s)
