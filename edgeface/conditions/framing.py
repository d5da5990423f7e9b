"""Faces that are not upright, and faces that the edge of the picture cuts."""

import math
from typing import Final, Literal

import cv2
import numpy as np

from edgeface.conditions.pixels import Image, typed

Edge = Literal["left", "right", "above", "below"]
_OUTWARDS_RAD: Final = {"right": 0.0, "below": math.pi / 2, "left": math.pi, "above": -math.pi / 2}


def turned(face: Image, quarters: int, rng: np.random.Generator) -> Image:
    """Turn a face by quarters of a circle, clockwise, as a camera that hangs on its side or upside down shows it.

    A detector that knows upright faces alone lays its landmarks somewhere on such a face, often the eyes on the
    mouth, so the crop is moved as well: by anything from nothing to that.
    """
    height, width = face.shape[:2]
    picture = np.ascontiguousarray(np.rot90(face, -quarters))
    scale = rng.uniform(0.9, 1.1)
    shift = rng.uniform(-8, 8, 2) * (width, height) / 112
    if quarters % 4 == 2:
        shift[1] += rng.uniform(0, 32) * height / 112
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.hstack([scale * np.eye(2), (centre * (1 - scale) + shift)[:, None]])
    return typed(cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


def cut(face: Image, edge: Edge, share: float, tilt_rad: float) -> Image:
    """Let the edge of the picture cut a face; alignment fills what is missing with the last pixels that there are.

    Args:
        face: (H, W, 3) uint8 RGB.
        edge: where the picture ends.
        share: of the crop that is missing, 0 to 1.
        tilt_rad: of the edge against the crop, as alignment turns tilted faces upright.
    """
    height, width = face.shape[:2]
    outwards_rad = _OUTWARDS_RAD[edge] + tilt_rad
    along = np.array([math.cos(outwards_rad), math.sin(outwards_rad)])
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    side = width if edge in ("left", "right") else height
    from_centre = (columns - (width - 1) / 2) * along[0] + (rows - (height - 1) / 2) * along[1]
    beyond = np.maximum(0, from_centre - (0.5 - share) * side)
    return typed(
        cv2.remap(
            face,
            (columns - beyond * along[0]).astype(np.float32),
            (rows - beyond * along[1]).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )
