"""Programs against each other, taking turns: medians, ratios, and whether a goal was met.

Machines are shared and noisy: nothing here is compared with a number of another run.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from world import Host, World

OURS = [sys.executable, "-c", "from mcastctl.cli.app import script; script()"]


class Goal(NamedTuple):
    """`ours` over `theirs` (over the best of them) is to be at least or at most `ratio`."""

    ours: str
    theirs: tuple[str, ...]
    ratio: float
    least: bool


def need(*tools: str) -> None:
    """End unless the programs are there."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [tool for tool in tools if shutil.which(tool, path=path) is None]
    if missing:
        raise SystemExit(f"needs {', '.join(missing)}")


@contextmanager
def limit() -> Iterator[str]:
    """Compile the C program and yield its path."""
    need("gcc")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/limit"
        source = Path(__file__).parent / "limit.c"
        subprocess.run(["gcc", "-O2", "-o", program, str(source)], check=True)
        yield program


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts on one cable; groups leave by it."""
    with World() as world:
        a, b = world.host("a"), world.host("b")
        world.link(a, b)
        for host in (a, b):
            host.ip(f"route add 239.0.0.0/8 dev {host.ports[0]}")
        yield a, b


def cpu_ns(pid: int) -> int:
    """Processor time of a living process, all threads (/proc/PID/task/*/schedstat)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def rounds(number: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure everything `number` times in changing order, after one round for nothing."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(number + 1):
        for name in random.sample(list(measures), len(measures)):
            value = measures[name]()
            if turn:
                found[name].append(value)
    return found


def report(title: str, found: Mapping[str, list[float]], unit: str, goals: list[Goal]) -> bool:
    """Print medians and ratios; return whether every goal was met."""
    print(f"\n{title}")
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        span = f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"  {name:<28} {medians[name]:>12,.0f} {unit:<14} ({span})")
    met = True
    for goal in goals:
        others = [medians[name] for name in goal.theirs if name in medians]
        best = max(others) if goal.least else min(others)
        ratio = medians[goal.ours] / best
        good = ratio >= goal.ratio if goal.least else ratio <= goal.ratio
        met = met and good
        sign = ">=" if goal.least else "<="
        against = " and ".join(goal.theirs)
        verdict = "met" if good else "MISSED"
        print(f"  {goal.ours} / {against}: {ratio:.2f} (goal {sign} {goal.ratio}) {verdict}")
    return met
