"""What the kernel says about its tracepoints: number, fields and symbols of an event.

The files are those of tracefs (Documentation/trace/events.rst), read where it is mounted, or else
from a mount of our own that no other process sees and that ends with its descriptor. Nothing is
written and nothing is switched on here. Linux only, root.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mcastctl.host import mounts

_MOUNTED = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_FIELD = re.compile(r"^\s*field:([^;]*);\s*offset:(\d{1,5});\s*size:(\d{1,5});", re.MULTILINE)
_SYMBOL = re.compile(r"\{\s*(\d{1,10}|0x[0-9a-f]{1,8}),\s*\"(\w+)\"\s*\}")


class Event(NamedTuple):
    """A tracepoint: its number, {field: (offset, size)} in a record, {value: name} it prints."""

    number: int
    fields: dict[str, tuple[int, int]]
    symbols: dict[int, str]


@contextmanager
def tracefs() -> Iterator[Path]:
    """A directory of tracefs while the context is open; raises OSError where there is none."""
    for mounted in _MOUNTED:
        if (mounted / "events").is_dir():
            yield mounted
            return
    with mounts.detached("tracefs") as root:
        yield root


def event(root: Path, name: str) -> Event:
    """Read the format of an event such as "skb/kfree_skb".

    Raises OSError without it, ValueError when it cannot be read as one.
    """
    return parse_format((root / "events" / name / "format").read_text(errors="replace"))


def parse_format(text: str) -> Event:
    """Return the event that a format file describes; raises ValueError."""
    number = re.search(r"^ID:\s*(\d{1,9})\s*$", text, re.MULTILINE)
    if number is None:
        raise ValueError("the event has no number")
    fields = {}
    for declared, offset, size in _FIELD.findall(text):
        name = declared.split("[")[0] if declared.endswith("]") else declared
        fields[name.split()[-1] if name.split() else ""] = int(offset), int(size)
    symbols = {int(value, 0): name for value, name in _SYMBOL.findall(text)}
    return Event(int(number[1]), fields, symbols)
