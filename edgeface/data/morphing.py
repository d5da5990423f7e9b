"""Faces that nobody has: warped, or mixed of two.

A student that imitates a teacher learns its function, and a function can be asked anywhere: the more different faces
it is asked about the better (Beyer et al., 2021, arXiv 2106.05237, "function matching", who mix pictures likewise).
Whoever is made here has no identity; only a teacher that sees the very picture can say what to answer.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

GRID: Final = 5
"""Points a side that a warp moves; what lies between them follows smoothly."""
REACH: Final = 2.5
"""Standard deviation of their moves, in pixels of a face of 112."""
SOFT: Final = (2.0, 12.0)
"""How wide the seam between two faces may be, in pixels of a face of 112."""


def warp(face: Image, rng: np.random.Generator) -> Image:
    """Move the parts of a face smoothly against one another, so that its shape is somebody else's.

    Args:
        face: (H, W, 3) uint8.
        rng: the only source of chance.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = face.shape[:2]
    moves = rng.normal(0, REACH * width / 112, (GRID, GRID, 2)).astype(np.float32)
    field = cv2.resize(moves, (width, height), interpolation=cv2.INTER_CUBIC)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    warped = cv2.remap(
        face, columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.uint8)


def blend(face: Image, other: Image, rng: np.random.Generator) -> Image:
    """Mix two aligned faces: everywhere in one proportion, or one part of each with a soft seam between.

    Eyes, nose and mouth of both lie in the same places, so what comes out is a face. The other is mirrored every
    second time.

    Args:
        face: (H, W, 3) uint8.
        other: (H, W, 3) uint8.
        rng: the only source of chance.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = face.shape[:2]
    if rng.random() < 0.5:
        other = np.ascontiguousarray(other[:, ::-1])
    if rng.random() < 0.5:
        share = np.float32(rng.uniform(0.3, 0.7))
        return np.asarray(cv2.addWeighted(face, float(share), other, float(1 - share), 0), np.uint8)
    # A straight seam through somewhere near the middle, at any angle.
    angle_rad, softness = rng.uniform(0, 2 * np.pi), rng.uniform(*SOFT) * width / 112
    centre = rng.uniform(0.3, 0.7, 2) * (width - 1, height - 1)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    distance = (columns - centre[0]) * np.cos(angle_rad) + (rows - centre[1]) * np.sin(angle_rad)
    share_map = np.clip(distance / softness + 0.5, 0, 1).astype(np.float32)[..., None]
    mixed = other + (face.astype(np.float32) - other) * share_map
    return np.asarray(np.rint(mixed), np.uint8)
