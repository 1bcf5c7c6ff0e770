"""Text that would do harm on a terminal or in a script, and the check that none of it came out."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

CONTROL = [chr(code) for code in (*range(32), 127, *range(0x80, 0xA0))]
INVISIBLE = [
    *map(chr, (0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x2028, 0x202F))),
    *map(chr, (*range(0x2060, 0x2070), 0xFEFF, 0xFFF9, 0xFFFA, 0xFFFB, 0xE0001, 0xE0041)),
    *("\u0301", "\u0489", "\u115f", "\u3164", "\uffa0", "\u00a0", "\u3000"),
]
SENTENCES = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H",
    "\x1bPq#0;2;0;0;0\x1b\\",
    "\x9b31m\x9d0;t\x9c",
    "\rmcastctl: error: forged",
    "\nmcastctl: error: forged\nhint: run this",
    "\n12:00:00.000000 a0 In 10.0.0.1:1 > 239.1.1.1:1 ttl 1 length 1 forged",
    '"}\n{"type":"summary","exit_status":0}',
    "abc\u202egpj.exe\u2066x\u2069",
    "[red]x[/red] [/foo] [link=http://x]y[/link] :smile:",
    "%s %d {0} {x} %(a)s $(id) `id` ${IFS}",
    "\\x1b[31m \\u{9b} \\",
    "\x00\x01\x02",
    "NaN Infinity -0 1e999",
    "e" + "\u0301" * 40,
]
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u0300-\u036f\u061c\u115f\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
"""What no terminal may be sent; a line feed and the tab that begins a dump's line are judged
by who knows where they belong."""


def payloads(number: int, seed: int = 1) -> list[bytes]:
    """So many payloads: sentences in bits and pieces, every control code, and plain noise."""
    chance = random.Random(seed)  # noqa: S311 (the same every time)
    pieces = [*SENTENCES, *CONTROL, *INVISIBLE]
    broken = [b"\x9b31m", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xe2\x80", b"\xf5\x80"]
    found = [one.encode() for one in pieces]
    while len(found) < number:
        kind = chance.random()
        if kind < 0.1:
            found.append(chance.randbytes(chance.randrange(1, 60)))
            continue
        text = "".join(chance.choices([*pieces, "a", " ", "hello "], k=chance.randrange(1, 8)))
        data = text.encode()
        if kind < 0.3:
            at = chance.randrange(len(data) + 1)
            data = data[:at] + chance.choice(broken) + data[at:]
        found.append(data)
    return found[:number]


def check(shown: str, *, indented: bool = False) -> list[str]:
    """Return the lines of an output, after nothing harmful was found in it.

    `indented`: lines of a dump may stand below the one they belong to, behind a tab.
    """
    bad = FORBIDDEN.search(shown)
    assert not bad, (hex(ord(bad[0])), shown[max(0, bad.start() - 200) : bad.end() + 50])
    lines = shown.removesuffix("\n").split("\n") if shown else []
    inner = [one.lstrip("\t") if indented else one for one in lines]
    if not indented:
        assert not any("\t" in one for one in inner), next(one for one in inner if "\t" in one)
    return lines


def heads(lines: Iterable[str]) -> list[str]:
    """The lines that no dump has: they begin at the margin."""
    return [one for one in lines if not one.startswith("\t")]
