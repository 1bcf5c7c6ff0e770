"""Hostile text from network, files and system, through every mode of output: no control code and
nothing invisible reaches the terminal, a datagram is a line, JSON stays JSON.
"""

from __future__ import annotations

import functools
import json
import os
import pty
import re
import signal
import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE
from threading import Thread
from typing import Any

import frames as f
import hostile
import pytest
from conftest import Pair, reason_without_world
from hypothesis import given
from hypothesis import strategies as st
from streams import inject
from test_errors import Office, two_lines
from test_escape import check_harmless
from test_output_faults import _read
from world import Host, Outcome, Place, World, need

from mcastctl.model.records import Datagram, Membership, Notice, Record, Reply, Start
from mcastctl.model.run import Run
from mcastctl.output import runs, sinks, text
from mcastctl.output.escape import escape

NUMBER = 10_000
EVIL = "\x1b[1m\u202e"
"""An interface name the kernel takes: anything but blanks, '/' and ':'."""
CLOCK = re.compile(r"\d\d:\d\d:\d\d\.\d{6} ")


@functools.cache
def corpus() -> list[bytes]:
    return hostile.payloads(NUMBER)


def datagram(payload: bytes, iface: str = EVIL) -> Datagram:
    where = ("10.0.0.1", 4000, "239.1.1.1", 5004)
    return Datagram(1_500_000_000, "rx", iface, 3, *where, 1, 46, len(payload), payload)


def run_of(payloads: list[bytes]) -> Run:
    """Datagrams as a busy receiver hands them on."""
    times = array("q", range(len(payloads)))
    return Run(datagram(payloads[0]), 1_500_000_000, times, array("Q"), list(payloads))


def written(capfd: pytest.CaptureFixture[str], sink: sinks.Sink, records: list[Any]) -> str:
    capfd.readouterr()
    for one in records:
        sink.write(one)
        sink.flush()
    sink.close()
    return "".join(capfd.readouterr())


@pytest.mark.parametrize("detail", ["", "x", "X", "A"])
@pytest.mark.parametrize("verbose", [0, 2])
def test_payloads_as_text(capfd: pytest.CaptureFixture[str], detail: str, verbose: int) -> None:
    sink = functools.partial(sinks.open_sink, "text", detail=detail, verbose=verbose)
    singly = written(capfd, sink(), [datagram(one) for one in corpus()])
    together = written(capfd, sink(), [run_of(corpus())])
    for shown in (singly, together):
        lines = hostile.heads(hostile.check(shown, indented=bool(detail)))
        assert len(lines) == NUMBER
        assert all(CLOCK.match(one) and " length " in one for one in lines)


@given(st.binary(max_size=300), st.text(max_size=20))
def test_any_payload_and_name_is_one_line(payload: bytes, name: str) -> None:
    one = datagram(payload, name)
    together = next(runs.lines(run_of([payload])))
    notice = Notice(1, "warning", "code", name, name)
    reply = Reply(1, "10.0.0.2", 5004, 1, 1, 1, "multicast", 9, False, payload)
    for shown in (text.datagram(one), together, text.reply(reply), *text.notice(notice)):
        check_harmless(shown)
        assert len(hostile.check(shown)) == 1


def test_payloads_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    records = [*map(datagram, corpus()), run_of(corpus())]
    shown = written(capfd, sinks.open_sink("json"), records)
    assert shown.isascii()
    lines = hostile.check(shown)
    assert len(lines) == 2 * NUMBER
    for line, payload in zip(lines, corpus() * 2, strict=True):
        told = json.loads(line, parse_constant=pytest.fail)
        assert told["iface"] == EVIL
        if "payload" in told:
            assert told["payload"].encode() == payload


def every_record(text: str, payload: bytes) -> list[Record]:
    """Each kind of record for people, with hostile text wherever text can stand."""
    flow = ("239.1.1.1", 5004)
    return [
        Start(1, "1", "listen", [text] * 9),
        *(Membership(1, event, *flow, "10.0.0.1", "include", text, 3, 9) for event in JOINS),
        *(Notice(1, level, text, text, text) for level in ("info", "warning", "error")),
        Reply(1, "10.0.0.2", 5004, 1, 1, 1, "multicast", 9, False, payload),
    ]


JOINS = ("joined", "left")


@pytest.mark.parametrize("name", ["text", "json", "dots=1", "hex"])
@pytest.mark.parametrize("verbose", [0, 2])
@pytest.mark.parametrize("quiet", [0, 1])
def test_text_in_every_record(
    capfd: pytest.CaptureFixture[str], name: str, verbose: int, quiet: int
) -> None:
    texts = corpus()[::20]
    sink = sinks.open_sink(name, verbose=verbose, quiet=quiet)
    records = [
        one
        for payload in texts
        for one in every_record(payload.decode(errors="surrogateescape"), payload)
    ]
    lines = hostile.check(written(capfd, sink, records))
    forged = [one for one in lines if one.startswith(("mcastctl: error: forged", '{"type":"sum'))]
    assert not forged
    if name == "json":
        assert [json.loads(one)["type"] for one in lines].count("reply") == (not quiet) * len(texts)


# --- capture files


def announced(payload: bytes, number: int) -> bytes:
    """A frame whose payload stands where some protocol has its text."""
    a, port = "10.0.0.1", 4000
    label = payload[:63] or b"x"
    question = bytes((len(label),)) + label + b"\0"
    texts = [
        ("224.0.0.251", 5353, bytes(4) + struct.pack("!HHHH", 1, 0, 0, 0) + question + b"\0\1\0\1"),
        ("224.0.0.252", 5355, bytes(4) + struct.pack("!HHHH", 1, 0, 0, 0) + question + b"\0\1\0\1"),
        (
            "224.2.127.254",
            9875,
            b"\x20\0\0\1\n\0\0\1application/sdp\0v=0\r\ns=%b\r\no=%b\r\nc=IN IP4 %b\r\nm=%b 1 %b"
            % ((payload,) * 5),
        ),
        ("239.255.255.250", 1900, b"NOTIFY * HTTP/1.1\r\nNT: " + payload + b"\r\nUSN: " + payload),
        ("239.255.255.250", 1900, b"M-SEARCH " + payload + b"\r\nST: " + payload),
        ("239.1.1.1", 5004, payload),
        ("239.1.1.1", 5006, b"\x80\x21" + bytes(10) + payload),
    ]
    group, dport, body = texts[number % len(texts)]
    return f.ether(f.datagram(a, group, port, dport, body))


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture file with hostile payloads, names, comments and tails of control packets."""
    text = b"\x1b[31m\xe2\x80\xae\nforged"
    blocks = [f.section(), f.interface(options=f.option(2, text) + f.option(3, text))]
    for number, payload in enumerate(corpus()):
        data = announced(payload, number)
        if number % 50 == 0:
            body = f.igmp(0x16, 0, "239.1.1.1") + payload
            data = f.ether(f.ip4("10.0.0.1", "239.1.1.1", 2, body))
        if number % 50 == 1:
            data = f.ether(f.ip4("10.0.0.1", "224.0.0.13", 103, f.pim(0, payload)))
        if number % 50 == 2:
            data = payload  # no frame of any kind
        blocks.append(f.packet(data, options=f.option(1, text) if number % 7 == 0 else b""))
    path = tmp_path_factory.mktemp("hostile") / "\x1b[31m\u202efile.pcapng"
    path.write_bytes(b"".join(blocks))
    return path


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ("", NUMBER),
        ("-e", NUMBER),
        ("-x", NUMBER),
        ("-X -e", NUMBER),
        ("-A", NUMBER),
        ("-v", NUMBER),
        ("-vv -c 300", 300),
        ("--control", None),
        ("--streams", None),
        ("-q", 0),
    ],
)
def test_a_capture_file_as_text(
    here: Place, captured: Path, options: str, lines: int | None
) -> None:
    ended = here.mcastctl("sniff", "-r", captured, *options.split(), timeout=60)
    assert ended.returncode == 0, ended.stderr[-2000:]
    hostile.check(ended.stderr)
    dumped = any(one in options for one in ("-x", "-X", "-A", "-v"))
    shown = hostile.heads(hostile.check(ended.stdout, indented=dumped))
    assert lines is None or len(shown) == lines
    assert all(CLOCK.match(one) for one in shown) or options == "--streams"
    assert lines == 0 or len(shown) > 1


def test_a_capture_file_as_json(here: Place, captured: Path) -> None:
    ended = here.mcastctl("sniff", "-r", captured, "-j", timeout=60)
    assert ended.stdout.isascii()
    records = [json.loads(one, parse_constant=pytest.fail) for one in ended.stdout.splitlines()]
    assert [one["type"] for one in records].count("packet") == NUMBER


# --- the wire


def test_payloads_on_the_wire(pair: Pair) -> None:
    """What was heard, answered, sent and replied, each command in another mode."""
    a, b = pair
    some = hostile.payloads(400, seed=2)
    ways = {
        "listen -v": False,
        "listen -X": True,
        "listen -A": True,
        "listen -j": False,
        "echo --any -v": False,
        "echo --any -x -v": True,
    }
    hearing = {}
    for way in ways:
        command, *options = way.split()
        words = [command, "239.1.1.1:5004", "-i", "b0", "-T", "60s", *options]
        hearing[way] = b.start_mcastctl(*words)
    for running in hearing.values():
        (running.wait_stdout if "-j" in running.args else running.wait_stderr)("joined")
    inject(a, "239.1.1.1", some, gap_s=0.001)
    inject(a, "239.1.1.1", [b"the last"])
    for way, running in hearing.items():
        if "listen" in way:  # an echo answers no more than it is allowed to
            running.wait_stdout("the last|7468 6520 6c61 7374", timeout=30)
        running.signal(signal.SIGINT)
        ended = running.finish()
        hostile.check(ended.stderr)
        shown = hostile.heads(hostile.check(ended.stdout, indented=ways[way]))
        if "-j" in way:
            kinds = [json.loads(one, parse_constant=pytest.fail)["type"] for one in shown]
            assert kinds.count("datagram") == len(some) + 1
        elif "listen" in way:
            assert len(shown) == len(some) + 1
        assert len(shown) > 10
        assert "-j" in way or all(CLOCK.match(one) for one in shown)


def test_answers_and_lines_sent(pair: Pair) -> None:
    a, b = pair
    text = hostile.SENTENCES[7] + hostile.SENTENCES[0] + "\u202e"
    echo = b.start_mcastctl("echo", "239.1.1.1:5004", "-i", "b0", "--text", text)
    echo.wait_stderr("^joined")
    ended = a.mcastctl("ping", "239.1.1.1:5004", "-i", "a0", "-c", "2", "--interval", "10ms")
    assert ended.returncode == 0
    shown = hostile.check(ended.stdout)
    assert all(" bytes from 10.0.1.2:5004: " in one for one in shown)
    assert len(shown) == 4
    hostile.check(ended.stderr)
    lines = b"\n".join(one.replace(b"\n", b"") for one in hostile.payloads(400, seed=3))
    words = ["send", "239.1.1.1:5004", "-i", "a0", "-v", "--wait", "0"]
    sent = a.mcastctl(*words, input=lines, timeout=30)
    assert len(hostile.check(sent.stdout)) == lines.count(b"\n") + 1
    hostile.check(sent.stderr)


# --- names of the system, of files and of arguments

# argv: process name. Joins 239.1.1.1 on every interface, with a port it does not share.
MEMBER = """
import ctypes, os, socket, struct, sys
ctypes.CDLL(None).prctl(15, os.fsencode(sys.argv[1]), 0, 0, 0)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", 5004))
for index, name in socket.if_nameindex():
    request = struct.pack("@4s4si", socket.inet_aton("239.1.1.1"), bytes(4), index)
    sock.setsockopt(0, 35, request)
print("member", flush=True)
sys.stdin.read()
"""
COMM = "\x1b[2J\u202e\r;"


@pytest.fixture(scope="module")
def cursed() -> Iterator[Host]:
    """A host where interfaces, a bridge, its port, a program and a firewall rule are ill named."""
    if reason := reason_without_world():
        pytest.skip(reason)
    need("nft")
    with World() as world:
        a, b = world.host("a"), world.host("b")
        world.link(a, b)
        comment = json.dumps({"nftables": [*_rules("\x1b[31m\u202e forged")]})
        names = (EVIL, "\x1b[3m\u200b", "\x9b4m\u2066")
        a.ip(
            "link set a0 down",
            f"link set a0 name {names[0]} up",
            f"link add {names[1]} type bridge mcast_snooping 1",
            f"link add {names[2]} type veth peer name \x1b[5m",
            f"link set {names[2]} master {names[1]} up",
            f"link set {names[1]} up",
            f"route add 224.0.0.0/4 dev {names[0]}",
        )
        a.run(["nft", "-j", "-f", "-"], input=comment)
        member = a.popen([sys.executable, "-c", MEMBER, COMM], stdin=PIPE)
        member.wait_stdout("member")
        b.start_mcastctl("send", "239.1.1.1:5004", "x", "-i", "b0", "--interval", "30ms", "-q")
        yield a


def _rules(text: str) -> Iterator[dict[str, Any]]:
    place = {"family": "inet", "table": "evil", "chain": "evil"}
    hook = {"type": "filter", "hook": "input", "prio": 0, "policy": "accept"}
    address = {"payload": {"protocol": "ip", "field": "daddr"}}
    yield {"add": {"table": {"family": "inet", "name": "evil"}}}
    yield {"add": {"chain": {"family": "inet", "table": "evil", "name": "evil", **hook}}}
    expression = [
        {"match": {"op": "==", "left": address, "right": "239.1.1.1"}},
        {"counter": {"packets": 0, "bytes": 0}},
        {"drop": None},
    ]
    yield {"add": {"rule": {**place, "expr": expression, "comment": text}}}


NAMED = [
    "ifaces",
    "ifaces -v",
    "ifaces --live -T 250ms --interval 100ms",
    "routes",
    "routes 239.1.1.1",
    "routes --bridge",
    "routes --forwarding",
    "routes nope%\x1b[31m",
    "groups",
    "groups --all",
    "groups --watch -T 100ms",
    "doctor -T 200ms",
    "doctor 239.1.1.1:5004 -v -T 300ms",
    "doctor 239.1.1.1:5004 -v -T 100ms --role sender",
    "doctor 239.1.1.1:5004 -v -T 100ms --role switch",
    "sniff -c 2 -T 5s -e",
    "sniff --streams -T 200ms",
    "listen 239.1.1.2:5005 -v -T 100ms",
    "listen [ff02::5]:5005 -v -T 100ms",
    "echo 239.1.1.2:5005 -v -T 100ms",
    "ping 239.1.1.2:5005 -v -c 1 --wait 50ms",
    "send 239.1.1.2:5005 x -v",
    "send 239.1.1.2:5005 x -i \x1b[31mnone",
]


def test_names_of_the_system(cursed: Host) -> None:
    def run(command: str) -> Outcome:
        return cursed.mcastctl(*command.split(), timeout=60)

    with ThreadPoolExecutor(4) as pool:
        ended = dict(zip(NAMED, pool.map(run, NAMED), strict=True))
        snapshots = [f"{one} -j" for one in NAMED if one.startswith(("i", "r", "g", "d"))]
        told = list(pool.map(run, snapshots))
    named = ""
    for command, one in ended.items():
        assert one.returncode in (0, 1, 2), (command, one)
        assert "internal error" not in one.stderr, (command, one)
        hostile.check(one.stdout)
        hostile.check(one.stderr)
        named += one.stdout + one.stderr
    for name in (EVIL, "\x1b[3m\u200b", "\x1b[5m", COMM):
        assert escape(name) in named
    for one in told:
        text = one.stdout.strip()
        assert text.isascii()
        for whole in text.splitlines() if text.startswith("{") else [text] * bool(text):
            json.loads(whole, parse_constant=pytest.fail)


SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(
    "command", ["ifaces -v", "groups", "routes", "routes --bridge", "doctor -T 100ms"]
)
def test_names_on_a_terminal(cursed: Host, command: str) -> None:
    """Where rich draws: nothing but its own colours and what ends a line."""
    reading, writing = pty.openpty()
    shown = bytearray()
    reader = Thread(target=_read, args=(reading, shown))
    reader.start()
    env = {"TERM": "xterm-256color", "COLUMNS": "200"}
    running = cursed.start_mcastctl(*command.split(), "--color", "always", stdout=writing, env=env)
    os.close(writing)
    running.finish(20)
    reader.join(10)
    text = SGR.sub("", shown.decode().replace("\r\n", "\n"))
    hostile.check(text)
    assert "\\x1b[" in text


Arrange = Callable[[Path], tuple[list[str], dict[str, str]]]


def _configured(text: str) -> Arrange:
    def arrange(home: Path) -> tuple[list[str], dict[str, str]]:
        folder = home / "\x1b[31m\u202e" / "mcastctl"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(text)
        return ["listen", "video"], {"XDG_CONFIG_HOME": str(folder.parent)}

    return arrange


def _plain(*words: str, **env: str) -> Arrange:
    return lambda home: (list(words), dict(env))


GROUP = "239.1.1.1:5004"
ERRORS: list[Arrange] = [
    *(_plain(one) for one in hostile.SENTENCES[:9]),
    *(_plain("listen", one) for one in hostile.SENTENCES[:9]),
    *(_plain("listen", GROUP, f"--{one}") for one in hostile.SENTENCES[:9]),
    *(_plain("listen", GROUP, "-i", one) for one in hostile.SENTENCES[:9]),
    *(_plain("listen", GROUP, "-o", one) for one in hostile.SENTENCES[:5]),
    *(_plain("listen", GROUP, "--exec", one) for one in hostile.SENTENCES[:9]),
    *(_plain("listen", GROUP, MCASTCTL_LISTEN_COUNT=one) for one in hostile.SENTENCES[:9]),
    *(_plain("doctor", GROUP, "--role", one) for one in hostile.SENTENCES[:5]),
    *(_plain("sniff", "-r", f"/nonexistent/{one}") for one in hostile.SENTENCES[:5]),
    *(_plain("send", GROUP, "--file", f"/nonexistent/{one}") for one in hostile.SENTENCES[:5]),
    *(_plain("send", GROUP, "--hex", one) for one in hostile.SENTENCES[:5]),
    *(_plain("ifaces", "--netns", one.replace("/", "")) for one in hostile.SENTENCES[:5]),
    _configured('"\\u001b[31m\\u202e" = 1'),
    _configured('[listen]\n"\\u001b[31m\\u202e" = 1'),
    _configured('[groups]\nvideo = "\\u001b[31m\\u202e"'),
    _configured('[listen]\ncount = "\\u001b[31m\\u202e"\n[groups]\nvideo = "239.1.1.1:5004"'),
    _configured("[\x1b[31m"),
]


def test_what_errors_repeat(pair: Pair, tmp_path: Path) -> None:
    office = Office(pair.a)
    for number, arrange in enumerate(ERRORS):
        home = tmp_path / str(number)
        words, env = arrange(home)
        if "--file" in words:  # looked for when the way out is known
            message, hint = two_lines(pair.a.mcastctl(*words))
        else:
            message, hint = office.refuse(words, env)
        assert len(hostile.check(message) + hostile.check(hint)) == 2
        assert "internal" not in message
