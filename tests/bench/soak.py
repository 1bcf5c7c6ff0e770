"""Hours in minutes: a steady stream, and whether memory, descriptors and counters stay as they are.

    python tests/bench/soak.py [MINUTES] [RATE]

Ten minutes at 50,000 a second by default, between two network namespaces, with an interval report
every five seconds. Exit status 1 when something grew or a datagram is missing.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from contest import OURS, two_hosts

GROUP = "239.1.2.3:6021"
_SETTLED_S = 5.0
_EVERY_S = 5.0
_GROWTH_KB = 512


def state(pid: int) -> tuple[int, int]:
    """Resident memory in kilobytes, and open descriptors."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]), len(list(Path(f"/proc/{pid}/fd").iterdir()))


def main() -> int:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    rate = sys.argv[2] if len(sys.argv) > 2 else "50k"
    with two_hosts() as (a, b):
        hear = [*OURS, "listen", GROUP, "-i", "b0", "-q", "-j", "--interval", "5s"]
        listener = b.popen([*hear, "--idle", "3s"])
        listener.wait_stdout("joined")
        send = [*OURS, "send", GROUP, "-i", "a0", "--probe", "--pps", rate, "-q", "-j"]
        sender = a.popen([*send, "-T", f"{minutes * 60}s"])
        time.sleep(_SETTLED_S)
        first = {name: state(one.pid) for name, one in (("send", sender), ("listen", listener))}
        last, ends = dict(first), time.monotonic() + minutes * 60 - 2 * _SETTLED_S
        while time.monotonic() < ends:
            time.sleep(_EVERY_S)
            last = {"send": state(sender.pid), "listen": state(listener.pid)}
        sent = json.loads(sender.finish(60).stdout.splitlines()[-1])
        heard = json.loads(listener.finish(60).stdout.splitlines()[-1])
    good = True
    for name in first:
        grown, opened = last[name][0] - first[name][0], last[name][1] - first[name][1]
        good &= grown <= _GROWTH_KB and opened == 0
        print(f"{name}: {last[name][0]} kB, grown {grown}; descriptors {last[name][1]}")
    good &= heard["packets"] == sent["sent"] and not heard["lost"] and not heard["duplicates"]
    print(f"sent {sent['sent']} ({sent['packets_per_s']}/s), worst gap {sent['worst_gap_ms']} ms")
    print(f"heard {heard['packets']}, lost {heard['lost']}, drops {heard['kernel_drops']}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
