"""One child process per datagram: payload on standard input, metadata in the environment.

Never a shell, and nothing of the payload in arguments or environment. At most `LIMIT`
children run at once, each for at most `TIMEOUT_S`; what waits is bounded and counted. They
inherit no socket, no variable beyond a fixed list, and no capability: `net.capabilities`, called
before the first, sees to that even for root or refuses.
"""

import errno
import os
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, NamedTuple

from mcastctl.model.errors import McastError
from mcastctl.model.records import Datagram, Notice
from mcastctl.net.loop import Loop

LIMIT = 4
QUEUE = 256
TIMEOUT_S = 10.0
MAX_ANSWER = 65507
"""Bytes of a child's output that are taken: what one datagram carries. A pipe holds as much,
so that a child is never waited on while it writes."""

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


_HINTS = {
    errno.EMFILE: "raise the limit of open files: ulimit -n",
    errno.ENFILE: "raise the limit of open files of this system: fs.file-max",
    errno.EAGAIN: "raise the limit of processes: ulimit -u, or pids.max of the control group",
    errno.ENOMEM: "free memory",
    errno.ENOSPC: "free memory or the temporary directory",
}


class ExecError(McastError):
    """A command for --exec that cannot be run."""


class _Child(NamedTuple):
    process: "subprocess.Popen[bytes]"
    deadline_ns: float
    done: Callable[[bytes], object] | None


class Children:
    """Runs `argv` for each datagram. Counters: `started`, `refused` (queue full), `failed`.

    Only the first that cannot be started is an error: what fails once it has worked (a program
    that is being replaced, no descriptor left) may work again, and is told by `trouble`.
    `stdout` is the descriptor the children write to, None to hand their output to `done`.
    """

    def __init__(self, argv: list[str], *, stdout: int | None) -> None:
        self._argv = argv
        self._stdout = stdout
        self._running: list[_Child] = []
        self._queue: deque[tuple[Datagram, Callable[[bytes], object] | None]] = deque()
        self.started = self.refused = self.failed = 0
        self._trouble: ExecError | None = None
        self._troubled = False

    def attach(self, loop: Loop) -> None:
        """Let the end of a child wake the loop."""
        loop.wake_on(signal.SIGCHLD)

    def run(self, datagram: Datagram, done: Callable[[bytes], object] | None = None) -> None:
        """Start a child for one datagram, or queue it. Raises ExecError, if it is the first."""
        if len(self._queue) >= QUEUE:
            self.refused += 1
            return
        self._queue.append((datagram, done))
        self.poll()

    def poll(self) -> None:
        """Collect children that ended, stop those over time, start those that wait.

        Raises ExecError if the first of all cannot be started.
        """
        now_ns = time.monotonic_ns()
        still = []
        for child in self._running:
            if child.process.poll() is None and now_ns >= child.deadline_ns:
                _kill(child.process)
                child = child._replace(deadline_ns=now_ns + TIMEOUT_S * 1e9)  # noqa: PLW2901
            if child.process.poll() is None:
                still.append(child)
            else:
                self._end(child)
        self._running = still
        while self._queue and len(self._running) < LIMIT:
            try:
                self._running.append(self._start(*self._queue.popleft()))
            except ExecError as error:
                if not self.started:
                    raise
                self.failed += 1
                self._trouble = self._trouble or error

    def next_ns(self) -> float | None:
        """Return when the next child is over time, None with none running."""
        return min((child.deadline_ns for child in self._running), default=None)

    def finish(self, deadline_ns: float | None) -> None:
        """Run what waits and wait for what runs, a second beyond the deadline at the most.

        Without a deadline the limit is the time of one child.
        """
        now_ns = time.monotonic_ns()
        until = now_ns + TIMEOUT_S * 1e9
        if deadline_ns is not None:
            until = min(until, max(deadline_ns, now_ns) + 1e9)
        self.poll()
        while self._running and time.monotonic_ns() < until:
            child = self._running[0]
            left = (min(until, child.deadline_ns) - time.monotonic_ns()) / 1e9
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(left, 0))
            self.poll()
        self.refused += len(self._queue)
        self.failed += len(self._running)
        self.stop()

    def trouble(self) -> Iterator[Notice]:
        """Yield a warning, once, when a child could not be started."""
        if self._trouble is not None and not self._troubled:
            self._troubled = True
            said = self._trouble
            yield Notice(time.time_ns(), "warning", "exec", said.message, said.hint)

    def remarks(self) -> Iterator[Notice]:
        """Yield a warning when not every datagram had its child."""
        yield from self.trouble()
        if self.refused or self.failed:
            text = f"--exec: {self.started} started, {self.failed} failed, {self.refused} left out"
            hint = "the command must exit 0 and keep up with the datagrams"
            yield Notice(time.time_ns(), "warning", "exec", text, hint)

    def stop(self) -> None:
        """End what runs and forget what waits; nobody is handed an answer any more."""
        self._queue.clear()
        for child in self._running:
            _kill(child.process)
            if child.process.stdout is not None:
                child.process.stdout.close()
        self._running.clear()

    def _start(self, datagram: Datagram, done: Callable[[bytes], object] | None) -> _Child:
        with _file_of(datagram.payload) as payload:
            try:
                process = subprocess.Popen(
                    self._argv,
                    stdin=payload,
                    stdout=subprocess.PIPE if self._stdout is None else self._stdout,
                    env=environment(datagram, os.environ),
                    process_group=0,  # so that what it started can be ended with it
                )
            except OSError as error:
                raise _cannot_run(self._argv[0], error) from error
        self.started += 1
        return _Child(process, time.monotonic_ns() + TIMEOUT_S * 1e9, done)

    def _end(self, child: _Child) -> None:
        if child.process.returncode != 0:
            self.failed += 1
        answer = b""
        if child.process.stdout is not None:
            os.set_blocking(child.process.stdout.fileno(), False)
            answer = child.process.stdout.read(MAX_ANSWER) or b""
            child.process.stdout.close()
        if child.done is not None and child.process.returncode == 0:
            child.done(answer)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a child and whatever it started; not reaped yet, its group is nobody else's.

    One that became another user (sudo) may be out of reach; it keeps its place until it ends.
    """
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except PermissionError:
            return
    process.wait()


def _file_of(payload: bytes) -> IO[bytes]:
    """Return an open file of the payload: complete before the child runs, so nobody waits."""
    try:
        if hasattr(os, "memfd_create"):
            file: IO[bytes] = os.fdopen(os.memfd_create("payload"), "w+b", buffering=0)
        else:
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (the caller closes it)
        file.write(payload)
        file.seek(0)
    except OSError as error:
        raise ExecError(
            f"cannot hold a payload for --exec: {(error.strerror or 'refused').lower()}",
            hint=_HINTS.get(error.errno or 0, "free memory or the temporary directory"),
        ) from error
    return file


def environment(datagram: Datagram, inherited: "os._Environ[str]") -> dict[str, str]:
    """Return a clean environment with the metadata of one datagram in MCASTCTL_* variables."""
    kept = {name: inherited[name] for name in _KEPT if name in inherited}
    fields = datagram.to_dict()
    fields["group"] = datagram.dst
    for left_out in ("type", "payload", "payload_b64"):
        fields.pop(left_out, None)
    shown = {name: "" if value is None else str(value) for name, value in fields.items()}
    return kept | {f"MCASTCTL_{name.upper()}": value for name, value in shown.items()}


def parse(command: str) -> list[str]:
    """Split a command line into arguments as a shell would, without running one."""
    import shlex
    import shutil

    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise ExecError(
            f"cannot read the command '{command}': {error}", hint="mend quotes"
        ) from error
    if not argv or shutil.which(argv[0]) is None:
        named = argv[0] if argv else command
        raise ExecError(
            f"cannot run '{named}': no such program",
            hint="name a program of PATH; for shell syntax write --exec \"sh -c '...'\"",
        )
    return argv


def _cannot_run(program: str, error: OSError) -> ExecError:
    cause = (error.strerror or "refused").lower()
    hint = _HINTS.get(error.errno or 0, "name an executable program")
    return ExecError(f"cannot run '{program}': {cause}", hint=hint)
