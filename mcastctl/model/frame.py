"""What a live source and a file reader yield alike: one captured frame, or a block of them."""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

NULL, ETHERNET, PPP = 0, 1, 9
RAW, C_HDLC, LOOP, LINUX_SLL, LINUX_SLL2 = 101, 104, 108, 113, 276
IPV4, IPV6 = 228, 229
"""LINKTYPE_ numbers (https://www.tcpdump.org/linktypes.html)."""

MAX_FRAME = 262_144
"""Most bytes of one frame that are captured or read (libpcap's MAXIMUM_SNAPLEN)."""
_MAX_LONG_FRAME = 16 << 20
_LONG_LINKS = (231, 249, 279)
"""D-Bus, USBPcap and EBHSCR, whose frames may be longer (libpcap's max_snaplen_for_dlt)."""


class Frame(NamedTuple):
    """One frame from the link header on.

    `data` holds the captured bytes, `length` is how long the frame was on the wire.
    `iface` is '' and `ifindex` 0 where nobody said; `direction` is 'in', 'out' or ''.
    `gso_size` is the payload size of each datagram the frame is going to be cut into, 0 for
    a frame that travels as it is. `comments` are those a pcapng file keeps beside it.
    """

    ts_ns: int
    linktype: int
    data: bytes | memoryview
    length: int
    iface: str = ""
    ifindex: int = 0
    direction: str = ""
    gso_size: int = 0
    comments: tuple[str, ...] = ()


class Block(NamedTuple):
    """Whole records as they lie in a file, all alike: the cheap way to many frames.

    `offsets` are the places of the records in `data`, `numbers` what they are counted as. A
    record is four 32-bit numbers in byte order `order` and the captured bytes: time (two
    numbers), captured length, true length. The time is seconds and a fraction counted in
    `unit_ns` (pcap), or with `ticks` one 64-bit count of `unit_ns` (pcapng).
    """

    data: bytes
    offsets: Sequence[int]
    numbers: Sequence[int]
    linktype: int
    order: str = "<"
    unit_ns: int = 1000
    ticks: bool = False
    iface: str = ""
    ifindex: int = 0
    direction: str = ""
    comments: tuple[str, ...] = ()


def longest(linktype: int) -> int:
    """Return the most bytes a frame of a link type may have."""
    return _MAX_LONG_FRAME if linktype in _LONG_LINKS else MAX_FRAME


def frame_at(block: Block, at: int) -> Frame:
    """Return the frame of the record at offset `at` of a block."""
    high, low, captured, length = struct.unpack_from(f"{block.order}IIII", block.data, at)
    per_s = 1_000_000_000 // block.unit_ns
    count = high << 32 | low if block.ticks else high * per_s + low
    return Frame(
        count * block.unit_ns,
        block.linktype,
        block.data[at + 16 : at + 16 + captured],
        max(length, captured),
        block.iface,
        block.ifindex,
        block.direction,
        comments=block.comments,
    )


def frames(block: Block) -> Iterator[tuple[int, Frame]]:
    """Yield number and frame of each record of a block."""
    for number, at in zip(block.numbers, block.offsets, strict=True):
        yield number, frame_at(block, at)
