"""`mcastctl sniff -w`: a live capture into files, with nothing of it looked at."""

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mcastctl.capture import privilege
from mcastctl.capture.live import RINGS, Wanted
from mcastctl.capture.savefile import Rotation, Savefile
from mcastctl.cli import live, run
from mcastctl.model import watch
from mcastctl.model.errors import COULD_NOT_ASK, McastError
from mcastctl.model.records import Record
from mcastctl.net.loop import Loop
from mcastctl.output.sinks import Sink

if TYPE_CHECKING:
    from mcastctl.capture.dump import Dump
    from mcastctl.capture.framefile import FrameDump, FrameFile


def capture(given: dict[str, Any], what: Wanted, name: str) -> int:
    """Capture into a file; return the exit status."""
    who = privilege.target(os.environ)
    # The caller of sudo gets only files he may write, and they are his; root's own are root's.
    early = who is None or not who.invoker
    file = _open(given, what) if early else None
    changed = privilege.lower(who)
    file = file or _open(given, what)
    file.series.check(who.name if who and changed else "")
    dump = _start(what, file)
    privilege.surrender(who)
    limits = run.limits(given)
    started_ns = time.monotonic_ns()

    def records(loop: Loop) -> Iterator[Record]:
        yield from live.banner(what, who if changed else None)
        yield from dump.run(loop, limits)
        yield from live.dropped_frames(dump.drops())

    def outcome() -> run.Outcome:
        failed = _close(file)
        elapsed_s = (time.monotonic_ns() - started_ns) / 1e9
        fields = watch.totals(file.written, file.octets, elapsed_s) | {
            "written": file.written,
            "files": list(file.series.names),
            "kernel_drops": dump.drops(),
        }
        status = live.status(limits) if failed is None else COULD_NOT_ASK
        return run.Outcome(limits.reason, fields, status, failed)

    try:
        return run.stream("sniff", live.asked(what), _sink(name, given), records, outcome)
    finally:
        dump.close()


def _open(given: dict[str, Any], what: Wanted) -> "Savefile | FrameFile":
    """Open what is written to: libpcap fills a pcap file of one interface, or of all."""
    path = given["write"]
    rotation = Rotation(*(given[f"rotate_{one}"] for one in ("size", "time", "packets", "keep")))
    if path.endswith(".pcapng") or len(what.interfaces) > 1 or not RINGS:
        from mcastctl.capture.framefile import FrameFile

        return FrameFile(path, rotation)
    return Savefile(path, rotation)


def _start(what: Wanted, file: "Savefile | FrameFile") -> "Dump | FrameDump":
    if isinstance(file, Savefile):
        from mcastctl.capture.dump import Dump  # loads scapy's bindings of libpcap

        return Dump(what, file)
    from mcastctl.capture.framefile import FrameDump

    return FrameDump(what, file)


def _close(file: "Savefile | FrameFile") -> McastError | None:
    """Close the file; return why not all of it could be written."""
    try:
        file.close()
    except McastError as error:
        return error
    return None


def _sink(name: str, given: dict[str, Any]) -> Sink:
    from mcastctl.output import packets

    if name != "text":
        return packets.PacketJson(quiet=given["quiet"])
    return packets.Messages(quiet=given["quiet"], verbose=given["verbose"])
