"""Score tables against all scores, searches against simulated ones, and files that were tampered with."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import BundleError, DataError
from edgeface.metrics import threshold_at_fmr
from edgeface.operating_points import (
    DECADES,
    EXACT_RANKS,
    Ranking,
    ScoreTable,
    comparison_rate,
    false_positive_rate,
)
from edgeface.scores import read_scores, write_scores

ASKED = 3.3e-3


def normal(count, mean=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(mean, 0.15, count), -1, 1).astype(np.float32)


def table(count, *, rates=(), independent=None, seed=0):
    impostor, genuine = normal(count, seed=seed), normal(700, 0.5, seed + 1)
    return impostor, genuine, ScoreTable.of(("fp32", "int8"), impostor, genuine, independent=independent, rates=rates)


def after(score):
    return float(np.nextafter(np.float32(score), np.float32(np.inf)))


def read_back(made):
    (again,) = read_scores(write_scores([made]))
    return again


# --- a table against all scores


@pytest.mark.parametrize("count", [4, 30, 500, 3000, 60_000])
def test_a_table_read_back_gives_the_thresholds_of_all_scores(count):
    impostor, _, made = table(count, rates=(ASKED,))
    again = read_back(made)

    rates = [rate for rate in (*DECADES, ASKED) if rate >= 3 / count]
    rates += [k / count for k in range(3, min(count, EXACT_RANKS) - 60, 7)]  # with the interval among the exact ranks
    assert rates or count < 30
    for rate in rates:
        slow, point = threshold_at_fmr(impostor, rate), again.operating_point(rate)
        low, high = (after(np.float32(end)) for end in slow.interval)
        assert point.threshold == after(np.float32(slow.threshold))
        assert point.interval == (low, high)
        assert (point.fmr, point.pairs) == (slow.fmr, slow.pairs)
        assert (impostor.astype(np.float64) >= point.threshold).sum() <= count * rate + 1e-9


def test_between_the_kept_ranks_a_table_is_strict_by_at_most_its_step():
    impostor, _, made = table(60_000)
    falling = np.sort(impostor)[::-1]
    for rate in np.geomspace(1.2e-2, 0.4, 15):
        allowed = int(rate * len(impostor))
        accepted = (impostor.astype(np.float64) >= made.operating_point(rate).threshold).sum()
        assert accepted <= allowed
        assert accepted >= allowed / 1.06 - 1
        low, high = made.operating_point(rate).interval
        slow_low, slow_high = threshold_at_fmr(impostor, rate).interval
        assert low <= after(np.float32(slow_low)) and high >= slow_high
    assert falling[0] == made.impostor.scores[0] and falling[-1] == made.impostor.scores[-1]


def test_a_table_is_small():
    _, _, made = table(1_000_000, rates=(ASKED,))
    assert len(write_scores([made])) < 18_000
    _, _, made = table(3000)
    assert len(write_scores([made])) < 14_000


def test_pairs_that_are_not_independent_widen_the_interval_and_bound_the_rate():
    _, _, all_count = table(20_000)
    _, _, few_count = table(20_000, independent=300)
    assert few_count.operating_point(1e-4).fmr == 3 / 300
    assert all_count.operating_point(1e-4).fmr == 3 / 20_000
    many, few = all_count.operating_point(0.05), few_count.operating_point(0.05)
    assert many.threshold == few.threshold
    assert few.interval[0] < many.interval[0] < many.threshold < many.interval[1] < few.interval[1]


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=60), st.integers(-10, 10), st.integers(2, 9))
def test_scores_that_reach_a_threshold_are_bounded(values, threshold, step):
    scores = np.array(values, np.float32) / 10
    kept = Ranking.of(scores, np.arange(0, len(scores), step))
    least, most = kept.reached(threshold / 10)
    true = int((scores.astype(np.float64) >= threshold / 10).sum())
    assert least <= true <= most
    whole = Ranking.of(scores, np.arange(len(scores)))
    assert whole.reached(threshold / 10) == (true, true)


def test_the_true_match_rate_is_known_to_half_a_percent():
    _, genuine, made = table(3000)
    for rate in (1e-1, 1e-2, 1e-3):
        threshold = made.operating_point(rate).threshold
        true = float(np.mean(genuine.astype(np.float64) >= threshold))
        assert true - 0.006 < read_back(made).true_match_rate(threshold) <= true


@given(st.integers(4, 4000), st.floats(1e-6, 0.9), st.floats(1e-6, 0.9), st.integers(0, 9))
def test_a_lower_rate_is_never_laxer(count, one, other, seed):
    _, _, made = table(count, seed=seed)
    lax, strict = (made.operating_point(rate) for rate in (max(one, other), min(one, other)))
    assert strict.threshold >= lax.threshold
    assert strict.fmr <= lax.fmr


@pytest.mark.parametrize(
    ("impostor", "genuine", "independent"),
    [([0.1] * 3, [0.5], None), ([0.1] * 9, [], None), ([0.1, np.nan] * 5, [0.5], None), ([0.1] * 9, [0.5], 3)],
)
def test_too_little_to_go_by(impostor, genuine, independent):
    with pytest.raises(DataError, match=r"at least|support no"):
        ScoreTable.of(("a", "a"), np.array(impostor), np.array(genuine), independent=independent)


# --- searches


@given(st.floats(1e-6, 0.5), st.floats(1e-6, 0.5), st.integers(1, 10_000), st.integers(1, 10_000))
def test_more_templates_and_fewer_false_positives_need_a_lower_rate(one, other, few, many):
    assert comparison_rate(one, max(few, many)) <= comparison_rate(one, min(few, many))
    assert comparison_rate(min(one, other), few) <= comparison_rate(max(one, other), few)
    assert false_positive_rate(comparison_rate(one, few), few) == pytest.approx(one, rel=1e-9)


def test_the_rates_of_a_search_by_hand():
    assert comparison_rate(1e-2, 1) == 1e-2
    assert comparison_rate(1e-2, 1000) == pytest.approx(1 - 0.99 ** (1 / 1000), rel=1e-9)
    assert false_positive_rate(1e-12, 10) == pytest.approx(1e-11, rel=1e-6)  # 1 - (1 - x) ** 10 would lose digits
    for wrong in ((0.0, 1), (1.0, 1), (0.1, 0)):
        with pytest.raises(DataError):
            comparison_rate(*wrong)


@pytest.mark.parametrize("templates", [1, 7, 60])
def test_simulated_searches_find_strangers_as_often_as_was_wanted(templates):
    """A threshold from a million impostor pairs, held against searches by strangers it has never seen."""
    rng = np.random.default_rng(templates)
    impostor = rng.normal(0, 0.15, 1_000_000).astype(np.float32)
    made = ScoreTable.of(("a", "a"), impostor, normal(100, 0.5))
    wanted, searches = 0.05, 20_000
    threshold = made.operating_point(comparison_rate(wanted, templates)).threshold
    found = int((rng.normal(0, 0.15, (searches, templates)).max(axis=1) >= threshold).sum())
    spread = np.sqrt(wanted * (1 - wanted) * searches)
    assert abs(found - wanted * searches) < 4 * spread
    if templates > 1:
        alone = made.operating_point(wanted).threshold  # for one comparison: far too lax
        found = int((rng.normal(0, 0.15, (searches, templates)).max(axis=1) >= alone).sum())
        assert found > wanted * searches + 10 * spread


def test_templates_of_one_person_that_resemble_each_other_are_found_less_often():
    rng = np.random.default_rng(0)
    impostor = rng.normal(0, 0.15, 200_000).astype(np.float32)
    made = ScoreTable.of(("a", "a"), impostor, normal(100, 0.5))
    threshold = made.operating_point(comparison_rate(0.05, 20)).threshold
    person, own = rng.normal(0, 0.12, (20_000, 4, 1)), rng.normal(0, 0.09, (20_000, 4, 5))  # together 0.15
    assert np.mean((person + own).max(axis=(1, 2)) >= threshold) < 0.05


# --- files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["impostor"]["scores"].reverse(), "do not fall"),
        (lambda t: t["impostor"]["scores"].pop(), "not one score for each rank"),
        (lambda t: t["impostor"]["scores"].__setitem__(0, 7.0), "less than or equal"),
        (lambda t: t["impostor"].update(count=10**6), "do not rise to the last"),
        (lambda t: t["impostor"]["sparse"].reverse(), "do not rise to the last"),
        (lambda t: t.update(independent=10**6), "more comparisons are independent"),
        (lambda t: t.update(surprise=1), "not permitted"),
    ],
)
def test_tables_that_make_no_sense_are_refused(change, message):
    facts = json.loads(write_scores([table(2000)[2]]))
    read_scores(json.dumps(facts).encode())
    change(facts["tables"][0])
    with pytest.raises(BundleError, match=message):
        read_scores(json.dumps(facts).encode())


@given(st.binary(max_size=50))
def test_any_bytes_give_one_line(data):
    with pytest.raises(BundleError, match="not a valid score table"):
        read_scores(data)
