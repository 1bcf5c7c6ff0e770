"""pcap files to blocks of records: micro- and nanoseconds, both byte orders, older variants.

The format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html and libpcap's sf-pcap.c.
"""

import struct
from collections.abc import Callable, Iterator

from mcastctl.capture.files import CaptureFile, Input, repacked
from mcastctl.model.frame import Block, longest

_MICRO, _NANO, _MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
HEADER = 24
"""Bytes before the first record."""
_RESERVED = 0x03FF0000
"""Between link type and length of the frame check sequence."""
_UNSWAPPED = 4
"""The first minor version whose records all have the captured length before the true one."""

Lengths = Callable[[bytes, int], tuple[int, ...]]


def is_pcap(magic: bytes) -> bool:
    """Tell whether a file that begins so is pcap."""
    return _order(magic) is not None


def _order(magic: bytes) -> str | None:
    """Return the byte order that makes the magic number one of pcap's."""
    for order in "<>":
        if struct.unpack(f"{order}I", magic)[0] in (_MICRO, _NANO, _MODIFIED):
            return order
    return None


class PcapFile(CaptureFile):
    """A pcap file whose header is pending in `source`. Raises DamagedFile for a wrong one."""

    def __init__(self, source: Input) -> None:
        super().__init__(source)
        if not source.need(HEADER):
            raise self.damaged(len(source.pending), "the file header ends early")
        self.order = _order(source.pending[:4]) or "<"
        header = struct.unpack(f"{self.order}IHHiIII", source.pending[:HEADER])
        magic, major, minor, _, _, self.snaplen, network = header
        if major != 2 or minor > 4:
            raise self.damaged(4, f"version {major}.{minor} of pcap is unknown (2.4 is current)")
        if network & _RESERVED:
            raise self.damaged(20, f"reserved bits beside the link type are set: 0x{network:08x}")
        self.unit_ns = 1 if magic == _NANO else 1000
        self.linktype = network & 0xFFFF  # the rest tells of a frame check sequence
        self._most = longest(self.linktype)
        self._modified = magic == _MODIFIED
        self._size = 24 if self._modified else 16
        self._swapped = minor < _UNSWAPPED
        fields: Lengths = struct.Struct(f"{self.order}8xII").unpack_from
        self._fields = _smaller_first(fields) if self._swapped else fields
        source.drop(HEADER)

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of records; raise DamagedFile at the first that is not whole."""
        source = self.source
        ended = False
        while True:
            data = source.pending
            offsets, stop = self._whole(data)
            if offsets:
                numbers = range(self.records + 1, self.records + 1 + len(offsets))
                self.records += len(offsets)
                yield self._block(data, offsets, numbers)
            self._check(data, stop, ended=ended and not source.stopped)
            source.drop(stop)
            if ended:
                return
            ended = not source.more()

    def _whole(self, data: bytes) -> tuple[list[int], int]:
        """Return the places of the records that are whole, and where the next begins."""
        offsets: list[int] = []
        add = offsets.append
        fields, size, most = self._fields, self._size, self._most + self._size
        at, last, end = 0, len(data) - size, len(data)
        while at <= last:
            following = at + size + fields(data, at)[0]
            if following > end or following - at > most:
                break
            add(at)
            at = following
        return offsets, at

    def _check(self, data: bytes, at: int, *, ended: bool) -> None:
        """Raise DamagedFile when what begins at `at` can never become a whole record."""
        left = len(data) - at
        if left >= self._size:
            captured = self._fields(data, at)[0]
            if captured > self._most:
                raise self.damaged(
                    at, f"record {self.records + 1} claims {captured} captured bytes"
                )
            if ended:
                raise self.damaged(
                    at,
                    f"record {self.records + 1} ends after {left - self._size} of {captured} bytes",
                )
        elif left and ended:
            raise self.damaged(at, f"the header of record {self.records + 1} ends early")

    def _block(self, data: bytes, offsets: list[int], numbers: range) -> Block:
        if not self._modified and not self._swapped:
            return Block(data, offsets, numbers, self.linktype, self.order, self.unit_ns)
        # The patched libpcap of old Linux distributions put eight bytes more into each header.
        clock = struct.Struct(f"{self.order}II").unpack_from
        parts, places, place = [], [], 0
        for at in offsets:
            sec, fraction = clock(data, at)
            captured, length = self._fields(data, at)
            start = at + self._size
            ts_ns = sec * 10**9 + fraction * self.unit_ns
            record = repacked(ts_ns, data[start : start + captured], length)
            parts.append(record)
            places.append(place)
            place += len(record)
        return Block(b"".join(parts), places, numbers, self.linktype, "<", 1, ticks=True)


def _smaller_first(fields: Lengths) -> Lengths:
    """Return a reader of the two lengths that does not mind in which order they stand."""
    return lambda data, at: tuple(sorted(fields(data, at)))
