"""The live half of `mcastctl sniff`: open as root, give root away, then decode and print."""

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mcastctl.capture import privilege
from mcastctl.capture.live import Live, Wanted, open_live
from mcastctl.capture.ring import LEAST, MOST
from mcastctl.cli import options, packets, refusals, run
from mcastctl.model.errors import NO, YES
from mcastctl.model.limits import Limits
from mcastctl.model.records import Notice, Record
from mcastctl.net import nic

if TYPE_CHECKING:
    from mcastctl.capture.anywhere import Sockets
    from mcastctl.decode.explain import Explainer
    from mcastctl.net.loop import Loop

EVERY = "any"
"""The name for all interfaces, as libpcap has it."""
_ASK_NS = 500_000_000
"""How often this host's memberships are read for the table of streams."""


def wanted(given: dict[str, Any]) -> Wanted:
    """Return what the options ask to capture. Raises InterfaceError."""
    names = given["iface"] or (EVERY,)
    found = [] if EVERY in names else [nic.find(one) for one in names]
    return Wanted(
        tuple(dict.fromkeys((one.name, one.ifindex) for one in found)),
        " ".join(given["expression"]),
        given["direction"] or "",
        given["promisc"],
        max(LEAST, min(given["rcvbuf"], MOST)),
        given["size"],
        given["control"],
    )


def capture(given: dict[str, Any]) -> int:
    """Capture and show; return the exit status."""
    name = options.snapshot_format(given["output"], given["as_json"])
    refusals.check(given, name)
    options.enter_netns(given["netns"])
    what = wanted(given)
    if given["write"] is not None:
        from mcastctl.cli import dump

        return dump.capture(given, what, name)
    who = privilege.target(os.environ)
    changed = privilege.lower(who)
    live = open_live(what)
    privilege.surrender(who)
    explainer = packets.explain(given, name)  # only now is anything loaded that looks into frames
    limits = run.limits(given)
    each = name != "text" or given["streams"] or given["control"]

    def counts() -> dict[str, int]:
        return {"dropped here": live.drops(), "packets": limits.taken}

    sink = packets.open_sink(name, given, explainer, counts, limits)
    started_ns = time.monotonic_ns()

    def everything(loop: "Loop") -> Iterator[Any]:
        yield from banner(what, who if changed else None)
        if each:
            yield from _records(live, loop, limits, explainer)
        else:
            yield from live.slices(loop, limits)  # the sink notes what it took
        yield from dropped_frames(live.drops())

    def outcome() -> run.Outcome:
        elapsed_s = (time.monotonic_ns() - started_ns) / 1e9
        fields = explainer.summary(limits.taken, elapsed_s) | {"kernel_drops": live.drops()}
        return run.Outcome(limits.reason, fields, status(limits))

    try:
        return run.stream("sniff", asked(what), sink, everything, outcome)
    finally:
        live.close()


def status(limits: Limits) -> int:
    """Return the exit status: no when fewer came than asked for, or nothing at all."""
    few = limits.count is not None and limits.taken < limits.count
    return NO if few or not limits.taken else YES


def asked(what: Wanted) -> list[str]:
    """Return the filter, for the first record."""
    return [what.expression] if what.expression else []


def _records(
    live: "Live | Sockets", loop: "Loop", limits: Limits, explainer: "Explainer"
) -> Iterator[Record]:
    """Yield the frames decoded."""
    from mcastctl.model.ring import frames

    asked_ns = 0
    for block in live.slices(loop, limits):
        if isinstance(block, Notice):
            yield block
            continue
        if time.monotonic_ns() >= asked_ns + _ASK_NS:
            asked_ns = time.monotonic_ns()
            _look_who_joined(explainer)
        for frame in frames(block):
            if not limits.room(1):
                break
            limits.take(1, time.monotonic_ns())
            yield from explainer.explain(frame, limits.taken)
    _look_who_joined(explainer)


def _look_who_joined(explainer: "Explainer") -> None:
    """Tell the table of streams which groups this host has joined by now."""
    if explainer.watch is not None:
        from mcastctl.host import joined

        explainer.watch.joined = joined.pairs()


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
