"""One child per datagram: it gets the payload and nothing else of ours, and cannot hold us up."""

from __future__ import annotations

import itertools
import os
import re
import resource
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import hostile
import pytest
import wire
from conftest import Pair
from streams import inject
from test_robust import wait_for_member
from world import World

from mcastctl.model.records import Datagram
from mcastctl.net import children
from mcastctl.net.children import Children, ExecError, environment, parse
from mcastctl.net.loop import Loop


def datagram(payload: bytes = b"", ttl: int | None = 1) -> Datagram:
    """One as it would arrive."""
    where = ("10.0.0.1", 4000, "239.1.1.1", 5004)
    return Datagram(1_500_000_000, "rx", "eth0", 3, *where, ttl, 0, len(payload), payload)


def answers(argv: list[str], *payloads: bytes) -> list[bytes]:
    """What children say to payloads, in the order in which they end."""
    said: list[bytes] = []
    running = Children(argv, stdout=None)
    for payload in payloads or (b"",):
        running.run(datagram(payload), said.append)
    running.finish(None)
    return said


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        bytes(range(256)),
        os.urandom(65507),
        b"a\nb",
        b"; rm -rf /tmp/none; $(id) `id`\n",
    ],
    ids=["empty", "nul", "all", "largest", "lines", "shell"],
)
def test_the_payload_is_on_standard_input(payload: bytes) -> None:
    assert answers(["cat"], payload) == [payload]


def test_each_child_gets_its_own(tmp_path: Path) -> None:
    payloads = [str(number).encode() for number in range(20)]
    assert sorted(answers(["cat"], *payloads)) == sorted(payloads)


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET", "LD_LIBRARY_PATH", "PYTHONPATH", "MCASTCTL_LISTEN_PORT", "BASH_ENV"):
        monkeypatch.setenv(name, "leaked")
    monkeypatch.setenv("TZ", "UTC")
    (said,) = answers(["env", "-0"], b"payload")
    given = dict(line.split("=", 1) for line in said.decode().split("\0") if line)
    ours = {name: value for name, value in given.items() if name.startswith("MCASTCTL_")}
    assert set(given) - set(ours) <= {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"}
    assert given["TZ"] == "UTC"
    assert given["PATH"] == os.environ["PATH"]
    assert "leaked" not in given.values()
    assert "payload" not in said.decode()
    expected = {
        "DIRECTION": "rx",
        "IFACE": "eth0",
        "IFINDEX": "3",
        "SRC": "10.0.0.1",
        "SPORT": "4000",
        "DST": "239.1.1.1",
        "DPORT": "5004",
        "GROUP": "239.1.1.1",
        "TTL": "1",
        "DSCP": "0",
        "LENGTH": "7",
        "TS": "1.5",
    }
    assert ours == {f"MCASTCTL_{name}": value for name, value in expected.items()}


def test_what_is_unknown_is_empty() -> None:
    assert environment(datagram(ttl=None), os.environ)["MCASTCTL_TTL"] == ""


def test_there_is_no_shell() -> None:
    assert answers(["echo", "a;", "$HOME", "`id`", "*", "|cat"]) == [b"a; $HOME `id` * |cat\n"]
    assert parse("echo 'a  b' ; $HOME") == ["echo", "a  b", ";", "$HOME"]


def test_no_socket_is_inherited() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.set_inheritable(True)
        (said,) = answers(["ls", "-l", "/proc/self/fd"])
    assert said.count(b"pipe:") == 1  # standard output
    assert b"socket:" not in said


def test_output_goes_to_the_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        running = Children(["cat"], stdout=out.fileno())
        running.run(datagram(b"seen"))
        running.finish(None)
    assert (tmp_path / "out").read_bytes() == b"seen"


def held_back(gate: Path) -> Children:
    """Children that end when there is such a file."""
    script = f"until test -e {gate}; do sleep 0.01; done"
    return Children(["sh", "-c", script], stdout=None)


def test_four_at_once(tmp_path: Path) -> None:
    running = held_back(gate := tmp_path / "gate")
    for number in range(1, 11):
        running.run(datagram())
        assert running.started == min(number, children.LIMIT) == min(number, 4)
    gate.touch()
    running.finish(None)
    assert (running.started, running.failed, running.refused) == (10, 0, 0)


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert children.QUEUE == 256
    monkeypatch.setattr(children, "QUEUE", 3)
    running = held_back(gate := tmp_path / "gate")
    for _ in range(9):
        running.run(datagram())
    assert (running.started, running.refused) == (4, 2)
    gate.touch()
    running.finish(None)
    assert (running.started, running.refused) == (7, 2)


def test_a_child_over_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert children.TIMEOUT_S == 10
    monkeypatch.setattr(children, "TIMEOUT_S", 0.1)
    said: list[bytes] = []
    running = Children(["sh", "-c", "echo half; exec sleep 60"], stdout=None)
    assert running.next_ns() is None
    for _ in range(children.LIMIT):
        running.run(datagram(), said.append)
    until = running.next_ns()
    assert until is not None
    assert until - time.monotonic_ns() <= 0.1e9
    began = time.monotonic()
    running.finish(None)
    assert time.monotonic() - began < 30
    assert (running.started, running.failed, said) == (4, 4, [])


def test_a_look_at_the_clock_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "TIMEOUT_S", 0.05)
    running = Children(["sleep", "60"], stdout=None)
    running.run(datagram())
    with Loop() as loop:
        running.attach(loop)
        until = running.next_ns()
        assert until is not None
        while time.monotonic_ns() < until:
            loop.wait(until)
    running.poll()
    assert (running.failed, running.next_ns()) == (1, None)


def test_more_output_than_a_datagram_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(one) for one in answers(["head", "-c", "65507", "/dev/zero"])] == [65507]
    monkeypatch.setattr(children, "TIMEOUT_S", 0.2)
    assert answers(["head", "-c", "200000", "/dev/zero"]) == []


def test_a_failing_child_gives_no_answer() -> None:
    said: list[bytes] = []
    running = Children(["sh", "-c", "echo no; exit 3"], stdout=None)
    running.run(datagram(), said.append)
    running.finish(None)
    assert (running.failed, said) == (1, [])


def test_a_grandchild_that_keeps_the_output_open_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(children, "TIMEOUT_S", 60)
    began = time.monotonic()
    assert answers(["sh", "-c", "sleep 50 & echo hi"]) == [b"hi\n"]
    assert time.monotonic() - began < 40


def test_the_end_of_a_child_wakes_the_loop() -> None:
    said: list[bytes] = []
    running = Children(["echo", "done"], stdout=None)
    with Loop() as loop:
        running.attach(loop)
        running.run(datagram(), said.append)
        until = time.monotonic_ns() + 30e9
        while not said and time.monotonic_ns() < until:
            loop.wait(until)
            running.poll()
    assert said == [b"done\n"]
    assert time.monotonic_ns() < until


def test_stopping_ends_what_runs_and_forgets_what_waits() -> None:
    said: list[bytes] = []
    running = Children(["sh", "-c", "echo x; exec sleep 60"], stdout=None)
    for _ in range(6):
        running.run(datagram(), said.append)
    began = time.monotonic()
    running.stop()
    running.finish(None)
    assert time.monotonic() - began < 30
    assert (running.started, said, running.next_ns()) == (4, [], None)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("command", ["", "   ", "no-such-program x", "'unbalanced", "/dev/null"])
def test_commands_that_cannot_run(command: str) -> None:
    with pytest.raises(ExecError) as caught:
        parse(command)
    assert caught.value.message.startswith("cannot r")
    assert caught.value.hint


def test_a_program_that_vanishes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    running = Children(parse(str(program)), stdout=None)
    with pytest.raises(ExecError, match=r"cannot run .*: no such file"):
        running.run(datagram())


def test_only_the_first_start_has_to_succeed(tmp_path: Path) -> None:
    """The program is replaced, and descriptors run out: counted, told once, and what comes runs."""
    program = tmp_path / "program"
    shutil.copy("/bin/cat", program)
    running = Children([str(program)], stdout=None)
    said: list[bytes] = []
    running.run(datagram(b"1"), said.append)
    assert list(running.trouble()) == []
    running.finish(None)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:  # no descriptor for the payload, none for the pipe, none for what tells of the start
        for left in range(4):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + left, most))
            running.run(datagram(b"2"), said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    (told,) = running.trouble()
    assert told.text.endswith(": too many open files")
    assert told.hint == "raise the limit of open files: ulimit -n"
    program.rename(tmp_path / "aside")
    running.run(datagram(b"3"), said.append)
    (tmp_path / "aside").rename(program)
    running.run(datagram(b"4"), said.append)
    running.finish(None)
    assert said == [b"1", b"4"]
    assert (running.started, running.failed) == (2, 5)
    (counted,) = running.remarks()  # and no second word of why
    assert counted.text == "--exec: 2 started, 5 failed, 0 left out"


def test_an_echo_outlives_a_start_that_fails(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    program = tmp_path / "program"
    shutil.copy("/bin/cat", program)
    words = ["239.1.1.1:5004", "-i", "b0", "-j", "-T", "60s", "--any", "--exec", str(program)]
    echo = b.start_mcastctl("echo", *words)
    echo.wait_stdout('"joined"')
    assert [one.payload for one in wire.ask(a, "239.1.1.1", 5004, b"1", count=1)] == [b"1"]
    program.rename(tmp_path / "aside")
    wire.ask(a, "239.1.1.1", 5004, b"2", count=0)
    echo.wait_stdout('"code":"exec".*"hint":"name an executable program"')
    (tmp_path / "aside").rename(program)
    assert [one.payload for one in wire.ask(a, "239.1.1.1", 5004, b"3", count=1)] == [b"3"]
    echo.signal(signal.SIGINT)
    assert echo.finish(20).records[-1]["ignored"] == {"exec-failed": 1}


def test_hostile_payloads_stay_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of 5,000 is interpreted, each reaches its child whole, four run at once."""
    monkeypatch.chdir(tmp_path)
    planted = [
        template % b"touch planted"
        for template in (b"$(%b)", b"`%b`", b";%b\n", b"\n%b\n", b"|%b", b"&& %b &", b"' ;%b;'")
    ]
    chances = itertools.cycle([b"", *planted])
    payloads = [one + next(chances) for one in hostile.payloads(5000)]
    said: list[bytes] = []
    running = Children(parse("cat"), stdout=None)
    with Loop() as loop:
        running.attach(loop)
        early = 2 * children.LIMIT
        with monkeypatch.context() as held:  # or the first may have ended before the next begins
            held.setattr(children, "LIMIT", 0)
            for payload in payloads[:early]:
                running.run(datagram(payload), said.append)
        running.poll()
        most = len(running._running)
        for number, payload in enumerate(payloads[early:], early):
            running.run(datagram(payload), said.append)
            most = max(most, len(running._running))
            while number + 1 - len(said) - running.failed > children.QUEUE // 2:
                loop.wait(time.monotonic_ns() + 1e9)
                running.poll()
        running.finish(None)
    assert (running.started, running.failed, running.refused) == (len(payloads), 0, 0)
    assert sorted(said) == sorted(payloads)
    assert most == children.LIMIT
    assert list(tmp_path.iterdir()) == []


def test_hostile_datagrams_on_the_wire(pair: Pair, tmp_path: Path) -> None:
    """Every child is told who sent it, and has nothing of ours: no socket, no capability."""
    a, b = pair
    some = [one for one in hostile.payloads(children.QUEUE, seed=4) if one]  # all may have to wait
    command = f"sh -c 'cat > {tmp_path}/$$; cat /proc/self/status >&2; ls -l /proc/self/fd >&2'"
    words = ["listen", "239.1.1.1:5004", "-i", "b0", "-c", str(len(some)), "-T", "60s", "-q"]
    listener = b.start_mcastctl(*words, "--exec", command, env={"SECRET": "x"})
    wait_for_member(b, listener)
    inject(a, "239.1.1.1", some, gap_s=0.004)
    ended = listener.finish(60)
    assert ended.returncode == 0, ended.stderr[-500:]
    assert "--exec:" not in ended.stderr
    assert sorted(file.read_bytes() for file in tmp_path.iterdir()) == sorted(some)
    assert "socket:" not in ended.stderr
    sets = re.findall(r"^Cap(?:Inh|Prm|Eff|Bnd|Amb):\t([0-9a-f]+)$", ended.stderr, re.MULTILINE)
    assert len(sets) == 5 * len(some)
    assert set(sets) == {"0" * 16}


@pytest.mark.parametrize("command", ["listen", "echo"])
def test_root_that_cannot_drop_capabilities_runs_nothing(world: World, command: str) -> None:
    """A container's root often has some of them and not CAP_SETPCAP."""
    host = world.host("a")
    words = [command, "239.1.1.1:5004", "-i", "lo", "-T", "100ms", "--exec", "cat"]
    ours = [sys.executable, "-m", "mcastctl", *words]
    few = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all", *ours]
    refused = host.run(few, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    said, hint = refused.stderr.splitlines()
    assert said.startswith("mcastctl: error: --exec: what it runs would have capabilities")
    assert "CAP_SETPCAP" in hint
    bits = ["setpriv", "--securebits=+noroot", *few]  # root is nobody special then
    assert host.run(bits, check=False).returncode == 1


def test_what_a_child_started_ends_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(children, "TIMEOUT_S", 1.5)
    running = Children(["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"], stdout=None)
    running.run(datagram())
    running.finish(None)
    assert running.failed == 1
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.01)
