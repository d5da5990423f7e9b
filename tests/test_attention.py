"""Which faces are looked at: the most promising first, and none waits for ever."""

import numpy as np
import pytest

from edgeface.errors import ConfigError
from edgeface.faces import TEMPLATE
from edgeface.runtime.deciding.attention import Attention, AttentionSettings, promise


def test_the_most_promising_come_first_and_the_others_later():
    attention = Attention(AttentionSettings(max_looks=2))
    tracks, promises = [1, 2, 3, 4, 5], [0.2, 0.9, 0.5, 0.1, 0.7]
    first = attention.pick(tracks, promises, 0.0)
    assert first == [1, 4]
    left = [0, 2, 3]
    second = attention.pick([tracks[row] for row in left], [promises[row] for row in left], 0.04)
    assert [left[row] for row in second] == [0, 2]


def test_nobody_waits_for_ever_in_a_crowd():
    attention = Attention(AttentionSettings(max_looks=8))
    crowd = list(range(200))
    promises = np.linspace(0.05, 1.0, 200).tolist()
    looked: dict[int, int] = dict.fromkeys(crowd, 0)
    for row in range(100):  # 4 s in which everybody wants to be looked at all the time
        picked = attention.pick(crowd, promises, row * 0.04)
        assert len(picked) == 8
        for place in picked:
            looked[place] += 1
    assert min(looked.values()) >= 2
    assert looked[199] >= looked[0]


def test_without_a_limit_all_are_looked_at():
    assert Attention(AttentionSettings(max_looks=None)).pick([1, 2, 3], [0.1, 0.2, 0.3], 0.0) == [0, 1, 2]


def test_a_much_better_look_is_an_improvement():
    attention = Attention(AttentionSettings(better=1.25))
    assert attention.improved(1, 0.1)
    attention.pick([1], [0.4], 0.0)
    assert not attention.improved(1, 0.5) and attention.improved(1, 0.51)
    attention.forget(1)
    assert attention.improved(1, 0.1)


def test_a_promise_grows_with_size_and_falls_with_pose_and_doubt():
    landmarks = TEMPLATE.astype(np.float32)
    turned = landmarks.copy()
    turned[2, 0] += 12
    large, small = np.array([0, 0, 200, 220]), np.array([0, 0, 28, 30])
    assert promise(large, landmarks, 1.0) == pytest.approx(1.0, abs=0.02)
    assert promise(small, landmarks, 1.0) == pytest.approx(0.25, abs=0.01)
    assert promise(large, turned, 1.0) < 0.8
    assert promise(large, landmarks, 0.5) == pytest.approx(0.5, abs=0.01)
    assert promise(np.array([0, 0, -3, 5]), landmarks, 1.0) == 0


@pytest.mark.parametrize("wrong", [{"max_looks": 0}, {"better": 1.0}])
def test_settings_that_cannot_be_used_say_so(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        AttentionSettings(**wrong)
