"""What is told of several tracks: one name for one face, not twice within a time, and only looks near in time."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.judge import Judge
from edgeface.runtime.deciding.tracker import Track
from edgeface.runtime.gallery.comparison import Comparison
from edgeface.runtime.gallery.matching import Match

BOX = np.zeros(4, np.float32)
ONE: dict[str, Any] = {"threshold": 0.4, "votes": 1, "window": 1, "hold": 1}


def look(name, score):
    return Comparison(Match(name, score))


def frame(judge, time_s, **looks):
    """Show one frame: track t1 looks like ("alice", 0.7), ...; None is in view and not looked at."""
    tracks = {int(key[1:]): value for key, value in looks.items()}
    for track_id in tracks:
        judge.see(Track(track_id, BOX, 0.0, time_s))
    seen = judge.settle(time_s)
    given_looks = {track_id: look(*value) for track_id, value in tracks.items() if value}
    return {**seen, **judge.look_at(given_looks, time_s)}


def test_of_two_faces_with_one_name_the_better_keeps_it():
    judge = Judge(DecisionSettings(**ONE))
    news = frame(judge, 0.0, t1=("alice", 0.6), t2=("alice", 0.8), t3=("bob", 0.5))

    assert {track: (d.state, d.identity) for track, d in news.items()} == {
        1: ("unknown", None),
        2: ("match", "alice"),
        3: ("match", "bob"),
    }
    assert news[1].why == "alice is already in view: track 2, score 0.800"
    # The other way round later, and then nobody else is in view.
    news = frame(judge, 1.0, t1=("alice", 0.9), t2=("alice", 0.8))
    assert {track: d.identity for track, d in news.items()} == {1: "alice", 2: None}
    news = frame(judge, 2.0, t2=("alice", 0.8))
    assert {track: d.identity for track, d in news.items()} == {2: "alice"}


def test_a_face_that_comes_back_into_view_meets_the_other_with_its_name_at_once():
    judge = Judge(DecisionSettings(**ONE))
    frame(judge, 0.0, t1=("alice", 0.6))
    assert frame(judge, 0.2, t2=("alice", 0.8))[2].identity == "alice"
    news = frame(judge, 0.4, t1=None, t2=None)  # without any look
    assert {track: (d.state, d.identity) for track, d in news.items()} == {1: ("unknown", None)}


def test_a_clock_that_goes_back_a_little_does_not_hide_who_is_in_view():
    judge = Judge(DecisionSettings(**ONE))
    frame(judge, 1.0, t1=("alice", 0.9))
    news = frame(judge, 0.5, t2=("alice", 0.8))
    assert news[2].identity == "alice"  # the other one is not in view


def test_two_faces_may_have_one_name_if_that_is_wanted():
    judge = Judge(DecisionSettings(**ONE, exclusive=False))
    news = frame(judge, 0.0, t1=("alice", 0.6), t2=("alice", 0.8))
    assert [d.identity for d in news.values()] == ["alice", "alice"]


def test_with_a_claim_the_worse_face_is_rejected():
    judge = Judge(DecisionSettings(**ONE, claim="alice"))
    news = frame(judge, 0.0, t1=("alice", 0.6), t2=("alice", 0.8))
    assert [news[track].state for track in (1, 2)] == ["rejected", "match"]


names = st.sampled_from(["alice", "bob"])
scores = st.integers(3, 9).map(lambda tenths: tenths / 10)
frames = st.lists(st.dictionaries(st.integers(1, 4), st.none() | st.tuples(names, scores), max_size=4), max_size=12)


@given(frames)
def test_no_name_is_in_view_twice_and_the_best_has_it(shown):
    judge = Judge(DecisionSettings(threshold=0.4, votes=1, window=3, hold=1))
    for row, tracks in enumerate(shown):
        frame(judge, float(row), **{f"t{track}": value for track, value in tracks.items()})
        held = [judge.decision(track) for track in tracks]
        present = [d.identity for d in held if d.identity is not None]
        assert len(present) == len(set(present))
        for decision in held:
            if decision.why is not None and "already in view" in decision.why:
                rivals = [d for d in held if d.identity is not None and decision.why.startswith(d.identity)]
                assert len(rivals) == 1
                assert (rivals[0].score or 0) >= (decision.score or 0)


def test_a_cool_down_is_for_the_person_and_not_for_the_track():
    judge = Judge(DecisionSettings(**ONE, cooldown_s=10.0))
    assert 1 in frame(judge, 0.0, t1=("alice", 0.7))
    assert frame(judge, 5.0, t2=("alice", 0.7)) == {}
    assert judge.decision(2).identity == "alice"  # known, and not told
    assert 3 in frame(judge, 6.0, t3=("bob", 0.7))
    assert 4 in frame(judge, 10.0, t4=("alice", 0.7))
    assert frame(judge, 19.9, t5=("alice", 0.7)) == {}
    # Strangers are told as ever.
    assert frame(judge, 20.0, t6=("alice", 0.1))[6].state == "unknown"


def test_votes_count_only_within_a_time():
    judge = Judge(DecisionSettings(threshold=0.4, votes=3, window=5, within_s=1.0))
    for time_s in (0.0, 0.6, 1.2):
        assert frame(judge, time_s, t1=("alice", 0.7)) == {}
    assert judge.decision(1).why == "too few votes for alice: 2 of 3"
    assert frame(judge, 1.5, t1=("alice", 0.7))[1].identity == "alice"
    # Once it is there, rarer looks keep it.
    for time_s in (3.0, 5.0, 7.0):
        frame(judge, time_s, t1=("alice", 0.7))
        assert judge.decision(1).identity == "alice"


def test_a_gate_has_the_last_word_and_is_asked_without_looks_too():
    opened: set[int] = set()

    def gate(track_id, decision):
        if decision.identity is None or track_id in opened:
            return decision
        return decision.__class__("rejected", None, 0.7, 0.4, None, None, 1, 1, "not live")

    judge = Judge(DecisionSettings(**ONE), gate)
    assert frame(judge, 0.0, t1=("alice", 0.7))[1].why == "not live"
    assert not judge.wants_embedding(1, 0.5)  # who it is was never in doubt
    opened.add(1)
    assert frame(judge, 0.1, t1=None)[1].identity == "alice"


@pytest.mark.parametrize("wrong", [{"within_s": 0.0}, {"cooldown_s": -1.0}])
def test_settings_that_cannot_be_used_say_so(wrong: dict[str, Any]):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DecisionSettings(threshold=0.4, **wrong)
