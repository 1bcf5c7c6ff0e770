"""Commands on many hosts at once: started a few at a time, their records read as they come.

Each is a child process (ssh, or a namespace's) with pipes that one poll(2) watches. What a host
says is bounded, and no host is waited for longer than the deadline.
"""

import json
import os
import re
import resource
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NoReturn

from mcastctl.model.errors import SocketError
from mcastctl.net import ourselves

MAX_SAID = 4 << 20
"""Bytes of standard output one command may say."""
_MAX_COMPLAINT = 4096
_SHOWN = 200
_ERROR = "mcastctl: error: "
"""What begins the line that says why; its hint is for whoever typed the command there."""
_GRACE_S = 1.0
"""How long a command may go on after it has closed its output."""
_CHUNK = 1 << 16
_MOST_NONSENSE = 100
"""Lines that begin like JSON and are none; each costs json a walk through the whole text."""
_GOES_ON, _BEGINS = re.compile(r"\s*[\[{]"), re.compile(r"^[ \t]*[\[{]", re.MULTILINE)
"""Where an object or array may begin: after the last one, or with a line."""


class Session:
    """One command on one host: `records` so far, and `status` when it has ended."""

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self.argv = argv
        self.text = bytearray()
        self.status: int | None = None
        self.overrun = self.late = False
        self._complaint = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = self.pidfd = -1
        self._pipes: list[int] = []

    def start(self) -> list[int]:
        """Start it; return the descriptors to watch. Raises SocketError."""
        try:
            process = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=ourselves.environment(),
                start_new_session=True,  # Ctrl-C is for us; we end it by its standard input
            )
        except OSError as error:
            _cannot_start(self.argv[0], error)
        self._process = process
        self._pipes = [stream.fileno() for stream in (process.stdout, process.stderr) if stream]
        self._stderr = self._pipes[1]
        for descriptor in self._pipes:
            os.set_blocking(descriptor, False)
        with suppress(AttributeError, OSError):  # Linux: its end is seen, whoever holds its pipes
            self.pidfd = os.pidfd_open(process.pid)
            return [*self._pipes, self.pidfd]
        return self._pipes

    def drain(self) -> None:
        """Take what is left in its pipes: whoever holds them still is not waited for."""
        for pipe in self._pipes:
            with suppress(BlockingIOError):
                while self.read(pipe):
                    pass

    def read(self, descriptor: int) -> bool:
        """Take what is there; False at its end."""
        chunk = os.read(descriptor, _CHUNK)
        if descriptor == self._stderr:
            self._complaint = (self._complaint + chunk)[-_MAX_COMPLAINT:]
        elif len(self.text) + len(chunk) <= MAX_SAID:
            self.text += chunk
        elif chunk:
            self.overrun = True
            self.kill()
        return bool(chunk)

    def release(self) -> None:
        """Let it end: its standard input does."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """End it and what it started here: ssh, or the shell with its command."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def leave(self, patience_s: float) -> None:
        """Let it end by itself for so long."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)

    def reap(self) -> None:
        """Collect what has ended."""
        if self._process is not None:
            self.release()
            self.status = self._process.wait()
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
            if self.pidfd >= 0:
                os.close(self.pidfd)

    @property
    def complaint(self) -> str:
        """Why it failed, as it says itself: its error, or the last line of anything."""
        if self.overrun:
            return f"said more than {MAX_SAID >> 20} MiB"
        if self.late:
            return "no answer in time"
        for said, told in ((self._complaint, ""), (self.text, "says nothing that mcastctl says: ")):
            lines = bytes(said).decode("utf-8", "replace").split("\n")
            spoken = [one.strip() for one in reversed(lines) if one.strip()]
            ours = [one.removeprefix(_ERROR) for one in spoken if one.startswith(_ERROR)]
            if spoken:
                return told + (ours or spoken)[0][:_SHOWN]
        return f"ended with status {self.status}"

    def records(self) -> list[dict[str, Any]]:
        """Return the JSON objects of its output: lines, arrays, or both; else nothing."""
        return list(_objects(self.text.decode("utf-8", "replace")))

    def forget(self) -> None:
        """Keep nothing of what it said; it has been read."""
        self.text.clear()

    def has(self, kind: str) -> bool:
        """Whether a record of this type was said."""
        return f'"type":"{kind}"'.encode() in self.text


class Fleet:
    """Every command under way; leaving the context ends them all."""

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._poll = select.poll()
        self._open: dict[int, Session] = {}
        self._left: dict[Session, int] = {}
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:  # three pipes a host
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *error: object) -> None:
        for session in list(self._left):
            self._end(session)

    def run(
        self, sessions: Iterable[Session], timeout_s: float, ready: Callable[[Session], bool]
    ) -> None:
        """Start sessions, `parallel` at a time; each is done when it ended or is `ready`.

        One that is neither after `timeout_s` is killed.
        """
        waiting = deque(sessions)
        busy: dict[Session, float] = {}
        while waiting or busy:
            while waiting and len(busy) < self._parallel:
                session = waiting.popleft()
                self.start(session)
                busy[session] = time.monotonic() + timeout_s
            self._pump(min(busy.values()))
            now = time.monotonic()
            for session, deadline in list(busy.items()):
                if session not in self._left or ready(session):
                    del busy[session]
                elif now >= deadline:
                    session.late = True
                    self._end(session)
                    del busy[session]

    def finish(self, sessions: Iterable[Session], timeout_s: float) -> None:
        """Let sessions end by themselves, and wait until they have."""
        ending = [one for one in sessions if one in self._left]
        for session in ending:
            session.release()
        deadline = time.monotonic() + timeout_s
        while any(session in self._left for session in ending):
            self._pump(deadline)
            if time.monotonic() >= deadline:
                break
        for session in ending:
            if session in self._left:
                session.late = True
                self._end(session)

    def start(self, session: Session) -> None:
        """Start one command. Raises SocketError."""
        descriptors = session.start()
        self._left[session] = len(descriptors)
        for descriptor in descriptors:
            self._open[descriptor] = session
            self._poll.register(descriptor, select.POLLIN)

    def _pump(self, deadline: float) -> None:
        left_ms = max(0.0, deadline - time.monotonic()) * 1000
        for descriptor, _ in self._poll.poll(left_ms):
            session = self._open.get(descriptor)
            if session is None:
                continue  # ended by another of its descriptors
            if descriptor == session.pidfd:
                session.drain()
                self._end(session)
                continue
            if session.read(descriptor):
                continue
            self._poll.unregister(descriptor)
            del self._open[descriptor]
            self._left[session] -= 1
            if not self._left[session]:  # where processes have no descriptor
                session.leave(_GRACE_S)
                self._end(session)

    def _end(self, session: Session) -> None:
        for descriptor, owner in list(self._open.items()):
            if owner is session:
                self._poll.unregister(descriptor)
                del self._open[descriptor]
        del self._left[session]
        session.kill()
        session.reap()


def _objects(text: str) -> Iterable[dict[str, Any]]:
    """Yield the JSON objects of a text; give up where too much only looks like one."""
    decoder = json.JSONDecoder()
    at = failures = 0
    while failures < _MOST_NONSENSE:
        begin = _GOES_ON.match(text, at) or _BEGINS.search(text, at)
        if begin is None:
            return
        try:
            value, at = decoder.raw_decode(text, begin.end() - 1)
        except (ValueError, RecursionError):  # a greeting of the host, or a warning of ssh
            failures += 1
            at = text.find("\n", begin.end()) + 1 or len(text)
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield one


def _cannot_start(program: str, error: OSError) -> NoReturn:
    raise SocketError(
        f"cannot run '{program}': {(error.strerror or 'refused').lower()}",
        hint="install OpenSSH's client, or name another by --ssh",
        errno=error.errno,
    ) from error
