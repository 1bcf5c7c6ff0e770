"""Nothing heard is no answer where nothing could be heard: verdicts, causes and hints of a listen
whose interface cannot bring what it listens to."""

from __future__ import annotations

import resource
import sys

import pytest
from flood import all_read
from mishaps import Cable, State
from streams import Stream
from test_deaf import cable, ended, notices, start
from world import World

GROUP = "239.1.1.1:5004"


@pytest.mark.parametrize("never", ["down", "late"])
def test_where_nothing_can_come_nothing_is_no_answer(world: World, never: str) -> None:
    wire = cable(world)
    name = "b0" if never == "down" else "late0"
    wire.b.ip("link set b0 down")
    done = wire.b.mcastctl("listen", GROUP, "-i", name, "--wait", "--expect-none", "-T", "300ms")
    assert done.returncode == 2
    error = "mcastctl: error: cannot judge that nothing came: it was deaf at the end\nhint: "
    assert error in done.stderr


def test_verdicts_of_a_run_that_was_deaf(world: World) -> None:
    """Some time, at the end, or only until what was waited for was there."""
    wire = cable(world)
    other = Cable(world, wire.a, wire.b)
    end = ("-T", "5s", "-q", "-j")
    wire.b.ip("link set b1 down")
    none = wire.b.start_mcastctl("listen", GROUP, "-i", other.far, "--expect-none", *end)
    limited = start(wire.b, "listen", GROUP, "-i", "b0", "--max-loss", "0%", *end[:3])
    none.wait_stdout('"code":"down"')
    late = wire.b.start_mcastctl("listen", GROUP, "-i", "x0", "--wait", "--expect-none", *end)
    late.wait_stdout('"code":"late"')
    wire.b.ip("link set b1 up", "link add x0 type veth peer name x1", "link set x1 up")
    wire.b.ip("link set x0 up")
    sent = wire.a.mcastctl("send", GROUP, "--probe", "-c", "3", "--pps", "100", "-i", "a0", "-q")
    assert sent.returncode == 0
    all_read(wire.b)
    wire.b.ip("link set b0 down")
    was_deaf, is_deaf, waited = (Stream.of(one.finish(20)) for one in (none, limited, late))
    assert notices(was_deaf, "deaf")[0]["text"].endswith("listening again: it was down")
    assert (was_deaf.status, was_deaf.summary["packets"]) == (2, 0)
    assert (is_deaf.status, is_deaf.summary["packets"], is_deaf.summary["lost"]) == (2, 3, 0)
    assert waited.status == 0, "to wait is not to be deaf"
    assert waited.summary["deaf_s"] > 0


# argv: the first of fifty RTP packets from one port, all by a1 and every other one by a0 as well
TWICE = """
import socket, struct, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("10.0.1.1", 4000))
ways = [(socket.if_nametoindex(name), step) for name, step in (("a0", 2), ("a1", 1))]
first = int(sys.argv[1])
for number in range(first, first + 50):
    packet = struct.pack("!BBHII", 0x80, 33, number, number * 900, 77) + bytes(100)
    for index, step in ways:
        if number % step == 0:
            way = struct.pack("4s4si", b"", b"", index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, way)
            sock.sendto(packet, ("239.1.1.1", 5004))
    time.sleep(0.002)
"""


def test_no_interface_makes_up_for_what_another_loses(world: World) -> None:
    """And what an interface that is made anew brings is the same stream still."""
    wire = cable(world)
    world.link(wire.a, wire.b)
    words = ("listen", "rtp://239.1.1.1:5004", "-i", str(wire.index), "-i", "b1", "-q", "-c", "150")
    listener = start(wire.b, *words, joined=2)
    wire.a.run([sys.executable, "-c", TWICE, "0"])
    wire.pull()
    listener.wait_stdout('"code":"gone"')
    wire.far = "z9"
    wire.plug(wire.index)
    listener.wait_stdout('^{"type":"joined".*"iface":"z9"')
    wire.a.run([sys.executable, "-c", TWICE, "50"])
    summary = Stream.of(listener.finish()).summary
    told = ("iface", "packets", "lost", "duplicates", "first_seq", "last_seq")
    streams = sorted([one[name] for name in told] for one in summary["streams"])
    assert streams == [["b1", 100, 0, 0, 0, 99], ["z9", 50, 49, 0, 0, 98]]


def test_what_is_up_and_deaf_says_why(world: World) -> None:
    """A port of a bridge, an MTU too small for IPv6, IPv6 switched off; and all is well after."""
    wire = cable(world)
    both = ("-i", "b0", "-q")
    programs = [
        start(wire.b, "listen", GROUP, "[ff15::77]:5004", *both, joined=2),
        start(wire.b, "echo", GROUP, "[ff15::77]:5004", *both, joined=2),
    ]
    wire.b.ip("link add br9 type bridge", "link set br9 up")
    faults = [
        ("enslaved", "ip link set b0 master br9", "ip link set b0 nomaster"),
        ("small-mtu", "ip link set b0 mtu 1000", "ip link set b0 mtu 1500"),
        ("no-ipv6", f"echo 1 > {SWITCH}", f"echo 0 > {SWITCH}"),
    ]
    for turn, (code, fault, relief) in enumerate(faults, start=1):
        wire.b.sh(fault)
        for one in programs:
            one.wait_stdout(f'"code":"{code}"')
        wire.b.sh(relief)
        for one in programs:
            one.wait_stdout('"code":"deaf"', count=turn)
    listener, responder = programs
    wire.b.ip("link set b0 mtu 1000", "link set b0 down")
    for one in programs:
        one.wait_stdout('"code":"down"')
    wire.b.ip("link set b0 mtu 1500", "link set b0 up", *wire.address(wire.b))
    for one in programs:
        one.wait_stdout('"code":"deaf"', count=4)
    for group in (GROUP, "[ff15::77]:5004"):
        pinged = wire.a.mcastctl("ping", group, "-i", "a0", "-c", "1", "-q")
        assert pinged.returncode == 0, group
    stream = ended(listener)
    ended(responder)
    assert {one["dst"] for one in stream.summary["streams"]} == {"239.1.1.1", "ff15::77"}
    assert [one["causes"] for one in notices(stream, "deaf")][:3] == [[one[0]] for one in faults]
    (told,) = notices(stream, "enslaved")
    assert (told["text"], told["hint"]) == (
        "b0 is a port of br9: what arrives goes there",
        "listen on br9",
    )
    joined = [one["group"] for one in stream.all("joined")]
    assert (joined.count("239.1.1.1"), joined.count("ff15::77")) == (1, 3)


SWITCH = "/proc/sys/net/ipv6/conf/b0/disable_ipv6"


def test_what_is_deaf_from_the_beginning_says_why(world: World) -> None:
    wire = cable(world)
    wire.b.sh(f"echo 1 > {SWITCH}")
    args = ("listen", "[ff15::77]:5004", "-i", "b0", "-T", "100ms", "-j")
    off = Stream.of(wire.b.mcastctl(*args))
    wire.b.ip("link set b0 mtu 1000")
    small = Stream.of(wire.b.mcastctl(*args))
    wire.b.ip("link set b0 mtu 1500", "link add br9 type bridge", "link set b0 master br9")
    port = Stream.of(wire.b.mcastctl(*args))
    causes = [notices(one, "deaf")[0]["causes"] for one in (off, small, port)]
    assert causes == [["no-ipv6"], ["small-mtu"], ["enslaved"]]
    assert [len(one.all("joined")) for one in (off, small, port)] == [1, 0, 1]


def test_a_hint_is_about_what_is_listened_on_now(world: World) -> None:
    """Late, renamed, gone; and without a descriptor there is no hint, and no harm."""
    wire = cable(world)
    waiting = wire.b.start_mcastctl(
        "listen", GROUP, "-i", "late0", "--wait", "-j", "--rcvbuf", "1000M"
    )
    waiting.wait_stdout('"code":"late"')
    gone, full = (start(wire.b, "listen", GROUP, "-i", "b0") for _ in range(2))
    number = State.of(full.pid).descriptors
    hard = resource.prlimit(full.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(full.pid, resource.RLIMIT_NOFILE, (number, hard))
    wire.b.ip("link add late0 type veth peer name late1", "link set late0 multicast off")
    wire.b.ip("link set late0 up", "link set late1 up", "link set late0 name c9")
    wire.pull()
    gone.wait_stdout('"code":"gone"')
    waiting.wait_stdout('"code":"doctor"', timeout=60)
    told = {one["code"]: one for one in ended(waiting).all("notice")}
    assert "c9 has no MULTICAST flag" in told["no-multicast"]["text"]
    assert "rcvbuf" in told
    assert "late0" not in told["doctor"]["text"] + told["doctor"]["hint"]
    assert "c9" in told["doctor"]["text"] + told["doctor"]["hint"]
    for one in (gone, full):
        assert not notices(ended(one), "doctor")


def test_many_groups_of_a_late_interface_find_descriptors(world: World) -> None:
    wire = cable(world)
    words = "listen 239.1.0.0/24:5004 -i late0 --wait -j --no-hints"
    command = f"ulimit -Sn 128; exec {sys.executable} -m mcastctl {words}"
    listener = wire.b.popen(["bash", "-c", command])
    listener.wait_stdout('"code":"late"')
    wire.b.ip("link add late0 type veth peer name late1", "link set late0 up")
    listener.wait_stdout('"type":"joined"', count=256, timeout=30)
    ended(listener)


def test_without_a_descriptor_nothing_is_joined_again_yet(world: World) -> None:
    wire = cable(world)
    listener = start(wire.b, "listen", GROUP, "-i", "b0", "--no-hints")
    soft, hard = resource.prlimit(listener.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(listener.pid, resource.RLIMIT_NOFILE, (5, hard))
    wire.pull()
    listener.wait_stdout('"code":"not-joined"')
    wire.plug(wire.index)
    resource.prlimit(listener.pid, resource.RLIMIT_NOFILE, (soft, hard))
    listener.wait_stdout('"type":"joined"', count=2)
    stream = ended(listener)
    (told,) = notices(stream, "not-joined")
    assert told["text"].endswith("too many open files (EMFILE)")
