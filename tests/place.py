"""Commands in a clean environment, awaited by what they say; none outlives its test.

A `Place` starts commands, `Running` is one in the background, `Outcome` is how one ended. Standard
library and Linux only.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, NamedTuple

# Debian keeps ip, nft and tcpdump where an ordinary user's PATH does not look.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def jsonl(text: str) -> list[dict[str, Any]]:
    """The objects of JSON lines; a line cut short by a dying writer is an error."""
    return [json.loads(line) for line in text.splitlines() if line]


def need(*tools: str) -> None:
    """Skip the calling test unless every tool is installed (a failure where netns is required)."""
    missing = [tool for tool in tools if not shutil.which(tool, path=PATH)]
    if missing:
        import pytest

        pytest.skip(f"not installed: {', '.join(missing)}")


ROOM = "net.core.rmem_max is too small"
BY_ROOT = "done only by root of the machine itself"
KERNEL = "this kernel"
BEYOND_US = ROOM, BY_ROOT, KERNEL
"""Words of the reasons to skip a test that nothing the project installs could mend."""

# CAP_SETGID, SETUID, SETPCAP, NET_ADMIN, NET_RAW, SYS_PTRACE, SYS_ADMIN (linux/capability.h)
_POWERS = sum(1 << number for number in (6, 7, 8, 12, 13, 19, 21))


def _is_root() -> bool:
    mapped = Path("/proc/self/uid_map").read_text().split()
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    outside = mapped == ["0", "0", "4294967295"]
    return os.geteuid() == 0 and outside and effective & _POWERS == _POWERS


ROOT = _is_root()
"""Whether this is root of the machine itself: not of a user namespace, nor in a bare container.

Only he is told drop reasons, becomes another user, names a namespace and enters all of them.
"""


def need_room(number: int, size: int) -> None:
    """Skip unless so many payloads can wait in the largest receive buffer a listener may have.

    The kernel counts about 1 KiB more for each, and grants twice what it is asked for.
    """
    most = int(Path("/proc/sys/net/core/rmem_max").read_text())
    if 2 * most < number * (size + 1024):
        import pytest

        pytest.skip(f"{ROOM}: {most} bytes")


UNROOTED = [] if ROOT or os.geteuid() != 0 else ["unshare", "--user", "--map-user=1"]
"""Before a command that gives up root and cannot where nobody else exists, as tcpdump."""


def until(so: Callable[[], bool], timeout: float = 30) -> None:
    """Wait for what nobody announces: state of the kernel, a file, processes."""
    deadline = time.monotonic() + timeout
    while not so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Outcome(NamedTuple):
    """How a command ended: exit status (negative: the signal that killed it) and its output."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def raw(self) -> bytes:
        """Standard output, byte for byte."""
        return self.stdout.encode("utf-8", "surrogateescape")

    @property
    def records(self) -> list[dict[str, Any]]:
        """Standard output read as JSON lines."""
        return jsonl(self.stdout)


class Running:
    """A command in the background; its output is read as it comes, so waiting needs no sleep."""

    def __init__(self, args: Sequence[str], process: subprocess.Popen[bytes]) -> None:
        self.args, self.process, self.pid = args, process, process.pid
        self._pidfd = os.pidfd_open(process.pid)  # sees the end without reaping: the pid stays ours
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._open: set[str] = set()
        self._changed = threading.Condition()
        self._readers = []
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
            if stream is not None:
                self._open.add(name)
                reader = threading.Thread(target=self._read, args=(name, stream), daemon=True)
                self._readers.append(reader)
                reader.start()

    def _read(self, name: str, stream: Any) -> None:
        with stream:
            while chunk := stream.read1(1 << 16):
                with self._changed:
                    self._output[name] += chunk
                    self._changed.notify_all()
        with self._changed:
            self._open.discard(name)
            self._changed.notify_all()

    @property
    def stdout(self) -> str:
        """Standard output so far."""
        return self._output["stdout"].decode("utf-8", "surrogateescape")

    @property
    def stderr(self) -> str:
        """Standard error so far."""
        return self._output["stderr"].decode("utf-8", "surrogateescape")

    def wait_stdout(self, pattern: str, timeout: float = 30, count: int = 1) -> re.Match[str]:
        """The count-th match of pattern in standard output, as soon as it is there."""
        return self._wait("stdout", pattern, timeout, count)

    def wait_stderr(self, pattern: str, timeout: float = 30, count: int = 1) -> re.Match[str]:
        """The count-th match of pattern in standard error, as soon as it is there."""
        return self._wait("stderr", pattern, timeout, count)

    def _wait(self, name: str, pattern: str, timeout: float, count: int) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                ended = name not in self._open  # asked before looking: nothing can come after
                matches = list(re.finditer(pattern, getattr(self, name), re.MULTILINE))
                if len(matches) >= count:
                    return matches[count - 1]
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    why = "it ended" if ended else f"waited {timeout} s"
                    raise AssertionError(self._say(f"no {pattern!r} ({count}) on {name}: {why}"))
                self._changed.wait(left)

    def write(self, data: str | bytes) -> None:
        """Feed standard input (the command must have been started with stdin=PIPE)."""
        assert self.process.stdin is not None, "started without stdin=PIPE"
        self.process.stdin.write(data.encode() if isinstance(data, str) else data)
        self.process.stdin.flush()

    def close_stdin(self) -> None:
        """End of input. A command that stopped reading early is not an error."""
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal to the command itself."""
        signal.pidfd_send_signal(self._pidfd, number)

    def finish(self, timeout: float = 30) -> Outcome:
        """Wait until the command has ended and its output is complete; AssertionError if late."""
        self.close_stdin()
        deadline = time.monotonic() + timeout
        ended = self._ended(timeout)
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        late = any(reader.is_alive() for reader in self._readers)
        self.stop()
        if not ended:
            raise AssertionError(self._say(f"still running after {timeout} s"))
        if late:
            raise AssertionError(self._say("ended, but left a child holding its output"))
        return Outcome(self.process.returncode, self.stdout, self.stderr)

    def _ended(self, timeout: float) -> bool:
        if self.process.returncode is not None:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def stop(self, patience: float = 1) -> None:
        """End the command and every child it left behind: ask, wait, insist."""
        if self.process.returncode is not None:
            return
        if not self._ended(0):
            os.killpg(self.pid, signal.SIGTERM)
            self._ended(patience)
        # Not reaped yet, so the group is still this command's and nobody else's.
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._pidfd)
        self._pidfd = -1
        self.close_stdin()
        for reader in self._readers:
            reader.join(patience)

    def _say(self, what: str) -> str:
        streams = f"--- stdout\n{self.stdout[-4000:]}\n--- stderr\n{self.stderr[-4000:]}"
        return f"{shlex.join(self.args)}: {what}\n{streams}"


class Place:
    """Somewhere to run commands in a clean environment: here, or (see Host) in a namespace.

    Only loopback traffic may be made in a plain Place: it is the machine's own network.
    """

    def __init__(self, config_home: Path) -> None:
        self.config_home = config_home  # empty; a test may write mcastctl/config.toml into it
        self._running: list[Running] = []

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of a command: nothing of the caller's but where programs are."""
        home = str(self.config_home)
        return {"PATH": PATH, "HOME": home, "XDG_CONFIG_HOME": home, "LC_ALL": "C.UTF-8"}

    def _argv(self, args: Sequence[str], privileged: bool) -> list[str]:
        if not privileged:
            raise ValueError("only a Host can drop privileges")
        return list(args)

    def popen(
        self,
        args: Iterable[str | Path],
        *,
        stdin: int | None = DEVNULL,
        stdout: int | None = PIPE,
        stderr: int | None = PIPE,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        privileged: bool = True,
    ) -> Running:
        """Start a command; call it from a thread that outlives it. env adds to the clean one.

        privileged=False takes every capability away, as for an ordinary user (Host only).
        """
        words = [str(word) for word in args]
        process = subprocess.Popen(
            self._argv(words, privileged),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=self.env | dict(env or {}),
            cwd=cwd,
            process_group=0,  # so that its children can be ended with it, and Ctrl-C spares it
        )
        running = Running(words, process)
        self._running.append(running)
        return running

    def run(
        self,
        args: Iterable[str | Path],
        *,
        input: str | bytes | None = None,
        timeout: float = 30,
        check: bool = True,
        **options: Any,
    ) -> Outcome:
        """Run a command to its end. check: exit status 0 or AssertionError with its output."""
        running = self.popen(args, stdin=DEVNULL if input is None else PIPE, **options)
        if input is not None:
            with suppress(BrokenPipeError):
                running.write(input)
        outcome = running.finish(timeout)
        if check and outcome.returncode != 0:
            raise AssertionError(running._say(f"exit status {outcome.returncode}"))
        return outcome

    def mcastctl(self, *args: str | Path, check: bool = False, **options: Any) -> Outcome:
        """Run mcastctl to its end; options as for run."""
        return self.run([sys.executable, "-m", "mcastctl", *args], check=check, **options)

    def start_mcastctl(self, *args: str | Path, **options: Any) -> Running:
        """Start mcastctl in the background; options as for popen."""
        return self.popen([sys.executable, "-m", "mcastctl", *args], **options)

    def stop(self) -> None:
        """End everything still running here."""
        for running in self._running:
            running.stop()
