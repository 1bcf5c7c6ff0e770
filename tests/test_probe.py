"""The probe payload: both ends read the same header, and nothing else passes for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastctl.model import probe
from mcastctl.model.probe import DATA, MIN_SIZE, REPLY, REQUEST, Probe

U8, U64 = st.integers(0, 255), st.integers(0, 2**64 - 1)
SENT = st.builds(Probe, st.sampled_from([DATA, REQUEST]), U8, st.just(0), U64, U64, U64)
REPLIES = st.builds(Probe, st.just(REPLY), U8, U8, U64, U64, U64)


@given(SENT | REPLIES, st.integers(MIN_SIZE, 200))
def test_what_is_encoded_decodes(sent: Probe, size: int) -> None:
    payload = probe.encode(sent, size)
    assert len(payload) == size
    assert probe.decode(payload) == sent


def test_the_layout() -> None:
    payload = probe.encode(Probe(REPLY, 3, 2, 0x0102030405060708, 5, 7), 36)
    assert payload == (
        b"mcst\x01\x02\x03\x02"
        b"\x01\x02\x03\x04\x05\x06\x07\x08"
        b"\0\0\0\0\0\0\0\x05"
        b"\0\0\0\0\0\0\0\x07"
        b"abcd"
    )


def test_the_filling_shows_its_place() -> None:
    assert probe.filling(54) == b"abcdefghijklmnopqrstuvwxyz" * 2 + b"ab"
    assert probe.filling(0) == probe.filling(-1) == b""


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda rest: b"mcst\x01" + rest))
def test_any_bytes_are_a_probe_or_none(payload: bytes) -> None:
    found = probe.decode(payload)
    if found is not None:
        assert probe.encode(found) == payload[:MIN_SIZE]


@given(SENT, st.integers(0, MIN_SIZE - 1))
def test_a_cut_header_is_no_probe(sent: Probe, size: int) -> None:
    assert probe.decode(probe.encode(sent)[:size]) is None


@pytest.mark.parametrize(
    ("at", "byte"), [(0, 0x4D), (3, 0), (4, 0), (4, 2), (5, 3), (5, 255), (7, 1)]
)
def test_a_wrong_header_is_no_probe(at: int, byte: int) -> None:
    payload = bytearray(probe.encode(Probe(REQUEST, 1, 0, 2, 3, 4)))
    payload[at] = byte
    assert probe.decode(bytes(payload)) is None


@given(SENT, st.none() | U8, st.binary(max_size=8))
def test_an_answer_is_never_a_request(request: Probe, arrived: int | None, rest: bytes) -> None:
    reply = probe.decode(probe.answer(request, arrived) + rest)
    assert reply is not None
    assert reply.kind == REPLY
    assert reply[3:] == request[3:]
    assert (reply.ttl, reply.seen_ttl) == (request.ttl, arrived or 0)


@pytest.mark.parametrize(
    ("sent", "seen", "hops"),
    [
        (64, 64, 0),
        (64, 61, 3),
        (255, 1, 254),
        (1, 1, 0),
        (0, 5, None),
        (5, 0, None),
        (0, 0, None),
        (1, 64, None),
    ],
)
def test_hops_are_what_routers_took_off(sent: int, seen: int, hops: int | None) -> None:
    assert probe.hops(sent, seen) == hops
