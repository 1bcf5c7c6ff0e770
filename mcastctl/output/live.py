"""A live capture to lines: its blocks the cheap way, where a line shows no more than that can."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from mcastctl.model.frame import Block, Frame
from mcastctl.model.limits import Limits
from mcastctl.model.packet import Packet
from mcastctl.model.records import Record
from mcastctl.model.ring import Gathered, Slice, frames
from mcastctl.model.run import Run
from mcastctl.output import text
from mcastctl.output.blocks import FlowTexts
from mcastctl.output.packets import Look, PacketText, tail, where
from mcastctl.output.rings import RingText


class Decoder(Protocol):
    """What turns a frame into a packet."""

    def decode(self, frame: Frame, number: int) -> Packet:
        """Return the packet."""


class Explainer(Protocol):
    """What decodes and counts (`decode.explain`)."""

    bytes: int

    @property
    def decoder(self) -> Decoder:
        """The decoder alone."""


class LiveText(PacketText):
    """Prints slices of a ring, and notes how many frames and bytes they held."""

    def __init__(
        self,
        explainer: Explainer,
        plain: Callable[[int, int], bool],
        look: Look,
        limits: Limits,
        *,
        quiet: int,
    ) -> None:
        decode = explainer.decoder.decode
        super().__init__(decode, plain, look, quiet=quiet)
        self._explainer = explainer
        self._limits = limits
        self._ring = RingText(
            FlowTexts(plain), lambda frame, number: tail(decode(frame, number), look), where
        )

    def write(self, record: "Record | Run | Block | Slice | Gathered") -> None:
        """Take one record, or a block of frames."""
        if not isinstance(record, Slice | Gathered):
            super().write(record)
            return
        number, room = self._limits.taken + 1, self._limits.room(1 << 32)
        if self._look == Look() and not self.quiet and isinstance(record, Slice):
            lines, shown, size = self._ring.lines(record, number, room)
            self.out.write(lines)
        else:
            shown = size = 0
            for frame in _some(record, room):
                if not self.quiet:
                    said = tail(self._decode(frame, number + shown), self._look)
                    line = f"{text.clock(frame.ts_ns)} {said}"
                    self.out.write(line.encode(errors="backslashreplace"))
                shown, size = shown + 1, size + frame.length
        self._explainer.bytes += size
        self._limits.take(shown, time.monotonic_ns())


def _some(block: Slice | Gathered, most: int) -> Iterator[Frame]:
    for _, frame in zip(range(most), frames(block), strict=False):
        yield frame
