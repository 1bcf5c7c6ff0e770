"""`sniff` on an interface: what it lets through, when it stops, what it loses, who it is."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import frames as f
import pytest
from conftest import Pair
from place import BY_ROOT, ROOT
from streams import Stream
from wire import inject
from world import Host, Outcome, Running, World

import mcastctl

REPORT4 = f.igmp3_report([(4, "239.1.1.1", [])])
REPORT6 = f.mld2_report([(4, "ff15::1", [])])
A4, A6, LINK6 = "10.0.1.1", "fd00:1::1", "fe80::1"


def udp4(dst: str) -> bytes:
    return f.ip4(A4, dst, 17, f.udp(A4, dst, 4000, 5004, b"four"))


def udp6(dst: str) -> bytes:
    return f.ip6(A6, dst, 17, f.udp(A6, dst, 4000, 5004, b"six"))


WANTED = {
    "group": f.ether(udp4("239.1.1.1")),
    "group of IPv6": f.ether(udp6("ff15::1")),
    "lowest group": f.ether(udp4("224.0.0.0")),
    "highest group": f.ether(udp4("239.255.255.255")),
    "IGMP": f.ether(f.ip4(A4, "224.0.0.22", 2, REPORT4, options=f.ROUTER_ALERT4)),
    "IGMP by unicast": f.ether(f.ip4(A4, "10.0.1.2", 2, REPORT4)),
    "MLD": f.ether(f.icmp6(LINK6, "ff02::16", REPORT6)),
    "MLD by unicast": f.ether(f.icmp6(LINK6, A6, REPORT6)),
    "MLD without options": f.ether(f.icmp6(LINK6, A6, f.mld(130, 0, "::"), alert=False)),
    "MLD behind long options": f.ether(
        f.ip6(LINK6, A6, 0, bytes((58, 1, 5, 2, 0, 0, 1, 8)) + bytes(8) + f.mld(131, 0, "ff15::1"))
    ),
    "PIM": f.ether(f.ip4(A4, "224.0.0.13", 103, f.pim(0, b""))),
    "PIM by unicast": f.ether(f.ip4(A4, "10.0.1.2", 103, f.pim(1, bytes(4)))),
    "PIM by unicast, IPv6": f.ether(f.ip6(A6, "fd00:1::2", 103, f.pim(1, bytes(4)))),
    "VRRP": f.ether(f.ip4(A4, "224.0.0.18", 112, bytes(20))),
    "a later fragment": f.ether(f.ip4(A4, "239.1.1.1", 17, bytes(32), flags=0x00B9)),
    "tagged group": f.ether(udp4("239.1.1.2"), tags=[(0x8100, 5)]),
    "tagged group of IPv6": f.ether(udp6("ff15::2"), tags=[(0x8100, 5)]),
    "tagged MLD": f.ether(f.icmp6(LINK6, A6, REPORT6), tags=[(0x8100, 7)]),
    "doubly tagged group": f.ether(udp4("239.1.1.3"), tags=[(0x88A8, 5), (0x8100, 6)]),
}
UNWANTED = {
    "unicast": f.ether(udp4("10.0.1.2")),
    "unicast of IPv6": f.ether(udp6("fd00:1::2")),
    "broadcast": f.ether(udp4("255.255.255.255")),
    "subnet broadcast": f.ether(udp4("10.0.1.255")),
    "below the groups": f.ether(udp4("223.255.255.255")),
    "above the groups": f.ether(udp4("240.0.0.1")),
    "echo of IPv6": f.ether(
        f.icmp6(A6, "fd00:1::2", bytes((128, 0, 0, 0, 0, 0, 0, 0)), alert=False)
    ),
    "neighbour": f.ether(f.icmp6(A6, "fd00:1::2", bytes((136, 0, 0, 0)) + bytes(20), alert=False)),
    "ARP": f.ether(bytes(28), ethertype=0x0806),
    "tagged unicast": f.ether(udp4("10.0.1.2"), tags=[(0x8100, 5)]),
    "TCP behind options": f.ether(f.ip6(A6, "fd00:1::2", 0, f.hop_by_hop(6) + bytes(20))),
}


def start(host: Host, *args: str | Path, **options: Any) -> Running:
    """A capture that has begun."""
    running = host.start_mcastctl("sniff", *args, **options)
    if "-j" in args:
        running.wait_stdout('"code":"capturing"')
    else:
        running.wait_stderr("capturing on")
    return running


def packets(outcome: Outcome) -> list[dict[str, Any]]:
    """The packets of a run that prints JSON."""
    return Stream.of(outcome).all("packet")


def quiet(pair: Pair) -> Pair:
    """Hosts that say nothing of their own."""
    for host in pair:
        host.sysctl("net/ipv6/conf/all/disable_ipv6", 1)
    return pair


# --- what is let through


def put_on_wire(a: Host) -> None:
    """Every frame, what is not wanted first, and an end mark that is."""
    mark = f.ether(udp4("239.255.0.99"))
    inject(a, [*UNWANTED.values(), *WANTED.values(), mark])


@pytest.mark.parametrize("interface", ["b0", "any"])
@pytest.mark.parametrize("write", [False, True], ids=["shown", "written"])
def test_the_default_filter(pair: Pair, tmp_path: Path, interface: str, write: bool) -> None:
    a, b = quiet(pair)
    # Of two tags Linux keeps the inner one in a cooked frame and yet calls its protocol IP.
    expected = len(WANTED) + 1 - (write and interface == "any")
    stop = ["-c", str(expected), "-T", "60s"]
    path = tmp_path / "all.pcap"
    into: list[str | Path] = ["-w", path] if write else []
    capture = start(b, "-j", "-i", interface, *stop, *into)
    put_on_wire(a)
    outcome = capture.finish()
    assert outcome.returncode == 0, outcome
    if write:
        outcome = b.mcastctl("sniff", "-j", "-r", path)
    found = packets(outcome)
    assert [one["dst"] for one in found][-1] == "239.255.0.99"
    assert len(found) == expected
    assert found[0]["dst"] == "239.1.1.1"
    assert {one["proto"] for one in found} >= {"udp", "igmp", "mld", "pim", "vrrp"}
    if not write:
        assert {(one["iface"], one["direction"]) for one in found} == {("b0", "in")}
        assert [one["fields"].get("vlan") for one in found if one["fields"].get("vlan")] == (
            [[5], [5], [7], [5, 6]]
        )


@pytest.mark.parametrize("interface", ["b0", "any"])
def test_commentary_is_not_bothered_with_data(pair: Pair, interface: str) -> None:
    a, b = quiet(pair)
    control = {"igmp", "mld", "pim", "vrrp"}
    names = [name for name in WANTED if set(name.lower().split()) & control]
    capture = start(b, "-j", "--control", "-i", interface, "-c", str(len(names)), "-T", "60s")
    put_on_wire(a)
    found = packets(capture.finish())
    assert len(found) == len(names) == 11
    assert {one["proto"] for one in found} == control


CHANNELS = "(udp port 5004 and ip dst 239.1.1.1)"
CHANNELS += "".join(
    f" or (udp port {at} and ip dst 239.2.2.{at % 250})" for at in range(6000, 6900)
)
"""A filter of more than 4,096 instructions."""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("udp and dst 239.1.1.1", ["239.1.1.1"]),
        ("udp and dst net ff00::/8", ["ff15::1"]),
        ("vlan 7", ["fd00:1::1"]),
        ("ether proto 0x0806 or dst 10.0.1.255", ["10.0.1.255", None]),
        pytest.param(CHANNELS, ["239.1.1.1"], id="longer than any kernel takes"),
    ],
)
def test_a_filter_means_what_it_means_to_tcpdump(
    pair: Pair, expression: str, expected: list[str | None]
) -> None:
    a, b = quiet(pair)
    capture = start(b, "-j", "-i", "b0", "-T", "60s", "-c", str(len(expected)), expression)
    # libpcap takes a tag that the kernel put beside the frame for none, unless asked for 'vlan'
    inject(a, [*UNWANTED.values(), *list(WANTED.values())])
    found = {one["dst"] if one["proto"] != "arp" else None for one in packets(capture.finish())}
    assert found == set(expected)


def test_directions_interfaces_and_loopback(world: World) -> None:
    a, b, c = (world.host(name) for name in "abc")
    world.link(a, b)
    world.link(b, c)
    both = start(b, "-j", "-i", "b0", "-i", "b1", "-c", "3", "-T", "60s", "udp port 5004")
    out = start(b, "-j", "--direction", "out", "-c", "1", "-T", "60s", "udp port 5004")
    loop = start(b, "-j", "-i", "lo", "-c", "2", "-T", "60s", "udp port 5004")
    everything = start(b, "-j", "-c", "5", "-T", "60s", "udp port 5004")
    for host, interface in ((a, "a0"), (c, "c0"), (b, "b1"), (b, "lo"), (b, "lo")):
        assert host.mcastctl("send", "239.1.1.1:5004", "x", "-i", interface).returncode == 0
    seen = [[(p["iface"], p["direction"]) for p in packets(one.finish())] for one in (both, out)]
    assert seen == [[("b0", "in"), ("b1", "in"), ("b1", "out")], [("b1", "out")]]
    # What leaves by lo comes in by it: shown once.
    assert [(p["iface"], p["direction"]) for p in packets(loop.finish())] == [("lo", "in")] * 2
    found = packets(everything.finish())
    assert [(p["iface"], p["ifindex"]) for p in found] == [
        *(("b0", b.ifindex("b0")), ("b1", b.ifindex("b1")), ("b1", b.ifindex("b1"))),
        *[("lo", 1)] * 2,
    ]


def test_groups_that_nobody_joined_are_let_in(pair: Pair) -> None:
    _, b = pair
    capture = start(b, "-i", "b0")
    flags = b.sh("ip -d link show b0").stdout
    assert "allmulti 1" in flags
    assert "promiscuity 0" in flags
    capture.signal(signal.SIGINT)
    capture.finish()
    capture = start(b, "-i", "b0", "--promisc")
    assert "promiscuity 1" in b.sh("ip -d link show b0").stdout
    capture.signal(signal.SIGINT)
    capture.finish()
    after = b.sh("ip -d link show b0").stdout
    assert "promiscuity 0" in after
    assert "allmulti 0" in after


# argv: a name. Makes a tun interface; at a line of input sends by it to both families.
TUN = """
import fcntl, os, socket, struct, subprocess, sys
name = sys.argv[1]
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))  # IFF_TUN, IFF_NO_PI
for line in (f"addr add 10.8.0.1/24 dev {name}", f"addr add fd08::1/64 dev {name} nodad",
             f"link set {name} up multicast on"):
    subprocess.run(["ip", *line.split()], check=True)
print("up", flush=True)
sys.stdin.readline()
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
four.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.8.0.1"))
four.sendto(b"four", ("239.1.1.1", 5004))
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(name))
six.sendto(b"six", ("ff15::1", 5004))
print("sent", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("interface", ["t0", "any"])
@pytest.mark.parametrize("expression", ["", "udp port 5004"])
@pytest.mark.parametrize("write", [False, True], ids=["shown", "written"])
def test_an_interface_without_link_headers(
    world: World, tmp_path: Path, interface: str, expression: str, write: bool
) -> None:
    host = world.host("a")
    tun = host.popen([sys.executable, "-c", TUN, "t0"], stdin=subprocess.PIPE)
    tun.wait_stdout("up")
    into: list[str | Path] = ["-w", tmp_path / "x.pcap"] if write else []
    capture = start(host, "-j", "-i", interface, *into, *expression.split())
    tun.write("go\n")
    tun.wait_stdout("sent")
    capture.signal(signal.SIGINT)
    outcome = capture.finish()
    tun.write("\n")
    if write:
        outcome = host.mcastctl("sniff", "-j", "-r", tmp_path / "x.pcap")
    found = [one for one in packets(outcome) if one["proto"] == "udp"]
    assert [(one["dst"], one["direction"] or "out") for one in found] == [
        ("239.1.1.1", "out"),
        ("ff15::1", "out"),
    ]


# --- super-packets

SEGMENTS = """
import socket, struct, sys
group, index, size, segment = sys.argv[1], *map(int, sys.argv[2:])
version6 = ":" in group
sock = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM)
if version6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
else:
    request = struct.pack("@4s4si", b"", b"", index)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
if segment:
    sock.setsockopt(socket.IPPROTO_UDP, 103, segment)
sock.sendto(b"".join(b"%08d" % n for n in range(size // 8)) + b"x" * (size % 8), (group, 5004))
"""


@pytest.mark.parametrize("group", ["239.1.1.1", "ff15::1"])
@pytest.mark.parametrize("form", ["-j", "text"])
def test_super_packets_are_shown_as_what_they_become(pair: Pair, group: str, form: str) -> None:
    a, b = pair
    for host, name in ((a, "a0"), (b, "b0")):
        host.ip(f"link set {name} mtu 9000")
    capture = start(b, "-i", "b0", *(["-j"] if form == "-j" else []), "-c", "8", "-T", "60s", "udp")
    for size, segment in ((8004, 1600), (8004, 0), (96, 64)):
        numbers = map(str, (a.ifindex(), size, segment))
        a.run([sys.executable, "-c", SEGMENTS, group, *numbers])
    outcome = capture.finish()
    release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    if release < (6, 2):
        pytest.skip("this kernel does not tell super-packets apart")
    expected = [1600] * 5 + [4] + [8004] + [64]
    if form == "-j":
        found = packets(outcome)
        assert [one["fields"]["payload_length"] for one in found] == expected
        assert [one["number"] for one in found] == list(range(1, 9))
        assert all(one["fields"].get("checksum_ok") for one in found[:6])
        if ":" not in group:
            first = found[0]["fields"]["ip_id"]
            assert [one["fields"]["ip_id"] - first for one in found[:6]] == list(range(6))
    else:
        assert [int(one) for one in re.findall(r"length (\d+)$", outcome.stdout, re.M)] == expected


# --- when it stops


@pytest.mark.parametrize("write", [False, True], ids=["shown", "written"])
@pytest.mark.parametrize(
    ("args", "reason"), [(["-T", "0.5s"], "timeout"), (["--idle", "0.5s"], "idle")]
)
def test_silence_ends_on_time(
    world: World, tmp_path: Path, write: bool, args: Sequence[str], reason: str
) -> None:
    host = world.host("a")
    into: list[str | Path] = ["-w", tmp_path / "none.pcap"] if write else []
    capture = start(host, "-j", "-i", "lo", *args, *into)
    began = time.monotonic()
    found = Stream.of(capture.finish())
    assert time.monotonic() - began < 5
    assert 0.45 < found.summary["elapsed_s"] < 4
    assert (found.summary["reason"], found.status) == (reason, 1)
    if write:
        assert (tmp_path / "none.pcap").stat().st_size == 24


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("write", [False, True], ids=["shown", "written"])
def test_a_signal_ends_it_with_everything_said(
    pair: Pair, tmp_path: Path, number: signal.Signals, write: bool
) -> None:
    a, b = pair
    path = tmp_path / "some.pcap"
    into: list[str | Path] = ["-w", path] if write else []
    capture = start(b, "-j", "-i", "b0", *into, "udp port 5004")
    assert a.mcastctl("send", "239.1.1.1:5004", "-c", "50", "--pps", "1000", "x").returncode == 0
    capture.signal(number)
    outcome = capture.finish()
    assert outcome.returncode == -number
    summary = Stream.of(outcome).summary
    assert (summary["reason"], summary["packets"], summary["kernel_drops"]) == ("signal", 50, 0)
    if write:
        assert len(packets(b.mcastctl("sniff", "-j", "-r", path))) == 50


def test_an_interface_that_goes(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    capture = start(b, "-j", "-i", "b0", "-c", "1", "udp port 5004")
    b.ip("link set b0 down")
    capture.wait_stdout('"code":"down"')
    b.ip("link set b0 up")
    inject_until(a, capture)
    assert Stream.of(capture.finish()).status == 0
    running = [start(b, "-i", "b0"), start(b, "-i", "b0", "-w", tmp_path / "x.pcap")]
    b.ip("link del b0")
    for capture in running:
        capture.wait_stderr("warning: b0 is gone: deaf until it is back")
    # What comes in its place has other frames: neither filter nor file fits them.
    tun = b.popen([sys.executable, "-c", TUN, "b0"], stdin=subprocess.PIPE)
    for capture in running:
        outcome = capture.finish()
        assert outcome.returncode == 2
        assert re.search("error: b0 is back as another kind.*\nhint: ", outcome.stderr), outcome
    tun.stop()


def inject_until(a: Host, capture: Running) -> None:
    """Send until the capture has ended, for a carrier takes its time to return."""
    for _ in range(100):
        inject(a, [f.ether(udp4("239.1.1.1"))])
        if capture._ended(0):
            return
        time.sleep(0.05)


# --- files


def burst(a: Host, count: int, size: int = 100) -> None:
    """Send numbered datagrams, slowly enough for any receiver."""
    done = a.mcastctl("send", "239.1.1.1:5004", "--probe", "-c", str(count), "-s", str(size),
                      "--pps", "20000", "-i", "a0", timeout=30)  # fmt: skip
    assert done.returncode == 0, done


def test_files_rotate(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    size = start(b, "-j", "-i", "b0", "-w", tmp_path / "size.pcap", "--rotate-size", "10k",
                 "--rotate-keep", "3", "-c", "500", "-T", "60s", "udp port 5004")  # fmt: skip
    count = start(b, "-j", "-i", "b0", "-w", tmp_path / "count.pcap", "--rotate-packets", "120",
                  "-c", "500", "-T", "60s", "udp port 5004")  # fmt: skip
    burst(a, 500)
    summaries = [Stream.of(one.finish()).summary for one in (size, count)]
    assert [one["written"] for one in summaries] == [500, 500]
    by_size = sorted(tmp_path.glob("size-*.pcap"))
    assert [str(one) for one in by_size] == summaries[0]["files"]
    assert len(by_size) == 3
    assert all(one.stat().st_size <= 10_000 for one in by_size)
    by_count = sorted(tmp_path.glob("count-*.pcap"))
    held = [len(packets(b.mcastctl("sniff", "-j", "-r", one))) for one in by_count]
    assert held == [120, 120, 120, 120, 20]


def test_files_rotate_by_time(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    capture = start(b, "-j", "-i", "b0", "-w", tmp_path / "x.pcap", "--rotate-time", "0.3s",
                    "-c", "3", "-T", "60s", "udp port 5004")  # fmt: skip
    for _ in range(3):
        burst(a, 1)
        time.sleep(0.4)
    summary = Stream.of(capture.finish()).summary
    assert (summary["written"], len(summary["files"])) == (3, 3)


def test_several_interfaces_in_one_file(world: World, tmp_path: Path) -> None:
    a, b, c = (world.host(name) for name in "abc")
    world.link(a, b)
    world.link(b, c)
    path = tmp_path / "both.pcapng"
    capture = start(b, "-j", "-i", "b0", "-i", "b1", "-w", path, "-c", "2", "-T", "60s",
                    "udp port 5004")  # fmt: skip
    for host, interface in ((a, "a0"), (c, "c0")):
        assert host.mcastctl("send", "239.1.1.1:5004", "x", "-i", interface).returncode == 0
    summary = Stream.of(capture.finish()).summary
    assert (summary["reason"], summary["written"]) == ("count", 2)
    found = packets(b.mcastctl("sniff", "-j", "-r", path))
    assert [(one["iface"], one["direction"], one["proto"]) for one in found] == [
        ("b0", "in", "udp"),
        ("b1", "in", "udp"),
    ]


def test_pcapng_rotates(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    capture = start(b, "-j", "-i", "b0", "-w", tmp_path / "x.pcapng", "--rotate-size", "8k",
                    "--rotate-packets", "40", "-c", "100", "-T", "60s",
                    "udp port 5004")  # fmt: skip
    burst(a, 100)
    summary = Stream.of(capture.finish()).summary
    held = [len(packets(b.mcastctl("sniff", "-j", "-r", one))) for one in summary["files"]]
    assert (held, summary["written"]) == ([40, 40, 20], 100)


@pytest.mark.parametrize("name", ["full.pcap", "full.pcapng"])
def test_a_full_disk(pair: Pair, tmp_path: Path, name: str) -> None:
    a, b = pair
    script = (
        f"mount -t tmpfs -o size=64k none {tmp_path} && "
        f"{sys.executable} -m mcastctl sniff -i b0 -w {tmp_path}/{name} udp port 5004; "
        f"status=$?; cp {tmp_path}/{name} /proc/self/fd/3; exit $status"
    )
    copy = tmp_path.parent / f"{tmp_path.name}-{name}"
    capture = b.popen(["unshare", "--mount", "bash", "-c", f"exec 3>{copy}; {script}"])
    capture.wait_stderr("capturing on")
    burst(a, 1000)
    outcome = capture.finish()
    assert outcome.returncode == 2, outcome
    assert re.search(r"error: cannot write .*full.pcap(ng)?: no space left on device\nhint: ",
                     outcome.stderr), outcome  # fmt: skip
    kept = len(packets(b.mcastctl("sniff", "-j", "-r", copy)))  # damage would be status 2
    assert 200 < kept < 1000
    if name == "full.pcap":
        assert f"{kept} whole records" in outcome.stderr
    copy.unlink()


def test_a_pipe_gets_the_capture(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    path = tmp_path / "piped.pcap"
    with path.open("wb") as file:
        capture = b.popen(
            [sys.executable, "-m", "mcastctl", "sniff", "-i", "b0", "-w", "-", "-c", "5"],
            stdout=file.fileno(),
        )
        capture.wait_stderr("capturing on")
        burst(a, 5)
        assert capture.finish().returncode == 0
    assert len(packets(b.mcastctl("sniff", "-j", "-r", path))) == 5


@pytest.mark.parametrize("write", [False, True], ids=["shown", "written"])
def test_what_the_kernel_dropped_is_told_exactly(pair: Pair, tmp_path: Path, write: bool) -> None:
    """A stopped capture with little memory loses, and the sum must come out."""
    a, b = pair
    into: list[str | Path] = ["-w", tmp_path / "x.pcap"] if write else ["-j"]
    capture = start(b, "-i", "b0", "--rcvbuf", "1MiB", *into, "-j", "udp port 5004")
    capture.signal(signal.SIGSTOP)
    burst(a, 4000, size=1000)
    capture.signal(signal.SIGCONT)
    burst(a, 10)
    capture.signal(signal.SIGINT)
    summary = Stream.of(capture.finish()).summary
    assert summary["kernel_drops"] > 1000
    assert summary["packets"] + summary["kernel_drops"] == 4010


def test_a_backlog_does_not_keep_it_from_ending(pair: Pair) -> None:
    """Stopped over its deadline with more in the ring than it can show in a second."""
    a, b = pair
    capture = start(b, "-j", "-q", "-i", "b0", "--rcvbuf", "64MiB", "-T", "1s", "udp port 5004")
    capture.signal(signal.SIGSTOP)
    numbers = map(str, (a.ifindex(), 64 * 100, 64))
    burst = f"{SEGMENTS}\nfor _ in range(1500): sock.sendto(bytes(6400), (group, 5004))"
    a.ip("link set a0 gso_max_segs 1")
    a.run([sys.executable, "-c", burst, "239.1.1.1", *numbers], timeout=60)
    capture.signal(signal.SIGCONT)
    began = time.monotonic()
    summary = Stream.of(capture.finish(timeout=30)).summary
    assert time.monotonic() - began < 10
    assert summary["reason"] == "timeout"
    assert summary["packets"] + summary["kernel_drops"] == 150_100
    assert summary["packets"] > 100


# --- who it is

TELLING = """
import os, sys
FIRST = {"model/ring.py": "frame_at", "output/rings.py": "lines", "decode/packet.py": "decode"}
def tell(what):
    with open(f"/proc/{os.getpid()}/status") as status:
        lines = dict(line.split(":\\t", 1) for line in status)
    os.write(2, f"{what} {lines['CapEff'].strip()} {os.geteuid()}\\n".encode())
def imported(event, args):
    if event == "import" and args[0].startswith(("mcastctl.decode", "scapy.layers", "scapy.all")):
        tell(args[0])
def called(frame, event, argument):
    code = frame.f_code
    if event == "call" and FIRST.get("/".join(code.co_filename.split("/")[-2:])) == code.co_name:
        sys.setprofile(None)
        tell("parse")
sys.addaudithook(imported)
sys.setprofile(called)
from mcastctl.cli.app import main
main()
"""
"""Tells capabilities and user when a decoder is loaded, and when the first frame is looked at."""
SENDING = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
sock.sendto(b"x", ("239.1.1.1", 5004))
"""


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


@pytest.mark.parametrize("args", [[], ["udp"], ["-w", "x.pcap"], ["-w", "x.pcap", "udp"]])
def test_no_capability_is_left(world: World, tmp_path: Path, args: list[str]) -> None:
    """Where root alone exists the user cannot change; everything else is given away."""
    host = world.host("a")
    capture = host.popen(
        [sys.executable, "-c", TELLING, "sniff", "-i", "lo", "-v", *args], cwd=tmp_path
    )
    capture.wait_stderr("without capabilities")
    held = status_of(capture.pid)
    sets = [held[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")]
    assert sets == ["0" * 16] * 4
    assert held["NoNewPrivs"] == "1"
    capture.signal(signal.SIGINT)
    loaded = re.findall(r"^(mcastctl\.decode\S*|scapy\S*) (\S+)", capture.finish().stderr, re.M)
    assert {capabilities for _, capabilities in loaded} <= {"0" * 16}
    assert loaded or args[:1] == ["-w"]  # a file is written without a look


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
@pytest.mark.parametrize("sudo", [False, True], ids=["root", "sudo"])
def test_root_becomes_somebody_else(tmp_path: Path, sudo: bool) -> None:
    """In a network namespace of its own, but as the real root; before any frame is looked at."""
    tmp_path.chmod(0o755)
    user = 54321
    environment = {"SUDO_UID": str(user), "SUDO_GID": str(user)} if sudo else {}
    program = tmp_path / "telling.py"
    program.write_text(TELLING)
    script = f"ip link set lo up; exec {sys.executable} {program} sniff -i lo -v"
    unshare = ["unshare", "--net", "sh", "-c", script]
    env = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": str(tmp_path), **environment}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(unshare, env=env, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = ""
        while "without capabilities" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        held = status_of(process.pid)
        inside = ["nsenter", f"--net=/proc/{process.pid}/ns/net", sys.executable, "-c", SENDING]
        subprocess.run(inside, check=True)
        assert "239.1.1.1.5004" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said += process.stderr.read()
    uids = {int(one) for one in held["Uid"].split()} | {int(one) for one in held["Gid"].split()}
    assert uids == ({user} if sudo else {65534})
    assert held["Groups"] == ""
    assert [held["CapEff"], held["CapPrm"], held["NoNewPrivs"]] == ["0" * 16, "0" * 16, "1"]
    told = re.findall(r"^(mcastctl\.decode|parse)\S* (\S+) (\d+)$", said, re.M)
    assert {who[0] for who in told} == {"mcastctl.decode", "parse"}
    assert {who[1:] for who in told} == {("0" * 16, str(user if sudo else 65534))}


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
def test_rotation_where_the_user_may_create_nothing(tmp_path: Path) -> None:
    """What cannot go on does not begin: no file is left behind, none emptied."""
    tmp_path.chmod(0o755)
    (tmp_path / "x-00001.pcap").write_text("of before")
    command = ["unshare", "--net", sys.executable, "-m", "mcastctl", "sniff", "-i", "lo"]
    command += ["-w", str(tmp_path / "x.pcap"), "--rotate-size", "1M", "-T", "0.1s"]
    environment = {name: value for name, value in os.environ.items() if "SUDO" not in name}
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert outcome.returncode == 2
    error, hint = outcome.stderr.splitlines()
    assert error == (
        "mcastctl: error: cannot rotate: the capture runs as user 'nobody', who may create no "
        f"files in {tmp_path}"
    )
    assert "install -d -o nobody DIR" in hint
    assert [one.read_text() for one in tmp_path.iterdir()] == ["of before"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the machine's own root")
def test_files_in_a_row_are_of_one_owner() -> None:
    """Where only owners may delete, as in /tmp, also the first file can be taken away."""
    ours = f"{sys.executable} -m mcastctl"
    environment = {name: value for name, value in os.environ.items() if "SUDO" not in name}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        script = (
            "ip link set lo up; ip route add 239.0.0.0/8 dev lo;"
            f"{ours} send 239.1.1.1:5004 x -c 300 --interval 0.1 -q & sender=$!;"
            f"{ours} sniff -i lo -w {folder}/x.pcap --rotate-packets 1 --rotate-keep 2 -c 4"
            " -T 25s; status=$?; kill $sender; exit $status"
        )
        command = ["unshare", "--net", "bash", "-c", script]
        outcome = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment
        )
        assert outcome.returncode == 0, outcome.stderr
        kept = sorted(one.name for one in Path(folder).iterdir())
    assert kept == ["x-00003.pcap", "x-00004.pcap"]


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
def test_a_place_that_only_root_may_enter(tmp_path: Path) -> None:
    """What looks into frames is still found by who must not walk there."""
    closed = tmp_path / "closed"
    closed.mkdir()
    shutil.copytree(Path(mcastctl.__file__).parent, closed / "mcastctl")
    closed.chmod(0o700)
    script = (
        f"ip link set lo up; PYTHONPATH={closed} exec {sys.executable} -c '"
        "from mcastctl.cli.app import run; import mcastctl, sys\n"
        'status = run(["sniff", "-i", "lo", "-T", "0.2s", "-v"])\n'
        "import mcastctl.decode.igmp, os\n"
        "print(mcastctl.decode.igmp.__file__, status, os.geteuid())'"
    )
    outcome = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    path, status, uid = outcome.stdout.split()
    assert path.startswith("/proc/self/fd/"), outcome
    assert (status, uid) == ("1", "65534")


def test_an_ordinary_user_is_told_the_choices(world: World) -> None:
    outcome = world.host("a").mcastctl("sniff", "-i", "lo", privileged=False)
    assert outcome.returncode == 2
    error, hint = outcome.stderr.splitlines()
    assert error == "mcastctl: error: cannot capture: raw sockets need CAP_NET_RAW (EPERM)"
    assert all(word in hint for word in ("sudo", "unshare", "CAP_NET_RAW"))


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["-i", "nope"], "no interface has the name, index or address 'nope'"),
        (["-i", "lo", "no", "filter"], "filter 'no filter': "),
        (["-i", "lo", "-w", "/nowhere/x.pcap"], "cannot write /nowhere/x.pcap: no such file"),
        (["-i", "lo", "-X", "-j"], "-X adds to lines of text, and -j prints none"),
        (["-i", "lo", "-e", "-w", "x.pcap"], "-e adds to lines of text, and -w prints none"),
        (["-i", "lo", "--rotate-time", "1s"], "--rotate-time is for the files of -w"),
        (["-i", "lo", "-w", "x.pcap", "--rotate-size", "0"], "--rotate-size: 0 would begin"),
        (["-i", "lo", "-w", "x.pcap", "--rotate-keep", "2"], "nothing begins a second"),
        (["-i", "lo", "-w", "-", "-j"], "-j and -w - both want standard output"),
        (["-i", "lo", "-w", "-", "--rotate-size", "1k"], "standard output cannot be rotated"),
        (["-i", "lo", "-s", "5"], "snap length"),
        (["-i", "lo", "-r", "x.pcap"], "-r and --iface cannot go together"),
    ],
)
def test_what_cannot_be_asked(world: World, args: list[str], error: str) -> None:
    outcome = world.host("a").mcastctl("sniff", *args)
    assert outcome.returncode == 2
    lines = outcome.stderr.splitlines()
    assert len(lines) == 2, outcome.stderr
    assert error in lines[0]
    assert lines[1].startswith("hint: ")


@pytest.mark.parametrize("group", ["239.1.1.1", "ff15::1"])
def test_streams_say_whether_this_host_has_joined(pair: Pair, group: str) -> None:
    a, b = pair
    endpoint = f"[{group}]:5004" if ":" in group else f"{group}:5004"
    for member in (False, True):
        if member:
            joined = b.start_mcastctl("listen", endpoint, "-i", "b0", "-j")
            joined.wait_stdout('"type":"joined"')
        capture = start(b, "-j", "-i", "b0", "-c", "3", "-T", "60s", "udp port 5004")
        assert (
            a.mcastctl("send", endpoint, "-c", "3", "--pps", "100", "x", "-i", "a0").returncode == 0
        )
        (stream,) = Stream.of(capture.finish()).summary["streams"]
        assert (stream["dst"], stream["packets"], stream["joined"]) == (group, 3, member)
    capture = start(b, "-i", "b0", "--streams", "-c", "3", "-T", "60s", "udp port 5004")
    assert a.mcastctl("send", endpoint, "-c", "3", "--pps", "100", "x", "-i", "a0").returncode == 0
    head, row = capture.finish().stdout.splitlines()
    assert head.split()[-1] == "JOINED"
    assert row.split()[-1] == "yes"


# As where libpcap is not installed
WITHOUT = """
import ctypes.util
ctypes.util.find_library = lambda name: None
from mcastctl.cli.app import main
main()
"""


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["-w", "x.pcap"], "writing pcap needs libpcap"),
        (["udp"], "a filter expression needs libpcap"),
        (["-w", "x.pcapng"], ""),
        ([], ""),
    ],
)
def test_what_needs_libpcap_says_so(
    world: World, tmp_path: Path, args: list[str], error: str
) -> None:
    host = world.host("a")
    argv = [sys.executable, "-c", WITHOUT, "sniff", "-i", "lo", "-T", "0.2s", *args]
    outcome = host.run(argv, check=False, cwd=tmp_path)
    assert outcome.returncode == (2 if error else 1), outcome
    assert f"error: {error}" in outcome.stderr if error else "error" not in outcome.stderr


def test_the_interface_is_kept_in_a_file_of_all(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    capture = start(b, "-j", "-w", tmp_path / "any.pcap", "-c", "1", "-T", "60s", "udp port 5004")
    assert a.mcastctl("send", "239.1.1.1:5004", "x", "-i", "a0").returncode == 0
    capture.finish()
    (one,) = packets(b.mcastctl("sniff", "-j", "-r", tmp_path / "any.pcap"))
    assert (one["ifindex"], one["direction"], one["dst"]) == (b.ifindex(), "in", "239.1.1.1")


def test_another_namespace_is_captured_from_outside(pair: Pair) -> None:
    a, b = pair
    args = ["-i", "b0", "-j", "-c", "1", "-T", "60s", "udp port 5004"]
    running = start(a, "--netns", str(b.pid), *args)
    a.mcastctl("send", "239.1.1.1:5004", "hello", "-i", "a0")
    (packet,) = packets(running.finish())
    assert (packet["iface"], packet["direction"], packet["dst"]) == ("b0", "in", "239.1.1.1")
