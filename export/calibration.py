"""Choosing the faces that fix the quantization ranges."""

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import FaceSet
from edgeface.errors import EdgefaceError, ExportError
from edgeface.export.quantize import MIN_IMAGES


def draw_faces(faces: FaceSet, count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Draw faces at random, the same ones for the same seed; broken pictures are passed over.

    Returns:
        (K, 112, 112, 3) uint8 RGB, K = min(count, readable faces).

    Raises:
        ExportError: fewer than 16 can be read.
    """
    drawn: list[npt.NDArray[np.uint8]] = []
    faults: list[str] = []
    for index in np.random.default_rng(seed).permutation(len(faces)):
        if len(drawn) == count:
            break
        try:
            drawn.append(faces.read(int(index)))
        except EdgefaceError as error:
            faults.append(str(error))
    if len(drawn) < MIN_IMAGES:
        hint = f"; the first that cannot be used: {faults[0]}" if faults else ""
        raise ExportError(
            f"calibration needs at least {MIN_IMAGES} aligned faces, {faces.name} gives {len(drawn)}{hint}"
        )
    return np.stack(drawn)
