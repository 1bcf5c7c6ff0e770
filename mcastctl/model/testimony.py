"""What another host says, believed as far as it is what mcastctl says: numbers, addresses, texts.

It comes from a program of another machine, of any version or none, so every field is checked; what
does not fit raises NotOurs, and that host is lost alone.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcastctl.model import address
from mcastctl.model.errors import AddressError
from mcastctl.model.matrix import Asked, Heard, Responder

_TEXT = 1000
_LINES = 50
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}", re.ASCII)
_IDENT = re.compile(r"[a-z0-9_.-]{1,60}", re.ASCII)
_STREAM = re.compile(r"[0-9a-f]{1,16}", re.ASCII)
_WHERE = ("sender", "network", "host", "socket")


class NotOurs(ValueError):
    """A record that no mcastctl prints."""


def addresses(interfaces: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the addresses of a host's interfaces but loopback. Raises NotOurs."""
    found = []
    for one in interfaces:
        if one.get("loopback") is not True:
            listed = one.get("addresses", [])
            found += [_address(each, "address") for each in _list(listed)]
    return tuple(found)


def heard(group: str, summary: Mapping[str, Any]) -> dict[str, Heard]:
    """Return what the summary of `echo` has of each stream sent to the group, by its identity.

    Raises NotOurs.
    """
    found = {}
    for one in _list(summary.get("streams")):
        if _field(one, "dst") != group or _field(one, "stream") is None:
            continue
        packets, again = _count(one, "packets"), _count(one, "duplicates")
        if again > packets:
            raise NotOurs("more duplicates than packets")
        ttl = None if _field(one, "ttl") is None else _count(one, "ttl")
        source = _address(one, "src")
        found[_matching(one, "stream", _STREAM)] = Heard(source, packets - again, again, ttl)
    return found


def asked(summary: Mapping[str, Any]) -> Asked:
    """Return what the summary of `ping` says. Raises NotOurs."""
    responders = {}
    for one in _list(summary.get("responders")):
        leg = _field(one, "multicast")
        received = _count(leg, "received")
        if received:
            hops = None if _field(leg, "hops") is None else _count(leg, "hops")
            again, rtt_ms = _count(leg, "duplicates"), _amount(leg, "rtt_avg_ms")
            responders[_address(one, "responder")] = Responder(received, again, rtt_ms, hops)
    requests = _count(summary, "requests") if _count(summary, "sent") else 0
    return Asked(_matching(summary, "stream", _STREAM), requests, responders)


def version(start: Mapping[str, Any]) -> str | None:
    """Return the version a host calls its own, None if that is no version."""
    said = start.get("version")
    return said if isinstance(said, str) and _VERSION.fullmatch(said) else None


def finding(record: Mapping[str, Any]) -> dict[str, object] | None:
    """Return a doctor's finding of severity error with the keys that it has here, else None."""
    if record.get("type") != "finding" or record.get("severity") != "error":
        return None
    try:
        where = _field(record, "where")
        if where not in _WHERE:
            raise NotOurs("no such place")
        return {
            "id": _matching(record, "id", _IDENT),
            "severity": "error",
            "title": _text(record, "title"),
            "evidence": [str(one)[:_TEXT] for one in _list(record.get("evidence"))[:_LINES]],
            "hint": _text(record, "hint"),
            "where": where,
            "certain": "proved" if record.get("certain") == "proved" else "inferred",
        }
    except NotOurs:
        return None


def reason(notice: Mapping[str, Any]) -> str:
    """Return what a notice says, '' for what is none."""
    said = notice.get("text")
    return said[:_TEXT] if isinstance(said, str) else ""


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise NotOurs("no list")
    return value


def _field(record: object, name: str) -> Any:
    if not isinstance(record, dict) or name not in record:
        raise NotOurs(f"without {name}")
    return record[name]


def _count(record: object, name: str) -> int:
    value = _field(record, name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise NotOurs(f"{name} counts nothing")
    return value


def _amount(record: object, name: str) -> float | None:
    value = _field(record, name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise NotOurs(f"{name} is no number")
    if not 0 <= value < 1e12 or not math.isfinite(value):
        raise NotOurs(f"{name} is out of range")
    return float(value)


def _text(record: object, name: str) -> str:
    value = _field(record, name)
    if not isinstance(value, str):
        raise NotOurs(f"{name} is no text")
    return value[:_TEXT]


def _matching(record: object, name: str, pattern: re.Pattern[str]) -> str:
    value = _text(record, name)
    if not pattern.fullmatch(value):
        raise NotOurs(f"{name} is not spelled like one")
    return value


def _address(record: object, name: str) -> str:
    """Return an ordinary address, without a zone: that is the other host's."""
    try:
        found = address.canonical(_text(record, name).partition("%")[0], "")
    except AddressError as error:
        raise NotOurs(f"{name} is no address") from error
    if address.is_multicast(found):
        raise NotOurs(f"{name} is a group")
    return found
