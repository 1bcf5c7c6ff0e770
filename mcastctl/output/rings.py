"""Blocks of a capture ring to text lines, at a fraction of the cost of a record for each frame.

As for files (`output.blocks`) the text of a flow is made once. A block that holds one flow
with frames of one size is found out by comparing columns of its memory, and becomes text by
one formatting operation; a block of several flows is walked; whatever is not plain UDP over
Ethernet goes to `other`, frame by frame.
"""

import struct
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from mcastctl.model import gso
from mcastctl.model.frame import ETHERNET, Frame
from mcastctl.model.ring import OUTGOING, VLAN_VALID, VNET, Slice, frame_at, linktype_of
from mcastctl.output.blocks import FlowTexts

_MASK4, _HEAD4 = struct.unpack("=II", b"\xff\xff\xff\0\x08\0\x45\0")
_MASK6, _HEAD6 = struct.unpack("=II", b"\xff\xff\xf0\0\x86\xdd\x60\0")
"""Mask and value of the EtherType and the two bytes behind it: IPv4 without options, IPv6."""
_MASK, _UDP = struct.unpack("=II", b"\xbf\xff\x00\xff\x00\x00\x00\x11")
"""Mask and value of the four bytes from the fragment flags to the protocol: no fragment, UDP,
any TTL, 'don't fragment' or not."""
_ORDER: Literal["little", "big"] = sys.byteorder
_LONGEST = 80
"""No unpacking reaches further behind the beginning of the link header."""
_FEW = 8
"""Blocks with fewer frames are walked at once."""
_DIGITS = [f"{number:03d}" for number in range(1000)]

# Of a frame's header: what must be alike in a uniform block, as ranges of bytes: second;
# captured length to the place of its network header; interface, link type, direction.
_HEADER = ((4, 8), (12, 28), (52, 60))
# Behind the link header: EtherType to total length, fragment flags to protocol, addresses to
# UDP length. Identification and header checksum differ from one datagram to the next.
_HEADER4 = ((12, 18), (20, 24), (26, 40))
_HEADER6 = ((12, 60),)


class RingText:
    """Turns slices of a ring into lines; `other(frame, number)` says what is behind the time.

    `where(iface, direction)` is what stands before the text of a plain datagram.
    """

    def __init__(
        self,
        flows: FlowTexts,
        other: Callable[[Frame, int], str],
        where: Callable[[str, str], str],
    ) -> None:
        self._flows = flows
        self._other = other
        self._where = where
        self._prefixes: dict[int, str | None] = {}
        self._plain: dict[int, set[int]] = {}
        self._second, self._clock = -1, ""
        self._memory: memoryview | None = None
        self._views: dict[int, memoryview] = {}

    def lines(self, block: Slice, number: int, room: int) -> tuple[bytes, int, int]:
        """Return the lines of a block, how many frames they show (at most `room`), their bytes.

        `number` is that of the first frame. A super-packet counts as its datagrams.
        """
        if room < block.held:
            block = block._replace(held=room)
        text = self._uniform(block) if block.held >= _FEW else ""
        if text:
            length = int.from_bytes(block.memory[block.start + 16 : block.start + 20], _ORDER)
            return text.encode(), block.held, block.held * length
        parts, size = self._walk(block, number, room)
        return "".join(parts).encode(errors="backslashreplace"), len(parts), size

    def _walk(
        self, block: Slice, number: int, room: int, *, plain_only: bool = False
    ) -> tuple[list[str], int]:
        """Return the lines and the bytes; what costs time here costs it a million times.

        With `plain_only` it ends at a frame that is not plain UDP.
        """
        memory, at, vnet = block.memory, block.start, block.vnet
        mac = int.from_bytes(memory[at + 24 : at + 26], _ORDER)
        fields4, fields6 = _fields(mac)
        plain = self._plain.setdefault(mac, set())
        get4, get6 = self._flows.known4.get, self._flows.known6.get
        digits, end = _DIGITS, len(memory) - mac - _LONGEST
        parts: list[str] = []
        add = parts.append
        last = speaker = -1
        clock, where = "", None
        total = 0
        for done in range(1, block.held + 1):
            known = None
            if at <= end:
                ahead, second, ns, captured, state, who, gso_type, head, size, rest, key = fields4(
                    memory, at
                )
                if second != last:
                    last, clock = second, self._time(second)
                if who != speaker:
                    speaker, where = who, self._speaker(who, block)
                if (gso_type and vnet) or (state not in plain and not self._is_plain(state, mac)):
                    pass
                elif head & _MASK4 == _HEAD4 and rest & _MASK == _UDP:
                    known = get4(key) or self._flows.add4(key, size, _u16(memory, at + mac + 16))
                elif head & _MASK6 == _HEAD6:
                    size, following, key = fields6(memory, at)
                    if following == 17:
                        known = get6(key) or self._flows.add6(
                            key, size, _u16(memory, at + mac + 18)
                        )
            # What was not captured whole is for others to judge.
            if known and where and known[0] == size and known[1] <= captured and known[2]:
                us = ns // 1000
                add(f"{clock}{digits[us // 1000]}{digits[us % 1000]} {where}{known[2]}")
                at += ahead
                total += captured
            elif plain_only:
                break
            else:
                at, size = self._odd(block, at, number, room, parts)
                total += size
                left = room - len(parts)
                if left < block.held - done:  # a super-packet took the room of others
                    rest_of_it = block._replace(start=at, held=left)
                    more, size = self._walk(rest_of_it, number + len(parts), left)
                    return parts + more, total + size
        return parts, total

    def _odd(
        self, block: Slice, at: int, number: int, room: int, parts: list[str]
    ) -> tuple[int, int]:
        """Add the line of any frame, or one for each datagram of it while there is room.

        Returns where the next frame is, and the bytes of this one.
        """
        frame, after = frame_at(block, at)
        size = 0
        for one in gso.split(frame):
            if len(parts) >= room:
                break
            size += one.length
            second, ns = divmod(one.ts_ns, 1_000_000_000)
            said = self._other(one, number + len(parts))
            parts.append(f"{self._time(second)}{ns // 1000:06d} {said}")
        return after, size

    def _uniform(self, block: Slice) -> str:
        """Return the lines of a block of one flow, '' when it is none.

        Every column but the time stamp, the IPv4 identification and what follows the UDP
        length must hold one value from the first frame to the last.
        """
        memory, start, held = block.memory, block.start, block.held
        stride = int.from_bytes(memory[start : start + 4], _ORDER)
        mac = int.from_bytes(memory[start + 24 : start + 26], _ORDER)
        version6 = bytes(memory[start + mac + 12 : start + mac + 14]) == b"\x86\xdd"
        if (start | stride) % 8 or not stride or start + stride * (held - 1) >= block.stop:
            return ""
        if not self._alike(block, 0, 4, held - 1):  # the last one knows no next
            return ""
        if not all(self._alike(block, at, width, held) for at, width in _columns(mac, version6)):
            return ""
        first, _ = self._walk(block._replace(held=1), 0, 1, plain_only=True)
        if not first:
            return ""
        # HH:MM:SS.uuuuuu, then what is the same in every line
        line = f"{first[0][:9]}%06d{first[0][15:].replace('%', '%%')}"
        at, step = (start + 8) >> 2, stride >> 2
        times = self._view(memory, 4)[at : at + (held - 1) * step + 1 : step].tolist()
        return line * held % tuple([ns // 1000 for ns in times])

    def _alike(self, block: Slice, at: int, width: int, held: int) -> bool:
        """Tell whether the `width` bytes at `at` are the same in each of `held` frames."""
        memory, start = block.memory, block.start
        stride = int.from_bytes(memory[start : start + 4], _ORDER)
        first, step = (start + at) // width, stride // width
        column = self._view(memory, width)[first : first + (held - 1) * step + 1 : step]
        return bool(column[1:] == column[:-1])

    def _view(self, memory: memoryview, width: int) -> memoryview:
        """Return the memory as numbers of `width` bytes."""
        if memory is not self._memory:
            self._memory = memory
            casts = (memory.cast("B"), memory.cast("H"), memory.cast("I"), memory.cast("Q"))
            self._views = {view.itemsize: view for view in casts}
        return self._views[width]

    def _time(self, second: int) -> str:
        """Return 'HH:MM:SS.' of a second, kept for the next frame."""
        if second != self._second:
            self._second = second
            self._clock = time.strftime("%H:%M:%S.", time.localtime(second))
        return self._clock

    def _speaker(self, who: int, block: Slice) -> str | None:
        """Return what stands before a line, None for a link that is not Ethernet."""
        if who not in self._prefixes:
            index, hatype, kind, _ = struct.unpack("=iHBB", struct.pack("=Q", who))
            direction = "out" if kind == OUTGOING else "in"
            ethernet = linktype_of(hatype) == ETHERNET
            prefix = self._where(block.names[index], direction) if ethernet else None
            self._prefixes[who] = prefix
        return self._prefixes[who]

    def _is_plain(self, state: int, mac: int) -> bool:
        """Tell whether a frame lies where expected, with no VLAN tag beside it; remember it."""
        status, where, _ = struct.unpack("=IHH", struct.pack("=Q", state))
        if where != mac or status & VLAN_VALID:
            return False
        self._plain[mac].add(state)
        return True


@cache
def _fields(mac: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return what unpacks a frame whose link header is `mac` bytes behind its beginning.

    Of any frame: next, second, ns, captured length; status and places; who; type of
    super-packet; EtherType with the two bytes behind it, and for IPv4 total length, fragment
    flags to protocol, and the flow. For IPv6: payload length, next header, and the flow.
    """
    skip = mac - VNET + 1 - 60
    four = struct.Struct(f"=IIII4xQ24xQ{skip}xB20xIH2xI2x14s").unpack_from
    six = struct.Struct(f"={mac + 18}xHBx38s").unpack_from
    return four, six


@cache
def _columns(mac: int, version6: bool) -> tuple[tuple[int, int], ...]:
    """Return place and width of the columns that cover what must be alike, widest first."""
    behind = _HEADER6 if version6 else _HEADER4
    ranges = [*_HEADER, (mac - VNET, mac - VNET + 2), *((mac + a, mac + b) for a, b in behind)]
    columns = []
    for begin, end in ranges:
        at = begin
        while at < end:
            width = next(one for one in (8, 4, 2, 1) if not at % one and at + one <= end)
            columns.append((at, width))
            at += width
    return tuple(sorted(columns, key=lambda one: one[1], reverse=True))


def _u16(memory: memoryview, at: int) -> int:
    return int.from_bytes(memory[at : at + 2], "big")
