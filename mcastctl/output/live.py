"""A live capture to lines: its blocks the cheap way, where a line shows no more than that can."""

import time
from collections.abc import Callable, Iterator

from mcastctl.model.frame import Block
from mcastctl.model.limits import Limits
from mcastctl.model.records import Notice, Record
from mcastctl.model.ring import Slice, datagrams, frames
from mcastctl.output import stream, text
from mcastctl.output.blocks import FlowTexts
from mcastctl.output.packets import Decode, Look, PacketText, tail, where
from mcastctl.output.rings import RingText


class LiveText(PacketText):
    """Prints slices of a ring and notes in `limits` how many frames they held."""

    def __init__(
        self,
        decode: Decode,
        plain: Callable[[int, int], bool],
        look: Look,
        limits: Limits,
        *,
        quiet: int,
    ) -> None:
        super().__init__(decode, plain, look, quiet=quiet)
        self._limits = limits
        self._ring = RingText(
            FlowTexts(plain), lambda frame, number: tail(decode(frame, number), look), where
        )

    def write(self, record: "Record | Block | Slice") -> None:
        """Take one record."""
        if not isinstance(record, Slice):
            super().write(record)
            return
        number, room = self._limits.taken + 1, self._limits.room(record.held * 128)
        if self.quiet:
            shown = min(datagrams(record), room)
        elif self._look == Look():
            lines, shown = self._ring.lines(record, number, room)
            self.out.write(lines)
        else:
            shown = 0
            for line in self._detailed(record, number, room):
                self.out.write(line.encode(errors="backslashreplace"))
                shown += 1
        self._limits.take(shown, time.monotonic_ns())

    def _detailed(self, block: Slice, number: int, room: int) -> Iterator[str]:
        for at, frame in zip(range(number, number + room), frames(block), strict=False):
            yield f"{text.clock(frame.ts_ns)} {tail(self._decode(frame, at), self._look)}"

    def tell(self, record: Record) -> None:
        """Say where a capture runs even without -v, as tcpdump does."""
        if isinstance(record, Notice) and record.code == "capturing" and not self.quiet:
            stream.notice(text.notice(record)[0])
        else:
            super().tell(record)
