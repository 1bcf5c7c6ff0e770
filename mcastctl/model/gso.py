"""A UDP super-packet to the datagrams that its receiver, or the next wire, gets (UDP GSO).

A host hands up to 64 KiB to the network card, or to another namespace, as one frame and cuts
it late; a capture sees it whole. Source: Linux net/ipv4/udp_offload.c (__udp_gso_segment),
net/ipv4/af_inet.c (inet_gso_segment: the IPv4 identification counts up).
"""

import struct
from collections.abc import Iterator

from mcastctl.model.frame import ETHERNET, LINUX_SLL2, RAW, Frame

_NETWORK = {RAW: 0, ETHERNET: 14, LINUX_SLL2: 20}
_TAGS = (b"\x81\x00", b"\x88\xa8")
_UDP = 17


def split(frame: Frame) -> Iterator[Frame]:
    """Yield the datagrams of a super-packet as frames with headers of their own.

    A frame that is none, or whose headers are not understood, comes back as it is.
    """
    data = bytes(frame.data)
    at = _network(frame.linktype, data)
    version = data[at] >> 4 if len(data) > at else 0
    udp = at + ((data[at] & 15) * 4 if version == 4 else 40) if version in (4, 6) else 0
    protocol = data[at + (9 if version == 4 else 6)] if len(data) >= udp + 8 and udp else 0
    size = frame.gso_size
    if not size or protocol != _UDP or len(data) - udp - 8 <= size:
        yield frame._replace(gso_size=0)
        return
    wire = frame.length - udp - 8
    for number, start in enumerate(range(0, wire, size)):
        length = min(size, wire - start)
        piece = data[udp + 8 + start : udp + 8 + start + length]
        head = _headers(data[:udp], at, version, number, length + 8)
        yield frame._replace(
            data=head + _udp(head[at:], data[udp : udp + 4], version, length, piece) + piece,
            length=udp + 8 + length,
            gso_size=0,
        )


def _network(linktype: int, data: bytes) -> int:
    at = _NETWORK.get(linktype, len(data))
    while linktype == ETHERNET and data[at - 2 : at] in _TAGS:
        at += 4
    return at


def _headers(head: bytes, at: int, version: int, number: int, length: int) -> bytes:
    """Return link and IP header of the datagram `number`, `length` with its UDP header."""
    link, network = head[:at], bytearray(head[at:])
    if version == 6:
        struct.pack_into("!H", network, 4, length)
        return link + bytes(network)
    ident = struct.unpack_from("!H", network, 4)[0] + number
    struct.pack_into("!HH", network, 2, len(network) + length, ident & 0xFFFF)
    network[10:12] = b"\0\0"
    struct.pack_into("!H", network, 10, _checksum(bytes(network)))
    return link + bytes(network)


def _udp(network: bytes, ports: bytes, version: int, length: int, payload: bytes) -> bytes:
    """Return the UDP header; the checksum is right where all of the payload was captured."""
    addresses = network[12:20] if version == 4 else network[8:40]
    total = length + 8
    if len(payload) < length:
        return ports + struct.pack("!HH", total, 0)
    pseudo = addresses + struct.pack("!HH", _UDP, total)
    head = ports + struct.pack("!HH", total, 0)
    return ports + struct.pack("!HH", total, _checksum(pseudo + head + payload) or 0xFFFF)


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) & 1)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
