"""Memberships for people: a row each, and beneath what could not be read."""

import os
from collections.abc import Mapping, Sequence

from mcastctl.model.membership import GroupMembership, Owner
from mcastctl.output import color, stream, tables
from mcastctl.output.escape import escape

HEADINGS = ("IFACE", "GROUP", "FILTER", "USERS", "TIMER", "BY", "OWNERS")
_SPARE = ("TIMER", "BY", "USERS")


def memberships(
    found: Sequence[GroupMembership], color_option: str, environ: Mapping[str, str]
) -> None:
    """Print the table, then each thing that could not be read, once."""
    colored = color.wanted(color_option, environ, terminal=os.isatty(1))
    rows = [_row(one) for one in found]
    stream.say(tables.render(HEADINGS, rows, spare=_SPARE, color=colored))
    for note in dict.fromkeys(note for one in found for note in one.notes):
        stream.notice(f"note: {escape(note)}")


def _row(one: GroupMembership) -> list[str]:
    return [
        escape(one.iface),
        one.group,
        source_filter(one.mode, one.sources, certain=one.mode_certain),
        "-" if one.users is None else str(one.users),
        "-" if one.timer_s is None else f"{one.timer_s:.1f}",
        one.protocol or "-",
        " ".join(_holders(one)) or "-",
    ]


def source_filter(mode: str | None, sources: Sequence[str], *, certain: bool = True) -> str:
    """Return 'any', 'only A B' or 'not A B'; a '?' where the kernel's counts leave it open."""
    if mode is None:
        return "-"
    doubt = "" if certain else "?"
    if mode == "exclude":
        return f"{' '.join(['not', *sources]) if sources else 'any'}{doubt}"
    return f"{' '.join(['only', *sources])}{doubt}"


def _holders(one: GroupMembership) -> list[str]:
    """Return the processes, each once, and the kernel."""
    named: dict[str, None] = {}
    if one.by_kernel:
        named["kernel"] = None
    for owner in one.owners:
        named[holder(owner)] = None
    return list(named)


def holder(owner: Owner) -> str:
    """Return 'app[123]:5004', with a '?' where it was only guessed."""
    doubt = "" if owner.evidence == "asked" else "?"
    port = f":{owner.port}" if owner.port else ""
    return f"{escape(owner.name)}[{owner.pid}]{port}{doubt}"
