"""Many datagrams in one buffer: their fields as columns, written and compared at C speed.

A memoryview with a stride picks one field of every slot; one slice operation with a table of
ready-made big-endian numbers then fills or checks hundreds of headers, without a Python object
for each. Slots are aligned to eight bytes, so that every field of a header is a whole item.
"""

import sys
from array import array

from mcastctl.model import probe

_LITTLE = sys.byteorder == "little"
_table: list[memoryview] = []


def counting() -> memoryview:
    """Return 0, 1, ... 65535 as big-endian 16-bit items (format 'H')."""
    if not _table:
        _table.append(memoryview(big_endian(array("H", range(probe.COUNTED)))))
    return _table[0]


def big_endian(items: "array[int]") -> "array[int]":
    """Return the array in network byte order, or one in network byte order read."""
    if _LITTLE:
        items.byteswap()
    return items


def alike(column: memoryview) -> bool:
    """Tell whether all items of a column are the same."""
    return column[1:] == column[:-1]


def repeats(block: bytes, size: int) -> bool:
    """Tell whether a block is the same `size` bytes over and over."""
    return block[size:] == block[:-size]


def counts_up(column: memoryview) -> bool:
    """Tell whether big-endian 16-bit items count up by one, not across 65535."""
    first = int.from_bytes(column[:1].tobytes(), "big")
    return column == counting()[first : first + len(column)]


def stride(size: int) -> int:
    """Return the distance in bytes of slots that hold `size` bytes each."""
    return max(size + 7 & ~7, 8)


class Slots:
    """`slots` payloads of `size` bytes, `stride` apart, all alike: what is sent unnumbered."""

    def __init__(self, payload: bytes, slots: int) -> None:
        self.size = len(payload)
        self.stride = stride(self.size)
        self.slots = slots
        self.buffer = bytearray(payload.ljust(self.stride, b"\0") * slots)

    def stamp(self, seq: int, rounds: int, now_ns: int) -> None:
        """Write numbers and time: there are none."""


class ProbeSlots:
    """Rounds of probes: one of each stream, then the next number of each (`model.probe`).

    `streams` are the stream ids in the order of a round; the buffer holds `rounds` of them.
    """

    def __init__(self, size: int, ttl: int, streams: list[int], rounds: int) -> None:
        filled = probe.filling(size - probe.MIN_SIZE)
        headers = [
            (probe.encode(probe.Probe(probe.DATA, ttl, 0, stream, 0, 0)) + filled).ljust(
                stride(size), b"\0"
            )
            for stream in streams
        ]
        self.size = size
        self.stride = stride(size)
        self.slots = rounds * len(streams)
        self._targets = len(streams)
        self.buffer = bytearray(b"".join(headers) * rounds)
        view = memoryview(self.buffer)
        self._pairs = view.cast("H")
        self._stamps = view.cast("Q")[probe.STAMP_AT // 8 :: self.stride // 8]
        self._high = 0  # the number's upper 48 bits, as the buffer has them

    def stamp(self, seq: int, rounds: int, now_ns: int) -> None:
        """Number the first `rounds` from `seq` on, within one COUNTED; all get the same time."""
        high, low = divmod(seq, probe.COUNTED)
        if high != self._high:
            self._high = high
            for at, shift in ((0, 32), (1, 16), (2, 0)):
                part = memoryview(big_endian(array("H", (high >> shift & 0xFFFF,))) * self.slots)
                self._pairs[probe.SEQ_AT // 2 + at :: self.stride // 2] = part
        numbers = counting()[low : low + rounds]
        step = self._targets * self.stride // 2
        for target in range(self._targets):
            first = target * self.stride // 2 + probe.SEQ_AT // 2 + 3
            self._pairs[first : first + rounds * step : step] = numbers
        used = rounds * self._targets
        self._stamps[:used] = memoryview(big_endian(array("Q", (now_ns,))) * used)
