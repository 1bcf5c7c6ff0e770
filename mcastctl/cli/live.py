"""The live half of `mcastctl sniff`: open as root, give root away, then decode and print."""

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mcastctl.capture import privilege
from mcastctl.capture.live import Live, Wanted
from mcastctl.cli import options, run
from mcastctl.model.errors import NO, YES
from mcastctl.model.limits import Limits
from mcastctl.model.records import Notice, Record
from mcastctl.net import nic

if TYPE_CHECKING:
    from mcastctl.decode.packet import Decoder
    from mcastctl.net.loop import Loop
    from mcastctl.output.sinks import Sink

EVERY = "any"
"""The name for all interfaces, as libpcap has it."""


def wanted(given: dict[str, Any]) -> Wanted:
    """Return what the options ask to capture. Raises InterfaceError."""
    names = given["iface"] or (EVERY,)
    found = [] if EVERY in names else [nic.find(one) for one in names]
    return Wanted(
        tuple(dict.fromkeys((one.name, one.ifindex) for one in found)),
        " ".join(given["expression"]),
        given["direction"] or "",
        given["promisc"],
        given["rcvbuf"],
        given["size"],
    )


def capture(given: dict[str, Any]) -> int:
    """Capture and show; return the exit status."""
    name = options.snapshot_format(given["output"], given["as_json"])
    what = wanted(given)
    if given["write"] is not None:
        from mcastctl.cli import dump

        return dump.capture(given, what, name)
    who = privilege.target(os.environ)
    changed = privilege.lower(who)
    live = Live(what)
    privilege.surrender(who)
    # Only now may anything be loaded that looks into frames.
    from mcastctl.decode.packet import Decoder

    decoder = Decoder()
    limits = Limits(
        time.monotonic_ns(),
        count=given["count"],
        timeout_s=given["timeout"],
        idle_s=given["idle"],
    )
    sink, records = _sink(name, given, decoder, limits), _slices
    if name != "text":
        records = _packets
    started_ns = time.monotonic_ns()

    def everything(loop: "Loop") -> Iterator[Record]:
        yield from banner(what, who if changed else None)
        yield from records(live, loop, limits, decoder)
        yield from dropped_frames(live.drops())

    def outcome() -> run.Outcome:
        fields: dict[str, object] = {
            "packets": limits.taken,
            "elapsed_s": round((time.monotonic_ns() - started_ns) / 1e9, 6),
            "malformed": decoder.malformed,
            "kernel_drops": live.drops(),
        }
        few = limits.count is not None and limits.taken < limits.count
        return run.Outcome(limits.reason, fields, NO if few or not limits.taken else YES)

    try:
        return run.stream(
            "sniff", [what.expression] if what.expression else [], sink, everything, outcome
        )
    finally:
        live.close()


def _sink(name: str, given: dict[str, Any], decoder: "Decoder", limits: Limits) -> "Sink":
    from mcastctl.decode.protocols import is_plain
    from mcastctl.output import live, packets

    if name != "text":
        return packets.PacketJson(quiet=given["quiet"])
    look = packets.Look(given["detail"] or "", given["link"], given["verbose"])
    return live.LiveText(decoder.decode, is_plain, look, limits, quiet=given["quiet"])


def _slices(live: Live, loop: "Loop", limits: Limits, decoder: "Decoder") -> Iterator[Any]:
    """Yield blocks as they are; the sink notes what it took."""
    return live.slices(loop, limits)


def _packets(live: Live, loop: "Loop", limits: Limits, decoder: "Decoder") -> Iterator[Record]:
    """Yield the frames decoded."""
    from mcastctl.model.ring import frames

    for block in live.slices(loop, limits):
        if isinstance(block, Notice):
            yield block
            continue
        for frame in frames(block):
            if not limits.room(1):
                break
            limits.take(1, time.monotonic_ns())
            yield decoder.decode(frame, limits.taken)


def banner(what: Wanted, who: privilege.Identity | None) -> Iterator[Notice]:
    """Say where and as whom the capture runs."""
    where = ", ".join(f"{name} (index {index})" for name, index in what.interfaces)
    text = f"capturing on {where or 'all interfaces'}, ring {what.ring / (1 << 20):g} MiB"
    yield Notice(time.time_ns(), "info", "capturing", text)
    runs = f"runs as {who.name}" if who else f"runs as uid {os.geteuid()}"
    yield Notice(time.time_ns(), "info", "privilege", f"{runs}, without capabilities")


def dropped_frames(dropped: int) -> Iterator[Notice]:
    """Say what this host lost because it looked too slowly."""
    if dropped:
        text = f"this host dropped {dropped} frames: the capture ring was full"
        hint = "raise --rcvbuf, narrow the filter, or write to a file with -w"
        yield Notice(time.time_ns(), "warning", "kernel-drops", text, hint)
