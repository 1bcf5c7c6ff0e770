"""Blocks of a ring become the same text the cheap way as frame by frame."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import NamedTuple

import frames as f
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcastctl.capture.program import REJECT, Instruction, independent, multicast, narrowed
from mcastctl.decode.packet import Decoder
from mcastctl.decode.protocols import is_plain
from mcastctl.model import gso
from mcastctl.model.errors import ValueRangeError
from mcastctl.model.frame import ETHERNET, Frame
from mcastctl.model.ring import Slice, frames
from mcastctl.output import text
from mcastctl.output.blocks import FlowTexts
from mcastctl.output.packets import Look, tail, where
from mcastctl.output.rings import RingText

BLOCK = 1 << 18
NAMES = {2: "eth0", 3: "50%s"}


class Captured(NamedTuple):
    """What the kernel puts into a ring for one frame."""

    data: bytes
    ns: int = 1_700_000_000_000_000_000
    length: int | None = None
    ifindex: int = 2
    hatype: int = 1
    kind: int = 2
    vlan: int | None = None
    segment: int = 0


def ring(captured: Sequence[Captured], *, vnet: bool = True) -> Slice:
    """A block as TPACKET_V3 lays it out, at the end of the memory."""
    memory = bytearray(BLOCK)
    at = 48
    for number, one in enumerate(captured):
        mac = 92 if vnet else 82
        stride = (mac + len(one.data) + 15) & ~15
        last = number == len(captured) - 1
        second, ns = divmod(one.ns, 10**9)
        length = len(one.data) if one.length is None else one.length
        status = 1 | (0x50 if one.vlan is not None else 0)
        head = struct.pack("=IIIIIIHH", 0 if last else stride, second, ns, len(one.data), length,
                           status, mac, mac + 14)  # fmt: skip
        head += struct.pack("=IIH10x", 0, one.vlan or 0, 0x8100 if one.vlan is not None else 0)
        head += struct.pack("=HHiHBB8s", 17, 8, one.ifindex, one.hatype, one.kind, 6, b"")
        memory[at : at + len(head)] = head
        if vnet:
            kind = 5 if one.segment else 0
            memory[at + mac - 10 : at + mac] = struct.pack(
                "=BBHHHH", 1, kind, 42, one.segment, 0, 0
            )
        memory[at + mac : at + mac + len(one.data)] = one.data
        at += stride
    assert at <= BLOCK, "too many frames for a block"
    return Slice(memoryview(memory), 48, BLOCK, len(captured), vnet, NAMES)


def slowly(block: Slice, room: int) -> str:
    """The lines, each frame decoded."""
    decoder = Decoder()
    lines = [
        f"{text.clock(frame.ts_ns)} {tail(decoder.decode(frame, number), Look())}"
        for number, frame in enumerate(frames(block), 1)
    ]
    return "".join(lines[:room])


def quickly(block: Slice, room: int = 10**6) -> tuple[str, int, int]:
    decoder = Decoder()
    printer = RingText(
        FlowTexts(is_plain), lambda one, number: tail(decoder.decode(one, number), Look()), where
    )
    lines, shown, size = printer.lines(block, 1, room)
    return lines.decode(), shown, size


def plain(number: int = 1, size: int = 100, *, dport: int = 5004, version: int = 4) -> bytes:
    if version == 4:
        return f.ether(f.datagram("10.0.0.1", f"239.1.1.{number}", 4000, dport, bytes(size)))
    return f.ether(f.datagram("fd00::1", f"ff15::{number}", 4000, dport, bytes(size)))


ODD = {
    "IGMP": Captured(f.ether(f.ip4("10.0.0.1", "224.0.0.22", 2, f.igmp3_report([])))),
    "mDNS": Captured(plain(dport=5353)),
    "fragment": Captured(f.ether(f.ip4("10.0.0.1", "239.1.1.1", 17, bytes(40), flags=0x2000))),
    "later fragment": Captured(f.ether(f.ip4("10.0.0.1", "239.1.1.1", 17, bytes(40), flags=9))),
    "options": Captured(
        f.ether(f.ip4("10.0.0.1", "239.1.1.1", 17, bytes(40), options=f.ROUTER_ALERT4))
    ),
    "tag beside": Captured(plain(), vlan=5),
    "tag inside": Captured(f.ether(plain()[14:], tags=[(0x8100, 9)])),
    "super-packet": Captured(plain(size=640), segment=100),
    "truncated": Captured(plain()[:60], length=len(plain())),
    "cut to the header": Captured(plain()[:43], length=len(plain())),
    "no Ethernet": Captured(plain()[14:], hatype=65534),
    "other interface": Captured(plain(), ifindex=3),
    "outgoing": Captured(plain(), kind=4),
    "ARP": Captured(f.ether(bytes(28), ethertype=0x0806)),
    "tiny": Captured(b"\1\2"),
    "IPv6 behind options": Captured(
        f.ether(f.ip6("fd00::1", "ff15::1", 0, f.hop_by_hop(17) + bytes(40)))
    ),
    "longer than the frame": Captured(plain()[:16] + b"\xff\xff" + plain()[18:]),
}


@pytest.mark.parametrize("vnet", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_one_flow(version: int, vnet: bool) -> None:
    flow = [Captured(plain(version=version), ns=10**18 + 1_234_567 * n) for n in range(500)]
    block = ring(flow, vnet=vnet)
    lines, shown, size = quickly(block)
    assert lines == slowly(block, 500)
    assert (shown, size) == (500, 500 * len(plain(version=version)))
    assert quickly(block, 17)[:2] == (slowly(block, 17), 17)


def test_a_flow_whose_identification_counts_is_one() -> None:
    """Identification and checksum change with each datagram; the lines come in one piece."""
    frames_ = [
        Captured(f.ether(f.ip4("10.0.0.1", "239.1.1.1", 17,
                               f.udp("10.0.0.1", "239.1.1.1", 1, 2, bytes(9)), ident=n)))
        for n in range(100)
    ]  # fmt: skip
    block = ring(frames_)
    printer = RingText(FlowTexts(is_plain), lambda *_: pytest.fail("not plain"), where)
    assert printer._uniform(block).count("\n") == 100
    assert quickly(block)[0] == slowly(block, 100)


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("place", [0, 1, 20, 39])
def test_one_that_is_not_plain_among_others(name: str, place: int) -> None:
    flow = [Captured(plain(), ns=10**18 + n) for n in range(40)]
    flow[place] = ODD[name]._replace(ns=10**18 + place)
    block = ring(flow)
    lines, shown, _ = quickly(block)
    assert lines == slowly(block, 1000)
    assert shown == lines.count("\n")


def test_super_packets_leave_less_room_for_others() -> None:
    flow = [Captured(plain(n % 3 + 1), ns=10**18 + n) for n in range(40)]
    flow[3] = flow[20] = ODD["super-packet"]
    block = ring(flow)
    for room in range(1, 60):
        lines, shown, size = quickly(block, room)
        assert (lines, shown) == (slowly(block, room), min(room, 52)), room
        assert size == sum(one.length for one in list(frames(block))[:room]), room


@pytest.mark.parametrize("name", ODD)
def test_many_of_a_kind(name: str) -> None:
    block = ring([ODD[name]] * 30)
    assert quickly(block)[0] == slowly(block, 10**6)


def test_a_second_that_ends_within_a_block() -> None:
    block = ring([Captured(plain(), ns=10**18 - 5_000 + 1000 * n) for n in range(10)])
    assert quickly(block)[0] == slowly(block, 10)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 2**32), max_size=120), st.booleans(), st.integers(1, 200))
def test_any_mixture(seeds: list[int], vnet: bool, room: int) -> None:
    kinds = list(ODD.values())
    captured = []
    for number, seed in enumerate(seeds):
        chance = random.Random(seed)  # noqa: S311 - no secret
        one = Captured(plain(chance.randrange(1, 4), chance.choice((8, 64, 700)),
                             version=chance.choice((4, 6))))  # fmt: skip
        odd = chance.choice(kinds) if chance.random() < 0.1 else one
        captured.append(odd._replace(ns=10**18 + number, segment=odd.segment * vnet))
    if captured:
        block = ring(captured, vnet=vnet)
        lines, shown, _ = quickly(block, room)
        assert lines == slowly(block, room)
        assert shown == lines.count("\n") <= room


# --- super-packets


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tags", [[], [(0x8100, 5)], [(0x88A8, 5), (0x8100, 6)]])
def test_split(version: int, tags: list[tuple[int, int]]) -> None:
    payload = bytes(range(250))
    src, dst = ("10.0.0.1", "239.1.1.1") if version == 4 else ("fd00::1", "ff15::1")
    data = f.ether(f.datagram(src, dst, 4000, 5004, payload), tags=tags)
    pieces = list(gso.split(Frame(7, ETHERNET, data, len(data), "eth0", 2, "in", 100)))
    decoder = Decoder()
    packets = [decoder.decode(one, 1) for one in pieces]
    assert b"".join(one.payload for one in packets) == payload
    assert [one.payload_length for one in packets] == [100, 100, 50]
    assert all(one.fields["checksum_ok"] for one in packets)
    assert {(one.src, one.dst, one.sport, one.dport) for one in packets} == {(src, dst, 4000, 5004)}
    assert [len(one.data) for one in pieces] == [one.length for one in pieces]
    assert decoder.malformed == 0


@given(st.binary(max_size=120), st.integers(1, 70000), st.integers(0, 100), st.integers(0, 300))
def test_split_is_total(data: bytes, size: int, cut: int, linktype: int) -> None:
    frame = Frame(0, linktype, data[:cut], len(data), gso_size=size)
    assert sum(1 for _ in gso.split(frame)) >= 1


# --- filter programs


def test_programs_stay_small_and_jump_forward() -> None:
    for linktype in (1, 101, 113, 276, None):
        code = narrowed(multicast(linktype), ifindexes=range(2, 40), direction="in", loopback=1)
        assert len(code) < 4096
        for at, one in enumerate(code):
            if one.code & 7 == 5:
                far = one.k if one.code == 5 else max(one.jt, one.jf)
                assert at + 1 + far < len(code)


def test_narrowing_by_nothing_changes_nothing() -> None:
    assert narrowed(REJECT) == REJECT


def test_a_program_for_cooked_frames_made_independent() -> None:
    code = [
        Instruction(0x28, 0, 0, 14),
        Instruction(0x15, 0, 3, 0x800),
        Instruction(0x30, 0, 0, 25),
        Instruction(0xB1, 0, 0, 16),
        Instruction(0x48, 0, 0, 18),
        Instruction(6, 0, 0, 0),
    ]
    assert [one.k for one in independent(code)] == [
        *(-0x1000, 0x800, -0x100000 + 9, -0x100000, -0x100000 + 2, 0),
    ]
    with pytest.raises(ValueRangeError):
        independent([Instruction(0x20, 0, 0, 6)])
