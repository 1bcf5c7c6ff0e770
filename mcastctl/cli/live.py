"""The live half of `mcastctl sniff`: open as root, give root away, then decode and print."""

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from mcastctl.capture import privilege
from mcastctl.capture.live import Wanted, open_live
from mcastctl.capture.ring import LEAST, MOST
from mcastctl.cli import options, refusals, run, sniff
from mcastctl.model.errors import NO, YES
from mcastctl.model.limits import Limits
from mcastctl.model.records import Notice, Record
from mcastctl.net import nic, presence
from mcastctl.net.presence import Presence

if TYPE_CHECKING:
    from mcastctl.capture.anywhere import Sockets
    from mcastctl.capture.live import Live
    from mcastctl.decode.explain import Explainer
    from mcastctl.net.loop import Loop


class Capturing(Protocol):
    """What every kind of capture has."""

    def drops(self) -> int:
        """Return how many frames found no room."""

    def close(self) -> None:
        """End it."""


C = TypeVar("C", bound=Capturing)

EVERY = "any"
"""The name for all interfaces, as libpcap has it."""
_ASK_NS = 500_000_000
"""How often this host's memberships are read for the table of streams."""


def named(given: dict[str, Any]) -> list[str]:
    """Return what -i names, nothing for all interfaces."""
    return [] if EVERY in given["iface"] else list(given["iface"])


def wanted(given: dict[str, Any]) -> Wanted:
    """Return what the options ask to capture. Raises InterfaceError."""
    found = [nic.find(one) for one in named(given)]
    return Wanted(
        tuple(dict.fromkeys((one.name, one.ifindex) for one in found)),
        " ".join(given["expression"]),
        given["direction"] or "",
        given["promisc"],
        max(LEAST, min(given["rcvbuf"], MOST)),
        given["size"],
        given["control"],
    )


class Opening(Generic[C]):
    """A capture with its interfaces: open from the start, with --wait when these are there.

    `start` opens it; then the privilege that took is given away.
    """

    def __init__(
        self,
        given: dict[str, Any],
        who: privilege.Identity | None,
        start: Callable[[Wanted, Presence], C],
    ) -> None:
        self._given, self._who, self._start = given, who, start
        self._waited_s = 0.0
        self.what: Wanted | None = None
        self.opened: C | None = None
        self.present: Presence | None = None
        if not given["wait"]:
            self._open()

    def _open(self) -> None:
        self.what = wanted(self._given)
        texts = named(self._given)
        self.present = Presence([(text, nic.find(text)) for text in texts])
        self.opened = self._start(self.what, self.present)
        privilege.surrender(self._who)

    def begin(
        self, loop: "Loop", limits: Limits, runs_as: privilege.Identity | None
    ) -> Iterator[Notice]:
        """Wait if need be, and say where it captures, and as whom."""
        if self.opened is None:
            began_ns = time.monotonic_ns()
            yield from presence.appear(named(self._given), loop, limits)
            self._waited_s = (time.monotonic_ns() - began_ns) / 1e9
            if limits.reason:
                privilege.surrender(self._who)
                return
            self._open()
        if self.what is not None and self.present is not None:
            yield from banner(self.what, runs_as)
            yield from self.present.begin()

    def end(self) -> Iterator[Notice]:
        """Say what could not be heard to the end, and what was dropped."""
        if self.present is not None:
            yield from self.present.end()
        yield from dropped_frames(self.drops())

    def drops(self) -> int:
        """Return how many frames found no room."""
        return 0 if self.opened is None else self.opened.drops()

    def summary(self) -> dict[str, object]:
        """Return the counters that every capture has."""
        deaf_s = 0.0 if self.present is None else self.present.deaf_s()
        return {"kernel_drops": self.drops(), "deaf_s": round(self._waited_s + deaf_s, 6)}

    def close(self) -> None:
        """End the capture."""
        if self.opened is not None:
            self.opened.close()
        if self.present is not None:
            self.present.close()


def capture(given: dict[str, Any]) -> int:
    """Capture and show; return the exit status."""
    name = options.snapshot_format(given["output"], given["as_json"])
    refusals.check(given, name)
    options.enter_netns(given["netns"])
    if given["write"] is not None:
        from mcastctl.cli import dump

        return dump.capture(given, name)
    if not given["wait"]:
        wanted(given)  # what is not there is said first
    who = privilege.target(os.environ)
    changed = privilege.lower(who)
    opening: Opening[Live | Sockets] = Opening(given, who, open_live)
    explainer = sniff.explain(given, name)  # only now is anything loaded that looks into frames
    started_ns = time.monotonic_ns()
    limits = run.limits(given)
    each = name != "text" or given["streams"] or given["control"]
    sink = sniff.open_sink(name, given, explainer, limits)

    def everything(loop: "Loop") -> Iterator[Any]:
        yield from opening.begin(loop, limits, who if changed else None)
        live = opening.opened
        if live is not None and each:
            yield from _records(live, loop, limits, explainer)
        elif live is not None:
            yield from live.slices(loop, limits)  # the sink notes what it took
        yield from opening.end()

    def outcome() -> run.Outcome:
        elapsed_s = (time.monotonic_ns() - started_ns) / 1e9
        fields = explainer.summary(limits.taken, elapsed_s) | opening.summary()
        return run.Outcome(limits.reason, fields, status(limits))

    try:
        return run.stream("sniff", asked(given), sink, everything, outcome)
    finally:
        opening.close()


def status(limits: Limits) -> int:
    """Return the exit status: no when fewer came than asked for, or nothing at all."""
    few = limits.count is not None and limits.taken < limits.count
    return NO if few or not limits.taken else YES


def asked(given: dict[str, Any]) -> list[str]:
    """Return the filter, for the first record."""
    return [" ".join(given["expression"])] if given["expression"] else []


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
