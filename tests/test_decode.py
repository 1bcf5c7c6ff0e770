"""The decoders are total: whatever the bytes, a record comes out, in bounded work."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import control
import frames as f
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcastctl.decode import deep, dns, igmp, protocols
from mcastctl.decode.cursor import Fields, Malformed, Short
from mcastctl.decode.packet import Decoder
from mcastctl.model.control import Commentary
from mcastctl.model.frame import Frame
from mcastctl.model.packet import Packet
from mcastctl.model.watch import Watch
from mcastctl.output.packets import Look, tail

LINKTYPES = [0, 1, 9, 12, 50, 101, 104, 108, 113, 228, 229, 276, 9999]
LINKTYPES += [10, 19, 105, 109, 117, 119, 127, 163, 192, 239, 258]
DRESSED = [
    (linktype, frame)
    for packet in control.ALL.values()
    for linktype, frames in control.dressed(packet).items()
    for frame in frames
]


def decode(data: bytes, linktype: int = 1, length: int | None = None) -> Packet:
    size = len(data) if length is None else length
    return Decoder().decode(Frame(f.EPOCH * 10**9, linktype, data, size), 1)


def checked(packet: Packet) -> None:
    """A record must print, as JSON and as text, and must not upset who counts it."""
    json.dumps(packet.to_dict(), allow_nan=False)
    assert packet.info
    shown = tail(packet, Look("X", True, 2))
    assert all(line.expandtabs().isprintable() for line in shown.splitlines())
    assert shown.endswith("\n")
    Watch().update(packet)
    Commentary().update(packet)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(LINKTYPES), st.binary(max_size=200))
@example(1, b"")
@example(0, b"\x1e\0\0\0")
def test_random_bytes_make_a_record(linktype: int, data: bytes) -> None:
    checked(decode(data, linktype))


@settings(deadline=None, max_examples=600)
@given(st.data())
def test_changed_messages_make_a_record(data: Any) -> None:
    linktype, whole = data.draw(st.sampled_from(DRESSED))
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    checked(decode(bytes(changed), linktype))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([2, 17, 58, 103, 112]), st.booleans(), st.binary(max_size=300))
def test_random_messages_make_a_record(protocol: int, six: bool, data: bytes) -> None:
    if six:
        packet = f.ip6("fe80::1", "ff02::16", protocol, data)
    else:
        packet = f.ip4("10.0.0.1", "224.0.0.22", protocol, data)
    checked(decode(packet, 101))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([1900, 5353, 5355, 9875]), st.binary(max_size=300))
def test_random_announcements_make_a_record(port: int, data: bytes) -> None:
    checked(decode(f.datagram("10.0.0.1", "239.1.1.1", 4000, port, data), 101))


@pytest.mark.parametrize("name", control.ALL)
def test_every_prefix(name: str) -> None:
    """A message cut by the capture is no damage; one that ends early by itself may be."""
    packet = control.ALL[name]
    for size in range(len(packet)):
        cut = decode(packet[:size], 101, length=len(packet))
        checked(cut)
        assert cut.fields["truncated"] is True
        assert "malformed" not in cut.fields
        checked(decode(packet[:size], 101))


def test_lies_about_counts_end_with_the_bytes() -> None:
    """Headers that promise 65,535 records or sources cost no more than the bytes they have."""
    many = struct.pack("!BBHHH", 0x22, 0, 0, 0, 0xFFFF) + bytes(1400)
    started = time.process_time()
    for message in (
        many,
        struct.pack("!BBHHHBBH4s", 0x22, 0, 0, 0, 1, 1, 0, 0xFFFF, b"\xe0\0\0\1") + bytes(1400),
        struct.pack("!BBH4sBBH", 0x11, 1, 0, b"\xe0\0\0\1", 0, 0, 0xFFFF) + bytes(1400),
    ):
        packet = decode(f.ip4("10.0.0.1", "224.0.0.22", 2, message), 101)
        assert packet.fields["malformed"] == "igmp ends early"
    assert time.process_time() - started < 1


def test_names_cost_bounded_work() -> None:
    """A message of pointers to pointers, which costs scapy a second and more."""
    labels = b"\x01a" * 120 + b"\0"
    body = labels + b"".join(
        struct.pack("!HHH", 0xC000 | 12 + at % 200, 12, 1) for at in range(9000)
    )
    data = struct.pack("!HHHHHH", 0, 0, 0xFFFF, 0, 0, 0) + body
    fields: Fields = {}
    started = time.process_time()
    with pytest.raises((Malformed, Short)):
        dns.decode(data, fields)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("data", [b"\xc0\x0c", b"\xc0\x0e", b"\x01a\xc0\x0c", b"\x40a\0", b"\x3f"])
def test_names_that_point_at_themselves(data: bytes) -> None:
    with pytest.raises((Malformed, Short)):
        dns.decode(struct.pack("!HHHHHH", 0, 0, 1, 0, 0, 0) + data, {})


@pytest.mark.parametrize(
    ("code", "bits", "value"),
    [(0, 4, 0), (127, 4, 127), (128, 4, 128), (0xFF, 4, 31744), (0x8FFF, 12, 65528), (9, 12, 9)],
)
def test_codes_with_an_exponent(code: int, bits: int, value: int) -> None:
    """RFC 9776 section 4.1.1 and RFC 9777 section 5.1.3."""
    assert igmp.floating(code, bits) == value


def test_a_report_of_183_records() -> None:
    packet = decode(control.IGMP["v3 report, 183 records"], 101)
    assert [one["group"] for one in packet.fields["records"]] == [g for _, g, _ in control.MANY]
    assert len(packet.data) == 1500 - 1500 % 4 or len(packet.data) <= 1500


def test_pim_1_where_wireshark_is_no_witness() -> None:
    """Wireshark 4.0 names no group of the one, and reads the other four bytes off."""
    group, mask = f.packed("239.1.1.1"), b"\xff" * 4
    rp = struct.pack("!4sHH", f.packed("10.9.9.9"), 0, 270)
    reachable = decode(f.ether(control.pim1(4, group + mask + rp)))
    assert reachable.info == "pim v1 rp-reachable rp 10.9.9.9 (*, 239.1.1.1) holdtime 270"
    source = struct.pack("!4sII", f.packed("10.0.0.7"), 0x80000065, 20)
    asserted = decode(f.ether(control.pim1(5, group + mask + source)))
    assert asserted.info == "pim v1 assert (10.0.0.7, 239.1.1.1) metric-preference 101 metric 20"
    assert asserted.fields["rpt"] is True


def test_foreign_encodings_of_addresses_are_not_guessed() -> None:
    body = f.unicast("10.0.0.2")[:1] + b"\7" + f.packed("10.0.0.2") + bytes(4)
    packet = decode(f.ether(f.ip4("10.0.0.1", "224.0.0.13", 103, f.pim(3, body))))
    assert packet.fields["malformed"] == "PIM address encoding 7"


def test_fragments_are_kept_in_bounds() -> None:
    decoder = Decoder()
    for ident in range(1000):
        part = f.ip4("10.0.0.1", "239.1.1.1", 17, bytes(64), ident=ident, flags=0x2000)
        decoder.decode(Frame(0, 101, part, len(part)), ident)
    assert len(decoder._fragments._waiting) <= 65


def test_packets_within_packets() -> None:
    inner = control.IGMP["v2 report"]
    for packet in (
        f.ip4("10.9.0.1", "10.9.0.2", 4, inner),
        f.ip4("10.9.0.1", "10.9.0.2", 47, struct.pack("!HH", 0, f.V4) + inner),
        f.ip4("10.9.0.1", "10.9.0.2", 47, struct.pack("!HHII", 0x3000, f.V4, 1, 2) + inner),
        f.ip6("fd00::1", "fd00::2", 4, inner),
    ):
        found = decode(packet, 101)
        assert (found.proto, found.src, found.fields["group"]) == ("igmp", "10.0.0.1", "239.1.1.1")
        assert len(found.fields["tunnels"]) == 1
    deepest = inner
    for _ in range(50):
        deepest = f.ip4("10.9.0.1", "10.9.0.2", 4, deepest)
    checked(decode(deepest, 101))


_HSRP = bytes((0, 0, 16, 3, 10, 120, 1, 0)) + b"cisco\0\0\0" + f.packed("10.0.0.9")
_RIP = bytes((2, 2, 0, 0, 0, 2, 0, 0)) + f.packed("10.1.0.0") + bytes(11) + b"\1"
_PTP = bytes((0, 2, 0, 44)) + bytes(40)
_OSPF = bytes((2, 1, 0, 44)) + f.packed("10.0.0.1") + bytes(36)
PLACED = {
    "hsrp": f.datagram("10.0.0.1", "224.0.0.2", 1985, 1985, _HSRP),
    "rip": f.datagram("10.0.0.1", "224.0.0.9", 520, 520, _RIP),
    "ptp": f.datagram("10.0.0.1", "224.0.1.129", 319, 319, _PTP),
    "ospf": f.ip4("10.0.0.1", "224.0.0.5", 89, _OSPF),
    "eigrp": f.ip4("10.0.0.1", "224.0.0.10", 88, bytes((2, 5)) + bytes(18)),
}


@pytest.mark.parametrize("proto", PLACED)
def test_what_scapy_decodes(proto: str) -> None:
    packet = decode(PLACED[proto], 101)
    assert packet.proto == proto
    assert packet.info.lower().startswith(f"{proto} ")
    assert packet.fields["layers"][0]["layer"]
    checked(packet)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(deep._CLASSES)), st.binary(max_size=400))
def test_scapy_is_kept_from_failing(name: str, data: bytes) -> None:
    found = deep.summarise(name, data)
    if found is not None:
        json.dumps(found)


def test_scapy_is_stopped_when_it_works_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "MAX_CALLS", 50)
    assert deep.summarise("rip", bytes(500)) is None
    packet = decode(PLACED["rip"], 101)
    assert (packet.proto, "layers" in packet.fields) == ("rip", False)


def test_plain_data_is_told_from_protocols() -> None:
    assert protocols.is_plain(4000, 5004)
    for port in (319, 520, 1900, 1985, 5353, 5355, 9875):
        assert not protocols.is_plain(4000, port)
        assert not protocols.is_plain(port, 4000)
