"""What holds under load: nothing lost, nothing counted wrong, no memory filled.

    python tests/bench/bench_load.py [SECONDS [SOURCES]]

Ten seconds each and 200,000 forged sources by default, all between two network namespaces: `listen`
with the kernel's own buffer and with the large one, and stopped until its buffer overflows; `sniff
-w`; `send` into a shaper that is over-full; and floods of forged sources at every command that
remembers whom it heard. Exit status 1 for a missed goal.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contest import OURS, two_hosts
from flood import Flood, memory_kb, read_up
from place import Running
from wire import udp
from world import Host

from mcastctl.model import probe

GROUP, PORT = "239.1.2.3", 5004
WHERE = f"{GROUP}:{PORT}"
GROWTH_KB = 20_000
_met = True


def goal(what: str, met: bool) -> None:
    """Print one line and remember a miss."""
    global _met  # noqa: PLW0603
    _met = _met and met
    print(f"  {what:<88} {'met' if met else 'MISSED'}", flush=True)


def last(text: str) -> dict[str, Any]:
    """The summary of a run."""
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def send(a: Host, *options: str, timeout: float = 60) -> dict[str, Any]:
    """Numbered probes; the summary."""
    argv = [*OURS, "send", WHERE, "-i", "a0", "-q", "-j", "--probe", *options]
    return last(a.run(argv, timeout=timeout, check=False).stdout)


@contextmanager
def started(b: Host, command: str, *args: str, ready: str = "joined") -> Iterator[Running]:
    """A command of ours in the background that prints JSON."""
    running = b.popen([*OURS, command, *args, "-j"])
    running.wait_stdout(f'"{ready}"')
    try:
        yield running
    finally:
        running.stop()


def interrupted(running: Running) -> dict[str, Any]:
    """End it and read its summary."""
    running.signal(signal.SIGINT)
    return last(running.finish(60).stdout)


def receiving(a: Host, b: Host, seconds: int) -> None:
    """No loss, and exact counts where there is some."""
    print("listen, datagrams of 200 bytes:")
    for rate, buffer in ((20_000, "208k"), (50_000, "4MiB")):
        with started(b, "listen", WHERE, "-i", "b0", "-q", "--rcvbuf", buffer) as listener:
            sent = send(a, "-s", "200", "--pps", str(rate), "-T", f"{seconds}s")
            read_up(b, PORT)
            heard = interrupted(listener)
        counted = f"sent {sent['sent']}, heard {heard['packets']}, lost {heard['lost']}"
        good = heard["packets"] == sent["sent"] and not heard["lost"] and not heard["duplicates"]
        goal(f"{rate}/s, buffer {buffer}: {counted}, drops {heard['kernel_drops']}", good)
    with started(b, "listen", WHERE, "-i", "b0", "-q", "--rcvbuf", "208k") as listener:
        bind = ("--bind", ":4000")
        send(a, *bind, "-c", "10", "--interval", "1ms")  # before, during and after
        listener.signal(signal.SIGSTOP)
        during = send(a, *bind, "-c", "5000", "--flood", "--no-gso")
        listener.signal(signal.SIGCONT)
        read_up(b, PORT)
        heard = interrupted(listener)
    missing = 10 + during["sent"] - heard["packets"]
    text = f"stopped: missing {missing}, kernel drops {heard['kernel_drops']}"
    goal(text, missing == heard["kernel_drops"] > 0)


def capturing(a: Host, b: Host, seconds: int) -> None:
    """Every frame is in the file."""
    print("sniff -w, frames of 242 bytes:")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.pcap"
        words = ("udp", "port", str(PORT))
        args = ("-i", "b0", "-w", str(path), *words)
        with started(b, "sniff", *args, ready="capturing") as sniffer:
            sent = send(a, "-s", "200", "--pps", "20000", "-T", f"{seconds}s", "--no-gso")
            time.sleep(0.5)  # the ring hands over what is not full after a tenth of that
            said = interrupted(sniffer)
        read = last(b.run([*OURS, "sniff", "-r", path, "-j", "-q"], timeout=60).stdout)
    text = f"20000/s: sent {sent['sent']}, written {said['written']}, in the file {read['packets']}"
    exact = sent["sent"] == said["written"] == read["packets"] and not read["malformed"]
    goal(f"{text}, drops {said['kernel_drops']}", exact and not said["kernel_drops"])


def refused(a: Host) -> None:
    """What a full queue drops is refused, not sent."""
    print("send into a shaper of 8 kbit/s:")
    a.sh("tc qdisc add dev a0 root tbf rate 8kbit burst 1600 limit 3000")
    told = send(a, "-c", "1000", "--pps", "2000", "--no-gso")
    (queue,) = json.loads(a.sh("tc -s -j qdisc show dev a0").stdout)
    a.sh("tc qdisc del dev a0 root")
    text = f"attempted {told['attempted']} = sent {told['sent']} + refused {told['refused']}"
    exact = told["attempted"] == told["sent"] + told["refused"] == 1000
    goal(f"{text}; the shaper dropped {queue['drops']}", exact)
    goal(f"refused of those: {told['refused'] / queue['drops']:.1%}",
         told["refused"] >= 0.95 * queue["drops"])  # fmt: skip


def payloads() -> list[bytes]:
    """One of each kind of stream."""
    header = probe.encode(probe.Probe(probe.DATA, 1, 0, 1, 1, 1), 40)
    request = probe.encode(probe.Probe(probe.REQUEST, 1, 0, 1, 1, 1), 40)
    rtp = bytes([0x80, 33, 0, 5, 0, 0, 3, 232, 0, 0, 0, 7]) + b"media"
    transport = b"".join(bytes([0x47, pid >> 8, pid & 255, 0x10]) + bytes(184) for pid in range(7))
    return [b"plain", header, rtp, transport, request]


def flooded(a: Host, b: Host, sources: int) -> None:
    """Memory does not grow with the number of sources."""
    print(f"{sources} forged sources, growth of the largest memory:")
    frames = [udp("10.0.1.1", 4000, GROUP, PORT, payload) for payload in payloads()]
    words = ("udp", "port", str(PORT))
    for command, rate in (
        (("listen", WHERE, "-i", "b0", "-q", "-j"), 0),
        (("listen", WHERE, "-i", "b0", "-q", "-j", "--interval", "1s"), 0),
        (("listen", WHERE, "-i", "b0", "-j"), 0),
        (("listen", WHERE, "-i", "b0"), 0),
        (("echo", WHERE, "-i", "b0", "-q", "-j"), 0),
        (("sniff", "-i", "b0", "--streams", *words), 8000),
        (("sniff", "-i", "b0", *words), 20_000),
    ):
        running = b.popen([*OURS, *command])
        if "-j" in command:
            running.wait_stdout('"joined"')
        else:
            running.wait_stderr("capturing|joined")
        before = memory_kb(running.pid)
        flood = Flood(a, frames, sources=sources)
        for begin in range(0, sources, 2000):
            flood.send(min(2000, sources - begin), rate)
            read_up(b, PORT)
        grown = memory_kb(running.pid) - before
        running.signal(signal.SIGINT)
        ended = running.finish(60)
        end = ended.stderr or ended.stdout
        left_out = re.search(r'(\d+) quiet streams|"streams_evicted":(\d+)', end)
        dropped = re.search(r"(\d+) dropped by|full socket buffer (\d+)|_drops\":([1-9]\d*)", end)
        text = f"{' '.join(command[:1] + command[2:])}: {grown} kB"
        text += f", made room {left_out[1] or left_out[2]}" if left_out else ""
        goal(f"{text}{', dropped ' + dropped[0] if dropped else ''}", grown < GROWTH_KB)


def main() -> int:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    sources = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    with two_hosts() as (a, b):
        receiving(a, b, seconds)
        capturing(a, b, seconds)
        refused(a)
        flooded(a, b, sources)
    return int(not _met)


if __name__ == "__main__":
    sys.exit(main())
