"""The endpoint grammar: what may be typed, what it means, and that it can be written back."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastctl.model.endpoint import (
    MAX_GROUPS,
    Endpoint,
    format_endpoint,
    parse,
    parse_port,
    parse_source,
    with_sources,
)
from mcastctl.model.errors import AddressError

GOOD = [
    ("239.1.1.1", Endpoint("239.1.1.1")),
    ("239.1.1.1:5004", Endpoint("239.1.1.1", 5004)),
    ("239.1.1.1:1", Endpoint("239.1.1.1", 1)),
    ("239.1.1.1:65535", Endpoint("239.1.1.1", 65535)),
    ("[239.1.1.1]:5004", Endpoint("239.1.1.1", 5004)),
    ("udp://239.1.1.1:5004", Endpoint("239.1.1.1", 5004)),
    ("UDP://239.1.1.1:5004/", Endpoint("239.1.1.1", 5004)),
    ("udp://@239.1.1.1:5004", Endpoint("239.1.1.1", 5004)),
    ("rtp://239.1.1.1:5004", Endpoint("239.1.1.1", 5004, scheme="rtp")),
    ("239.1.1.1%eth0:5004", Endpoint("239.1.1.1", 5004, iface="eth0")),
    ("239.1.1.1%3", Endpoint("239.1.1.1", iface="3")),
    ("10.0.0.1@232.1.1.1:5", Endpoint("232.1.1.1", 5, ("10.0.0.1",))),
    ("10.0.0.2,10.0.0.1@232.1.1.1:5", Endpoint("232.1.1.1", 5, ("10.0.0.2", "10.0.0.1"))),
    ("10.0.0.1,10.0.0.1@232.1.1.1:5", Endpoint("232.1.1.1", 5, ("10.0.0.1",))),
    ("10.0.0.1,232.1.1.1:5", Endpoint("232.1.1.1", 5, ("10.0.0.1",))),
    ("!10.0.0.1@239.1.1.1:5", Endpoint("239.1.1.1", 5, ("10.0.0.1",), exclude=True)),
    (
        "!10.0.0.1,!10.0.0.2@239.1.1.1",
        Endpoint("239.1.1.1", None, ("10.0.0.1", "10.0.0.2"), exclude=True),
    ),
    ("239.1.1.1:5004+3", Endpoint("239.1.1.1", 5004, further=3)),
    ("239.1.1.1+4095", Endpoint("239.1.1.1", further=4095)),
    ("239.1.1.1+0", Endpoint("239.1.1.1")),
    ("239.255.255.254+1", Endpoint("239.255.255.254", further=1)),
    ("239.1.1.5/30:5004", Endpoint("239.1.1.4", 5004, further=3)),
    ("239.1.1.5/32", Endpoint("239.1.1.5")),
    ("224.0.0.0/20", Endpoint("224.0.0.0", further=4095)),
    ("239.1.1.1/31%eth0:9", Endpoint("239.1.1.0", 9, iface="eth0", further=1)),
    ("239.1.1.1%eth0/31:9", Endpoint("239.1.1.0", 9, iface="eth0", further=1)),
    ("ff15::42", Endpoint("ff15::42")),
    ("FF15:0:0::42", Endpoint("ff15::42")),
    ("ff15::1:5004", Endpoint("ff15::1:5004")),
    ("[ff15::42]", Endpoint("ff15::42")),
    ("[ff15::42]:5004", Endpoint("ff15::42", 5004)),
    ("[ff15::42%eth0]:5004", Endpoint("ff15::42", 5004, iface="eth0")),
    ("[ff15::42]%eth0:5004", Endpoint("ff15::42", 5004, iface="eth0")),
    ("ff02::5%eth0", Endpoint("ff02::5", iface="eth0")),
    ("ff15::42+3", Endpoint("ff15::42", further=3)),
    ("[ff15::42]:5004+3", Endpoint("ff15::42", 5004, further=3)),
    ("ff15::/126%eth0", Endpoint("ff15::", iface="eth0", further=3)),
    ("ff15::%eth0/126", Endpoint("ff15::", iface="eth0", further=3)),
    ("[ff15::5]/126:5004", Endpoint("ff15::4", 5004, further=3)),
    ("[ff15::5/126]:5004", Endpoint("ff15::4", 5004, further=3)),
    ("2001:db8::1@[ff3e::1]:5004", Endpoint("ff3e::1", 5004, ("2001:db8::1",))),
    ("[2001:db8::1]@[ff3e::1]:5004", Endpoint("ff3e::1", 5004, ("2001:db8::1",))),
    ("![2001:db8::1]@ff3e::1", Endpoint("ff3e::1", None, ("2001:db8::1",), exclude=True)),
    ("fe80::1%eth0@[ff32::1]:5", Endpoint("ff32::1", 5, ("fe80::1",), iface="eth0")),
    ("fe80::1%eth0@[ff32::1%eth0]:5", Endpoint("ff32::1", 5, ("fe80::1",), iface="eth0")),
    ("rtp://2001:db8::1@[ff3e::1]:5", Endpoint("ff3e::1", 5, ("2001:db8::1",), scheme="rtp")),
]

CANONICAL = [
    ("[239.1.1.1]:05", "239.1.1.1:5"),
    ("UDP://@239.1.1.1:5004/", "239.1.1.1:5004"),
    ("10.0.0.1,232.1.1.1%eth0:5+2", "10.0.0.1@232.1.1.1%eth0:5+2"),
    ("239.1.1.5/30", "239.1.1.4+3"),
    ("FF15:0::42%eth0", "ff15::42%eth0"),
    ("[FF15:0::42]%eth0:7+1", "[ff15::42%eth0]:7+1"),
    ("![2001:DB8::1],!2001:db8::2@ff3e::1", "!2001:db8::1,!2001:db8::2@ff3e::1"),
    ("fe80::1%eth0@ff32::1", "fe80::1@ff32::1%eth0"),
    ("RTP://[ff15::1]:5", "rtp://[ff15::1]:5"),
]

# Spelling and a word that the message or the hint must hold.
BAD = [
    ("", "endpoints look like"),
    (" 239.1.1.1", "not an IP address"),
    ("239.1.1.1 ", "not an IP address"),
    ("example.org:5004", "not an IP address"),
    ("10.0.0.1:5004", "224.0.0.0/4"),
    ("240.0.0.1", "224.0.0.0/4"),
    ("255.255.255.255:5", "224.0.0.0/4"),
    ("2001:db8::1", "ff00::/8"),
    ("[fe00::1]:5", "ff00::/8"),
    ("[::ffff:239.1.1.1]:5004", "ff00::/8"),
    ("239.1.1.1:0", "1 to 65535"),
    ("239.1.1.1:65536", "1 to 65535"),
    ("239.1.1.1:", "1 to 65535"),
    ("239.1.1.1:-1", "1 to 65535"),
    ("239.1.1.1:http", "1 to 65535"),
    ("239.1.1.1:\u0665\u0660", "1 to 65535"),
    ("239.1.1.1:\uff15", "1 to 65535"),
    ("239.1.1.1:5004:6", "not an IP address"),
    ("[ff15::42", "endpoints look like"),
    ("ff15::42]:5", "brackets"),
    ("[ff15::42]5004", "endpoints look like"),
    ("ff15::zz:5004", "brackets"),
    ("23\u0669.1.1.1", "not an IP address"),
    ("0357.1.1.1", "not an IP address"),
    ("239.01.1.1", "not an IP address"),
    ("0xef010101", "not an IP address"),
    ("4009820417", "not an IP address"),
    ("239.1", "not an IP address"),
    ("239.1.1.256", "not an IP address"),
    ("239.1.1.1\n", "control characters"),
    ("239.1.1.1\0", "control characters"),
    ("\x1b[31m239.1.1.1", "control characters"),
    ("239.1.1.1%eth\u202e0", "control characters"),
    ("239.1.1.1\udcff", "control characters"),
    ("239.1.1.1:" + "5" * 5000, "too long"),
    ("239.0.0.0/8", "4096"),
    ("224.0.0.0/4", "4096"),
    ("239.1.1.1/0", "4096"),
    ("ff15::/64", "4096"),
    ("239.1.1.1+4096", "4096"),
    ("239.1.1.1+999999999", "4096"),
    ("239.1.1.1+9999999999", "three further"),
    ("239.1.1.1+", "three further"),
    ("239.1.1.1+-1", "three further"),
    ("239.1.1.1+\uff13", "three further"),
    ("239.1.1.1+2+2", "three further"),
    ("239.1.1.1/33", "/32"),
    ("ff15::1/129", "/128"),
    ("239.1.1.1/24+3", "both"),
    ("239.1.1.1/31%eth0/31", "length twice"),
    ("239.255.255.255+1", "last group"),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff+1", "last group"),
    ("239.1.1.1%", "endpoints look like"),
    ("239.1.1.1%an-interface-name", "endpoints look like"),
    ("239.1.1.1%eth0%eth1", "endpoints look like"),
    ("[ff15::42%eth0]%eth1:5", "zone twice"),
    ("fe80::1%eth0@[ff32::1%eth1]:5", "two interfaces"),
    ("fe80::1%eth0,fe80::2%eth1@ff32::1", "several interfaces"),
    ("fe80::1%@ff32::1", "zone"),
    ("10.0.0.1@ff3e::1", "IPv4 and IPv6"),
    ("2001:db8::1@232.1.1.1", "IPv4 and IPv6"),
    ("10.0.0.1,2001:db8::1@232.1.1.1", "IPv4 and IPv6"),
    ("10.0.0.1,!10.0.0.2@232.1.1.1", "never both"),
    ("!10.0.0.1,10.0.0.2@232.1.1.1", "never both"),
    ("232.1.1.2@232.1.1.1", "cannot be a source"),
    ("0.0.0.0@232.1.1.1", "cannot be a source"),
    ("255.255.255.255@232.1.1.1", "cannot be a source"),
    ("::@ff3e::1", "cannot be a source"),
    ("!@239.1.1.1", "SRC[,SRC...]@"),
    ("!!10.0.0.1@239.1.1.1", "SRC[,SRC...]@"),
    ("10.0.0.1,,10.0.0.2@239.1.1.1", "SRC[,SRC...]@"),
    ("10.0.0.1,@239.1.1.1", "SRC[,SRC...]@"),
    (",239.1.1.1", "not an IP address"),
    ("10.0.0.1@10.0.0.2@239.1.1.1", "not an IP address"),
    ("239.1.1.1@10.0.0.1", "224.0.0.0/4"),
    ("tcp://239.1.1.1:5004", "udp://"),
    ("udp://", "endpoints look like"),
    ("udp://239.1.1.1:5004?ttl=3", "1 to 65535"),
]


@pytest.mark.parametrize(("text", "value"), GOOD, ids=[text for text, _ in GOOD])
def test_a_spelling_means_one_endpoint(text: str, value: Endpoint) -> None:
    assert parse(text) == value
    assert parse(format_endpoint(value)) == value


@pytest.mark.parametrize(("text", "canonical"), CANONICAL, ids=[text for text, _ in CANONICAL])
def test_the_canonical_spelling(text: str, canonical: str) -> None:
    assert format_endpoint(parse(text)) == canonical


@pytest.mark.parametrize(("text", "word"), BAD, ids=[ascii(text)[:40] for text, _ in BAD])
def test_a_wrong_spelling_is_refused_with_a_remedy(text: str, word: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse(text)
    assert refused.value.message
    assert refused.value.hint
    assert word in f"{refused.value.message} {refused.value.hint}"


PORTS = st.none() | st.integers(1, 65535)
ZONES = st.none() | st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="%/:@,[]+!"),
    min_size=1,
    max_size=15,
)
FURTHER = st.integers(0, MAX_GROUPS - 1)
GROUPS4 = st.integers(0xE0000000, 0xEFFFFFFF - MAX_GROUPS).map(ipaddress.IPv4Address).map(str)
GROUPS6 = st.integers(0xFF << 120, (1 << 128) - 1 - MAX_GROUPS).map(ipaddress.IPv6Address).map(str)
SOURCES4 = st.integers(1, 0xDFFFFFFF).map(ipaddress.IPv4Address).map(str)
SOURCES6 = st.integers(1, (0xFF << 120) - 1).map(ipaddress.IPv6Address).map(str)


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    four = draw(st.booleans())
    sources = draw(st.lists(SOURCES4 if four else SOURCES6, max_size=3, unique=True))
    return Endpoint(
        draw(GROUPS4 if four else GROUPS6),
        draw(PORTS),
        tuple(sources),
        bool(sources) and draw(st.booleans()),
        draw(ZONES),
        draw(FURTHER),
        draw(st.sampled_from(("udp", "rtp"))),
    )


@given(endpoints())
def test_what_is_formatted_parses_back(endpoint: Endpoint) -> None:
    assert parse(format_endpoint(endpoint)) == endpoint


# Text close to the grammar finds more than text at large.
FRAGMENTS = st.lists(
    st.sampled_from(
        [*"@%/:+[]!,.0159f", "239.1.1.1", "10.0.0.1", "ff15::1", "fe80::1", "eth0", "rtp://"]
    ),
    max_size=12,
).map("".join)
ANY_TEXT = st.text(st.characters(exclude_categories=())) | FRAGMENTS


@given(ANY_TEXT, st.booleans())
def test_any_text_is_an_endpoint_or_an_address_error(text: str, unicast: bool) -> None:
    try:
        endpoint = parse(text, unicast=unicast)
    except AddressError as error:
        assert error.message
        assert error.hint
    else:
        assert parse(format_endpoint(endpoint), unicast=unicast) == endpoint


def test_a_unicast_address_passes_only_where_it_is_asked_for() -> None:
    assert parse("10.0.0.1:5004", unicast=True) == Endpoint("10.0.0.1", 5004)
    assert parse("[fe80::1%eth0]:5", unicast=True) == Endpoint("fe80::1", 5, iface="eth0")
    with pytest.raises(AddressError):
        parse("10.0.0.1+3", unicast=True)


def test_expansion_names_every_group_and_keeps_the_rest() -> None:
    expanded = parse("10.0.0.1@239.1.1.254%eth0:5+3").expand()
    groups = ["239.1.1.254", "239.1.1.255", "239.1.2.0", "239.1.2.1"]
    assert expanded == [Endpoint(group, 5, ("10.0.0.1",), iface="eth0") for group in groups]
    assert len(parse("239.1.1.1+4095").expand()) == MAX_GROUPS


def test_the_family_is_the_groups() -> None:
    assert parse("239.1.1.1").family == 4
    assert parse("ff15::1").family == 6


@pytest.mark.parametrize("text", ["0", "65536", "", "+1", "1 ", "1\n", "1.0", "99999999", "\u0661"])
def test_ports_are_whole_numbers_in_range(text: str) -> None:
    with pytest.raises(AddressError):
        parse_port(text)


def test_a_source_filter_is_an_address_perhaps_unwanted() -> None:
    assert parse_source("10.0.0.1") == ("10.0.0.1", False)
    assert parse_source("![FE80::1]") == ("fe80::1", True)
    with pytest.raises(AddressError):
        parse_source("239.1.1.1")


def test_further_sources_narrow_an_endpoint() -> None:
    plain = parse("239.1.1.1:5")
    assert with_sources(plain, ()) is plain
    wanted = with_sources(parse("10.0.0.1@239.1.1.1:5"), (("10.0.0.2", False), ("10.0.0.1", False)))
    assert wanted == parse("10.0.0.1,10.0.0.2@239.1.1.1:5")
    assert with_sources(plain, (("10.0.0.1", True),)) == parse("!10.0.0.1@239.1.1.1:5")


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("10.0.0.1@239.1.1.1", (("10.0.0.2", True),)),
        ("!10.0.0.1@239.1.1.1", (("10.0.0.2", False),)),
        ("239.1.1.1", (("10.0.0.1", True), ("10.0.0.2", False))),
        ("239.1.1.1", (("fe80::1", False),)),
    ],
)
def test_further_sources_must_fit(text: str, extra: tuple[tuple[str, bool], ...]) -> None:
    with pytest.raises(AddressError):
        with_sources(parse(text), extra)
