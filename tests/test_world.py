"""The harness itself: hosts hear each other's multicast, and nothing outlives its world."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import world as harness
from conftest import Pair, Trio
from place import ROOT
from world import Host, World

# argv: hear|say group ifname
TALK = """
import socket, struct, sys
role, group, ifname = sys.argv[1:]
family, *_, address = socket.getaddrinfo(group, 5007, type=socket.SOCK_DGRAM)[0]
level = socket.IPPROTO_IPV6 if family == socket.AF_INET6 else socket.IPPROTO_IP
index = socket.if_nametoindex(ifname)
sock = socket.socket(family, socket.SOCK_DGRAM)
if role == "hear":
    storage = (struct.pack("=HH4s", family, 0, socket.inet_pton(family, group))
               if family == socket.AF_INET
               else struct.pack("=HHI16sI", family, 0, 0, socket.inet_pton(family, group), 0))
    sock.bind((group, 5007, 0, index)[: len(address)])
    MCAST_JOIN_GROUP = 42
    sock.setsockopt(level, MCAST_JOIN_GROUP, struct.pack("@I4x128s", index, storage))
    print("ready", flush=True)
    sock.settimeout(5)
    print(sock.recvfrom(64), flush=True)
elif family == socket.AF_INET6:
    sock.setsockopt(level, socket.IPV6_MULTICAST_IF, index)
    sock.sendto(b"hello", (group, 5007))
else:
    sock.setsockopt(level, socket.IP_MULTICAST_IF, struct.pack("@4s4si", b"", b"", index))
    sock.sendto(b"hello", (group, 5007))
"""
GROUPS = ["239.1.1.1", "224.0.0.123", "ff02::123", "ff3e::8000:1"]


def talk(host: Host, role: str, group: str) -> harness.Running:
    return host.popen([sys.executable, "-c", TALK, role, group, host.ports[0]])


@pytest.mark.parametrize("group", GROUPS)
def test_multicast_crosses_a_cable(pair: Pair, group: str) -> None:
    listener = talk(pair.b, "hear", group)
    listener.wait_stdout("ready")
    assert talk(pair.a, "say", group).finish().returncode == 0
    assert "hello" in listener.finish().stdout


@pytest.mark.parametrize("snooping", [False, True])
def test_multicast_crosses_a_switch(world: World, snooping: bool) -> None:
    sender, *listeners = (world.host(name) for name in "axyz")
    world.bridge("sw", sender, *listeners, snooping=snooping)
    for group in GROUPS:
        heard = [talk(listener, "hear", group) for listener in listeners]
        for listener in heard:
            listener.wait_stdout("ready")
        assert talk(sender, "say", group).finish().returncode == 0
        for listener in heard:
            assert "hello" in listener.finish().stdout


@pytest.mark.usefixtures("namespaces")
def test_an_ordinary_user_has_worlds_too(here: harness.Place) -> None:
    if not ROOT:
        return  # every other test has shown it
    # env: setpriv itself may still read, and so execute, what is root's alone.
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env"]
    # The virtual environment may be out of nobody's reach, and so may this folder.
    pythons = [os.path.realpath(sys.executable), "/usr/bin/python3"]
    probe = ["-c", "import json, select, subprocess"]
    usable = [p for p in pythons if here.run([*nobody, p, *probe], check=False).returncode == 0]
    if not usable:
        pytest.skip("no Python that an ordinary user may run")
    script = f"""
import os
from world import World
with World() as world:
    a, b = world.host("a"), world.host("b")
    world.link(a, b)
    for group in {GROUPS!r}:
        listener = b.popen([{usable[0]!r}, "-c", {TALK!r}, "hear", group, "b0"])
        listener.wait_stdout("ready")
        a.run([{usable[0]!r}, "-c", {TALK!r}, "say", group, "a0"])
        assert "hello" in listener.finish().stdout
print(os.getuid(), "heard it all")
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name in ("place.py", "world.py"):
            shutil.copy(Path(harness.__file__).parent / name, folder)
        args = [*nobody, usable[0], "-c", script]
        outcome = here.run(args, env={"PYTHONPATH": folder}, cwd=Path("/"), timeout=30)
    assert outcome.stdout == "65534 heard it all\n"


def test_addresses_are_those_of_the_interfaces(pair: Pair) -> None:
    a, b = pair
    assert (a.addr4(), b.addr4("b0")) == ("10.0.1.1", "10.0.1.2")
    assert (a.addr6(), b.addr6()) == ("fd00:1::1", "fd00:1::2")
    assert a.lladdr() == "fe80::ff:fe00:101"
    assert (a.addr4("lo"), a.addr6("lo"), a.ifindex("lo")) == ("127.0.0.1", "::1", 1)
    assert a.ifindex() > 1


def test_a_host_is_not_the_machine(pair: Pair) -> None:
    machine = str(Path("/proc/self/ns/net").readlink())
    inside = [host.sh("readlink /proc/self/ns/net").stdout.strip() for host in pair]
    assert len({machine, *inside}) == 3


def test_settings_are_the_hosts_own(pair: Pair) -> None:
    a, b = pair
    a.sysctl("net.ipv4.igmp_max_memberships", 7)
    assert a.sysctl("net.ipv4.igmp_max_memberships") == "7"
    assert b.sysctl("net.ipv4.igmp_max_memberships") != "7"
    with pytest.raises(AssertionError, match="not a network setting"):
        a.sysctl("kernel.hostname", "nonsense")


def test_a_command_can_run_without_capabilities(pair: Pair) -> None:
    caps = "grep CapEff /proc/self/status"
    assert pair.a.run(["sh", "-c", caps], privileged=False).stdout.split() == ["CapEff:", "0" * 16]
    assert pair.a.run(["sh", "-c", caps]).stdout.split() != ["CapEff:", "0" * 16]


def test_the_environment_is_clean(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCASTCTL_SEND_TTL", "9")
    monkeypatch.setenv("NO_COLOR", "1")
    names = {line.partition("=")[0] for line in pair.a.run(["env"]).stdout.splitlines()}
    assert names == {"PATH", "HOME", "XDG_CONFIG_HOME", "LC_ALL"}
    assert list(pair.a.config_home.iterdir()) == []


def test_signals_reach_the_command_itself(pair: Pair) -> None:
    sleeper = pair.a.popen(["sh", "-c", "echo up; exec sleep 300"])
    sleeper.wait_stdout("up")
    sleeper.signal(signal.SIGINT)
    assert sleeper.finish().returncode == -signal.SIGINT


def test_input_output_and_waiting(pair: Pair) -> None:
    cat = pair.a.popen(["cat"], stdin=subprocess.PIPE)
    cat.write("one\n")
    cat.wait_stdout("^one$")
    cat.write(b'{"type": "two"}\n\xff')
    assert cat.wait_stdout("^(.)", count=2)[1] == "{"
    assert cat.finish().raw == b'one\n{"type": "two"}\n\xff'
    assert pair.a.run(["cat"], input='{"n": 1}\n{"n": 2}\n').records == [{"n": 1}, {"n": 2}]
    with pytest.raises(AssertionError, match="it ended"):
        cat.wait_stdout("three")
    with pytest.raises(AssertionError, match="exit status 3"):
        pair.a.sh("exit 3")
    with pytest.raises(AssertionError, match="still running"):
        pair.a.run(["sleep", "300"], timeout=0.05)


@pytest.mark.usefixtures("namespaces")
def test_nothing_outlives_its_world() -> None:
    with World() as world:
        host = world.host("a")
        orphan = host.popen(["sh", "-c", "sleep 300 & echo $!; wait"])
        child = int(orphan.wait_stdout(r"^(\d+)\n")[1])
        pids = {world.anchor.pid, host.pid, orphan.pid, child}
        scratch = host.config_home
    assert all(gone(pid) for pid in pids)
    assert not scratch.exists()


@pytest.mark.usefixtures("namespaces")
def test_nothing_outlives_a_killed_test(tmp_path: Path) -> None:
    script = """
from world import World
with World() as world:
    host = world.host("a")
    sleeper = host.popen(["sh", "-c", "echo up; exec sleep 300"])
    sleeper.wait_stdout("up")
    print(world.anchor.pid, host.pid, sleeper.pid, flush=True)
    sleeper.finish(30)
"""
    folder = Path(harness.__file__).parent
    args = [sys.executable, "-c", script]
    env = os.environ | {"TMPDIR": str(tmp_path)}  # its scratch folder is all that it leaves
    with subprocess.Popen(args, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as test:
        assert test.stdout is not None
        pids = [int(word) for word in test.stdout.readline().split()]
        test.kill()
    assert len(pids) == 3
    assert all(gone(pid) for pid in pids)


def gone(pid: int, timeout: float = 30) -> bool:
    """Whether a process that is no child of ours has ended, or does so in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("required", "closing"),
    [("1", "1 failed, 1 skipped, 1 xfailed, 1 error"), ("", "3 skipped, 1 xfailed")],
)
def test_a_skip_is_a_failure_where_namespaces_are_required(
    tmp_path: Path, required: str, closing: str
) -> None:
    folder = Path(harness.__file__).parent
    (tmp_path / "conftest.py").write_text((folder / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {folder}\nmarkers = netns\n")
    (tmp_path / "test_skips.py").write_text("""
import pytest
from world import need
def test_unmarked(): need("no-such-tool")
@pytest.mark.netns
def test_marked(): need("no-such-tool")
@pytest.mark.netns
@pytest.mark.skipif(True, reason="mark")
def test_by_mark(): pass
@pytest.mark.netns
@pytest.mark.xfail
def test_expected_to_fail(): assert False
""")
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path],
        env=os.environ | {"MCASTCTL_REQUIRE_NETNS": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert closing in outcome.stdout.splitlines()[-1]


def test_every_host_has_its_own_address(trio: Trio) -> None:
    assert len({host.addr4() for host in (trio.asker, *trio.responders)}) == 4


@pytest.mark.usefixtures("namespaces")
def test_worlds_are_cheap() -> None:
    took = []
    for _ in range(3):
        started = time.monotonic()
        with World() as world:
            world.link(world.host("a"), world.host("b"))
        took.append(time.monotonic() - started)
    assert min(took) < 0.9  # some 60 ms; a second means that the kernel reports carriers late
