"""How a command gets to another host: by the system's OpenSSH, into a network namespace, or here.

OpenSSH brings its own configuration, keys, jump hosts and multiplexing; nothing of it is done
again. What goes to a host is one line for its POSIX shell, every word quoted.
"""

import re
import shlex
from typing import NamedTuple

from mcastctl.model.errors import ValueRangeError
from mcastctl.net import ourselves

HERE, NETNS, SSH = "local", "netns", "ssh"

_ENTER = """
import os, sys
from mcastctl.host import netns
from mcastctl.model.errors import McastError
try:
    netns.enter(sys.argv[1])
except McastError as error:
    sys.exit(f"mcastctl: error: {error.message}; {error.hint}")
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""A process of its own that moves into the namespace and becomes the command."""

_GUARD = (
    "exec 3<&0; {command} 3<&- </dev/null & p=$!; "
    "{{ cat <&3; kill $p; kill -s CONT $p; }} >/dev/null 2>&1 & w=$!; exec 3<&-; "
    "wait $p; s=$?; kill $w 2>/dev/null; exit $s"
)
"""Runs a command that ends when standard input does: when we say so, or when we are gone.

The watcher goes first, for the number of what has ended may be another's.
"""


class Target(NamedTuple):
    """A host as the user wrote it: `kind` is local, netns or ssh; `iface` is its own -i."""

    name: str
    kind: str
    address: str
    iface: str | None = None


def parse(text: str) -> Target:
    """Parse 'HOST', 'USER@HOST', 'ssh://USER@HOST:PORT', 'netns:NAME', 'local', each '%IFACE'.

    Raises ValueRangeError. A host is a word for ssh, never one of its options.
    """
    name, _, iface = text.partition("%")
    kind, _, address = name.partition(":")
    if name == HERE:
        kind, address = HERE, ""
    elif kind != NETNS:
        kind, address = SSH, name
    if re.search(r"[\s\x00-\x1f\x7f]", text) or (kind != HERE and not address.strip("-")):
        raise ValueRangeError(
            f"'{text}' is not a host", hint="write HOST, USER@HOST, netns:NAME or local"
        )
    if address.startswith("-") or iface.startswith("-"):
        raise ValueRangeError(
            f"'{text}' would be an option of ssh", hint="a host or interface begins with no '-'"
        )
    return Target(name, kind, address, iface or None)


def words(text: str) -> list[str]:
    """Split a command into its words as a shell would. Raises ValueRangeError."""
    try:
        found = shlex.split(text)
    except ValueError as error:
        raise ValueRangeError(f"cannot read the command '{text}'", hint="mend quotes") from error
    if not found:
        raise ValueRangeError("the command has no words", hint="name a program")
    return found


def argv(target: Target, ssh: list[str], script: str) -> list[str]:
    """Return the arguments that run a line of shell on a host."""
    if target.kind == SSH:
        return [*ssh, "--", target.address, script]
    if target.kind == NETNS:
        return [*ourselves.ARGV[:2], "-c", _ENTER, target.address, "sh", "-c", script]
    return ["sh", "-c", script]


def program(target: Target, remote: list[str]) -> list[str]:
    """Return the words that start mcastctl there: `remote` by ssh, this very one otherwise."""
    return remote if target.kind == SSH else [*ourselves.ARGV, "mcastctl"]


def line(words: list[str]) -> str:
    """Return a line of shell; the command ends with its standard input."""
    return _GUARD.format(command=shlex.join(words))
