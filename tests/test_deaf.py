"""Interfaces go down, go away and come back: `listen`, `echo` and `sniff` notice, say so, and hear
again; none is ever silent because it went deaf."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mishaps import Cable, Soak, State
from place import until
from streams import Json, Stream
from world import Host, Running, World

GROUPS = ["239.1.1.1:5004", "[ff02::1:1%b0]:5004", "10.0.1.1@232.1.1.1:5004"]
SOON_S = 2.0
"""The promise: so long after an interface is back it is listened on again."""


def cable(world: World) -> Cable:
    return Cable(world, world.host("a"), world.host("b"))


def start(host: Host, *args: str | Path, joined: int = 1, **options: Any) -> Running:
    """A listener, responder or capture that has begun."""
    running = host.start_mcastctl(*args, "-j", **options)
    sniffs = args[0] == "sniff"
    running.wait_stdout('"code":"capturing"' if sniffs else '^{"type":"joined"', count=joined)
    return running


def number(running: Running, pattern: str) -> int:
    return len(re.findall(pattern, running.stdout, re.MULTILINE))


def ended(running: Running) -> Stream:
    running.signal(signal.SIGINT)
    stream = Stream.of(running.finish())
    assert stream.status == -signal.SIGINT
    return stream


def notices(stream: Stream, code: str) -> list[Json]:
    return [one for one in stream.all("notice") if one["code"] == code]


class Watched:
    """Programs that all listen on one interface while it fares badly."""

    def __init__(self, running: dict[str, tuple[Running, list[str]]]) -> None:
        self.running = running

    def counts(self, code: str) -> dict[str, int]:
        return {name: number(one, f'"code":"{code}"') for name, (one, _) in self.running.items()}

    def suffer(self, code: str, fault: Callable[[], None], relief: Callable[[], None]) -> float:
        """Let something happen, see it told, undo it, see that told too; return when it was undone.

        Whoever prints what it hears has heard of everything again afterwards.
        """
        lost, deaf = self.counts(code), self.counts("deaf")
        fault()
        for name, (one, _) in self.running.items():
            one.wait_stdout(f'"code":"{code}"', count=lost[name] + 1)
        since = time.time()
        relief()
        for name, (one, _) in self.running.items():
            one.wait_stdout('"code":"deaf"', count=deaf[name] + 1)
        self.heard()
        return since

    def heard(self) -> None:
        """Wait until all of them have heard everything they listen to, from now on."""
        for one, patterns in self.running.values():
            for pattern in patterns:
                one.wait_stdout(pattern, count=number(one, pattern) + 2)


def test_every_fault_is_told_and_survived(world: World, tmp_path: Path) -> None:
    wire = cable(world)
    a, b = wire.a, wire.b
    anything = [f'"direction":"rx".*"dst":"{group}"' for group in ("239.1.1.1", "ff02::1:1")]
    anything.append('"direction":"rx".*"dst":"232.1.1.1"')
    answers = ['"direction":"tx"']
    frames = ['"proto":"mcastctl".*"dst":"239.1.1.1"|"dst":"239.1.1.1".*"dport":5004']
    packets = ["sniff", "-i", "b0", "udp dst port 5004"]
    path, both = tmp_path / "some.pcap", tmp_path / "both.pcapng"
    world.link(a, b)
    nobody: dict[str, Any] = {"privileged": False}
    everything = Watched(
        {
            "listen": (start(b, "listen", *GROUPS, "-i", "b0", joined=3, **nobody), anything),
            "echo": (start(b, "echo", "239.1.1.1:5004", "-i", "b0", "--any", **nobody), answers),
            "shown": (start(b, *packets), frames),
            "written": (start(b, *packets, "-w", path), []),
            "both": (start(b, *packets, "-i", "b1", "-w", both), []),
        }
    )
    listener = everything.running["listen"][0]
    senders = [
        a.start_mcastctl("send", group, "-i", "a0", "--probe", "--interval", "20ms", "-q", "-j")
        for group in ("239.1.1.1:5004", "[ff02::1:1]:5004", "232.1.1.1:5004")
    ]
    everything.heard()
    undone = {
        "down": everything.suffer("down", wire.down, wire.up),
        "no carrier": everything.suffer("no-carrier", wire.cut, wire.mend),
        "moved": everything.suffer("gone", wire.move, wire.back),
        "same index": everything.suffer("gone", wire.pull, lambda: wire.plug(wire.index)),
        "new index": everything.suffer("gone", wire.pull, lambda: wire.plug(wire.index + 20)),
    }
    # What takes nothing away is no reason to be deaf.
    b.ip("addr del 10.0.1.2/24 dev b0", "addr add 10.0.1.3/24 dev b0")
    b.sh("ip -6 addr flush dev b0")
    everything.heard()
    b.ip("link set b0 name wan0")
    for one, _ in everything.running.values():
        one.wait_stdout('"code":"renamed"')
    listener.wait_stdout('"iface":"wan0"', count=4)
    everything.heard()
    b.ip("link set wan0 name b0", *wire.address(b))
    everything.heard()
    for sender in senders:
        sender.signal(signal.SIGINT)
    sent = [Stream.of(sender.finish()).summary for sender in senders]
    heard = {name: ended(one) for name, (one, _) in everything.running.items()}
    for name, stream in heard.items():
        deaf = notices(stream, "deaf")
        causes = [set(one["causes"]) - {"down"} for one in deaf]
        assert [one for one in causes if one] == [{"no-carrier"}, *[{"gone"}] * 3], name
        assert stream.summary["deaf_s"] == pytest.approx(sum(one["deaf_s"] for one in deaf), abs=1)
        assert stream.summary["kernel_drops"] == 0
        for over, moment in zip(deaf, undone.values(), strict=False):
            assert over["ts"] < moment + SOON_S, (name, over)
    for name, joins in (("listen", 3), ("echo", 1)):
        stream = heard[name]
        assert len(stream.all("joined")) == len(stream.all("left")) == 4 * joins
        assert {one["ifindex"] for one in stream.all("joined")} == {wire.index - 20, wire.index}
    told = notices(heard["listen"], "renamed")
    assert [one["iface"] for one in told] == ["wan0", "b0"]
    streams = {one["dst"]: one for one in heard["listen"].summary["streams"]}
    for summary, group in zip(sent, ("239.1.1.1", "ff02::1:1", "232.1.1.1"), strict=True):
        stream = streams[group]
        assert stream["packets"] + stream["lost"] == stream["last_seq"] - stream["first_seq"] + 1
        assert stream["packets"] <= summary["sent"]
        assert (stream["duplicates"], stream["iface"]) == (0, "b0")
        assert summary["attempted"] == summary["sent"] + summary["refused"]
        assert summary["refused"], "the near end was away, too"
    # The same file goes on: what is in it is what was counted.
    for name, file in (("written", path), ("both", both)):
        assert heard[name].summary["written"] == heard[name].summary["packets"] > 0
        read = Stream.of(b.mcastctl("sniff", "-r", file, "-j", timeout=30))
        assert len(read.all("packet")) == heard[name].summary["written"]


def test_a_backlog_delays_no_news_of_the_interface(world: World) -> None:
    """A capture that is behind listens to what is back before it has looked at all of it."""
    wire = cable(world)
    read, write = os.pipe()
    sniff = ("sniff", "-i", "b0", "-j", "-c", "4000", "udp", "port", "5004")
    sniffer = wire.b.start_mcastctl(*sniff, stdout=write)
    os.close(write)
    with os.fdopen(read) as said:
        while "capturing" not in said.readline():
            pass
        flood = ("--probe", "--flood", "--no-gso", "-c", "4000", "-s", "1000", "-q")
        wire.a.mcastctl("send", "239.1.1.1:5004", *flood, "-i", "a0")
        wire.pull()  # nobody reads, so it is held up early in the first block of the ring
        wire.plug(wire.index)
        records = [json.loads(line) for line in said]
    assert sniffer.finish().returncode == 0
    told = next(place for place, one in enumerate(records) if one.get("code") == "gone")
    packets = [one["type"] == "packet" for one in records]
    assert sum(packets) == 4000
    assert sum(packets[:told]) < 2000


def test_a_membership_counts_once_however_often_it_was_lost(world: World) -> None:
    """The kernel lets a socket have 20, and counts those of interfaces that are gone."""
    wire = cable(world)
    wire.b.sysctl("net.ipv4.igmp_max_memberships", 20)
    # Without hints: what runs for them takes a descriptor for a while.
    only = ("-i", "b0", "-c", "1", "--no-hints")
    listener = start(wire.b, "listen", "239.1.1.1:5004", *only)
    states = []
    for turn in range(25):
        wire.pull()
        listener.wait_stdout('"code":"gone"', count=turn + 1)
        wire.plug(wire.index + turn % 2)
        listener.wait_stdout('"type":"joined"', count=turn + 2)
        listener.wait_stdout('"code":"deaf"', count=turn + 1)
        states.append(State.of(listener.pid))
    assert len({one.descriptors for one in states}) == 1
    assert states[-1].memory_kb - states[4].memory_kb < 256
    assert wire.a.mcastctl("send", "239.1.1.1:5004", "hello", "-i", "a0").returncode == 0
    stream = Stream.of(listener.finish())
    assert (stream.status, stream.payloads) == (0, ["hello"])
    assert len(stream.all("joined")) == len(stream.all("left")) == 26
    assert not notices(stream, "not-joined")


def test_what_is_held_stays_the_same_and_what_is_counted_is_exact(world: World) -> None:
    soak = Soak(cable(world), "500")
    soak.round(lambda: None)
    first = soak.states()
    soak.round(lambda: None)
    last = soak.states()
    summaries = soak.end()
    assert soak.exact(summaries), summaries
    for name, (memory_kb, descriptors) in last.items():
        assert descriptors == first[name].descriptors, name
        assert memory_kb - first[name].memory_kb < 512, name


def test_switches_hear_of_memberships_when_a_carrier_is_back(world: World) -> None:
    """The kernel reports IPv4 memberships when an interface goes up, not when its cable is back."""
    a, b = world.host("a"), world.host("b")
    b.sysctl("net.ipv4.igmp_qrv", 1)  # each report once: none is repeated after the cable is back
    world.bridge("sw", a, b, snooping=True)
    listener = start(b, "listen", "239.1.1.1:5004", "10.0.1.1@232.1.1.1:5004", "-i", "b0", joined=2)
    groups = ("239.1.1.1", "232.1.1.1")

    def known() -> bool:
        entries = world.anchor.sh("bridge mdb show dev sw").stdout
        return all(group in entries for group in groups)

    until(known)
    world.anchor.ip("link set sw-b0 down")
    listener.wait_stdout('"code":"no-carrier"')
    until(lambda: "239.1.1.1" not in world.anchor.sh("bridge mdb show dev sw").stdout)
    world.anchor.ip("link set sw-b0 up")
    listener.wait_stdout('"code":"deaf"')
    until(known)
    stream = ended(listener)
    assert len(stream.all("joined")) == 2
    assert notices(stream, "deaf")[0]["causes"] == ["no-carrier"]


def test_an_interface_is_found_again_by_what_it_was_chosen_by(world: World) -> None:
    wire = cable(world)
    a, b = wire.a, wire.b
    world.link(a, b)
    b.ip("route add 239.0.0.0/8 dev b0", "route add default dev b1")
    chosen = {
        "name": start(b, "listen", "239.1.1.1:5004", "-i", "b0"),
        "index": start(b, "listen", "239.1.1.1:5004", "-i", str(wire.index)),
        "address": start(b, "listen", "239.1.1.1:5004", "-i", "10.0.1.2"),
        "address of IPv6": start(b, "listen", "239.1.1.1:5004", "-i", "fd00:1::2"),
        "route": start(b, "listen", "239.1.1.1:5004"),
    }
    b.ip("addr del 10.0.1.2/24 dev b0")
    chosen["address"].wait_stdout('"code":"address-gone"')
    b.ip(*wire.address(b), "route replace 239.0.0.0/8 dev b0")
    wire.pull()
    for one in chosen.values():
        one.wait_stdout('"code":"gone"')
    chosen["route"].wait_stdout('"type":"joined".*"iface":"b1"')  # the routing table's next choice
    wire.plug(wire.index + 20, address=False)
    for name in ("name", "index"):
        chosen[name].wait_stdout('"type":"joined"', count=2)
    chosen["index"].wait_stdout('"code":"renumbered"')
    for name in ("address", "address of IPv6"):
        assert number(chosen[name], '"type":"joined"') == 1, "nobody has that address"
    b.ip(*wire.address(b), "route add 239.0.0.0/8 dev b0")
    for name in ("address", "address of IPv6"):
        chosen[name].wait_stdout('"type":"joined"', count=2)
    chosen["route"].wait_stdout('"type":"joined".*"iface":"b0"', count=2)
    for one in chosen.values():
        one.wait_stdout('"code":"deaf"')
    assert a.mcastctl("send", "239.1.1.1:5004", "hello", "-i", "a0").returncode == 0
    for name, one in chosen.items():
        one.wait_stdout('"type":"datagram"')
        stream = ended(one)
        assert [(heard["iface"], heard["payload"]) for heard in stream.datagrams] == [
            ("b0", "hello")
        ], name
        assert stream.all("joined")[-1]["ifindex"] == wire.index


def test_the_end_of_a_run_that_is_deaf_says_so(world: World) -> None:
    wire = cable(world)
    args = ["listen", "239.1.1.1:5004", "-i", "b0", "-T", "1s"]
    told, shown = wire.b.start_mcastctl(*args, "-j"), wire.b.start_mcastctl(*args)
    told.wait_stdout('"joined"')
    shown.wait_stderr("joined")
    wire.pull()
    stream, outcome = Stream.of(told.finish()), shown.finish()
    assert (stream.status, stream.summary["reason"], outcome.returncode) == (1, "timeout", 1)
    (deaf,) = notices(stream, "deaf")
    assert 0 < deaf["deaf_s"] <= stream.summary["deaf_s"] < 1.1
    assert "gone" in deaf["causes"]
    assert len(stream.all("left")) == 1
    assert re.search(
        r"^mcastctl: warning: b0 is gone: deaf until it is back$", outcome.stderr, re.M
    )
    assert re.search(r"warning: deaf for \d\.\d{3} s on b0, to the end: ", outcome.stderr)
    assert re.search(r"^heard nothing in 1\.\d s; deaf for \d\.\d{3} s$", outcome.stderr, re.M)


@pytest.mark.parametrize("program", ["listen", "echo", "sniff", "written"])
def test_a_late_interface_is_waited_for(world: World, tmp_path: Path, program: str) -> None:
    wire = cable(world)
    wire.pull()
    args = {
        "listen": ["listen", "239.1.1.1:5004", "-c", "1"],
        "echo": ["echo", "239.1.1.1:5004", "-c", "1", "--any"],
        "sniff": ["sniff", "-c", "1", "udp", "port", "5004"],
        "written": ["sniff", "-w", str(tmp_path / "x.pcap"), "-c", "1", "udp", "port", "5004"],
    }[program]
    args += ["-i", "b0", "--wait", "-j"]
    never = Stream.of(wire.b.mcastctl(*args, "-T", "100ms"))
    assert (never.status, never.summary["reason"]) == (1, "timeout")
    assert never.all("notice")[0]["text"] == "waiting for interface b0"
    assert notices(never, "deaf")[0]["causes"] == ["late"]
    if program == "written":
        read = Stream.of(wire.b.mcastctl("sniff", "-j", "-r", tmp_path / "x.pcap"))
        assert read.summary["packets"] == 0
    waiting = wire.b.start_mcastctl(*args, "-T", "30s")
    waiting.wait_stdout('"code":"late"')
    wire.plug(wire.index)
    waiting.wait_stdout('"code":"capturing"' if args[0] == "sniff" else '"type":"joined"')
    sender = wire.a.start_mcastctl(
        "send", "239.1.1.1:5004", "hello", "-i", "a0", "-c", "100", "--interval", "100ms", "-q"
    )
    stream = Stream.of(waiting.finish())
    sender.stop()
    assert (stream.status, stream.summary["reason"]) == (0, "count")
    assert 0 < stream.summary["deaf_s"] < stream.summary["elapsed_s"]


@pytest.mark.parametrize("file", [[], ["-w", "x.pcap"]], ids=["shown", "written"])
def test_a_capture_waits_until_the_interface_is_up(
    world: World, tmp_path: Path, file: list[str]
) -> None:
    """What is made is not up at once, and libpcap opens no interface that is down."""
    wire = cable(world)
    wire.b.ip("link set b0 down")
    words = ["sniff", "-i", "b0", "--wait", "-j", "-c", "1", "-T", "30s", "udp", "port", "5004"]
    waiting = wire.b.start_mcastctl(*words, *file, cwd=tmp_path)
    waiting.wait_stdout('"code":"down"')
    wire.b.ip("link set b0 up")
    waiting.wait_stdout('"code":"capturing"')
    sender = wire.a.start_mcastctl(
        "send", "239.1.1.1:5004", "hello", "-i", "a0", "-c", "100", "--interval", "100ms", "-q"
    )
    stream = Stream.of(waiting.finish())
    sender.stop()
    assert (stream.status, stream.summary["reason"]) == (0, "count")
    assert notices(stream, "deaf")[0]["causes"] == ["down"]


def test_a_late_route_is_waited_for(world: World) -> None:
    b = world.host("b")
    args = ["listen", "239.1.1.1:5004", "-j"]
    assert b.mcastctl(*args).returncode == 2
    waiting = b.start_mcastctl(*args, "--wait")
    waiting.wait_stdout("waiting for a route or an interface")
    Cable(world, world.host("a"), b)
    waiting.wait_stdout('"type":"joined".*"iface":"b0"')
    waiting.wait_stdout('"code":"deaf"')
    assert ended(waiting).all("joined")[0]["ifindex"] == b.ifindex()


def test_two_names_of_one_late_interface_are_one(world: World) -> None:
    wire = cable(world)
    wire.pull()
    args = ["listen", "239.1.1.1:5004", "-i", "b0", "-i", "10.0.1.2", "-j", "--wait"]
    waiting = wire.b.start_mcastctl(*args)
    waiting.wait_stdout('"code":"late"', count=2)
    wire.plug(wire.index)
    waiting.wait_stdout('"code":"deaf"', count=2)
    assert wire.a.mcastctl("send", "239.1.1.1:5004", "once", "-i", "a0").returncode == 0
    waiting.wait_stdout('"type":"datagram"')
    stream = ended(waiting)
    assert (len(stream.all("joined")), stream.payloads) == (1, ["once"])


# mcastctl where netlink is forbidden, as in some sandboxes, or unknown, as on other systems
UNTOLD = """
from mcastctl.net import linkwatch
linkwatch._open = lambda groups: None
from mcastctl.cli.app import main
main()
"""


def test_without_news_the_interfaces_are_looked_at(world: World) -> None:
    wire = cable(world)
    args = [sys.executable, "-c", UNTOLD, "listen", "239.1.1.1:5004", "-i", "b0", "-j", "-c", "1"]
    listener = wire.b.popen(args)
    listener.wait_stdout('"joined"')
    wire.pull()
    listener.wait_stdout('"code":"gone"')
    back = time.time()
    wire.plug(wire.index + 20)
    listener.wait_stdout('"joined"', count=2)
    assert wire.a.mcastctl("send", "239.1.1.1:5004", "x", "-i", "a0", "-c", "1").returncode == 0
    stream = Stream.of(listener.finish())
    assert stream.payloads == ["x"]
    assert stream.all("joined")[1]["ts"] < back + SOON_S + 1


def test_lost_news_is_made_up_for(world: World) -> None:
    """More happens than the kernel keeps for a process that is stopped: all is looked at anew."""
    wire = cable(world)
    programs = [
        start(wire.b, "listen", "239.1.1.1:5004", "-i", "b0", "-c", "1"),
        start(wire.b, "sniff", "udp port 5004", "-i", "b0", "-c", "1"),
        start(wire.b, "sniff", "udp port 5004", "-c", "1"),
    ]
    for one in programs:
        one.signal(signal.SIGSTOP)
    wire.pull()
    churn = [f"link {verb} x{n} {rest}" for n in range(50) for verb, rest in CHURN]
    wire.plug(wire.index)  # nothing in the list of interfaces tells that this is another one
    wire.b.ip(*churn)
    for one in programs:
        one.signal(signal.SIGCONT)
    programs[0].wait_stdout('"code":"news-lost"')
    programs[0].wait_stdout('"type":"joined"', count=2)
    until(lambda: '"allmulti":2' in wire.b.sh("ip -details -json link show dev b0").stdout)
    sender = wire.a.start_mcastctl(
        "send", "239.1.1.1:5004", "x", "-i", "a0", "-c", "100", "--interval", "100ms", "-q"
    )
    assert [Stream.of(one.finish()).status for one in programs] == [0, 0, 0]
    sender.stop()


CHURN = [("add", "type veth"), ("set", "up"), ("del", "")]


@pytest.mark.parametrize("group", ["239.1.1.1:5004", "[ff02::1:1]:5004"])
@pytest.mark.parametrize("pace", [["--interval", "20ms"], ["--pps", "20k"]], ids=["slow", "fast"])
def test_a_sender_goes_on_by_the_interface_that_has_the_name(
    world: World, group: str, pace: Sequence[str]
) -> None:
    wire = Cable(world, world.host("b"), world.host("a"))  # its far end is the sender's
    a, b = wire.b, wire.a
    sender = a.start_mcastctl("send", group, "-i", "a0", "--probe", *pace, "-T", "60s", "-q", "-j")
    first = start(b, "listen", group, "-i", "b0", "-c", "1", "-q")
    assert Stream.of(first.finish()).status == 0
    wire.pull()
    sender.wait_stdout('"code":"refused"')
    wire.plug(wire.index + 20)
    second = start(b, "listen", group, "-i", "b0", "-c", "1", "-T", "60s", "-q")
    assert Stream.of(second.finish()).status == 0
    sender.signal(signal.SIGINT)
    summary = Stream.of(sender.finish()).summary
    assert summary["attempted"] == summary["sent"] + summary["refused"]
    assert summary["errors"]


def test_ping_does_not_hang(world: World) -> None:
    wire = cable(world)
    echo = start(wire.a, "echo", "239.1.1.1:5004", "-i", "a0")
    args = ["-i", "b0", "--interval", "50ms", "--wait", "100ms", "-j"]
    ping = wire.b.start_mcastctl("ping", "239.1.1.1:5004", *args)
    ping.wait_stdout('"type":"reply"')
    wire.pull()
    ping.wait_stdout('"code":"refused"')
    wire.plug(wire.index + 20)
    replies = number(ping, '"kind":"multicast"')
    ping.wait_stdout('"kind":"multicast"', count=replies + 2)
    assert ended(ping).summary["refused"]
    echo.stop()


def test_new_interfaces_join_a_capture_on_all(world: World) -> None:
    """All-multicast mode is asked of each interface: of one that comes later, too."""
    wire = cable(world)
    capture = start(wire.b, "sniff", "udp port 5004", "-c", "1")
    wire.pull()
    wire.plug(wire.index + 20)
    until(lambda: '"allmulti":1' in wire.b.sh("ip -details -json link show dev b0").stdout)
    assert wire.a.mcastctl("send", "239.1.1.1:5004", "x", "-i", "a0").returncode == 0
    stream = Stream.of(capture.finish())
    assert (stream.status, stream.only("packet")["ifindex"]) == (0, wire.index)


def test_a_capture_on_all_calls_interfaces_what_they_are_called(world: World) -> None:
    """By name as of now, also of another one that has the index of one that went."""
    wire = cable(world)
    capture = start(wire.b, "sniff", "udp port 5004")
    watch = start(wire.b, "sniff", "-i", "b0", "udp port 5004")  # tells what is noticed, and when

    def name_of(payload: str, ifname: str) -> None:
        words = ("239.1.1.1:5004", payload, "-i", "a0", "-c", "1")
        told = number(capture, '"type":"packet"')
        assert wire.a.mcastctl("send", *words).returncode == 0
        capture.wait_stdout('"type":"packet"', count=told + 1)
        seen.append(ifname)

    seen: list[str] = []
    name_of("one", "b0")
    wire.b.ip("link set b0 name c0")
    watch.wait_stdout('"code":"renamed"')
    name_of("two", "c0")
    wire.b.ip("link del c0")
    watch.wait_stdout('"code":"gone"')
    wire.plug(wire.index)
    watch.wait_stdout('"code":"deaf"')
    name_of("three", "b0")
    stream = ended(capture)
    assert [one["iface"] for one in stream.all("packet")] == seen
    watch.stop()
