"""Blocks of packed frames to text lines at a fraction of the cost of a record for each.

A plain UDP datagram is known by its addresses, ports and length, bytes that never change
within a flow: its text is made once and kept. All lines of a second are put together by one
formatting operation. Every frame that is not so plain is handed to `other`.
"""

import struct
import time
from collections.abc import Callable

from mcastctl.model.address import packed_text
from mcastctl.model.frame import ETHERNET, Block, Frame, frame_at

MAX_FLOWS = 16_384
"""Texts of flows kept of each kind; beyond that all are forgotten and made anew."""

_Known = tuple[int, int, str | None]
"""Length field and frame length that a text holds for, and the text, None for no plain data."""

_CONSTANTS = {
    "<": (0x0008, 0xDD86, 0xFF00FFBF, 0x11000000),
    ">": (0x0800, 0x86DD, 0xBFFF00FF, 0x00000011),
}
"""EtherTypes, mask and value of the four bytes from the fragment flags to the protocol, as each
byte order reads them: no fragment, UDP, any TTL, 'don't fragment' or not."""


class FlowTexts:
    """The text of plain UDP datagrams: 'IP 10.0.0.1.4000 > 239.1.1.1.5004: UDP, length 188'.

    `plain(sport, dport)` says whether the datagrams between two ports are data and not of a
    protocol that has a decoder.
    """

    def __init__(self, plain: Callable[[int, int], bool]) -> None:
        self._plain = plain
        self._heads: dict[bytes, str | None] = {}
        self.known4: dict[bytes, _Known] = {}
        self.known6: dict[bytes, _Known] = {}

    def add4(self, key: bytes, field: int, total: int) -> _Known:
        """Keep and return the text of an IPv4 datagram.

        `key` is addresses, ports and UDP length; `field` the raw and `total` the true value
        of the header's length field.
        """
        return self._add(self.known4, key, field, total - 20, 34)

    def add6(self, key: bytes, field: int, total: int) -> _Known:
        """Keep and return the text of an IPv6 datagram."""
        return self._add(self.known6, key, field, total, 54)

    def _add(
        self, known: dict[bytes, _Known], key: bytes, field: int, room: int, before: int
    ) -> _Known:
        """Keep a text; UDP has `room`, behind `before` bytes of headers."""
        length = key[-2] << 8 | key[-1]
        flow = key[:-2]
        head = self._heads[flow] if flow in self._heads else self._head(flow)
        text = f"{head}{length - 8}\n" if head and 8 <= length <= room else None
        if len(self.known4) + len(self.known6) >= MAX_FLOWS:
            self.known4.clear()
            self.known6.clear()
        found = known[key] = (field, before + room, text)
        return found

    def _head(self, flow: bytes) -> str | None:
        """Make and keep what the texts of one flow begin with."""
        half = (len(flow) - 4) // 2
        sport, dport = struct.unpack("!HH", flow[2 * half :])
        head = None
        if self._plain(sport, dport):
            src, dst = packed_text(flow[:half]), packed_text(flow[half : 2 * half])
            name = "IP" if half == 4 else "IP6"
            head = f"{name} {src}.{sport} > {dst}.{dport}: UDP, length "
        if len(self._heads) >= MAX_FLOWS:
            self._heads.clear()
        self._heads[flow] = head
        return head


class BlockText:
    """Turns blocks into lines; `other(frame, number)` says what stands behind the time.

    `prefix(block)` is what stands before the text of a plain datagram.
    """

    def __init__(
        self,
        flows: FlowTexts,
        other: Callable[[Frame, int], str],
        prefix: Callable[[Block], str] = lambda block: "",
    ) -> None:
        self._flows = flows
        self._other = other
        self._prefix = prefix

    def lines(self, block: Block) -> bytes:
        """Return the lines of one block."""
        if block.linktype == ETHERNET:
            text = self._ethernet(block)
        else:
            text = "".join(self._line(block, at, number) for number, at in _places(block))
        return text.encode(errors="backslashreplace")

    def _line(self, block: Block, at: int, number: int) -> str:
        frame = frame_at(block, at)
        second, ns = divmod(frame.ts_ns, 1_000_000_000)
        return f"{_clock(second)}.{ns // 1000:06d} {self._other(frame, number)}"

    def _ethernet(self, block: Block) -> str:
        """Walk the records once; what costs time here costs it a million times."""
        fields4 = struct.Struct(f"{block.order}IIII12xHBxH2xI2x14s").unpack_from
        fields6 = struct.Struct(f"{block.order}34xHBx38s").unpack_from
        ipv4, ipv6, mask, udp = _CONSTANTS[block.order]
        flows = self._flows
        get4, get6 = flows.known4.get, flows.known6.get
        data, ticks, per_us = block.data, block.ticks, 1000 // block.unit_ns
        high, base, whole, span = -1, 0, -1, 1_000_000 * per_us
        prefix = self._prefix(block)
        line = prefix.replace("%", "%%") + "%s"
        last, parts = -1, []
        values: list[object] = []
        add = values.append
        end = len(data) - 78  # where even the longest unpacking stays inside
        for number, at in _places(block):
            if at > end:
                parts.append(_joined(last, line, values))
                parts.append(self._line(block, at, number))
                continue
            second, us, captured, length, kind, version, size, rest, key = fields4(data, at)
            if ticks:
                if second != high or not 0 <= us - base < span:  # another second
                    high = second
                    whole = (second << 32 | us) // span
                    base = whole * span - (high << 32)
                us = (us - base) // per_us
                second = whole
            elif per_us > 1:
                us //= per_us
            if second != last:
                parts.append(_joined(last, line, values))
                last = second
            add(us)
            if kind == ipv4 and version == 0x45 and rest & mask == udp and captured > 42:
                known = get4(key) or flows.add4(key, size, _u16(data, at + 32))
                # A damaged file may have more microseconds than a second has.
                if known[0] == size and known[1] <= length and known[2] and us < 1_000_000:
                    add(known[2])
                    continue
            elif kind == ipv6 and version >> 4 == 6 and captured > 62:
                size, following, key = fields6(data, at)
                if following == 17:
                    known = get6(key) or flows.add6(key, size, _u16(data, at + 34))
                    if known[0] == size and known[1] <= length and known[2] and us < 1_000_000:
                        add(known[2])
                        continue
            values.pop()
            parts.append(_joined(last, line, values))
            parts.append(self._line(block, at, number))
        parts.append(_joined(last, line, values))
        return "".join(parts)


def _places(block: Block) -> "zip[tuple[int, int]]":
    return zip(block.numbers, block.offsets, strict=True)


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _clock(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


def _joined(second: int, line: str, values: list[object]) -> str:
    """Return the lines of one second and forget their values."""
    if not values:
        return ""
    text = f"{_clock(second)}.%06d {line}" * (len(values) // 2) % tuple(values)
    values.clear()
    return text
