"""What a live source and a file reader yield alike: one captured frame and where it was seen."""

from typing import NamedTuple

NULL, ETHERNET, PPP = 0, 1, 9
RAW, LOOP, LINUX_SLL, LINUX_SLL2 = 101, 108, 113, 276
IPV4, IPV6 = 228, 229
"""LINKTYPE_ numbers (https://www.tcpdump.org/linktypes.html)."""


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
