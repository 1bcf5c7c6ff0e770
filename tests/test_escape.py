"""Text from the network is harmless on a terminal, stays on one line, and can be read back."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastctl.output.escape import escape, escape_bytes, fit

ANY_TEXT = st.text(st.characters(exclude_categories=()))
ESCAPES = re.compile(
    r"\\(?:(?P<simple>[\\nrt])|x(?P<byte>[0-9a-f]{2})|u\{(?P<code>[0-9a-f]+)\})|(?P<plain>[^\\])"
)
# Letters and symbols by category, but nothing is drawn.
BLANKS = "\u115f\u1160\u2800\u3164\uffa0"


def unescape(text: str) -> str:
    """What a reader of the escaped text would write for the original; fails on anything else."""
    original, at = [], 0
    while at < len(text):
        matched = ESCAPES.match(text, at)
        assert matched, text[at:]
        at = matched.end()
        if simple := matched["simple"]:
            original.append({"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}[simple])
        elif matched["byte"]:
            byte = int(matched["byte"], 16)
            original.append(chr(byte if byte < 0x80 else 0xDC00 + byte))
        elif code := matched["code"]:
            original.append(chr(int(code, 16)))
        else:
            original.append(matched["plain"])
    return "".join(original)


def check_harmless(shown: str) -> None:
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode()  # no surrogate is left
    for char in set(shown):
        category = unicodedata.category(char)
        assert category[0] not in "CM", hex(ord(char))
        assert category not in ("Zl", "Zp")
        assert category != "Zs" or char == " "
        assert not unicodedata.combining(char)
        assert char not in BLANKS


@given(ANY_TEXT)
def test_any_text_becomes_harmless_and_comes_back(text: str) -> None:
    shown = escape(text)
    check_harmless(shown)
    assert unescape(shown) == text


@given(st.binary() | ANY_TEXT.map(lambda text: text.encode(errors="replace")))
def test_any_bytes_become_harmless_and_come_back(data: bytes) -> None:
    shown = escape_bytes(data)
    check_harmless(shown)
    assert unescape(shown).encode(errors="surrogateescape") == data


def test_every_character_there_is_becomes_harmless() -> None:
    check_harmless(escape("".join(map(chr, range(0x110000)))))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("eth0.100", "eth0.100"),
        ("[/foo] [red]x[/red]", "[/foo] [red]x[/red]"),
        ("Größe 東京", "Größe 東京"),
        ("a\\nb", "a\\\\nb"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x00\x7f", "\\x00\\x7f"),
        ("\x9b31m", "\\u{9b}31m"),
        ("\x85\u2028\u2029", "\\u{85}\\u{2028}\\u{2029}"),
        ("abc\u202egpj.exe", "abc\\u{202e}gpj.exe"),
        ("\u2066x\u2069\u200f", "\\u{2066}x\\u{2069}\\u{200f}"),
        ("a\u200bb\u200d\ufeff\u00ad", "a\\u{200b}b\\u{200d}\\u{feff}\\u{ad}"),
        ("e\u0301\u0489\u0903", "e\\u{301}\\u{489}\\u{903}"),
        ("\u00a0\u3000", "\\u{a0}\\u{3000}"),
        ("\u3164\uffa0", "\\u{3164}\\u{ffa0}"),
        ("\U000e0041", "\\u{e0041}"),
        ("\ue000\U0010ffff", "\\u{e000}\\u{10ffff}"),
        ("\udc9b", "\\x9b"),
        ("\ud800\udfff", "\\u{d800}\\u{dfff}"),
    ],
    ids=ascii,
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"LC_ALL": "C.UTF-8"}, "Größe"),
        ({"LANG": "de_DE.utf8"}, "Größe"),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, "Gr\\u{f6}\\u{df}e"),
        ({"LANG": "de_DE.ISO-8859-1"}, "Gr\\u{f6}\\u{df}e"),
        ({"PYTHONIOENCODING": "ascii", "LC_ALL": "C.UTF-8"}, "Gr\\u{f6}\\u{df}e"),
        ({}, "Gr\\u{f6}\\u{df}e"),
    ],
)
def test_only_a_terminal_of_utf_8_gets_letters(environ: dict[str, str], shown: str) -> None:
    """To another the bytes of a letter may be control codes: the last of 'À' is 0x80."""
    try:
        fit(environ)
        assert escape("Größe") == shown
    finally:
        fit({"LC_ALL": "C.UTF-8"})


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"hello", "hello"),
        (b"\x9b31m", "\\x9b31m"),
        (b"\xc2\x9b31m", "\\u{9b}31m"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),  # a surrogate, which no UTF-8 may hold
        (b"\xe6\x9d", "\\xe6\\x9d"),
        ("é\\".encode(), "é\\\\"),
    ],
)
def test_bytes_that_are_no_utf_8_show_as_bytes(data: bytes, shown: str) -> None:
    assert escape_bytes(data) == shown
