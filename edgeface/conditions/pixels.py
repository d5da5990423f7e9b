"""What the conditions share: pictures and how they are laid over one another."""

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""An aligned face, (112, 112, 3) uint8 RGB."""


def typed(image: npt.NDArray[np.generic]) -> Image:
    """Say what OpenCV's own annotations leave open: a uint8 picture gives a uint8 picture."""
    return np.asarray(image, np.uint8)


def rounded(values: npt.NDArray[np.floating]) -> Image:
    """Return grey values as a sensor stores them: whole numbers from 0 to 255."""
    return typed(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def lay_over(face: Image, layer: npt.NDArray[np.floating], share: npt.NDArray[np.floating]) -> Image:
    """Lay a layer over a face.

    Args:
        face: (H, W, 3) uint8; left as it is.
        layer: (H, W, 3) or (3,), grey values from 0 to 255.
        share: (H, W), how much of the layer is seen, from 0 to 1.
    """
    under = face.astype(np.float32)
    return rounded(under + (layer - under) * share[..., None])
