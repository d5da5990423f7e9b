"""Metrics against slow and obvious versions, scikit-learn, and answers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from edgeface.errors import DataError
from edgeface.metrics import (
    best_threshold,
    cosine_scores,
    roc,
    ten_fold,
    threshold_at_fmr,
)

labelled_scores = st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=4, max_size=60).filter(
    lambda pairs: any(same for _, same in pairs) and not all(same for _, same in pairs)
)


def arrays(pairs):
    return np.array([score / 20 for score, _ in pairs]), np.array([same for _, same in pairs])


def slow_rates(scores, same, threshold):
    accepted = [s >= threshold for s in scores]
    tar = sum(a for a, t in zip(accepted, same, strict=True) if t) / sum(same)
    fmr = sum(a for a, t in zip(accepted, same, strict=True) if not t) / (len(same) - sum(same))
    return tar, fmr


@given(labelled_scores)
def test_roc_equals_counting(pairs):
    scores, same = arrays(pairs)
    curve = roc(scores, same)
    assert curve.threshold[0] == np.inf and curve.tar[-1] == curve.fmr[-1] == 1
    for threshold, tar, fmr in zip(curve.threshold, curve.tar, curve.fmr, strict=True):
        assert (tar, fmr) == pytest.approx(slow_rates(scores, same, threshold))


@given(labelled_scores)
def test_auc_equals_scikit_learn(pairs):
    scores, same = arrays(pairs)
    assert roc(scores, same).auc == pytest.approx(roc_auc_score(same, scores))


@given(labelled_scores, st.sampled_from([0.01, 0.1, 0.3, 0.9]))
def test_tar_at_far_is_the_best_allowed(pairs, far):
    scores, same = arrays(pairs)
    tar, threshold = roc(scores, same).at_fmr(far)
    slow = [slow_rates(scores, same, t) for t in [*scores, np.inf]]
    assert tar == pytest.approx(max(t for t, f in slow if f <= far))
    assert slow_rates(scores, same, threshold) == pytest.approx((tar, slow_rates(scores, same, threshold)[1]))
    assert slow_rates(scores, same, threshold)[1] <= far


def test_eer_by_hand():
    # At 0.5: one of four impostors is accepted, one of four genuine pairs rejected.
    scores = np.array([0.9, 0.8, 0.7, 0.3, 0.6, 0.2, 0.1, 0.0])
    same = np.array([True] * 4 + [False] * 4)
    assert roc(scores, same).eer == pytest.approx(0.25)
    assert roc(np.where(same, 1.0, 0.0), same).eer == 0
    assert roc(np.where(same, 0.0, 1.0), same).eer == 1


@given(labelled_scores)
def test_best_threshold_has_the_highest_accuracy(pairs):
    scores, same = arrays(pairs)
    accuracy = np.mean((scores >= best_threshold(scores, same)) == same)
    candidates = [*scores, 2.0]
    assert accuracy == max(np.mean((scores >= t) == same) for t in candidates)


def test_ten_fold_uses_the_other_folds():
    """Fold 1 alone is best cut at 0.2, the rest at 0.5: the threshold of fold 1 must come from the rest."""
    scores = np.array([0.9, 0.1] * 9 + [0.25, 0.15])
    same = np.array([True, False] * 10)
    result = ten_fold(scores, same, np.repeat(np.arange(10), 2))
    assert result.fold_threshold[9] == pytest.approx(0.5)
    assert result.fold_accuracy[9] == 0.5
    assert result.accuracy == pytest.approx(0.95)
    assert result.standard_error == pytest.approx(np.std(result.fold_accuracy, ddof=1) / math.sqrt(10))


@given(st.integers(0, 1000), st.sampled_from([0.01, 0.05, 0.2]))
def test_threshold_lets_through_what_was_asked_and_not_less_than_possible(seed, fmr):
    scores = np.random.default_rng(seed).normal(0, 0.2, 500)
    point = threshold_at_fmr(scores, fmr)
    assert np.mean(scores >= point.threshold) <= fmr
    looser = scores[scores < point.threshold].max()
    assert np.mean(scores >= looser) > fmr
    assert point.interval[0] <= point.threshold <= point.interval[1]
    assert point.supported


def test_the_interval_covers_the_true_quantile():
    rng = np.random.default_rng(1)
    true = 2.3263478740408408  # 1 % of a standard normal lies above
    covered = 0
    for _ in range(400):
        low, high = threshold_at_fmr(rng.normal(0, 1, 1000), 0.01).interval
        covered += low <= true <= high
    assert 0.93 <= covered / 400 <= 0.99


def test_too_few_pairs_give_the_tightest_they_support():
    point = threshold_at_fmr(np.linspace(-1, 1, 300), 1e-4)
    assert not point.supported
    assert point.fmr == pytest.approx(0.01)
    assert np.mean(np.linspace(-1, 1, 300) >= point.threshold) <= 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: roc(np.array([1.0, 2.0]), np.array([True, True])), "genuine and impostor"),
        (lambda: roc(np.array([1.0, np.nan]), np.array([True, False])), "not finite"),
        (lambda: threshold_at_fmr(np.array([1.0]), 0.1), "at least 4"),
        (lambda: threshold_at_fmr(np.zeros(10), 1.5), "between 0 and 1"),
        (lambda: cosine_scores(np.zeros((1, 3)), np.ones((1, 3))), "zero or not finite"),
        (lambda: ten_fold(np.array([1.0, 0.0]), np.array([True, False]), np.zeros(2, int)), "at least 2 folds"),
    ],
)
def test_unusable_input_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_cosine_ignores_length():
    assert cosine_scores(np.array([[3.0, 4.0]]), np.array([[30.0, 40.0]]))[0] == 1.0
    assert cosine_scores(np.array([[1.0, 0.0]]), np.array([[0.0, 5.0]]))[0] == 0.0
