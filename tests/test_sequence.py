"""Sequence numbers to counts, checked against a model that remembers every number."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mcastctl.model.sequence import (
    DUPLICATE,
    LATE,
    MAX_BACK,
    MAX_GAP,
    MAX_RANGES,
    NEW,
    STRAY,
    SequenceTracker,
)


class Remembered:
    """The same counts from the set of all numbers heard; numbers do not wrap here."""

    def __init__(self) -> None:
        self.heard: set[int] = set()
        self.duplicates = self.reordered = 0

    def update(self, number: int) -> str:
        if number in self.heard:
            self.duplicates += 1
            return DUPLICATE
        late = bool(self.heard) and number < max(self.heard)
        self.reordered += late
        self.heard.add(number)
        return LATE if late else NEW

    @property
    def lost(self) -> int:
        return max(self.heard) - min(self.heard) + 1 - len(self.heard)


def heard(*numbers: int, bits: int = 64) -> SequenceTracker:
    tracker = SequenceTracker(bits)
    for number in numbers:
        tracker.update(number)
    return tracker


def counts(tracker: SequenceTracker) -> tuple[int, int, int, int]:
    return tracker.unique, tracker.lost, tracker.duplicates, tracker.reordered


# Steps from the highest number so far: mostly small, and up to what still counts as late.
STEPS = st.integers(-5, 5) | st.integers(-MAX_BACK, 2000)
NARROW_STARTS = st.integers(0, 0xFFFF) | st.integers(0xFFF0, 0xFFFF)


def follow(tracker: SequenceTracker, start: int, steps: list[int], mask: int) -> None:
    """Check each verdict and every count against the model."""
    model = Remembered()
    highest = number = start
    for step in [0, *steps]:
        number = highest + step
        highest = max(highest, number)
        assert tracker.update(number & mask) == model.update(number)
        assert counts(tracker) == (
            len(model.heard),
            model.lost,
            model.duplicates,
            model.reordered,
        )
    assert tracker.highest - tracker.first == max(model.heard) - min(model.heard)
    assert (tracker.highest - max(model.heard)) & mask == 0
    assert tracker.strays == tracker.restarts == 0


@settings(max_examples=400)
@given(NARROW_STARTS, st.lists(STEPS, max_size=120))
def test_sixteen_bits_count_as_if_they_never_wrapped(start: int, steps: list[int]) -> None:
    follow(SequenceTracker(16), start, steps, 0xFFFF)


@settings(max_examples=400)
@given(st.integers(0, 2**64 - 1), st.lists(STEPS | st.integers(1, MAX_GAP), max_size=60))
def test_sixty_four_bits_count_gaps_of_any_size(start: int, steps: list[int]) -> None:
    follow(SequenceTracker(64), start, steps, 2**64 - 1)


@given(st.integers(0, 0xFFFF), st.permutations(range(40)), st.sets(st.integers(1, 38)))
def test_the_order_of_arrival_does_not_change_the_loss(
    start: int, order: list[int], missing: set[int]
) -> None:
    numbers = [start + place for place in order if place not in missing]
    tracker = heard(*(number & 0xFFFF for number in numbers), bits=16)
    assert tracker.unique == len(numbers)
    assert tracker.lost == len(missing)
    assert tracker.duplicates == tracker.strays == 0


@given(st.lists(st.integers(0, 0xFFFF), max_size=200), st.sampled_from([16, 64]))
def test_any_numbers_keep_the_books_balanced(numbers: list[int], bits: int) -> None:
    tracker = heard(*numbers, bits=bits)
    assert tracker.unique + tracker.duplicates + tracker.strays == len(numbers)
    assert min(counts(tracker)) >= 0
    assert tracker.strays >= 0
    if numbers and not tracker.restarts:
        assert tracker.unique + tracker.lost == tracker.highest - tracker.first + 1


def test_a_late_arrival_turns_loss_into_reordering() -> None:
    tracker = heard(10, 11, 14)
    assert counts(tracker) == (3, 2, 0, 0)
    assert tracker.update(12) == LATE
    assert counts(tracker) == (4, 1, 0, 1)
    assert tracker.update(13) == LATE
    assert counts(tracker) == (5, 0, 0, 2)


def test_a_duplicate_never_hides_a_loss() -> None:
    tracker = heard(10, 12)
    assert [tracker.update(number) for number in (12, 10, 12, 12)] == [DUPLICATE] * 4
    assert counts(tracker) == (2, 1, 4, 0)
    assert tracker.update(11) == LATE
    assert tracker.update(11) == DUPLICATE
    assert counts(tracker) == (3, 0, 5, 1)


def test_the_stream_may_have_begun_earlier_than_it_seemed() -> None:
    tracker = heard(12, 10)
    assert counts(tracker) == (2, 1, 0, 1)
    assert tracker.first == 10
    assert tracker.update(11) == LATE
    assert counts(tracker) == (3, 0, 0, 2)


def test_numbers_wrap_without_loss() -> None:
    tracker = heard(0xFFFE, 0xFFFF, 0, 1, bits=16)
    assert counts(tracker) == (4, 0, 0, 0)
    assert (tracker.first, tracker.highest & 0xFFFF) == (0xFFFE, 1)
    assert counts(heard(2**64 - 1, 0)) == (2, 0, 0, 0)
    twice_round = heard(*(number & 0xFFFF for number in range(0, 140_000, 7)), bits=16)
    assert counts(twice_round) == (20_000, 19_999 * 6, 0, 0)


def test_one_number_from_nowhere_is_a_stray_and_no_loss() -> None:
    tracker = heard(*range(5000, 5010))
    assert tracker.update(17) == STRAY
    assert tracker.update(5010) == NEW
    assert counts(tracker) == (11, 0, 0, 0)
    assert (tracker.strays, tracker.restarts) == (1, 0)


def test_how_far_back_is_still_late() -> None:
    assert heard(5000).update(5000 - MAX_BACK) == LATE
    assert heard(5000, 6000).update(5000 - MAX_BACK) == LATE
    assert heard(5000).update(5000 - MAX_BACK - 1) == STRAY
    assert heard(0, 5000).update(1) == LATE  # further back, but within what was heard
    assert heard(5000).update(5000 + MAX_GAP) == NEW
    assert heard(5000).update(5000 + MAX_GAP + 1) == STRAY


def test_half_the_numbers_lie_ahead_and_half_behind() -> None:
    assert heard(40_000, bits=16).update((40_000 + 32_767) & 0xFFFF) == NEW
    assert heard(40_000, bits=16).update((40_000 + 32_768) & 0xFFFF) == STRAY


def test_a_filled_gap_takes_no_memory() -> None:
    tracker = heard(0, 5, 2, 4, 1, 3)
    assert counts(tracker) == (6, 0, 0, 4)
    assert tracker._starts == tracker._stops == []


def test_two_in_a_row_from_nowhere_are_a_restart() -> None:
    tracker = heard(5000, 5002)
    assert [tracker.update(number) for number in (7, 8, 9, 11)] == [STRAY, NEW, NEW, NEW]
    assert (tracker.restarts, tracker.strays) == (1, 0)
    assert (tracker.first, tracker.highest) == (7, 11)
    assert counts(tracker) == (6, 2, 0, 0)  # the loss before the restart stays
    assert tracker.update(10) == LATE
    assert counts(tracker) == (7, 1, 0, 1)


def test_two_strays_that_do_not_follow_each_other_are_no_restart() -> None:
    tracker = heard(5000, 7, 9, 5001)
    assert (tracker.restarts, tracker.strays) == (0, 2)
    assert counts(tracker) == (2, 0, 0, 0)


def test_a_sixteen_bit_restart() -> None:
    tracker = heard(40_000, 40_001, 20_000, 20_001, bits=16)
    assert (tracker.restarts, tracker.strays) == (1, 0)
    assert counts(tracker) == (4, 0, 0, 0)


def test_memory_is_bounded_however_many_gaps() -> None:
    tracker = SequenceTracker()
    gaps = 1_000_000
    for number in range(0, 2 * gaps + 1, 2):
        tracker.update(number)
    assert counts(tracker) == (gaps + 1, gaps, 0, 0)
    assert len(tracker._starts) == len(tracker._stops) == MAX_RANGES
    remembered = 2 * (gaps - MAX_RANGES) + 1
    assert tracker.update(remembered) == LATE
    assert tracker.update(remembered - 2) == STRAY
    assert tracker.strays == 1
    assert counts(tracker) == (gaps + 2, gaps - 1, 0, 1)


def test_memory_is_bounded_when_a_gap_is_cut_to_pieces() -> None:
    tracker = heard(0, 30_000)
    for number in range(2, 30_000, 2):
        tracker.update(number)
    assert len(tracker._starts) <= MAX_RANGES
    assert tracker.unique + tracker.lost == 30_001
    assert tracker.unique + tracker.strays == 30_000 // 2 + 1
