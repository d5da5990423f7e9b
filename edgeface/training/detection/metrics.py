"""How well a detector finds the faces of a labelled set."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from edgeface.errors import DataError
from edgeface.models.detector import STRIDES, FaceDetector
from edgeface.runtime.detection.detections import Detections, DetectorSettings
from edgeface.runtime.detection.detector import Detector
from edgeface.runtime.detection.edge_detector import UNLIMITED, find_faces
from edgeface.training.detection.data import Labelled

CONFIDENT_SCORE: Final = 0.8
MIN_FACE: Final = 24.0
"""Faces to be found: those that their labeller gave at least this score, this many pixels wide and high."""

MATCHING_IOU: Final = 0.5
FALSE_POSITIVES: Final = 0.05
"""Recall is stated where one picture in twenty shows a face that is none."""


@dataclass(frozen=True, slots=True)
class DetectorReport:
    """Scores on a labelled set.

    Attributes:
        pictures: in the set.
        faces: that should be found.
        recall: share of them found at `min_score`, in [0, 1].
        min_score: the lowest score at which there are at most 0.05 false positives a picture.
        average_precision: area under precision over recall, in [0, 1].
        landmark_error: median over the found faces of the mean landmark distance, in distances between the eyes;
            None if none was found.
    """

    pictures: int
    faces: int
    recall: float
    min_score: float
    average_precision: float
    landmark_error: float | None


class TorchDetector:
    """A network that is still in PyTorch, used as a `Detector`."""

    def __init__(
        self, network: FaceDetector, settings: DetectorSettings | None = None, max_face: int = UNLIMITED
    ) -> None:
        self.network = network.eval()
        self.settings = settings or DetectorSettings()
        self.max_face = max_face

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Find the faces in `image`, (H, W, 3) uint8 RGB."""
        return find_faces(image, self._maps, STRIDES, self.settings, self.max_face)

    @torch.no_grad()
    def _maps(self, frame: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        levels = self.network(torch.tensor(frame)[None].permute(0, 3, 1, 2).float() / 255)
        return [tensor[0].numpy() for level in levels for tensor in level]


def evaluate_detector(detector: Detector, pictures: Iterable[Labelled]) -> DetectorReport:
    """Score a detector; it should be run with a low `min_score`, such as 0.05, to see the whole curve.

    A detection that meets a labelled face which need not be found counts neither for nor against.

    Raises:
        DataError: there is no picture, or no face that should be found.
    """
    scores: list[float] = []
    hits: list[bool] = []
    errors: list[float] = []
    faces = count = 0
    for labelled in pictures:
        found = detector.detect(labelled.image)
        wanted = (labelled.scores >= CONFIDENT_SCORE) & (labelled.boxes[:, 2:].min(axis=1, initial=1e9) >= MIN_FACE)
        count, faces = count + 1, faces + int(wanted.sum())
        for row, face in enumerate(match(found.boxes, labelled.boxes, wanted)):
            if face == UNMATCHED or wanted[face]:
                scores.append(float(found.scores[row]))
                hits.append(face != UNMATCHED)
                if face != UNMATCHED:
                    errors.append(landmark_error(found.landmarks[row], labelled.landmarks[face]))
    if not faces:
        raise DataError(f"{count} pictures have no face that a detector should find; nothing can be measured")
    order = np.argsort(-np.array(scores), kind="stable")
    hit = np.array(hits, bool)[order]
    true, false = np.cumsum(hit), np.cumsum(~hit)
    allowed = int(np.searchsorted(false, FALSE_POSITIVES * count, side="right"))  # so many of the best
    recall, precision = true / faces, true / np.maximum(true + false, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    found_errors = np.array(errors)[np.array(scores)[np.array(hits, bool)] >= _score(scores, order, allowed)]
    return DetectorReport(
        pictures=count,
        faces=faces,
        recall=float(recall[allowed - 1]) if allowed else 0.0,
        min_score=_score(scores, order, allowed),
        average_precision=area,
        landmark_error=float(np.median(found_errors)) if len(found_errors) else None,
    )


UNMATCHED: Final = -1


def match(
    found: npt.NDArray[np.float32], labelled: npt.NDArray[np.float32], wanted: npt.NDArray[np.bool_]
) -> list[int]:
    """Give each detection, the best first, the labelled face that it overlaps most, each face once.

    A wanted face that is still free goes before one that need not be found.

    Args:
        found: (D, 4) x, y, width, height, the best first.
        labelled: (N, 4) the same of the labels.
        wanted: (N,) whether the face should be found.

    Returns:
        For each detection a row of `labelled`, or `UNMATCHED`.
    """
    free = np.ones(len(labelled), bool)
    rows = []
    for x, y, w, h in found.tolist():
        low = np.maximum(labelled[:, :2], [x, y])
        high = np.minimum(labelled[:, :2] + labelled[:, 2:], [x + w, y + h])
        shared = np.maximum(high - low, 0).prod(axis=1)
        iou = shared / np.maximum(labelled[:, 2:].prod(axis=1) + w * h - shared, 1e-9)
        candidates = np.flatnonzero((iou >= MATCHING_IOU) & (free | ~wanted))
        if not len(candidates):
            rows.append(UNMATCHED)
            continue
        row = int(candidates[np.argmax(iou[candidates] + wanted[candidates])])
        free[row] = False
        rows.append(row)
    return rows


def landmark_error(found: npt.NDArray[np.float32], labelled: npt.NDArray[np.float32]) -> float:
    """Return the mean distance of five landmarks (5, 2) in units of the labelled distance between the eyes."""
    between_eyes = float(np.linalg.norm(labelled[0] - labelled[1]))
    return float(np.linalg.norm(found - labelled, axis=1).mean()) / max(between_eyes, 1e-6)


def _score(scores: list[float], order: npt.NDArray[np.intp], allowed: int) -> float:
    return scores[order[allowed - 1]] if allowed else 1.0
