"""`--message`: one message over many datagrams, split by `send` and stitched by `listen`."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from mcastctl.cli import options as shared
from mcastctl.cli import run
from mcastctl.model.errors import NO, YES, PayloadError, ValueRangeError
from mcastctl.model.limits import Limits
from mcastctl.model.records import Datagram, Message, Notice, Record
from mcastctl.model.run import Run
from mcastctl.net.loop import Loop

if TYPE_CHECKING:
    from mcastctl.model.message import Lost, Whole
    from mcastctl.net import payloads

Heard: TypeAlias = "Iterator[Record | Run]"
SIZE = 1400
_READ = 1 << 20

sending = shared.bundle(
    click.option("--message", is_flag=True, help="Send DATA, a file or stdin as one message."),
    click.option("--name", metavar="TEXT", help="--message of that name; a later one is newer."),
)
listening = click.option(
    "--message", is_flag=True, help="Put messages of send --message together again."
)


def check_sending(given: Mapping[str, Any]) -> None:
    """Refuse what is no message, and a name without one."""
    for name in ("probe", "raw_stdin", "replay"):
        if given["message"] and given[name]:
            raise PayloadError(
                f"--message and --{name.replace('_', '-')} contradict each other", hint="keep one"
            )
    if given["name"] is not None and not given["message"]:
        raise ValueRangeError("--name names a --message, which was not asked for", hint="add it")


def check_listening(given: Mapping[str, Any]) -> None:
    """Refuse what concerns single datagrams."""
    others = {"--exec": given["exec_command"], "--live": given["live"]}
    others |= {"--expect": given["expect"], "--expect-none": given["expect_none"]}
    for name, value in others.items() if given["message"] else ():
        if value:
            raise ValueRangeError(
                f"{name} concerns datagrams, --message prints messages", hint="keep one of them"
            )


def parts(given: Mapping[str, Any], targets: int) -> "payloads.Parts":
    """Read the message, whole, and return its parts. Raises PayloadError."""
    from mcastctl.model import message
    from mcastctl.net.payloads import Parts

    size = given["size"] or SIZE
    if size < message.MIN_SIZE:
        raise PayloadError(
            f"-s {size} is too small for a part of a message",
            hint=f"it takes {message.MIN_SIZE} or more",
        )
    content = _content(given, message.MOST_BYTES)
    if not message.fits(len(content), size):
        raise PayloadError(
            f"{len(content)} bytes in datagrams of -s {size} are more parts than a listener keeps",
            hint="let the datagrams be larger: -s 1400",
        )
    found = message.split(content, size, _name(given), time.time_ns())
    return Parts(found, targets, given["count"])


def _content(given: Mapping[str, Any], most: int) -> bytes:
    if given["data"] is not None:
        return os.fsencode(given["data"])
    if given["hex_data"] is not None:
        return bytes(given["hex_data"])
    from mcastctl.net import payloads

    descriptor = payloads.open_file(given["file"] or "-")
    content = bytearray()
    while read := payloads.read(descriptor, _READ):
        content += read
        if len(content) > most - most // 16:
            raise PayloadError(
                f"a message has at most {most - most // 16} bytes", hint="split what is longer"
            )
    return bytes(content)


def _name(given: Mapping[str, Any]) -> int:
    if given["name"] is None:
        return int.from_bytes(os.urandom(8), "big")
    from hashlib import sha256

    return int.from_bytes(sha256(os.fsencode(given["name"])).digest()[:8], "big")


class Stitching:
    """Messages instead of datagrams, until as many are whole as were asked for."""

    def __init__(self, count: int | None, limits: Limits) -> None:
        from mcastctl.model import message

        self._decode = message.decode
        self._stitcher = message.Stitcher()
        self._count = count
        self._limits = limits
        self._others = 0

    def of(self, records: Callable[[Loop], Heard]) -> Callable[[Loop], Heard]:
        """Return the records with messages in place of their parts, and nothing else heard."""

        def stitched(loop: Loop) -> Heard:
            for record in records(loop):
                if not isinstance(record, Run | Datagram):
                    yield record
                    continue
                for datagram in record.datagrams():
                    yield from self._take(datagram)
            yield from map(_notice, self._stitcher.end())

        return stitched

    def _take(self, datagram: Datagram) -> Iterator[Message | Notice]:
        part = self._decode(datagram.payload)
        if part is None or self._limits.reason == "count":
            self._others += part is None
            return
        from mcastctl.model.message import Lost

        source = (datagram.src, datagram.dst, datagram.dport)
        for event in self._stitcher.take(source, part):
            yield _notice(event) if isinstance(event, Lost) else _record(event, datagram)
        if self._count is not None and self._stitcher.whole >= self._count:
            self._limits.reason = "count"

    def ending(self, ask: Callable[[], run.Outcome]) -> Callable[[], run.Outcome]:
        """Return what judges the messages, too."""
        return lambda: self._judged(ask())

    def _judged(self, outcome: run.Outcome) -> run.Outcome:
        one = self._stitcher
        counts = {
            "whole": one.whole,
            "incomplete": one.lost,
            "evicted": one.evicted,
            "duplicate_parts": one.duplicates,
            "stale_parts": one.stale,
            "refused_parts": one.refused,
            "others": self._others,
        }
        wanted = self._count or 1
        unmet = [*_reasons(outcome)]
        if one.whole < wanted:
            unmet.append(f"{one.whole} of {wanted} expected messages are whole")
        if one.lost:
            unmet.append(f"{one.lost} messages are not whole")
        fields = {**outcome.fields, "messages": counts, "unmet": unmet}
        status = outcome.status if outcome.failed else NO if unmet else YES
        return outcome._replace(fields=fields, status=status)


def _reasons(outcome: run.Outcome) -> list[str]:
    found = outcome.fields.get("unmet")
    return found if isinstance(found, list) else []


def _record(whole: "Whole", last: Datagram) -> Message:
    datagram = last._replace(payload=whole.data, length=len(whole.data))
    return Message(datagram, whole.name, whole.sent_ns, whole.parts, whole.duplicates)


_WHY = {
    "newer": "a newer one came",
    "room": "others needed the room",
    "end": "no more came",
    "damaged": "its checksum is wrong",
}


def _notice(lost: "Lost") -> Notice:
    """Tell which parts of a message are missing."""
    ranges = [f"{a}" if a == b else f"{a}-{b}" for a, b in lost.missing]
    told = sum(b - a + 1 for a, b in lost.missing)
    listed = ", ".join(ranges) + (" ..." if told < lost.absent else "")
    text = f"message {lost.name:x} of {lost.source[0]} is not whole, {_WHY[lost.why]}"
    if lost.absent:
        text += f": {lost.absent} of {lost.parts} parts are missing ({listed})"
    more = (
        ("message", f"{lost.name:x}"),
        ("why", lost.why),
        ("parts", lost.parts),
        ("absent", lost.absent),
        ("missing", [list(one) for one in lost.missing]),
    )
    hint = "send it again (-c 2), slower (-b), or let it have a larger --rcvbuf"
    return Notice(time.time_ns(), "warning", "message", text, hint, more)
