"""The challenge as a state machine: what passes, what fails, and that no photograph does."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.faces import TEMPLATE
from edgeface.runtime.deciding.quality import pose
from edgeface.runtime.liveness.challenge import (
    ACTIONS,
    INSTRUCTIONS,
    LOOK_AHEAD,
    Challenge,
    ChallengeSettings,
    advance,
    begin,
)

SETTINGS = ChallengeSettings(steps=2, hold=2)


def play(challenge, *poses, settings=SETTINGS, step_s=0.1):
    """Show (yaw, size) one after the other."""
    time_s = challenge.seen_s
    for yaw_deg, size_px in poses:
        time_s += step_s
        challenge = advance(challenge, settings, yaw_deg, size_px, time_s)
    return challenge


AHEAD, LEFT, RIGHT, NEAR = (0.0, 100.0), (30.0, 100.0), (-30.0, 100.0), (0.0, 140.0)


def asked(*actions):
    return Challenge(tuple(actions), 0.0, 0.0)


def test_who_does_what_is_asked_passes():
    challenge = play(asked("left", "closer"), AHEAD, LEFT, LEFT)
    assert (challenge.outcome, challenge.done, challenge.instruction) == ("running", 1, LOOK_AHEAD)
    challenge = play(challenge, AHEAD)
    assert challenge.instruction == INSTRUCTIONS["closer"]
    assert play(challenge, NEAR, NEAR).outcome == "passed"
    assert play(challenge, NEAR, NEAR).instruction == ""


def test_one_observation_is_not_enough_and_they_must_be_in_a_row():
    assert play(asked("left"), AHEAD, LEFT, AHEAD, LEFT).outcome == "running"
    assert play(asked("left"), AHEAD, LEFT, LEFT).outcome == "passed"


def test_a_face_that_is_turned_from_the_start_has_turned_nowhere():
    assert play(asked("left"), *[LEFT] * 20).outcome == "running"
    assert play(asked("left"), *[LEFT] * 20).instruction == LOOK_AHEAD
    assert play(asked("closer"), NEAR, *[NEAR] * 20).outcome == "running"


def test_the_wrong_side_fails():
    found = play(asked("left"), AHEAD, RIGHT)
    assert (found.outcome, found.why) == ("failed", "turned right when asked to turn your head to your left")
    assert play(asked("closer"), AHEAD, LEFT).outcome == "failed"
    assert play(found, AHEAD, LEFT, LEFT) == found  # over is over


def test_time_runs_out_for_each_action():
    slow = play(asked("left", "right"), AHEAD, *[AHEAD] * 58, LEFT, LEFT)
    assert slow.outcome == "failed" and slow.why == "did not turn your head to your left within 6 s"
    in_time = play(asked("left", "right"), AHEAD, *[AHEAD] * 50, LEFT, LEFT, *[AHEAD] * 50)
    assert in_time.outcome == "running" and in_time.done == 1


@pytest.mark.parametrize("later_s", [0.6, -1.0])
def test_a_face_that_was_away_in_between_fails(later_s):
    challenge = play(asked("left"), AHEAD, LEFT)
    found = advance(challenge, SETTINGS, *LEFT, challenge.seen_s + later_s)
    assert (found.outcome, found.why) == ("failed", "out of sight in between")


@given(st.integers(0, 2**32), st.floats(-11, 11), st.floats(30, 300), st.floats(0, 1), st.floats(0, 0.3))
def test_a_photograph_that_is_shown_and_shaken_never_passes(seed, yaw_deg, size_px, shake_deg, nearer):
    rng = random.Random(seed)
    challenge = begin(SETTINGS, rng, 0.0)
    for row in range(200):
        yaw = yaw_deg + rng.uniform(-1, 1) * shake_deg
        challenge = advance(challenge, SETTINGS, yaw, size_px * (1 + rng.random() * nearer), row * 0.1)
    assert challenge.outcome == "failed"


def test_orders_differ_are_repeatable_and_never_repeat_an_action():
    settings = ChallengeSettings(steps=4)
    orders = {begin(settings, random.Random(seed), 0.0).actions for seed in range(200)}
    assert len(orders) == 3 * 2**3
    assert all(a != b for order in orders for a, b in itertools.pairwise(order))
    assert begin(settings, random.Random(7), 0.0) == begin(settings, random.Random(7), 0.0)
    assert {action for order in orders for action in order} == set(ACTIONS)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"hold": 0}, {"timeout_s": 0.0}, {"min_turn_deg": 10.0}, {"max_ahead_deg": 0.0}, {"closer": 1.0}],
)
def test_settings_that_cannot_be_used_say_so(wrong):
    with pytest.raises(ConfigError):
        ChallengeSettings(**wrong)


@pytest.mark.parametrize("angle_deg", [-50, -30, 30, 50])
def test_a_flat_photograph_that_is_turned_does_not_look_turned(angle_deg):
    """Seen from eight eye distances away, as at arm's length."""
    points = (TEMPLATE - TEMPLATE.mean(axis=0)) / 35.2
    turn = np.deg2rad(angle_deg)
    depth = 8 + points[:, 0] * np.sin(turn)
    seen = np.stack([points[:, 0] * np.cos(turn), points[:, 1]], axis=1) / depth[:, None]
    assert abs(pose(seen)[0]) < 6 < ChallengeSettings().max_ahead_deg
