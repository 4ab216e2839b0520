"""Figures against published values and against brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.statistic import Sample, Tally, microseconds, rounded, wilson

DURATIONS = st.lists(st.integers(0, 10**12), max_size=200)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # R. G. Newcombe, "Two-sided confidence intervals for the single proportion: comparison of
        # seven methods", Statistics in Medicine 17 (1998) 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_the_published_one(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6), st.data())
def test_the_interval_holds_the_rate_and_stays_a_probability(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored = wilson(n - successes, n)
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-12)


def test_without_trials_nothing_is_known():
    assert wilson(0, 0) == (0.0, 1.0)
    assert Tally().rate == 0.0


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(ValueError, match="cannot judge"):
        wilson(successes, n)


def test_the_rates_of_the_documents_example():
    assert (Tally(42, 3).rate, Tally(19, 1).rate) == (93.3, 95.0)


def test_figures_of_a_sample_worked_out_by_hand():
    sample = Sample()
    for seconds in (4.0, 1.0, 3.0, 2.0):
        sample.add(microseconds(seconds))
    assert sample.view() == {"n": 4, "mean": 2.5, "p50": 2.0, "p95": 4.0, "min": 1.0, "max": 4.0}


def test_an_empty_sample_has_no_figures():
    assert Sample().view() == {
        "n": 0, "mean": None, "p50": None, "p95": None, "min": None, "max": None
    }  # fmt: skip


@given(DURATIONS.filter(bool), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(durations, percent):
    sample = Sample()
    for duration in durations:
        sample.add(duration)
    found = sample.percentile(percent)
    enough = [
        value
        for value in durations
        if sum(other <= value for other in durations) * 100 >= percent * len(durations)
    ]
    assert found == rounded(min(enough))


@given(st.integers(0, 10**15))
def test_three_significant_digits_are_kept(duration):
    shown = rounded(duration)
    assert abs(shown - duration) * 200 <= duration
    assert not set(str(shown)[3:]) - {"0"}
    assert rounded(shown) == shown


def test_a_sample_of_a_month_takes_no_more_room_than_one_of_a_day():
    sample = Sample()
    for duration in range(0, 10**9, 9973):
        sample.add(duration)
    assert len(sample) == 10**9 // 9973 + 1
    assert len(sample.counts) <= 900 * 9


@given(DURATIONS, DURATIONS, DURATIONS)
def test_merging_samples_is_joining_them(first, second, third):
    def sample(values: list[int]) -> Sample:
        made = Sample()
        for value in values:
            made.add(value)
        return made

    left = sample(first)
    left.merge(sample(second))
    left.merge(sample(third))
    rest = sample(second)
    rest.view()
    rest.merge(sample(third))
    right = sample(first)
    right.merge(rest)
    assert left.view() == right.view() == sample(first + second + third).view()
