"""One escaper for every string from the network, a file or the operating system.

What it returns holds no control, escape, bidirectional or invisible character and stays on
one line; a backslash is doubled, so the original can be read back.
"""

import os
from collections.abc import Mapping

_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and symbols without any ink
_SIMPLE = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


_letters = True


def fit(environ: Mapping[str, str]) -> None:
    """Let no byte above 0x7f out when the locale is not UTF-8: to such a terminal it may be a
    control code. Python's own UTF-8 mode says nothing about the terminal (locale(7))."""
    global _letters  # noqa: PLW0603 (one terminal a process, known when it begins)
    named = (environ.get(name) for name in ("PYTHONIOENCODING", "LC_ALL", "LC_CTYPE", "LANG"))
    asked = next(filter(None, named), "").lower().replace("-", "")
    _letters = os.name == "nt" or "utf8" in asked


def escape(text: str) -> str:
    """Return `text` safe for a terminal: printable ASCII and harmless letters pass."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    import unicodedata  # only for the rare text that is not plain ASCII

    def shown(char: str) -> str:
        if char in _SIMPLE:
            return _SIMPLE[char]
        mark = unicodedata.category(char).startswith("M")  # draws over its neighbours
        code = ord(char)
        passes = char.isprintable() and not mark and char not in _BLANK
        if passes and (_letters or code < 0x80):
            return char
        if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8 (surrogateescape)
            return f"\\x{code - 0xDC00:02x}"
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{{{code:x}}}"

    return "".join(map(shown, text))


def escape_bytes(data: bytes) -> str:
    """Return `data` as escaped text; bytes that are no UTF-8 show as \\xNN."""
    return escape(data.decode(errors="surrogateescape"))
