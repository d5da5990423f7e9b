"""A detector that is small enough to train in a test, and labelled faces without pixels."""

import numpy as np

from edgeface.data.detection import Labelled
from edgeface.models.detector import DetectorShape

TINY = DetectorShape(widths=(8, 8, 16, 16, 16), depths=(1, 1, 1), neck=16)


def labelled(boxes, scores=None, side=64):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    x, y, w, h = boxes.T
    places = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
    landmarks = np.stack([np.stack([x + a * w, y + b * h], axis=1) for a, b in places], axis=1).astype(np.float32)
    scores = np.ones(len(boxes)) if scores is None else np.array(scores)
    return Labelled(np.zeros((side, side, 3), np.uint8), boxes, landmarks, scores.astype(np.float32))
