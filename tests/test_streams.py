"""What a payload is taken for: our probe, RTP, an MPEG transport stream, or nothing numbered."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastctl.decode import rtp
from mcastctl.decode.stream import recognise
from mcastctl.model import probe
from mcastctl.model.mark import MPEGTS, NO_MARK, PLAIN, PROBE, RTCP, RTP, Mark


def rtp_packet(first: int = 0x80, payload_type: int = 96, body: bytes = b"media") -> bytes:
    return struct.pack("!BBHII", first, payload_type, 7, 90_000, 0xCAFE) + body


def ts_packet(pid: int, counter: int, *, flags: int = 0, control: int = 0x10) -> bytes:
    """One transport packet; `flags` is or-ed onto the PID's high byte."""
    head = bytes((0x47, pid >> 8 | flags, pid & 0xFF, control | counter))
    return head + bytes(188 - len(head))


HEADERLIKE = st.binary(max_size=60).map(lambda rest: b"\x80\x60" + rest)
FLAGGED = st.builds(
    lambda first, rest: bytes([0x80 | first & 0x3F]) + rest,
    st.integers(0, 0x3F),
    st.binary(max_size=80),
)
TS_LIKE = st.lists(st.binary(min_size=187, max_size=187), min_size=1, max_size=3).map(
    lambda packets: b"".join(b"\x47" + packet for packet in packets)
)


@given(st.binary(max_size=400) | HEADERLIKE | FLAGGED | TS_LIKE)
def test_any_bytes_have_a_mark(payload: bytes) -> None:
    mark = recognise(payload)
    assert mark.kind in (PROBE, RTP, MPEGTS, PLAIN)
    assert (mark.seq is not None) == (mark.kind in (PROBE, RTP))
    assert mark.kind == MPEGTS or not mark.counters
    assert mark.kind != PLAIN or mark == NO_MARK


def test_a_probe_is_marked_with_its_stream_and_number() -> None:
    payload = probe.encode(probe.Probe(probe.DATA, 1, 0, 0xABC, 5, 123), 100)
    assert recognise(payload) == Mark(PROBE, 0xABC, 5, 123)


# RFC 3551 tables 4 and 5.
AT_8_KHZ = (0, 3, 4, 5, 7, 8, 9, 12, 13, 15, 18)
AT_90_KHZ = (14, 25, 26, 28, 31, 32, 33, 34)
OTHERS = {6: 16_000, 10: 44_100, 11: 44_100, 16: 11_025, 17: 22_050}
RATES = dict.fromkeys(AT_8_KHZ, 8000) | dict.fromkeys(AT_90_KHZ, 90_000) | OTHERS


@pytest.mark.parametrize("payload_type", range(35))
def test_a_static_payload_type_fixes_the_clock_rate(payload_type: int) -> None:
    mark = recognise(rtp_packet(payload_type=payload_type))
    assert mark == Mark(RTP, 0xCAFE, 7, 90_000, RATES.get(payload_type))


@pytest.mark.parametrize(
    ("payload_type", "kind"), [(34, RTP), (35, PLAIN), (95, PLAIN), (96, RTP), (127, RTP)]
)
def test_types_that_rtcp_could_show_there_are_not_rtp(payload_type: int, kind: str) -> None:
    assert recognise(rtp_packet(payload_type=payload_type)).kind == kind
    assert recognise(rtp_packet(payload_type=0x80 | payload_type)).kind == kind


def test_a_dynamic_payload_type_leaves_the_clock_rate_open() -> None:
    assert recognise(rtp_packet(payload_type=96)) == Mark(RTP, 0xCAFE, 7, 90_000, None)
    assert rtp.decode(rtp_packet(payload_type=0x80 | 111)) == rtp.Rtp(111, 7, 90_000, 0xCAFE)


@pytest.mark.parametrize(
    ("first", "body"),
    [
        (0x80, b""),
        (0x82, bytes(8)),  # two contributing sources
        (0x8F, bytes(60)),
        (0x90, b"\xbe\xde\0\0"),  # extension without words
        (0x90, b"\xbe\xde\0\x01" + bytes(4)),
        (0x91, bytes(4) + b"\xbe\xde\0\x01" + bytes(4)),
        (0x90, b"\xbe\xde\x01\x00" + bytes(1024)),
        (0xA0, b"\x01"),  # nothing but padding
        (0xA0, b"media\0\0\x03"),
        (0xB1, bytes(4) + b"\xbe\xde\0\x01" + bytes(4) + b"\0\x02"),
    ],
)
def test_rtp_with_sources_extension_and_padding(first: int, body: bytes) -> None:
    assert recognise(rtp_packet(first, body=body)).kind == RTP


@pytest.mark.parametrize(
    ("first", "body"),
    [
        (0x00, b""),  # version 0
        (0x40, b"media"),
        (0xC0, b"media"),
        (0x82, bytes(7)),  # the second contributing source is cut
        (0x8F, bytes(59)),
        (0x90, b"\xbe\xde\0"),
        (0x90, b"\xbe\xde\0\x01" + bytes(3)),
        (0x91, b"\xbe\xde\0\0"),
        (0x90, b"\xbe\xde\x01\x00" + bytes(1023)),
        (0xA0, b"media\0"),  # padding of zero bytes
        (0xA0, b"media\x07"),  # more padding than payload
        (0xA1, bytes(3) + b"\x01"),  # padding reaches into the contributing sources
    ],
)
def test_what_does_not_fit_its_length_is_no_rtp(first: int, body: bytes) -> None:
    assert recognise(rtp_packet(first, body=body)) == NO_MARK


def test_a_cut_rtp_header_is_no_rtp() -> None:
    assert recognise(rtp_packet(body=b"")[:11]) == NO_MARK


@pytest.mark.parametrize("packet_type", range(200, 208))
def test_rtcp_is_not_rtp(packet_type: int) -> None:
    report = struct.pack("!BBHI", 0x81, packet_type, 6, 0xCAFE) + bytes(20)
    assert recognise(report) == Mark(RTCP)
    assert recognise(report[:27]) == NO_MARK  # cut


def test_transport_packets_are_recognised_by_every_sync_byte() -> None:
    seven = b"".join(ts_packet(0x100, counter) for counter in range(7))
    mark = recognise(seven)
    assert mark.kind == MPEGTS
    assert mark.counters == tuple((0x100, counter, False) for counter in range(7))
    assert recognise(seven[:-1]) == NO_MARK
    assert recognise(seven + b"\x47") == NO_MARK
    broken = bytearray(seven)
    broken[3 * 188] = 0x48
    assert recognise(bytes(broken)) == NO_MARK
    assert recognise(b"") == NO_MARK


@pytest.mark.parametrize(
    ("packet", "counted"),
    [
        (ts_packet(0x1FFE, 15), ((0x1FFE, 15, False),)),
        (ts_packet(0x100, 3, flags=0x60), ((0x100, 3, False),)),  # unit start, priority
        (ts_packet(0x1FFF, 3), ()),  # null packet
        (ts_packet(0x100, 3, flags=0x80), ()),  # marked damaged
        (ts_packet(0x100, 3, control=0x20), ()),  # adaptation field and no payload
        (ts_packet(0x100, 3, control=0x00), ()),
        (ts_packet(0x100, 3, control=0xD0), ((0x100, 3, False),)),  # scrambled
    ],
)
def test_which_transport_packets_count(
    packet: bytes, counted: tuple[tuple[int, int, bool], ...]
) -> None:
    assert recognise(packet).counters == counted


@pytest.mark.parametrize(
    ("adaptation", "flagged"),
    [(b"\x01\x80", True), (b"\x01\x7f", False), (b"\x00\x80", False)],
)
def test_a_discontinuity_may_be_announced(adaptation: bytes, flagged: bool) -> None:
    packet = bytearray(ts_packet(0x100, 3, control=0x30))
    packet[4:6] = adaptation
    assert recognise(bytes(packet)).counters == ((0x100, 3, flagged),)
    packet[3] = 0x13  # the same bytes where no adaptation field is
    assert recognise(bytes(packet)).counters == ((0x100, 3, False),)
