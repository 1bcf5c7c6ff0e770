"""Frames and capture files made byte by byte, for what decodes them to be tested against."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

V4, V6 = 0x0800, 0x86DD
ROUTER_ALERT4 = bytes((0x94, 4, 0, 0))
ROUTER_ALERT6 = bytes((5, 2, 0, 0, 1, 0))
EPOCH = 1_700_000_000


def checksum(data: bytes) -> int:
    """The Internet checksum, word by word (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def packed(address: str) -> bytes:
    return ip_address(address).packed


def pseudo(src: str, dst: str, protocol: int, length: int) -> bytes:
    a, b = packed(src), packed(dst)
    if len(a) == 4:
        return a + b + struct.pack("!BBH", 0, protocol, length)
    return a + b + struct.pack("!I3xB", length, protocol)


def filled(data: bytes, at: int, before: bytes = b"") -> bytes:
    """The data with its checksum at an offset."""
    value = checksum(before + data[:at] + b"\0\0" + data[at + 2 :])
    return data[:at] + struct.pack("!H", value) + data[at + 2 :]


def ip4(
    src: str,
    dst: str,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 1,
    options: bytes = b"",
    ident: int = 7,
    flags: int = 0,
) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x40 + 5 + len(options) // 4, 0xC0, 20 + len(options) + len(payload), ident, flags),
        *(ttl, protocol, 0, packed(src), packed(dst)),
    )
    return filled(head + options, 10) + payload


def ip6(src: str, dst: str, protocol: int, payload: bytes, *, hops: int = 1) -> bytes:
    head = struct.pack("!IHBB", 0x60000000, len(payload), protocol, hops)
    return head + packed(src) + packed(dst) + payload


def hop_by_hop(following: int, options: bytes = ROUTER_ALERT6) -> bytes:
    return bytes((following, (len(options) + 2) // 8 - 1)) + options


def icmp6(src: str, dst: str, body: bytes, *, alert: bool = True) -> bytes:
    body = filled(body, 2, pseudo(src, dst, 58, len(body)))
    if not alert:
        return ip6(src, dst, 58, body)
    return ip6(src, dst, 0, hop_by_hop(58) + body)


def udp(src: str, dst: str, sport: int, dport: int, payload: bytes) -> bytes:
    head = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
    size = len(head) + len(payload)
    return filled(head + payload, 6, pseudo(src, dst, 17, size))


def datagram(src: str, dst: str, sport: int, dport: int, payload: bytes) -> bytes:
    """A UDP datagram in its IP packet."""
    body = udp(src, dst, sport, dport, payload)
    return ip6(src, dst, 17, body) if ":" in src else ip4(src, dst, 17, body)


def ether(packet: bytes, *, tags: Sequence[tuple[int, int]] = (), ethertype: int = 0) -> bytes:
    """An Ethernet frame; tags are (TPID, VLAN id)."""
    kind = ethertype or (V6 if packet[0] >> 4 == 6 else V4)
    marks = b"".join(struct.pack("!HH", tpid, vlan) for tpid, vlan in tags)
    return bytes.fromhex("01005e010101020000000001") + marks + struct.pack("!H", kind) + packet


# --- messages


def igmp(kind: int, code: int, group: str, rest: bytes = b"") -> bytes:
    return filled(struct.pack("!BBH4s", kind, code, 0, packed(group)) + rest, 2)


def records(found: Sequence[tuple[int, str, Sequence[str]]], auxiliary: bytes = b"") -> bytes:
    """Group records of IGMPv3 or MLDv2: (type, group, sources)."""
    return b"".join(
        struct.pack("!BBH", kind, len(auxiliary) // 4, len(sources))
        + packed(group)
        + b"".join(map(packed, sources))
        + auxiliary
        for kind, group, sources in found
    )


def igmp3_report(found: Sequence[tuple[int, str, Sequence[str]]], auxiliary: bytes = b"") -> bytes:
    head = struct.pack("!BBHHH", 0x22, 0, 0, 0, len(found))
    return filled(head + records(found, auxiliary), 2)


def mld2_report(found: Sequence[tuple[int, str, Sequence[str]]]) -> bytes:
    return struct.pack("!BBHHH", 143, 0, 0, 0, len(found)) + records(found)


def mld(kind: int, delay: int, group: str, rest: bytes = b"") -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, delay, 0) + packed(group) + rest


def query_tail(flags: int, interval: int, sources: Sequence[str]) -> bytes:
    """What IGMPv3 and MLDv2 queries have behind the group."""
    return struct.pack("!BBH", flags, interval, len(sources)) + b"".join(map(packed, sources))


def unicast(address: str) -> bytes:
    return bytes((2 if ":" in address else 1, 0)) + packed(address)


def group(address: str, length: int) -> bytes:
    return bytes((2 if ":" in address else 1, 0, 0, length)) + packed(address)


def source(address: str, length: int, flags: int = 4) -> bytes:
    return bytes((2 if ":" in address else 1, 0, flags, length)) + packed(address)


def attributed(address: str, length: int, *attributes: tuple[int, bytes]) -> bytes:
    """A source with join attributes (RFC 5384)."""
    listed = b"".join(bytes((kind, len(value))) + value for kind, value in attributes)
    plain = source(address, length)
    return plain[:1] + b"\1" + plain[2:] + listed


def pim(kind: int, body: bytes, before: bytes = b"", *, second: int = 0) -> bytes:
    data = struct.pack("!BBH", 0x20 | kind, second, 0) + body
    return filled(data, 2, before) if kind != 1 else filled(data[:8], 2, before) + data[8:]


def name(text: str) -> bytes:
    return b"".join(bytes((len(one),)) + one.encode() for one in text.split(".")) + b"\0"


# --- files


class Record(NamedTuple):
    data: bytes
    ts_ns: int = EPOCH * 10**9
    length: int | None = None


def pcap(
    frames: Sequence[bytes | Record], linktype: int = 1, *, order: str = "<", nano: bool = False
) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, linktype)]
    for number, one in enumerate(frames):
        record = one if isinstance(one, Record) else Record(one, EPOCH * 10**9 + number * 10**6)
        sec, ns = divmod(record.ts_ns, 10**9)
        size = len(record.data) if record.length is None else record.length
        fraction = ns if nano else ns // 1000
        parts.append(struct.pack(f"{order}IIII", sec, fraction, len(record.data), size))
        parts.append(record.data)
    return b"".join(parts)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(linktype: int = 1, options: bytes = b"", order: str = "<", snaplen: int = 0) -> bytes:
    end = option(0, b"", order) if options else b""
    return block(1, struct.pack(f"{order}HHI", linktype, 0, snaplen) + options + end, order)


def packet(
    data: bytes, *, of: int = 0, count: int = EPOCH * 10**6, options: bytes = b"", order: str = "<"
) -> bytes:
    """An Enhanced Packet Block; `count` is its time in ticks of the interface."""
    head = struct.pack(f"{order}IIIII", of, count >> 32, count & 0xFFFFFFFF, len(data), len(data))
    end = option(0, b"", order) if options else b""
    return block(6, head + data + bytes(-len(data) % 4) + options + end, order)
