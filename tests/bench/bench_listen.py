"""What hearing costs: mcastctl beside iperf and a C program with recvmmsg(2).

    python tests/bench/bench_listen.py [ROUNDS]

First bursts that wait in the socket buffer: the receiver is stopped while they arrive, and only
the receiver's own processor time counts. A program that was stopped finds nothing of itself in the
processor's caches, which costs an interpreter a third of a millisecond: hence two sizes. Then live
traffic of about 300,000 datagrams a second, where wake-ups count as well and nothing may be lost.
At last super-packets at full speed, which cross the cable uncut: how many of their datagrams are
heard a second. Exit status 1 for a missed goal.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from contest import OURS, Goal, cpu_ns, limit, need, report, rounds, two_hosts
from place import Running
from world import Host

GROUP = "239.1.2.3"
OUR, C, IPERF = "mcastctl listen -q", "C recvmmsg", "iperf -s"
LISTEN = ["-i", "b0", "-q", "-j", "--rcvbuf", "16MiB"]
PORTS = {OUR: 6001, C: 6002, IPERF: 6003}
LIVE, LIVE_RATE = 300_000, "300k"
BURSTS = (4000, 16_000)
"""Datagrams in the buffer."""


def waiting(host: Host, port: int) -> tuple[int, int]:
    """Bytes in the buffers of a port's sockets, and datagrams dropped there so far."""
    queued = dropped = 0
    for line in host.proc("udp").splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}"):
            queued += int(fields[4].split(":")[1], 16)
            dropped += int(fields[-1])
    return queued, dropped


def empty(host: Host, port: int) -> None:
    """Wait until nothing waits any more, and a little for the last of it to be counted."""
    deadline = time.monotonic() + 5
    while waiting(host, port)[0] and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.02)


def send(host: Host, port: int, number: int, *options: str) -> None:
    """A flow of probes that goes on from call to call: one source port, each its own stream."""
    where = [f"{GROUP}:{port}", "-i", "a0", "--bind", f":{port + 1000}", "--no-gso", "-q"]
    host.run([*OURS, "send", *where, "--probe", "-c", str(number), *options], timeout=60)


def burst(a: Host, b: Host, port: int, running: Running, number: int) -> float:
    """Nanoseconds of processor time for each datagram of a burst."""
    before = waiting(b, port)[1]
    running.signal(signal.SIGSTOP)
    began = cpu_ns(running.pid)
    send(a, port, number, "--flood")
    lost = waiting(b, port)[1] - before
    running.signal(signal.SIGCONT)
    empty(b, port)
    return (cpu_ns(running.pid) - began) / (number - lost)


def live(a: Host, b: Host, port: int, running: Running, losses: dict[int, int]) -> float:
    """Nanoseconds of processor time for each datagram of a steady stream."""
    before, began = waiting(b, port)[1], cpu_ns(running.pid)
    send(a, port, LIVE, "--pps", LIVE_RATE)
    empty(b, port)
    lost = waiting(b, port)[1] - before
    losses[port] = losses.get(port, 0) + lost
    return (cpu_ns(running.pid) - began) / (LIVE - lost)


def heard(a: Host, b: Host, program: str, name: str) -> float:
    """Datagrams heard a second out of super-packets; what does not fit into the buffer is lost."""
    ours, port = name == OUR, PORTS[name]
    where = f"{GROUP}:{port}"
    argv = [*OURS, "listen", where, *LISTEN]
    running = b.popen(argv if ours else [program, "receive", b.addr4(), GROUP, str(port)])
    running.wait_stdout("joined" if ours else "ready")
    args = ["-i", "a0", "--probe", "--flood", "-T", "1s", "-q", "-j"]
    sent = json.loads(a.run([*OURS, "send", where, *args], timeout=60).stdout.splitlines()[-1])
    empty(b, port)
    number = int(sent["sent"]) - waiting(b, port)[1]
    running.signal(signal.SIGINT)
    said = running.finish().stdout
    if ours:  # the kernel counts a dropped super-packet as one
        number = int(json.loads(said.splitlines()[-1])["packets"])
    return number / float(sent["elapsed_s"])


@contextmanager
def receivers(b: Host, program: str) -> Iterator[dict[str, Running]]:
    """All contestants, joined and waiting, each on a port of its own."""
    server = ["iperf", "-s", "-u", "-B", f"{GROUP}%b0", "-p", str(PORTS[IPERF]), "-w", "16M"]
    started = {
        OUR: b.popen([*OURS, "listen", f"{GROUP}:{PORTS[OUR]}", *LISTEN]),
        C: b.popen([program, "receive", b.addr4(), GROUP, str(PORTS[C])]),
        IPERF: b.popen(server),
    }
    started[OUR].wait_stdout("joined")
    started[C].wait_stdout("ready")
    started[IPERF].wait_stdout("listening")
    try:
        yield started
    finally:
        for running in started.values():
            running.stop()


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    need("iperf")
    losses: dict[int, int] = {}
    with limit() as program, two_hosts() as (a, b):
        with receivers(b, program) as running:
            met = True
            for size in BURSTS:
                measures = {
                    name: partial(burst, a, b, PORTS[name], one, size)
                    for name, one in running.items()
                }
                met &= report(
                    f"a burst of {size} in the buffer:",
                    rounds(number, measures),
                    "ns a datagram",
                    [Goal(OUR, (C,), 1.15, least=False)],
                )
            measures = {
                name: partial(live, a, b, PORTS[name], one, losses) for name, one in running.items()
            }
            met &= report(
                f"live, {LIVE_RATE} a second:",
                rounds(max(number // 3, 1), measures),
                "ns a datagram",
                [Goal(OUR, (IPERF,), 0.7, least=False)],
            )
        rates = {name: partial(heard, a, b, program, name) for name in (OUR, C)}
        met &= report(
            "super-packets of 64 bytes each, at full speed:",
            rounds(max(number // 3, 1), rates),
            "heard a second",
            [Goal(OUR, (C,), 3, least=True)],
        )
    for name, port in PORTS.items():
        print(f"  {name:<28} lost {losses.get(port, 0)}")
    return int(not met or losses.get(PORTS[OUR], 0) > 0)


if __name__ == "__main__":
    sys.exit(main())
