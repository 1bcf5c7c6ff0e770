"""What starting costs: whole commands beside the import of click alone.

    python tests/bench/bench_start.py [ROUNDS]

The datagram goes to loopback. Exit status 1 for a missed goal.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

from contest import Goal, report, rounds

CLICK = "python -c 'import click'"


def cost(argv: list[str]) -> float:
    """Microseconds of processor time, user and system, of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent * 1e6


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    installed = str(Path(sys.executable).with_name("mcastctl"))
    group = f"239.1.2.3:{20_000 + os.getpid() % 10_000}"
    commands = {
        CLICK: [sys.executable, "-c", "import click"],
        "send (one datagram)": [installed, "send", "-i", "lo", group, "hello"],
        "listen": [installed, "listen", "-i", "lo", group, "-q", "-T", "0"],
        "--help": [installed, "--help"],
        "ifaces": [installed, "ifaces"],
    }
    measures = {name: partial(cost, argv) for name, argv in commands.items()}
    goals = [
        Goal("send (one datagram)", (CLICK,), 1.15, least=False),
        Goal("listen", (CLICK,), 1.15, least=False),
        Goal("--help", (CLICK,), 1.15, least=False),
    ]
    return int(not report("start:", rounds(number, measures), "us", goals))


if __name__ == "__main__":
    sys.exit(main())
