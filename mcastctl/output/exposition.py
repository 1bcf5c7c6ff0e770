"""Families of metrics as text that Prometheus reads, and as compact JSON rows.

The text: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4), without
time stamps, which the textfile collector of node_exporter refuses.
"""

import math
from collections.abc import Iterator

from mcastctl.model.metrics import COUNTER, Family, Labels, Reading
from mcastctl.output.escape import escape

PREFIX = "mcastctl_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SCHEMA = "mcastctl-metrics-v1"


def text(reading: Reading, common: Labels) -> bytes:
    """Return the page of one reading; every sample has the labels `common` first."""
    head = _labelled(common)
    lines: list[str] = []
    for family in reading.families:
        if family.samples:
            lines.extend(_lines(family, head))
    return "\n".join([*lines, ""]).encode()


def _lines(family: Family, head: list[str]) -> Iterator[str]:
    name = f"{PREFIX}{family.name}" + ("_total" if family.kind == COUNTER else "")
    yield f"# HELP {name} {_quoted(family.help)}"
    yield f"# TYPE {name} {family.kind}"
    for labels, value in family.samples:
        written = ",".join([*head, *_labelled(labels)])
        yield f"{name}{{{written}}} {number(value)}" if written else f"{name} {number(value)}"


def _labelled(labels: Labels) -> list[str]:
    return [f'{name}="{_quoted(escape(value), mark=True)}"' for name, value in labels]


def _quoted(value: str, *, mark: bool = False) -> str:
    """Escape for the format; what `escape` returns holds no line end, but backslashes."""
    value = value.replace("\\", "\\\\").replace("\n", "\\n")
    return value.replace('"', '\\"') if mark else value


def number(value: float) -> str:
    """Return a number as the format writes it: NaN and infinities have names."""
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    return repr(value) if math.isfinite(value) else ("+Inf" if value > 0 else "-Inf")


def header(
    command: str, node: str, producer: str, ts_ns: int, flags: dict[str, object]
) -> dict[str, object]:
    """Return the one header of a file of rows."""
    return {
        "schema": SCHEMA,
        "artifact_type": f"mcastctl-{command}",
        "node_id": node,
        "producer": producer,
        "created_at": round(ts_ns / 1e9, 6),
        "flags": flags,
    }


def row(reading: Reading, before: dict[str, float]) -> dict[str, object]:
    """Return totals, deltas and rates of what the whole run counts, and its states.

    `before` are the totals of the row before; they are brought up to date.
    """
    fields: dict[str, object] = {
        "ts": round(reading.ts_ns / 1e9, 6),
        "interval_secs": round(reading.interval_s, 6),
    }
    for family in reading.families:
        for labels, value in family.samples:
            if labels:
                continue
            if family.kind != COUNTER:
                fields[family.name] = _rounded(value)
                continue
            moved = value - before.get(family.name, 0)
            before[family.name] = value
            rate = moved / reading.interval_s if reading.interval_s > 0 else 0.0
            fields[f"{family.name}_total"] = _rounded(value)
            fields[f"{family.name}_delta"] = _rounded(moved)
            fields[f"{family.name}_per_sec"] = round(rate, 3)
    return fields


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, 9)
