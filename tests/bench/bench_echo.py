"""How soon an answer comes: mcastctl echo beside sockperf, socat and the least that Python can do.

    python tests/bench/bench_echo.py [ROUNDS]

One request in flight over a veth pair, the next as soon as the answer is there, from the same C
program for all (limit.c; for sockperf with the header that its server expects), and all answers
are unicast. First alone, then beside a stream of 20,000 datagrams a second to another group with a
receiver of its own.

Asker and answerer take turns, so the scheduler keeps them on one processor and everything the
answerer does with a request is part of the next round trip. The Python program below does nothing
but receive with control messages and send back; no Python answerer can be quicker, and it is
already slower than sockperf. Exit status 1 for a missed goal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from contest import OURS, Goal, limit, need, report, rounds, two_hosts
from world import Host

GROUP, OTHER = "239.1.2.3", "239.1.2.4:6020"
OUR, SOCKPERF, SOCAT, PYTHON = "mcastctl echo", "sockperf server", "socat fork", "Python, no checks"
PORTS = {OUR: 6011, SOCKPERF: 6012, SOCAT: 6013, PYTHON: 6014}
KINDS = {OUR: "probe", SOCKPERF: "sockperf", SOCAT: "plain", PYTHON: "plain"}

NO_LIMIT = ["--rate", "1M", "--rate-per-source", "1M"]
"""Over a cable that is no cable one asker gets round 50,000 times a second."""

# argv: group, port, own address
LEAST = """
import socket, sys
group, port, own = sys.argv[1], int(sys.argv[2]), sys.argv[3]
group_in, out = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
for sock, where in ((group_in, group), (out, "0.0.0.0")):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((where, port))
member = socket.inet_aton(group) + socket.inet_aton(own)
group_in.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
SO_TIMESTAMPNS, IP_PKTINFO, IP_RECVTTL, IP_RECVTOS = 35, 8, 12, 13
group_in.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
for option in (IP_PKTINFO, IP_RECVTTL, IP_RECVTOS):
    group_in.setsockopt(socket.IPPROTO_IP, option, 1)
view = memoryview(bytearray(65536))
print("joined", flush=True)
while True:
    size, messages, _, asker = group_in.recvmsg_into((view,), 256)
    own = bytes(4) + messages[1][2][4:8] + bytes(4)
    out.sendmsg((view[:size],), [(0, IP_PKTINFO, own)], 0, asker)
"""


def asked(program: str, a: Host, name: str, number: int) -> float:
    """Median round trip in nanoseconds."""
    args = [program, "ask", a.addr4(), GROUP, str(PORTS[name]), KINDS[name], str(number)]
    return float(a.run(args, timeout=120).stdout.split()[0])


@contextmanager
def servers(b: Host) -> Iterator[None]:
    """All contestants and the listener of the stream, joined and waiting."""
    own = b.addr4()
    port = str(PORTS[SOCKPERF])
    theirs = ["sockperf", "server", "-i", GROUP, "-p", port, "--mc-rx-if", own]
    receive = f"UDP4-RECVFROM:{PORTS[SOCAT]},ip-add-membership={GROUP}:{own},fork"
    running = [
        b.popen([*OURS, "echo", f"{GROUP}:{PORTS[OUR]}", "-i", "b0", "-q", "-j", *NO_LIMIT]),
        b.popen([sys.executable, "-c", LEAST, GROUP, str(PORTS[PYTHON]), own]),
        b.popen([*OURS, "listen", OTHER, "-i", "b0", "-q", "-j"]),
        b.popen([*theirs, "--force-unicast-reply"]),
        b.popen(["socat", receive, "EXEC:cat"]),
    ]
    for one, word in zip(running, ("joined", "joined", "joined", "using"), strict=False):
        one.wait_stdout(word)
    while f":{PORTS[SOCAT]:04X}" not in b.proc("udp"):
        pass
    try:
        yield
    finally:
        for one in running:
            one.stop()


@contextmanager
def stream(a: Host) -> Iterator[None]:
    """Traffic that has nothing to do with it."""
    args = ["-i", "a0", "--probe", "--pps", "20k", "-T", "10m", "-q", "-j"]
    sender = a.popen([*OURS, "send", OTHER, *args])
    sender.wait_stdout("start")
    try:
        yield
    finally:
        sender.stop()


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    need("sockperf", "socat")
    with limit() as program, two_hosts() as (a, b), servers(b):
        measures: dict[str, Callable[[], float]] = {
            name: partial(asked, program, a, name, 100 if name == SOCAT else 5000) for name in PORTS
        }
        goals = [
            Goal(OUR, (PYTHON,), 1.6, least=False),
            Goal(OUR, (SOCKPERF,), 0.8, least=False),
            Goal(OUR, (SOCAT,), 1 / 6, least=False),
        ]
        met = report("round trip, alone:", rounds(number, measures), "ns", goals)
        with stream(a):
            found = rounds(number, measures)
        met &= report("round trip, beside 20,000 datagrams a second:", found, "ns", goals)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
