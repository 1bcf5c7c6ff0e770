"""Numbers with units as people type them: times, sizes, rates, percentages, DSCP names.

Every parser takes ASCII digits only and refuses signs, `nan`, `inf` and overlong text, so a
value that passes here is finite and in range.
"""

import re

from mcastctl.model.errors import ValueRangeError

_NUMBER = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})([A-Za-z/%]*)", re.ASCII)
_TIME = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30}
DSCPS = {"be": 0, "df": 0, "default": 0, "ef": 46, "va": 44, "le": 1} | {
    f"cs{n}": 8 * n for n in range(8)
}
DSCPS |= {f"af{c}{d}": 8 * c + 2 * d for c in range(1, 5) for d in range(1, 4)}

MAX_TIME = 366 * 86400.0
"""Seconds in the longest time that is understood."""


def _split(text: str, what: str, hint: str) -> tuple[float, str]:
    matched = _NUMBER.fullmatch(text)
    if not matched:
        raise ValueRangeError(f"'{text}' is not a {what}", hint=hint)
    return float(matched[1]), matched[2]


def parse_time(text: str) -> float:
    """Parse '250ms', '10s', '5m', '1h' or bare seconds; return seconds."""
    hint = "times are written 500ms, 10s, 5m or 1h, up to 366 days (8784h)"
    number, unit = _split(text, "time", hint)
    seconds = number * _TIME[unit] if unit in _TIME else -1.0
    if not 0 <= seconds <= MAX_TIME:
        raise ValueRangeError(f"'{text}' is not a time", hint=hint)
    return seconds


def parse_size(text: str) -> int:
    """Parse a size in bytes: '1316', '64k' (1000), '4MiB' (1024 x 1024)."""
    hint = "sizes are written 1316, 64k or 4MiB, up to 1024GiB"
    number, unit = _split(text, "size", hint)
    scales = _DECIMAL | _BINARY
    scale = scales.get(unit.lower().removesuffix("b"))
    size = round(number * (scale or 0), 3)  # 1.005k is 1005 although 1.005 * 1000 is not
    if scale is None or size > 2**40 or size != int(size):
        raise ValueRangeError(f"'{text}' is not a size", hint=hint)
    return int(size)


def parse_rate(text: str) -> float:
    """Parse a rate above zero with an SI suffix: '200k', '5M', '2.5Mbit/s'; return units/s."""
    hint = "rates are written 800, 200k, 5M or 1G, per second, above zero and up to 1000G"
    number, unit = _split(text, "rate", hint)
    bare = re.sub(r"(bit/s|bits/s|bit|b/s|bps|pps|/s)$", "", unit.lower())
    scale = _DECIMAL.get(bare)
    if scale is None or not 0 < number * scale <= 1e12:
        raise ValueRangeError(f"'{text}' is not a rate", hint=hint)
    return number * scale


def parse_percent(text: str) -> float:
    """Parse '0.1%' or '0.1'; return a number from 0 to 100."""
    hint = "percentages are written 0.1% or 5, from 0 to 100"
    number, unit = _split(text, "percentage", hint)
    if unit not in ("", "%") or number > 100:
        raise ValueRangeError(f"'{text}' is not a percentage", hint=hint)
    return number


def parse_whole(text: str, what: str, low: int, high: int) -> int:
    """Parse a whole number of ASCII digits from `low` to `high`."""
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or not low <= int(text) <= high:
        top = f" to {high}" if high < 2**63 or (len(text) > 18 and text.isdigit()) else ""
        raise ValueRangeError(
            f"'{text}' is not a {what}", hint=f"use a whole number from {low}{top}"
        )
    return int(text)


def parse_dscp(text: str) -> int:
    """Parse a DSCP: 0 to 63, or a name such as ef, cs5, af41 (RFC 4594, RFC 8622)."""
    named = DSCPS.get(text.lower())
    if named is not None:
        return named
    if re.fullmatch(r"[0-9]{1,2}", text, re.ASCII) and int(text) <= 63:
        return int(text)
    raise ValueRangeError(f"'{text}' is not a DSCP", hint="use 0 to 63, or ef, cs0-cs7, af11-af43")


def parse_hex(text: str) -> bytes:
    """Parse hexadecimal payload; spaces, colons and a leading 0x are allowed."""
    digits = re.sub(r"[\s:]", "", text.removeprefix("0x"), flags=re.ASCII)
    if len(digits) % 2 and re.fullmatch(r"[0-9A-Fa-f]*", digits, re.ASCII):
        raise ValueRangeError(
            f"the hexadecimal payload has an odd number of digits, {len(digits)}",
            hint="a byte is two digits: write 0a, not a",
        )
    if not re.fullmatch(r"[0-9A-Fa-f]*", digits, re.ASCII):
        raise ValueRangeError(
            "the hexadecimal payload is malformed", hint="write pairs of digits: 68656c6c6f"
        )
    return bytes.fromhex(digits)
