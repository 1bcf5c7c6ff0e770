"""What goes wrong around a command does not change its answer: floods, slow readers, closed pipes,
reports about others, odd limits, forbidding routes and broken settings."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from itertools import accumulate
from pathlib import Path

import pytest
from conftest import Pair, Trio
from flood import read_up
from streams import Stream, check_schema, inject
from world import Host, Outcome, Place, Running, World, jsonl

from mcastctl.model import probe
from mcastctl.net import ancillary
from mcastctl.net.nic import Nic
from mcastctl.net.receiver import Receiver, Subscription

GROUP4, GROUP6 = "239.1.1.1:5004", "[ff15::77]:5970"

# Runs a program with a line and 40 MB of another on its standard input; prints its largest memory
# in KiB.
FEED = """
import resource, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, bufsize=0)
try:
    child.stdin.write(b"first\\n")
    for _ in range(640):
        child.stdin.write(b"x" * 65536)
    child.stdin.close()
except BrokenPipeError:
    pass
status = child.wait()
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""

# argv: IPv6 group, interface index. Joins and reads nothing.
MEMBER = """
import signal, socket, struct, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
request = socket.inet_pton(socket.AF_INET6, sys.argv[1]) + struct.pack("@I", int(sys.argv[2]))
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
print("member", flush=True)
signal.pause()
"""


def listen(host: Host, *args: str, joined: int = 1, **env: str) -> Running:
    """A listener that prints JSON and has joined everything."""
    listener = host.start_mcastctl("listen", "-j", *args, env=env)
    listener.wait_stdout('^{"type":"joined"', count=joined)
    return listener


def interrupted(running: Running, timeout: float = 30) -> Stream:
    """What a command printed that ends by SIGINT."""
    running.signal(signal.SIGINT)
    stream = Stream.of(running.finish(timeout))
    assert stream.status == -signal.SIGINT
    return stream


def into_a_closed_pipe(place: Place, *args: str) -> Outcome:
    """Run mcastctl with a standard output that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return place.mcastctl(*args, stdout=writing)
    finally:
        os.close(writing)


# --- floods and bursts


def flood(host: Host, ifname: str, number: int) -> Running:
    """A flood that is under way, and comes back in by the same interface; 20 s at the most."""
    member = [sys.executable, "-c", MEMBER, "ff15::77", str(host.ifindex(ifname))]
    host.popen(member).wait_stdout("member")  # the kernel loops only what that interface joined
    args = [GROUP6, "x", "-i", ifname, "--flood", "-T", "20s", "-c", str(number), "-q", "-j"]
    sender = host.start_mcastctl("send", *args)
    sender.wait_stdout('"start"')
    return sender


ENDLESS = 1 << 30


def two_interfaces(world: World) -> Host:
    """A host with a0 and a1, each on a cable of its own."""
    a = world.host("a")
    world.link(a, world.host("b"))
    world.link(a, world.host("c"))
    return a


def test_a_flood_by_another_interface_does_not_delay_the_end(world: World) -> None:
    a = two_interfaces(world)
    flooding = flood(a, "a1", ENDLESS)
    heard = Stream.of(listen(a, GROUP6, "-i", "a0", "-T", "500ms").finish())
    check_flooded(flooding)
    summary = heard.summary
    assert (summary["packets"], summary["kernel_drops"], heard.status) == (0, 0, 1)
    assert summary["reason"] == "timeout"


def check_flooded(flooding: Running) -> None:
    """End a flood; it must have gone on until now."""
    assert not flooding._ended(0), "only the end of the flood was the end of the listener"
    assert interrupted(flooding).summary["sent"] > 1000


def test_a_flood_by_another_interface_fills_no_buffer(world: World) -> None:
    a = two_interfaces(world)
    listener = listen(a, GROUP6, "-i", "a0", "--rcvbuf", "16k")
    listener.signal(signal.SIGSTOP)
    sent = Stream.of(flood(a, "a1", 20_000).finish()).summary["sent"]
    listener.signal(signal.SIGCONT)
    assert sent == 20_000  # far more than the buffer holds
    summary = interrupted(listener).summary
    assert (summary["packets"], summary["kernel_drops"]) == (0, 0)


def test_passing_over_what_is_for_others_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel cannot keep another interface out, its flood never empties the socket."""

    class Flooded:
        taken = 0

        def recvmsg_into(self, *_: object) -> tuple[int, list[object], int, tuple[str, int]]:
            self.taken += 1
            assert self.taken < 10_000, "it looks at no deadline"
            return 1, [], 0, ("fe80::1", 9)

    elsewhere = ancillary.parse([])._replace(dst="ff15::77", ifindex=99)
    monkeypatch.setattr(ancillary, "parse", lambda _: elsewhere)
    one = Receiver.__new__(Receiver)  # without a socket of this machine
    one.subscription = Subscription("ff15::77", 5970, Nic("a0", 12), (), False)
    one._skipped, one._intake = 0, None
    flooded = Flooded()
    one._sock = flooded  # type: ignore[assignment]
    assert one.receive() is None
    assert one.skipped == flooded.taken > 0


def test_a_flood_by_another_interface_can_be_interrupted(world: World) -> None:
    a = two_interfaces(world)
    listener = listen(a, GROUP6, "-i", "a0")
    flooding = flood(a, "a1", ENDLESS)
    heard = interrupted(listener)
    check_flooded(flooding)
    assert (heard.summary["packets"], heard.summary["kernel_drops"]) == (0, 0)


def test_every_command_of_a_burst_runs_without_another_datagram(pair: Pair) -> None:
    a, b = pair
    command = "sh -c 'echo +; sleep 0.3; echo -'"
    listener = b.start_mcastctl("listen", GROUP4, "-i", "b0", "--exec", command)
    listener.wait_stderr("^joined ")
    inject(a, "239.1.1.1", [b"burst"] * 10)
    listener.wait_stdout("^-$", count=10)
    listener.signal(signal.SIGINT)
    ended = listener.finish()
    steps = [1 if line == "+" else -1 for line in ended.stdout.splitlines() if line in "+-"]
    running = list(accumulate(steps))
    assert len(running) == 20
    assert (max(running), running[-1]) == (4, 0)
    assert "--exec" not in ended.stderr  # none failed, none was left out


def test_a_long_command_does_not_outlast_the_time_limit(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    command = f"sh -c 'sleep 9; touch {tmp_path}/over'"
    listener = listen(b, GROUP4, "-i", "b0", "-T", "2s", "--exec", command)
    inject(a, "239.1.1.1", [b"x"])
    heard = Stream.of(listener.finish())
    assert list(tmp_path.iterdir()) == []
    assert heard.payloads == ["x"]
    assert heard.only("notice")["code"] == "exec"


def test_what_waits_for_a_slow_reader_is_not_silence(pair: Pair) -> None:
    a, b = pair
    reading, writing = os.pipe()
    command = ["listen", GROUP4, "-i", "b0", "-j", "--idle", "2s", "--rcvbuf", "64M"]
    listener = b.start_mcastctl(*command, stdout=writing)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = [pipe.readline()]
        while b'"joined"' not in lines[-1]:
            lines.append(pipe.readline())
            assert lines[-1], "it ended"
        # The kernel counts about 1 KiB a small datagram, and more when it gives less than asked.
        granted = int(jsonl(lines[-1].decode())[0]["rcvbuf_bytes"])
        total = min(20_000, granted // 1024)
        listener.signal(signal.SIGSTOP)
        inject(a, "239.1.1.1", [b"s" * 100] * total)
        listener.signal(signal.SIGCONT)
        # Nobody reads for longer than the silence that would end it.
        assert not threading.Event().wait(2.5)
        lines += pipe.readlines()
    ended = listener.finish()
    text = b"".join(lines).decode()
    heard = Stream.of(Outcome(ended.returncode, text, ended.stderr))
    assert (heard.summary["packets"], len(heard.datagrams)) == (total, total)
    assert (heard.summary["kernel_drops"], heard.summary["reason"]) == (0, "idle")
    assert heard.status == 0


def test_long_answers_to_one_source_are_limited(pair: Pair) -> None:
    a, b = pair
    echo = b.start_mcastctl("echo", GROUP4, "-i", "b0", "-j", "-q", "--text", "T" * 1000)
    echo.wait_stdout('"joined"')
    requests = [
        probe.encode(probe.Probe(probe.REQUEST, 1, 0, 7, number, time.time_ns()))
        for number in range(3000)
    ]
    began = time.monotonic()
    inject(a, "239.1.1.1", requests, gap_s=0.0002)
    read_up(b, 5004)
    echo.signal(signal.SIGINT)
    said = Stream.of(echo.finish()).summary
    most = 100 + 100 * (time.monotonic() - began)
    assert said["packets"] == 3000
    assert 100 <= said["replies_sent"] <= most
    assert said["ignored"] == {"rate": 3000 - said["replies_sent"]}
    assert said["reply_bytes"] == said["replies_sent"] * (probe.MIN_SIZE + 1000)


# --- limits far out


def test_a_very_long_time_limit(pair: Pair) -> None:
    heard = interrupted(listen(pair.b, GROUP4, "-i", "b0", "-T", "600h"))
    assert heard.summary["reason"] == "signal"


def test_a_very_low_rate(pair: Pair) -> None:
    sender = pair.a.start_mcastctl("send", GROUP4, "x", "--pps", "0.0000001", "-j")
    sender.wait_stdout('"datagram"')
    assert interrupted(sender).summary["sent"] == 1


def test_a_bit_rate_of_nothing_is_no_flood(pair: Pair) -> None:
    args = [GROUP4, "", "-b", "1k", "-T", "500ms", "-j", "-q"]
    sent = Stream.of(pair.a.mcastctl("send", *args))
    assert 10 <= sent.summary["sent"] <= 100
    assert sent.summary["bytes"] == 0


def test_time_up_before_the_count_is_no_success(pair: Pair) -> None:
    args = [GROUP4, "x", "-c", "10", "--interval", "100s", "-T", "1s", "-j"]
    sent = Stream.of(pair.a.mcastctl("send", *args))
    assert (sent.status, sent.summary["sent"], sent.summary["reason"]) == (1, 1, "timeout")


def test_an_endless_line_is_refused_at_any_pace(pair: Pair) -> None:
    command = [sys.executable, "-m", "mcastctl", "send", GROUP4, "--interval", "100s"]
    ended = pair.a.run([sys.executable, "-c", FEED, *command], check=False)
    assert ended.returncode == 2
    assert "line 2 of standard input is longer than 65507 bytes" in ended.stderr
    assert "sent 1 datagram, 5 bytes" in ended.stderr
    assert int(ended.stdout.split()[-1]) < 40 * 1024


# --- standard output


@pytest.mark.parametrize(
    "command", [["ifaces", "-j"], ["ifaces", "-v"], ["--help"], ["listen", "--help"], ["--version"]]
)
def test_nobody_reads_what_is_said_once(here: Place, command: list[str]) -> None:
    ended = into_a_closed_pipe(here, *command)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, "")


def test_nobody_reads_the_self_test(world: World) -> None:
    ended = into_a_closed_pipe(world.host("a"), "doctor", "--self-test")
    assert ended.returncode == -signal.SIGPIPE
    assert "Traceback" not in ended.stderr
    assert "error" not in ended.stderr


@pytest.mark.parametrize("command", [["--help"], ["send", "--help"], ["ifaces"]])
def test_help_on_a_full_disk(here: Place, command: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = here.mcastctl(*command, stdout=full.fileno())
    assert ended.returncode == 2
    error, hint = ended.stderr.splitlines()
    assert error == "mcastctl: error: cannot write to standard output: no space left on device"
    assert hint.startswith("hint: ")


def test_a_dump_of_text_keeps_every_line_indented(pair: Pair) -> None:
    a, b = pair
    payload = b"first\nmcastctl: error: forged\n\n\r12:00:00 a0 In\r\nlast\n\x0bend"
    listener = b.start_mcastctl("listen", GROUP4, "-i", "b0", "-A", "-c", "1", "-T", "60s")
    listener.wait_stderr("^joined ")
    inject(a, "239.1.1.1", [payload])
    ended = listener.finish()
    head, *rows = re.split(r"[\n\r\v\f\x85\u2028\u2029]", ended.stdout.removesuffix("\n"))
    assert f"length {len(payload)}" in head
    assert len(rows) == 6
    assert all(row.startswith("\t") for row in rows), rows
    assert rows[:2] == ["\tfirst", "\tmcastctl: error: forged"]


def test_raw_output_is_not_for_people(pair: Pair) -> None:
    a, b = pair
    command = ["listen", GROUP4, "-i", "b0", "-o", "raw", "-q", "-c", "2", "-T", "60s"]
    listener = b.start_mcastctl(*command)
    wait_for_member(b, listener)
    inject(a, "239.1.1.1", [b"\x00one", b"\xfftwo\n"])
    assert listener.finish().raw == b"\x00one\xfftwo\n"


def wait_for_member(host: Host, running: Running) -> None:
    """Return once 239.1.1.1 is joined on the host; a quiet command tells nobody."""
    deadline = time.monotonic() + 30
    while "010101EF" not in host.proc("igmp"):
        assert running.process.poll() is None, "it ended"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("command", ["listen", "echo"])
def test_what_was_joined_is_left(pair: Pair, command: str) -> None:
    endpoints = [GROUP4, "10.0.1.1,10.0.1.9@232.1.1.1:5004", GROUP6]
    args = [command, *endpoints, "-i", "b0", "-j", "-T", "100ms"]
    ended = Stream.of(pair.b.mcastctl(*args))

    def members(kind: str) -> Counter[tuple[str, int, str, str]]:
        return Counter(
            (one["group"], one["port"], str(one["source"]), one["iface"]) for one in ended.all(kind)
        )

    assert sum(members("joined").values()) == 4
    assert members("left") == members("joined")
    assert [one["type"] for one in ended.records[-5:]] == [*["left"] * 4, "summary"]


def test_the_loss_of_a_plain_stream_is_unknown(pair: Pair) -> None:
    a, b = pair
    listener = b.start_mcastctl("listen", GROUP4, "-i", "b0", "-c", "2", "-T", "60s")
    listener.wait_stderr("^joined ")
    inject(a, "239.1.1.1", [b"one", b"two"])
    (line,) = (one for one in listener.finish().stderr.splitlines() if one.startswith("heard "))
    assert "loss unknown" in line
    assert "lost 0" not in line


def test_the_last_interval_is_told_although_not_whole(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-i", "b0", "-q", "--interval", "300ms", "-c", "6", "-T", "60s")
    inject(a, "239.1.1.1", [b"tick"])
    listener.wait_stdout('"type":"interval"')
    inject(a, "239.1.1.1", [b"tick"] * 5)
    heard = Stream.of(listener.finish())
    intervals = heard.all("interval")
    assert len(intervals) >= 2
    assert intervals[-1]["packets"] >= 1
    assert sum(one["packets"] for one in intervals) == heard.summary["packets"] == 6
    assert sum(one["bytes"] for one in intervals) == heard.summary["bytes"] == 24


def test_two_rtp_sources_on_one_flow(pair: Pair) -> None:
    a, b = pair

    def rtp(ssrc: int, seq: int) -> bytes:
        times = (seq % 65536).to_bytes(2, "big") + (900 * seq).to_bytes(4, "big")
        return bytes([0x80, 33]) + times + ssrc.to_bytes(4, "big") + b"media"

    gone = {0xCAFEBABE: {5, 6, 17}, 0x0BADF00D: {9}}
    first = {0xCAFEBABE: 65530, 0x0BADF00D: 100}  # one wraps, the other does not
    payloads = [
        rtp(ssrc, first[ssrc] + number)
        for number in range(30)
        for ssrc in gone
        if number not in gone[ssrc]
    ]
    listener = listen(b, GROUP4, "-i", "b0", "-c", str(len(payloads)), "-T", "60s", "-q")
    inject(a, "239.1.1.1", payloads, sport=4000, gap_s=0.001)
    rows = Stream.of(listener.finish()).summary["streams"]
    kept = ("kind", "packets", "lost", "duplicates", "reordered")
    assert {row["stream"]: [row[key] for key in kept] for row in rows} == {
        "cafebabe": ["rtp", 27, 3, 0, 0],
        "badf00d": ["rtp", 29, 1, 0, 0],
    }


# --- the answers of others


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_a_closed_port_is_charged_to_its_own_host(trio: Trio, group: str) -> None:
    asker, (x, y, _) = trio
    version6 = "[" in group
    hosts = [one.addr6() if version6 else one.addr4() for one in (x, y)]
    expected = [word for host in hosts for word in ("--expect-from", host)]
    args = [group, *expected, "-c", "3", "--interval", "150ms", "--wait", "300ms", "-j"]
    asked = Stream.of(asker.mcastctl("ping", *args))
    assert asked.status == 1
    assert (asked.summary["errors"], asked.summary["refused"]) == ({}, 0)
    assert asked.all("notice") == []
    assert asked.summary["attempted"] == 9
    unreachable = {
        one["responder"]: one["unicast"]["unreachable"] for one in asked.summary["responders"]
    }
    assert set(unreachable) == set(hosts)
    assert all(1 <= count <= 3 for count in unreachable.values()), unreachable


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_what_one_sends_is_no_reply(pair: Pair, group: str) -> None:
    a, _ = pair
    port = group.rpartition(":")[2]
    listener = listen(a, group, "-i", "a0", "-c", "1", "-T", "60s")
    args = [group, "mine", "-i", "a0", "--bind", f":{port}", "--wait", "300ms", "-j"]
    sent = Stream.of(a.mcastctl("send", *args))
    assert Stream.of(listener.finish()).payloads == ["mine"]
    assert (sent.summary["sent"], sent.summary["replies"]) == (1, 0)
    assert [one["direction"] for one in sent.datagrams] == ["tx"]


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
@pytest.mark.parametrize("listens_first", [True, False])
def test_the_port_of_the_group_may_be_sent_from(
    pair: Pair, group: str, listens_first: bool
) -> None:
    a, _ = pair
    port = group.rpartition(":")[2]
    hear = [group, "-i", "a0", "-c", "1", "-T", "60s"]
    send = ["send", group, "x", "-i", "a0", "--bind", f":{port}", "--interval", "50ms", "-j"]
    listener = listen(a, *hear) if listens_first else None
    sender = a.start_mcastctl(*send)
    sender.wait_stdout('"datagram"')
    heard = Stream.of((listener or listen(a, *hear)).finish())
    assert [one["sport"] for one in heard.datagrams] == [int(port)]
    assert interrupted(sender).summary["refused"] == 0


def test_a_line_of_standard_input_shows_its_answer(pair: Pair) -> None:
    a, b = pair
    echo = b.start_mcastctl("echo", GROUP4, "--any", "-j")
    echo.wait_stdout('"joined"')
    ended = a.mcastctl("send", GROUP4, input="x\n")
    assert ended.returncode == 0
    (line,) = ended.stdout.splitlines()
    assert re.search(r" a0 In 10\.0\.1\.2:5004 > 10\.0\.1\.1:\d+ .* length 1 x$", line), line
    assert "replies 1" in ended.stderr
    assert interrupted(echo).summary["replies_sent"] == 1


# --- interfaces and routes


def test_a_route_that_prohibits_the_group(pair: Pair) -> None:
    a, b = pair
    a.ip("route add prohibit 239.5.0.0/16")
    ended = a.mcastctl("send", "239.5.1.1:5994", "x")
    assert ended.returncode == 2
    error, hint = ended.stderr.splitlines()
    assert "239.5.1.1" in error
    assert "(EACCES)" in error
    assert "a route prohibits the group" in hint
    assert "-i" in hint
    listener = listen(b, "239.5.1.1:5994", "-i", "b0", "-c", "1", "-T", "60s")
    assert a.mcastctl("send", "239.5.1.1:5994", "x", "-i", "a0").returncode == 0
    assert Stream.of(listener.finish()).payloads == ["x"]


@pytest.mark.parametrize("command", [["listen", "-T", "0s"], ["send", "--hex", "00"]])
def test_two_interfaces_for_one_group_contradict_each_other(
    world: World, command: list[str]
) -> None:
    a = two_interfaces(world)
    ended = a.mcastctl(*command, "[ff15::1%a0]:5004", "-i", "a1")
    assert ended.returncode == 2
    error, hint = ended.stderr.splitlines()
    assert error == "mcastctl: error: ff15::1 names interface a0, but -i names a1"
    assert hint == "hint: keep one of the two"
    agreed = a.mcastctl(*command, "[ff15::1%a0]:5004", "-i", "a0")
    assert agreed.returncode != 2


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_another_name_is_not_another_interface(pair: Pair, group: str) -> None:
    a, b = pair
    named = b.sh("ip link property add dev b0 altname foo", check=False)
    if named.returncode:
        pytest.skip(f"no alternative interface names: {named.stderr.strip()}")
    listener = listen(b, group, "-i", "b0", "-i", "foo", "-T", "60s", "--idle", "3s")
    assert a.mcastctl("send", group, "once", "-i", "a0").returncode == 0
    heard = Stream.of(listener.finish())
    assert heard.payloads == ["once"]
    assert heard.summary["packets"] == 1
    assert heard.only("joined")["iface"] == "b0"


def test_an_interface_that_is_down(pair: Pair) -> None:
    _, b = pair
    args = ["listen", GROUP4, "-i", "b0", "-T", "100ms"]
    assert "is down" not in b.mcastctl(*args).stderr
    b.ip("link set b0 down")
    assert "warning: b0 is down" in b.mcastctl(*args).stderr


def test_joined_groups_are_shown(pair: Pair) -> None:
    _, b = pair
    listen(b, GROUP4, GROUP6, "-i", "b0", joined=2)
    table = b.mcastctl("ifaces", "-v", "b0").stdout
    (row,) = re.findall(r"^\d+ +b0 +(.*239\.1\.1\.1.*)$", table, re.MULTILINE)
    assert {"239.1.1.1", "ff15::77"} <= set(row.split())
    (shown,) = json.loads(b.mcastctl("ifaces", "b0", "-j").stdout)
    check_schema([shown])
    assert {"239.1.1.1", "ff15::77"} <= set(shown["groups"])


# --- settings


def test_the_environment_sets_no_page_that_ends_the_run(world: World) -> None:
    a = world.host("a")
    env = {"MCASTCTL_VERSION": "1", "MCASTCTL_HELP": "1", "MCASTCTL_LISTEN_HELP": "1"}
    args = ["listen", GROUP4, "-i", "lo", "-T", "50ms", "--expect-none", "-j"]
    heard = Stream.of(a.mcastctl(*args, env=env))
    assert (heard.status, heard.summary["reason"]) == (0, "timeout")
    index = a.mcastctl("ifaces", "lo", "-o", "index", env=env)
    assert (index.returncode, index.stdout) == (0, f"{a.ifindex('lo')}\n")


def configure(host: Host, text: str) -> None:
    """Write the configuration of a host."""
    folder = host.config_home / "mcastctl"
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(text)


def test_a_repeatable_setting_may_be_plain_text(world: World) -> None:
    a = two_interfaces(world)
    configure(a, '[listen]\niface = "a1"\njson = true\n')
    heard = Stream.of(a.mcastctl("listen", GROUP4, "-T", "50ms"))
    assert heard.only("joined")["iface"] == "a1"


def test_help_works_with_broken_settings(world: World) -> None:
    a = world.host("a")
    configure(a, "[send\nttl = ")
    for page in (["--help"], ["send", "--help"]):
        shown = a.mcastctl(*page)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.startswith("Usage: mcastctl")
    refused = a.mcastctl("send", GROUP4, "x")
    assert refused.returncode == 2
    assert "is not valid TOML" in refused.stderr
