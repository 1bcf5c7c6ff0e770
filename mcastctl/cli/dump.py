"""`mcastctl sniff -w`: a live capture into files, with nothing of it looked at."""

import os
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from mcastctl.capture import privilege
from mcastctl.capture.live import Wanted
from mcastctl.capture.savefile import Rotation, Savefile
from mcastctl.cli import live, run
from mcastctl.model.errors import NO, YES, ValueRangeError
from mcastctl.model.limits import Limits
from mcastctl.model.records import Record
from mcastctl.net.loop import Loop
from mcastctl.output.sinks import Sink


def capture(given: dict[str, Any], what: Wanted, name: str) -> int:
    """Capture into a file; return the exit status."""
    if given["write"] == "-" and name != "text":
        raise ValueRangeError("-j and -w - both want standard output", hint="name a file for -w")
    rotation = Rotation(*(given[f"rotate_{one}"] for one in ("size", "time", "packets", "keep")))
    who = privilege.target(os.environ)
    # The caller of sudo gets only files he may write, and they are his; root's own are root's.
    early = who is None or not who.invoker
    savefile = Savefile(given["write"], rotation) if early else None
    changed = privilege.lower(who)
    savefile = savefile or Savefile(given["write"], rotation)
    savefile.check_next(who.name if who and changed else "this user")
    from mcastctl.capture.dump import Dump  # loads scapy's bindings of libpcap

    dump = Dump(what, savefile)
    privilege.surrender(who)
    limits = Limits(
        time.monotonic_ns(),
        count=given["count"],
        timeout_s=given["timeout"],
        idle_s=given["idle"],
    )
    started_ns = time.monotonic_ns()

    def records(loop: Loop) -> Iterator[Record]:
        yield from live.banner(what, who if changed else None)
        yield from dump.run(loop, limits)
        yield from live.dropped_frames(dump.drops())

    def outcome() -> run.Outcome:
        fields: dict[str, object] = {
            "packets": limits.taken,
            "elapsed_s": round((time.monotonic_ns() - started_ns) / 1e9, 6),
            "written": savefile.written,
            "files": list(savefile.names),
            "kernel_drops": dump.drops(),
        }
        few = limits.count is not None and limits.taken < limits.count
        status = NO if few or not limits.taken else YES
        return run.Outcome(limits.reason, fields, status)

    try:
        asked = [what.expression] if what.expression else []
        return run.stream("sniff", asked, _sink(name, given, limits), records, outcome)
    finally:
        dump.close()
        savefile.close()


def _sink(name: str, given: dict[str, Any], limits: Limits) -> Sink:
    from mcastctl.output import live as lines
    from mcastctl.output import packets

    if name != "text":
        return packets.PacketJson(quiet=given["quiet"])
    look = packets.Look(verbose=given["verbose"])
    return lines.LiveText(_nobody, _nobody, look, limits, quiet=given["quiet"])


def _nobody(*_: object) -> NoReturn:
    raise AssertionError("a capture into a file shows no packets")
