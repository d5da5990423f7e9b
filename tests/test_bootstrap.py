"""Weighted measures against repeated pairs, intervals against simulated truth."""

from itertools import combinations
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from edgeface.evaluation.bootstrap import Resampling, intervals
from edgeface.evaluation.weighted import WeightedPairs
from edgeface.metrics import d_prime, roc

RATES = (0.1, 0.01)

weighted_pairs = st.lists(
    st.tuples(st.integers(-8, 8), st.booleans(), st.booleans(), st.integers(0, 3)), min_size=4, max_size=40
).filter(lambda rows: {same for _, same, _, weight in rows if weight} == {True, False})


def columns(rows):
    scores, same, correct, weights = zip(*rows, strict=True)
    return np.array(scores) / 8, np.array(same), np.array(correct), np.array(weights)


@settings(deadline=None)
@given(weighted_pairs)
def test_a_weight_is_a_repetition(rows) -> None:
    scores, same, correct, weights = columns(rows)
    found = WeightedPairs(scores, same, correct, RATES).measure(weights[None].astype(float))[0]
    again, kind = np.repeat(scores, weights), np.repeat(same, weights)
    curve = roc(again, kind)
    slow = [
        np.repeat(correct, weights).mean(),
        curve.eer,
        roc_auc_score(kind, again),
        d_prime(again, kind),
        *(curve.at_fmr(rate)[0] for rate in RATES),
    ]
    assert found == pytest.approx(slow, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(weighted_pairs, st.randoms())
def test_the_order_of_pairs_does_not_matter(rows, random) -> None:
    shuffled = random.sample(rows, len(rows))
    results = []
    for scores, same, correct, weights in (columns(rows), columns(shuffled)):
        results.append(WeightedPairs(scores, same, correct, RATES).measure(weights[None].astype(float))[0])
    assert results[0] == pytest.approx(results[1])
    assert np.all(results[0][:3] >= 0) and np.all(results[0][:3] <= 1)
    assert results[0][4] >= results[0][5]  # a stricter rate accepts no more


def drawn(seed: int, people: int, effect: float, noise: float, genuine: int, impostors: int):
    """Scores with an effect of each person: impostor pairs of mean 0, genuine ones of mean 2, equally spread."""
    rng = np.random.default_rng(seed)
    hard, alike = rng.normal(0, effect, (2, people))
    pairs = np.array(list(combinations(range(people), 2)))
    pairs = pairs[rng.permutation(len(pairs))[:impostors]]
    own = np.repeat(np.arange(people), genuine)
    first, second = np.concatenate([own, pairs[:, 0]]), np.concatenate([own, pairs[:, 1]])
    same = np.arange(len(first)) < len(own)
    scores = np.where(same, 2 + np.sqrt(2) * hard[first], alike[first] + alike[second])
    return scores + rng.normal(0, noise, len(first)), same, first, second


def coverage(people: int, effect: float, noise: float, genuine: int, impostors: int, known: bool = True):
    """Return how often the interval of AUC holds the true value, and its mean width."""
    truth = NormalDist().cdf(2 / np.sqrt(2 * (2 * effect**2 + noise**2)))
    held, widths = [], []
    for seed in range(120):
        scores, same, first, second = drawn(seed, people, effect, noise, genuine, impostors)
        if not known:
            first, second = np.full(len(first), -1), np.full(len(first), -1)
        measure = WeightedPairs(scores, same, scores > 1, ()).measure
        low, high = intervals(measure, Resampling(same, first, second, 200, seed))[2]
        held.append(low <= truth <= high)
        widths.append(high - low)
    return float(np.mean(held)), float(np.mean(widths))


def test_people_who_differ_are_covered_and_pairs_alone_do_not_see_them() -> None:
    held, _ = coverage(40, 0.5, 0.7, 4, 200)
    assert 0.88 <= held <= 0.99
    held, _ = coverage(40, 0.5, 0.7, 4, 200, known=False)
    assert held < 0.8


def test_people_in_few_pairs_are_as_good_as_independent_pairs() -> None:
    """Without the correction the first interval would be a third wider."""
    held, width = coverage(200, 0.0, 1.0, 1, 200)
    assert 0.9 <= held <= 1
    _, of_pairs = coverage(200, 0.0, 1.0, 1, 200, known=False)
    assert width == pytest.approx(of_pairs, rel=0.12)


def report_of(same: npt.NDArray[np.bool_], label: npt.NDArray[np.int64], seed: int = 0, scores=None):
    scores = np.linspace(-1, 1, len(same)) if scores is None else scores
    measure = WeightedPairs(scores, same, np.ones(len(same), bool), (0.1,)).measure
    return intervals(measure, Resampling(same, label, label, 200, seed))


def test_draws_are_reproducible_and_hold_the_measured_value() -> None:
    same = np.random.default_rng(0).random(300) < 0.5
    unknown = np.full(300, -1)
    first = report_of(same, unknown)
    assert first == report_of(same, unknown) != report_of(same, unknown, seed=1)
    curve = roc(np.linspace(-1, 1, 300), same)
    assert first[2][0] < curve.auc < first[2][1]
    assert first[0] == (1.0, 1.0)  # all were right in every draw


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    same = np.arange(500) % 2 == 0
    whole = Resampling(same, np.arange(500), np.arange(500)[::-1], 100)
    at_once = np.concatenate(list(whole.draws()))
    monkeypatch.setattr("edgeface.evaluation.bootstrap.BLOCK", 1000)
    parts = list(whole.draws())
    assert len(parts) == 50
    np.testing.assert_array_equal(np.concatenate(parts), at_once)


def test_a_pair_counts_as_often_as_its_people() -> None:
    """Three people: person 0 has a genuine pair; 0 and 1, and 1 and 2, are impostors."""
    same, first, second = np.array([True, False, False]), np.array([0, 0, 1]), np.array([0, 1, 2])
    weights = np.concatenate(list(Resampling(same, first, second, 5000, seed=1).draws()))
    genuine, impostors = weights[:, 0], weights[:, 1:]
    assert np.all(impostors[:, 0] % genuine == 0)  # a multiple of how often person 0 was drawn
    assert np.all((genuine > 0) & (impostors.sum(axis=1) > 0))
    assert Resampling(same, first, np.array([0, 1, -1])).unit == "pairs"
