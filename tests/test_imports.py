"""The start-up budget: what the everyday commands may load, and how much memory they take."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import control
import frames
import pytest
from world import Outcome, Place, World

HEAVY = {"rich", "scapy", "psutil", "pyroute2", "asyncio", "importlib.metadata"}
HEAVY |= {"socket", "mcastctl.model.metrics", "mcastctl.output.metricsfile", "mcastctl.net.scrape"}
NOT_AT_ONCE = {"pathlib", "ipaddress"}
"""Three milliseconds each, which send, listen and echo do without."""
MEBIBYTE = 1 << 20

# What the installed script does. It also tells its peak memory: asked from outside, the kernel
# counts in what the forking test runner had used.
SCRIPT = """
import atexit, os, sys
def tell():
    with open("/proc/self/status") as status:
        os.write(2, "".join(line for line in status if line.startswith("VmHWM")).encode())
atexit.register(tell)
from mcastctl.cli.app import main
sys.argv[0] = "mcastctl"
sys.exit(main())
"""
GROUP = "239.1.1.1:5007"
QUESTIONS = [["--version"], ["--help"], *([name, "--help"] for name in ("send", "listen", "echo"))]
# Nobody speaks to listen and echo: they end by -T, which is 1 where something was to be heard.
RUNS = [
    (["send", "-i", "lo", GROUP, "hello"], {0}),
    (["listen", "-i", "lo", GROUP, "-T", "0.2s"], {1}),
    (["listen", "-i", "lo", GROUP, "-T", "0.2s", "-j"], {1}),
    (["listen", "-i", "lo", GROUP, "-T", "0.2s", "--live"], {1}),  # nothing to draw on
    (["echo", "-i", "lo", GROUP, "-T", "0.2s"], {0, 1}),
    (["sniff", "-i", "lo", "-T", "0.2s", "--rcvbuf", "1MiB"], {1}),
    (["sniff", "-i", "lo", "-T", "0.2s", "--rcvbuf", "1MiB", "-j"], {1}),
]


def loaded(stderr: str) -> set[str]:
    """Names of the modules that python -X importtime reports."""
    return set(re.findall(r"^import time: .*\| +(\S+)$", stderr, re.MULTILINE))


@functools.cache
def loaded_anyway() -> set[str]:
    """What the interpreter loads before any program, such as hooks of the virtual environment."""
    command = [sys.executable, "-X", "importtime", "-c", "pass"]
    return loaded(subprocess.run(command, capture_output=True, text=True, check=True).stderr)


def start(place: Place, args: list[str]) -> Outcome:
    outcome = place.run([sys.executable, "-X", "importtime", "-c", SCRIPT, *args], check=False)
    names = loaded(outcome.stderr)
    said = re.sub("^import time:.*\n", "", outcome.stderr, flags=re.MULTILINE)
    assert "Traceback" not in said, said
    assert "mcastctl.cli.app" in names, said
    budget = HEAVY | NOT_AT_ONCE if args[0] in ("send", "listen", "echo") else HEAVY
    heavy = {name for name in names - loaded_anyway() if budget & {name, name.partition(".")[0]}}
    assert not heavy, f"mcastctl {' '.join(args)} loads {sorted(heavy)}"
    return outcome._replace(stderr=said)


@pytest.mark.parametrize("args", QUESTIONS, ids=" ".join)
def test_help_loads_nothing_heavy(here: Place, args: list[str]) -> None:
    assert start(here, args).returncode == 0


@pytest.mark.parametrize(("args", "statuses"), RUNS, ids=[" ".join(args) for args, _ in RUNS])
def test_running_loads_nothing_heavy_and_stays_small(
    world: World, args: list[str], statuses: set[int]
) -> None:
    outcome = start(world.host("a"), args)
    assert outcome.returncode in statuses, outcome.stderr
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", outcome.stderr, re.MULTILINE)
    assert peak, outcome.stderr
    assert int(peak[1]) * 1024 < 20 * MEBIBYTE, f"mcastctl {' '.join(args)}: {peak[0]}"


@pytest.mark.parametrize("args", [[], ["-v"], ["-j"], ["--streams"], ["--control"]], ids=" ".join)
def test_reading_a_capture_loads_no_dissector(here: Place, tmp_path: Path, args: list[str]) -> None:
    """Nor does any message that has a decoder here; what has none brings scapy in."""
    path = tmp_path / "all.pcap"
    path.write_bytes(frames.pcap([frames.ether(packet) for packet in control.ALL.values()]))
    outcome = start(here, ["sniff", "-r", str(path), *args])
    assert outcome.returncode == 0
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", outcome.stderr, re.MULTILINE)
    assert peak
    assert int(peak[1]) * 1024 < 24 * MEBIBYTE


def test_the_budget_sees_a_planted_import() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import importlib.metadata"]
    stderr = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert HEAVY & (loaded(stderr) - loaded_anyway())
