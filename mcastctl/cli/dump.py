"""`mcastctl sniff -w`: a live capture into files, with nothing of it looked at."""

import os
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from mcastctl.capture import privilege
from mcastctl.capture.live import RINGS, Wanted
from mcastctl.capture.savefile import EMPTY, Rotation, Savefile, Series
from mcastctl.cli import live, run
from mcastctl.cli.live import Opening
from mcastctl.model import watch
from mcastctl.model.errors import COULD_NOT_ASK, McastError
from mcastctl.model.records import Record
from mcastctl.net import nic
from mcastctl.net.loop import Loop
from mcastctl.net.presence import Presence
from mcastctl.output.sinks import Sink

if TYPE_CHECKING:
    from mcastctl.capture.dump import Dump
    from mcastctl.capture.framefile import FrameDump, FrameFile


def capture(given: dict[str, Any], name: str) -> int:
    """Capture into a file; return the exit status."""
    if not given["wait"]:
        live.wanted(given)  # what is not there is said before anything is written
    who = privilege.target(os.environ)
    # The caller of sudo gets only files he may write, and they are his; root's own is root's.
    # Files in a row are all of one owner: who takes the last ones away must own the first.
    rotation = _rotation(given)
    early = not rotation and (who is None or not who.invoker)
    file = _open(given) if early else None
    changed = privilege.lower(who)
    Series(given["write"], rotation).check(who.name if who and changed else "")
    file = file or _open(given)
    opening: Opening[Dump | FrameDump] = Opening(given, who, partial(_start, file))
    limits = run.limits(given)
    started_ns = time.monotonic_ns()

    def records(loop: Loop) -> Iterator[Record]:
        yield from opening.begin(loop, limits, who if changed else None)
        if opening.opened is not None:
            yield from opening.opened.run(loop, limits)
        elif isinstance(file, Savefile):
            file.begin(EMPTY)
        yield from opening.end()

    def outcome() -> run.Outcome:
        failed = _close(file)
        elapsed_s = (time.monotonic_ns() - started_ns) / 1e9
        fields = watch.totals(file.written, file.octets, elapsed_s) | {
            "written": file.written,
            "files": list(file.series.names),
            **opening.summary(),
        }
        status = live.status(limits) if failed is None else COULD_NOT_ASK
        return run.Outcome(limits.reason, fields, status, failed)

    try:
        return run.stream("sniff", live.asked(given), _sink(name, given), records, outcome)
    finally:
        opening.close()


def _open(given: dict[str, Any]) -> "Savefile | FrameFile":
    """Open what is written to: libpcap fills a pcap file of one interface, or of all."""
    path, rotation = given["write"], _rotation(given)
    if path.endswith(".pcapng") or _several(given) or not RINGS:
        from mcastctl.capture.framefile import FrameFile

        return FrameFile(path, rotation)
    return Savefile(path, rotation)


def _rotation(given: dict[str, Any]) -> Rotation:
    return Rotation(*(given[f"rotate_{one}"] for one in ("size", "time", "packets", "keep")))


def _several(given: dict[str, Any]) -> bool:
    """Tell whether -i names more than one interface; each may go by several names."""
    return len({nic.find(one, late=True) for one in live.named(given)}) > 1


def _start(file: "Savefile | FrameFile", what: Wanted, present: Presence) -> "Dump | FrameDump":
    if isinstance(file, Savefile):
        from mcastctl.capture.dump import Dump  # loads scapy's bindings of libpcap

        return Dump(what, file, present)
    from mcastctl.capture.framefile import FrameDump

    return FrameDump(what, file, present)


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
