"""What reading a capture file as text costs, beside tcpdump: CPU time of the whole process.

    python tests/bench/bench_read.py [PACKETS] [ROUNDS]

A million packets of eight flows, IPv4 and IPv6, are made in a temporary folder; the programs
take turns in random order, and the medians and their ratio are printed. Exit status 1 where
the ratio is above the goal.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import struct
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import frames as f

GOAL = 0.5
SIZE = 64


def flows() -> list[bytes]:
    """Frames of eight senders, four of each family, without their payload."""
    hosts = [(f"10.77.0.{n}", "239.1.2.3") for n in range(1, 5)]
    hosts += [(f"2001:db8::{n}", "ff15::42") for n in range(1, 5)]
    made = []
    for number, (src, dst) in enumerate(hosts):
        packet = f.datagram(src, dst, 40000 + number, 5000, bytes(SIZE))
        made.append(f.ether(packet)[:-SIZE])
    return made


def make(path: Path, packets: int, *, ng: bool) -> None:
    """Write a file of interleaved flows, three microseconds apart."""
    heads = flows()
    head = f.section() + f.interface() if ng else f.pcap([])
    with path.open("wb") as out:
        out.write(head)
        for number in range(packets):
            frame = heads[number % len(heads)] + struct.pack("!I", number) + b"x" * (SIZE - 4)
            us = f.EPOCH * 10**6 + 3 * number
            if ng:
                out.write(f.packet(frame, count=us))
                continue
            size = len(frame)
            out.write(struct.pack("<IIII", us // 10**6, us % 10**6, size, size) + frame)


def cost_s(command: list[str]) -> float:
    """CPU seconds, user and system, of one run with its output thrown away."""
    sink = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, sink, 1), (os.POSIX_SPAWN_DUP2, sink, 2)]
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    os.close(sink)
    if status:
        raise SystemExit(f"{' '.join(command)}: status {status}")
    return usage.ru_utime + usage.ru_stime


def compare(path: Path, packets: int, rounds: int) -> float:
    """Print the costs of reading one file; return ours over tcpdump's."""
    peers = {
        "mcastctl sniff -r": [sys.executable, "-m", "mcastctl", "sniff", "-r", str(path)],
        "tcpdump -nnr": ["tcpdump", "-nnr", str(path)],
    }
    spent: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name in random.sample(list(peers), len(peers)):
            spent[name].append(cost_s(peers[name]))
    medians = {name: statistics.median(values) for name, values in spent.items()}
    for name, seconds in medians.items():
        print(f"  {name:<18} {seconds / packets * 1e9:7.0f} ns a packet")
    return medians["mcastctl sniff -r"] / medians["tcpdump -nnr"]


def main() -> int:
    packets = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    if shutil.which("tcpdump") is None:
        raise SystemExit("needs tcpdump")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("pcap", "pcapng"):
            path = Path(folder) / f"flows.{suffix}"
            make(path, packets, ng=suffix == "pcapng")
            print(f"{packets} packets of 8 flows, {suffix}:")
            ratio = compare(path, packets, rounds)
            print(f"  ratio {ratio:.2f} (goal {GOAL})")
            worst = max(worst, ratio)
            path.unlink()
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
