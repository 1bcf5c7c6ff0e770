"""What a shell offers at the cursor: interfaces, groups, formats, namespaces, with a word on each.

Loaded by a shell's completion only. Candidates of what exists on this host are read when asked.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from mcastctl.output.escape import escape

Offered = Iterator[CompletionItem]
"""Candidates, each with what a shell may show beside it."""


def offer(kind: str, incomplete: str) -> list[CompletionItem]:
    """Return the candidates of a kind that begin with what is typed; none of an unknown kind.

    Names that would have to be escaped are left out: the shell prints what it gets.
    """
    found = _KINDS[kind](incomplete) if kind in _KINDS else ()
    return [
        one for one in found if one.value.startswith(incomplete) and escape(one.value) == one.value
    ]


def _endpoints(incomplete: str) -> Offered:
    """Yield the configured names with what they stand for, then well-known groups.

    Without a port: bash breaks words at colons, and would repeat the address. A broken
    configuration offers nothing, it is no time for its error.
    """
    from mcastctl.cli import config
    from mcastctl.cli.app import COMMANDS
    from mcastctl.model import registry

    with suppress(config.ConfigError):
        for name, endpoint in config.load(os.environ, COMMANDS).groups.items():
            yield CompletionItem(name, help=endpoint)
    if re.match(r"\d", incomplete):
        for group, name in registry.NAMES4.items():
            yield CompletionItem(group, help=name)
    if re.match(r"[fF]", incomplete):
        for identifier, name in registry.NAMES6.items():
            high, low = divmod(identifier, 1 << 16)
            tail = f"{high:x}:{low:x}" if high else f"{low:x}"
            yield CompletionItem(f"ff02::{tail}", help=f"{name}, link-local")


def _interfaces(incomplete: str) -> Offered:
    for index, name in socket.if_nameindex():
        yield CompletionItem(name, help=f"index {index}")


def _captured(incomplete: str) -> Offered:
    yield CompletionItem("any", help="every interface")
    yield from _interfaces(incomplete)


def _namespaces(incomplete: str) -> Offered:
    from mcastctl.host.netns import NAMED

    if NAMED.is_dir():
        for path in sorted(NAMED.iterdir()):
            yield CompletionItem(path.name)


def _dscps(incomplete: str) -> Offered:
    from mcastctl.model.units import DSCPS

    for name, value in DSCPS.items():
        yield CompletionItem(name, help=str(value))


def _files(incomplete: str) -> Offered:
    yield CompletionItem(incomplete, type="file")  # the shell knows its files


_KINDS = {
    "endpoints": _endpoints,
    "interfaces": _interfaces,
    "captured": _captured,
    "namespaces": _namespaces,
    "dscps": _dscps,
    "files": _files,
}


def formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the output formats that the option's own help names."""
    described = str(getattr(param, "help", "")).removeprefix("Print as ").rstrip(".")
    listed = [re.sub(r"[A-Z]+$", "", one) for one in described.split(", ")]  # dots=BYTES: dots=
    return [CompletionItem(one) for one in listed if one.startswith(incomplete)]
