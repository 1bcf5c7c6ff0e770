"""Hours in minutes: a steady stream, and whether memory, descriptors and counters stay as they are.

    python tests/bench/soak.py [MINUTES] [RATE]
    python tests/bench/soak.py 10 2k 60           something happens to the interface every minute

Ten minutes at 50,000 a second by default, between two network namespaces, with an interval report
every five seconds. With a third number so many seconds lie between two mishaps: down, no carrier,
deleted and made again, moved away, renamed. Exit status 1 when something grew, a datagram is
missing, or one is neither heard nor counted as lost.
"""

from __future__ import annotations

import json
import sys
import time

from contest import OURS, two_hosts
from mishaps import Cable, Soak, State
from world import World

GROUP = "239.1.2.3:6021"
_SETTLED_S = 5.0
_EVERY_S = 5.0
_GROWTH_KB = 512


def unchanged(first: dict[str, State], last: dict[str, State]) -> bool:
    """Print what grew; tell whether nothing did."""
    good = True
    for name, (memory_kb, descriptors) in last.items():
        grown = memory_kb - first[name].memory_kb
        good &= grown <= _GROWTH_KB and descriptors == first[name].descriptors
        print(f"{name}: {memory_kb} kB, grown {grown}; descriptors {descriptors}")
    return good


def steady(minutes: float, rate: str) -> bool:
    """Nothing happens."""
    with two_hosts() as (a, b):
        hear = [*OURS, "listen", GROUP, "-i", "b0", "-q", "-j", "--interval", "5s"]
        listener = b.popen([*hear, "--idle", "3s"])
        listener.wait_stdout("joined")
        send = [*OURS, "send", GROUP, "-i", "a0", "--probe", "--pps", rate, "-q", "-j"]
        sender = a.popen([*send, "-T", f"{minutes * 60}s"])
        time.sleep(_SETTLED_S)
        first = {"send": State.of(sender.pid), "listen": State.of(listener.pid)}
        last, ends = dict(first), time.monotonic() + minutes * 60 - 2 * _SETTLED_S
        while time.monotonic() < ends:
            time.sleep(_EVERY_S)
            last = {"send": State.of(sender.pid), "listen": State.of(listener.pid)}
        sent = json.loads(sender.finish(60).stdout.splitlines()[-1])
        heard = json.loads(listener.finish(60).stdout.splitlines()[-1])
    print(f"sent {sent['sent']} ({sent['packets_per_s']}/s), worst gap {sent['worst_gap_ms']} ms")
    print(f"heard {heard['packets']}, lost {heard['lost']}, drops {heard['kernel_drops']}")
    exact = heard["packets"] == sent["sent"] and not heard["lost"] and not heard["duplicates"]
    return unchanged(first, last) and bool(exact)


def troubled(minutes: float, rate: str, every_s: float) -> bool:
    """Everything happens, again and again; what happened once is no growth."""
    with World() as world:
        soak = Soak(Cable(world, world.host("a"), world.host("b")), rate)
        ends = time.monotonic() + minutes * 60
        soak.round(lambda: time.sleep(1))
        first = last = soak.states()
        while time.monotonic() < ends:
            soak.round(lambda: time.sleep(every_s))
            last = soak.states()
        summaries = soak.end()
    sent, heard = summaries["send"], summaries["listen"]
    print(f"{soak.times} mishaps, deaf for {heard['deaf_s']} s; attempted {sent['attempted']}, "
          f"refused {sent['refused']}, heard {heard['packets']}, lost {heard['lost']}")  # fmt: skip
    return unchanged(first, last) and soak.exact(summaries)


def main() -> int:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    if minutes < 0.5:
        raise SystemExit("half a minute is the least: what grows must have time to")
    rate = sys.argv[2] if len(sys.argv) > 2 else "50k"
    if len(sys.argv) > 3:
        return int(not troubled(minutes, rate, float(sys.argv[3])))
    return int(not steady(minutes, rate))


if __name__ == "__main__":
    sys.exit(main())
