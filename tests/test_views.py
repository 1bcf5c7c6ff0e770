"""What views are made of: marks of intervals, past round trips, columns that fit, a bar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mcastctl.model.history import (
    COLUMNS,
    DUPLICATE,
    GAP,
    LATE,
    MAX_TRACKS,
    OK,
    QUIET,
    REORDERED,
    Sample,
    Tracks,
)
from mcastctl.model.interface import Interface, Rates, rates
from mcastctl.model.mark import NO_MARK, PROBE, Mark
from mcastctl.model.records import Datagram, Reply
from mcastctl.model.responders import MULTICAST, UNICAST, Responders
from mcastctl.model.roundtrips import Line, RoundTrips
from mcastctl.model.stats import Statistics
from mcastctl.model.watch import Row
from mcastctl.output.grid import Chart, Column, bars, lay, strip
from mcastctl.output.ifacepage import IfacePage
from mcastctl.output.progress import line, span

SECOND = 1_000_000_000


class Heard:
    """Statistics fed by hand, an interval a second."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        self.tracks = Tracks()
        self.now_ns = 0

    def second(self, *numbers: int, kind: str = PROBE) -> Sample:
        """Hear these numbers, evenly spread over a second; return the stream as it is then."""
        self.hear(*numbers, kind=kind)
        return self.look()[0]

    def hear(self, *numbers: int, sport: int = 1, kind: str = PROBE) -> None:
        """Hear these numbers."""
        for at, number in enumerate(numbers):
            ts_ns = self.now_ns + at * SECOND // len(numbers)
            mark = Mark(PROBE, 7, number, ts_ns) if kind == PROBE else NO_MARK
            flow = ("10.0.0.1", sport, "239.1.1.1", 5004)
            told = Datagram(ts_ns, "rx", "eth0", 2, *flow, 1, None, 100, b"", mark)
            self.statistics.update(told)
        self.now_ns += SECOND

    def look(self) -> list[Sample]:
        """End an interval."""
        return self.tracks.observe(self.rows(), 1.0)

    def rows(self) -> list[Row]:
        """Every stream."""
        return [Row(one, one.kind, None) for one in self.statistics.streams.values()]


def test_a_mark_is_the_worst_of_its_interval() -> None:
    heard = Heard()
    told = [
        (OK, range(100)),
        (GAP, [*range(100, 150), *range(152, 200)]),
        (GAP, [200, 202, 202, 204, 203]),  # of several the worst
        (DUPLICATE, [205, 205, 206, 207]),
        (REORDERED, [209, 208, 210]),
        (OK, [211]),
        (LATE, []),
        (LATE, []),
        (OK, [212, 213, 214]),
    ]
    for mark, numbers in told:
        sample = heard.second(*numbers)
        assert sample.marks[-1] == mark, numbers
    assert sample.marks == tuple(mark for mark, _ in told)
    assert sample.rates[:2] == (100, 98)
    one = next(iter(heard.statistics.streams.values()))
    counted = (sample.packets, sample.lost, sample.duplicates, sample.reordered)
    assert counted == (one.packets, one.lost, one.duplicates, one.reordered) == (214, 3, 2, 2)
    assert sample.loss_percent == one.loss_percent

    heard.tracks.reset()
    sample = heard.second(215, 217, 218, 219)
    assert (sample.packets, sample.lost, sample.marks, sample.rates) == (4, 1, (GAP,), (4,))
    assert sample.loss_percent == pytest.approx(20)
    (whole,) = heard.tracks.final(heard.rows())
    assert (whole.packets, whole.lost, whole.loss_percent) == (218, 4, one.loss_percent)
    assert whole.packets_per_s == one.to_dict()["packets_per_s"]


def test_a_slow_stream_is_not_late_and_a_stalled_one_is() -> None:
    slow = Heard()
    for number in range(4):  # one every other second
        slow.second(number)
        assert slow.second().marks[-1] == QUIET
    marks = [slow.second().marks[-1] for _ in range(6)]
    assert marks == [QUIET] * 5 + [LATE]  # after three times its usual distance

    stalled = Heard()
    stalled.second(*range(100))
    stalled.now_ns += SECOND * 7 // 10  # then seven tenths of the next second nothing
    assert stalled.second(*range(100, 130)).marks[-1] == LATE

    plain = Heard()
    sample = plain.second(1, 2, 3, kind="plain")
    assert (sample.marks, sample.loss_percent) == ((OK,), None)


def test_the_past_is_bounded() -> None:
    heard = Heard()
    for number in range(COLUMNS + 10):
        sample = heard.second(number)
    assert len(sample.rates) == len(sample.marks) == COLUMNS
    for sport in range(2, MAX_TRACKS + 12):
        heard.hear(1, 2, sport=sport)
    assert len(heard.look()) == MAX_TRACKS
    assert heard.tracks.untracked == 11


def reply(seq: int, rtt_ms: float, kind: str = MULTICAST, *, duplicate: bool = False) -> Reply:
    told = int(rtt_ms * 1e6)
    return Reply(0, "10.0.0.2", 7, seq, told, 3, kind, 64, duplicate, b"")


def test_round_trips() -> None:
    responders, trips = Responders(["10.0.0.9"], 7), RoundTrips()
    answers = {0: 1.0, 1: 3.0, 3: 2.0, 4: 6.0}

    def lines(rounds: int) -> dict[str, Line]:
        return {one.host: one for one in trips.lines(responders, rounds)}

    for seq in range(6):
        responders.sent_multicast(seq)
        if seq in answers:
            legs = responders.find("10.0.0.2", 7).legs  # type: ignore[union-attr]
            legs[MULTICAST].answered(seq, int(answers[seq] * 1e6), 3)
            trips.update(reply(seq, answers[seq]))
    trips.update(reply(4, 7.0, duplicate=True))
    one, silent = lines(6)["10.0.0.2"], lines(6)["10.0.0.9"]
    assert one.past == (1.0, 3.0, -1, 2.0, 6.0, None)  # the last is under way
    trip = one.multicast
    assert (trip.sent, trip.received, trip.duplicates, trip.hops) == (5, 4, 1, 3)
    assert (trip.last_ms, trip.avg_ms, trip.best_ms, trip.worst_ms) == (6.0, 3.0, 1.0, 6.0)
    assert trip.loss_percent == pytest.approx(20)
    assert silent.past == (-1, -1, -1, -1, -1, None)
    assert (silent.multicast.loss_percent, silent.multicast.avg_ms) == (100, None)
    assert one.unicast.sent == 0

    trips.reset(responders, 6)
    responders.sent_multicast(6)
    responders.by_address["10.0.0.2"].legs[MULTICAST].answered(6, 2_000_000, 3)
    trips.update(reply(6, 2.0))
    one = lines(7)["10.0.0.2"]
    assert (one.past, one.multicast.sent, one.multicast.loss_percent) == ((2.0,), 1, 0)
    whole = {one.host: one for one in trips.final(responders, 7)}["10.0.0.2"].multicast
    told = responders.by_address["10.0.0.2"].legs[MULTICAST].to_dict()
    assert (whole.sent, whole.received) == (told["sent"], told["received"]) == (7, 5)
    assert (whole.avg_ms, whole.worst_ms) == (told["rtt_avg_ms"], told["rtt_max_ms"])
    trips.update(reply(6, 1.0, UNICAST))
    assert lines(7)["10.0.0.2"].unicast.last_ms == 1.0


# --- columns


def columns(rows: list[tuple[str, str, str]]) -> list[Column | Chart]:
    return [
        Column("HOST", 0, [one for one, _, _ in rows]),
        Column("NOTE", 3, [one for _, one, _ in rows]),
        Column("RATE", 0, [one for _, _, one in rows], right=True),
        Column("MORE", 2, ["1"] * len(rows), right=True),
        Chart("PAST", 1, lambda row, width: strip(["ok"] * 300, width), 8, 20),
    ]


CELL = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=30)
NUMBER = st.integers(0, 10**6).map(str)


@given(st.lists(st.tuples(CELL, CELL, NUMBER), min_size=1, max_size=8), st.integers(60, 200))
def test_a_table_is_never_wider_than_the_terminal(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    grid = lay(columns(rows), len(rows), width, 100)
    assert grid.left_out == 0
    assert len({cell_len(one.plain) for one in grid.lines}) == 1  # all alike
    assert cell_len(grid.lines[0].plain) <= width
    text = "\n".join(one.plain for one in grid.lines)
    for host, _, number in rows:
        assert number in text
        assert host in text  # at 60 columns and more this one is never folded


def test_columns_go_by_rank_and_long_addresses_are_folded() -> None:
    rows = [("2001:db8:1:2:a8bb:ccff:fedd:eeff", "note", "100")]
    headings = [
        lay(columns(rows), 1, width, 9).lines[0].plain.split() for width in (80, 59, 53, 40)
    ]
    assert headings == [
        ["HOST", "NOTE", "RATE", "MORE", "PAST"],
        ["HOST", "RATE", "MORE", "PAST"],
        ["HOST", "RATE", "PAST"],
        ["HOST", "RATE"],
    ]
    heading, first, second = (one.plain for one in lay(columns(rows), 1, 30, 9).lines)
    assert heading.split() == ["HOST", "RATE"]
    assert first.split()[0] + second.strip() == rows[0][0]
    assert lay(columns(rows * 9), 9, 80, 5).left_out == 5
    assert lay([], 0, 80, 5).lines[0].plain == ""


def test_bars_and_strips() -> None:
    def text(*values: float | None, width: int = 6, ascii_only: bool = False) -> str:
        return "".join(part for part, _ in bars(values, width, ascii_only=ascii_only))

    assert text(0, 7, 3.5, None, -1, 7) == "▁█▅ x█"
    assert text(0, 7, 3.5, None, -1, 7, ascii_only=True) == "_#- x#".replace("-", "=")
    assert text(1, 2, width=4) == "  ▅█"
    assert text(9, 1, 1, width=2) == "██"  # scaled to what is shown
    assert text(0, 0, width=2) == "▁▁"
    assert text(width=3) == "   "
    marks = [OK, GAP, LATE, DUPLICATE, REORDERED, QUIET]
    assert "".join(part for part, _ in strip(marks, 6)) == ".x_:< "
    assert len({style for _, style in strip(marks, 6)}) == 6


def test_a_driver_that_counts_no_groups_is_not_said_to_hear_none() -> None:
    """The counter of lo stays 0 whatever comes in."""

    def told(before: int, now: int) -> float | None:
        unknown = (None, None, None, None, None, None, None)
        one = Interface("lo", 1, *unknown, (), None, None, None, (), {})
        counters = [{"rx_packets": 9, "rx_multicast": number} for number in (before, now)]
        first, second = (one._replace(counters=each) for each in counters)
        return rates(0, 2.0, first, second).rx_multicast_per_s

    assert [told(0, 0), told(0, 6), told(6, 6)] == [None, 3.0, 0.0]


def test_interfaces_are_shown_as_their_records_tell() -> None:
    page = IfacePage(ascii_only=True)
    for second, packets in enumerate((10.0, 40.0)):
        told = Rates(second * SECOND, "e\x1b[0m", 3, 1.0, packets, 8e6, 7.0, 2, 5.0, 4000.0, 1)
        page.take(told)
    page.take(Rates(SECOND, "lo", 1, 1.0, 0.0, 0.0, None, 0, 0.0, 0.0, 0))

    def shown(sort: str) -> dict[str, list[str]]:
        table = page.table(sort)
        return {one.name: list(one.cells) for one in table.columns if isinstance(one, Column)}

    assert shown("rate") == {
        "INDEX": ["3", "1"],
        "NAME": ["e\\x1b[0m", "lo"],
        "IN/s": ["40", "0"],
        "GROUPS/s": ["7", "-"],
        "IN": ["8 Mbit/s", "0 bit/s"],
        "OUT/s": ["5", "0"],
        "OUT": ["4 kbit/s", "0 bit/s"],
        "DROPPED": ["6", "0"],
    }
    assert shown("index")["INDEX"] == ["1", "3"]
    heading, lo, other = (one.plain for one in lay(page.table("index").columns, 2, 60, 9).lines)
    assert "IN HISTORY" in heading
    assert other.rstrip().endswith(":#")
    assert lo.rstrip().endswith("_")
    page.reset()
    assert shown("rate")["DROPPED"] == ["0", "0"]
    page.take(Rates(9 * SECOND, "lo", 1, 1.0, 0.0, 0.0, None, 0, 0.0, 0.0, 0))
    page.tick(1.0)
    assert shown("rate")["NAME"] == ["lo"]  # of the other nothing was heard for long


# --- progress


def test_a_bar_says_how_far_how_fast_and_how_long() -> None:
    progress = (25, 100, 1000, 1_000_000)
    assert line(progress, 2.0, None, 80) == (
        f" 25% [{'#' * 8}{'.' * 27}] sent 1000, 500/s, 4 Mbit/s, 6 s left"
    )
    assert line(progress, 2.0, 1.0, 80).endswith("1 s left")  # -T ends it before
    assert line(progress, 2.0, None, 40) == f" 25% [{'#' * 4}{'.' * 12}] 500/s, 6 s left"
    assert line(progress, 2.0, None, 20).startswith(" 25% [")
    assert line(progress, 2.0, None, 6) == " 25%"
    assert all(len(line(progress, 2.0, None, width)) < width for width in range(6, 200))
    assert [span(one) for one in (0.4, 59.4, 59.6, 3600, 7325)] == [
        *("0 s", "59 s", "1:00", "1:00:00", "2:02:05")
    ]
