"""pcapng files to blocks of records: any mix of sections, byte orders, interfaces and clocks.

The format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html; the limits are
those of libpcap's sf-pcapng.c. Blocks that carry no packet are passed over.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from mcastctl.capture.files import CaptureFile, Input, repacked
from mcastctl.model.frame import MAX_FRAME, Block

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, PACKET = 0x0A0D0D0A, 1, 2, 3, 6
MAX_BLOCK = 16 << 20
MAX_INTERFACES = 65_536
_MAGIC = struct.pack("<I", SECTION)
_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_END, _NAME, _RESOLUTION, _OFFSET, _FLAGS = 0, 2, 9, 14, 2
_DIRECTIONS = {1: "in", 2: "out"}
_RECORD = 12
"""Where in an Enhanced Packet Block the four numbers of a `Block` record begin."""


def is_pcapng(magic: bytes) -> bool:
    """Tell whether a file that begins so is pcapng (its section type reads the same both ways)."""
    return magic == _MAGIC


class Interface(NamedTuple):
    """What an Interface Description Block says; a tick is `tick_ns[0] / tick_ns[1]` ns."""

    linktype: int
    snaplen: int
    name: str = ""
    tick_ns: tuple[int, int] = (1000, 1)
    offset_s: int = 0

    @property
    def plain(self) -> bool:
        """Whether its clock counts micro- or nanoseconds since the epoch."""
        return self.tick_ns in ((1, 1), (1000, 1)) and not self.offset_s

    def ts_ns(self, count: int) -> int:
        """Return nanoseconds since the epoch."""
        return count * self.tick_ns[0] // self.tick_ns[1] + self.offset_s * 1_000_000_000


class Run(NamedTuple):
    """What the records of one `Block` have in common."""

    which: int
    interface: Interface
    direction: str
    order: str


class PcapngFile(CaptureFile):
    """A pcapng file whose first bytes are pending in `source`."""

    kind = "pcapng"

    def __init__(self, source: Input) -> None:
        super().__init__(source)
        self.interfaces: list[Interface] = []
        self._order = "<"
        self._at = 0
        self._damage = ""

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of records; raise DamagedFile at the first block that is not whole."""
        source = self.source
        ended = False
        while True:
            yield from self._whole(source.pending)
            if self._damage:
                raise self.damaged(self._at, self._damage)
            left = len(source.pending) - self._at
            if left and ended and not source.stopped:
                raise self.damaged(self._at, f"a block ends after {left} bytes")
            source.drop(self._at)
            if ended:
                return
            ended = not source.more()

    def _whole(self, data: bytes) -> Iterator[Block]:
        """Yield the records of the blocks that are whole; leave `_at` behind the last."""
        self._at = 0
        places: list[int] = []
        run: Run | None = None
        while size := self._size(data):
            at, kind = self._at, struct.unpack_from(f"{self._order}I", data, self._at)[0]
            following = self._packet(data, at, size) if kind == PACKET else None
            if run is not None and following != run:
                yield self._block(data, places, run)
                places = []
            run = following if following is not None and following.interface.plain else None
            if run is not None:
                self._at = self._follow(data, size, run, places)
                continue
            odd = None if self._damage else self._other(data, at, size, following or kind)
            if odd is not None:
                yield odd
            if self._damage:
                break
            self._at += size
        if run is not None:
            yield self._block(data, places, run)

    def _follow(self, data: bytes, size: int, run: Run, places: list[int]) -> int:
        """Note the packet block at `_at` and what follows it of the same form, quickly.

        Returns where the first block lies that is not so plain: of another interface, with
        options, damaged or not all there.
        """
        at, end, which = self._at, len(data) - 24, run.which
        add = places.append
        # The length behind one block and the head of the next are read at one stroke.
        peek = struct.Struct(f"{run.order}IIII8xI").unpack_from
        add(at + _RECORD)
        at += size
        if run.direction:
            return at
        while at <= end:
            _, kind, size, other, captured = peek(data, at - 4)
            padded = 32 + (captured + 3 & ~3)
            if kind != PACKET or other != which or size != padded or captured > MAX_FRAME:
                break
            if at + size > end or peek(data, at + size - 4)[0] != size:
                break
            add(at + _RECORD)
            at += size
        return at

    def _size(self, data: bytes) -> int:
        """Return the size of the block at `_at`, 0 when it is not all there or damaged."""
        at = self._at
        if len(data) - at < 12:
            return 0
        if data[at : at + 4] == _MAGIC:
            order = _ORDERS.get(data[at + 8 : at + 12])
            if order is None:
                return self._fault("a section with an unknown byte order")
            self._order = order
        size: int = struct.unpack_from(f"{self._order}I", data, at + 4)[0]
        if size < 12 or size % 4 or size > MAX_BLOCK:
            return self._fault(f"a block claims {size} bytes")
        if at + size > len(data):
            return 0
        if data[at + 4 : at + 8] != data[at + size - 4 : at + size]:
            return self._fault("a block gives two different lengths")
        return size

    def _fault(self, what: str) -> int:
        self._damage = what
        return 0

    def _block(self, data: bytes, places: list[int], run: Run) -> Block:
        numbers = range(self.records + 1, self.records + 1 + len(places))
        self.records += len(places)
        return Block(
            data,
            places,
            numbers,
            run.interface.linktype,
            run.order,
            run.interface.tick_ns[0],
            ticks=True,
            iface=run.interface.name,
            direction=run.direction,
        )

    def _packet(self, data: bytes, at: int, size: int) -> Run | None:
        """Return what an Enhanced Packet Block belongs to, None for damage."""
        if size < 32:
            self._fault(f"a packet block of {size} bytes")
            return None
        which, _, _, captured = struct.unpack_from(f"{self._order}IIII", data, at + 8)
        if not self._plausible(which, captured, size - 32):
            return None
        direction = ""
        options = at + 28 + (captured + 3 & ~3)
        if options + 4 < at + size:
            flags = self._options(data[options : at + size - 4]).get(_FLAGS, b"")
            word = struct.unpack(f"{self._order}I", flags)[0] if len(flags) == 4 else 0
            direction = _DIRECTIONS.get(word & 3, "")
        return Run(which, self.interfaces[which], direction, self._order)

    def _plausible(self, which: int, captured: int, room: int) -> bool:
        if which >= len(self.interfaces):
            return bool(self._fault(f"a packet of interface {which}, which is not described"))
        if captured > min(room, MAX_FRAME):
            return bool(self._fault(f"a packet claims {captured} captured bytes of {room}"))
        return True

    def _other(self, data: bytes, at: int, size: int, kind: int | Run) -> Block | None:
        """Take any other block; return the record of one whose form is unusual."""
        body = data[at + 8 : at + size - 4]
        if isinstance(kind, Run):
            return self._converted(body, PACKET, kind.direction)
        if kind == SECTION:
            self._section(body)
        elif kind == INTERFACE:
            self._interface(body)
        elif kind == OLD_PACKET:
            return self._converted(body, OLD_PACKET, "")
        elif kind == SIMPLE_PACKET:
            return self._simple(body)
        return None

    def _section(self, body: bytes) -> None:
        if len(body) < 16:
            self._fault("a section header ends early")
            return
        major, minor = struct.unpack_from(f"{self._order}HH", body, 4)
        if major != 1 or minor not in (0, 2):
            self._fault(f"version {major}.{minor} of pcapng is unknown")
        self.interfaces = []

    def _interface(self, body: bytes) -> None:
        if len(body) < 8 or len(self.interfaces) >= MAX_INTERFACES:
            short = len(body) < 8
            self._fault("an interface ends early" if short else "too many interfaces")
            return
        linktype, _, snaplen = struct.unpack_from(f"{self._order}HHI", body)
        options = self._options(body[8:])
        name = options.get(_NAME, b"").split(b"\0")[0].decode(errors="surrogateescape")
        tick = (1000, 1)
        if options.get(_RESOLUTION):
            code = options[_RESOLUTION][0]
            per_s = 2 ** (code & 0x7F) if code & 0x80 else 10**code
            whole = per_s <= 10**9 and 10**9 % per_s == 0
            tick = (10**9 // per_s, 1) if whole else (10**9, per_s)
        offset = options.get(_OFFSET, b"")
        seconds = struct.unpack(f"{self._order}q", offset)[0] if len(offset) == 8 else 0
        self.interfaces.append(Interface(linktype, snaplen, name, tick, seconds))
        if self.linktype < 0:
            self.linktype = linktype

    def _options(self, data: bytes) -> dict[int, bytes]:
        """Return options by number; what does not fit is left out."""
        found: dict[int, bytes] = {}
        at = 0
        while at + 4 <= len(data):
            code, size = struct.unpack_from(f"{self._order}HH", data, at)
            if code == _END or at + 4 + size > len(data):
                break
            found.setdefault(code, data[at + 4 : at + 4 + size])
            at += 4 + (size + 3 & ~3)
        return found

    def _converted(self, body: bytes, kind: int, direction: str) -> Block | None:
        """Take a packet whose clock or block type needs rewriting."""
        if len(body) < 20:
            self._fault(f"a packet block of {len(body) + 12} bytes")
            return None
        which, high, low, captured, length = struct.unpack_from(f"{self._order}IIIII", body)
        if kind == OLD_PACKET:
            which = struct.unpack_from(f"{self._order}H", body)[0]
        if not self._plausible(which, captured, len(body) - 20):
            return None
        ts_ns = self.interfaces[which].ts_ns(high << 32 | low)
        found = self._single(which, ts_ns, body[20 : 20 + captured], length)
        return found._replace(direction=direction)

    def _simple(self, body: bytes) -> Block | None:
        """Take a Simple Packet Block: no time, no interface but the first."""
        if len(body) < 4:
            self._fault("a packet block ends early")
            return None
        if not self._plausible(0, 0, 0):
            return None
        length = struct.unpack_from(f"{self._order}I", body)[0]
        limit = self.interfaces[0].snaplen or MAX_FRAME
        return self._single(0, 0, body[4 : 4 + min(length, limit, MAX_FRAME)], length)

    def _single(self, which: int, ts_ns: int, captured: bytes, length: int) -> Block:
        interface = self.interfaces[which]
        self.records += 1
        record = repacked(max(ts_ns, 0), captured, length)
        numbers = [self.records]
        return Block(
            record, [0], numbers, interface.linktype, "<", 1, ticks=True, iface=interface.name
        )
