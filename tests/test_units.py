"""Times, sizes, rates, percentages, DSCP and hexadecimal as people type them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastctl.model import units
from mcastctl.model.errors import ValueRangeError

Parser = Callable[[str], object]
PARSERS: list[Parser] = [
    units.parse_time,
    units.parse_size,
    units.parse_rate,
    units.parse_percent,
    units.parse_dscp,
    lambda text: units.parse_whole(text, "count", 1, 2**63),
]


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        (units.parse_time, "250ms", 0.25),
        (units.parse_time, "10us", 1e-5),
        (units.parse_time, "10s", 10),
        (units.parse_time, "10", 10),
        (units.parse_time, ".5", 0.5),
        (units.parse_time, "1.5m", 90),
        (units.parse_time, "1h", 3600),
        (units.parse_time, "0", 0),
        (units.parse_time, "8784h", units.MAX_TIME),
        (units.parse_size, "0", 0),
        (units.parse_size, "1316", 1316),
        (units.parse_size, "1316B", 1316),
        (units.parse_size, "64k", 64_000),
        (units.parse_size, "64kB", 64_000),
        (units.parse_size, "64KiB", 65_536),
        (units.parse_size, "4MiB", 4 << 20),
        (units.parse_size, "1.5G", 1_500_000_000),
        (units.parse_size, "1.005k", 1005),
        (units.parse_size, "1024Gi", 1 << 40),
        (units.parse_rate, "800", 800),
        (units.parse_rate, "0.5", 0.5),
        (units.parse_rate, "200k", 200e3),
        (units.parse_rate, "5M", 5e6),
        (units.parse_rate, "2.5Mbit/s", 2.5e6),
        (units.parse_rate, "5Mbits/s", 5e6),
        (units.parse_rate, "5Mbps", 5e6),
        (units.parse_rate, "10kpps", 10e3),
        (units.parse_rate, "10/s", 10),
        (units.parse_rate, "1000G", 1e12),
        (units.parse_percent, "0", 0),
        (units.parse_percent, "0.1%", 0.1),
        (units.parse_percent, "100%", 100),
        (units.parse_dscp, "0", 0),
        (units.parse_dscp, "63", 63),
        (units.parse_dscp, "EF", 46),
        (units.parse_dscp, "cs0", 0),
        (units.parse_dscp, "CS7", 56),
        (units.parse_dscp, "af11", 10),
        (units.parse_dscp, "AF43", 38),
        (units.parse_dscp, "va", 44),
        (units.parse_dscp, "le", 1),
        (units.parse_hex, "", b""),
        (units.parse_hex, "68656c6c6f", b"hello"),
        (units.parse_hex, "0x00FF", b"\x00\xff"),
        (units.parse_hex, "00:ff 0a\n0b", b"\x00\xff\n\x0b"),
    ],
)
def test_a_spelling_means_one_value(parser: Parser, text: str, value: object) -> None:
    assert parser(text) == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    "text",
    [
        *("nan", "NaN", "inf", "-inf", "infinity", "-1", "+1", "1e3", "0x10", "1_000", "1,5"),
        *("1.", ".", "1..2", "1z", "1kk", "k"),
        *("", " ", " 1", "1 ", "1\n", "1 k", "\u0665", "\uff15", "1\u00b2", "\u00bd", "1\udcff"),
        *("9" * 18, "9" * 19, "9" * 5000),
    ],
)
@pytest.mark.parametrize("parser", PARSERS)
def test_what_is_no_number_in_range_is_refused(parser: Parser, text: str) -> None:
    if text == "9" * 18 and parser is PARSERS[-1]:
        assert parser(text) == 10**18 - 1
        return
    with pytest.raises(ValueRangeError) as refused:
        parser(text)
    assert refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (units.parse_time, "8785h"),
        (units.parse_time, "1M"),
        (units.parse_time, "1S"),
        (units.parse_time, "1%"),
        (units.parse_size, "1.5"),
        (units.parse_size, "1.0001k"),
        (units.parse_size, "0.3Ki"),
        (units.parse_size, "1025Gi"),
        (units.parse_size, "1ms"),
        (units.parse_rate, "0"),
        (units.parse_rate, "0.0k"),
        (units.parse_rate, "1001G"),
        (units.parse_rate, "1Ki"),
        (units.parse_percent, "100.1"),
        (units.parse_percent, "5k"),
        (units.parse_percent, "5%%"),
        (units.parse_dscp, "64"),
        (units.parse_dscp, "cs8"),
        (units.parse_dscp, "af44"),
        (units.parse_dscp, "af00"),
        (units.parse_dscp, "046"),
        (units.parse_hex, "0"),
        (units.parse_hex, "0x0"),
        (units.parse_hex, "zz"),
        (units.parse_hex, "\uff10\uff10"),
        (units.parse_hex, "-1"),
    ],
)
def test_what_the_field_cannot_hold_is_refused(parser: Parser, text: str) -> None:
    with pytest.raises(ValueRangeError) as refused:
        parser(text)
    assert refused.value.hint


def test_whole_numbers_keep_their_range() -> None:
    assert units.parse_whole("0", "TTL", 0, 255) == 0
    assert units.parse_whole("255", "TTL", 0, 255) == 255
    for text in ("256", "1.0", "1k"):
        with pytest.raises(ValueRangeError, match="is not a TTL"):
            units.parse_whole(text, "TTL", 0, 255)


NUMBERLIKE = st.text("0123456789.kKmMgGiIbBuhsp/%xnaf -+e", max_size=12)


@given(st.text(st.characters(exclude_categories=())) | NUMBERLIKE)
def test_any_text_is_a_value_in_range_or_refused(text: str) -> None:
    for parser, highest in zip(PARSERS, (units.MAX_TIME, 2**40, 1e12, 100, 63, 2**63), strict=True):
        try:
            value = parser(text)
        except ValueRangeError as error:
            assert error.message
            assert error.hint
        else:
            assert isinstance(value, int | float)
            assert math.isfinite(value)
            assert 0 <= value <= highest


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_bytes_or_refused(text: str) -> None:
    try:
        assert isinstance(units.parse_hex(text), bytes)
    except ValueRangeError as error:
        assert error.hint


@given(st.binary())
def test_hexadecimal_comes_back(data: bytes) -> None:
    assert units.parse_hex(data.hex()) == data
    assert units.parse_hex("0x" + data.hex(":")) == data


@given(st.integers(0, 10**9))
def test_thousandths_of_a_kilobyte_are_whole_bytes(size: int) -> None:
    assert units.parse_size(f"{size // 1000}.{size % 1000:03d}k") == size
