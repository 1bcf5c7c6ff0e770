"""UDP (RFC 768) to ports and payload, and the payload's protocol by its port."""

from typing import NamedTuple

from mcastctl.decode import checksum
from mcastctl.decode.cursor import Cursor, Fields, Malformed


class Udp(NamedTuple):
    """One datagram: `payload` as far as captured, `length` the true size of it."""

    sport: int
    dport: int
    payload: bytes
    length: int


def decode(data: bytes, fields: Fields, pseudo: bytes, available: int) -> Udp:
    """Return the datagram; `available` is what IP has room for, `pseudo` its pseudo-header.

    Raises Short when not even the ports were captured, Malformed for a length that cannot be.
    """
    cursor = Cursor(data)
    sport, dport = cursor.u16(), cursor.u16()
    fields["sport"], fields["dport"] = sport, dport  # known even if the rest is not
    length = cursor.u16()
    field = cursor.u16()
    if length == 0 and available > 0xFFFF:
        length = available  # a jumbogram (RFC 2675 section 4)
    if length < 8:
        raise Malformed(f"UDP length {length} is shorter than its header")
    if length > available:
        raise Malformed(f"UDP length {length} exceeds the {available} bytes of its packet")
    if field and len(data) >= length:
        right = checksum.is_right(pseudo + data[:length])
        unfinished = not right and checksum.is_unfinished(pseudo, field)
        fields["checksum_ok"] = None if unfinished else right
    else:
        fields["checksum_ok"] = None
    return Udp(sport, dport, data[8:length], length - 8)
