"""How well a detector finds the faces of a labelled set."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from edgeface.data.detection import DetectionSet, Labelled
from edgeface.errors import DataError
from edgeface.models.detector import STRIDES, FaceDetector
from edgeface.runtime.detection.detections import Detections, DetectorSettings
from edgeface.runtime.detection.detector import Detector, open_detector
from edgeface.runtime.detection.edge_detector import UNLIMITED, find_faces

CONFIDENT_SCORE: Final = 0.8
MIN_FACE: Final = 24.0
"""Faces to be found: those that their labeller gave at least this score, this many pixels wide and high."""

LOWEST_SCORE: Final = 0.05
"""A detector is scored from here on up."""

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
            None if none with landmarks was found.
        landmark_bias: median of found minus labelled for each of the five landmarks, (x, y) in distances between the
            eyes; a constant offset shows here. Empty without `landmark_error`.
        landmark_spread: median distance from that bias, for each axis of each landmark.
        advised: what it does at the score that it is used with, None if that is not known.
    """

    pictures: int
    faces: int
    recall: float
    min_score: float
    average_precision: float
    landmark_error: float | None
    landmark_bias: list[list[float]]
    landmark_spread: list[list[float]]
    advised: "Operation | None" = None


@dataclass(frozen=True, slots=True)
class Operation:
    """What a detector does at one score.

    Attributes:
        min_score: the score.
        recall: share of the faces found, in [0, 1].
        false_positives: a picture.
    """

    min_score: float
    recall: float
    false_positives: float


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


def evaluate_file(data: bytes, pictures: DetectionSet, max_side: int = 640, name: str = "detector") -> DetectorReport:
    """Score an ONNX detector of any format that the runtime knows, on the CPU.

    Args:
        data: the file's bytes.
        pictures: labelled.
        max_side: larger pictures are shrunk to this, in pixels.
        name: what to call it in an error.

    Raises:
        BundleError: it is no such detector.
        DataError: as `evaluate_detector`.
    """
    detector = open_detector(data, provider="cpu", max_side=max_side, name=name)
    advised = detector.settings.min_score
    detector.settings = replace(detector.settings, min_score=LOWEST_SCORE)
    return evaluate_detector(detector, (pictures.read(index) for index in range(len(pictures))), advised)


def evaluate_detector(detector: Detector, pictures: Iterable[Labelled], advised: float | None = None) -> DetectorReport:
    """Score a detector; it should be run with a low `min_score`, such as `LOWEST_SCORE`, to see the whole curve.

    A detection that meets a labelled face which need not be found counts neither for nor against.

    Args:
        detector: to score.
        pictures: labelled.
        advised: a score to state recall and false positives at.

    Raises:
        DataError: there is no picture, or no face that should be found.
    """
    scores: list[float] = []
    hits: list[bool] = []
    offsets: list[npt.NDArray[np.float32]] = []
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
                    offsets.append(landmark_offsets(found.landmarks[row], labelled.landmarks[face]))
    if not faces:
        raise DataError(f"{count} pictures have no face that a detector should find; nothing can be measured")
    score, hit = np.array(scores), np.array(hits, bool)
    order = np.argsort(-score, kind="stable")
    true, false = np.cumsum(hit[order]), np.cumsum(~hit[order])
    allowed = int(np.searchsorted(false, FALSE_POSITIVES * count, side="right"))  # so many of the best
    recall, precision = true / faces, true / np.maximum(true + false, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    min_score = float(score[order[allowed - 1]]) if allowed else 1.0
    measured = np.array(offsets, np.float64).reshape(-1, 5, 2)[score[hit] >= min_score]
    measured = measured[np.isfinite(measured).all(axis=(1, 2))]  # a labelled face may have no landmarks
    bias = np.median(measured, axis=0) if len(measured) else np.zeros((0, 2))
    spread = np.median(np.abs(measured - bias), axis=0) if len(measured) else np.zeros((0, 2))
    operation = None
    if advised is not None:
        reached = score >= advised
        operation = Operation(advised, float((reached & hit).sum()) / faces, float((reached & ~hit).sum()) / count)
    return DetectorReport(
        pictures=count,
        faces=faces,
        recall=float(recall[allowed - 1]) if allowed else 0.0,
        min_score=min_score,
        average_precision=area,
        landmark_error=float(np.median(np.linalg.norm(measured, axis=2).mean(axis=1))) if len(measured) else None,
        landmark_bias=bias.round(4).tolist(),
        landmark_spread=spread.round(4).tolist(),
        advised=operation,
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


def landmark_offsets(found: npt.NDArray[np.float32], labelled: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return found minus labelled (5, 2), in units of the labelled distance between the centres of the eyes."""
    between_eyes = float(np.linalg.norm(labelled[0] - labelled[1]))
    offsets: npt.NDArray[np.float32] = (found - labelled) / np.float32(max(between_eyes, 1e-6))
    return offsets
