"""`mcastctl sniff -w`: a live capture into files, with nothing of it looked at."""

import os
import time
from collections.abc import Iterator
from typing import Any

from mcastctl.capture import privilege
from mcastctl.capture.live import Wanted
from mcastctl.capture.savefile import Rotation, Savefile
from mcastctl.cli import live, run
from mcastctl.model import watch
from mcastctl.model.records import Record
from mcastctl.net.loop import Loop
from mcastctl.output.sinks import Sink


def capture(given: dict[str, Any], what: Wanted, name: str) -> int:
    """Capture into a file; return the exit status."""
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
    limits = live.run_limits(given)
    started_ns = time.monotonic_ns()

    def records(loop: Loop) -> Iterator[Record]:
        yield from live.banner(what, who if changed else None)
        yield from dump.run(loop, limits)
        yield from live.dropped_frames(dump.drops())

    def outcome() -> run.Outcome:
        elapsed_s = (time.monotonic_ns() - started_ns) / 1e9
        fields = watch.totals(savefile.written, savefile.octets, elapsed_s) | {
            "written": savefile.written,
            "files": list(savefile.names),
            "kernel_drops": dump.drops(),
        }
        return run.Outcome(limits.reason, fields, live.status(limits))

    try:
        return run.stream("sniff", live.asked(what), _sink(name, given), records, outcome)
    finally:
        dump.close()
        savefile.close()


def _sink(name: str, given: dict[str, Any]) -> Sink:
    from mcastctl.output import packets

    if name != "text":
        return packets.PacketJson(quiet=given["quiet"])
    return packets.Messages(quiet=given["quiet"], verbose=given["verbose"])
