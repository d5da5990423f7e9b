"""Intervals against scipy and against simulated truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from edgeface.intervals import clustered_rate, independent_rate, judges_difference, pairs_needed, wilson


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_equals_scipy(trials: int, share: float) -> None:
    errors = round(share * trials)
    interval = binomtest(errors, trials).proportion_ci(method="wilson")
    assert wilson(errors / trials, trials) == pytest.approx((interval.low, interval.high), abs=1e-9)
    low, high = wilson(errors / trials, trials)
    assert 0 <= low <= errors / trials <= high <= 1


def test_people_with_one_trial_each_are_independent_trials() -> None:
    errors = np.array([1] * 10 + [0] * 190)
    clustered = clustered_rate(errors, np.ones(200, np.int64))
    assert clustered.value == 0.05
    assert clustered.interval == pytest.approx(independent_rate(10, 200).interval, rel=0.01)


def test_trials_of_the_same_people_tell_less() -> None:
    """Ten of 200 trials fail, all of them one person's: that is one in twenty people."""
    one_person = clustered_rate(np.array([10] + [0] * 19), np.full(20, 10))
    spread_out = clustered_rate(np.array([1] * 10 + [0] * 10), np.full(20, 10))
    assert one_person.value == spread_out.value == 0.05
    assert one_person.interval[1] > 0.15 > 0.1 > spread_out.interval[1]


def test_without_an_error_only_distinct_people_count() -> None:
    zeros = np.zeros(5, np.int64)
    assert clustered_rate(zeros, np.full(5, 1000)).interval == pytest.approx(wilson(0, 5))
    assert clustered_rate(zeros, np.full(5, 1000), people_a_trial=2).interval == pytest.approx(wilson(0, 10))
    assert clustered_rate(zeros, np.full(5, 1000), people_a_trial=2).trials == 2500


@pytest.mark.parametrize("people_a_trial", [1, 2])
def test_coverage_where_people_differ(people_a_trial: int) -> None:
    """Error rates vary from person to person; the interval must hold the rate of all people, Wilson's does not."""
    rng = np.random.default_rng(0)
    people, covered, covered_if_independent = 40, 0, 0
    for _ in range(300):
        own = rng.beta(1, 9, people)  # mean 0.1
        if people_a_trial == 1:
            errors, trials = rng.binomial(20, own), np.full(people, 20)
        else:
            wrong = np.triu(rng.random((people, people)) < (own[:, None] + own) / 2, 1)
            errors, trials = wrong.sum(0) + wrong.sum(1), np.full(people, people - 1)
        rate = clustered_rate(errors, trials, people_a_trial=people_a_trial)
        independent = independent_rate(rate.errors, rate.trials).interval
        covered += rate.interval[0] <= 0.1 <= rate.interval[1]
        covered_if_independent += independent[0] <= 0.1 <= independent[1]
    assert 0.9 <= covered / 300 <= 0.98
    assert covered_if_independent / 300 < 0.85


@pytest.mark.parametrize(("rate", "pairs"), [(1e-1, 30), (1e-2, 300), (1e-3, 3000), (1e-5, 300_000), (1e-6, 3_000_000)])
def test_rule_of_three(rate: float, pairs: int) -> None:
    assert pairs_needed(rate) == pairs
    assert (1 - rate) ** pairs < 0.051  # no error in so many pairs is unlikely at that rate


def test_significant_means_zero_is_outside() -> None:
    assert judges_difference((0.1, 0.2)) and judges_difference((-0.2, -0.1))
    assert not judges_difference((-0.1, 0.1)) and not judges_difference((0.0, 0.1)) and not judges_difference((0, 0))
