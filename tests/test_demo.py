"""How the demo holds what the loop said against who was there."""

from datetime import UTC, datetime

import numpy as np

from edgeface.data.synthetic import Stream, StreamFace, StreamFrame, Visit, nth_identity
from edgeface.demo import _SyntheticCamera, judge
from edgeface.runtime.events import Event

LEFT, RIGHT = (10.0, 10.0, 50.0, 50.0), (200.0, 10.0, 50.0, 50.0)


def face(name, visit, box):
    return StreamFace(name, visit, np.zeros((5, 2), np.float32), np.array(box, np.float32), 1.0, 0.0)


VISITS = (Visit(nth_identity(0, 1), "Ada", 0, 10), Visit(nth_identity(0, 2), None, 0, 10))
TRUTH = [StreamFrame(0, 0.0, np.empty((0, 0, 3), np.uint8), (face("Ada", 0, LEFT), face(None, 1, RIGHT)))]


def said(event, box, identity=None):
    return Event(datetime.now(UTC), event, frame=0, track=1, box=box, identity=identity, score=0.5)


def verdicts(*events):
    return [(outcome.decided, outcome.correct) for outcome in judge(VISITS, TRUTH, events)]


def test_the_right_answers():
    assert verdicts(said("match", LEFT, "Ada"), said("unknown", RIGHT)) == [("Ada", True), ("unknown", True)]


def test_a_stranger_who_was_given_a_name_is_wrong_even_if_it_was_taken_back():
    events = said("match", LEFT, "Ada"), said("match", RIGHT, "Ada"), said("unknown", RIGHT)
    assert verdicts(*events) == [("Ada", True), ("Ada", False)]


def test_somebody_known_who_is_not_recognised_is_wrong():
    assert verdicts(said("unknown", LEFT), said("unknown", RIGHT)) == [("unknown", False), ("unknown", True)]


def test_two_names_for_one_person_are_wrong():
    events = said("match", LEFT, "Ben"), said("match", LEFT, "Ada"), said("unknown", RIGHT)
    assert verdicts(*events)[0] == ("Ada", False)


def test_nobody_seen_is_wrong_also_for_a_stranger():
    assert verdicts() == [("not seen", False), ("not seen", False)]


def test_the_camera_remembers_who_but_not_the_pictures():
    camera = _SyntheticCamera(Stream(0, VISITS, size_wh=(160, 120), frames=6))
    frames = []
    while (frame := camera.read()) is not None:
        frames.append(frame)
    assert [frame.index for frame in frames] == list(range(6)) == [seen.index for seen in camera.truth]
    assert all(seen.image.base is None and seen.image.size == 0 for seen in camera.truth)
