"""What was heard, counted per stream, and whether it is what was asked for."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastctl.decode.stream import recognise
from mcastctl.model.errors import VerdictError
from mcastctl.model.hearing import Unheard
from mcastctl.model.jitter import Jitter, RtpClock
from mcastctl.model.mark import MPEGTS, NO_MARK, PLAIN, PROBE, RTP, Mark
from mcastctl.model.records import Datagram
from mcastctl.model.room import OWN
from mcastctl.model.stats import MAX_STREAMS, PLACES, Statistics
from mcastctl.model.stream import COUNTERS
from mcastctl.model.verdict import Expectation

MS = 1_000_000
SECOND = 1_000 * MS


def datagram(
    mark: Mark = NO_MARK,
    *,
    at: int = 0,
    src: str = "10.0.0.1",
    sport: int = 4000,
    length: int = 100,
) -> Datagram:
    return Datagram(at, "rx", "eth0", 2, src, sport, "239.1.1.1", 5004, 1, 0, length, b"", mark)


def probe(seq: int, stream: int = 1, sent: int | None = None) -> Mark:
    """A probe sent a nanosecond after the one before, unless `sent` says when."""
    return Mark(PROBE, stream, seq, seq if sent is None else sent)


def rtp(seq: int, ssrc: int = 1, stamp: int = 0, rate: int | None = 8000) -> Mark:
    return Mark(RTP, ssrc, seq & 0xFFFF, stamp, rate)


def ts(*counters: tuple[int, int]) -> Mark:
    return Mark(MPEGTS, counters=tuple((pid, counter, False) for pid, counter in counters))


def heard(datagrams: Iterable[Datagram], *, assume_rtp: bool = False) -> Statistics:
    statistics = Statistics(rtp=frozenset({("239.1.1.1", 5004)}) if assume_rtp else frozenset())
    for one in datagrams:
        statistics.update(one)
    return statistics


def streams(statistics: Statistics) -> list[dict[str, Any]]:
    rows: Any = statistics.summary(1)["streams"]
    return list(rows)


# RTP


def test_jitter_follows_rfc_3550_by_hand() -> None:
    # 20 ms packets of 8 kHz audio; the second comes 16 ms late, the third in time again:
    # D = 16 ms, so J = 16/16 = 1; D = -16 ms, so J = 1 + (16 - 1)/16 = 1.9375.
    late = (0, 16 * MS, 0)
    packets = [
        datagram(rtp(9 + n, stamp=160 * n), at=SECOND + 20 * MS * n + late[n]) for n in range(3)
    ]
    assert streams(heard(packets[:1]))[0]["jitter_ms"] == 0
    assert streams(heard(packets[:2]))[0]["jitter_ms"] == 1
    assert streams(heard(packets))[0]["jitter_ms"] == 1.9375


def test_jitter_of_probes_needs_no_agreeing_clocks() -> None:
    steady = [
        datagram(probe(n, sent=SECOND * n), at=7 * SECOND * 3600 + SECOND * n) for n in range(9)
    ]
    assert streams(heard(steady))[0]["jitter_ms"] == 0
    shaken = [
        *steady,
        datagram(probe(9, sent=9 * SECOND), at=7 * SECOND * 3600 + 9 * SECOND + 8 * MS),
    ]
    assert streams(heard(shaken))[0]["jitter_ms"] == 0.5


def test_a_duplicate_does_not_move_the_jitter() -> None:
    first = datagram(probe(0), at=0)
    again = datagram(probe(0), at=50 * MS)
    assert heard([first, again]).jitter_ns == 0


def test_timestamps_wrap_without_jitter() -> None:
    stamps = [(0xFFFFFF60 + 160 * n) & 0xFFFFFFFF for n in range(4)]
    packets = [datagram(rtp(n, stamp=stamp), at=20 * MS * n) for n, stamp in enumerate(stamps)]
    assert heard(packets).jitter_ns == pytest.approx(0, abs=1)


@pytest.mark.parametrize(("rate", "step"), [(90_000, 3600), (48_000, 960), (8000, 160)])
def test_the_clock_rate_of_a_dynamic_type_is_found(rate: int, step: int) -> None:
    clock = RtpClock(None)
    spacing = step * SECOND // rate
    times = [clock.to_ns(step * n, 7 * SECOND + spacing * n) for n in range(20)]
    settled = -(-200 * MS // spacing)
    assert times[:settled] == [None] * settled
    assert times[settled:] == [pytest.approx(spacing * n) for n in range(settled, 20)]


def test_media_time_may_step_back() -> None:
    clock = RtpClock(90_000)
    stamps = [9000, 9000 + (1 << 31) - 1, 9000, (9000 - (1 << 31)) & 0xFFFFFFFF]
    ticks = [0, (1 << 31) - 1, 0, -(1 << 31)]
    assert [clock.to_ns(stamp, 0) for stamp in stamps] == [
        pytest.approx(tick * SECOND / 90_000) for tick in ticks
    ]


def test_the_jitter_filter_forgets() -> None:
    jitter = Jitter()
    jitter.update(0, 0)
    jitter.update(0, 16 * MS)
    for _ in range(16):
        jitter.update(0, 16 * MS)
    assert jitter.ns == pytest.approx(MS * (15 / 16) ** 16)


def test_rtp_is_counted_by_its_numbers() -> None:
    numbers = [65533, 65534, 65534, 1, 0, 2]
    (row,) = streams(heard(datagram(rtp(n), at=MS * i) for i, n in enumerate(numbers)))
    assert (row["kind"], row["stream"]) == (RTP, "1")
    assert [row[name] for name in COUNTERS] == [6, 600, 1, 1, 1]
    assert (row["first_seq"], row["last_seq"] & 0xFFFF) == (65533, 2)


def test_a_new_ssrc_is_a_new_stream_and_no_loss() -> None:
    marks = [rtp(n) for n in range(5)] + [rtp(40_000 + n, ssrc=2) for n in range(5)]
    statistics = heard(datagram(mark) for mark in marks)
    assert [(row["stream"], row["packets"]) for row in streams(statistics)] == [("1", 5), ("2", 5)]
    assert statistics.total("lost") == 0


CHANCE = [
    ([rtp(5), rtp(5 + 3001)], "far ahead"),
    ([rtp(5), rtp(5 - 3001)], "far behind"),
    ([rtp(5, ssrc=one) for one in range(9)], "ever new sources"),
    ([rtp(5), rtp(6, ssrc=2), NO_MARK], "two sources and no header"),
    ([rtp(5), NO_MARK], "no header"),
    ([NO_MARK, rtp(5), NO_MARK], "no header after text"),
    ([NO_MARK, NO_MARK, rtp(5), rtp(9000, ssrc=3), rtp(40_077)], "no two alike after text"),
]


@pytest.mark.parametrize(("marks", "_why"), CHANCE, ids=[why for _, why in CHANCE])
def test_one_chance_header_becomes_a_plain_stream(marks: list[Mark], _why: str) -> None:
    statistics = heard(datagram(mark, at=MS * n) for n, mark in enumerate(marks))
    (row,) = streams(statistics)
    assert (row["kind"], row["stream"], row["first_seq"]) == (PLAIN, None, None)
    assert (row["packets"], row["bytes"]) == (len(marks), 100 * len(marks))
    assert (row["lost"], row["max_gap_ms"]) == (0, 1)
    assert not statistics.numbered


@pytest.mark.parametrize("step", [0, 1, 3000, -3000])
def test_a_second_header_that_follows_makes_it_rtp(step: int) -> None:
    statistics = Statistics()
    assert statistics.update(datagram(rtp(5))).kind == RTP
    assert statistics.update(datagram(rtp(5 + step))).kind == RTP
    assert statistics.update(datagram(NO_MARK)) == NO_MARK
    assert statistics.update(datagram(rtp(5 + step + 1))).kind == RTP
    assert {row["kind"]: row["packets"] for row in streams(statistics)} == {RTP: 3, PLAIN: 1}


def test_several_sources_may_share_a_flow() -> None:
    marks = [rtp(seq, ssrc=ssrc) for seq in range(100) if seq != 50 for ssrc in (1, 2, 3)]
    rows = streams(heard(datagram(mark) for mark in marks))
    assert [(row["kind"], row["packets"], row["lost"]) for row in rows] == [(RTP, 99, 1)] * 3


def test_one_header_proves_nothing() -> None:
    assert not heard([datagram(rtp(5))]).numbered
    assert heard([datagram(rtp(5)), datagram(rtp(6))]).numbered


def test_random_payload_is_one_stream_without_loss() -> None:
    chance = random.Random(1)  # noqa: S311
    payloads = [chance.randbytes(100) for _ in range(2000)]
    marks = [recognise(payload) for payload in payloads]
    assert sum(mark.kind == RTP for mark in marks) > 50
    statistics = heard(datagram(mark, at=MS * n) for n, mark in enumerate(marks))
    (row,) = streams(statistics)
    assert [row[name] for name in COUNTERS] == [2000, 200_000, 0, 0, 0]
    assert not statistics.numbered


def test_rtp_that_is_asked_for_is_not_doubted() -> None:
    statistics = heard([datagram(rtp(5)), datagram(rtp(6, ssrc=2))], assume_rtp=True)
    assert [row["kind"] for row in streams(statistics)] == [RTP, RTP]


# MPEG-TS


def test_transport_packets_are_counted_per_pid() -> None:
    first = ts((0x100, 14), (0x100, 15), (0x101, 3))
    second = ts((0x100, 0), (0x101, 4), (0x101, 7))  # two of 0x101 are missing
    third = ts((0x100, 0), (0x100, 2))  # one comes twice, one is missing
    statistics = heard(datagram(mark) for mark in (first, second, third))
    (row,) = streams(statistics)
    assert [row[name] for name in COUNTERS] == [3, 300, 3, 1, 0]
    assert (row["kind"], row["first_seq"]) == (MPEGTS, None)
    (stream,) = statistics.streams.values()
    assert stream.loss_percent == pytest.approx(100 * 3 / 10)


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_transport_packets_of_a_datagram_that_comes_twice_are_no_loss(size: int) -> None:
    """Sixteen of one PID have the same counters in every datagram: then nothing came twice."""
    sent = [0, 1, 2, 3, 3, 4, 6]  # 5 is lost
    rows = [[(0x100, (number * size + at) & 0x0F) for at in range(size)] for number in sent]
    statistics = heard(datagram(ts(*row)) for row in rows)
    assert statistics.total("lost") == size % 16
    assert statistics.total("duplicates") == size % 16


def test_an_announced_discontinuity_is_no_loss() -> None:
    jump = Mark(MPEGTS, counters=((0x100, 9, True),))
    again = Mark(MPEGTS, counters=((0x100, 9, True),))
    statistics = heard(datagram(mark) for mark in (ts((0x100, 1)), jump, again))
    assert (statistics.total("lost"), statistics.total("duplicates")) == (0, 0)
    statistics.update(datagram(ts((0x100, 11))))
    assert statistics.total("lost") == 1


def test_pids_beyond_bounds_are_not_counted_as_loss() -> None:
    everything = [datagram(ts((pid, step))) for step in (0, 5) for pid in range(300)]
    assert heard(everything).total("lost") == 256 * 4


# Streams and totals


def test_probe_streams_are_told_apart_by_their_id() -> None:
    statistics = heard(datagram(probe(n, stream=0xA + n % 2)) for n in range(10))
    rows = streams(statistics)
    assert [row["stream"] for row in rows] == ["a", "b"]
    assert [(row["packets"], row["lost"]) for row in rows] == [(5, 4), (5, 4)]
    assert statistics.total("lost") == 8


def test_interleaved_sources_do_not_disturb_each_other() -> None:
    everything = []
    for n in range(50):
        everything.append(datagram(rtp(n), src="10.0.0.1", at=n * MS))
        everything.append(datagram(rtp(30_000 + n), src="10.0.0.2", at=n * MS))
        everything.append(datagram(rtp(2 * n), src="10.0.0.1", sport=4001, at=n * MS))
        everything.append(datagram(probe(n), src="10.0.0.3", at=n * MS))
        everything.append(datagram(NO_MARK, src="10.0.0.4", at=n * MS))
    rows = streams(heard(everything))
    assert [(row["src"], row["sport"], row["kind"], row["lost"]) for row in rows] == [
        ("10.0.0.1", 4000, RTP, 0),
        ("10.0.0.2", 4000, RTP, 0),
        ("10.0.0.1", 4001, RTP, 49),
        ("10.0.0.3", 4000, PROBE, 0),
        ("10.0.0.4", 4000, PLAIN, 0),
    ]
    assert all(row["packets"] == 50 for row in rows)


def test_the_summary_counts_what_came() -> None:
    times = (0, 10 * MS, 60 * MS, 2000 * MS)
    statistics = heard(datagram(probe(n), at=at) for n, at in enumerate(times))
    summary = statistics.summary(4)
    (row,) = streams(statistics)
    assert (summary["packets"], summary["bytes"], summary["elapsed_s"]) == (4, 400, 4)
    assert (summary["packets_per_s"], summary["bits_per_s"]) == (1, 800)
    assert (row["max_gap_ms"], row["packets_per_s"], row["ttl"]) == (1940, 1.5, 1)
    assert (row["src"], row["dst"], row["dport"], row["iface"]) == (
        "10.0.0.1",
        "239.1.1.1",
        5004,
        "eth0",
    )


def test_rates_are_of_the_time_between_the_first_and_the_last() -> None:
    (row,) = streams(heard(datagram(at=second * SECOND, length=125) for second in range(3)))
    assert (row["packets_per_s"], row["bits_per_s"]) == (1, 1000)


def test_a_clock_set_back_breaks_no_figure() -> None:
    (row,) = streams(heard(datagram(at=at) for at in (SECOND, 0)))
    assert (row["max_gap_ms"], row["packets_per_s"]) == (0, 0)
    assert Statistics().summary(0)["packets_per_s"] == 0


def test_streams_are_bounded_and_those_forgotten_stay_in_the_totals() -> None:
    statistics = Statistics()
    sources = [f"10.0.{n // 250}.{n % 250}" for n in range(MAX_STREAMS + 100)]
    for src in sources:
        for seq in (5, 7, 7, 4):
            statistics.update(datagram(probe(seq), src=src))
    assert (len(statistics.streams), statistics.evicted) == (MAX_STREAMS, 100)
    total = len(sources)
    summary = statistics.summary(1)
    assert [summary[name] for name in COUNTERS] == [4 * total, 400 * total, total, total, total]
    assert summary["streams_evicted"] == 100


def test_the_quietest_stream_makes_room() -> None:
    statistics = Statistics()
    for n in range(MAX_STREAMS):
        statistics.update(datagram(probe(0, stream=n)))
    statistics.update(datagram(probe(1, stream=0)))
    statistics.update(datagram(probe(0, stream=MAX_STREAMS)))
    idents = {stream.ident for stream in statistics.streams.values()}
    assert 0 in idents
    assert 1 not in idents


@pytest.mark.parametrize(("before", "each"), [(2, 1), (4, 3), (16, 15)])
def test_those_heard_more_often_stay_through_a_flood(before: int, each: int) -> None:
    statistics = Statistics()
    for seq in range(before):
        statistics.update(datagram(probe(seq), src="10.0.0.1"))
    for n in range(2 * MAX_STREAMS):
        for seq in range(each):
            statistics.update(datagram(probe(seq, stream=n), src="10.0.0.2"))
    statistics.update(datagram(probe(before + 1), src="10.0.0.1"))
    (known,) = (one for one in statistics.streams.values() if one.src == "10.0.0.1")
    assert (known.packets, known.lost) == (before + 1, 1)
    assert len(statistics.streams) == MAX_STREAMS


def test_gaps_of_all_streams_have_an_end_and_each_has_some() -> None:
    """One in two numbers from ever more senders: the first of them keep what they have."""
    statistics = Statistics()
    for stream in range(40):
        for seq in range(0, 2 * 4000, 2):
            statistics.update(datagram(probe(seq, stream=stream)))
    known = list(statistics.streams.values())
    held = [len(one._sequence._starts) for one in known]
    assert sum(held) <= PLACES + OWN * len(held)
    assert min(held) == OWN
    statistics.update(datagram(probe(1, stream=0)))  # far back, and remembered
    statistics.update(datagram(probe(7997, stream=39)))  # among the few that it has for certain
    assert [known[0].reordered, known[39].reordered] == [1, 1]
    assert statistics.total("lost") == 40 * 3999 - 2


def test_pids_of_all_streams_have_an_end() -> None:
    statistics = Statistics()
    everyone = [(pid, 1) for pid in range(256)]
    for stream in range(400):
        statistics.update(datagram(ts(*everyone), src=f"10.0.{stream >> 8}.{stream & 255}"))
    held = [len(one._continuity._last) for one in statistics.streams.values()]
    assert sum(held) <= PLACES + OWN * len(held)
    assert (max(held), min(held)) == (256, OWN)


def test_doubts_about_rtp_are_bounded_too() -> None:
    statistics = Statistics()
    for n in range(2 * MAX_STREAMS):
        statistics.update(datagram(rtp(1), src=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"))
    assert len(statistics._verdicts) <= MAX_STREAMS


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.one_of(
            st.builds(probe, st.integers(0, 20), st.integers(1, 2)),
            st.builds(rtp, st.integers(0, 20), st.integers(1, 2)),
            st.builds(ts, st.tuples(st.integers(1, 2), st.integers(0, 15))),
            st.just(NO_MARK),
        ),
        st.booleans(),
    ),
    max_size=60,
)


@given(ARRIVALS)
def test_intervals_add_up_to_the_summary(arrivals: list[tuple[str, Mark, bool]]) -> None:
    statistics = Statistics()
    reports = []
    for src, mark, due in arrivals:
        statistics.update(datagram(mark, src=src))
        if due:
            reports.append(statistics.interval(1))
    reports.append(statistics.interval(1))
    summary: dict[str, Any] = statistics.summary(1)
    told: list[dict[str, Any]] = list(reports)
    for name in COUNTERS:
        assert sum(report[name] for report in told) == summary[name]
        for report in told:
            assert report[name] == sum(row[name] for row in report["streams"])
    assert summary["packets"] == sum(row["packets"] for row in summary["streams"])


def test_intervals_tell_of_streams_that_made_room() -> None:
    statistics = Statistics()
    for n in range(MAX_STREAMS + 50):
        statistics.update(datagram(probe(0, stream=n)))
        statistics.update(datagram(probe(2, stream=n)))
    report = statistics.interval(1)
    assert (report["packets"], report["lost"]) == (2 * MAX_STREAMS + 100, MAX_STREAMS + 50)
    assert statistics.interval(1)["packets"] == 0


def test_an_interval_shows_only_streams_that_moved() -> None:
    statistics = heard([datagram(probe(0, stream=1)), datagram(probe(0, stream=2))])
    statistics.interval(1)
    statistics.update(datagram(probe(3, stream=2)))
    report: dict[str, Any] = statistics.interval(0.5)
    assert [(row["stream"], row["packets"], row["lost"]) for row in report["streams"]] == [
        ("2", 1, 2)
    ]
    assert (report["packets_per_s"], report["bits_per_s"]) == (2, 1600)


# The verdict


def lossy(numbers: Iterable[int]) -> Statistics:
    return heard(datagram(probe(n, sent=n * MS), at=n * MS) for n in numbers)


NOTHING = Statistics()
THREE = lossy(range(3))
QUARTER_LOST = lossy([0, 1, 3])
SHAKY = heard([datagram(probe(0)), datagram(probe(1), at=16 * MS)])  # 1 ms


@pytest.mark.parametrize(
    ("asked", "met_by", "missed_by"),
    [
        (Expectation(), lossy([0]), NOTHING),
        (Expectation(expect=3), THREE, lossy(range(2))),
        (Expectation(enough_at=3), THREE, lossy(range(2))),
        (Expectation(enough_at=1, expect=3), THREE, lossy(range(2))),
        (Expectation(expect_none=True), NOTHING, THREE),
        (Expectation(expect_from=("10.0.0.1",)), THREE, heard([datagram(src="10.0.0.2")])),
        (Expectation(expect_from=("10.0.0.1",)), THREE, NOTHING),
        (Expectation(max_loss_percent=25), QUARTER_LOST, lossy([0, 1, 4])),
        (Expectation(max_loss_percent=0), THREE, QUARTER_LOST),
        (Expectation(max_loss_percent=50), THREE, NOTHING),
        (
            Expectation(max_jitter_ms=1),
            SHAKY,
            heard([datagram(probe(0)), datagram(probe(1), at=17 * MS)]),
        ),
        (Expectation(max_jitter_ms=0), THREE, SHAKY),
    ],
)
def test_a_verdict(asked: Expectation, met_by: Statistics, missed_by: Statistics) -> None:
    assert asked.unmet(met_by) == []
    assert asked.unmet(missed_by)


def test_every_unmet_expectation_is_named() -> None:
    asked = Expectation(
        expect=9, expect_from=("10.0.0.1", "10.0.0.8"), max_loss_percent=1, max_jitter_ms=0.1
    )
    statistics = heard([datagram(probe(0)), datagram(probe(2), at=16 * MS)])
    named = ("2 of 9", "from 10.0.0.8", "33.33 %, allowed 1 %", "1.000 ms, allowed 0.1 ms")
    unmet = asked.unmet(statistics)
    assert len(unmet) == len(named)
    assert all(words in phrase for words, phrase in zip(named, unmet, strict=True))


def test_loss_is_judged_by_the_worst_stream() -> None:
    statistics = heard(
        [*(datagram(probe(n)) for n in range(1000)), datagram(probe(0, 2)), datagram(probe(2, 2))]
    )
    assert Expectation(max_loss_percent=30).unmet(statistics)


@pytest.mark.parametrize(
    ("asked", "measured", "unheard"),
    [
        (Expectation(expect_none=True), NOTHING, Unheard(0.1)),
        (Expectation(expect_none=True), NOTHING, Unheard(still=True)),
        (Expectation(max_loss_percent=0), THREE, Unheard(still=True)),
        (Expectation(max_jitter_ms=0), THREE, Unheard(0.1, still=True)),
    ],
)
def test_to_be_deaf_satisfies_nobody(
    asked: Expectation, measured: Statistics, unheard: Unheard
) -> None:
    with pytest.raises(VerdictError, match="deaf"):
        asked.unmet(measured, unheard)
    assert asked.unmet(measured) == []


def test_what_is_certain_is_said_even_by_the_deaf() -> None:
    deaf = Unheard(1, still=True)
    assert Expectation(expect_none=True).unmet(THREE, deaf)
    assert Expectation(max_loss_percent=1).unmet(QUARTER_LOST, deaf)
    assert Expectation(expect=9, max_loss_percent=1).unmet(THREE, deaf)
    assert Expectation(expect=3).unmet(THREE, deaf) == []
    assert Expectation(max_loss_percent=0).unmet(THREE, Unheard(1)) == [], "it would be lost"


@pytest.mark.parametrize(
    ("asked", "marks"),
    [
        (Expectation(max_loss_percent=100), [NO_MARK]),
        (Expectation(max_jitter_ms=100), [NO_MARK]),
        (Expectation(max_jitter_ms=100), [ts((0x100, 1)), ts((0x100, 2))]),
    ],
)
def test_what_was_not_measured_gets_no_verdict(asked: Expectation, marks: list[Mark]) -> None:
    with pytest.raises(VerdictError) as refused:
        asked.unmet(heard(datagram(mark) for mark in marks))
    assert refused.value.hint


def test_the_count_that_ends_a_run() -> None:
    assert Expectation().enough is None
    assert Expectation(expect=5).enough is None
    assert Expectation(enough_at=5).enough == 5
    assert Expectation(expect_none=True).enough == 1


def test_rtcp_on_the_port_of_a_stream_does_not_make_it_plain() -> None:
    first, second = (Mark(RTP, 1, seq, 160 * seq, 8000) for seq in (5, 6))
    statistics = heard(datagram(mark) for mark in (first, Mark("rtcp"), second))
    assert {row["kind"]: row["packets"] for row in streams(statistics)} == {"rtp": 2, "rtcp": 1}
