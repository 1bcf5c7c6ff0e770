"""What the kernel's news about an interface means: pure rules, by value, and any bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastctl.model import linknews
from mcastctl.model.hearing import (
    DOWN,
    ENSLAVED,
    GONE,
    LATE,
    NO_CARRIER,
    NO_IPV6,
    SMALL_MTU,
    AddressNews,
    Deafness,
    Hearing,
    LinkGone,
    LinkState,
    Moment,
)
from mcastctl.model.netlink import attribute

UP, LOWER_UP, BRIDGE = 0x1, 0x10000, 7


def link(
    kind: int, index: int, flags: int, name: str = "", family: int = 0, *, more: bytes = b""
) -> bytes:
    """An RTM_NEWLINK or RTM_DELLINK message."""
    body = struct.pack("=BxHiII", family, 1, index, flags, 0)
    if name:
        raw = name.encode(errors="surrogateescape") + b"\0"
        body += struct.pack("=HH", 4 + len(raw), 3) + raw + bytes(-len(raw) % 4)
    body += more
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def address(kind: int, index: int, *attributes: tuple[int, bytes]) -> bytes:
    body = struct.pack("=BBBBI", 2, 24, 0, 0, index)
    for number, raw in attributes:
        body += struct.pack("=HH", 4 + len(raw), number) + raw
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def at(seconds: float) -> Moment:
    return Moment(1_700_000_000_000_000_000 + int(seconds * 1e9), int(seconds * 1e9))


def test_news_are_read() -> None:
    datagram = b"".join(
        [
            link(16, 5, UP | LOWER_UP, "eth0"),
            link(16, 6, UP, "a\udcffb"),
            link(17, 5, UP, "eth0", family=BRIDGE),  # left a bridge, and is there still
            link(16, 5, UP, "eth0", family=BRIDGE),
            struct.pack("=IHHII", 16, 3, 0, 0, 0),
            link(17, 5, 0, "eth0"),
            address(20, 5, (1, bytes([10, 0, 0, 9])), (2, bytes([10, 0, 0, 1]))),
            address(21, 5, (1, bytes(15) + b"\1")),
        ]
    )
    assert list(linknews.news(datagram)) == [
        LinkState(5, "eth0", True, True),
        LinkState(6, "a\udcffb", True, False),
        LinkGone(5),
        AddressNews(5, bytes([10, 0, 0, 1]), True),  # the local one, of a link with a peer
        AddressNews(5, bytes(15) + b"\1", False),
    ]


def port(kind: str, mtu: int = 1500) -> bytes:
    """Attributes of a port of interface 9."""
    info = attribute(1, b"veth\0") + attribute(4, kind.encode() + b"\0")
    numbers = (struct.pack("=I", one) for one in (mtu, 9))
    return b"".join(map(attribute, (4, 10), numbers)) + attribute(18 | 0x8000, info)


@pytest.mark.parametrize(
    ("more", "versions", "without_ipv6", "cause"),
    [
        (b"", {4, 6}, False, ""),
        (port("bridge"), {4}, False, ENSLAVED),
        (port("bond"), {6}, False, ENSLAVED),
        (port("openvswitch"), {6}, True, ENSLAVED),
        (port("vrf"), {4, 6}, False, ""),
        (port("vrf", 1279), {4}, False, ""),
        (port("vrf", 1279), {4, 6}, False, SMALL_MTU),
        (port("vrf", 1280), {6}, False, ""),
        (port("vrf", 67), {4}, False, SMALL_MTU),
        (b"", {4}, True, ""),
        (b"", {4, 6}, True, NO_IPV6),
    ],
)
def test_what_is_up_may_be_deaf(
    more: bytes, versions: set[int], without_ipv6: bool, cause: str
) -> None:
    (state,) = linknews.news(link(16, 5, UP | LOWER_UP, "eth0", more=more))
    assert isinstance(state, LinkState)
    assert state.cause == ""
    assert state.cause_for(versions, without_ipv6=without_ipv6) == cause
    (down,) = linknews.news(link(16, 5, 0, "eth0", more=more))
    assert isinstance(down, LinkState)
    assert down.cause_for(versions, without_ipv6=without_ipv6) == DOWN


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    whole = link(16, 5, UP, "eth0")
    assert list(linknews.news(whole + data))[:1] == [LinkState(5, "eth0", True, False)]
    list(linknews.news(data))
    for cut in range(len(whole)):
        assert list(linknews.news(whole[:cut])) == []
    head = struct.pack("=IHHII", 16 + len(data), 16, 0, 0, 0)
    for one in linknews.news(head + data):
        assert isinstance(one, LinkState)


def test_how_long_and_why() -> None:
    one = Hearing("eth0", 5)
    assert one.note("", at(0)) == []
    assert [told.code for told in one.note(DOWN, at(1))] == [DOWN]
    assert one.note(DOWN, at(2)) == []
    assert [told.code for told in one.note(GONE, at(3))] == [GONE]
    one.ifindex = 9
    assert [told.code for told in one.note(NO_CARRIER, at(4))] == [NO_CARRIER]
    (deaf,) = one.note("", at(4.25))
    assert deaf.to_dict() == {
        "type": "notice",
        "ts": 1_700_000_004.25,
        "level": "warning",
        "code": "deaf",
        "text": "deaf for 3.250 s on eth0, listening again: it was down and was gone and had no "
        "carrier",
        "hint": "",
        "iface": "eth0",
        "ifindex": 9,
        "deaf_s": 3.25,
        "causes": [DOWN, GONE, NO_CARRIER],
    }
    one.note(GONE, at(6))
    (ended,) = one.ended(at(6.5))
    assert ended.text == "deaf for 0.500 s on eth0, to the end: it was gone"
    assert Hearing("eth0", 5).ended(at(1)) == []


def test_names() -> None:
    one = Hearing("eth0", 5)
    assert one.renamed("eth0", at(0)) == []
    (told,) = one.renamed("wan0", at(0))
    assert told.text == "eth0 is called wan0 now (index 5)"
    one.note(GONE, at(1))
    one.name = "eth1"  # where a route led it
    assert one.note("", at(2))[0].text.startswith("deaf for 1.000 s on wan0, listening again on e")
    late = Hearing("tap0", 0)
    assert late.note(LATE, at(0))[0].text == "waiting for interface tap0"
    assert "listening now: it was not there" in late.note("", at(1))[0].text


def test_several_are_deaf_at_once() -> None:
    """What counts is the time in which something asked for could not be heard."""
    both = Deafness()
    for deaf, when in ((True, 1), (True, 2), (False, 4), (False, 5), (True, 7)):
        both.note(deaf, at(when))
    assert both.seconds(at(7.5)) == 3.5
