"""The aligned face: one template and one way to get there, for training, calibration and run time."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import ImageError

FACE_SIZE: Final = 112
"""Side of an aligned face, in pixels."""

TEMPLATE: Final[npt.NDArray[np.float64]] = np.array(
    [
        [38.2946, 51.6963],  # left eye; left is the smaller x in the image
        [73.5318, 51.5014],  # right eye
        [56.0252, 71.7366],  # nose
        [41.5493, 92.3655],  # left mouth corner
        [70.7299, 92.2041],  # right mouth corner
    ]
)
"""Five landmarks of an aligned face, (5, 2) float64, (x, y) in pixels of the 112 x 112 crop (ArcFace template)."""


def similarity_transform(source: npt.NDArray[np.floating], target: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the similarity that maps `source` onto `target` with the least squared error.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    IEEE TPAMI 13(4), 1991, equations 39 to 43 (rotation, uniform scale, translation; no reflection).

    Args:
        source: (K, 2) points (x, y), K >= 2, in pixels.
        target: (K, 2) points (x, y), in pixels.

    Returns:
        (2, 3) float64 matrix for `cv2.warpAffine`.

    Raises:
        ImageError: the source points coincide or are not finite, so no similarity is defined.
    """
    source = np.asarray(source, np.float64)
    target = np.asarray(target, np.float64)
    source_centre, target_centre = source.mean(axis=0), target.mean(axis=0)
    source_offset, target_offset = source - source_centre, target - target_centre
    variance = (source_offset**2).sum() / len(source)
    if not np.isfinite(variance) or variance < 1e-12:
        raise ImageError(f"cannot align a face whose landmarks coincide or are not finite: {source.tolist()}")
    covariance = target_offset.T @ source_offset / len(source)
    u, singular, vt = np.linalg.svd(covariance)
    flip = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = (u * flip) @ vt
    scale = (singular * flip).sum() / variance
    translation = target_centre - scale * rotation @ source_centre
    return np.hstack([scale * rotation, translation[:, None]])


def align(
    image: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating], size: int = FACE_SIZE
) -> npt.NDArray[np.uint8]:
    """Cut out one aligned face.

    A face much larger than the crop is shrunk by area averaging first, since bilinear sampling alone would
    alias. Beyond the border of the image its edge pixels are replicated.

    Args:
        image: (H, W, 3) uint8, any channel order; the crop keeps it.
        landmarks: (5, 2) left eye, right eye, nose, left and right mouth corner; (x, y) in pixels.
        size: side of the crop in pixels; the template is scaled with it.

    Returns:
        (size, size, 3) uint8.

    Raises:
        ImageError: the landmarks coincide or are not finite.
    """
    matrix = similarity_transform(landmarks, TEMPLATE * (size / FACE_SIZE))
    shrink = int(1.0 / np.hypot(matrix[0, 0], matrix[1, 0]))
    if shrink >= 2:
        image, matrix = _shrink_around_face(image, matrix, size, shrink)
    crop: npt.NDArray[np.uint8] = cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return crop


def _shrink_around_face(
    image: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], size: int, shrink: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Shrink the part of the image that the crop reads by an integer factor, and correct the matrix."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float64)
    inverse = np.linalg.inv(matrix[:, :2])
    reach = (corners - matrix[:, 2]) @ inverse.T
    left, top = np.clip(np.floor(reach.min(axis=0)) - shrink, 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(np.ceil(reach.max(axis=0)) + shrink, [left + 1, top + 1], [width, height]).astype(int)
    part = image[top:bottom, left:right]
    small_wh = max(1, (right - left) // shrink), max(1, (bottom - top) // shrink)
    # Pixel centres lie at integers: x = left + (u + 0.5) * ratio - 0.5 for u in the shrunk picture.
    ratio = np.array([(right - left) / small_wh[0], (bottom - top) / small_wh[1]])
    offset = np.array([left, top]) + 0.5 * ratio - 0.5
    small: npt.NDArray[np.uint8] = cv2.resize(part, small_wh, interpolation=cv2.INTER_AREA)
    corrected = np.hstack([matrix[:, :2] * ratio, (matrix[:, :2] @ offset + matrix[:, 2])[:, None]])
    return small, corrected
