"""Super-packets are counted, and shown, as the datagrams that they carry."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Pair
from flood import heard_out
from place import need_room
from streams import Stream
from test_runs import damaged, expected
from test_send import GROUP4, GROUP6, listen
from world import World

from mcastctl.model import probe

# The kernel switches arrival times on in a worker's own time (net/core/dev.c: netstamp_clear):
# until then each datagram is stamped when it is read, and cut super-packets cannot be told.
STAMPED = """
import socket, struct, time
from mcastctl.net.platforms import HERE

def wait_for_arrival_times():
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here.setsockopt(socket.SOL_SOCKET, HERE.so_timestampns, 1)
    here.bind(("127.0.0.1", 0))
    arrived = asked = 1
    while arrived >= asked:
        here.sendto(b"", here.getsockname())
        asked = time.time_ns()
        _, [(_, _, stamp)], _, _ = here.recvmsg(0, 64)
        seconds, nanoseconds = struct.unpack("@qq", stamp)
        arrived = seconds * 1_000_000_000 + nanoseconds
"""
# argv: "cut" (sent one by one), "whole" or "tried" (whole are only the first, of a third sender),
# "heads" or "payloads"; "sender payload-in-hex" lines on stdin. A receiver and its senders on
# loopback; prints whether it takes super-packets, what it counted, and a digest of all payloads.
RECEIVE = """
import hashlib, json, socket, struct, sys
from itertools import groupby
from mcastctl.model.run import Run
from mcastctl.model.stats import Statistics
from mcastctl.net import nic
from mcastctl.net.receiver import Receiver, Subscription

GROUP, PORT, UDP_SEGMENT, MOST = "239.1.1.1", 5004, 103, 60
whole = sys.argv[2] == "payloads"
lo = nic.find("lo")
receiver = Receiver(Subscription(GROUP, PORT, lo, (), False), 32 << 20, whole=whole)
senders = []
for sport in (4001, 4002, 4003):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", sport))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    sock.connect((GROUP, PORT))
    senders.append(sock)

def send(which, payloads):
    if sys.argv[1] == "cut" or (sys.argv[1] == "tried" and which < 2):
        for payload in payloads:
            senders[which].send(payload)
    else:
        size = struct.pack("@H", len(payloads[0]))
        senders[which].sendmsg([b"".join(payloads)], [(17, UDP_SEGMENT, size)])

statistics, digest, number = Statistics(), hashlib.sha256(), 0
def read():
    global number
    while heard := receiver.read(4096):
        for one in heard:
            for piece in statistics.account(one):
                for datagram in piece.datagrams() if isinstance(piece, Run) else [piece]:
                    number += 1
                    if whole and datagram.sport < 4003:
                        digest.update(datagram.payload)

wait_for_arrival_times()
for _ in range(8):
    send(2, [b"warm"] * MOST)
read()
lines = [line.split() for line in sys.stdin]
for (which, _), rows in groupby(lines, lambda row: (row[0], len(row[1]))):
    payloads = [bytes.fromhex(row[1]) for row in rows]
    for at in range(0, len(payloads), MOST):
        send(int(which), payloads[at : at + MOST])
read()
streams = {one["sport"]: one for one in statistics.summary(1)["streams"]}
found = {"supers": receiver.takes_supers, "drops": receiver.kernel_drops(), "number": number}
print(json.dumps({**found, "digest": digest.hexdigest(), "streams": streams}))
"""
KINDS: dict[str, Callable[[int, int], bytes]] = {
    "probe 64": lambda which, seq: probe.encode(probe.Probe(0, 1, 0, which, seq, seq), 64),
    "probe 101": lambda which, seq: probe.encode(probe.Probe(0, 1, 0, which, seq, seq), 101),
    "rtp 172": lambda which, seq: struct.pack("!BBHII", 0x80, 8, seq & 0xFFFF, seq, which).ljust(
        172, b"\xd5"
    ),
    "plain 9": lambda _, seq: b"%09d" % seq,
}


@pytest.mark.parametrize(
    ("kind", "kept"),
    [*((kind, "heads") for kind in KINDS), ("probe 101", "payloads"), ("rtp 172", "payloads")],
)
def test_any_pattern_is_counted_alike_whole_and_cut(world: World, kind: str, kept: str) -> None:
    host = world.host("a")
    host.ip("link set lo multicast on")
    host.ip("route add 239.0.0.0/8 dev lo")
    order = damaged(random.Random(kind))  # noqa: S311
    need_room(len(order), 172)
    payloads = [KINDS[kind](which, seq) for which, seq in order]
    lines = "".join(
        f"{which} {payload.hex()}\n" for (which, _), payload in zip(order, payloads, strict=True)
    )
    digest = hashlib.sha256(b"".join(payloads) if kept == "payloads" else b"").hexdigest()
    found: dict[str, Any] = {}
    for how in ("cut", "whole", "tried"):
        args = [sys.executable, "-c", STAMPED + RECEIVE, how, kept]
        found[how] = json.loads(host.run(args, input=lines, timeout=60).stdout)
        assert found[how]["supers"] is (how == "whole")
        assert (found[how]["drops"], found[how]["number"]) == (0, 480 + len(order))
        assert found[how]["digest"] == digest
        for which, sport in enumerate(("4001", "4002")):
            known = expected(order, which)
            if kind.startswith("plain"):
                known |= {"lost": 0, "duplicates": 0, "reordered": 0}
            else:
                assert min(known.values()) > 10
            stream = found[how]["streams"][sport]
            assert {key: stream[key] for key in known} == known
            assert stream["bytes"] == known["packets"] * len(payloads[0])
    same = ("kind", "stream", "first_seq", "last_seq", "restarts", "ttl", "loss_percent")
    for sport in ("4001", "4002"):
        cut, *others = (one["streams"][sport] for one in found.values())
        for other in others:
            assert {key: other[key] for key in same} == {key: cut[key] for key in same}


# A receiver that tried super-packets stops to, and one comes just before it has: prints what it
# counts then and whether it still takes them, twice; the second time nothing comes between.
WINDOW = """
import json, socket, struct
from mcastctl.net import intake, nic
from mcastctl.net.receiver import Receiver, Subscription

lo = nic.find("lo")
receiver = Receiver(Subscription("239.1.1.1", 5004, lo, (), False), 32 << 20, whole=False)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
sender.connect(("239.1.1.1", 5004))
size = struct.pack("@H", 100)

def burst():
    sender.sendmsg([bytes(6000)], [(17, 103, size)])

def number(most=4096):
    return sum(one.number if hasattr(one, "number") else 1 for one in receiver.read(most))

set_whole_segments = intake.sockopts.set_whole_segments
between = [burst]
def late(sock, *, wanted):
    if not wanted and between:
        between.pop()()
    return set_whole_segments(sock, wanted=wanted)
intake.sockopts.set_whole_segments = late

wait_for_arrival_times()
for _ in range(9):
    burst()
counted = 0
while counted < 540:
    counted += number()
found = []
for _ in range(2):
    for _ in range(5000):
        sender.send(bytes(100))
    receiver._intake._trial = 4096  # what it has counted down to zero by then
    while heard := number():
        counted += heard
    found.append([counted, receiver.takes_supers])
print(json.dumps(found))
"""


def test_a_super_packet_that_comes_while_they_are_switched_off_is_cut(world: World) -> None:
    host = world.host("a")
    host.ip("route add 239.0.0.0/8 dev lo")
    need_room(5600, 100)
    outcome = host.run([sys.executable, "-c", STAMPED + WINDOW], timeout=60)
    assert json.loads(outcome.stdout) == [[5600, True], [10_600, False]]


@pytest.mark.parametrize(("group", "size"), [(GROUP4, "1001"), (GROUP6, "64")])
def test_every_datagram_of_a_flood_is_accounted_for(pair: Pair, group: str, size: str) -> None:
    a, b = pair
    listener = listen(b, group, "-q", "--rcvbuf", "32M")
    args = ["--probe", "--flood", "-s", size, "-T", "400ms", "-q", "-j"]
    sent = a.mcastctl("send", group, *args, timeout=30).records[-1]["sent"]
    summary = heard_out(listener, b).summary
    (stream,) = summary["streams"]
    assert sent > 10_000
    missing_at_the_end = sent - 1 - stream["last_seq"]  # dropped and followed by none
    assert stream["packets"] + stream["lost"] + missing_at_the_end == sent
    assert (stream["duplicates"], stream["reordered"], stream["restarts"]) == (0, 0, 0)
    assert stream["bytes"] == stream["packets"] * int(size)


def test_a_count_is_kept_and_each_is_shown(pair: Pair) -> None:
    a, b = pair
    count = "2999"
    need_room(1500, 64)
    listener = listen(b, GROUP4, "-c", count, "-T", "60s", "--rcvbuf", "32M")
    a.mcastctl("send", GROUP4, "--probe", "--pps", "60k", "-c", "1500", "-q")
    listener.signal(signal.SIGSTOP)
    a.mcastctl("send", GROUP4, "--probe", "--flood", "-c", "1500", "-q")
    listener.signal(signal.SIGCONT)
    heard = Stream.of(listener.finish())
    assert heard.summary["kernel_drops"] == 0
    numbers = [one["seq"] for one in heard.datagrams]
    assert numbers == [*range(1500), *range(int(count) - 1500)]
    assert heard.summary["packets"] == int(count)
