"""From a picture to one face."""

import numpy as np
import pytest

from edgeface.errors import NoFaceError
from edgeface.faces import TEMPLATE
from edgeface.runtime.detection.detector import Detections
from edgeface.runtime.portrait import one_face

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
