"""Captures side by side: CPU per packet against tcpdump, and what a flood makes each lose.

    python tests/bench/bench_capture.py [ROUNDS [BURST]]

Root only, for tcpdump drops privilege in a way that a user namespace forbids. The bench runs
itself in a network namespace of its own, on a veth pair, every tool with a ring of 64 MiB.

`drain`: all tools are stopped, a burst is sent, then one after another goes on and its CPU
time is read until it has caught up: no tool pays for another. `flood`: one tool at a time
while the sender sends as fast as it can. Medians over the rounds; the order changes in each.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

RING_KIB = 65_536
UDP_SEGMENT = 103
SEGMENT, AT_ONCE = 64, 100
FLOWS = 8
FLOOD = 1_500_000
MCASTCTL = [sys.executable, "-m", "mcastctl", "sniff", "-i", "b0", "--rcvbuf", f"{RING_KIB}KiB"]
TCPDUMP = ["tcpdump", "-i", "b0", "-B", str(RING_KIB), "-Z", "root"]
UDP = ["udp"]


def setup() -> None:
    """Make the pair. Super-packets are cut in software before the wire, as for a real one."""
    lines = [
        "link set lo up",
        "link add a0 index 10 type veth peer name b0 index 11",
        "link set a0 gso_max_segs 1",
        "link set b0 up",
        "link set a0 up",
    ]
    for number in range(1, FLOWS + 1):
        lines += [f"addr add 10.0.0.{number}/24 dev a0", f"addr add fd00::{number}/64 dev a0 nodad"]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


def tools(folder: Path) -> dict[str, list[str]]:
    """The commands to compare; text goes where it costs nothing."""
    return {
        "tcpdump -w": [*TCPDUMP, "-w", str(folder / "tcpdump.pcap"), *UDP],
        "sniff -w": [*MCASTCTL, "-w", str(folder / "sniff.pcap"), *UDP],
        "tcpdump -nn": [*TCPDUMP, "-nn", *UDP],
        "sniff": [*MCASTCTL],
    }


class Tool:
    """One capture, ready when it has said so."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        while line := self.process.stderr.readline():
            if "listening on" in line or "capturing on" in line:
                return
        raise SystemExit(f"{command}: did not start")

    def cpu_ns(self) -> int:
        """Time on a processor so far."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0])

    def is_idle(self) -> bool:
        """Whether it waits; on a busy machine one that only waits for a processor is not idle."""
        state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "S"

    def finish(self) -> tuple[int, int]:
        """End it; return packets captured and dropped, as it says."""
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=60)[1]
        captured = re.search(r"(\d+) packets?(?: captured)?", said)
        dropped = re.search(r"(\d+) (?:packets )?dropped by", said)
        return int(captured[1]) if captured else 0, int(dropped[1]) if dropped else 0


def sockets(version: int, number: int) -> socket.socket:
    """A socket that sends from the address `number`."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, 10)
        sock.bind((f"fd00::{number}", 4000 + number))
    else:
        request = struct.pack("@4s4si", b"", b"", 10)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        sock.bind((f"10.0.0.{number}", 4000 + number))
    return sock


def one_flow(packets: int) -> int:
    """Send datagrams of one flow as fast as the kernel cuts them; return how many."""
    sock = sockets(4, 1)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
    data = bytes(SEGMENT * AT_ONCE)
    calls = packets // AT_ONCE
    for _ in range(calls):
        sock.sendto(data, ("239.1.1.1", 5004))
    sock.close()
    return calls * AT_ONCE


def mixed_flows(packets: int) -> int:
    """Send from eight sources, half of them IPv6, in no order and of many sizes."""
    chance = random.Random(1)  # noqa: S311 - the same order in every round
    flows = [
        (sockets(6, n), (f"ff15::{n}", 5000 + n))
        if n % 2
        else (sockets(4, n), (f"239.1.1.{n}", 5000 + n))
        for n in range(1, FLOWS + 1)
    ]
    sizes = [bytes(length) for length in (64, 188, 400, 1316)]
    for _ in range(packets):
        sock, group = chance.choice(flows)
        sock.sendto(chance.choice(sizes), group)
    for sock, _ in flows:
        sock.close()
    return packets


def drain(
    send: Callable[[int], int], commands: dict[str, list[str]], rounds: int, burst: int
) -> dict[str, float]:
    """Median CPU ns per packet of each tool."""
    running = {name: Tool(command) for name, command in commands.items()}
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for tool in running.values():
            tool.process.send_signal(signal.SIGSTOP)
        before = {name: tool.cpu_ns() for name, tool in running.items()}
        sent = send(burst)
        time.sleep(0.15)
        for name in random.sample(list(running), len(running)):
            tool = running[name]
            tool.process.send_signal(signal.SIGCONT)
            last, until = -1, time.monotonic() + 20
            while time.monotonic() < until:
                time.sleep(0.15)
                now = tool.cpu_ns()
                if now - last < 1_000_000 and tool.is_idle():
                    break
                last = now
            if number:  # the first round warms up
                spent[name].append((tool.cpu_ns() - before[name]) / sent)
    for tool in running.values():
        captured, dropped = tool.finish()
        assert not dropped, f"{tool.process.args!r}: {dropped} dropped, {captured} captured"
    return {name: statistics.median(values) for name, values in spent.items()}


def flood(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Median percentage lost of each tool, alone with the sender."""
    lost: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name in random.sample(list(commands), len(commands)):
            tool = Tool(commands[name])
            began = time.monotonic()
            sender = subprocess.run(
                [sys.executable, __file__, "send"], capture_output=True, text=True, check=True
            )
            rate = int(sender.stdout) / (time.monotonic() - began)
            captured, dropped = tool.finish()
            sent = int(sender.stdout)
            lost[name].append(100 * (1 - captured / sent))
            print(f"  {name:12s} {rate / 1e6:.2f} M/s sent, {captured} captured, {dropped} dropped")
    return {name: statistics.median(values) for name, values in lost.items()}


def report(title: str, figures: dict[str, float]) -> dict[str, float]:
    """Print ns per packet and the ratios to tcpdump; return the ratios."""
    print(f"{title}: CPU ns per packet")
    ratios = {}
    for name, value in figures.items():
        against = "tcpdump -w" if name.endswith("-w") else "tcpdump -nn"
        ratios[name] = value / figures[against]
        print(f"  {name:12s} {value:8.0f}   {ratios[name]:.2f} x {against}")
    return ratios


def main(rounds: int, burst: int) -> None:
    """Run everything."""
    setup()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        commands = tools(Path(name))
        one = report("one flow", drain(one_flow, commands, rounds, burst))
        mixed = report("8 sources, IPv4 and IPv6", drain(mixed_flows, commands, rounds, burst // 2))
        print("flood, one flow:")
        losses = flood(commands, max(1, rounds // 3))
    for tool, percent in losses.items():
        print(f"  {tool:12s} lost {percent:.1f} %")
    goals = {
        "-w at most 1.2 x": max(one["sniff -w"], mixed["sniff -w"]) <= 1.2,
        "text of one flow at most 0.25 x": one["sniff"] <= 0.25,
        "text of mixed flows at most 0.5 x": mixed["sniff"] <= 0.5,
        "lost at most 1 % where tcpdump -nn loses": max(losses["sniff"], losses["sniff -w"]) <= 1,
    }
    print(json.dumps(goals, indent=1))


if __name__ == "__main__":
    if sys.argv[1:] == ["send"]:
        print(one_flow(FLOOD))
    elif os.environ.get("MCASTCTL_BENCH_INSIDE"):
        main(int(sys.argv[1]), int(sys.argv[2]))
    elif os.geteuid() != 0:
        raise SystemExit("root only: tcpdump gives privilege away as no user namespace allows")
    else:
        given = [
            sys.argv[1] if len(sys.argv) > 1 else "5",
            sys.argv[2] if len(sys.argv) > 2 else "100000",
        ]
        os.environ["MCASTCTL_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, __file__, *given])  # noqa: S606 - no shell wanted
