"""Routes for people: a table of many, a short page for each that was asked for."""

import os
import textwrap
from collections.abc import Mapping, Sequence

from mcastctl.model.address import keeps_zone
from mcastctl.model.meaning import Meaning
from mcastctl.model.route import Reverse, Route
from mcastctl.output import color, stream, tables
from mcastctl.output.escape import escape

HEADINGS = ("GROUP", "IFACE", "SOURCE", "GATEWAY", "TYPE", "TABLE", "RULE", "SCOPE", "NAME")
_SPARE = ("RULE", "GATEWAY", "TABLE", "NAME", "TYPE", "SCOPE")
_LABEL = 11
_YELLOW, _RED, _BOLD, _PLAIN = "\x1b[33m", "\x1b[31m", "\x1b[1m", "\x1b[0m"


class Page:
    """Prints routes; `detailed` gives each its own page."""

    def __init__(
        self, color_option: str, environ: Mapping[str, str], *, detailed: bool = False
    ) -> None:
        self._terminal = os.isatty(1)
        self._color = color.wanted(color_option, environ, terminal=self._terminal)
        self._detailed = detailed

    def routes(self, found: Sequence[Route]) -> None:
        """Print the routes, then what is fragile about them."""
        if self._detailed:
            stream.say("\n\n".join("\n".join(self._page(one)) for one in found))
            return
        rows = [_row(one) for one in found]
        stream.say(tables.render(HEADINGS, rows, spare=_SPARE, color=self._color))
        told = {text: (code, hint) for one in reversed(found) for code, text, hint in one.warnings}
        for text, (code, hint) in reversed(told.items()):  # each once, with its first remedy
            stream.notice(f"warning: {code}: {escape(text)}; {escape(hint)}")

    def _page(self, route: Route) -> list[str]:
        meaning = route.meaning()
        group = route.group
        if route.iface and (keeps_zone(group) or route.asked_iface):
            group += f"%{route.iface}"
        if route.leaves:
            head = f"{group} leaves by {route.iface} (index {route.ifindex})"
            head += f", source {route.source}" if route.source else ", without a source address"
        else:
            head = f"{group} goes nowhere"
        lines = [self._paint(escape(head), _BOLD if route.leaves else _RED)]
        for label, text in _facts(route, meaning):
            lines += _entry(label, escape(text))
        for _code, text, hint in route.warnings:
            wrapped = _entry("warning", escape(f"{text}; {hint}"))
            lines += [self._paint(one, _YELLOW) for one in wrapped]
        return lines

    def _paint(self, text: str, paint: str) -> str:
        return f"{paint}{text}{_PLAIN}" if self._color else text


def _facts(route: Route, meaning: Meaning) -> list[tuple[str, str]]:
    found = [("route", _decision(route))]
    if route.reverse:
        found.append(("back to", _reverse(route.reverse)))
    found.append(("scope", f"{meaning.scope}; {_reach(meaning)}"))
    shared = " ".join(meaning.ethernet_shared[:6])
    others = len(meaning.ethernet_shared)
    known = f"{others} other groups: {shared} ..." if shared else meaning.ethernet_pattern
    found.append(("ethernet", f"{meaning.ethernet}, shared with {known}"))
    found.append(("block", f"{meaning.block} ({meaning.reference})"))
    if meaning.name:
        found.append(("name", meaning.name))
    return found + [("meaning", text) for text in _sentences(meaning)]


def _decision(route: Route) -> str:
    if not route.leaves:
        return route.reason
    via = f" via {route.gateway}" if route.gateway else ""
    origin = f", set by {route.protocol}" if route.protocol else ""
    return f"{route.route_type}{via}: {route.reason}{origin}"


def _reverse(back: Reverse) -> str:
    if back.iface is None:
        return f"{back.source}: no route; rp_filter drops what comes from it"
    if back.local:
        return f"{back.source}: an address of this host"
    via = f" via {back.gateway}" if back.gateway else ""
    return f"{back.source}: by {back.iface}{via}; strict rp_filter takes it there only"


def _reach(meaning: Meaning) -> str:
    if meaning.ttl_needed == 0:
        return "stays on this host"
    if meaning.ttl_needed == 1:
        return "TTL 1 is enough: no router forwards it"
    return "TTL 1 stays on the link; each router on the way takes one more"


def _sentences(meaning: Meaning) -> list[str]:
    found = []
    if meaning.ssm:
        found.append("source-specific (SSM): receivers must name the sender")
    if meaning.glop_as is not None:
        found.append(f"GLOP: assigned to autonomous system {meaning.glop_as}")
    if meaning.unicast_prefix:
        found.append(f"assigned with the unicast prefix {meaning.unicast_prefix}")
    if meaning.rendezvous_point:
        found.append(f"embedded rendezvous point {meaning.rendezvous_point}")
    return found


def _entry(label: str, text: str) -> list[str]:
    """Return one labelled paragraph, at most 80 columns wide where words allow."""
    width = 78 - _LABEL
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"  {label if not at else '':<{_LABEL - 2}}{line}" for at, line in enumerate(lines)]


def _row(route: Route) -> list[str]:
    meaning = route.meaning()
    iface = f"{route.iface} ({route.ifindex})" if route.iface else route.asked_iface
    cells = (
        route.group,
        iface,
        route.source if route.leaves else None,
        route.gateway,
        route.route_type or "no route",
        route.table,
        None if route.rule is None else str(route.rule),
        meaning.scope,
        meaning.name,
    )
    return [escape(cell) if cell else "-" for cell in cells]
