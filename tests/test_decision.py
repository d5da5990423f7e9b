import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError, EdgefaceError, GalleryError
from edgeface.operating_points import false_positive_rate
from edgeface.runtime.deciding.decision import DecisionSettings, decide
from edgeface.runtime.deciding.judge import Judge
from edgeface.runtime.deciding.tracker import Track
from edgeface.runtime.gallery.comparison import Comparison, People
from edgeface.runtime.gallery.matching import Match, best_per_person, similarities

SETTINGS = DecisionSettings(threshold=0.4, votes=3, window=5)
BOX = np.zeros(4, np.float32)


def look(name, score, other=None, other_score=None):
    return Comparison(Match(name, score), None if other is None else Match(other, other_score))


A, B, LOW = look("alice", 0.6, "bob", 0.1), look("bob", 0.7, "alice", 0.2), look("alice", 0.3, "bob", 0.2)
NOBODY = Comparison(None)


def track(track_id=1, gap_frames=0, gap_s=0.04):
    return Track(track_id, BOX, 0.0, 0.0, gap_frames=gap_frames, gap_s=gap_s)


def states(judge, looks, step_s=0.04):
    """Show the looks one after the other to track 1; give (state, identity, is_news) for each."""
    judge.see(track())
    found = [judge.look(1, each, row * step_s) for row, each in enumerate(looks)]
    return [(d.state, d.identity, d.is_news) for d in found]


# --- one answer from some looks, known by hand


@pytest.mark.parametrize(
    ("looks", "state", "identity", "votes", "why"),
    [
        ([], "pending", None, 0, "not looked at yet"),
        ([A], "pending", None, 1, "too few votes for alice: 1 of 3"),
        ([A, A], "pending", None, 2, "too few votes for alice: 2 of 3"),
        ([A, A, A], "match", "alice", 3, None),
        ([LOW, A, LOW, A, A], "match", "alice", 3, None),
        ([A, B, A, B, A], "match", "alice", 3, None),
        ([LOW, A, LOW, A, LOW], "unknown", None, 2, "too few votes for alice: 2 of 3"),
        ([A, B, A, B, LOW], "unknown", None, 2, "ambiguous between alice and bob: 2 and 2 votes, need 3"),
        ([LOW] * 4, "pending", None, 0, "no gallery match: best score 0.300 (alice) below threshold 0.400"),
        ([LOW] * 5, "unknown", None, 0, "no gallery match: best score 0.300 (alice) below threshold 0.400"),
        ([NOBODY] * 5, "unknown", None, 0, "the gallery is empty"),
    ],
)
def test_votes_known_by_hand(looks, state, identity, votes, why):
    decision = decide(looks, SETTINGS)

    assert (decision.state, decision.identity, decision.votes, decision.why) == (state, identity, votes, why)
    assert decision.frames == len(looks)
    assert decision.threshold == 0.4


def test_the_threshold_itself_agrees_and_just_below_does_not():
    assert decide([look("alice", 0.4)] * 3, SETTINGS).state == "match"
    below = decide([look("alice", 0.4 - 1e-5)] * 5, SETTINGS)
    assert below.state == "unknown"
    assert below.why == "no gallery match: best score 0.399990 (alice) below threshold 0.400000"


def test_the_numbers_of_a_match_are_those_of_its_median_look():
    looks = [
        look("alice", 0.9, "bob", 0.3),
        look("alice", 0.5, "carol", 0.1),
        look("alice", 0.6, "bob", 0.2),
        look("bob", 0.95, "alice", 0.9),
    ]
    decision = decide(looks, SETTINGS)

    assert (decision.score, decision.runner_up) == (0.6, "bob")
    assert decision.margin == pytest.approx(0.4)
    assert (decision.votes, decision.frames) == (3, 4)


def test_a_margin_can_be_demanded():
    close = look("alice", 0.6, "bob", 0.57)
    strict = DecisionSettings(threshold=0.4, min_margin=0.05)

    assert decide([close] * 5, SETTINGS).identity == "alice"
    decision = decide([close] * 5, strict)
    assert (decision.state, decision.identity) == ("unknown", None)
    assert decision.why == "ambiguous between alice and bob: margin 0.030, need 0.050"
    assert decide([look("alice", 0.6)] * 3, strict).identity == "alice"  # there is nobody else


def test_a_claim_is_accepted_or_rejected_and_never_turned_into_somebody_else():
    claim = DecisionSettings(threshold=0.4, claim="alice")
    nearer_to_bob = look("alice", 0.45, "bob", 0.8)

    assert decide([nearer_to_bob] * 3, claim).identity == "alice"  # 1:1 asks about one person only
    refused = decide([look("alice", 0.1, "bob", 0.9)] * 5, claim)
    assert (refused.state, refused.identity) == ("rejected", None)
    assert refused.why == "not alice: score 0.100 below threshold 0.400"
    strict = DecisionSettings(threshold=0.4, claim="alice", min_margin=0.05)
    assert decide([nearer_to_bob] * 5, strict).state == "rejected"
    assert decide([NOBODY] * 5, claim).why == "alice is not in the gallery"


def test_one_vote_of_one_look_is_enough_for_single_pictures():
    single = DecisionSettings(threshold=0.4, votes=1, window=1, hold=1)
    assert decide([A], single).identity == "alice"
    assert decide([LOW], single).state == "unknown"


def test_two_people_with_enough_votes_each_are_ambiguous():
    loose = DecisionSettings(threshold=0.4, votes=2, window=5)
    assert decide([A, A, B, B, LOW], loose).state == "unknown"
    assert decide([A, A, B, B, A], loose).identity == "alice"


# --- many looks at one track

people = st.sampled_from(["alice", "bob", "carol"])
some_looks = st.lists(
    st.one_of(
        st.just(NOBODY),
        st.builds(look, people, st.floats(-1, 1), people, st.floats(-1, 1)),
    ),
    max_size=30,
)
some_settings = st.integers(1, 5).flatmap(
    lambda votes: st.builds(
        DecisionSettings,
        threshold=st.floats(-0.5, 0.5),
        votes=st.just(votes),
        window=st.integers(votes, 7),
        hold=st.integers(1, votes),
        min_margin=st.sampled_from([0.0, 0.1]),
    )
)


@given(some_looks, some_settings)
def test_no_identity_is_ever_told_with_fewer_votes_than_asked(looks, settings):
    judge = Judge(settings)
    judge.see(track())
    for count, each in enumerate(looks, 1):
        decision = judge.look(1, each, float(count))
        window = looks[:count][-settings.window :]
        votes = Counter(
            item.best.name
            for item in window
            if item.best is not None
            and item.best.score >= settings.threshold
            and (
                settings.min_margin == 0
                or item.runner_up is None
                or item.best.score - item.runner_up.score >= settings.min_margin
            )
        )
        assert (decision.identity is not None) == (decision.state == "match")
        assert (decision.why is None) == (decision.state == "match")
        if decision.identity is not None:
            assert decision.votes >= settings.votes
            assert decision.score is not None
            assert decision.score >= settings.threshold
            assert votes[decision.identity] >= min(settings.hold, settings.votes)
            if decision.is_news:
                assert decision.votes == votes[decision.identity] == max(votes.values())
        elif count >= settings.window:
            assert decision.state == "unknown"
            leaders = [name for name, n in votes.items() if n == max(votes.values())]
            assert not leaders or votes[leaders[0]] < settings.votes or len(leaders) > 1


@given(some_looks, some_settings)
def test_the_same_answer_is_news_only_once_in_a_row(looks, settings):
    judge = Judge(settings)
    judge.see(track())
    told = [d for row, each in enumerate(looks) if (d := judge.look(1, each, float(row))).is_news]

    answers = [(d.state, d.identity) for d in told]
    assert all(a != b for a, b in itertools.pairwise(answers))
    assert all(d.state != "pending" for d in told)


def test_one_bad_look_changes_nothing_and_a_series_of_them_does():
    judge = Judge(SETTINGS)
    looks = [A, A, A, A, A, B, A, LOW, A, B, B, B]
    assert states(judge, looks)[2] == ("match", "alice", True)
    judge = Judge(SETTINGS)
    found = states(judge, looks)
    assert {state[:2] for state in found[2:11]} == {("match", "alice")}
    assert found[11] == ("match", "bob", True)
    assert sum(state[2] for state in found) == 2


def test_a_stranger_in_the_place_of_a_match_is_unknown_after_a_window():
    found = states(Judge(SETTINGS), [A] * 5 + [LOW] * 5)

    # Held while two of the last five agree.
    assert [state[:2] for state in found[5:8]] == [("match", "alice")] * 3
    assert found[8] == ("unknown", None, True)
    assert found[9] == ("unknown", None, False)


def test_unknown_becomes_a_match_as_soon_as_the_votes_are_there():
    found = states(Judge(SETTINGS), [LOW] * 5 + [A] * 3)
    assert found[4] == ("unknown", None, True)
    assert found[7] == ("match", "alice", True)


# --- when to look


def wants(judge, time_s, track_id=1):
    return judge.wants_embedding(track_id, time_s)


def test_a_recognised_face_is_looked_at_now_and_then_and_at_once_when_in_doubt():
    judge = Judge(DecisionSettings(threshold=0.4, refresh_s=1.0, retry_s=0.3))
    states(judge, [A, A])
    assert wants(judge, 0.05)  # pending
    judge.look(1, A, 0.1)
    assert not wants(judge, 0.5)
    assert wants(judge, 1.1)
    judge.look(1, LOW, 1.1)
    assert judge.decision(1).identity == "alice"
    assert wants(judge, 1.11)  # the last look disagreed
    judge.look(1, A, 1.11)
    assert not wants(judge, 1.12)
    judge.see(track(gap_frames=1, gap_s=0.08))
    assert wants(judge, 1.13)  # it was out of sight for a frame
    assert judge.decision(1).identity == "alice"


def test_a_stranger_is_looked_at_again_sooner():
    judge = Judge(DecisionSettings(threshold=0.4, refresh_s=1.0, retry_s=0.3))
    states(judge, [LOW] * 5, step_s=0.0)
    assert not wants(judge, 0.29)
    assert wants(judge, 0.31)
    judge.look(1, A, 0.31)
    assert wants(judge, 0.32)  # perhaps no stranger after all


def test_zero_seconds_look_at_every_frame():
    judge = Judge(DecisionSettings(threshold=0.4, refresh_s=0, retry_s=0))
    states(judge, [A] * 5)
    assert wants(judge, 4 * 0.04)


def test_after_a_gap_a_face_must_be_recognised_anew_but_is_told_only_if_it_changed():
    judge = Judge(SETTINGS)
    states(judge, [A] * 5)
    judge.see(track(gap_frames=15, gap_s=0.6))
    assert judge.decision(1).state == "pending"
    again = [judge.look(1, A, 1.0 + row) for row in range(3)]
    assert [(d.state, d.is_news) for d in again] == [("pending", False), ("pending", False), ("match", False)]
    judge.see(track(gap_frames=15, gap_s=0.6))
    other = [judge.look(1, B, 5.0 + row) for row in range(3)]
    assert (other[2].identity, other[2].is_news) == ("bob", True)


def test_slow_sources_are_no_gap():
    judge = Judge(SETTINGS)
    for row in range(3):
        judge.see(track(gap_s=2.0))
        decision = judge.look(1, A, 2.0 * row)
    assert decision.identity == "alice"


def test_a_refused_face_has_a_reason_and_an_old_answer_expires():
    judge = Judge(DecisionSettings(threshold=0.4, max_age_s=5.0))
    judge.see(track())
    refused = judge.refuse(1, "too small: 38 px, need 60", 0.0)
    assert (refused.state, refused.why, refused.frames) == ("pending", "too small: 38 px, need 60", 0)
    for time_s in (0.0, 0.1, 0.2):
        judge.look(1, A, time_s)
    assert judge.refuse(1, "turned away", 5.0).identity == "alice"
    expired = judge.refuse(1, "turned away", 5.3)
    assert (expired.state, expired.identity, expired.why) == ("pending", None, "turned away")


def test_a_changed_gallery_asks_everybody_anew():
    judge = Judge(SETTINGS)
    states(judge, [A] * 5)
    judge.reset(SETTINGS)
    assert judge.decision(1).identity is None
    assert wants(judge, 0.17)
    found = [judge.look(1, LOW, 1.0) for _ in range(5)]
    assert (found[-1].state, found[-1].is_news) == ("unknown", True)


def test_an_ended_track_is_forgotten():
    judge = Judge(SETTINGS)
    states(judge, [A] * 3)
    assert judge.end(1).identity == "alice"
    with pytest.raises(KeyError):
        judge.decision(1)
    judge.see(track())
    assert judge.decision(1).state == "pending"


# --- comparing with the gallery


@given(st.lists(people, max_size=12), st.integers(1, 4), st.sampled_from([None, "alice", "zoe"]), st.integers(0, 99))
def test_comparison_is_that_of_the_slow_search(names, faces, claim, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(len(names), 8)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    embeddings = rng.normal(size=(faces, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)

    found = People(names, matrix).compare(embeddings, claim)

    assert len(found) == faces
    for embedding, comparison in zip(embeddings, found, strict=True):
        ranking = best_per_person(names, similarities(matrix, embedding))
        others = [m for m in ranking if m.name != claim]
        own = [m for m in ranking if m.name == claim]
        best, rest = (ranking[:1], ranking[1:]) if claim is None else (own, others)
        for ours, slow in ((comparison.best, best[:1]), (comparison.runner_up, rest[:1])):
            if not slow:
                assert ours is None
            else:
                assert ours is not None
                assert ours.name == slow[0].name
                assert ours.score == pytest.approx(slow[0].score, abs=1e-6)


def test_embeddings_that_cannot_be_compared_are_errors():
    gallery = People(["alice"], np.eye(1, 8, dtype=np.float32))
    with pytest.raises(GalleryError, match="4 numbers a face, the gallery holds 8"):
        gallery.compare(np.eye(1, 4, dtype=np.float32))
    with pytest.raises(EdgefaceError, match="not finite"):
        gallery.compare(np.full((1, 8), np.nan, np.float32))


def test_false_positive_rate_is_that_of_the_binomial():
    assert false_positive_rate(1e-4, 10_000) == pytest.approx(0.632, abs=1e-3)
    assert false_positive_rate(1e-3, 1) == pytest.approx(1e-3)
    assert false_positive_rate(1e-3, 0) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.5},
        {"threshold": math.nan},
        {"fmr": 0.0},
        {"votes": 0},
        {"votes": 6},
        {"hold": 0},
        {"min_margin": -0.1},
        {"refresh_s": -1},
        {"max_gap_s": math.nan},
    ],
)
def test_settings_that_cannot_be_used_say_so(wrong):
    with pytest.raises(ConfigError):
        DecisionSettings(**{"threshold": 0.4, **wrong})
