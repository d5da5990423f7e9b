"""What a cosine says, and adding it up: known densities, Wald's own bounds, and the slow way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import BundleError, ConfigError
from edgeface.operating_points import ScoreTable
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.evidence import Evidence
from edgeface.runtime.deciding.judge import Judge
from edgeface.runtime.deciding.limits import Limits
from edgeface.runtime.deciding.sequential import effective_looks, limits, weigh
from edgeface.runtime.deciding.tracker import Track
from edgeface.runtime.gallery.comparison import Comparison
from edgeface.runtime.gallery.matching import Match

IMPOSTOR, GENUINE, SPREAD = 0.0, 0.6, 0.1


def table(impostors=50_000, genuine=50_000, seed=0):
    rng = np.random.default_rng(seed)
    return ScoreTable.of(
        ("fp32", "fp32"),
        np.clip(rng.normal(IMPOSTOR, SPREAD, impostors), -1, 1),
        np.clip(rng.normal(GENUINE, SPREAD, genuine), -1, 1),
    )


@pytest.fixture(scope="module")
def evidence():
    return Evidence.of(table())


def line(cosine):
    """The log-likelihood ratio of two Gaussians of one width is a straight line."""
    return ((cosine - IMPOSTOR) ** 2 - (cosine - GENUINE) ** 2) / (2 * SPREAD**2)


def test_the_ratio_is_that_of_the_densities_the_scores_came_from(evidence):
    for cosine in (0.2, 0.25, 0.3, 0.35, 0.4):
        assert evidence.ratio(cosine) == pytest.approx(line(cosine), abs=0.3 + 0.07 * abs(line(cosine)))
    assert evidence.neutral == pytest.approx(0.3, abs=0.01)


def test_no_look_says_more_than_the_pairs_can_show(evidence):
    most, least = math.log(50_000 / 3), -math.log(50_000 / 3)
    assert evidence.ratio(1.0) == pytest.approx(most) and evidence.ratio(-1.0) == pytest.approx(least)
    few = Evidence.of(table(impostors=300, genuine=100))
    assert few.ratio(1.0) == pytest.approx(math.log(100))
    assert few.ratio(-1.0) == pytest.approx(-math.log(100 / 3))


@given(st.integers(4, 3000), st.integers(1, 3000), st.integers(0, 99))
def test_ratios_never_fall_and_are_finite(impostors, genuine, seed):
    found = Evidence.of(table(impostors, genuine, seed))
    assert np.isfinite(found.ratios).all() and (np.diff(found.ratios) >= 0).all()
    assert (np.diff(found.cosines) > 0).all() and -1 <= found.neutral <= 1


def test_equal_scores_make_no_trouble():
    same = ScoreTable.of(("fp32", "fp32"), np.zeros(10), np.ones(5))
    found = Evidence.of(same)
    assert found.ratio(1.0) > 0 > found.ratio(0.0)


# --- adding up


def look(name, score, other=None, other_score=None):
    return Comparison(Match(name, score), None if other is None else Match(other, other_score))


def llr(evidence, **more):
    return DecisionSettings(
        **{"threshold": 0.4, "fmr": 1e-4, "votes": 1, "rule": "llr", "evidence": evidence, "correlation": 0.0, **more}
    )


def test_the_limits_are_walds():
    lower, upper = limits(DecisionSettings(threshold=0.4, fmr=1e-3, miss=0.05))
    assert lower == pytest.approx(math.log(0.05 / 0.999))
    assert upper == pytest.approx(math.log(0.95 / 0.001))


def test_effective_looks_run_from_all_to_one():
    assert effective_looks(5, 0.0) == 5
    assert effective_looks(5, 1.0) == 1
    assert effective_looks(0, 0.5) == 0
    assert effective_looks(1_000_000, 0.25) == pytest.approx(4, abs=1e-4)


def test_known_by_hand(evidence):
    settings = llr(evidence)
    half = evidence.ratio(0.45)
    _, upper = limits(settings)
    assert half < upper < 2 * half
    one = weigh([look("alice", 0.45, "bob", 0.0)], settings)
    assert one.state == "pending"
    assert one.evidence == pytest.approx(half)
    assert one.why == f"too little evidence for alice: {half:.1f}, need {upper:.1f}"
    two = weigh([look("alice", 0.45, "bob", 0.0)] * 2, settings)
    assert (two.state, two.identity, two.votes, two.frames) == ("match", "alice", 2, 2)
    assert two.evidence == pytest.approx(2 * half) and two.why is None
    # Two looks that are one and the same say no more than one.
    assert weigh([look("alice", 0.45, "bob", 0.0)] * 2, llr(evidence, correlation=1.0)).state == "pending"


def test_a_stranger_is_unknown_as_soon_as_enough_speaks_against(evidence):
    decision = weigh([look("alice", 0.05, "bob", 0.0)], llr(evidence))
    assert (decision.state, decision.identity) == ("unknown", None)
    assert weigh([look("alice", 0.05, "bob", 0.0)], llr(evidence, claim="alice")).state == "rejected"
    undecided = look("alice", 0.3, "bob", 0.0)
    assert weigh([undecided] * 4, llr(evidence)).state == "pending"
    assert weigh([undecided] * 5, llr(evidence)).state == "unknown"


def test_a_look_at_somebody_else_takes_away(evidence):
    for_alice, for_bob = look("alice", 0.45, "bob", 0.0), look("bob", 0.45, "alice", 0.0)
    assert weigh([for_alice] * 2, llr(evidence)).identity == "alice"
    assert weigh([for_alice, for_bob] * 2, llr(evidence)).identity is None
    # Who is not among the two nearest is at most as near as the second, and gets nothing for it.
    absent = look("bob", 0.45, "carol", 0.45)
    assert weigh([for_alice, absent], llr(evidence)).evidence == pytest.approx(evidence.ratio(0.45))


def test_two_people_with_enough_evidence_are_ambiguous(evidence):
    both = look("alice", 0.6, "bob", 0.59)
    decision = weigh([both] * 3, llr(evidence))
    assert decision.state == "pending" and str(decision.why).startswith("ambiguous between alice and bob")
    assert weigh([both] * 3, llr(evidence, claim="alice")).identity == "alice"


def test_with_a_margin_a_close_look_speaks_for_nobody(evidence):
    close = look("alice", 0.45, "bob", 0.42)
    decision = weigh([close] * 4, llr(evidence, min_margin=0.05))
    assert (decision.identity, decision.evidence) == (None, 0.0)
    assert weigh([look("alice", 0.45, "bob", 0.2)] * 2, llr(evidence, min_margin=0.05)).identity == "alice"


def test_nobody_to_compare_with(evidence):
    assert weigh([], llr(evidence)).why == "not looked at yet"
    assert weigh([Comparison(None)] * 5, llr(evidence)).why == "the gallery is empty"
    assert weigh([Comparison(None)] * 5, llr(evidence, claim="zoe")).why == "zoe is not in the gallery"


def test_hysteresis_keeps_a_match_until_the_looks_speak_against_it(evidence):
    judge = Judge(llr(evidence, window=4))
    scores = [0.6, 0.6, 0.3, 0.3, 0.3, 0.0, 0.0]
    judge.see(Track(1, np.zeros(4, np.float32), 0.0, 0.0))
    found = [judge.look(1, look("alice", score, "bob", -0.2), float(row)) for row, score in enumerate(scores)]
    assert [decision.identity for decision in found[:5]] == ["alice"] * 5
    assert (found[6].state, found[6].identity) == ("unknown", None)
    back = judge.look(1, look("alice", 0.32, "bob", -0.2), 8.0)
    assert back.state == "unknown"  # better, but far from enough


def test_enough_votes_are_needed_too(evidence):
    decision = weigh([look("alice", 0.7, "bob", 0.0)], llr(evidence, votes=2))
    assert (decision.state, decision.why) == ("pending", "too few votes for alice: 1 of 2")


def simulate(evidence, mean, rng, settings):
    judge = Judge(settings)
    judge.see(Track(1, np.zeros(4, np.float32), 0.0, 0.0))
    for row in range(60):
        decision = judge.look(1, look("alice", float(np.clip(rng.normal(mean, SPREAD), -1, 1))), row * 0.04)
        if decision.state != "pending":
            return decision.state
    return "pending"


def test_the_error_rates_are_within_walds_bounds(evidence):
    settings = llr(evidence, fmr=0.05, miss=0.05, window=60)
    rng = np.random.default_rng(3)
    strangers = [simulate(evidence, IMPOSTOR, rng, settings) for _ in range(400)]
    known = [simulate(evidence, GENUINE, rng, settings) for _ in range(400)]
    # Wald: a / (1 - b) and b / (1 - a), here 5.3 %, and far fewer as one look oversteps the limits.
    assert strangers.count("match") / 400 < 0.053 + 0.033
    assert known.count("unknown") / 400 < 0.053 + 0.033
    assert known.count("match") > 370


# --- settings and bundles


def test_the_rule_needs_scores_and_a_rate(evidence):
    for wrong in ({"evidence": None}, {"fmr": None}, {"miss": 0.0}, {"miss": 0.6}, {"correlation": 1.1}):
        with pytest.raises(ConfigError):
            llr(**{"evidence": evidence, **wrong})


def test_limits_say_what_a_cosine_says_only_where_there_are_scores():
    limit = Limits("b", "fp32", tables={"fp32": table()}, fmr=1e-3)
    assert limit.search({"fp32": 3}).evidence is None
    found = limit.search({"fp32": 3}, weigh=True).evidence
    assert found is not None and found.ratio(0.6) > 0
    from edgeface.manifest import Threshold

    stored = Threshold(
        asked_fmr=1e-3, fmr=1e-3, cosine=0.3, interval=(0.2, 0.4), gallery="fp32", precision="fp32", pairs=9, data="d"
    )
    with pytest.raises(BundleError, match="no scores of fp32 against fp32"):
        Limits("b", "fp32", stored=(stored,), fmr=1e-3).search({"fp32": 3}, weigh=True)
