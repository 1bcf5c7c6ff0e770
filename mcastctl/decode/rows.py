"""Payloads at equal distances in one buffer: whether their headers make one stream in a row.

Asked of whole columns, so that hundreds of datagrams cost no Python object each.
"""

from array import array

from mcastctl.decode.stream import PLAIN_BYTES
from mcastctl.model import probe
from mcastctl.model.columns import alike, big_endian, counts_up, repeats
from mcastctl.model.mark import PLAIN, PROBE, RTP, Mark

ENOUGH = 40
"""Bytes of each payload that are looked at, rounded up to whole columns."""
_MARKERLESS = bytes(byte & 0x7F for byte in range(256))


class Rows:
    """The payloads in a buffer; places and distances are multiples of eight bytes."""

    def __init__(self, buffer: memoryview) -> None:
        self._bytes = buffer
        self._words = buffer.cast("H")
        self._halves = buffer.cast("I")
        self._longs = buffer.cast("Q")

    def stamps(self, mark: Mark, at: int, stride: int, count: int) -> "array[int] | None":
        """Return the stamps of `count` payloads from `at` on, None if they are not one stream.

        `mark` is that of the first; the stamps are as `Mark.stamp`, none for unnumbered payloads.
        """
        if mark.kind == PROBE:
            return self._probes(at, stride, count)
        if mark.kind == RTP:
            return self._rtp(at, stride, count)
        if mark.kind == PLAIN:
            first = self._bytes[at : at + count * stride : stride].tobytes()
            return None if first.translate(None, PLAIN_BYTES) else array("Q")
        return None

    def _probes(self, at: int, stride: int, count: int) -> "array[int] | None":
        """See `model.probe` for the layout."""
        step, place = stride // 8, at // 8
        end = place + count * step
        longs = self._longs
        if not (alike(longs[place:end:step]) and alike(longs[place + 1 : end + 1 : step])):
            return None
        half, word = (at + probe.SEQ_AT) // 4, (at + probe.SEQ_AT) // 2
        if not (
            alike(self._halves[half : half + 2 * count * step : 2 * step])
            and alike(self._words[word + 2 : word + 2 + 4 * count * step : 4 * step])
            and counts_up(self._words[word + 3 : word + 3 + 4 * count * step : 4 * step])
        ):
            return None
        stamp = probe.STAMP_AT // 8
        return big_endian(array("Q", longs[place + stamp : end + stamp : step].tobytes()))

    def _rtp(self, at: int, stride: int, count: int) -> "array[int] | None":
        """Version 2 and nothing else in the first byte: nothing that could be invalid."""
        if self._bytes[at] != 0x80:
            return None
        end, step, half = at + count * stride, stride // 4, at // 4
        marker_and_type = self._bytes[at + 1 : end + 1 : stride].tobytes().translate(_MARKERLESS)
        if (
            alike(self._bytes[at:end:stride])
            and repeats(marker_and_type, 1)
            and counts_up(self._words[at // 2 + 1 : end // 2 + 1 : stride // 2])
            and alike(self._halves[half + 2 : half + 2 + count * step : step])
        ):
            stamps = self._halves[half + 1 : half + 1 + count * step : step]
            return big_endian(array("I", stamps.tobytes()))
        return None
