"""Forged sources by the thousand: memory stays, known senders are counted exactly, an echo keeps
to its limits and to what it was sent, and what was refused is told."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from itertools import product
from pathlib import Path

import wire
from conftest import Pair, Trio
from flood import Flood, memory_kb, read_up, waiting
from streams import Stream, inject
from test_echo import end, request, start
from world import Host, World

from mcastctl.model import probe

GROUP, PORT = "239.1.1.1", 5004
WHERE = f"{GROUP}:{PORT}"
FIRST, SECOND = 10_000, 8_000
"""Sources of a flood that fills the tables of streams, and of one that follows;
`tests/bench/bench_load.py` sends 200,000."""
GROWTH_KB, LEAK_KB = 20_000, 1_800
"""Most that all of it may add, and the second: less than it takes to remember each source."""


def hostile_payloads() -> list[bytes]:
    """What looks like each kind of stream."""
    rtp = bytes([0x80, 33]) + struct.pack("!HII", 5, 1000, 7) + b"media"
    transport = (bytes([0x47, pid >> 8, pid & 255, 0x10]) + bytes(184) for pid in range(7))
    header = probe.encode(probe.Probe(probe.DATA, 1, 0, 1, 1, 1), 40)
    return [b"plain", header, rtp, b"".join(transport), request()]


def forged(payloads: list[bytes]) -> list[bytes]:
    """Frames to the group."""
    return [wire.udp("10.0.1.1", 4000, GROUP, PORT, payload) for payload in payloads]


def known(host: Host, first: int) -> None:
    """A sender nobody forges: of 100 numbers one in ten never comes, one comes twice."""
    numbers = [number for number in range(first, first + 100) if number % 10 != 5]
    header = [probe.encode(probe.Probe(0, 1, 0, 0xABCD, n, n)) for n in (*numbers, numbers[-1])]
    inject(host, GROUP, header, sport=6000)


def test_no_flood_fills_the_memory_or_spoils_the_count(pair: Pair) -> None:
    a, b = pair
    listen = ("listen", WHERE, "-i", "b0")
    commands = {
        "listen -q -j": (*listen, "-q", "-j"),
        "listen": listen,
        "echo": ("echo", WHERE, "-i", "b0", "-q", "-j"),
        "sniff": ("sniff", "-i", "b0", "udp", "port", str(PORT)),
    }
    with Path(os.devnull).open("wb") as nowhere:
        shown = ("listen", "sniff")
        running = {
            name: b.start_mcastctl(*args, **({"stdout": nowhere.fileno()} if name in shown else {}))
            for name, args in commands.items()
        }
        for name, one in running.items():
            ready = "capturing" if "sniff" in name else "joined"
            (one.wait_stdout if "-j" in commands[name] else one.wait_stderr)(ready)
        while b.proc("udp").count(f":{PORT:04X}") < 4:  # echo has two
            time.sleep(0.01)
        before = {name: memory_kb(one.pid) for name, one in running.items()}
        flood = Flood(a, forged(hostile_payloads()), sources=FIRST + SECOND)
        for turn in range(2):
            flood.send_heard(FIRST // 2, b, PORT)
            known(a, 100 * turn)
            read_up(b, PORT)
        between = {name: memory_kb(one.pid) for name, one in running.items()}
        flood.send_heard(SECOND, b, PORT)
        for name, one in running.items():
            most = memory_kb(one.pid)
            assert most - before[name] < GROWTH_KB, name
            if name != "sniff":  # which keeps the words of twice as many flows
                assert most - between[name] < LEAK_KB, name
        assert waiting(b, PORT) == (0, 0)
        for one in running.values():
            one.signal(signal.SIGINT)
        told = {name: one.finish(60) for name, one in running.items()}
    total = FIRST + SECOND + 182
    heard = Stream.of(told["listen -q -j"]).summary
    assert (heard["packets"], heard["kernel_drops"]) == (total, 0)
    check_known(heard, FIRST + SECOND)
    answered = Stream.of(told["echo"]).summary
    assert answered["packets"] == total
    requests = (FIRST + SECOND) // 5
    assert answered["errors"] == {"ENETUNREACH": requests}  # nobody is there, and nobody was hurt
    assert answered["ignored"] == {"not-a-request": total - requests}
    assert "made room for others" in told["listen"].stderr
    assert f"heard {total} datagrams" in told["listen"].stderr


def check_known(summary: dict[str, object], sources: int) -> None:
    """The known sender is there, with what it lost and repeated, and the flood was bounded."""
    streams = summary["streams"]
    assert isinstance(streams, list)
    assert len(streams) == 4096
    assert isinstance(evicted := summary["streams_evicted"], int)
    assert evicted > sources - 4096
    (one,) = (one for one in streams if one["sport"] == 6000)
    counted = [one[key] for key in ("packets", "lost", "duplicates", "reordered")]
    assert counted == [182, 20, 2, 0]


def test_no_flood_fills_a_table_of_captured_streams(pair: Pair) -> None:
    a, b = pair
    total = 10_000 + 182
    # The last of them, held back, ends it: until then its memory can be looked at.
    args = ("sniff", "-i", "b0", "--streams", "-j", "-c", str(total), "udp", "port", str(PORT))
    sniffer = b.start_mcastctl(*args)
    sniffer.wait_stdout("capturing")
    before = memory_kb(sniffer.pid)
    flood = Flood(a, forged(hostile_payloads()), sources=10_000)
    flood.send(5000, 10_000)
    known(a, 0)
    flood.send(4999, 10_000)
    known(a, 100)
    most = quiet_kb(sniffer.pid)
    flood.send(1)
    seen = Stream.of(sniffer.finish(30)).summary
    assert most - before < GROWTH_KB
    assert (seen["packets"], seen["kernel_drops"]) == (total, 0)
    check_known(seen, 10_000)


def quiet_kb(pid: int) -> int:
    """The most memory of a process once it has read what there was and waits."""
    deadline = time.monotonic() + 30
    before = ""
    while True:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent = " ".join(fields[11:13])  # utime and stime, proc(5)
        if fields[0] == "S" and spent == before:
            return memory_kb(pid)
        assert time.monotonic() < deadline, "it never waits"
        before = spent
        time.sleep(0.2)


def test_ever_new_members_do_not_fill_the_commentary(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    told = tmp_path / "told"
    with told.open("wb") as file:
        args = ("sniff", "-i", "b0", "--control", "igmp")
        sniffer = b.start_mcastctl(*args, stdout=file.fileno())
    sniffer.wait_stderr("capturing")
    report = b"\x16\0" + struct.pack("!H", wire.checksum(b"\x16\0\0\0\xef\x01\x01\x01"))
    frame = bytearray(wire.udp("10.0.1.1", 1, GROUP, 1, b"")[:34] + report + b"\xef\x01\x01\x01")
    frame[23] = 2
    number, before = 17_000, memory_kb(sniffer.pid)
    flood = Flood(a, [bytes(frame)], sources=number)
    flood.send(number)
    wait_lines(told, number)
    assert memory_kb(sniffer.pid) - before < GROWTH_KB
    sniffer.signal(signal.SIGINT)
    ended = sniffer.finish(20).stderr
    assert f"{number - 16_384} of who was heard forgotten to make room" in ended


def wait_lines(path: Path, number: int, timeout: float = 60) -> None:
    """Wait until a file has so many lines."""
    deadline = time.monotonic() + timeout
    while (found := path.read_bytes().count(b"\n")) < number:
        assert time.monotonic() < deadline, f"{found} lines"
        time.sleep(0.05)


def test_forged_answers_do_not_fill_a_ping(pair: Pair) -> None:
    """Whoever hears the request can answer it in anybody's name."""
    a, b = pair
    mac = a.link()["address"]
    watching = wire.watch(b)
    asking = ("-c", "1", "--wait", "60s", "--bind", ":4000", "-q", "-j")
    asker = a.start_mcastctl("ping", WHERE, "-i", "a0", *asking)
    watching.wait_stdout(b"mcst".hex())
    before = memory_kb(asker.pid)
    (asked,) = (one.payload for one in wire.packets(watching) if one.dport == PORT)
    header = probe.decode(asked)
    assert header is not None
    answer = probe.answer(header, 1) + asked[probe.MIN_SIZE :]
    flood = Flood(b, [wire.udp("10.0.1.9", PORT, a.addr4(), 4000, answer, mac=mac)], sources=9000)
    flood.send(9000, 9000)
    flood.send(9000, 9000)  # the same again: duplicates
    most = quiet_kb(asker.pid)
    asker.signal(signal.SIGINT)
    summary = Stream.of(asker.finish(20)).summary
    assert most - before < GROWTH_KB
    assert len(summary["responders"]) == 1024
    told = summary["responders_refused"] + summary["duplicates"] + 1024
    assert told + summary["kernel_drops"] == 2 * 9000
    assert 0 < summary["duplicates"] <= 1024


# --- echo


def test_an_echo_keeps_to_its_limits_under_a_flood(pair: Pair) -> None:
    a, b = pair
    limits = ("--rate", "3k", "--rate-per-source", "1k")
    echo = start(b, WHERE, "-q", "-T", "60s", *limits)
    plain = start(b, "239.1.1.1:5005", "-q", "-T", "60s")
    began = time.monotonic()
    one = Flood(a, [wire.udp("10.0.1.1", 4000, GROUP, PORT, request())], sources=1)
    b.sh("ip route add 10.128.0.0/9 dev b0; ip neigh add 10.128.0.0 dev b0 lladdr 02:00:00:0:0:1")
    one.send(25_000, 50_000)
    read_up(b, PORT)
    most = 1000 + 1000 * (time.monotonic() - began)
    many = Flood(a, [wire.udp("10.0.1.1", 4000, GROUP, PORT, request())], sources=25_000)
    many.send(25_000, 50_000)
    read_up(b, PORT)
    whole = 3000 + 3000 * (time.monotonic() - began)
    # Who asks as ping does at its fastest is answered by an echo as it comes.
    ping = ("ping", "239.1.1.1:5005", "-i", "a0", "-c", "200", "--interval", "1ms", "-q", "-j")
    asked = Stream.of(a.mcastctl(*ping)).summary
    assert [one["multicast"]["received"] for one in asked["responders"]] == [200]
    assert end(plain).summary["ignored"] == {}
    said = end(echo).summary
    dropped = said["kernel_drops"]
    tried = said["replies_sent"] + sum(said["errors"].values())
    assert 1000 < tried <= min(whole, most + whole)
    ignored = said["ignored"]
    assert set(ignored) == {"rate", "rate-total"}
    assert ignored["rate"] >= 25_000 - most - dropped
    assert tried + sum(ignored.values()) == said["packets"] == 50_000 - dropped
    assert said["reply_bytes"] <= said["bytes"]


# argv: number of askers; a request in hex on stdin. Each asks in turn, from its own port.
ASKERS = """
import socket, sys
request = bytes.fromhex(sys.stdin.read())
for port in range(20000, 20000 + int(sys.argv[1])):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(9)
        sock.bind(("127.0.0.1", port))
        sock.sendto(request, ("127.0.0.1", 5004))
        assert len(sock.recv(65535)) == len(request)
"""


def test_long_requests_do_not_fill_an_echo(world: World) -> None:
    """Whoever was answered is remembered, and not what it sent."""
    here = world.host("a")
    echo = start(here, WHERE, "-i", "lo", "-q", "-T", "60s")
    asked = request() + bytes(60_000)
    before = memory_kb(echo.pid)
    here.run([sys.executable, "-c", ASKERS, "1000"], input=asked.hex(), timeout=60)
    assert memory_kb(echo.pid) - before < GROWTH_KB
    summary = end(echo).summary
    assert (summary["replies_sent"], summary["reply_bytes"]) == (1000, 1000 * len(asked))


def forged_sources(own: str, peer: str, broadcast: str) -> dict[str, tuple[str, int]]:
    """Whom a request may claim to come from."""
    return {
        "an asker": (peer, 4000),
        "this host": (own, 4000),
        "this host's echo": (own, PORT),
        "another echo": (peer, PORT),
        "an echo on another port": (peer, PORT + 1),
        "the echo service": (peer, 7),
        "port 0": (peer, 0),
        "nobody": ("0.0.0.0", 4000),  # noqa: S104
        "loopback": ("127.0.0.1", PORT),
        "everybody": ("255.255.255.255", 4000),
        "the subnet": (broadcast, 4000),
        "a group": ("239.1.1.1", PORT),
        "far away": ("198.51.100.7", 4000),
        "a reserved address": ("240.0.0.1", 4000),
        "a link-local address": ("169.254.7.7", 4000),
    }


def test_echoes_answer_forged_requests_once_and_fall_silent(trio: Trio) -> None:
    """Five echoes on three hosts, two of them twice on one port, and every kind of source."""
    forger, (x, y, z) = trio
    places = [(x, PORT), (y, PORT), (x, PORT + 1), (z, PORT), (x, PORT)]
    modes = [["--any"], [], ["--text", "t"], ["--any", "--exec", "cat"], ["--any"]]
    echoes = [
        start(host, f"{GROUP}:{port}", "-T", "60s", *mode)
        for (host, port), mode in zip(places, modes, strict=True)
    ]
    watching = wire.watch(forger)
    frames = []
    for victim, other in ((x, y), (y, x)):
        sources = forged_sources(victim.addr4(), other.addr4(), "10.0.1.255")
        for (src, sport), payload, dport in product(
            sources.values(), (request(1), b"plain", request(2, probe.REPLY)), (PORT, PORT + 1)
        ):
            frames.append(wire.udp(src, sport, GROUP, dport, payload))
            mac = victim.link()["address"]
            frames.append(wire.udp(src, sport, victim.addr4(), dport, payload, mac=mac))
    wire.inject(forger, frames)
    # Whatever they may have set off has come round twice by now.
    for _ in range(2):
        asked = wire.ask(forger, GROUP, PORT, request(9), sport=4001, count=3)
        assert len(asked) == 3
    said = [end(echo).summary for echo in echoes]
    seen = wire.settled(watching, forger)
    for summary, mode in zip(said, modes, strict=True):
        requests = summary["packets"] - sum(summary["ignored"].values())
        assert 0 < summary["replies_sent"] <= requests
        assert {"answer", "service-port", "well-known-port", "port-0"} <= set(summary["ignored"])
        if "--text" not in mode:
            assert summary["reply_bytes"] <= summary["bytes"]
    answers = [one for one in seen if one.protocol == wire.UDP and not one.outgoing]
    assert len(answers) <= sum(summary["replies_sent"] for summary in said)
    assert all(one.dport not in (0, 7) for one in answers)


# --- load


def test_a_second_of_load_is_counted_and_written_whole(pair: Pair, tmp_path: Path) -> None:
    """20,000 a second into `listen` and `sniff -w`; bench_load.py does it for longer."""
    a, b = pair
    path = tmp_path / "some.pcap"
    listener = b.start_mcastctl("listen", WHERE, "-i", "b0", "-q", "-j")
    ring = ("--rcvbuf", "64MiB")  # for all of it, should the machine have no time
    words = ("sniff", "-i", "b0", "-w", path, "-j", *ring, "udp", "port", str(PORT))
    sniffer = b.start_mcastctl(*words)
    listener.wait_stdout("joined")
    sniffer.wait_stdout("capturing")
    load = ("--probe", "-s", "200", "--pps", "20k", "-T", "1s", "--no-gso", "-q", "-j")
    sent = Stream.of(a.mcastctl("send", WHERE, "-i", "a0", *load)).summary["sent"]
    assert sent > 5000
    read_up(b, PORT)
    listener.signal(signal.SIGINT)
    heard = Stream.of(listener.finish(20)).summary
    assert heard["packets"] + heard["kernel_drops"] == sent
    assert (heard["duplicates"], heard["reordered"]) == (0, 0)
    assert heard["lost"] <= heard["kernel_drops"]
    quiet_kb(sniffer.pid)
    sniffer.signal(signal.SIGINT)
    captured = Stream.of(sniffer.finish(20)).summary
    assert (captured["written"], captured["kernel_drops"]) == (sent, 0)
    read = Stream.of(b.mcastctl("sniff", "-r", path, "-j", "-q")).summary
    assert (read["packets"], read["malformed"], read["lost"]) == (sent, 0, 0)
