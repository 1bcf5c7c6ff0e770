"""How fast datagrams leave: mcastctl beside iperf, mgen and a C program with sendmmsg(2).

    python tests/bench/bench_send.py [ROUNDS]

Whole processes in a network namespace, over a veth pair without a receiver; what is counted is the
interface's own counter while the sender is in full swing, for each second of its processor time:
all of them use a processor whole, if nobody else wants it. Without offload nearly all of the time
is the kernel's: the C program, which does nothing but sendmmsg(2), is the limit, and on machines
where entering the kernel is cheap it is hardly ahead of one call for each datagram. Exit status 1
for a missed goal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from contest import OURS, Goal, cpu_ns, limit, need, report, rounds, two_hosts
from world import Host

GROUP, PORT = "239.1.2.3", "5000"
WARM_S, LOOK_S = 0.8, 0.7


def sent(host: Host) -> int:
    """Packets the interface has sent so far."""
    (line,) = (one for one in host.proc("dev").splitlines() if one.strip().startswith("a0:"))
    return int(line.replace(":", " ").split()[10])


def rate(host: Host, argv: list[str]) -> float:
    """Packets for each second of processor time while `argv` runs."""
    running = host.popen(argv)
    time.sleep(WARM_S)
    before, began = sent(host), cpu_ns(running.pid)
    time.sleep(LOOK_S)
    number = (sent(host) - before) * 1e9 / max(cpu_ns(running.pid) - began, 1)
    running.stop(patience=0.1)  # mgen does not heed SIGTERM while it floods
    return number


def senders(program: str, host: Host, size: int) -> dict[str, list[str]]:
    """The contestants."""
    address, target = host.addr4(), f"{GROUP}:{PORT}"
    flood = [*OURS, "send", target, "-i", "a0", "--probe", "--flood", "-s", str(size), "-T", "5s"]
    event = f"0.0 ON 1 UDP DST {GROUP}/{PORT} PERIODIC [-1 {size}]"
    client = ["iperf", "-u", "-c", GROUP, "-p", PORT, "-l", str(size), "-b", "100g", "-t", "5"]
    return {
        "mcastctl --no-gso": [*flood, "--no-gso", "-q"],
        "mcastctl": [*flood, "-q"],
        "C sendmmsg": [program, "send", address, GROUP, PORT, str(size), "5"],
        "iperf": client,
        "mgen": ["mgen", "interface", "a0", "event", event, "output", "/dev/null"],
    }


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    need("iperf", "mgen", "ethtool")
    peers = ("iperf", "mgen")
    goals = [
        Goal("mcastctl --no-gso", peers, 1.25, least=True),
        Goal("mcastctl --no-gso", ("C sendmmsg",), 0.90, least=True),
        Goal("mcastctl", peers, 3.5, least=True),
    ]
    met = True
    with limit() as program, two_hosts() as (a, _):
        # As a card without offload, and the wire, see it: cut in software before the device.
        a.run(["ethtool", "-K", "a0", "tx-udp-segmentation", "off"])
        for size in (64, 1400):
            measures: dict[str, Callable[[], float]] = {
                name: partial(rate, a, argv) for name, argv in senders(program, a, size).items()
            }
            found = rounds(number, measures)
            met &= report(f"{size} bytes over veth, cut in software:", found, "datagrams/s", goals)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
