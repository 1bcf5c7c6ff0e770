"""Many datagrams of one flow to text or JSON lines: what they share is put into words once."""

import time
from collections.abc import Callable, Iterator
from itertools import repeat

from mcastctl.model.mark import PLAIN, RTP
from mcastctl.model.records import base64, printable
from mcastctl.model.run import Run
from mcastctl.output import text

_SECOND = 1_000_000_000


def lines(run: Run) -> Iterator[str]:
    """Yield what `text.datagram` says of each."""
    first = run.first
    start = text.where(first)
    last, clock, base = -1, "", run.base_ns
    if first.mark.kind == PLAIN:
        ends: Iterator[str] = (text.readable(payload) for payload in run.payloads)
    else:
        ends = (f"seq {number} {first.mark.kind}" for number in _numbers(run))
    for offset, end in zip(run.times_ns, ends, strict=True):
        whole, rest = divmod(base + offset, _SECOND)
        if whole != last:
            last, clock = whole, time.strftime("%H:%M:%S", time.localtime(whole))
        yield (
            f"{clock}.{rest // 1000:06d} {start} {end}"
            if end
            else (f"{clock}.{rest // 1000:06d} {start}")
        )


def json_lines(
    run: Run, encode: Callable[[object], str], quote: Callable[[str], str]
) -> Iterator[str]:
    """Yield the JSON form of each; `encode` encodes any value, `quote` text, and faster."""
    fields = run.first.to_dict()
    for varying in ("type", "ts", "seq", "payload", "payload_b64"):
        fields.pop(varying, None)
    shared = encode(fields)[1:-1]
    numbered = run.first.mark.seq is not None
    ends = (f',"seq":{one}' for one in _numbers(run)) if numbered else repeat("", run.number)
    base = run.base_ns + 500  # to the nearest microsecond
    for offset, end, payload in zip(run.times_ns, ends, run.payloads, strict=True):
        whole, rest = divmod((base + offset) // 1000, 1_000_000)
        text = printable(payload)
        key, value = ("payload", quote(text)) if text is not None else _binary(payload)
        yield f'{{"type":"datagram","ts":{whole}.{rest:06d},{shared}{end},"{key}":{value}}}'


def _binary(payload: bytes) -> tuple[str, str]:
    return "payload_b64", f'"{base64(payload)}"'


def _numbers(run: Run) -> Iterator[int]:
    first = run.first.mark.seq or 0
    mask = 0xFFFF if run.first.mark.kind == RTP else (1 << 64) - 1
    return (number & mask for number in range(first, first + run.number))
