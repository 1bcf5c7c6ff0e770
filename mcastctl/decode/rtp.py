"""RTP headers (RFC 3550 section 5.1) and the clock rates of static payload types (RFC 3551)."""

import struct
from typing import NamedTuple

_HEADER = struct.Struct("!BBHII")

LONGEST = 12 + 15 * 4 + 4
"""Bytes of a header with all contributing sources and the head of an extension."""

CLOCK_RATES = {
    **dict.fromkeys((0, 3, 4, 5, 7, 8, 9, 12, 13, 15, 18), 8000),
    **dict.fromkeys((14, 25, 26, 28, 31, 32, 33, 34), 90000),
    6: 16000,
    10: 44100,
    11: 44100,
    16: 11025,
    17: 22050,
}
"""RTP timestamp units per second by payload type (RFC 3551 tables 4 and 5)."""


class Rtp(NamedTuple):
    """The fields of one RTP header that statistics need."""

    payload_type: int
    seq: int
    timestamp: int
    ssrc: int


def is_rtcp(payload: bytes, size: int | None = None) -> bool:
    """Tell whether the payload begins with a whole RTCP packet (RFC 3550 section 6.4).

    Types 200 to 207 are in use; streams may mix RTCP into the RTP port (RFC 5761). `size` is the
    true size of a payload cut short.
    """
    size = len(payload) if size is None else size
    if len(payload) < 8 or payload[0] >> 6 != 2 or not 200 <= payload[1] <= 207:
        return False
    return 4 * (int.from_bytes(payload[2:4], "big") + 1) <= size


def decode(payload: bytes, size: int | None = None) -> Rtp | None:
    """Return the RTP header when the bytes can be one, else None. Total on any bytes.

    Version, contributing-source list, extension and padding must fit the length, and the payload
    type must not be one RTCP would show there (RFC 5761 section 4). Of a payload cut short,
    `size` bytes in truth, `LONGEST` bytes tell, unless it ends in padding: then it is None.
    """
    size = len(payload) if size is None else size
    if len(payload) < 12 or payload[0] >> 6 != 2:
        return None
    first, second, seq, timestamp, ssrc = _HEADER.unpack_from(payload)
    payload_type = second & 0x7F
    if not (payload_type < 35 or payload_type >= 96):
        return None
    body = 12 + 4 * (first & 0x0F)
    if first & 0x10:
        if len(payload) < body + 4:
            return None
        body += 4 + 4 * int.from_bytes(payload[body + 2 : body + 4], "big")
    if first & 0x20 and len(payload) < size:
        return None
    padding = payload[-1] if first & 0x20 else 0
    if body + padding > size or (first & 0x20 and padding == 0):
        return None
    return Rtp(payload_type, seq, timestamp, ssrc)
