"""When to send next, how many answers are enough, and when a run ends. Time is simulated."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastctl.model.limits import Limits
from mcastctl.model.pacing import (
    DEBT_NS,
    GROUP_NS,
    HASTE,
    IN_ALL,
    OF_SOURCE,
    Pacer,
    SendTimes,
    SourceLimit,
)

MS = 1_000_000
SECOND = 1_000 * MS


def send_times(
    interval_ns: float, until_ns: int, pauses: dict[int, int] | None = None
) -> list[int]:
    """Send whenever the pacer says; after the send of that number, sleep `pauses[number]` ns."""
    pacer = Pacer(interval_ns, 0)
    now = 0
    times: list[int] = []
    while True:
        now = max(now, int(pacer.next_ns))
        if now >= until_ns:
            return times
        times.append(now)
        pacer.sent(now)
        now += (pauses or {}).get(len(times), 0)


def most_within(times: list[int], window_ns: int) -> int:
    return max(bisect_left(times, start + window_ns) - at for at, start in enumerate(times))


def test_sends_are_an_interval_apart_from_the_start() -> None:
    assert send_times(100 * MS, SECOND) == [number * 100 * MS for number in range(10)]


def test_the_rate_holds_for_intervals_that_are_no_whole_number() -> None:
    assert len(send_times(SECOND / 3000, SECOND)) == pytest.approx(3000, abs=1)


def test_small_lateness_is_made_up() -> None:
    oversleeping = dict.fromkeys(range(1, 20_000), 100_000)  # 0.1 ms after each send
    assert len(send_times(SECOND / 5000, SECOND, oversleeping)) == 5000
    assert len(send_times(SECOND / 5000, SECOND, {100: DEBT_NS})) == 5000


def test_a_pause_does_not_end_in_a_burst() -> None:
    paused = send_times(10 * MS, 10 * SECOND, {100: 5 * SECOND})
    assert len(paused) == pytest.approx(500 + DEBT_NS / (10 * MS), abs=2)
    assert most_within(paused, 10 * MS) == HASTE
    fast = send_times(SECOND / 10_000, 2 * SECOND, {100: SECOND})
    assert most_within(fast, MS) <= HASTE * 10 + 1
    assert len(fast) == pytest.approx(10_000 + DEBT_NS * 10_000 / SECOND, abs=2)


def test_a_slow_pace_makes_nothing_up() -> None:
    assert send_times(SECOND, 12 * SECOND, {3: int(4.5 * SECOND)})[2:6] == [
        *(2 * SECOND, int(6.5 * SECOND)),
        *(int(7.4 * SECOND), int(8.4 * SECOND)),
    ]


@given(
    st.sampled_from([MS // 10, MS, 7 * MS]),
    st.dictionaries(st.integers(1, 100), st.integers(0, 50 * MS)),
)
def test_no_stretch_of_time_gets_more_than_its_share_and_the_credit(
    interval_ns: int, pauses: dict[int, int]
) -> None:
    times = send_times(interval_ns, 100 * interval_ns, pauses)
    for count in (2, 10, 50):
        for first, last in zip(times, times[count:], strict=False):
            assert last - first >= count * interval_ns - DEBT_NS - interval_ns
            assert last - first >= count * interval_ns / HASTE - count  # whole nanoseconds


@given(
    st.sampled_from([1000, 50_000, 200_000, 1_000_000]),
    st.lists(st.integers(0, 300_000), max_size=200),
)
def test_groups_keep_the_rate_and_come_in_no_bursts(rate: int, oversleeps: list[int]) -> None:
    pacer, now, sent = Pacer(SECOND / rate, 0), 0, 0
    assert pacer.group == max(1, GROUP_NS * rate // SECOND)
    for oversleep in oversleeps:
        now = max(now, int(pacer.group_ns)) + oversleep
        due = pacer.due(now)
        assert due >= pacer.group
        number = min(due, 4 * pacer.group)
        pacer.sent(now, number)
        sent += number
        assert pacer.due(now) == 0
        assert sent <= now * rate / SECOND + 1
    behind = now * rate / SECOND + 1 - sent
    assert behind <= max(300_000 * rate / SECOND, 1) * max(len(oversleeps), 1)


def test_a_rate_is_what_came_after_the_first_over_the_time_since() -> None:
    times = SendTimes()
    assert times.per_s() is None
    times.note(5 * SECOND)
    assert (times.per_s(), times.worst_gap_ns) == (None, 0)
    for second in (6, 7, 9):
        times.note(second * SECOND)
    assert (times.per_s(), times.worst_gap_ns) == (0.75, 2 * SECOND)
    times.note(10 * SECOND, 64)
    assert times.per_s() == pytest.approx(4 / 5)  # the last burst took no time yet


def test_a_source_gets_its_burst_and_then_its_rate() -> None:
    limit = SourceLimit(1000, 5)

    def take(now: int) -> bool:
        return limit.refusal("a", now) is None

    assert [take(0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not take(199 * MS)
    assert take(200 * MS)
    assert not take(200 * MS)
    assert [take(100 * SECOND) for _ in range(7)] == [True] * 5 + [False] * 2


@given(st.lists(st.tuples(st.integers(0, 200 * MS), st.integers(0, 3)), max_size=200))
def test_nobody_gets_more_than_burst_and_rate(asked: list[tuple[int, int]]) -> None:
    limit, now, given_out = SourceLimit(20, 8, keep=3), 0, Counter[str]()
    for gap, who in asked:
        now += gap
        given_out[str(who)] += limit.refusal(str(who), now) is None
        assert given_out.total() <= 20 + now * 20 / SECOND + 1e-6
        if len(given_out) <= 3:  # nobody was forgotten
            assert max(given_out.values()) <= 8 + now * 8 / SECOND + 1e-6


def flood(limit: SourceLimit, sources: list[str], seconds: int) -> dict[str, int]:
    """Every source asks each millisecond; return how often each one got an answer."""
    answered = dict.fromkeys(sources, 0)
    for now in range(0, seconds * SECOND, MS):
        for source in sources:
            answered[source] += limit.refusal(source, now) is None
    return answered


def test_one_flooding_source_gets_its_own_share_and_no_more() -> None:
    answered = flood(SourceLimit(1000, 10), ["a"], 10)
    assert answered["a"] == pytest.approx(10 + 10 * 10, abs=2)


def test_a_flooding_source_does_not_take_what_belongs_to_others() -> None:
    limit = SourceLimit(100, 10)
    refused = [limit.refusal("flood", now) for now in range(0, SECOND, MS)]
    assert set(refused) == {None, OF_SOURCE}
    assert limit.refusal("calm", SECOND) is None


def test_many_sources_together_stay_below_the_whole() -> None:
    limit = SourceLimit(50, 10)
    answered = flood(limit, [str(number) for number in range(100)], 5)
    assert 0.9 * (50 + 5 * 50) < sum(answered.values()) <= 50 + 5 * 50
    assert limit.refusal("new", 5 * SECOND - MS) == IN_ALL


def test_ever_new_sources_stay_below_the_whole_and_fill_no_memory() -> None:
    limit = SourceLimit(100, 10, keep=16)
    moments = range(0, SECOND, MS // 10)
    answered = sum(limit.refusal(str(now), now) is None for now in moments)
    assert answered == pytest.approx(100 + 100, abs=2)
    assert len(limit._sources) <= 16


def test_who_had_most_is_not_forgotten_for_ever_new_ones() -> None:
    limit = SourceLimit(1000, 10, keep=8)
    assert sum(limit.refusal("greedy", 0) is None for _ in range(20)) == 10
    for number in range(100):
        assert limit.refusal(f"new {number}", number) is None
    assert limit.refusal("greedy", 100) == OF_SOURCE


def test_less_than_one_a_second_is_a_rate_too() -> None:
    slow = flood(SourceLimit(1000, 0.25), ["a"], 8)
    assert slow["a"] == pytest.approx(1 + 0.25 * 8, abs=1)
    whole = flood(SourceLimit(0.5, 100), ["a", "b"], 8)
    assert sum(whole.values()) == pytest.approx(1 + 0.5 * 8, abs=1)


def limits(
    count: int | None = None, timeout_s: float | None = None, idle_s: float | None = None
) -> Limits:
    return Limits(SECOND, count=count, timeout_s=timeout_s, idle_s=idle_s)


def test_without_limits_a_run_never_ends() -> None:
    run = limits()
    assert run.next_ns() is None
    assert run.room(7) == 7
    assert not run.reached(10**18)
    assert run.reason == ""


def test_enough_ends_a_run() -> None:
    run = limits(count=3)
    run.take(2, SECOND)
    assert run.room(5) == 1
    assert not run.reached(SECOND)
    run.take(1, SECOND)
    assert run.room(5) == 0
    assert run.reached(SECOND)
    assert run.reason == "count"


def test_the_deadline_ends_a_run() -> None:
    run = limits(timeout_s=0.5)
    assert run.next_ns() == 1.5 * SECOND
    assert not run.reached(1_500 * MS - 1)
    assert run.reached(1_500 * MS)
    assert run.reason == "timeout"


def test_silence_ends_a_run_and_sound_prolongs_it() -> None:
    run = limits(idle_s=1, timeout_s=10)
    run.take(1, 2 * SECOND)
    run.take(0, 3 * SECOND)
    assert run.next_ns() == 3 * SECOND
    assert not run.reached(3 * SECOND - 1)
    assert run.reached(3 * SECOND)
    assert run.reason == "idle"


def test_enough_comes_before_a_deadline_passed_in_the_same_moment() -> None:
    run = limits(count=1, timeout_s=1, idle_s=1)
    run.take(1, 2 * SECOND)
    assert run.reached(3 * SECOND)
    assert run.reason == "count"


def test_a_reason_from_outside_ends_a_run() -> None:
    run = limits(count=5)
    run.reason = "interrupt"
    assert run.reached(SECOND)
    assert run.reason == "interrupt"
