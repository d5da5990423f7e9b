"""Moving a labelled picture: rotation, zoom, shift and mirror, with its boxes and landmarks."""

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.data.detection import SURE_SCORE, Labelled

MIRRORED: Final = (1, 0, 2, 4, 3)
"""Order of the five landmarks in a mirror image: the left eye becomes the right one."""

MIN_SIDE: Final = 8.0
"""A face whose longer side is shorter than this, in pixels, is too small to teach."""

MIN_VISIBLE: Final = 0.6
"""A face of which a smaller part lies within the picture is not taught."""

Matrix = npt.NDArray[np.float64]


def placement(
    centre: tuple[float, float], target: tuple[float, float], scale: float, angle_rad: float, mirror: bool
) -> Matrix:
    """Return the (2, 3) matrix that zooms and turns about `centre` and moves it to `target`.

    Args:
        centre: (x, y) in the old picture.
        target: (x, y) in the new one.
        scale: new pixels for one old pixel.
        angle_rad: positive turns x towards y, clockwise on the screen.
        mirror: flip left and right first.
    """
    cosine, sine = scale * math.cos(angle_rad), scale * math.sin(angle_rad)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    if mirror:
        linear[:, 0] *= -1
    return np.hstack([linear, (np.array(target) - linear @ np.array(centre))[:, None]])


def squeeze(matrix: Matrix, centre: tuple[float, float], factor: float) -> Matrix:
    """Return the (2, 3) matrix that first makes the old picture `factor` times as wide about `centre`."""
    linear = matrix[:, :2] * [factor, 1.0]
    return np.hstack([linear, (matrix @ [*centre, 1.0] - linear @ np.array(centre))[:, None]])


def move_points(points: npt.NDArray[np.floating], matrix: Matrix) -> npt.NDArray[np.float32]:
    """Apply a (2, 3) matrix to points (..., 2)."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return moved.astype(np.float32)


def move_landmarks(landmarks: npt.NDArray[np.float32], matrix: Matrix) -> npt.NDArray[np.float32]:
    """Apply a (2, 3) matrix to landmarks (N, 5, 2); where it mirrors, left and right change their names."""
    moved = move_points(landmarks, matrix)
    return moved[:, list(MIRRORED)] if np.linalg.det(matrix[:, :2]) < 0 else moved


def move_boxes(boxes: npt.NDArray[np.float32], matrix: Matrix) -> npt.NDArray[np.float32]:
    """Apply a (2, 3) matrix to upright boxes (N, 4) x, y, w, h.

    A face fills its box like an ellipse rather than like a rectangle, so the new box is the one around the
    moved ellipse: at 45 degrees the box around the moved corners would be up to 1.4 times too large.
    """
    half = boxes[:, 2:] / 2
    centre = move_points(boxes[:, :2] + half, matrix)
    # The ellipse {A (half * u) : |u| = 1} reaches sqrt(sum_j (A_ij half_j)^2) along axis i.
    reach = np.sqrt((half**2) @ (matrix[:, :2] ** 2).T).astype(np.float32)
    return np.hstack([centre - reach, 2 * reach])


def move(labelled: Labelled, matrix: Matrix, canvas: npt.NDArray[np.uint8]) -> Labelled:
    """Draw a picture through a (2, 3) matrix onto another one.

    Faces that leave the canvas by a large part or become tiny keep their place but lose their score, so that
    they are left out of the loss; those wholly outside are dropped.

    Args:
        labelled: the picture.
        matrix: from its pixels to those of the canvas, see `placement`.
        canvas: (H, W, 3) uint8, drawn upon; it should show no face.
    """
    _warp(labelled.image, matrix, canvas)
    boxes = move_boxes(labelled.boxes, matrix)
    limit = np.array([canvas.shape[1], canvas.shape[0]], np.float32)
    low, high = np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, :2] + boxes[:, 2:], limit)
    visible = np.prod(np.maximum(high - low, 0), axis=1) / np.maximum(np.prod(boxes[:, 2:], axis=1), 1e-6)
    taught = (visible >= MIN_VISIBLE) & (boxes[:, 2:].max(axis=1, initial=0) >= MIN_SIDE)
    scores = np.where(taught, labelled.scores, np.minimum(labelled.scores, SURE_SCORE / 2)).astype(np.float32)
    stay = visible > 0
    return Labelled(canvas, boxes[stay], move_landmarks(labelled.landmarks, matrix)[stay], scores[stay])


def _warp(image: npt.NDArray[np.uint8], matrix: Matrix, canvas: npt.NDArray[np.uint8]) -> None:
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 0.7:  # bilinear sampling alone would alias
        height, width = image.shape[:2]
        small_wh = max(1, round(width * scale)), max(1, round(height * scale))
        ratio = np.array([width / small_wh[0], height / small_wh[1]])
        small: npt.NDArray[np.uint8] = cv2.resize(image, small_wh, interpolation=cv2.INTER_AREA)
        offset = 0.5 * ratio - 0.5
        matrix = np.hstack([matrix[:, :2] * ratio, (matrix[:, :2] @ offset + matrix[:, 2])[:, None]])
        image = small
    size_wh = canvas.shape[1], canvas.shape[0]
    border = cv2.BORDER_TRANSPARENT
    cv2.warpAffine(image, matrix, size_wh, dst=canvas, flags=cv2.INTER_LINEAR, borderMode=border)
