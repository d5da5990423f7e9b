"""Which cells learn which face, and what is minimised."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeface.models.detector import STRIDES, Level

NEGATIVE: Final = -1
IGNORED: Final = -2

FACE_RANGES: Final = ((0.0, 40.0), (28.0, 96.0), (72.0, float("inf")))
"""Faces of this side, sqrt(width * height) in pixels, are learned at strides 8, 16, 32; some at two of them."""

RADIUS: Final = 1.5
"""Cells whose centre is nearer to the face's centre than this, in strides along both axes, learn it, ..."""

CENTRAL: Final = 0.4
"""... if they are nearer than this share of its width and height, too. The nearest cell always does."""

FOCUS: Final = 2.0
"""The beta of the quality focal loss."""

SCORE_WEIGHT: Final = 2.0
BOX_WEIGHT: Final = 2.0
LANDMARK_WEIGHT: Final = 25.0
LANDMARK_BETA: Final = 0.01
"""Landmark errors below this share of the face's side count squared, larger ones linearly."""

LEGIBLE_SIDE: Final = 40.0
"""Landmarks of smaller faces count less, in proportion to the side in pixels: there is little to see, in mosaics they
are many, and without this they would be most of what landmarks learn from."""


class Targets(NamedTuple):
    """What a batch of N pictures with A cells in all levels together should give.

    Attributes:
        labels: (N, A) int64, the row of the cell's face in `boxes`, or `NEGATIVE`, or `IGNORED`.
        boxes: (F, 4) float32 left, top, right, bottom in pixels, the faces of all pictures.
        landmarks: (F, 10) float32 x0, y0, x1, y1, ... in pixels; NaN where a face has none.
    """

    labels: Tensor
    boxes: Tensor
    landmarks: Tensor


class Losses(NamedTuple):
    """The parts of the loss, each a scalar, and their weighted sum."""

    total: Tensor
    score: Tensor
    box: Tensor
    landmark: Tensor


def cell_centres(size_wh: tuple[int, int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the centres (A, 2) in pixels and strides (A,) of all cells, level by level, row by row."""
    centres, strides = [], []
    for stride in STRIDES:
        columns, rows = np.meshgrid(np.arange(size_wh[0] // stride), np.arange(size_wh[1] // stride))
        centres.append((np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) * stride)
        strides.append(np.full(columns.size, stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(strides).astype(np.float32)


def assign(
    boxes: npt.NDArray[np.float32], sure: npt.NDArray[np.bool_], size_wh: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Decide for each cell of a picture which face it learns.

    Centre sampling as in FCOS, by level as in its equation 3, but the levels overlap and the central region
    shrinks with the face. Where two faces claim a cell the smaller one gets it. A face that is not sure hides
    all cells in its box that learn nothing else.

    Args:
        boxes: (N, 4) x, y, width, height in pixels.
        sure: (N,) whether the face is taught.
        size_wh: of the picture, multiples of 32.

    Returns:
        (A,) rows of `boxes`, `NEGATIVE` or `IGNORED`, cells in the order of `cell_centres`.
    """
    centres, strides = cell_centres(size_wh)
    labels = np.full(len(centres), NEGATIVE, np.int64)
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    for x, y, w, h in boxes[~sure].tolist():
        inside = (centres > [x, y]) & (centres < [x + w, y + h])
        labels[inside.all(axis=1)] = IGNORED
    for row in np.argsort(-boxes[:, 2:].prod(axis=1), kind="stable"):
        if not sure[row]:
            continue
        distance = np.abs(centres - middle[row])
        reach = np.minimum(RADIUS * strides[:, None], CENTRAL * boxes[row, 2:])
        near = (distance <= reach).all(axis=1)
        side = float(np.sqrt(boxes[row, 2:].prod()))
        for stride, (least, most) in zip(STRIDES, FACE_RANGES, strict=True):
            level = strides == stride
            if least <= side < most:
                labels[near & level] = row
                labels[np.flatnonzero(level)[distance[level].max(axis=1).argmin()]] = row
    return labels


def detection_loss(levels: tuple[Level, Level, Level], targets: Targets) -> Losses:
    """Score, box and landmark loss of a batch.

    Scores: quality focal loss (Li et al., "Generalized Focal Loss", NeurIPS 2020, equation 2); the quality is
    the square root of the overlap of the predicted box with the face, so that the best box survives the
    suppression. Boxes: 1 - GIoU (Rezatofighi et al., CVPR 2019). Landmarks: smooth L1 in units of the face's
    side, over the faces that have any; see `LEGIBLE_SIDE`. Each is the mean over the cells that learn a face (scores:
    sum over all cells, divided by their number).

    Args:
        levels: the network's output for N pictures.
        targets: what it should have been.
    """
    logits = torch.cat([level.scores.flatten(1) for level in levels], dim=1)  # (N, A)
    height, width = (size * STRIDES[0] for size in levels[0].scores.shape[2:])
    centres, strides = (torch.from_numpy(array) for array in cell_centres((width, height)))
    picture, cell = torch.nonzero(targets.labels >= 0, as_tuple=True)  # (P,) each
    face = targets.labels[picture, cell]
    quality = torch.zeros_like(logits)
    if len(face):
        centre, stride = centres[cell], strides[cell, None]
        sides = torch.cat([level.boxes.flatten(2) for level in levels], dim=2)[picture, :, cell] * stride
        offsets = torch.cat([level.landmarks.flatten(2) for level in levels], dim=2)[picture, :, cell] * stride
        predicted = torch.cat([centre - sides[:, :2], centre + sides[:, 2:]], dim=1)  # (P, 4)
        wanted = targets.boxes[face]
        iou, giou = overlaps(predicted, wanted)
        quality[picture, cell] = iou.detach().sqrt()
        box = (1 - giou).mean()
        side = (wanted[:, 2:] - wanted[:, :2]).prod(dim=1, keepdim=True).sqrt()
        error = (centre.repeat(1, 5) + offsets - targets.landmarks[face]) / side
        known = torch.isfinite(error).all(dim=1)  # a face may have no landmarks
        weight = (side[known] / LEGIBLE_SIDE).clamp(max=1)
        distance = F.smooth_l1_loss(error[known], torch.zeros_like(error[known]), reduction="none", beta=LANDMARK_BETA)
        landmark = (distance * weight).sum() / (10 * weight.sum()).clamp(min=1e-6)
    else:
        box = landmark = sum((level.boxes.sum() + level.landmarks.sum()) * 0 for level in levels)  # type: ignore[assignment]
    counted = targets.labels != IGNORED
    focus = (torch.sigmoid(logits.detach()) - quality).abs() ** FOCUS * counted
    score = F.binary_cross_entropy_with_logits(logits, quality, weight=focus, reduction="sum") / max(1, len(face))
    return Losses(SCORE_WEIGHT * score + BOX_WEIGHT * box + LANDMARK_WEIGHT * landmark, score, box, landmark)


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and GIoU of each box with the same row of the other; (P, 4) left, top, right, bottom -> (P,)."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    union = (first[:, 2:] - first[:, :2]).prod(dim=1) + (second[:, 2:] - second[:, :2]).prod(dim=1) - shared
    iou = shared / union.clamp(min=1e-6)
    low, high = torch.minimum(first[:, :2], second[:, :2]), torch.maximum(first[:, 2:], second[:, 2:])
    hull = (high - low).prod(dim=1).clamp(min=1e-6)
    return iou, iou - (hull - union) / hull
