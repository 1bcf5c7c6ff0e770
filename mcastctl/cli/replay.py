"""`send --replay`: the UDP payloads of a capture, and when each is due."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from mcastctl.cli import options as shared
from mcastctl.cli import params as p
from mcastctl.model.errors import PayloadError, ValueRangeError
from mcastctl.model.limits import Limits
from mcastctl.net.payloads import Recorded

if TYPE_CHECKING:
    from mcastctl.model.pacing import Timetable

_FASTEST = 1e6


def parse_speed(text: str) -> float:
    """Parse how many times as fast: '2x', '0.5x', '2'."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?x?", text):
        speed = float(text.removesuffix("x"))
        if 1 / _FASTEST <= speed <= _FASTEST:
            return speed
    raise ValueRangeError(
        f"'{text}' is no speed", hint="write 2x for twice as fast, 0.5x for half, or --flood"
    )


options = shared.bundle(
    click.option("--replay", type=p.FILE, help="Send the UDP payloads of a capture again."),
    click.option(
        "--replay-filter",
        metavar="EXPR",
        help="Only what passes this filter: 'dst 239.1.1.1', as for sniff.",
    ),
    click.option(
        "--speed", type=p.Parsed("factor", parse_speed), help="--replay faster: 2x (slower: 0.5x)."
    ),
)


def check(given: Mapping[str, Any]) -> None:
    """Refuse what means nothing without --replay, or beside it."""
    for name in ("speed", "replay_filter"):
        if given["replay"] is None and given[name] is not None and shared.typed(name):
            raise ValueRangeError(
                f"--{name.replace('_', '-')} concerns --replay, which was not asked for",
                hint=f"add --replay FILE, or leave --{name.replace('_', '-')} out",
            )
    if given["speed"] is not None and (given["flood"] or _paced(given)):
        raise PayloadError("two rates were given", hint="keep --speed or the other one")


def _paced(given: Mapping[str, Any]) -> bool:
    return any(given[name] is not None for name in ("interval", "pps", "bitrate"))


def payloads(given: Mapping[str, Any], targets: int) -> Recorded:
    """Open the capture. Raises CaptureFileError, FilterError, PayloadError."""
    from pathlib import Path

    from mcastctl.capture import reading
    from mcastctl.decode.explain import Explainer
    from mcastctl.decode.packet import Decoder

    path = given["replay"]
    if path == "-" or (Path(path).exists() and not Path(path).is_file()):
        raise PayloadError(
            f"cannot replay {path}: it is no ordinary file", hint="store the capture in a file"
        )
    words = given["replay_filter"]
    keep = reading.Filter(words) if words else None
    capture = reading.Reading(
        path,
        Limits(0, count=None, timeout_s=None, idle_s=None),
        Explainer(Decoder(), None, None),
        keep,
    )
    found = Recorded(_datagrams(capture.records()), targets, given["count"])
    if found.ended and not found.cut:
        raise PayloadError(
            f"{path} holds no UDP datagram" + (" that passes the filter" if words else ""),
            hint="look into it: mcastctl sniff -r FILE",
        )
    return found


def _datagrams(records: Iterator[Any]) -> Iterator[tuple[int, bytes, bool]]:
    """Yield time in ns, payload, and whether it is whole, of every UDP datagram."""
    for one in records:
        if "payload_length" in getattr(one, "fields", ()):
            yield one.ts_ns, one.payload, len(one.payload) == one.payload_length


def timetable(given: Mapping[str, Any], recorded: object) -> "Timetable | None":
    """Return when each datagram is due, None where another rate was asked for."""
    if not isinstance(recorded, Recorded) or given["flood"] or _paced(given):
        return None
    from mcastctl.model.pacing import Timetable

    return Timetable(recorded.due_ns, given["speed"] or 1.0)
