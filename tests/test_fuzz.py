"""Every reader of foreign input keeps its promises: on inputs that once broke one, and on new ones.

`python tests/fuzz TARGET SECONDS` looks for more.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest
from conftest import Pair
from fuzz import argv
from fuzz.mutate import inputs
from fuzz.target import CORPUS, Target, corpus
from fuzz.targets import TARGETS
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from place import Place, Running

from mcastctl.model import stats
from mcastctl.model.mark import NO_MARK, PROBE, RTP, Mark
from mcastctl.model.records import Datagram

NEW_S = 0.6
"""Time for new inputs of each target."""
NOISE = 8
"""A machine under load may take so many times what a target allows an input."""


@pytest.mark.parametrize("name", TARGETS)
def test_promises(name: str) -> None:
    target = TARGETS[name]
    known = [path.read_bytes() for path in corpus(name)]
    seeds = [*target.seeds(), *known]
    for data in seeds:  # and what is loaded for the first time counts for nothing
        target.run(data)
    until = time.monotonic() + NEW_S
    for number, data in enumerate(inputs(seeds, target.words, random.Random())):  # noqa: S311
        try:
            cost = spent(target, data)
            if cost > NOISE * target.cost_s:
                cost = min(cost, spent(target, data))
        except BaseException as error:
            error.add_note(f"input, for tests/fuzz/corpus/{name}: {data!r}")
            raise
        assert cost <= NOISE * target.cost_s, f"{cost} s for {data!r}"
        if number > 100 and time.monotonic() > until:
            break


def spent(target: Target, data: bytes) -> float:
    """Processor time of one input."""
    began = time.thread_time()
    target.run(data)
    return time.thread_time() - began


def test_the_corpus_is_of_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)


@pytest.mark.parametrize("guided", [False, True])
def test_the_command_that_looks_for_more(here: Place, tmp_path: Path, guided: bool) -> None:
    if guided:
        pytest.importorskip("atheris")
    command: list[str | Path] = [sys.executable, Path(__file__).parent / "fuzz", "probe", "1"]
    ended = here.run(
        [*command, *([] if guided else ["--plain"])],
        cwd=tmp_path,
        timeout=60,
        env={"TMPDIR": str(tmp_path)},
    )
    said = ended.stderr if guided else ended.stdout
    found = re.search(r"executed_units: (\d+)" if guided else r"probe: (\d+) inputs", said)
    assert found, ended
    assert int(found[1]) > 100
    assert not list(tmp_path.glob("crash-*"))


# --- command lines


def test_command_lines_are_understood_or_refused() -> None:
    chance = random.Random()  # noqa: S311
    reached = refused = 0
    for _ in range(2000):
        data = chance.randbytes(1 + 2 * chance.randrange(8))
        try:
            understood = argv.command_lines(data)
        except BaseException as error:
            error.add_note(f"input, for tests/fuzz/corpus/argv: {data!r}")
            raise
        reached += understood.reached
        refused += understood.status == 2
    assert reached > 20
    assert refused > 1000


def sent(pid: int) -> int:
    """Datagrams that left the namespace of a process, counted by its kernel."""
    folder = Path(f"/proc/{pid}/net")
    head, values = (
        line.split() for line in (folder / "snmp").read_text().splitlines() if line[:4] == "Udp:"
    )
    six = dict(line.split() for line in (folder / "snmp6").read_text().splitlines())
    return int(values[head.index("OutDatagrams")]) + int(six["Udp6OutDatagrams"])


# stdin: command lines, each a line of JSON. For each, in a process of its own: exit status (130 for
# one that had to be interrupted), and what it said to standard error.
RUN = """
import json, os, signal, sys, tempfile
sys.argv = ["mcastctl"]
from mcastctl.cli import app
app.command_table()
for line in sys.stdin:
    words = [word.encode(errors="surrogateescape").decode(errors="surrogateescape")
             for word in json.loads(line)]
    with tempfile.TemporaryFile() as said, open(os.devnull, "r+b") as nothing:
        child = os.fork()
        if not child:
            for number in (0, 1):
                os.dup2(nothing.fileno(), number)
            os.dup2(said.fileno(), 2)
            sys.argv = ["mcastctl", *words]
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
            signal.setitimer(signal.ITIMER_REAL, 0.15, 0.5)
            app.script()
        _, status = os.waitpid(child, 0)
        said.seek(0)
        told = said.read().decode(errors="replace")
    print(json.dumps([os.waitstatus_to_exitcode(status), told]), flush=True)
"""


def test_command_lines_that_are_understood_run_or_refuse_too(pair: Pair, tmp_path: Path) -> None:
    chance = random.Random()  # noqa: S311
    a = pair.a
    runner: Running = a.popen([sys.executable, "-c", RUN], stdin=PIPE, cwd=tmp_path)
    tried = 0
    while tried < 40:
        data = bytes([chance.randrange(24)]) + bytes(
            chance.choice((chance.randrange(90), chance.randrange(90, 245)))
            if at % 2 == 0
            else chance.randrange(160)
            for at in range(2 * chance.randrange(1, 4))
        )
        words = argv.command_line(data)
        if not argv.understand(words).reached or words[0] == "matrix":  # which starts ssh
            continue
        tried += 1
        before = sent(a.pid)
        runner.write(json.dumps(words) + "\n")
        status, said = json.loads(runner.wait_stdout("^.+$", count=tried)[0])
        told = f"{words}: {status}\n{said}\ninput, for tests/fuzz/corpus/argv: {data!r}"
        assert status in (0, 1, 2, -2), told
        assert "Traceback" not in said, told
        assert "internal error" not in said, told
        if status == 2:
            assert ("error: " in said) == ("\nhint: " in said), told  # as JSON with -j
            if words[0] == "send" and "sent " not in said:
                assert sent(a.pid) == before, told


# --- statistics


class Counting(RuleBasedStateMachine):
    """Statistics of some streams beside what they were told, with room for very few of them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = stats.MAX_STREAMS, stats.FEW, stats.PLACES
        stats.MAX_STREAMS, stats.FEW, stats.PLACES = 6, 1, 64
        self.statistics = stats.Statistics()
        self.packets = self.bytes = self.now = 0
        self.reported = {"packets": 0, "bytes": 0, "lost": 0, "duplicates": 0, "reordered": 0}
        self.next: dict[int, int] = {}

    def teardown(self) -> None:
        stats.MAX_STREAMS, stats.FEW, stats.PLACES = self.kept

    def hear(self, source: int, mark: Mark, length: int = 100) -> None:
        self.now += 1_000_000
        where = (f"10.0.0.{source}", 4000, "239.1.1.1", 5004)
        self.statistics.update(Datagram(self.now, "rx", "a0", 1, *where, 1, 0, length, b"", mark))
        self.packets += 1
        self.bytes += length

    @rule(source=st.integers(0, 9), length=st.integers(0, 1500))
    def plain(self, source: int, length: int) -> None:
        self.hear(source, NO_MARK, length)

    @rule(source=st.integers(0, 9), seq=st.integers(0, 2**64 - 1) | st.integers(0, 40))
    def probe(self, source: int, seq: int) -> None:
        self.hear(source, Mark(PROBE, source, seq, self.now))

    @rule(source=st.integers(0, 9), seq=st.integers(0, 65535), ident=st.integers(0, 9))
    def rtp(self, source: int, seq: int, ident: int) -> None:
        self.hear(source, Mark(RTP, ident, seq, 90 * seq, 90_000))

    @rule(source=st.integers(0, 3), step=st.integers(1, 3), times=st.integers(1, 40))
    def steady(self, source: int, step: int, times: int) -> None:
        for _ in range(times):
            self.next[source] = self.next.get(source, 0) + step
            self.hear(source, Mark(PROBE, source, self.next[source], self.now))

    @rule()
    def interval(self) -> None:
        told = self.statistics.interval(1.0)
        for name in self.reported:
            value = told[name]
            assert isinstance(value, int)
            self.reported[name] += value
        summary = self.statistics.summary(1.0)
        assert {name: summary[name] for name in self.reported} == self.reported

    @invariant()
    def everything_is_counted_once(self) -> None:
        summary = self.statistics.summary(1.0)
        assert (summary["packets"], summary["bytes"]) == (self.packets, self.bytes)
        kept = self.statistics.streams.values()
        assert sum(one.packets for one in kept) <= self.packets
        if not self.statistics.evicted:
            assert sum(one.packets for one in kept) == self.packets
        for name in ("lost", "duplicates", "reordered"):
            assert self.statistics.total(name) >= 0

    @invariant()
    def memory_is_bounded(self) -> None:
        one = self.statistics
        assert len(one.streams) <= stats.MAX_STREAMS
        for rank, keys in enumerate(one._ranks):
            assert set(keys) == {key for key, kept in one.streams.items() if kept.rank == rank}
        assert len(one._verdicts) <= len(one.streams)
        assert len(one._reported) <= len(one.streams)
        taken = sum(stream._sequence._granted - 16 for stream in one.streams.values())
        assert one._room.left + taken == stats.PLACES
        assert one._room.left >= 0


TestCounting = Counting.TestCase
TestCounting.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
