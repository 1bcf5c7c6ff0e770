"""Drop reasons: every way to lose a group's packets is counted under its own, and nothing else is.

The observer is the test itself: the kernel answers only root of the machine. What it observes
happens in hosts of their own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Pair
from world import Host, Running, need

from mcastctl.host import drops

GROUP, GROUP6, PORT = "239.1.1.1", "ff3e::8000:1", 5007
OTHER, OTHER6 = "239.1.1.2", "ff3e::8000:2"
FEW = 5

# argv: ifname source group port count [raw]. raw: UDP with a checksum that is wrong.
SAY = """
import socket, struct, sys
ifname, source, group, port, count, *raw = sys.argv[1:]
family = socket.AF_INET6 if ":" in group else socket.AF_INET
kind = (socket.SOCK_RAW, socket.IPPROTO_UDP) if raw else (socket.SOCK_DGRAM, 0)
sock = socket.socket(family, *kind)
index = socket.if_nametoindex(ifname)
if family == socket.AF_INET6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
else:
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4s4si", b"", b"", index))
sock.bind((source, 0))
data = struct.pack("!HHHH", 4000, int(port), 13, 0xBAD) + b"hello" if raw else b"hello"
for _ in range(int(count)):
    sock.sendto(data, (group, 0 if raw else int(port)))
"""

# argv: ifname group port [filter]. Joins, binds, and never reads.
JOIN = """
import ctypes, socket, struct, sys
ifname, group, port, *refuse = sys.argv[1:]
six = ":" in group
family, level = (socket.AF_INET6, 41) if six else (socket.AF_INET, 0)
sock = socket.socket(family, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
if refuse:
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    SO_ATTACH_FILTER = 26
    sock.setsockopt(1, SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(code)))
if port != "0":
    sock.bind((group if not six else "::", int(port)))
address = (struct.pack("=HHI16sI", family, 0, 0, socket.inet_pton(family, group), 0) if six
           else struct.pack("=HH4s", family, 0, socket.inet_pton(family, group)))
MCAST_JOIN_GROUP = 42
sock.setsockopt(level, MCAST_JOIN_GROUP,
                struct.pack("@I4x128s", socket.if_nametoindex(ifname), address))
print("joined", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root() -> None:
    """Skip unless the kernel would answer: root outside every user namespace."""
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split() != [
        "0",
        "0",
        "4294967295",
    ]:
        pytest.skip("drop reasons are told only to root of the machine itself")


def netns(host: Host) -> int:
    return Path(f"/proc/{host.pid}/ns/net").stat().st_ino


def say(
    host: Host,
    group: str,
    *,
    port: int = PORT,
    count: int = FEW,
    raw: bool = False,
    source: str | None = None,
) -> None:
    own = host.addr6() if ":" in group else host.addr4()
    words = [host.ports[0], source or own, group, str(port), str(count), *(["raw"] if raw else [])]
    host.run([sys.executable, "-c", SAY, *words], timeout=30)


def join(host: Host, group: str, port: int = PORT, *, refuse: bool = False) -> Running:
    words = [host.ports[0], group, str(port), *(["refuse"] if refuse else [])]
    listener = host.popen([sys.executable, "-c", JOIN, *words], stdin=-1)
    listener.wait_stdout("joined")
    return listener


def settled(watch: drops.Watch, reached: Callable[[], bool]) -> None:
    """Poll until the counts are what they will be: the receiving side runs when the CPU is free."""
    deadline = time.monotonic() + 20
    while True:
        watch.poll()
        if reached() or time.monotonic() > deadline:
            return
        time.sleep(0.01)


def counted(watch: drops.Watch, reason: str, count: int = FEW) -> set[str]:
    """The functions that dropped count packets for this reason; nothing else was counted."""
    settled(watch, lambda: sum(watch.counts.values()) >= count)
    assert {
        name: sum(n for (r, _), n in watch.counts.items() if r == name) for name, _ in watch.counts
    } == {reason: count}, watch.drops
    return {function for _, function in watch.counts}


def test_try(root: None, pair: Pair) -> None:
    pair.b.sysctl("net.ipv4.conf.b0.rp_filter", 1)
    pair.a.ip("addr add 192.0.2.1/32 dev a0")
    join(pair.b, GROUP)
    with drops.watch(GROUP, PORT, netns=netns(pair.b)) as watch:
        assert watch.method == "bpf", watch.why_not
        say(pair.a, GROUP, source="192.0.2.1")
        print(counted(watch, "IP_RPFILTER"), watch.drops)
