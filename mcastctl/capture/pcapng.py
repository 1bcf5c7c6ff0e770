"""pcapng files to blocks of records: any mix of sections, byte orders, interfaces and clocks.

The format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html; the limits are
those of libpcap's sf-pcapng.c. Blocks that carry no packet are passed over, once they are as
long as their type demands.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from mcastctl.capture.files import CaptureFile, Input, repacked
from mcastctl.model.frame import MAX_FRAME, Block, longest

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, PACKET = 0x0A0D0D0A, 1, 2, 3, 6
MAX_BLOCK = 16 << 20
MAX_INTERFACES = 65_536
_MAGIC = struct.pack("<I", SECTION)
_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_END, _COMMENT = 0, 1
_NAME, _DESCRIPTION, _RESOLUTION, _OFFSET, _FLAGS = 2, 3, 9, 14, 2
_LEAST = {SECTION: 28, INTERFACE: 20, OLD_PACKET: 32, SIMPLE_PACKET: 16, PACKET: 32}
_LEAST |= {4: 16, 5: 24, 10: 20, 0xBAD: 16, 0x40000BAD: 16}
"""Bytes of the smallest block of a type: names, statistics, secrets and custom blocks too."""
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
    order: str
    direction: str = ""
    comments: tuple[str, ...] = ()

    @property
    def bare(self) -> bool:
        """Whether its packets have no options that matter here."""
        return not self.direction and not self.comments


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
        if not run.bare:
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
        kind = struct.unpack_from(f"{self._order}I", data, at)[0]
        if data[at + 4 : at + 8] != data[at + size - 4 : at + size]:
            self._fault("a block gives two different lengths")
        elif size < _LEAST.get(kind, 0):
            self._fault(f"a block of type {kind:#x} has {size} bytes only")
        return 0 if self._damage else size

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
            comments=run.comments,
        )

    def _packet(self, data: bytes, at: int, size: int) -> Run | None:
        """Return what an Enhanced Packet Block belongs to, None for damage."""
        which, _, _, captured = struct.unpack_from(f"{self._order}IIII", data, at + 8)
        if not self._plausible(which, captured, size - 32):
            return None
        run = Run(which, self.interfaces[which], self._order)
        options = at + 28 + (captured + 3 & ~3)
        if options + 4 >= at + size:
            return run
        return self._described(run, data[options : at + size - 4])

    def _described(self, run: Run, options: bytes) -> Run | None:
        """Return a run with what the options of its packet say."""
        found = self._options(options)
        flags = found.get(_FLAGS, [bytes(4)])[0]
        if len(flags) != 4:
            self._fault(f"flags of {len(flags)} bytes")
        if self._damage:
            return None
        word = struct.unpack(f"{self._order}I", flags)[0]
        return run._replace(
            direction=_DIRECTIONS.get(word & 3, ""),
            comments=tuple(map(_text, found.get(_COMMENT, ()))),
        )

    def _plausible(self, which: int, captured: int, room: int) -> bool:
        if which >= len(self.interfaces):
            return bool(self._fault(f"a packet of interface {which}, which is not described"))
        if captured > min(room, longest(self.interfaces[which].linktype)):
            return bool(self._fault(f"a packet claims {captured} captured bytes of {room}"))
        return True

    def _other(self, data: bytes, at: int, size: int, kind: int | Run) -> Block | None:
        """Take any other block; return the record of one whose form is unusual."""
        body = data[at + 8 : at + size - 4]
        if isinstance(kind, Run):
            return self._converted(body, kind)
        if kind == SECTION:
            self._section(body)
        elif kind == INTERFACE:
            self._interface(body)
        elif kind == OLD_PACKET:
            return self._old(body)
        elif kind == SIMPLE_PACKET:
            return self._simple(body)
        return None

    def _section(self, body: bytes) -> None:
        major, minor = struct.unpack_from(f"{self._order}HH", body, 4)
        if major != 1 or minor not in (0, 2):
            self._fault(f"version {major}.{minor} of pcapng is unknown")
        self._options(body[16:])
        self.interfaces = []

    def _interface(self, body: bytes) -> None:
        if len(self.interfaces) >= MAX_INTERFACES:
            self._fault("too many interfaces")
            return
        linktype, _, snaplen = struct.unpack_from(f"{self._order}HHI", body)
        options = {code: values[0] for code, values in self._options(body[8:]).items()}
        name = _text(options.get(_NAME) or options.get(_DESCRIPTION) or b"")
        tick = (1000, 1)
        if len(options.get(_RESOLUTION, b"")) == 1:
            code = options[_RESOLUTION][0]
            per_s = 2 ** (code & 0x7F) if code & 0x80 else 10**code
            whole = per_s <= 10**9 and 10**9 % per_s == 0
            tick = (10**9 // per_s, 1) if whole else (10**9, per_s)
        offset = options.get(_OFFSET, b"")
        seconds = struct.unpack(f"{self._order}q", offset)[0] if len(offset) == 8 else 0
        self.interfaces.append(Interface(linktype, snaplen, name, tick, seconds))
        if self.linktype < 0:
            self.linktype = linktype

    def _options(self, data: bytes) -> dict[int, list[bytes]]:
        """Return the values of the options by number; one that is not whole is damage."""
        found: dict[int, list[bytes]] = {}
        at = 0
        while at + 4 <= len(data):
            code, size = struct.unpack_from(f"{self._order}HH", data, at)
            if code == _END:
                break
            if at + 4 + size > len(data):
                self._fault(f"an option claims {size} of {len(data) - at - 4} bytes")
                break
            found.setdefault(code, []).append(data[at + 4 : at + 4 + size])
            at += 4 + (size + 3 & ~3)
        return found

    def _old(self, body: bytes) -> Block | None:
        """Take a Packet Block: like an enhanced one, but for a count of drops."""
        which, captured = struct.unpack_from(f"{self._order}H10xI", body)
        if not self._plausible(which, captured, len(body) - 20):
            return None
        run = self._described(
            Run(which, self.interfaces[which], self._order), body[20 + (captured + 3 & ~3) :]
        )
        return run and self._converted(body, run)

    def _converted(self, body: bytes, run: Run) -> Block:
        """Take a packet whose clock or block type needs rewriting."""
        high, low, captured, length = struct.unpack_from(f"{self._order}4xIIII", body)
        ts_ns = run.interface.ts_ns(high << 32 | low)
        return self._single(run, ts_ns, body[20 : 20 + captured], length)

    def _simple(self, body: bytes) -> Block | None:
        """Take a Simple Packet Block: no time, no interface but the first."""
        length = struct.unpack_from(f"{self._order}I", body)[0]
        limit = self.interfaces[0].snaplen if self.interfaces else 0
        captured = min(length, limit or length)
        if not self._plausible(0, captured, len(body) - 4):
            return None
        run = Run(0, self.interfaces[0], self._order)
        return self._single(run, 0, body[4 : 4 + captured], length)

    def _single(self, run: Run, ts_ns: int, captured: bytes, length: int) -> Block:
        run = run._replace(interface=run.interface._replace(tick_ns=(1, 1)), order="<")
        return self._block(repacked(ts_ns, captured, length), [0], run)


def _text(value: bytes) -> str:
    """Return a string option; some writers end it with a null character."""
    return value.split(b"\0")[0].decode(errors="surrogateescape")
