"""The frame of a streaming command: start line, records, summary, exit status."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from errno import EADDRINUSE
from typing import TYPE_CHECKING, Any, NamedTuple

from mcastctl import __version__
from mcastctl.cli import options
from mcastctl.model.errors import COULD_NOT_ASK, McastError, SocketError
from mcastctl.model.limits import Limits
from mcastctl.model.records import Notice, Record, Report, Start
from mcastctl.model.shortage import shortage
from mcastctl.net.loop import QUIT, Loop
from mcastctl.output import sinks
from mcastctl.output.sinks import Sink
from mcastctl.output.stream import OutputError

if TYPE_CHECKING:
    from mcastctl.cli.metrics import Exporter
    from mcastctl.model.aside import Aside
    from mcastctl.model.run import Run

_SIGPIPE = 13


class Outcome(NamedTuple):
    """How a run ended: why, the fields of its summary, and the status it deserves.

    `failed` is why the question could not be answered after all.
    """

    reason: str
    fields: dict[str, object]
    status: int
    failed: McastError | None = None


def open_sink(given: Mapping[str, Any], *extra_formats: str) -> tuple[str, Sink]:
    """Return the format the output options ask for, and its sink."""
    name = options.output_format(given["output"], given["as_json"], extra_formats)
    if name != "text":
        options.refuse_dumps(given, options.spelled_format(given, name))
    detail = given["detail"] or ""
    return name, sinks.open_sink(
        name, quiet=given["quiet"], verbose=given["verbose"], detail=detail
    )


def stream(
    command: str,
    endpoints: list[str],
    sink: Sink,
    records: Callable[[Loop], Iterator["Record | Run"]],
    outcome: Callable[[], Outcome],
    *,
    aside: "Aside | None" = None,
    exporter: "Exporter | None" = None,
) -> int:
    """Print what `records` yields between start and summary; return the exit status.

    `aside` has its turns meanwhile; without one, what the sink brings; and `exporter`, which tells
    how it ended before the summary does. `outcome` is asked when
    nothing more comes, whatever ended it: limits, a signal, a reader that went away, a full
    disk. A signal's status is 128 and its number.
    """
    failed: McastError | None = None
    broken = False
    aside = aside or sink.aside
    if exporter is not None:
        aside = exporter.beside(aside, sink.write)
        records, outcome = _measured(exporter, records, outcome)
    with Loop(before_wait=sink.flush, aside=aside) as loop:
        try:
            sink.write(Start(time.time_ns(), __version__, command, endpoints))
            for record in records(loop):
                if aside is not None:
                    aside.clear()
                sink.write(record)
            sink.flush()
        except BrokenPipeError:
            broken = True
        except (McastError, OSError, ImportError, MemoryError) as error:
            failed = _failure(error)
        reason, fields, status, unanswerable = outcome()
        if aside is not None:
            aside.clear()
        if loop.stopped_by == QUIT:
            reason = "quit"  # the question has its answer as far as that came
        if loop.stopped_by:
            reason, status = "signal", 128 + loop.stopped_by
        elif unanswerable is not None and failed is None:
            sink.write(_error(unanswerable))
        if failed is not None:
            reason, status = "error", COULD_NOT_ASK
            fields = {**fields, "unmet": []} if "unmet" in fields else fields  # nobody could ask
            # What standard output cannot take is for people, whatever the format.
            teller = Sink() if isinstance(failed, OutputError) else sink
            teller.write(_error(failed))
        if broken:
            reason, status = "broken-pipe", 128 + _SIGPIPE
        fields = {"reason": reason, **fields, "exit_status": status}
        try:
            sink.write(Report(time.time_ns(), "summary", fields))
            sink.close()
        except BrokenPipeError:
            status = 128 + _SIGPIPE
        return status


def _measured(
    exporter: "Exporter",
    records: Callable[[Loop], Iterator["Record | Run"]],
    outcome: Callable[[], Outcome],
) -> tuple[Callable[[Loop], Iterator["Record | Run"]], Callable[[], Outcome]]:
    """Return both with a first reading before the records and a last one before the outcome."""

    def begun(loop: Loop) -> Iterator["Record | Run"]:
        exporter.begin()
        yield from records(loop)

    def ended() -> Outcome:
        exporter.finish()
        return outcome()

    return begun, ended


def _failure(error: McastError | OSError | ImportError | MemoryError) -> McastError:
    """Return what to tell of an error; raise it if nobody could do anything about it."""
    if isinstance(error, McastError):
        return explained(error)
    if (found := shortage(error)) is None:
        raise error
    return found


def explained(error: McastError) -> McastError:
    """Return the error, with who has the port when that is what is wrong and can be seen."""
    if isinstance(error, SocketError) and error.errno == EADDRINUSE and error.port:
        from mcastctl.host import owners, sockets

        inodes = {inode for inode, one in sockets.bound().items() if one.port == error.port}
        held = owners.having_open(inodes)
        named = dict.fromkeys(f"{name} (pid {pid})" for pid, name, _ in held if pid != os.getpid())
        if named:
            error.hint = f"{', '.join(named)} holds it without address reuse; end that, or {_ELSE}"
    return error


_ELSE = "let it set SO_REUSEADDR; 'ss -ulpn' shows it"


def _error(error: McastError) -> Notice:
    return Notice(time.time_ns(), "error", "failed", error.message, error.hint)


def limits(given: Mapping[str, Any]) -> Limits:
    """Return when -c, -T and --idle let a capture end."""
    return Limits(
        time.monotonic_ns(),
        count=given["count"],
        timeout_s=given["timeout"],
        idle_s=given["idle"],
    )


def readable(loop: Loop, limits: Limits) -> Callable[[int], bool]:
    """Return what waits for a descriptor as the loop waits; False when the run is to end."""
    watched: set[int] = set()

    def ready(descriptor: int) -> bool:
        if descriptor not in watched:
            loop.watch(descriptor)
            watched.add(descriptor)
        while loop.stopped_by is None and not limits.reached(time.monotonic_ns()):
            if loop.wait(limits.next_ns()):
                return True
        return False

    return ready
