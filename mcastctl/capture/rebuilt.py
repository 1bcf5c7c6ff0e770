"""A datagram that a socket heard to the IP packet it came in, as far as the socket could tell.

Addresses, ports, TTL, DSCP and payload are those that arrived; identification and flow label are
zero, there are no options, and what came in fragments is whole. The checksums are right.
"""

import struct
from functools import lru_cache
from ipaddress import ip_address

from mcastctl.model.frame import RAW, Frame
from mcastctl.model.records import Datagram

Flow = tuple[str, int, str, int, int | None, int | None]
"""Addresses with their ports, TTL, DSCP."""
_UDP = 17
_DONT_FRAGMENT = 0x4000


def frame(datagram: Datagram) -> Frame:
    """Return the packet with its IP header first (LINKTYPE_RAW); an unknown TTL is 0."""
    one, payload = datagram, datagram.payload
    flow = (one.src, one.sport, one.dst, one.dport, one.ttl, one.dscp)
    head, total = _head(flow, len(payload))
    checksum = 0xFFFF - (total + _sum(payload)) % 0xFFFF  # never 0, which means: none
    data = b"".join((head, checksum.to_bytes(2, "big"), payload))
    return Frame(one.ts_ns, RAW, data, len(data), one.iface, one.ifindex, "in")


@lru_cache(4096)
def _head(flow: Flow, length: int) -> tuple[bytes, int]:
    """Return what comes before the UDP checksum, and the sum it begins with."""
    src, sport, dst, dport, ttl, dscp = flow
    source, group = _packed(src), _packed(dst)
    size = 8 + length
    udp = struct.pack("!HHH", sport, dport, size)
    build = _header4 if len(group) == 4 else _header6
    header = build(source, group, size, ttl or 0, (dscp or 0) << 2)
    return header + udp, _sum(source + group + udp) + _UDP + size


def _packed(address: str) -> bytes:
    return ip_address(address.partition("%")[0]).packed


def _sum(data: bytes) -> int:
    """Return the sum of 16-bit words modulo 65535 (RFC 1071), by one division."""
    if len(data) & 1:
        data += b"\0"
    return int.from_bytes(data, "big") % 0xFFFF


def _header4(src: bytes, dst: bytes, size: int, ttl: int, tos: int) -> bytes:
    head = struct.pack("!BBHHHBB", 0x45, tos, 20 + size, 0, _DONT_FRAGMENT, ttl, _UDP)
    return head + struct.pack("!H", 0xFFFF - _sum(head + src + dst)) + src + dst


def _header6(src: bytes, dst: bytes, size: int, ttl: int, traffic_class: int) -> bytes:
    return struct.pack("!IHBB", 6 << 28 | traffic_class << 20, size, _UDP, ttl) + src + dst
