"""Ethernet frames that no socket would send: datagrams of others, reports and queries. Pure.

IPv4 with RFC 791 and 1112, IPv6 with RFC 8200 and 2464; IGMPv2 and v3 (RFC 2236, RFC 9776), MLDv1
and v2 (RFC 2710, RFC 9777), each with the router alert their routers ask for (RFC 2113, RFC 2711).
"""

import struct
from ipaddress import ip_address

from mcastctl.decode.checksum import pseudo_header

_UDP, _IGMP, _ICMP6, _HOP_BY_HOP = 17, 2, 58, 0
_ALERT4, _ALERT6 = b"\x94\x04\0\0", b"\x05\x02\0\0\x01\0"
_CONTROL = 0xC0  # internetwork control, as RFC 9776 section 4 asks
_SOURCE_MAC = b"\x02mcast"
INCLUDE, EXCLUDE, BLOCK = 1, 2, 6
"""Record types MODE_IS_INCLUDE, MODE_IS_EXCLUDE and BLOCK_OLD_SOURCES."""


def datagram(source: str, sport: int, group: str, port: int, payload: bytes) -> bytes:
    """Return UDP to a group, TTL 1, with a checksum that is wrong: no socket ever gets it."""
    there, here = ip_address(group).packed, ip_address(source).packed
    size = 8 + len(payload)
    body = struct.pack("!HHHH", sport, port, size, 0) + payload
    right = _checksum(pseudo_header(here, there, _UDP, size) + body)
    body = body[:6] + struct.pack("!H", _wrong(right)) + body[8:]
    return _packet(here, there, _UDP, body)


def report(  # noqa: PLR0917 - the fields of one record
    source: str, group: str, version: int, mode: int, sources: tuple[str, ...], mac: bytes
) -> bytes:
    """Return a report of one membership; before version 3 (MLD: 2) it names no sources."""
    there, here = ip_address(group).packed, ip_address(source).packed
    six = len(there) == 16
    record = struct.pack("!BBH", mode, 0, len(sources)) + there
    record += b"".join(ip_address(one).packed for one in sources)
    if six and version >= 2:
        to, body = ip_address("ff02::16").packed, struct.pack("!BBHHH", 143, 0, 0, 0, 1) + record
    elif six:
        to, body = there, struct.pack("!BBHI", 131, 0, 0, 0) + there
    elif version >= 3:
        to, body = ip_address("224.0.0.22").packed, struct.pack("!BBHHH", 0x22, 0, 0, 0, 1) + record
    else:
        to, body = there, struct.pack("!BBH", 0x16 if version == 2 else 0x12, 0, 0) + there
    return _control(here, to, body, mac, right=True)


def query(source: str) -> bytes:
    """Return a general query whose checksum is wrong: it is dropped before it changes anything."""
    here = ip_address(source).packed
    if len(here) == 16:
        body = struct.pack("!BBHHH16sBBH", 130, 0, 0, 10_000, 0, bytes(16), 2, 125, 0)
        return _control(here, ip_address("ff02::1").packed, body, _SOURCE_MAC, right=False)
    body = struct.pack("!BBH4sBBH", 0x11, 100, 0, bytes(4), 2, 125, 0)
    return _control(here, ip_address("224.0.0.1").packed, body, _SOURCE_MAC, right=False)


def _control(here: bytes, there: bytes, body: bytes, mac: bytes, *, right: bool) -> bytes:
    six = len(there) == 16
    pseudo = pseudo_header(here, there, _ICMP6, len(body)) if six else b""
    total = _checksum(pseudo + body)
    body = body[:2] + struct.pack("!H", total if right else _wrong(total)) + body[4:]
    if six:
        body = bytes((_ICMP6, 0)) + _ALERT6 + body
        return _packet(here, there, _HOP_BY_HOP, body, mac=mac)
    return _packet(here, there, _IGMP, body, options=_ALERT4, mac=mac)


def _packet(
    here: bytes,
    there: bytes,
    protocol: int,
    body: bytes,
    *,
    options: bytes = b"",
    mac: bytes = _SOURCE_MAC,
) -> bytes:
    """Return the frame, TTL 1."""
    if len(there) == 16:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 1) + here + there
        return b"\x33\x33" + there[12:] + mac + b"\x86\xdd" + head + body
    length = 20 + len(options)
    tos = _CONTROL if protocol == _IGMP else 0
    fields = (0x40 | length // 4, tos, length + len(body), 0, 0x4000, 1, protocol, 0)
    head = struct.pack("!BBHHHBBH", *fields) + here + there + options
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    low = bytes((there[1] & 0x7F,)) + there[2:]
    return b"\x01\x00\x5e" + low + mac + b"\x08\x00" + head + body


def _checksum(data: bytes) -> int:
    """Return the Internet checksum of data whose checksum field is zero (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    return 0xFFFF - int.from_bytes(padded) % 0xFFFF


def _wrong(right: int) -> int:
    """Return a checksum that is neither right nor 'none' (0, RFC 768)."""
    return right ^ 0x5555 or 0x5554
