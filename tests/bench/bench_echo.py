"""How soon an answer comes: mcastctl echo beside sockperf and socat.

    python tests/bench/bench_echo.py [ROUNDS]

One request in flight over a veth pair, the next as soon as the answer is there. sockperf brings a
client of its own (it prints half the round trip); ours and socat are asked by the same few lines
of Python, whose share is charged to them. Exit status 1 for a missed goal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from contest import OURS, Goal, need, report, rounds, two_hosts
from world import Host

GROUP = "239.1.2.3"
OUR, SOCKPERF, SOCAT = "mcastctl echo", "sockperf ping-pong", "socat fork"
PORTS = {OUR: 6011, SOCKPERF: 6012, SOCAT: 6013}

# argv: group, port, own address, requests
CLIENT = """
import socket, struct, sys, time
group, port, own, number = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
sock.bind((own, 0))
sock.settimeout(2)
header, clock, where = struct.Struct("!4sBBBBQQQ"), time.perf_counter_ns, (group, port)
trips = []
for seq in range(number):
    request = header.pack(b"mcst", 1, 1, 1, 0, 77, seq, time.time_ns()) + bytes(32)
    began = clock()
    sock.sendto(request, where)
    sock.recv(2048)
    trips.append(clock() - began)
trips.sort()
print(trips[len(trips) // 2])
"""


def asked(a: Host, port: int, number: int) -> float:
    """Median round trip in nanoseconds."""
    args = [GROUP, str(port), a.addr4(), str(number)]
    return float(a.run([sys.executable, "-c", CLIENT, *args], timeout=60).stdout)


def sockperf(a: Host) -> float:
    """Median round trip in nanoseconds, by sockperf's own client."""
    where = ["-i", GROUP, "-p", str(PORTS[SOCKPERF]), "--mc-tx-if", a.addr4()]
    said = a.run(["sockperf", "ping-pong", *where, "-t", "1", "-m", "64"], timeout=60).stdout
    found = re.search(r"percentile 50\.000 =\s+([\d.]+)", said)
    assert found, said
    return 2000 * float(found[1])


@contextmanager
def servers(b: Host) -> Iterator[None]:
    """All contestants, joined and waiting."""
    own = b.addr4()
    echo = [*OURS, "echo", f"{GROUP}:{PORTS[OUR]}", "-i", "b0", "-q", "-j"]
    receive = f"UDP4-RECVFROM:{PORTS[SOCAT]},ip-add-membership={GROUP}:{own},fork"
    running = [
        b.popen(echo),
        b.popen(["sockperf", "server", "-i", GROUP, "-p", str(PORTS[SOCKPERF]), "--mc-rx-if", own]),
        b.popen(["socat", receive, "EXEC:cat"]),
    ]
    running[0].wait_stdout("joined")
    running[1].wait_stdout("using")
    while f":{PORTS[SOCAT]:04X}" not in b.proc("udp"):
        pass
    try:
        yield
    finally:
        for one in running:
            one.stop()


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    need("sockperf", "socat")
    with two_hosts() as (a, b), servers(b):
        measures: dict[str, Callable[[], float]] = {
            OUR: partial(asked, a, PORTS[OUR], 5000),
            SOCKPERF: partial(sockperf, a),
            SOCAT: partial(asked, a, PORTS[SOCAT], 200),
        }
        goals = [
            Goal(OUR, (SOCKPERF,), 0.8, least=False),
            Goal(OUR, (SOCAT,), 1 / 6, least=False),
        ]
        met = report("round trip:", rounds(number, measures), "ns", goals)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
