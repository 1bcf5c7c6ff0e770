"""The target that reads command lines: each is understood, or refused in two lines."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import click

from fuzz.target import Target, check
from mcastctl.cli import app
from mcastctl.output import stream

GOOD = [
    "239.1.1.1:5004",
    "[ff02::123%lo]:7645",
    "127.0.0.1@232.1.1.1:5004",
    "239.1.1.0:5004+3",
    "lo",
    "1",
    "5004",
    "20ms",
    "0",
    "5k",
    "0.1%",
    "json",
    "hex",
    "af41",
    "127.0.0.1",
    "68656c6c6f",
    "udp port 5004",
    "x",
    "never",
    "cat",
]
BAD = [
    "",
    " ",
    "nan",
    "-1",
    "1e400",
    "\u0665\u0669",
    "9" * 5000,
    "\x1b[31m",
    "\udcff",
    "a\nb",
    "%s%n",
    "../../etc/passwd",
    "[",
    "[/red]",
    "!::",
    "@",
    "=",
    "-",
    "--",
    "10.0.0.1:5004",
    "224.0.0.256:1",
    "ff0f::1",
    "239.1.1.1:65536",
    "239.0.0.0/8:5",
    "[ff02::1%no\x1b]:5",
    "eth0.4094",
    "2147483648",
    "18446744073709551616",
    "0x10",
    "1_000",
    "\u202egpj",
    "x" * 70000,
]
_STRAY = (
    "--bogus",
    "-Z",
    "--",
    "-",
    "-iii",
    "--json=1",
    "--count",
    "-c",
    "--iface=",
    "-h",
    "-qvvj",
)


class Understood(NamedTuple):
    """Status, whether a command would have run, and what was said."""

    status: int
    reached: bool
    said: list[str]


@functools.cache
def _options(name: str) -> list[tuple[str, bool]]:
    """Spellings of a command's options, and whether each takes a value."""
    command = app.cli.get_command(click.Context(app.cli), name)
    found = []
    for param in command.params if command else ():
        if isinstance(param, click.Option):
            value = not (param.is_flag or param.count)
            found += [(spelled, value) for spelled in param.opts]
    return found


def command_line(data: bytes) -> list[str]:
    """Make words of bytes: a command, then options, values and arguments, good ones and others."""
    if not data:
        return []
    names = [*app.COMMANDS, *app.COMMANDS, *app.COMMANDS, "listne", "", "--help", "-V", "\x1b"]
    words = [names[data[0] % len(names)]]
    options = _options(words[0])
    for what, which in zip(data[1::2], data[2::2], strict=False):
        value = GOOD[which % len(GOOD)] if which < 160 else BAD[which % len(BAD)]
        if what < 90 or not options:
            words.append(value)
        elif what > 245:
            words.append(_STRAY[which % len(_STRAY)])
        else:
            spelled, takes = options[what % len(options)]
            words += [spelled, value] if takes else [spelled]
    return words


@contextmanager
def _held_back(reached: list[bool], said: list[str]) -> Iterator[None]:
    """Let commands do nothing, nobody's settings count, and gather what is said."""
    commands = [one for one in app.command_table().values() if one is not None]
    callbacks = [one.callback for one in commands]
    told, shown = stream.notice, stream.say
    home = os.environ.get("XDG_CONFIG_HOME")

    def run(**given: object) -> int:
        reached.append(True)
        return 0

    for one in commands:
        one.callback = run
    vars(stream).update(notice=said.append, say=said.append)
    os.environ["XDG_CONFIG_HOME"] = "/nonexistent"
    try:
        yield
    finally:
        for one, callback in zip(commands, callbacks, strict=True):
            one.callback = callback
        stream.notice, stream.say = told, shown
        del os.environ["XDG_CONFIG_HOME"]
        if home is not None:
            os.environ["XDG_CONFIG_HOME"] = home


def understand(words: Sequence[str]) -> Understood:
    """Parse a command line as the program does, and go no further."""
    reached: list[bool] = []
    said: list[str] = []
    with _held_back(reached, said):
        status = app.run(list(words))
    return Understood(status, bool(reached), said)


def command_lines(data: bytes) -> Understood:
    """Exit status 0 or 2; an error is two lines, and harmless ones."""
    words = command_line(data)
    found = understand(words)
    status, reached, said = found
    check(status in (0, 2), f"exit status {status}")
    check(not reached or status == 0, "refused, and run all the same")
    if status == 0 or not words or said[0].startswith("Usage: "):
        return found  # it would have run; or a page of help, or the version
    check(len(said) == 2, f"an error of {len(said)} lines: {said}")
    check(said[0].startswith("mcastctl: error: "), said[0])
    check(said[1].startswith("hint: "), said[1])
    check(all(line.isprintable() for line in said), f"not printable: {said}")
    return found


TARGETS = {
    "argv": Target(
        command_lines,
        lambda: [bytes([number, 10, 0]) for number in range(9)],
        (b"\xfa\xfa", b"\x50\xff", b"\x10\x00"),
        cost_s=0.1,
    )
}
