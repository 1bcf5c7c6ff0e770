"""What capture programs and drivers put before a frame, to the link type of what follows it.

Radiotap and its elders of Wi-Fi, PPI, PKTAP of macOS, NFLOG, and the logs of BSD's packet filter
(https://www.tcpdump.org/linktypes.html).
"""

from collections.abc import Callable
from typing import NamedTuple

from mcastctl.decode.cursor import Cursor, Malformed
from mcastctl.model import frame

IEEE802_11 = 105
_PRISM_BYTES = 144
_AVS = (0x80211001, 0x80211002)
_PAYLOAD = 9
"""NFULA_PAYLOAD of <linux/netfilter/nfnetlink_log.h>."""
_DIRECTIONS = {1: "in", 2: "out"}
_FAMILIES = {2: frame.IPV4, **dict.fromkeys((10, 24, 28, 30), frame.IPV6)}


class Inner(NamedTuple):
    """The link type behind a header; `padded` when Wi-Fi headers are rounded up to four bytes."""

    linktype: int
    direction: str = ""
    padded: bool = False


def _radiotap(cursor: Cursor) -> Inner:
    """Read the length, and of the fields those up to the flags (https://www.radiotap.org)."""
    start = cursor.at
    cursor.skip(2)
    size = _little(cursor, 2)
    present = first = _little(cursor, 4)
    while present & 0x80000000:
        present = _little(cursor, 4)
    flags = 0
    if first & 1:  # the time, on a boundary of its size
        cursor.skip(-(cursor.at - start) % 8 + 8)
    if first & 2:
        flags = cursor.u8()
    return _behind(cursor, start, size, Inner(IEEE802_11, padded=bool(flags & 0x20)))


def _prism(cursor: Cursor) -> Inner:
    start = cursor.at
    if cursor.u32() in _AVS:
        return _behind(cursor, start, cursor.u32(), Inner(IEEE802_11))
    return _behind(cursor, start, _PRISM_BYTES, Inner(IEEE802_11))


def _ppi(cursor: Cursor) -> Inner:
    start = cursor.at
    cursor.skip(2)
    size = _little(cursor, 2)
    return _behind(cursor, start, size, Inner(_little(cursor, 4)))


def _pktap(cursor: Cursor) -> Inner:
    start = cursor.at
    size = _little(cursor, 4)
    cursor.skip(4)
    linktype = _little(cursor, 4)
    cursor.skip(24)
    direction = _DIRECTIONS.get(_little(cursor, 4) & 3, "")
    return _behind(cursor, start, size, Inner(linktype, direction))


def _nflog(cursor: Cursor) -> Inner:
    """Look for the packet among the attributes, which are in the byte order of their host."""
    family = cursor.u8()
    cursor.skip(3)
    while cursor.left:
        size, kind = _little(cursor, 2), _little(cursor, 2)
        if kind & 0x7FFF == _PAYLOAD:
            return Inner(_FAMILIES.get(family, -1))
        if size < 4:
            raise Malformed(f"an NFLOG attribute of {size} bytes")
        cursor.skip((size + 3 & ~3) - 4)
    return Inner(-1)


def _encrypted(cursor: Cursor) -> Inner:
    word = cursor.take(12)[:4]
    family = min(int.from_bytes(word, "big"), int.from_bytes(word, "little"))
    return Inner(_FAMILIES.get(family, -1))


def _pflog(cursor: Cursor) -> Inner:
    start = cursor.at
    size, family = cursor.u8(), cursor.u8()
    return _behind(cursor, start, size + 3 & ~3, Inner(_FAMILIES.get(family, -1)))


def _behind(cursor: Cursor, start: int, size: int, inner: Inner) -> Inner:
    """Pass the rest of a header of `size` bytes."""
    if size < cursor.at - start:
        raise Malformed(f"a capture header of {size} bytes")
    cursor.skip(size - (cursor.at - start))
    return inner


def _little(cursor: Cursor, size: int) -> int:
    return int.from_bytes(cursor.take(size), "little")


READERS: dict[int, Callable[[Cursor], Inner]] = {
    109: _encrypted,
    117: _pflog,
    119: _prism,
    127: _radiotap,
    163: _prism,
    192: _ppi,
    239: _nflog,
    258: _pktap,
}
"""Readers by link type; each leaves the cursor behind its header. Raises Short and Malformed."""
