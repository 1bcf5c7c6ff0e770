"""Who hears whom, for people: a table of senders by receivers, then what is wrong and why."""

import os
from collections.abc import Iterator, Mapping, Sequence

from mcastctl.model.matrix import HEARD, LOSSY, LOST, SILENT, Explained, Host, Pair
from mcastctl.output import color, stream, tables
from mcastctl.output.escape import escape

WIDEST = 16
"""Hosts of the largest table; beyond it only what is wrong is listed."""
_SELF, _SILENT, _UNKNOWN = "·", "silent", "?"
_RED, _BOLD, _PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[0m"


def show(
    hosts: Sequence[Host],
    pairs: Sequence[Pair],
    explained: Sequence[Explained],
    color_option: str,
    environ: Mapping[str, str],
) -> None:
    """Print the table and what stands out in it."""
    painted = color.wanted(color_option, environ, terminal=os.isatty(1))
    if len(hosts) <= WIDEST:
        stream.say("\n".join(tables.plain(*table(hosts, pairs))))
    for line in (*_told(hosts, pairs), *_causes(explained, painted)):
        stream.say(line)


def table(hosts: Sequence[Host], pairs: Sequence[Pair]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows: a sender a row, a receiver a column."""
    cells = {(one.sender, one.receiver): cell(one) for one in pairs}
    names = [escape(host.name) for host in hosts]
    rows = [
        [name, *(cells.get((host.name, other.name), _SELF) for other in hosts)]
        for name, host in zip(names, hosts, strict=True)
    ]
    return ["FROM \\ TO", *names], rows


def cell(pair: Pair) -> str:
    """Return a pair in few letters: its round trip, its loss, or that it is silent."""
    if pair.state == SILENT:
        return _SILENT
    if pair.state not in (HEARD, LOSSY):
        return _UNKNOWN
    text = "ok" if pair.rtt_ms is None else f"{pair.rtt_ms:.2f} ms"
    if pair.state == LOSSY:
        text = f"lost {pair.lost} of {pair.sent}"
    return f"{text} ({pair.hops} hops)" if pair.hops else text


def _told(hosts: Sequence[Host], pairs: Sequence[Pair]) -> Iterator[str]:
    for host in hosts:
        if host.state == LOST:
            yield f"{escape(host.name)} took no part: {escape(host.text)}"
    wrong = [pair for pair in pairs if pair.state in (SILENT, LOSSY)]
    if len(hosts) > WIDEST:
        for pair in wrong:
            yield f"{escape(pair.sender)} > {escape(pair.receiver)}: {cell(pair)}"
    heard = sum(pair.state == HEARD for pair in pairs)
    silent = sum(pair.state == SILENT for pair in pairs)
    unknown = len(pairs) - heard - len(wrong)
    yield (
        f"{len(pairs)} pairs: {heard} heard, {len(wrong) - silent} lossy, {silent} silent, "
        f"{unknown} unknown"
    )


def _causes(explained: Sequence[Explained], painted: bool) -> Iterator[str]:
    for one in explained:
        head = f"{escape(one.sender)} > {escape(one.receiver)}: {escape(str(one.finding['title']))}"
        head += f" [{escape(str(one.finding['id']))}, on {escape(one.host)}]"
        yield f"{_BOLD}{_RED}{head}{_PLAIN}" if painted else head
        hint = str(one.finding.get("hint") or "")
        if hint:
            yield f"  hint: {escape(hint)}"
