"""One frame of every control message, and of every dress it can come in."""

from __future__ import annotations

import struct

import frames as f

A4, B4, A6, B6 = "10.0.0.1", "10.0.0.2", "fe80::1", "2001:db8::2"
ANY = ".".join("0000")
ALL_ROUTERS = "224.0.0.2"
V3_ROUTERS = "224.0.0.22"


def _igmp(dst: str, message: bytes, *, options: bytes = f.ROUTER_ALERT4, src: str = A4) -> bytes:
    return f.ip4(src, dst, 2, message, options=options)


RECORDS4 = [
    (1, "232.1.1.1", [B4, "10.0.0.3"]),
    (2, "239.1.1.2", []),
    (3, "232.1.1.3", [B4]),
    (4, "239.1.1.4", [B4]),
    (5, "232.1.1.5", [B4]),
    (6, "232.1.1.6", [B4, "10.0.0.9", "10.0.0.10"]),
    (9, "239.9.9.9", []),
]
RECORDS6 = [
    (1, "ff3e::1", [A6, B6]),
    (2, "ff15::2", []),
    (3, "ff3e::3", [B6]),
    (4, "ff02::fb", []),
    (5, "ff3e::5", [B6]),
    (6, "ff3e::6", [B6]),
]
MANY: list[tuple[int, str, list[str]]] = [
    (4, f"239.1.{at >> 8}.{at & 255}", []) for at in range(183)
]

IGMP = {
    "v1 query": _igmp("224.0.0.1", f.igmp(0x11, 0, ANY), options=b""),
    "v1 report": _igmp("239.1.1.1", f.igmp(0x12, 0, "239.1.1.1"), options=b""),
    "v2 general query": _igmp("224.0.0.1", f.igmp(0x11, 100, ANY)),
    "v2 group query": _igmp("239.1.1.1", f.igmp(0x11, 10, "239.1.1.1")),
    "v2 report": _igmp("239.1.1.1", f.igmp(0x16, 0, "239.1.1.1")),
    "v2 leave": _igmp(ALL_ROUTERS, f.igmp(0x17, 0, "239.1.1.1")),
    "v3 general query": _igmp("224.0.0.1", f.igmp(0x11, 100, ANY, f.query_tail(2, 125, []))),
    "v3 query, long": _igmp("224.0.0.1", f.igmp(0x11, 0x9C, ANY, f.query_tail(10, 0xFF, []))),
    "v3 sources query": _igmp(
        "232.1.1.1", f.igmp(0x11, 10, "232.1.1.1", f.query_tail(2, 125, [B4, "10.0.0.3"]))
    ),
    "v3 report": _igmp(V3_ROUTERS, f.igmp3_report(RECORDS4)),
    "v3 report, auxiliary": _igmp(V3_ROUTERS, f.igmp3_report(RECORDS4, b"\1\2\3\4\5\6\7\10")),
    "v3 report, nothing": _igmp(V3_ROUTERS, f.igmp3_report([])),
    "v3 report, 183 records": _igmp(V3_ROUTERS, f.igmp3_report(MANY), options=b""),
    "dvmrp": _igmp("224.0.0.4", f.igmp(0x13, 1, ANY)),
    "mtrace": _igmp("224.0.0.2", f.igmp(0x1F, 1, "239.1.1.1", bytes(20))),
    "unknown type": _igmp("224.0.0.1", f.igmp(0x77, 1, "239.1.1.1")),
    "bad checksum": _igmp("239.1.1.1", bytes((0x16, 0, 1, 2)) + f.packed("239.1.1.1")),
}
MLD = {
    "v1 general query": f.icmp6(A6, "ff02::1", f.mld(130, 10000, "::")),
    "v1 group query": f.icmp6(A6, "ff15::2", f.mld(130, 1000, "ff15::2")),
    "v1 report": f.icmp6(A6, "ff15::2", f.mld(131, 0, "ff15::2")),
    "done": f.icmp6(A6, "ff02::2", f.mld(132, 0, "ff15::2")),
    "v2 general query": f.icmp6(A6, "ff02::1", f.mld(130, 10000, "::", f.query_tail(2, 125, []))),
    "v2 query, long": f.icmp6(A6, "ff02::1", f.mld(130, 0x9000, "::", f.query_tail(9, 0x90, []))),
    "v2 sources query": f.icmp6(
        A6, "ff3e::1", f.mld(130, 1000, "ff3e::1", f.query_tail(2, 125, [B6, A6]))
    ),
    "v2 report": f.icmp6(A6, "ff02::16", f.mld2_report(RECORDS6)),
    "v2 report, no alert": f.icmp6(A6, "ff02::16", f.mld2_report(RECORDS6), alert=False),
}


def _pim4(kind: int, body: bytes, second: int = 0) -> bytes:
    return f.ip4(A4, "224.0.0.13", 103, f.pim(kind, body, second=second))


def _pim6(kind: int, body: bytes) -> bytes:
    size = 8 if kind == 1 else len(body) + 4
    message = f.pim(kind, body, f.pseudo(A6, "ff02::d", 103, size))
    return f.ip6(A6, "ff02::d", 103, message)


def _hello(*options: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)


_OPTIONS = (
    (1, struct.pack("!H", 105)),
    (2, struct.pack("!HH", 0x8000 | 500, 2500)),
    (19, struct.pack("!I", 1)),
    (20, struct.pack("!I", 0xDEADBEEF)),
    (21, struct.pack("!BBH", 1, 60, 0)),
)
_JOIN4 = (
    f.unicast(B4)
    + struct.pack("!BBH", 0, 2, 210)
    + f.group("239.1.1.1", 32)
    + struct.pack("!HH", 1, 2)
    + f.source("10.9.9.9", 32, 7)
    + f.source("10.0.0.3", 32)
    + f.source("10.0.0.4", 32, 5)
    + f.group("232.1.1.1", 32)
    + struct.pack("!HH", 2, 0)
    + f.source("10.0.0.5", 32)
    + f.source("10.0.0.6", 32)
)
_JOIN6 = (
    f.unicast("fe80::2")
    + struct.pack("!BBH", 0, 1, 210)
    + f.group("ff3e::1", 128)
    + struct.pack("!HH", 1, 1)
    + f.source(B6, 128)
    + f.source("2001:db8::3", 128)
)
_BOOTSTRAP = (
    struct.pack("!HBB", 77, 30, 64)
    + f.unicast("10.9.9.9")
    + f.group("224.0.0.0", 4)
    + struct.pack("!BBH", 1, 1, 0)
    + f.unicast("10.9.9.8")
    + struct.pack("!HBB", 150, 192, 0)
)
_FRAGMENT = (
    struct.pack("!HBB", 78, 30, 64)
    + f.unicast("10.9.9.9")
    + f.group("239.0.0.0", 8)
    + struct.pack("!BBH", 5, 2, 0)
    + b"".join(f.unicast(rp) + struct.pack("!HBB", 150, 7, 0) for rp in ("10.9.9.7", "10.9.9.8"))
    + f.group("232.0.0.0", 8)
    + struct.pack("!BBH", 1, 0, 0)
)
_BOOTSTRAP6 = (
    struct.pack("!HBB", 77, 126, 64)
    + f.unicast("2001:db8::9")
    + f.group("ff00::", 8)
    + struct.pack("!BBH", 1, 1, 0)
    + f.unicast("2001:db8::8")
    + struct.pack("!HBB", 150, 192, 0)
)
_ATTRIBUTES = (
    f.unicast(B4)
    + struct.pack("!BBH", 0, 1, 210)
    + f.group("239.1.1.1", 32)
    + struct.pack("!HH", 2, 0)
    + f.attributed("10.0.0.3", 32, (4, bytes(3)), (0x45, b"last"))
    + f.source("10.0.0.4", 32)
)
_REFRESH = (
    f.group("239.1.1.1", 32)
    + f.unicast("10.0.0.7")
    + f.unicast("10.0.0.1")
    + struct.pack("!IIBBBB", 110, 20, 24, 16, 0xC0, 60)
)
_OFFER = f.unicast("10.9.9.9") + struct.pack("!II", 110, 20)
_BACKOFF = _OFFER + f.unicast("10.0.0.8") + struct.pack("!IIH", 100, 10, 1000)


def pim1(code: int, body: bytes) -> bytes:
    """A message of version 1, which is one of IGMP."""
    message = bytes((0x14, code, 0, 0, 0x10, 0, 0, 0)) + body
    return f.ip4(A4, ALL_ROUTERS, 2, f.filled(message, 2))


def _source1(address: str, flags: int = 0x100) -> bytes:
    return struct.pack("!H", flags | 32) + f.packed(address)


_JOIN1 = (
    f.packed(B4)
    + struct.pack("!HHHBB", 0, 210, 0, 4, 2)
    + f.packed("239.1.1.1")
    + struct.pack("!IHH", 0xFFFFFFFF, 1, 2)
    + _source1("10.9.9.9", 0x1C0)
    + _source1("10.0.0.3")
    + _source1("10.0.0.4")
    + f.packed("239.2.0.0")
    + struct.pack("!IHH", 0xFFFF0000, 1, 0)
    + _source1("10.0.0.5", 0)
)
_INSIDE6 = f.datagram("2001:db8::7", "ff3e::7", 4000, 5004, b"inside")
_INSIDE = f.datagram("10.0.0.7", "239.7.7.7", 4000, 5004, b"inside")
PIM = {
    "hello": _pim4(0, _hello(*_OPTIONS)),
    "hello, goodbye": _pim4(0, _hello((1, b"\0\0"))),
    "hello, IPv6": _pim6(0, _hello(*_OPTIONS, (24, f.unicast(B6)))),
    "register": _pim4(1, struct.pack("!I", 0x80000000) + _INSIDE),
    "null register": _pim4(1, struct.pack("!I", 0x40000000) + _INSIDE[:20]),
    "register stop": _pim4(2, f.group("239.1.1.1", 32) + f.unicast("10.0.0.7")),
    "join/prune": _pim4(3, _JOIN4),
    "join/prune, IPv6": _pim6(3, _JOIN6),
    "bootstrap": _pim4(4, _BOOTSTRAP),
    "assert": _pim4(
        5, f.group("239.1.1.1", 32) + f.unicast("10.0.0.7") + struct.pack("!II", 0x80000065, 20)
    ),
    "graft": _pim4(6, _JOIN4),
    "graft ack": _pim4(7, _JOIN4),
    "v1 query": pim1(0, struct.pack("!HH", 0x2000, 105)),
    "v1 register": pim1(1, _INSIDE),
    "v1 register stop": pim1(2, f.packed("239.1.1.1") + f.packed("10.0.0.7")),
    "v1 join/prune": pim1(3, _JOIN1),
    "v1 graft": pim1(6, _JOIN1),
    "hello, everything": _pim4(
        0,
        _hello(
            *_OPTIONS,
            (22, b""),
            (24, f.unicast(B4) + f.unicast("10.0.0.9")),
            (26, b""),
            (65001, f.unicast(B4)),
            (4711, b"unknown"),
        ),
    ),
    "register, IPv6": _pim6(1, struct.pack("!I", 0) + _INSIDE6),
    "null register, IPv6": _pim6(1, struct.pack("!I", 0x40000000) + _INSIDE6[:40]),
    "register stop, IPv6": _pim6(2, f.group("ff3e::7", 128) + f.unicast("2001:db8::7")),
    "join/prune, attributes": _pim4(3, _ATTRIBUTES),
    "bootstrap, fragment": _pim4(4, _FRAGMENT),
    "bootstrap, IPv6": _pim6(4, _BOOTSTRAP6),
    "assert, IPv6": _pim6(
        5, f.group("ff3e::7", 128) + f.unicast("2001:db8::7") + struct.pack("!II", 101, 20)
    ),
    "candidate rp, IPv6": _pim6(
        8, struct.pack("!BBH", 1, 192, 150) + f.unicast("2001:db8::8") + f.group("ff00::", 8)
    ),
    "state refresh": _pim4(9, _REFRESH),
    "df offer": _pim4(10, _OFFER, 0x10),
    "df backoff": _pim4(10, _BACKOFF, 0x30),
    "candidate rp": _pim4(
        8, struct.pack("!BBH", 1, 192, 150) + f.unicast("10.9.9.8") + f.group("239.0.0.0", 8)
    ),
}


def _vrrp(head: bytes, addresses: list[str], before: bytes = b"", tail: bytes = b"") -> bytes:
    return f.filled(head + b"\0\0" + b"".join(map(f.packed, addresses)) + tail, 6, before)


_HOLDERS = ["10.0.0.254", "10.0.0.253"]
_V3 = bytes((0x31, 9, 120, 2, 0, 100))
VRRP = {
    "v2": f.ip4(
        A4,
        "224.0.0.18",
        112,
        _vrrp(bytes((0x21, 8, 100, 2, 0, 1)), _HOLDERS, b"", bytes(8)),
        ttl=255,
    ),
    "v3": f.ip4(
        A4, "224.0.0.18", 112, _vrrp(_V3, _HOLDERS, f.pseudo(A4, "224.0.0.18", 112, 16)), ttl=255
    ),
    "v3, no pseudo-header": f.ip4(A4, "224.0.0.18", 112, _vrrp(_V3, _HOLDERS), ttl=255),
    "v3, goodbye": f.ip4(
        A4, "224.0.0.18", 112, _vrrp(bytes((0x31, 9, 0, 1, 0, 10)), _HOLDERS[:1]), ttl=255
    ),
    "v3, IPv6": f.ip6(
        A6,
        "ff02::12",
        112,
        _vrrp(_V3, ["fe80::fe", "2001:db8::fe"], f.pseudo(A6, "ff02::12", 112, 40)),
        hops=255,
    ),
}

_SERVICE = f.name("_ipp._tcp.local")
_QUESTION = struct.pack("!HHHHHH", 0, 0, 2, 0, 0, 0) + _SERVICE + struct.pack("!HH", 12, 0x8001)
_QUESTION += f.name("host.local") + struct.pack("!HH", 255, 1)


def _answer(kind: int, data: bytes, owner: bytes = b"\xc0\x0c", flush: bool = True) -> bytes:
    return owner + struct.pack("!HHIH", kind, 0x8001 if flush else 1, 120, len(data)) + data


_ANSWERS = (
    struct.pack("!HHHHHH", 0, 0x8400, 0, 4, 0, 3)
    + _answer(12, b"\7printer\xc0\x0c", _SERVICE, flush=False)
    + _answer(33, struct.pack("!HHH", 0, 0, 631) + f.name("host.local"), b"\7printer\xc0\x0c")
    + _answer(16, b"\6a=\xff\x1b\x5b\x41\0", b"\7printer\xc0\x0c")
    + _answer(1, f.packed(A4), f.name("host.local"))
    + _answer(28, f.packed(B6), f.name("host.local"))
    + _answer(47, f.name("host.local") + b"\0\4\x40\0\0\x08", f.name("host.local"))
    + b"\0"
    + struct.pack("!HHIH", 41, 1440, 0x1194, 0)
)
_ODD = ("Größe Büro", "My.Printer", "a\\b", "with space", "UPPER", "x(1)")
_NAMES = struct.pack("!HHHHHH", 0, 0, len(_ODD) + 1, 0, 0, 0) + b"".join(
    bytes((len(one.encode()),)) + one.encode() + _SERVICE + struct.pack("!HH", 12, 1)
    for one in _ODD
)
_MANY = struct.pack("!HHHHHH", 0, 0x8400, 0, 120, 0, 0) + _answer(
    1, f.packed(A4), f.name("a.local")
)
_MANY += b"".join(_answer(1, f.packed(f"10.0.1.{n}"), b"\1b\xc0\x0c") for n in range(119))
_TYPES = bytes((0, 6, 0x40, 0, 0, 0x08, 0, 0x08)) + bytes((1, 1, 0x40))
_DENIAL = struct.pack("!HHHHHH", 0, 0x8400, 0, 1, 0, 0) + _answer(
    47, b"\xc0\x0c" + _TYPES, f.name("host.local")
)
MDNS = {
    "many records": f.datagram(A4, "224.0.0.251", 5353, 5353, _MANY),
    "denial": f.datagram(A4, "224.0.0.251", 5353, 5353, _DENIAL),
    "names": f.datagram(A4, "224.0.0.251", 5353, 5353, _NAMES + b"\0\0\x0c\0\1"),
    "query": f.datagram(A4, "224.0.0.251", 5353, 5353, _QUESTION),
    "response": f.datagram(A4, "224.0.0.251", 5353, 5353, _ANSWERS),
    "query, IPv6": f.datagram(A6, "ff02::fb", 5353, 5353, _QUESTION),
    "response, IPv6": f.datagram(A6, "ff02::fb", 5353, 5353, _ANSWERS),
    "one shot": f.datagram(A4, "224.0.0.251", 40000, 5353, _QUESTION),
    "llmnr": f.datagram(A4, "224.0.0.252", 40000, 5355, _QUESTION),
}

ALL = {
    f"{protocol} {message}": data
    for protocol, table in (
        ("igmp", IGMP),
        ("mld", MLD),
        ("pim", PIM),
        ("vrrp", VRRP),
        ("mdns", MDNS),
    )
    for message, data in table.items()
}
"""IP packets by name."""


def dressed(packet: bytes) -> dict[int, list[bytes]]:
    """The frames, by link type, in which a packet can come."""
    six = packet[0] >> 4 == 6
    kind = f.V6 if six else f.V4
    bsd = [struct.pack("<I", family) for family in ((10, 24, 28, 30) if six else (2,))]
    big = [struct.pack(">I", 30 if six else 2)]
    sll = struct.pack("!HHH8sH", 4, 1, 6, b"\2\0\0\0\0\1", kind)
    sll2 = struct.pack("!HHIHBB8s", kind, 0, 5, 1, 2, 6, b"\2\0\0\0\0\1")
    ppp = b"\x00\x57" if six else b"\x00\x21"
    snap = b"\xaa\xaa\x03\0\0\0" + struct.pack("!H", kind) + packet
    from_ap = bytes.fromhex("0802 0000 01005e010101 0200000000ff 020000000001 1000") + snap
    qos_to_ap = bytes.fromhex("8801 0000 0200000000ff 020000000001 01005e010101 1000 0000") + snap
    bridged = bytes.fromhex("0803 0000 0200000000ff 0200000000fe 01005e010101 1000 020000000001")
    radio = struct.pack("<BBHII4xQB7x", 0, 0, 32, 0x80000003, 0, 1, 0x20)
    pktap = struct.pack("<III24sI", 108, 1, 1, b"en0", 1).ljust(108, b"\0")
    nflog = struct.pack("!BBH", 10 if six else 2, 0, 5) + struct.pack("<HH4s", 7, 7, b"abc")
    nflog += struct.pack("<HH", 4 + len(packet), 9)
    enc = struct.pack("<III", 10 if six else 2, 1, 0)
    pflog = bytes((61, 10 if six else 2)).ljust(64, b"\0")
    return {
        105: [from_ap, qos_to_ap, bridged + snap],
        127: [
            struct.pack("<BBHI", 0, 0, 8, 0) + from_ap,
            radio + qos_to_ap[:26] + b"\0\0" + snap,  # the header padded to four bytes
        ],
        119: [bytes(144) + from_ap, struct.pack("!II", 0x80211001, 64) + bytes(56) + from_ap],
        192: [struct.pack("<BBHI", 0, 0, 8, 105) + from_ap],
        258: [pktap + f.ether(packet)],
        239: [nflog + packet],
        109: [enc + packet],
        117: [pflog + packet],
        10: [bytes.fromhex("57 01005e010101 020000000001") + snap],
        9: [b"\xff\x03" + ppp + packet, ppp + packet, ppp[1:] + packet],
        51: [struct.pack("!BBHH", 0x11, 0, 1, len(packet) + 2) + ppp + packet],
        204: [b"\1" + ppp + packet],
        1: [
            f.ether(packet),
            f.ether(packet) + bytes(20),  # padding
            f.ether(packet, tags=[(0x8100, 10)]),
            f.ether(packet, tags=[(0x88A8, 100), (0x8100, 10)]),
            f.ether(packet, tags=[(0x8100, 100), (0x8100, 10)]),
        ],
        0: [head + packet for head in bsd + big],
        108: [head + packet for head in big],
        101: [packet],
        113: [sll + packet],
        276: [sll2 + packet],
        229 if six else 228: [packet],
    }
