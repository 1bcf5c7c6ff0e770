"""Frames to records: each packet decoded and counted, and what it changes told."""

from collections.abc import Iterator

from mcastctl.decode.packet import Decoder
from mcastctl.model import control
from mcastctl.model.control import Commentary
from mcastctl.model.frame import Frame
from mcastctl.model.packet import Packet
from mcastctl.model.records import Notice
from mcastctl.model.watch import Watch, totals


class Explainer:
    """Decodes frames for whoever prints them.

    With `commentary` only control packets come out, each followed by its events as notices
    of level 'info'.
    """

    def __init__(
        self, decoder: Decoder, watch: Watch | None = None, commentary: Commentary | None = None
    ) -> None:
        self.decoder = decoder
        self.watch = watch
        self.bytes = 0
        self._commentary = commentary

    def explain(self, frame: Frame, number: int) -> Iterator[Packet | Notice]:
        """Yield the packet of a frame and what follows from it."""
        packet = self.decoder.decode(frame, number)
        self.bytes += packet.length
        if self.watch is not None:
            self.watch.update(packet)
        if self._commentary is None:
            yield packet
        elif packet.proto in control.PROTOCOLS:
            yield packet
            for event in self._commentary.update(packet):
                yield Notice(packet.ts_ns, "info", event.code, event.text)

    def summary(self, packets: int, elapsed_s: float) -> dict[str, object]:
        """Return the counters that end a run of `packets` frames."""
        counted = totals(packets, self.bytes, elapsed_s, self.watch)
        counted["malformed"] = self.decoder.malformed
        if self._commentary is not None:
            counted["forgotten"] = self._commentary.forgotten
        return counted
