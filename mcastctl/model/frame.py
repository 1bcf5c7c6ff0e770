"""What a live source and a file reader yield alike: one captured frame, or a block of them."""

from typing import NamedTuple

NULL, ETHERNET, PPP = 0, 1, 9
RAW, C_HDLC, LOOP, LINUX_SLL, LINUX_SLL2 = 101, 104, 108, 113, 276
IPV4, IPV6 = 228, 229
"""LINKTYPE_ numbers (https://www.tcpdump.org/linktypes.html)."""

MAX_FRAME = 262_144
"""Most bytes of one frame that are captured or read (libpcap's MAXIMUM_SNAPLEN)."""


class Frame(NamedTuple):
    """One frame from the link header on.

    `data` holds the captured bytes, `length` is how long the frame was on the wire.
    `iface` is '' and `ifindex` 0 where nobody said; `direction` is 'in', 'out' or ''.
    `gso_size` is the payload size of each datagram the frame is going to be cut into, 0 for
    a frame that travels as it is.
    """

    ts_ns: int
    linktype: int
    data: bytes | memoryview
    length: int
    iface: str = ""
    ifindex: int = 0
    direction: str = ""
    gso_size: int = 0


class Block(NamedTuple):
    """Whole pcap records in a row, as they lie in the file: the cheap way to many frames.

    Records begin at `start` and end at `stop` of `data`; `count` of them, the first being
    number `first`. `order` is '<' or '>', `unit_ns` what the second time field counts.
    """

    data: bytes
    start: int
    stop: int
    count: int
    first: int
    linktype: int
    order: str = "<"
    unit_ns: int = 1000
