"""What a face detector finds, and the steps that every detector shares: fit the picture in, keep the best boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError, ImageError

MULTIPLE: Final = 32
"""Networks take sides that are a multiple of this, their largest stride."""

MAX_CANDIDATES: Final = 1000
"""At most so many boxes, the best ones, enter the suppression: its time stays bounded on any picture."""

SAME_FACE_IOU: Final = 0.6
"""Boxes that overlap at least this much are taken for the same face seen from different cells."""

PART_SHARE: Final = 0.6
"""A box of which this share lies within a better one's is a part of that face."""

LEAST_SIDE: Final = 128
"""A network is shown at least so many pixels along the longer side: a face needs something around it."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The faces of one picture, the best first.

    Coordinates are pixels of the picture with pixel centres at integers; boxes and landmarks of a face that is
    cut off may lie outside of it.

    Attributes:
        boxes: (N, 4) float32, x, y, width, height.
        scores: (N,) float32 in [0, 1], falling.
        landmarks: (N, 5, 2) float32, (x, y) of left eye, right eye, nose, left and right mouth corner; left is
            the smaller x in an upright face.
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: npt.NDArray[Any] | slice) -> "Detections":
        """Return the faces that `rows` picks: a slice, indices or (N,) bool."""
        return Detections(self.boxes[rows], self.scores[rows], self.landmarks[rows])

    @staticmethod
    def join(parts: "Sequence[Detections]") -> "Detections":
        """Return the faces of at least one part, one after the other; they may have to be ordered by score again."""
        return Detections(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.landmarks for part in parts]),
        )

    @staticmethod
    def empty() -> "Detections":
        """Return the detections of a picture without faces."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """How a detector is run.

    Attributes:
        min_score: faces with a lower score are not reported, in (0, 1).
        max_side: a larger picture is shrunk until its longest side is this, in pixels.
        iou: of two boxes that overlap more than this the better one stays, in (0, 1].
        max_faces: at most so many faces are reported, the best ones.
        min_face: the shorter side of the smallest face that is wanted, in pixels of the picture. Pictures are then
            shrunk as far as it allows, see `longest_side`; None shrinks to `max_side` alone.
        low_share: boxes that reach this share of `min_score` are reported too, for those who can tell a face from
            where it was before; 1 reports none.

    Raises:
        ConfigError: a value is out of range.
    """

    min_score: float = 0.6
    max_side: int = 640
    iou: float = 0.3
    max_faces: int = 100
    min_face: float | None = None
    low_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.min_score < 1:
            raise ConfigError(f"min_score lies between 0 and 1, got {self.min_score}; use for example 0.6")
        if self.max_side < MULTIPLE:
            raise ConfigError(f"max_side must be at least {MULTIPLE} pixels, got {self.max_side}; use for example 640")
        if not 0 < self.iou <= 1:
            raise ConfigError(f"iou lies in (0, 1], got {self.iou}; use for example 0.3")
        if self.max_faces < 1:
            raise ConfigError(f"max_faces must be at least 1, got {self.max_faces}; use for example 100")
        if self.min_face is not None and not self.min_face > 0:
            raise ConfigError(f"the smallest face cannot be {self.min_face} px; use for example 40")
        if not 0 < self.low_share <= 1:
            raise ConfigError(f"low_share lies in (0, 1], got {self.low_share}; use for example 0.5")

    @property
    def low_score(self) -> float:
        """The score from which on a box is reported."""
        return self.min_score * self.low_share

    def longest_side(self, image: npt.NDArray[np.uint8], smallest_px: float) -> int:
        """Return the longest side to shrink a picture to, in pixels: as few as the smallest wanted face allows.

        Args:
            image: (H, W, 3), the picture.
            smallest_px: the shorter side of the smallest face that the network finds reliably in its input.
        """
        longest = max(image.shape[:2])
        if self.min_face is None:
            return self.max_side
        needed = _round_up(math.ceil(longest * smallest_px / self.min_face))
        return min(max(needed, LEAST_SIDE), self.max_side)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A picture made ready for a network, and the way back.

    Attributes:
        image: (H, W, 3) uint8, as the picture's channels; black to the right of and below the picture.
        ratio: (2,) float32, pixels of the picture for one of `image`, along x and y.
    """

    image: npt.NDArray[np.uint8]
    ratio: Floats

    def restore(self, found: Detections) -> Detections:
        """Return detections in `image` as detections in the picture."""
        offset = 0.5 * self.ratio - 0.5
        boxes = np.hstack([found.boxes[:, :2] * self.ratio + offset, found.boxes[:, 2:] * self.ratio])
        return Detections(boxes, found.scores, found.landmarks * self.ratio + offset)


def fit(image: npt.NDArray[np.uint8], max_side: int, canvas_wh: tuple[int, int] | None = None) -> Fitted:
    """Shrink a picture if it is too large, and pad it on the right and below.

    Args:
        image: (H, W, 3) uint8, H and W at least 1.
        max_side: longest side after shrinking, in pixels; nothing is ever enlarged.
        canvas_wh: size to pad to, for a network of fixed size; else the next multiple of 32.

    Raises:
        ImageError: the array is not an (H, W, 3) uint8 picture.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(f"a picture is (H, W, 3) uint8 and not empty, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    if canvas_wh is not None:
        scale = min(scale, canvas_wh[0] / width, canvas_wh[1] / height)
    small_wh = max(1, round(width * scale)), max(1, round(height * scale))
    ratio = np.array([width / small_wh[0], height / small_wh[1]], np.float32)
    if small_wh != (width, height):
        image = np.asarray(cv2.resize(image, small_wh, interpolation=cv2.INTER_AREA), np.uint8)
    full_wh = canvas_wh or (_round_up(small_wh[0]), _round_up(small_wh[1]))
    if full_wh != small_wh:
        padded = np.zeros((full_wh[1], full_wh[0], 3), np.uint8)
        padded[: small_wh[1], : small_wh[0]] = image
        image = padded
    return Fitted(image, ratio)


def best(found: Detections, iou: float, max_faces: int) -> Detections:
    """Order by score and drop every box that overlaps a better one (greedy non-maximum suppression).

    Args:
        found: any number of detections in any order.
        iou: a box stays if its intersection over union with each better kept box is at most this.
        max_faces: stop after so many.
    """
    order = np.argsort(-found.scores, kind="stable")[:MAX_CANDIDATES]
    left, top, width, height = found.boxes[order].T
    right, bottom, area = left + width, top + height, width * height
    alive = np.ones(len(order), bool)
    kept: list[int] = []
    for rank in range(len(order)):
        if not alive[rank]:
            continue
        kept.append(rank)
        if len(kept) == max_faces:
            break
        overlap_x = np.minimum(right, right[rank]) - np.maximum(left, left[rank])
        overlap_y = np.minimum(bottom, bottom[rank]) - np.maximum(top, top[rank])
        overlap = np.maximum(overlap_x, 0) * np.maximum(overlap_y, 0)
        # Without a division, so that empty boxes need no special case.
        alive &= overlap <= iou * (area + area[rank] - overlap)
    return found.select(order[np.array(kept, np.intp)])


def without_parts(found: Detections) -> Detections:
    """Drop what lies within the box of a better face: an eye, an ear or a hand before it, taken for a small face.

    Args:
        found: the best first.
    """
    left, top, width, height = found.boxes.T
    overlap_x = np.minimum.outer(left + width, left + width) - np.maximum.outer(left, left)
    overlap_y = np.minimum.outer(top + height, top + height) - np.maximum.outer(top, top)
    shared = np.maximum(overlap_x, 0) * np.maximum(overlap_y, 0)
    inside = np.tril(shared >= PART_SHARE * (width * height)[:, None], k=-1)  # of row's box in a better one's
    return found.select(~inside.any(axis=1))


def steady_landmarks(kept: Detections, candidates: Detections) -> Detections:
    """Replace the landmarks of each face by the mean over all cells that saw the same face.

    Neighbouring cells err in different directions, so their mean, weighted by the squared score, is closer to
    the truth and trembles less from frame to frame than what the best cell says.

    Args:
        kept: what `best` kept.
        candidates: what it was given.
    """
    landmarks = kept.landmarks.copy()
    left, top, width, height = candidates.boxes.T
    for row, (x, y, w, h) in enumerate(kept.boxes):
        overlap_x = np.minimum(left + width, x + w) - np.maximum(left, x)
        overlap_y = np.minimum(top + height, y + h) - np.maximum(top, y)
        overlap = np.maximum(overlap_x, 0) * np.maximum(overlap_y, 0)
        same = overlap >= SAME_FACE_IOU * (width * height + w * h - overlap)
        weight = candidates.scores[same] ** 2
        landmarks[row] = np.tensordot(weight / weight.sum(), candidates.landmarks[same], axes=1)
    return Detections(kept.boxes, kept.scores, landmarks)


def _round_up(side: int) -> int:
    return -(-side // MULTIPLE) * MULTIPLE
