"""Every command under every fault of its output and its surroundings: the exit status is the one
the manual names, what cannot be written is said, and nobody ever sees a traceback.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import NamedTuple

import pytest
from conftest import reason_without_world
from world import Host, Outcome, Running, World

pytestmark = pytest.mark.netns

GROUP, ASKED = "239.1.1.1:5004", "239.1.1.2:5006"
COMMANDS = {
    "send": (f"send {GROUP} hello -i a0 -v", "hello"),
    "listen": (f"listen {GROUP} -i a0 -c 1 -T 30s", "length"),
    "echo": (f"echo {GROUP} -i a0 --any -v -c 1 -T 30s", "length"),
    "ping": (f"ping {ASKED} -i a0 -c 1 --wait 2s", "bytes from"),
    "ifaces": ("ifaces", "a0"),
    "routes": ("routes 239.1.1.1", "leaves by a0"),
    "groups": ("groups", "224.0.0.1"),
    "sniff": ("sniff -i a0 -c 1 -T 30s udp port 5004", "239.1.1.1"),
    "doctor": (f"doctor {GROUP} --role sender -i b0 -T 300ms", "ok"),
}
"""Each command so that it ends soon, answers yes, and a word of what it prints."""
ENDLESS = {
    "send": f"send {GROUP} hello -i a0 -v --pps 50",
    "listen": f"listen {GROUP} -i a0",
    "echo": f"echo {GROUP} -i a0 --any -v",
    "ping": f"ping {ASKED} -i a0 --interval 20ms",
    "ifaces": "ifaces --live --interval 100ms",
    "groups": "groups --watch",
    "sniff": "sniff -i a0 udp port 5004",
    "doctor": f"doctor {GROUP} -i a0 -T 1h",
}
CLOSED = "cannot write to standard output: bad file descriptor"
FULL = "cannot write to standard output: no space left on device"
NO_PROC = "cannot read the memberships of this host: there is no /proc/net/igmp"
PLAIN = 'exec "$@"'


class Case(NamedTuple):
    """How a command is started, by which words of a shell and where its output goes.

    `status` and `error` are those of every command, but of `only` when some are named.
    """

    shell: str = PLAIN
    env: Mapping[str, str] = MappingProxyType({})
    status: int = 0
    error: str = ""
    only: tuple[str, ...] = ()
    stdout: str = "pipe"
    python: tuple[str, ...] = ()


CASES = {
    "a broken pipe": Case(stdout="broken", status=-signal.SIGPIPE),
    "a full device": Case('exec "$@" >/dev/full', status=2, error=FULL),
    "standard output closed": Case('exec "$@" >&-', status=2, error=CLOSED),
    "standard error closed": Case('exec "$@" 2>&-'),
    "standard input closed": Case('exec "$@" <&-'),
    "all three closed": Case('exec "$@" <&- >&- 2>&-', status=2),
    "ASCII output": Case(env={"PYTHONIOENCODING": "ascii"}),
    "LC_ALL=C": Case(env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    "one column": Case(env={"COLUMNS": "1", "TERM": "xterm"}, stdout="terminal"),
    "no terminal": Case('exec setsid -w "$@"', {"TERM": "dumb"}),
    "without docstrings, anything left open an error": Case(
        python=("-OO", "-W", "error::ResourceWarning")
    ),
    "no home": Case('unset HOME XDG_CONFIG_HOME; exec "$@"'),
    "a home for reading": Case(env={"HOME": "/proc", "XDG_CONFIG_HOME": "/proc"}),
    "no /proc": Case(
        'exec unshare --mount sh -euc \'mount -t tmpfs none /proc; exec "$@"\' sh "$@"',
        status=2,
        error=NO_PROC,
        only=("groups", "doctor"),
    ),
    "SIGINT ignored": Case("trap '' INT; exec \"$@\""),
}


class Place(NamedTuple):
    """Where commands are started: a host that hears ticks, and the one that makes them."""

    a: Host
    b: Host

    def at(self, command: str) -> Host:
        """The host for a command: the doctor looks at one where little else goes on."""
        return self.b if " --role sender " in command else self.a


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Two hosts; b says something every 50 ms and answers requests."""
    if reason := reason_without_world():
        pytest.skip(reason)
    with World() as world:
        a, b = world.host("a"), world.host("b")
        world.link(a, b)
        a.ip("route add 224.0.0.0/4 dev a0")
        b.ip("route add 224.0.0.0/4 dev b0")
        answering = b.start_mcastctl("echo", ASKED, "-i", "b0")
        b.start_mcastctl("send", GROUP, "tick", "-i", "b0", "--interval", "50ms", "-q")
        answering.wait_stderr("^joined")
        yield Place(a, b)


@pytest.fixture(scope="module")
def matrix(place: Place) -> dict[tuple[str, str], Outcome]:
    """How each command ended in each case; some at a time, for most of them wait."""
    cells = list(product(CASES, COMMANDS))
    with ThreadPoolExecutor(8) as pool:
        ended = pool.map(lambda cell: run(place, CASES[cell[0]], COMMANDS[cell[1]][0]), cells)
        return dict(zip(cells, ended, strict=True))


def run(place: Place, case: Case, command: str) -> Outcome:
    """Run a command in a case; what it wrote to a terminal counts as standard output."""
    words = [sys.executable, *case.python, "-m", "mcastctl", *command.split()]
    argv = ["sh", "-c", case.shell, "sh", *words]
    host = place.at(command)
    if case.stdout == "pipe":
        return host.run(argv, env=case.env, check=False, timeout=60)
    reading, writing = pty.openpty() if case.stdout == "terminal" else os.pipe()
    shown = bytearray()
    reader = Thread(target=_read, args=(reading, shown))
    if case.stdout == "terminal":
        fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("4H", 1, 1, 0, 0))
        reader.start()
    else:
        os.close(reading)
    running = host.popen(argv, env=case.env, stdout=writing)
    os.close(writing)
    ended = running.finish(60)
    if reader.ident:
        reader.join(10)
    return ended._replace(stdout=shown.decode())


def _read(descriptor: int, into: bytearray) -> None:
    with suppress(OSError):  # EIO: the last one closed the terminal
        while data := os.read(descriptor, 65536):
            into += data
    os.close(descriptor)


@pytest.mark.parametrize("name", CASES)
def test_every_command(matrix: dict[tuple[str, str], Outcome], name: str) -> None:
    case = CASES[name]
    for command, (_, word) in COMMANDS.items():
        ended = matrix[name, command]
        said = f"{command}: {ended}"
        concerned = not case.only or command in case.only
        assert ended.returncode == (case.status if concerned else 0), said
        assert "Traceback" not in ended.stdout + ended.stderr, said
        assert "Exception" not in ended.stdout + ended.stderr, said
        if concerned and case.error:
            assert f"error: {case.error}\nhint: " in ended.stderr, said
            assert ended.stderr.count("error: ") == 1, said
            assert "internal" not in ended.stderr, said
        elif case.status == 0 or not concerned:
            assert word in ended.stdout, said
            assert "error: " not in ended.stderr, said


def _handles_sigint(running: Running) -> bool:
    """Tell whether a process has a handler of its own for SIGINT (proc(5))."""
    try:
        status = Path(f"/proc/{running.pid}/status").read_text()
    except OSError:
        return False
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGINT - 1))


def _await(running: Running, *, handles: bool) -> None:
    deadline = time.monotonic() + 40
    while _handles_sigint(running) != handles:
        assert time.monotonic() < deadline, running.args
        time.sleep(0.005)


def _start(place: Place, command: str, stdout: int | None = None) -> Running:
    """Start a command as a script's background job: with SIGINT ignored."""
    words = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "mcastctl"]
    argv = [*words, *command.split()]
    return place.a.popen(argv) if stdout is None else place.a.popen(argv, stdout=stdout)


def test_a_background_job_ends_by_sigint(place: Place) -> None:
    jobs = {name: _start(place, command) for name, command in ENDLESS.items()}
    for name, job in jobs.items():
        _await(job, handles=True)
        job.signal(signal.SIGINT)
        ended = job.finish(20)
        assert ended.returncode == -signal.SIGINT, (name, ended)
        assert "Traceback" not in ended.stderr
        said = ended.stdout if name == "doctor" else ended.stderr
        assert said.strip(), (name, ended)  # the summary


def test_the_second_ctrl_c_ends_what_cannot_finish(place: Place) -> None:
    """Nobody reads the output, and no more of it fits into the pipe."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.set_blocking(writing, True)
    try:
        jobs = {name: _start(place, command, writing) for name, command in ENDLESS.items()}
        for name, job in jobs.items():
            _await(job, handles=True)
            job.signal(signal.SIGINT)
            _await(job, handles=False)
            job.signal(signal.SIGINT)
            ended = job.finish(20)
            assert ended.returncode == -signal.SIGINT, (name, ended)
            assert "Traceback" not in ended.stderr
    finally:
        os.close(reading)
        os.close(writing)
