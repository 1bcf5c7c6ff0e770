"""`send` puts on the wire what it was told, the way it was told, and counts what became of it."""

from __future__ import annotations

import base64
import itertools
import os
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from conftest import Pair
from flood import heard_out
from streams import Json, Stream
from world import Host, Running, World

from mcastctl.model import probe

GROUP4, GROUP6 = "239.1.1.1:5004", "[ff15::1]:5004"

# argv: group, port, interface index, answer; answers each datagram from a socket of its own
RESPONDER = """
import socket, struct, sys
group, port, index, answer = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
version6 = ":" in group
family = socket.AF_INET6 if version6 else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
sock.bind((group, port))
raw = socket.inet_pton(family, group)
if version6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, raw + struct.pack("@I", index))
else:
    request = struct.pack("@4s4si", raw, b"", index)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
print("joined", flush=True)
while True:
    data, asker = sock.recvfrom(65535)
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        out.sendto(answer + b" " + data, asker)
"""


def listen(host: Host, *args: str, joined: int = 1) -> Running:
    """A listener that prints JSON and has joined everything."""
    listener = host.start_mcastctl("listen", "-j", "-T", "60s", *args)
    listener.wait_stdout('^{"type":"joined"', count=joined)
    return listener


def heard(listener: Running) -> Stream:
    """What it heard, to the end."""
    return Stream.of(listener.finish())


def send(host: Host, *args: str | Path, **options: Any) -> Stream:
    """Send, with JSON, and see to it that it went well."""
    sent = Stream.of(host.mcastctl("send", "-j", *args, **options))
    assert sent.status == 0, sent
    return sent


def raw(datagram: Json) -> bytes:
    """The payload of a datagram record."""
    if "payload" in datagram:
        return str(datagram["payload"]).encode()
    return base64.b64decode(datagram["payload_b64"])


# --- what is sent


def test_data_once_and_often(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-c", "5")
    once = send(a, GROUP4, "once")
    often = send(a, GROUP4, "often", "-c", "4", "--interval", "50ms")
    assert (once.summary["sent"], often.summary["sent"]) == (1, 4)
    stream = heard(listener)
    assert stream.payloads == ["once", *["often"] * 4]
    assert 0.149 <= often.summary["elapsed_s"] < 2  # not at once, nor one a second


def steps(times: list[float]) -> list[float]:
    """The time from each to the next."""
    return [late - early for early, late in itertools.pairwise(times)]


def test_without_a_rate_a_count_means_one_a_second(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-c", "2")
    assert 0.999 <= send(a, GROUP4, "tick", "-c", "2").summary["elapsed_s"] < 2.5
    assert len(heard(listener).datagrams) == 2


def test_lines_of_standard_input(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-c", "5")
    sent = send(a, GROUP4, input=b"one\n\n  two \r\n\xff\x00\nlast without line feed")
    assert sent.summary["sent"] == 5
    assert [raw(one) for one in heard(listener).datagrams] == [
        b"one",
        b"",
        b"  two \r",
        b"\xff\x00",
        b"last without line feed",
    ]


def test_a_line_is_sent_as_soon_as_it_is_typed(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-c", "2")
    sender = a.start_mcastctl("send", GROUP4, stdin=PIPE)
    sender.write("half a ")
    sender.write("line\nanother")
    listener.wait_stdout('"payload":"half a line"')
    assert sender.finish().returncode == 0
    assert heard(listener).payloads == ["half a line", "another"]


def test_a_line_too_long_for_a_datagram(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-c", "3")
    lines = b"first\n" + b"y" * 65507 + b"\nthird\n" + b"x" * 65508 + b"\nnever\n"
    outcome = a.mcastctl("send", GROUP4, input=lines)
    assert outcome.returncode == 2
    assert outcome.stderr.splitlines()[:2] == [
        "mcastctl: error: line 4 of standard input is longer than 65507 bytes",
        "hint: use --raw-stdin to send it in pieces, or --file - with -s",
    ]
    assert "sent 3 datagrams" in outcome.stderr
    assert [one["length"] for one in heard(listener).datagrams] == [5, 65507, 5]


def test_an_endless_line_is_refused_before_memory_is_full(pair: Pair) -> None:
    sender = pair.a.start_mcastctl("send", GROUP4, "-j", stdin=PIPE)
    try:
        for _ in range(200):
            sender.write(b"x" * 65536)
    except BrokenPipeError:
        pass
    else:
        pytest.fail("it read thirteen megabytes of one line")
    sent = Stream.of(sender.finish())
    assert (sent.status, sent.summary["reason"]) == (2, "error")
    assert sent.only("notice")["level"] == "error"


def test_a_read_a_datagram(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-c", "5")
    sender = a.start_mcastctl("send", GROUP4, "--raw-stdin", "-s", "8", "-j", stdin=PIPE)
    for number, write in enumerate([b"one\ntwo", b"three\n\n"], start=1):
        sender.write(write)
        listener.wait_stdout('"datagram"', count=number)
    sender.write(b"0123456789abcdefgh")
    assert Stream.of(sender.finish()).summary["sent"] == 5
    payloads = ["one\ntwo", "three\n\n", "01234567", "89abcdef", "gh"]
    assert heard(listener).payloads == payloads


def test_a_file_in_pieces(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    content = bytes(range(256)) * 10
    file = tmp_path / "content"
    file.write_bytes(content)
    listener = listen(b, GROUP4, "-c", "6")
    send(a, GROUP4, "--file", file, "-s", "1000", "--pps", "200")
    send(a, GROUP4, "--file", "-", "-s", "1000", input=content)
    datagrams = heard(listener).datagrams
    assert [one["length"] for one in datagrams] == [1000, 1000, 560] * 2
    assert b"".join(map(raw, datagrams)) == content * 2


def test_an_empty_file_sends_nothing(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert send(pair.a, GROUP4, "--file", tmp_path / "empty").summary["attempted"] == 0
    assert send(pair.a, GROUP4, input="").summary["attempted"] == 0


def test_hex(pair: Pair) -> None:
    a, b = pair
    listener = b.start_mcastctl("listen", GROUP4, "-o", "raw", "-c", "3")
    listener.wait_stderr("^joined")
    for digits in ("00:ff 0A", "0x68656c6C6f", ""):
        send(a, GROUP4, "--hex", digits)
    assert listener.finish().raw == b"\x00\xff\nhello"


def test_probes(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "239.1.1.2:5004", "-c", "6", joined=2)
    before = time.time_ns()
    sent = send(
        a, f"{GROUP4}+1", "--probe", "-c", "3", "--interval", "20ms", "-s", "100", "-t", "3"
    )
    after = time.time_ns()
    assert (sent.summary["sent"], sent.summary["bytes"]) == (6, 600)
    datagrams = heard(listener).datagrams
    headers = [probe.decode(raw(one)) for one in datagrams]
    for header, one in zip(headers, datagrams, strict=True):
        assert header is not None
        assert (header.kind, header.ttl, header.seq) == (probe.DATA, 3, one["seq"])
        assert before < header.sent_ns < after
        assert f"{header.stream:x}" == one["stream"]
        assert raw(one)[32:] == probe.filling(68)
    for group in ("239.1.1.1", "239.1.1.2"):
        assert [one["seq"] for one in datagrams if one["dst"] == group] == [0, 1, 2]
    assert len({one["stream"] for one in datagrams}) == 2
    assert {one["stream"] for one in sent.datagrams} == {one["stream"] for one in datagrams}
    assert [one["ttl"] for one in sent.datagrams] == [3] * 6


@pytest.mark.parametrize(
    ("endpoint", "groups"),
    [
        ("239.1.1.254:5004+3", ["239.1.1.254", "239.1.1.255", "239.1.2.0", "239.1.2.1"]),
        ("[ff15::ffff]:5004+1", ["ff15::ffff", "ff15::1:0"]),
        ("239.1.1.4/30:5004", ["239.1.1.4", "239.1.1.5", "239.1.1.6", "239.1.1.7"]),
    ],
)
def test_many_groups(pair: Pair, endpoint: str, groups: list[str]) -> None:
    a, b = pair
    listener = listen(b, endpoint, "-c", str(len(groups)), joined=len(groups))
    assert send(a, endpoint, "x").summary["sent"] == len(groups)
    assert [one["dst"] for one in heard(listener).datagrams] == groups


# --- which way


@pytest.mark.parametrize(
    ("group", "bind", "src", "sport"),
    [
        (GROUP4, ":4000", "10.0.1.1", 4000),
        (GROUP4, "10.0.1.77", "10.0.1.77", None),
        (GROUP4, "10.0.1.77:4001", "10.0.1.77", 4001),
        (GROUP6, ":4002", "fd00:1::1", 4002),
        (GROUP6, "fd00:1::77", "fd00:1::77", None),
        (GROUP6, "[fd00:1::77]:4003", "fd00:1::77", 4003),
        (GROUP6, "[fe80::ff:fe00:101]:4004", "fe80::ff:fe00:101", 4004),
        ("[ff02::1:5]:5004", "fd00:1::77", "fd00:1::77", None),
        (f"10.0.1.77@{GROUP4}", ":4005", "10.0.1.77", 4005),
    ],
)
def test_source_address_and_port(
    pair: Pair, group: str, bind: str, src: str, sport: int | None
) -> None:
    a, b = pair
    if src.endswith("77"):
        a.ip("addr add 10.0.1.77/24 dev a0", "addr add fd00:1::77/64 dev a0 nodad")
    listener = listen(b, group.rpartition("@")[2], "-c", "1")
    sent = send(a, group, "x", "--bind", bind).only("datagram")
    datagram = heard(listener).only("datagram")
    assert datagram["src"] == sent["src"] == src
    assert datagram["sport"] == sent["sport"]
    assert sport in (None, datagram["sport"])


def fork(world: World) -> tuple[Host, Host, Host]:
    """A host with cables to two others: fork0 to b0, fork1 to c0."""
    middle, b, c = (world.host(name) for name in ("fork", "b", "c"))
    world.link(middle, b)
    world.link(middle, c)
    return middle, b, c


def test_the_source_is_one_interface_and_the_way_out_another(world: World) -> None:
    middle, b, c = fork(world)
    deaf, listener = (listen(host, GROUP4, GROUP6, "-c", "2", joined=2) for host in (b, c))
    sent = send(middle, GROUP4, "4", "--bind", "10.0.1.1", "-i", "fork1").only("datagram")
    assert (sent["src"], sent["iface"]) == ("10.0.1.1", "fork1")
    send(middle, GROUP6, "6", "--bind", "fd00:1::1", "-i", "fork1")
    datagrams = heard(listener).datagrams
    assert [one["src"] for one in datagrams] == ["10.0.1.1", "fd00:1::1"]
    # Nothing took the interface that owns the source address.
    send(middle, GROUP4, "last", "--bind", "10.0.2.1", "-i", "fork0")
    send(middle, GROUP6, "last", "-i", "fork0")
    assert heard(deaf).payloads == ["last", "last"]


@pytest.mark.parametrize("group", [GROUP4, GROUP6, "[ff02::5]:5004"])
def test_several_interfaces_from_one_pinned_port(world: World, group: str) -> None:
    middle, *others = fork(world)
    listeners = [listen(host, group, "-c", "1") for host in others]
    sent = send(middle, group, "x", "-i", "fork0", "-i", "fork1", "--bind", ":4000")
    assert [one["iface"] for one in sent.datagrams] == ["fork0", "fork1"]
    datagrams = [heard(listener).only("datagram") for listener in listeners]
    assert [one["sport"] for one in datagrams] == [4000, 4000]
    assert [one["src"] for one in datagrams] == [one["src"] for one in sent.datagrams]
    assert len({one["src"] for one in datagrams}) == 2


@pytest.mark.parametrize("name", ["by name", "by index", "by address"])
def test_an_interface_has_three_names(world: World, name: str) -> None:
    middle, _, c = fork(world)
    iface = {
        "by name": "fork1",
        "by index": str(middle.ifindex("fork1")),
        "by address": middle.addr4("fork1"),
    }[name]
    listener = listen(c, GROUP4, "[ff02::5%c0]:5004", "-c", "2", joined=2)
    send(middle, GROUP4, "4", "-I", iface)
    send(middle, "[ff02::5]:5004", "6", "--iface", iface)
    assert heard(listener).payloads == ["4", "6"]


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_own_listeners_and_the_loop(pair: Pair, group: str) -> None:
    a, b = pair
    own, other = listen(a, group, "-c", "1"), listen(b, group, "-c", "2")
    send(a, group, "not for me", "-L")
    send(a, group, "for all")
    assert heard(own).payloads == ["for all"]
    assert heard(other).payloads == ["not for me", "for all"]


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_ttl_zero_stays_on_the_host(pair: Pair, group: str) -> None:
    a, b = pair
    own, other = listen(a, group, "-c", "2"), listen(b, group, "-c", "1")
    send(a, group, "stay", "-t", "0")
    send(a, group, "go", "-t", "255")
    assert heard(own).payloads == ["stay", "go"]
    datagram = heard(other).only("datagram")
    assert (datagram["payload"], datagram["ttl"]) == ("go", 255)


def test_an_ordinary_address_when_asked_for(pair: Pair) -> None:
    a, b = pair
    catcher = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    catcher += "; s.bind(('10.0.1.2', 5004)); print('up', flush=True); print(s.recvfrom(99))"
    running = b.popen([sys.executable, "-c", catcher])
    running.wait_stdout("up")
    send(a, "10.0.1.2:5004", "hello", "--unicast", "--bind", ":4000")
    assert "(b'hello', ('10.0.1.1', 4000))" in running.finish().stdout


def test_one_family_and_a_port_apart(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, "239.1.1.1", "ff15::1", "-p", "5010", "-6", "-c", "1")
    send(a, "ff15::1", "six", "-p", "5010", "-6")
    stream = heard(listener)
    assert (stream.only("joined")["group"], stream.payloads) == ("ff15::1", ["six"])


# --- replies


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_replies_while_standard_input_is_open(pair: Pair, group: str) -> None:
    a, b = pair
    address, port = group.rsplit(":", 1)
    index = str(b.ifindex())
    args = [sys.executable, "-c", RESPONDER, address.strip("[]"), port, index, "echo"]
    b.popen(args).wait_stdout("joined")
    sender = a.start_mcastctl("send", group, "-j", "--bind", ":4000", stdin=PIPE)
    sender.write("one\n")
    sender.wait_stdout('"payload":"echo one"')
    sender.write("two\n")
    sender.wait_stdout('"payload":"echo two"')
    sent = Stream.of(sender.finish())
    directions = [one["direction"] for one in sent.datagrams]
    assert sorted(directions) == ["rx", "rx", "tx", "tx"]
    reply = next(one for one in sent.datagrams if one["direction"] == "rx")
    own, other = (a.addr4(), b.addr4()) if group == GROUP4 else (a.addr6(), b.addr6())
    assert (reply["src"], reply["dst"], reply["dport"]) == (other, own, 4000)
    assert (reply["iface"], reply["ifindex"], reply["ttl"]) == ("a0", a.ifindex(), 64)
    assert (sent.summary["replies"], sent.summary["sent"]) == (2, 2)


def test_replies_are_awaited_afterwards(pair: Pair) -> None:
    a, b = pair
    args = [sys.executable, "-c", RESPONDER, "239.1.1.1", "5004", str(b.ifindex()), "echo"]
    b.popen(args).wait_stdout("joined")
    started = time.monotonic()
    outcome = a.mcastctl("send", GROUP4, "hello", "--wait", "1s")
    assert 1 < time.monotonic() - started < 20
    assert outcome.stdout.count("echo hello") == 1
    assert "10.0.1.2:" in outcome.stdout
    assert "replies 1" in outcome.stderr


# --- how fast


def test_a_rate_is_kept(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-q")
    sent = send(a, GROUP4, "--probe", "--pps", "1000", "-T", "2s", "-q")
    check_paced(sent.summary["sent"], 2000)
    assert sent.summary["reason"] == "timeout"
    stream = heard_out(listener, b)
    assert (stream.summary["packets"], stream.summary["lost"]) == (sent.summary["sent"], 0)


def check_paced(found: float, wanted: float) -> None:
    """Never faster; less only by what the machine was taken away for longer than is made up."""
    assert 0.9 * wanted <= found <= 1.02 * wanted


def test_a_bit_rate_counts_payload_bits(pair: Pair) -> None:
    sent = send(pair.a, GROUP4, "--probe", "-s", "1000", "-b", "3.2M", "-T", "1s", "-q")
    check_paced(sent.summary["sent"], 400)
    check_paced(sent.summary["bits_per_s"], 3.2e6)


def test_a_rate_holds_over_all_groups(pair: Pair) -> None:
    sent = send(pair.a, "239.1.1.1:5004+3", "--probe", "--pps", "400", "-T", "1s", "-q")
    check_paced(sent.summary["sent"], 400)


def test_a_flood_is_faster_than_any_pace_and_ends_in_time(pair: Pair) -> None:
    sent = send(pair.a, GROUP4, "--probe", "--flood", "-T", "300ms", "-q")
    assert sent.summary["sent"] > 1000
    assert 0.3 <= sent.summary["elapsed_s"] < 3
    sent = send(pair.a, GROUP4, "x", "--flood", "-c", "500", "-q")
    assert sent.summary["sent"] == 500
    assert sent.summary["elapsed_s"] < 3


def test_a_pause_does_not_end_in_a_burst(pair: Pair) -> None:
    a, b = pair
    listener = b.start_mcastctl("listen", "-j", GROUP4, "-T", "60s")
    listener.wait_stdout('"joined"')
    sender = a.start_mcastctl("send", GROUP4, "--probe", "--pps", "500", "-q", "-c", "700")
    listener.wait_stdout('"datagram"', count=50)
    sender.signal(signal.SIGSTOP)
    time.sleep(1)  # how long it was away
    sender.signal(signal.SIGCONT)
    sender.finish()
    times = [one["ts"] for one in heard_out(listener, b).datagrams]
    gaps = steps(times)
    resumed = gaps.index(max(gaps)) + 1
    assert gaps[resumed - 1] > 0.9
    early = sum(times[resumed] <= ts < times[resumed] + 0.05 for ts in times)
    assert 5 <= early <= 85  # 25 are its pace, 50 the debt made up, 500 would be all of it


def test_a_paced_input_waits_its_turn(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-c", "4")
    sent = send(a, GROUP4, "--interval", "60ms", input="a\nb\nc\nd\n")
    assert heard(listener).payloads == ["a", "b", "c", "d"]
    assert sent.summary["elapsed_s"] >= 0.179


# --- ends


def test_limits_of_count_and_time(pair: Pair) -> None:
    sent = send(pair.a, GROUP4, "-c", "2", input="a\nb\nc\n")
    assert (sent.summary["sent"], sent.summary["reason"]) == (2, "end")
    waiting = pair.a.start_mcastctl("send", GROUP4, "-T", "300ms", "-j", stdin=PIPE)
    waiting.wait_stdout('"start"')
    assert waiting._ended(30)  # its input stays open
    sent = Stream.of(waiting.finish())
    assert sent.summary["reason"] == "timeout"
    assert 0.3 <= sent.summary["elapsed_s"] < 3


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("busy", [True, False])
def test_a_signal_ends_it_after_the_summary(pair: Pair, name: str, busy: bool) -> None:
    number = getattr(signal, name)
    args = ["tick", "--interval", "10ms", "-T", "60s"] if busy else []
    sender = pair.a.start_mcastctl("send", GROUP4, "-j", *args, stdin=PIPE)
    if not busy:
        sender.write("tick\n")
    sender.wait_stdout('"datagram"')
    sender.signal(number)
    assert sender._ended(30)  # its input stays open
    sent = Stream.of(sender.finish())
    assert sent.status == -number
    assert sent.summary["reason"] == "signal"
    assert sent.summary["sent"] == len(sent.datagrams) >= 1


def test_text_says_how_it_went(pair: Pair) -> None:
    outcome = pair.a.mcastctl("send", GROUP4, "hello", "-c", "3", "--interval", "10ms")
    assert (outcome.returncode, outcome.stdout) == (0, "")
    assert outcome.stderr.startswith("sent 3 datagrams, 15 bytes in 0.")
    assert outcome.stderr.count("\n") == 1
    outcome = pair.a.mcastctl("send", GROUP4, "hello", "-qq")
    assert outcome == (0, "", "")
    outcome = pair.a.mcastctl("send", GROUP4, "hello", "-v", "--bind", ":4000")
    assert "a0 Out 10.0.1.1:4000 > 239.1.1.1:5004 ttl 1 length 5 hello\n" in outcome.stdout


def test_a_reader_that_goes_away_ends_it(pair: Pair) -> None:
    reading, writing = os.pipe()
    args = ["send", GROUP4, "x", "--interval", "10ms", "-T", "60s", "-v"]
    sender = pair.a.start_mcastctl(*args, stdout=writing)
    os.close(writing)
    assert os.read(reading, 1)
    os.close(reading)
    ended = sender.finish()
    assert ended.returncode == -signal.SIGPIPE
    assert "Traceback" not in ended.stderr
    assert "sent " in ended.stderr


@pytest.mark.parametrize("form", ["-j", "-v"])
def test_a_full_disk_is_an_error(pair: Pair, form: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = pair.a.mcastctl("send", GROUP4, "x", form, stdout=full.fileno())
    assert ended.returncode == 2
    error = "mcastctl: error: cannot write to standard output: no space left on device\nhint: "
    assert ended.stderr.count(error) == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_do_no_harm(pair: Pair, closed: str) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-c", "1")
    command = f"{sys.executable} -m mcastctl send {GROUP4}"
    silent = a.run(["sh", "-c", f"exec {command} {closed}"], check=False)
    assert silent.returncode == 0
    spoken = a.run(["sh", "-c", f"exec {command} hello -v {closed}"], check=False)
    assert spoken.returncode == (2 if ">&-" in closed.replace("2>&-", "") else 0)
    assert "Traceback" not in silent.stderr + spoken.stderr
    # No socket became a standard descriptor: what is printed did not go out on the wire.
    assert heard(listener).payloads == ["hello"]


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_an_interface_that_is_down_is_what_is_said(pair: Pair, group: str) -> None:
    a, _ = pair
    a.ip("link set a0 down")
    outcome = a.mcastctl("send", group, "x", "-i", "a0")
    assert outcome.returncode == 2
    assert "a0 is administratively down: ip link set a0 up" in outcome.stderr
