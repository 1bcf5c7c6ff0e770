"""Valid pcapng files of every kind, in either byte order, made block by block.

Between them they hold each block, each option and each oddity of the public test generator for
the format (hadrielk/pcapng-test-generator), and what other writers are known to produce.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import control
import frames as f

PACKETS = [f.ether(packet) for packet in control.ALL.values()][:6]
LOOPBACK = struct.pack("<I", 2) + control.IGMP["v2 report"]
"""A frame of a BSD loopback interface (LINKTYPE_NULL), as a little-endian host wrote it."""
NOW = f.EPOCH * 10**6
COMMENT, HARDWARE, OS, APPLICATION = 1, 2, 3, 4
UNKNOWN, LOCAL = 0x0123, 0x8123
"""Option codes that mean nothing to anybody: of the specification's range, and of local use."""
PRIVATE = 32473
"""The enterprise number for examples (RFC 5612)."""


class Kind(NamedTuple):
    """A file, how many packets Wireshark counts in it, and the comments of its packets."""

    data: bytes
    packets: int
    comments: tuple[str, ...] = ()


class Maker:
    """The blocks of `frames` in one byte order, with some more."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.option: Callable[[int, bytes], bytes] = partial(f.option, order=order)
        self.block: Callable[[int, bytes], bytes] = partial(f.block, order=order)
        self.packet: Callable[..., bytes] = partial(f.packet, order=order)
        self.interface: Callable[..., bytes] = partial(f.interface, order=order)
        self.end = self.option(0, b"")

    def pack(self, form: str, *values: int) -> bytes:
        return struct.pack(f"{self.order}{form}", *values)

    def section(self, options: bytes = b"", *, length: int = -1, minor: int = 0) -> bytes:
        """A Section Header Block; `length` is what it says of the section."""
        body = self.pack("IHHq", 0x1A2B3C4D, 1, minor, length)
        return self.block(0x0A0D0D0A, body + options)

    def described(self, *more: bytes) -> bytes:
        """A section that tells what wrote it."""
        words = ((HARDWARE, b"some host"), (OS, b"some system"), (APPLICATION, b"some program"))
        options = [self.option(code, text) for code, text in (*words, (COMMENT, b"a remark"))]
        return self.section(b"".join([*options, *more, self.end]))

    def foreign(self) -> bytes:
        """Options that mean nothing here: custom ones, too short for their number too."""
        custom = b"".join(
            self.option(code, value)
            for code in (2988, 2989, 19372, 19373)
            for value in (self.pack("I", PRIVATE) + b"words", b"short")
        )
        return custom + self.option(UNKNOWN, b"try this") + self.option(LOCAL, b"and this")

    def two(self) -> bytes:
        """A section with one interface and two packets."""
        packets = self.packet(PACKETS[0]) + self.packet(PACKETS[1])
        return self.section() + self.interface() + packets

    def cut(self, data: bytes, size: int, of: int, count: int = NOW) -> bytes:
        """An Enhanced Packet Block with less than all of its packet."""
        head = self.pack("5I", of, count >> 32, count & 0xFFFFFFFF, size, len(data))
        return self.block(6, head + data[:size])

    def simple(self, data: bytes, size: int | None = None) -> bytes:
        """A Simple Packet Block."""
        return self.block(3, self.pack("I", len(data)) + data[:size])

    def old(self, data: bytes, of: int = 0, options: bytes = b"") -> bytes:
        """A Packet Block, as the first writers of the format made it."""
        head = self.pack("HHIIII", of, 7, NOW >> 32, NOW & 0xFFFFFFFF, len(data), len(data) + 5)
        return self.block(2, head + data + bytes(-len(data) % 4) + options)

    def names(self, *records: tuple[int, bytes], options: bytes = b"") -> bytes:
        """A Name Resolution Block."""
        listed = b"".join(self.option(kind, value) for kind, value in records)
        return self.block(4, listed + self.end + options)

    def statistics(self, of: int = 0, count: int = 0, options: bytes = b"") -> bytes:
        """An Interface Statistics Block."""
        return self.block(5, self.pack("III", of, count >> 32, count & 0xFFFFFFFF) + options)

    def counters(self) -> bytes:
        """All options of statistics."""
        moments = [self.option(code, self.pack("II", NOW >> 32, 9)) for code in (2, 3)]
        numbers = [self.option(code, self.pack("Q", 40 + code)) for code in range(4, 9)]
        return b"".join([*moments, *numbers, self.option(COMMENT, b"a remark"), self.end])

    def custom(self, data: bytes = b"some data", *, copied: bool = True) -> bytes:
        """A Custom Block, of the sort that tools may copy or of the other."""
        return self.block(0xBAD if copied else 0x40000BAD, self.pack("I", PRIVATE) + data)


def _interface_options(make: Maker) -> list[bytes]:
    """Every option an interface can have, but for the name."""
    values = {
        COMMENT: b"a remark\nof two lines\r\nor three",
        3: b"a described interface",
        4: f.packed("10.1.2.3") + f.packed("255.255.255.0"),
        5: f.packed("2001:db8::1a2b") + b"\x40",
        6: bytes(range(6)),
        7: bytes(range(8)),
        8: make.pack("Q", 10**9),
        9: b"\x09",
        10: make.pack("I", 0),
        11: b"\0udp port 5004",
        12: b"some system\npatch 42",
        13: b"\0",
        14: make.pack("q", 0),
        15: b"some card",
    }
    return [make.option(code, value) for code, value in values.items()] + [make.foreign()]


def _names(make: Maker) -> bytes:
    """A block of names: some twice, of both families, of unknown types."""
    four = (1, f.packed("10.1.2.3") + b"host.example\0")
    six = (2, f.packed("fc01:dead::beef") + b"host.example\0also.example\0")
    odd = ((UNKNOWN, b"what"), (LOCAL, b"is this"))
    options = make.option(COMMENT, b"a remark") + make.option(UNKNOWN, b"") + make.end
    return make.names(four, four, six, *odd, options=options)


def _headers(make: Maker) -> dict[str, Kind]:
    """Files that differ in what stands before the packets."""
    section, interface, packet = make.section(), make.interface(), make.packet
    all_options = _interface_options(make)
    forwards = make.option(2, b"eth-_0 one") + b"".join(all_options)
    backwards = b"".join(reversed(all_options)) + make.option(2, b"eth1")
    eth0, eth1 = make.option(2, b"eth0"), make.option(2, b"eth1")
    one = packet(PACKETS[0])
    pair = make.cut(PACKETS[0], 20, 0) + make.cut(PACKETS[1], 28, 1)
    return {
        "no blocks": Kind(section, 0),
        "no interface, described": Kind(make.described(), 0),
        "no packets": Kind(make.described() + make.interface(snaplen=96), 0),
        "two packets": Kind(make.two(), 2),
        "two sections": Kind(make.two() * 2, 4),
        "section without interface": Kind(make.two() + section + make.two(), 4),
        "sections without packets": Kind((make.described() + make.interface(snaplen=96)) * 3, 0),
        "sections of several links": Kind(
            make.described()
            + make.interface(snaplen=96)
            + make.described()
            + interface
            + make.described()
            + make.interface(0, snaplen=128),
            0,
        ),
        "section of known length": Kind(
            make.section(length=len(interface + one)) + interface + one + make.two(), 3
        ),
        "minor version 2": Kind(make.section(minor=2) + interface + one, 1),
        "foreign options": Kind(make.described(make.foreign()) + interface + one, 1),
        "two interfaces, cut": Kind(
            make.described()
            + make.interface(1, eth0, snaplen=20)
            + make.interface(1, eth1, snaplen=28)
            + pair * 2,
            4,
        ),
        "an interface in the middle": Kind(
            make.described()
            + make.interface(1, eth0, snaplen=20)
            + make.cut(PACKETS[0], 20, 0)
            + make.interface(1, eth1, snaplen=28)
            + make.cut(PACKETS[1], 28, 1)
            + make.cut(PACKETS[2], 20, 0),
            3,
        ),
        "two links": Kind(
            make.described()
            + make.interface(1, eth0, snaplen=20)
            + make.interface(0, make.option(2, b"lo0"))
            + make.cut(PACKETS[0], 20, 0)
            + packet(LOOPBACK, of=1)
            + make.cut(PACKETS[1], 20, 0),
            3,
        ),
        "two interfaces": Kind(
            section
            + make.interface(1, eth0)
            + make.interface(101, make.option(2, b"tun0"))
            + packet(PACKETS[0])
            + packet(PACKETS[1][14:], of=1)
            + packet(PACKETS[2]),
            3,
        ),
        "all interface options, backwards too": Kind(
            make.described()
            + make.interface(1, forwards, snaplen=96)
            + packet(PACKETS[0], count=NOW * 1000 + 7)
            + make.interface(1, backwards, snaplen=128)
            + packet(PACKETS[1], of=1, count=NOW * 1000 + 8)
            + packet(PACKETS[2], count=NOW * 1000 + 9),
            3,
        ),
        "a name of several words and lines": Kind(
            section + make.interface(1, make.option(2, b"odd!\r\nname 2")) + one, 1
        ),
        "a description, no name": Kind(
            section + make.interface(1, make.option(3, b"some card")) + one, 1
        ),
        "options without an end": Kind(
            section
            + make.block(1, make.pack("HHI", 1, 0, 0) + make.option(COMMENT, b"a remark"))
            + packet(b"abcd"),
            1,
        ),
        "unknown links": Kind(
            section + make.interface(147) + make.interface(65535) + packet(b"a") + packet(b"b"), 2
        ),
    }


def _clocks(make: Maker) -> dict[str, Kind]:
    """Files that differ in how time is counted."""
    section = make.section()

    def clock(count: int, options: bytes) -> Kind:
        return Kind(section + make.interface(options=options) + make.packet(b"x", count=count), 1)

    resolution = {
        name: clock(count, make.option(9, bytes((code,))))
        for name, code, count in (
            ("seconds", 0, f.EPOCH),
            ("milliseconds", 3, f.EPOCH * 1000 + 7),
            ("nanoseconds", 9, NOW * 1000 + 7),
            ("tens of microseconds", 5, f.EPOCH * 10**5 + 7),
            ("ticks of 1/1024 s", 0x8A, f.EPOCH * 1024 + 512),
            ("ticks of 1/2^20 s", 0x94, f.EPOCH * 2**20 + 1),
            ("ticks of 1/2^32 s", 0xA0, 7 << 31),
        )
    }
    return resolution | {
        "a clock of two bytes": clock(NOW, make.option(9, b"\x03\0")),
        "time offset": clock(NOW, make.option(14, make.pack("q", 3600))),
        "time offset, backwards": clock(NOW, make.option(14, make.pack("q", -3600))),
        "time offset of nanoseconds": clock(
            NOW * 1000 + 1, make.option(9, b"\x09") + make.option(14, make.pack("q", 5))
        ),
        "time zero": Kind(section + make.interface() + make.packet(PACKETS[0], count=0) * 2, 2),
    }


def _packets(make: Maker) -> dict[str, Kind]:
    """Files that differ in their packets."""
    section, interface, packet = make.section(), make.interface(), make.packet
    remark, other = make.option(COMMENT, b"a remark"), make.option(COMMENT, "größer".encode())
    inbound, outbound = (make.option(2, make.pack("I", bits)) for bits in (1, 2))
    details = (
        make.option(2, make.pack("I", 0x48000000))
        + make.option(3, b"\x02\1\2\3\4")
        + make.option(4, make.pack("Q", 12345))
        + make.option(5, make.pack("Q", 99))
        + make.option(6, make.pack("I", 1))
        + make.option(7, b"\1" + bytes(8))
    )
    long = b"packet " * 20
    return {
        "empty packet": Kind(section + interface + packet(b""), 1),
        "all packet options": Kind(
            make.described()
            + interface
            + packet(PACKETS[0], options=remark + make.option(2, bytes(4)) + make.foreign())
            + packet(PACKETS[1], options=make.option(UNKNOWN, b"x") + remark + details + other),
            2,
            ("a remark", "a remark", "größer"),
        ),
        "directions": Kind(
            section
            + interface
            + packet(PACKETS[0], options=inbound)
            + packet(PACKETS[1], options=outbound)
            + packet(PACKETS[2]),
            3,
        ),
        "packet options without an end": Kind(
            section
            + interface
            + make.block(6, make.pack("5I", 0, 0, 7, 4, 4) + b"abcd" + remark)
            + packet(PACKETS[0]),
            2,
            ("a remark",),
        ),
        "more bytes than captured": Kind(
            # The rest is where options would stand, and begins with their end.
            section
            + make.interface(snaplen=8)
            + make.block(6, make.pack("5I", 0, 0, 7, 8, 60) + b"captured" + bytes(52))
            + packet(PACKETS[0]),
            2,
        ),
        "simple packets": Kind(
            section + interface + make.simple(b"abcde") + make.simple(bytes(60)), 2
        ),
        "simple packets, cut": Kind(
            section + make.interface(snaplen=50) + make.simple(long, 50) + make.simple(b"short"), 2
        ),
        "simple packets of the first interface": Kind(
            section
            + make.interface(1, make.option(2, b"eth0"))
            + make.interface(101, make.option(2, b"tun0"))
            + make.simple(PACKETS[0]),
            1,
        ),
        "simple and other packets": Kind(
            section
            + make.interface(snaplen=50)
            + make.simple(PACKETS[0], 50)
            + packet(PACKETS[1][:50])
            + make.simple(long, 50)
            + make.cut(long, 50, 0),
            4,
        ),
        "old packets": Kind(
            section
            + make.interface(1, make.option(2, b"eth0"))
            + make.interface(1, make.option(2, b"eth1"))
            + make.old(b"abc")
            + make.old(b"abcd", 1, remark + outbound + make.end),
            2,
            ("a remark",),
        ),
    }


def _others(make: Maker) -> dict[str, Kind]:
    """Files with blocks that hold no packet."""
    section, interface = make.section(), make.interface()
    one, two = make.packet(PACKETS[0]), make.simple(PACKETS[1])
    null = make.interface(0, make.option(2, b"null1"))
    custom = make.custom(b"data!!!!" + make.option(COMMENT, b"a remark") + make.end, copied=False)
    everything = (
        make.custom()
        + _names(make)
        + interface
        + null
        + make.statistics(1, NOW)
        + one
        + make.statistics()
        + custom
        + make.interface(1, make.option(2, b"eth2"))
        + make.packet(PACKETS[2], of=2)
        + make.statistics(2, NOW + 1000, make.counters())
        + two
        + make.names()
        + make.packet(LOOPBACK, of=1)
        + make.names(options=make.option(COMMENT, b"a remark") + make.end)
    )
    other = Maker("<" if make.order == ">" else ">")
    return {
        "statistics, no packets": Kind(
            section + interface + null + make.statistics(1, NOW) + make.statistics() * 2, 0
        ),
        "statistics of interfaces described later": Kind(
            section + make.statistics(3) + interface + one, 1
        ),
        "names, no packets": Kind(section + interface + _names(make), 0),
        "names between packets": Kind(
            section + interface + _names(make) + two + one + _names(make) + two + make.names(), 3
        ),
        "custom blocks, no interface": Kind(make.described() + make.custom() + custom, 0),
        "custom blocks between packets": Kind(
            section + interface + make.custom() + two + one + custom + two, 3
        ),
        "decryption secrets": Kind(
            section + make.block(10, b"KSLT" + make.pack("I", 4) + b"keys") + interface + one, 1
        ),
        "unknown blocks": Kind(
            section
            + make.block(0x01234567, b"what")
            + interface
            + make.block(0x81234567, b"")
            + make.block(7, b"time")
            + make.block(0x80000001, make.pack("I", 1))
            + one,
            1,
        ),
        "everything": Kind(make.described() + everything, 4),
        "everything in sections of both orders": Kind(
            make.described()
            + everything
            + other.described()
            + other.interface(snaplen=128)
            + other.custom()
            + _names(other)
            + other.simple(PACKETS[0])
            + other.statistics(0, NOW, other.counters())
            + other.packet(PACKETS[1])
            + make.described()
            + everything,
            10,
        ),
    }


def kinds(order: str) -> dict[str, Kind]:
    """Every kind of file in one byte order."""
    make = Maker(order)
    return {**_headers(make), **_clocks(make), **_packets(make), **_others(make)}


BOTH = {
    f"{name}, {word}": kind
    for order, word in (("<", "little"), (">", "big"))
    for name, kind in kinds(order).items()
}
"""Every kind of file in both byte orders."""
