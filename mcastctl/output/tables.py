"""Snapshots for people: a rich table on a terminal, full-width plain columns in a pipe.

rich strips nothing dangerous and cuts cells at 80 columns in a pipe, so every cell is escaped
first and a pipe never goes through it.
"""

import os
from collections.abc import Sequence
from typing import Literal

from mcastctl.model.interface import Interface
from mcastctl.output.escape import escape

HEADINGS = (
    *("INDEX", "NAME", "STATE", "MTU", "MAC", "IGMP", "MLD", "RP_FILTER"),
    *("KIND", "GROUPS", "ADDRESSES"),
)
GROUP_HEADINGS = ("INDEX", "NAME", "GROUPS")
_NUMERIC = {"INDEX", "MTU", "IGMP", "MLD", "RP_FILTER"}
_SPARE = ("MAC", "MTU", "GROUPS", "RP_FILTER", "MLD", "IGMP", "KIND")
"""Left out one by one where the terminal is too narrow to keep addresses whole."""
_QUIET = {"secondary", "temporary"}
"""States of addresses that are nothing to worry about; JSON has them."""
_RP_FILTER = {0: "off", 1: "strict", 2: "loose"}


def group_rows(interfaces: Sequence[Interface]) -> list[list[str]]:
    """Return index, name and joined groups of each interface."""
    return [[str(one.ifindex), escape(one.name), " ".join(one.groups) or "-"] for one in interfaces]


def interface_rows(interfaces: Sequence[Interface]) -> list[list[str]]:
    """Return one row of text per interface, '-' for what is unknown."""
    return [
        [
            str(one.ifindex),
            escape(one.name),
            ",".join(one.flags()),
            _known(one.mtu),
            escape(one.mac or "-"),
            f"v{one.igmp_version}" if one.igmp_version else "-",
            f"v{one.mld_version}" if one.mld_version else "-",
            _RP_FILTER.get(-1 if one.rp_filter is None else one.rp_filter, "-"),
            _kind(one),
            str(len(one.groups)),
            " ".join(_address(one)) or "-",
        ]
        for one in interfaces
    ]


def _kind(one: Interface) -> str:
    """Return 'veth', or 'veth@br0' for a port of a bridge."""
    kind = escape(one.kind or "-")
    return f"{kind}@{escape(one.master)}" if one.master else kind


def _address(one: Interface) -> list[str]:
    return [
        f"{address.address}{f'%{escape(address.zone)}' if address.zone else ''}"
        f"{f'/{address.prefixlen}' if address.prefixlen is not None else ''}"
        f"{''.join(f'({state})' for state in address.states if state not in _QUIET)}"
        for address in one.addresses
    ]


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)


def plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned columns, never wrapped or cut."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (headings, *rows)
    ]


def show(headings: Sequence[str], rows: Sequence[Sequence[str]], *, color: bool) -> str:
    """Return a table drawn for the terminal, one flag and one address a line."""
    folded = [[cell.replace(",", "\n").replace(" ", "\n") for cell in row] for row in rows]
    dim = ["down" in row[2].split(",") for row in rows]
    return drawn(headings, folded, spare=_SPARE, color=color, dim=dim)


def render(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, spare: Sequence[str], color: bool
) -> str:
    """Return a table for standard output: drawn on a terminal, whole columns in a pipe."""
    if not os.isatty(1):
        return "\n".join(plain(headings, rows))
    return drawn(headings, rows, spare=spare, color=color).rstrip("\n")


def _unfolded(row: Sequence[str]) -> list[str]:
    return [cell.replace("\n", " ") for cell in row]


def drawn(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    spare: Sequence[str],
    color: bool,
    dim: Sequence[bool] = (),
) -> str:
    """Return a table as wide as the terminal; `spare` columns go first where it is narrow."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(
        markup=False, highlight=False, emoji=False, no_color=not color, force_terminal=color
    )
    unbounded = console.options.update(width=1 << 16)  # or it measures what is already squeezed
    for spared in range(len(spare) + 1):
        shown = [at for at, name in enumerate(headings) if name not in spare[:spared]]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for at in shown:
            justify: Literal["right", "left"] = "right" if headings[at] in _NUMERIC else "left"
            table.add_column(headings[at].replace("_", "\n"), justify=justify, overflow="fold")
        for number, row in enumerate(rows):
            cells = [Text(row[at]) for at in shown]
            table.add_row(*cells, style="dim" if number < len(dim) and dim[number] else "")
        needed = console.measure(table, options=unbounded)
        if needed.maximum <= console.width:
            break
    if needed.minimum > console.width:  # rich would leave text out: better the terminal wraps
        return "\n".join([*plain(headings, [_unfolded(row) for row in rows]), ""])
    with console.capture() as captured:
        console.print(table)
    return captured.get()
