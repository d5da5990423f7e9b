"""From a picture to one face, and from a camera to portraits."""

import numpy as np
import pytest

from edgeface.errors import NoFaceError
from edgeface.faces import TEMPLATE
from edgeface.runtime.detector import Detections, FixedDetector
from edgeface.runtime.enrolment import CAMERA_PATIENCE_S, SHOT_INTERVAL_S, shots_from
from edgeface.runtime.frames import FrameSequence
from edgeface.runtime.limits import Limits
from edgeface.runtime.recognizer import Recognizer, one_face

IMAGE = np.zeros((480, 640, 3), np.uint8)


def faces(*widths):
    boxes = np.array([[10 + 150 * k, 10, width, width] for k, width in enumerate(widths)], np.float32).reshape(-1, 4)
    landmarks = np.stack([TEMPLATE / 112 * box[2] + box[:2] for box in boxes]) if len(boxes) else np.zeros((0, 5, 2))
    return Detections(boxes, np.linspace(0.9, 0.7, len(boxes)).astype(np.float32), landmarks.astype(np.float32))


def test_the_only_face_is_taken_whatever_its_size():
    assert one_face(faces(30), IMAGE, "x").boxes[0, 2] == 30


def test_a_face_far_behind_does_not_count():
    assert one_face(faces(30, 100), IMAGE, "x").boxes[0, 2] == 100


def test_two_people_are_refused_unless_the_largest_is_asked():
    with pytest.raises(NoFaceError, match=r"2 faces found in x; .*--largest"):
        one_face(faces(80, 100, 20), IMAGE, "x")
    assert one_face(faces(80, 100, 20), IMAGE, "x", largest=True).boxes[0, 2] == 100


def test_no_face_says_how_large_the_picture_was():
    with pytest.raises(NoFaceError, match=r"no face found in x \(640 x 480 pixels\)"):
        one_face(faces(), IMAGE, "x")


def camera(answers, frames=200):
    noise = np.random.default_rng(0).integers(60, 190, (240, 640, 3), np.uint8)
    recognizer = Recognizer(FixedDetector(answers), None, "fp32", Limits("test", "fp32", cosine=0.5), "test")  # type: ignore[arg-type]
    return recognizer, FrameSequence([noise] * frames)


def clock(step_s):
    times = iter(np.arange(0, 10_000, step_s))
    return lambda: float(next(times))


def test_shots_are_apart_and_show_one_good_face():
    answers = [faces(), faces(100, 90), faces(20), *[faces(100)] * 100]  # nobody, two people, too small, then one
    recognizer, source = camera(answers)
    taken = list(shots_from(recognizer, source, 3, clock(0.1)))
    assert [portrait.face.shape for portrait in taken] == [(112, 112, 3)] * 3
    looked_at = len(recognizer.detector.seen)
    assert looked_at == 3 + 3  # three refused, three taken; none in the pauses of 0.5 s between
    assert SHOT_INTERVAL_S == 0.5


def test_a_camera_that_sees_nobody_gives_up_with_the_reason():
    recognizer, source = camera(faces(20), frames=10_000)
    with pytest.raises(NoFaceError, match=r"only 0 of 3 good pictures .*too small: 20 px"):
        list(shots_from(recognizer, source, 3, clock(CAMERA_PATIENCE_S / 50)))


def test_a_source_that_ends_gives_up():
    recognizer, source = camera(faces(100), frames=3)
    with pytest.raises(NoFaceError, match=r"only 1 of 2"):
        list(shots_from(recognizer, source, 2, clock(0.01)))
