"""IEEE 802.11 MAC headers (802.11-2020 section 9.2.3) to addresses and what the frame carries."""

from mcastctl.decode.cursor import Cursor, Fields

_DATA = 2
_NAMES = {0: "management", 1: "control", 2: "data", 3: "extension"}
_NO_DATA, _QOS = 0x4, 0x8
_TO_DS, _FROM_DS, _PROTECTED, _ORDER = 0x01, 0x02, 0x40, 0x80
_AGGREGATED = 0x80
"""A-MSDU Present, of the QoS Control field."""


def decode(cursor: Cursor, fields: Fields, *, padded: bool) -> bool:
    """Pass a header, noting addresses; tell whether an LLC header in clear text follows.

    `padded` says that the header is rounded up to four bytes (the data pad of some drivers).
    """
    start = cursor.at
    first, flags = cursor.u8(), cursor.u8()
    kind, subtype = first >> 2 & 3, first >> 4
    fields["wlan"] = _NAMES[kind]
    if kind != _DATA:
        return False
    cursor.skip(2)
    addresses = [cursor.take(6) for _ in range(3)]
    cursor.skip(2)
    wireless = flags & _TO_DS and flags & _FROM_DS
    if wireless:
        addresses.append(cursor.take(6))
    target = addresses[2] if flags & _TO_DS else addresses[0]
    source = addresses[3 if wireless else 2] if flags & _FROM_DS else addresses[1]
    fields["eth_dst"], fields["eth_src"] = target.hex(":"), source.hex(":")
    aggregated = False
    if subtype & _QOS:
        aggregated = bool(cursor.u8() & _AGGREGATED)
        cursor.skip(5 if flags & _ORDER else 1)
    if padded:
        cursor.skip(-(cursor.at - start) % 4)
    if flags & _PROTECTED:
        fields["wlan"] = "encrypted data"
    return not (subtype & _NO_DATA or flags & _PROTECTED or aggregated)
