"""Whole batches and single datagrams are counted alike, whatever the network did to them."""

from __future__ import annotations

import json
import random
import re
import signal
import struct
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest
from conftest import Pair
from flood import all_read, heard_out
from hypothesis import given
from hypothesis import strategies as st
from place import need_room
from streams import Stream, check_all_heard, inject
from test_send import GROUP4, GROUP6, listen, raw
from world import Host, World

from mcastctl.model import probe
from mcastctl.model.columns import alike, counts_up, repeats
from mcastctl.model.jitter import MEMORY, Jitter
from mcastctl.model.mark import PLAIN, PROBE, RTP, Mark
from mcastctl.model.records import Datagram
from mcastctl.model.run import Heard, Run
from mcastctl.model.stats import Statistics
from mcastctl.output import runs, sinks, text

SECOND = 1_000_000_000


def run(
    number: int,
    *,
    kind: str = PROBE,
    seq: int = 0,
    base_ns: int = 1_700_000_000 * SECOND,
    step_ns: int = 10_000,
    burst: int = 1,
    payload: bytes = b"",
    sport: int = 4000,
) -> Run:
    """A run of `number` datagrams, `step_ns` apart, sent `burst` at a time."""
    times = array("q", [999_990_000 + place * step_ns for place in range(number)])
    stamps = {
        PROBE: array("Q", [base_ns + place // burst * burst * step_ns for place in range(number)]),
        RTP: array("I", [place * 160 & 0xFFFFFFFF for place in range(number)]),
    }.get(kind, array("Q"))
    mark = Mark(kind)
    if kind != PLAIN:
        mark = Mark(kind, 7, seq, stamps[0], 8000 if kind == RTP else None)
    first = Datagram(
        *(base_ns + times[0], "rx", "eth0", 2, "10.0.0.1", sport, "239.1.1.1", 5004),
        *(1, 0, 100, payload, mark),
    )
    return Run(first, base_ns, times, stamps, [payload] * number)


def counted(heard: list[Heard], *, singly: bool) -> dict[str, Any]:
    """The summary after all of them, as runs or one by one."""
    statistics = Statistics()
    for one in heard:
        for part in one.datagrams() if singly else [one]:
            statistics.account(part)
    return json.loads(json.dumps(statistics.summary(1)))  # type: ignore[no-any-return]


def same(heard: list[Heard]) -> dict[str, Any]:
    """The summary, after both ways agreed on it."""
    together, singly = counted(heard, singly=False), counted(heard, singly=True)
    for one, other in zip(together["streams"], singly["streams"], strict=True):
        assert one.pop("jitter_ms") == pytest.approx(other.pop("jitter_ms"), rel=1e-5, abs=1e-5)
    assert together == singly
    return together


@pytest.mark.parametrize("kind", [PROBE, RTP, PLAIN])
@pytest.mark.parametrize("burst", [1, 7])
def test_runs_that_continue_each_other(kind: str, burst: int) -> None:
    later = 1_700_000_000 * SECOND
    parts = []
    for place in range(6):
        step = 100_000 * (place + 1)
        parts.append(
            run(300, kind=kind, seq=65000 + 300 * place, base_ns=later, step_ns=step, burst=burst)
        )
        later += 301 * step
    (stream,) = same(list(parts))["streams"]
    assert (stream["packets"], stream["lost"], stream["duplicates"]) == (1800, 0, 0)
    assert stream["max_gap_ms"] == 1.0


@pytest.mark.parametrize("kind", [PROBE, RTP, PLAIN])
def test_a_run_takes_over_its_continuation_and_nothing_else(kind: str) -> None:
    whole = run(300, kind=kind, seq=65400)
    begin, end = run(300, kind=kind, seq=65400), whole.after(100)
    for column in (begin.times_ns, begin.stamps, begin.payloads):
        del column[100:]
    end.base_ns, end.times_ns = end.base_ns + 7, array("q", [one - 7 for one in end.times_ns])
    other = [run(9, kind=kind, seq=65500, sport=1), run(9, kind=kind, seq=65499)]
    for one in other[: 1 if kind == PLAIN else 2]:
        assert not begin.absorb(one)
    assert begin.absorb(end)
    assert list(begin.datagrams()) == list(whole.datagrams())


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(1, 60), st.sampled_from([4000, 4001])),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([PROBE, RTP, PLAIN]),
)
def test_any_runs_in_any_order(parts: list[tuple[int, int, int]], kind: str) -> None:
    """Loss, duplicates, reordering, overlap and two senders."""
    later = 1_700_000_000 * SECOND
    heard: list[Heard] = []
    for seq, number, sport in parts:
        heard.append(run(number, kind=kind, seq=seq, base_ns=later, sport=sport))
        later += SECOND
    same(heard)


@given(st.lists(st.integers(0, 10_000_000), min_size=2, max_size=100), st.integers(0, 10_000_000))
def test_the_widest_gap_is_found_without_looking_at_all(gaps: list[int], known: int) -> None:
    times = array("q", [sum(gaps[:place]) for place in range(1, len(gaps) + 1)])
    some = run(len(gaps))
    some.times_ns = times
    assert some.widest_gap_ns(known) == max(known, *gaps[1:])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80), st.integers(0, 2**32))
def test_jitter_of_bursts(bursts: list[int], seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    sent, arrived = [], []
    for place, size in enumerate(bursts):
        sent += [place * 1_000_000] * size
        arrived += [place * 1_000_000 + chance.randrange(500_000) for _ in range(size)]
    singly, together = Jitter(), Jitter()
    for pair in zip(sent, arrived, strict=True):
        singly.update_burst(*pair)
    half = len(sent) // 2
    for part in (slice(half), slice(half, None)):
        together.extend(sent[part], 0, arrived[part])
    assert together.ns == pytest.approx(singly.ns, rel=1e-6)


def test_jitter_forgets_what_is_long_ago() -> None:
    chance = random.Random(1)  # noqa: S311
    sent = [place * 1_000_000 for place in range(3 * MEMORY)]
    arrived = [when + chance.randrange(500_000) for when in sent]
    singly, together = Jitter(), Jitter()
    for pair in zip(sent, arrived, strict=True):
        singly.update_burst(*pair)
    together.extend(sent, 0, arrived)
    assert together.ns == pytest.approx(singly.ns, rel=1e-5)


def test_columns() -> None:
    view = memoryview(array("H", [1, 9, 1, 9, 1, 8]))
    assert alike(view[::2])
    assert not alike(view[1::2])
    assert repeats(b"abab", 2)
    assert not repeats(b"abac", 2)
    numbers = memoryview(struct.pack(">4H", 65532, 65533, 65534, 65535)).cast("H")
    assert counts_up(numbers)
    assert not counts_up(memoryview(struct.pack(">2H", 65535, 0)).cast("H"))
    assert not counts_up(memoryview(struct.pack(">2H", 7, 7)).cast("H"))


# --- what is printed


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (PROBE, bytes(64)),
        (RTP, bytes(20)),
        (PLAIN, b"plain words"),
        (PLAIN, "grün \u202e \x1b[2J \\ \" ' \n".encode()),
        (PLAIN, b"\xff\xfe\x00"),
        (PLAIN, b""),
    ],
)
def test_lines_of_a_run_are_those_of_its_datagrams(kind: str, payload: bytes) -> None:
    some = run(40, kind=kind, seq=65520, payload=payload)  # across a second
    assert list(runs.lines(some)) == [text.datagram(one) for one in some.datagrams()]
    sink = sinks.open_sink("jsonl")
    assert isinstance(sink, sinks.JsonLines)
    printed = [json.loads(line) for line in runs.json_lines(some, sink._encode, sink._quote)]
    expected = [json.loads(json.dumps(one.to_dict())) for one in some.datagrams()]
    assert [sorted(one) for one in printed] == [sorted(one) for one in expected]
    for one, other in zip(printed, expected, strict=True):
        assert one.pop("ts") == pytest.approx(other.pop("ts"), abs=1e-6)
        assert one == other


# --- on the wire

# argv: group, port, interface index; "sender payload-in-hex" lines on stdin
SENDERS = """
import socket, struct, sys
group, port, index = sys.argv[1], *map(int, sys.argv[2:])
version6 = ":" in group
socks = []
for sport in (4001, 4002):
    sock = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("::" if version6 else "0.0.0.0", sport))
    if version6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        request = struct.pack("@4s4si", b"", b"", index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
    socks.append(sock)
for line in sys.stdin:
    which, payload = line.split()
    socks[int(which)].sendto(bytes.fromhex(payload), (group, port))
"""
MAKERS: dict[str, Callable[[int, int], bytes]] = {
    "probe": lambda which, seq: probe.encode(probe.Probe(0, 1, 0, which, seq, seq * 1000), 52),
    "rtp": lambda which, seq: struct.pack("!BBHII", 0x80, 96, seq & 0xFFFF, seq * 160, which),
    "plain": lambda _, seq: b"word %d" % seq,
}


def damaged(chance: random.Random) -> list[tuple[int, int]]:
    """(sender, number) as they leave: clean stretches, loss, duplicates, disorder, mixing."""
    order = [(0, seq) for seq in range(400)]
    numbers = [400, 0]
    while len(order) < 6000:
        which = chance.randrange(2)
        for _ in range(chance.choice([1, 1, 2, 40, 300])):
            seq, fate = numbers[which], chance.random()
            numbers[which] += 1
            if fate >= 0.02:
                order += [(which, seq)] * (2 if fate < 0.04 else 1)
            if 0.04 <= fate < 0.06:
                order[-1], order[-3] = order[-3], order[-1]
    return order


def expected(order: list[tuple[int, int]], which: int) -> dict[str, int]:
    """What must be counted of one sender's probes, by sets and maxima alone."""
    numbers = [seq for sender, seq in order if sender == which]
    unique = set(numbers)
    highest, late, seen = -1, 0, set()
    for seq in numbers:
        late += seq < highest and seq not in seen
        highest = max(highest, seq)
        seen.add(seq)
    return {
        "packets": len(numbers),
        "lost": max(unique) - min(unique) + 1 - len(unique),
        "duplicates": len(numbers) - len(unique),
        "reordered": late,
    }


@pytest.mark.parametrize(
    ("group", "kind"),
    [(GROUP4, "probe"), (GROUP6, "probe"), (GROUP4, "rtp"), (GROUP6, "plain")],
)
@pytest.mark.parametrize("options", [["-q"], []], ids=["beginnings", "whole"])
def test_a_known_pattern_gives_the_same_numbers(
    pair: Pair, group: str, kind: str, options: list[str]
) -> None:
    a, b = pair
    order = damaged(random.Random(f"{group} {kind}"))  # noqa: S311
    listener = listen(b, group, "--rcvbuf", "32M", *options)
    need_room(len(order), 52)
    listener.signal(signal.SIGSTOP)  # it will find everything waiting
    host, port = group.rpartition(":")[0].strip("[]"), group.rpartition(":")[2]
    lines = "".join(f"{which} {MAKERS[kind](which, seq).hex()}\n" for which, seq in order)
    args = [sys.executable, "-c", SENDERS, host, port, str(a.ifindex())]
    a.run(args, input=lines, timeout=30)
    listener.signal(signal.SIGCONT)
    stream = heard_out(listener, b)
    assert stream.summary["kernel_drops"] == 0
    found = {one["sport"]: one for one in stream.summary["streams"]}
    for which, sport in enumerate((4001, 4002)):
        known = expected(order, which)
        if kind == "plain":
            known |= {"lost": 0, "duplicates": 0, "reordered": 0}
        else:
            assert min(known.values()) > 10
        assert {key: found[sport][key] for key in known} == known
        assert found[sport]["kind"] == kind
    if not options:
        payloads = [raw(one) for one in stream.datagrams]
        assert payloads == [MAKERS[kind](which, seq) for which, seq in order]


def test_a_transport_stream_among_others_is_counted_in_full(pair: Pair) -> None:
    """Beginnings are not enough for it: its packets have numbers of their own."""
    a, b = pair
    listener = listen(b, GROUP4, "-q", "--rcvbuf", "32M")
    need_room(900, 1316)
    listener.signal(signal.SIGSTOP)
    packets = [bytes([0x47, 1, 0, 0x10 | place & 15]).ljust(188, b"\0") for place in range(4200)]
    payloads = [b"".join(packets[at : at + 7]) for at in range(0, 4200, 7)]
    del payloads[590:593]  # 21 packets: five, as far as four bits can tell
    probes = [probe.encode(probe.Probe(0, 1, 0, 9, seq, 0), 64) for seq in range(300)]
    inject(a, "239.1.1.1", [*probes, *payloads], sport=4001)
    listener.signal(signal.SIGCONT)
    streams = heard_out(listener, b).summary["streams"]
    ts = next(one for one in streams if one["kind"] == "mpegts")
    assert (ts["packets"], ts["lost"]) == (597, 5)
    assert next(one for one in streams if one["kind"] == "probe")["packets"] == 300


def ts(number: int) -> bytes:
    """A datagram of one transport packet."""
    return bytes([0x47, 1, 0, 0x10 | number & 15]).ljust(188, b"\0")


PADDED = [struct.pack("!BBHII", 0xA0, 96, seq, 0, 1) + bytes(300) for seq in range(0, 4000, 40)]
WORDS = [b"G" + b"x" * 375] * 100


@pytest.mark.parametrize(
    "payloads",
    [
        [*map(ts, range(3)), *([b"plain"] * 300), *map(ts, range(3, 200))],
        [*([b"plain"] * 100), *(2 * ts(number) for number in range(290) if number % 29 != 7)],
        [*([b"plain"] * 300), *WORDS],
        [*([b"plain"] * 300), *PADDED],
    ],
    ids=["ts before and after", "ts with gaps", "words that begin as ts", "padding that is none"],
)
def test_quiet_and_shown_agree(pair: Pair, payloads: list[bytes]) -> None:
    a, b = pair
    found = []
    for options in (["-q"], []):
        listener = listen(b, GROUP4, *options)
        listener.signal(signal.SIGSTOP)
        inject(a, "239.1.1.1", payloads, sport=4001)
        listener.signal(signal.SIGCONT)
        summary = heard_out(listener, b).summary
        keys = ("kind", "packets", "lost", "duplicates", "ttl")
        found.append([{key: one[key] for key in keys} for one in summary["streams"]])
    assert found[0] == found[1]


def test_large_datagrams_are_whole(pair: Pair) -> None:
    a, b = pair
    args = ["--rcvbuf", "64M", "-T", "60s", "-o", "hex"]
    listener = b.start_mcastctl("listen", GROUP4, *args)
    listener.wait_stderr("joined")
    listener.signal(signal.SIGSTOP)
    sizes = [*([40] * 100), *range(60_000, 65_507, 180), *([0] * 30)]
    need_room(len(sizes), 30_000)
    inject(a, "239.1.1.1", [bytes([size & 255]) * size for size in sizes])
    listener.signal(signal.SIGCONT)
    all_read(b)
    listener.signal(signal.SIGINT)
    lines = listener.finish().stdout.split("\n")
    assert lines[:-1] == [f"{size & 255:02x}" * size for size in sizes]


def test_ttl_is_still_seen_when_only_beginnings_are_read(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-q")
    a.mcastctl("send", GROUP4, "--probe", "--pps", "20k", "-T", "600ms", "-t", "9", "-q")
    a.mcastctl("send", GROUP4, "--probe", "--pps", "20k", "-T", "600ms", "-t", "7", "-q")
    assert [one["ttl"] for one in heard_out(listener, b).summary["streams"]] == [9, 7]


def test_ttl_of_what_comes_after_many_others(pair: Pair) -> None:
    """A stream that was not there before, and the first datagram after a rush."""
    a, b = pair
    listener = listen(b, GROUP4, "-q", "--rcvbuf", "32M", "--idle", "1500ms")
    need_room(4000, 64)
    listener.signal(signal.SIGSTOP)
    streams = [(1, seq) for seq in range(2700)] + [(2, seq) for seq in range(1300)]
    probes = [probe.encode(probe.Probe(0, 1, 0, one, seq, 0), 64) for one, seq in streams]
    inject(a, "239.1.1.1", probes, sport=4001)
    listener.signal(signal.SIGCONT)
    deadline = time.monotonic() + 10
    while " 00000000:00000000 " not in b.proc("udp") and time.monotonic() < deadline:
        time.sleep(0.01)  # the queue of its socket: local address, remote, state, tx:rx
    time.sleep(0.1)  # a rush is over after a pause of half that
    again = probe.encode(probe.Probe(0, 1, 0, 1, 2700, 0), 64)
    inject(a, "239.1.1.1", [again], sport=4001, ttl=9)
    found = Stream.of(listener.finish()).summary["streams"]
    assert [(one["packets"], one["ttl"]) for one in found] == [(1300, 1), (2701, 9)]


def test_a_busy_listener_naps_and_loses_nothing(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, GROUP4, "-q")
    sent = a.mcastctl("send", GROUP4, "--probe", "--pps", "40k", "-T", "2s", "-q", "-j")
    found = heard_out(listener, b).summary
    check_all_heard(found, sent.records[-1]["sent"])


@pytest.mark.parametrize("options", [["-q"], [], ["-j"]], ids=["quiet", "text", "json"])
def test_a_busy_listener_stays_small(pair: Pair, options: list[str]) -> None:
    a, b = pair
    listener = b.start_mcastctl("listen", GROUP4, *options, "-T", "60s", stdout=DEVNULL)
    wait_joined(b)
    a.mcastctl("send", GROUP4, "--probe", "--flood", "-s", "1400", "-T", "700ms", "-q")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{listener.pid}/status").read_text())
    listener.stop()
    assert peak
    assert int(peak[1]) <= 20 * 1024


def wait_joined(host: Host) -> None:
    """Wait for a membership that its holder keeps to itself."""
    deadline = time.monotonic() + 10
    while "010101EF" not in host.proc("igmp"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_a_busy_listener_hears_its_own_interface_only(world: World, group: str) -> None:
    """What the kernel keeps out by itself is not asked of each datagram; it must be kept out."""
    a = world.host("a")
    peers = [world.host("b"), world.host("c")]
    for peer in peers:
        world.link(a, peer)
    listeners = [listen(a, group, "-i", ifname, "-q", "--rcvbuf", "32M") for ifname in ("a0", "a1")]
    for listener in listeners:
        listener.signal(signal.SIGSTOP)
    for peer, number in zip(peers, ("1000", "1100"), strict=True):
        peer.mcastctl("send", group, "--probe", "--flood", "--no-gso", "-c", number, "-q")
    for listener in listeners:
        listener.signal(signal.SIGCONT)
    heard = [heard_out(listener, a).summary for listener in listeners]
    assert [one["packets"] + one["kernel_drops"] for one in heard] == [1000, 1100]
    assert [(one["skipped"], len(one["streams"])) for one in heard] == [(0, 1), (0, 1)]
