"""What a network expects of a picture, fitted to the input that it has."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.export.foreign import Preprocessing


@dataclass(frozen=True, slots=True)
class Fitted:
    """Preprocessing for an input of known size.

    Attributes:
        preprocessing: what the network expects.
        sizes: of the axes of the input without the batch: (3, height, width) or (height, width, 3).
    """

    preprocessing: Preprocessing
    sizes: tuple[int, int, int]

    def apply(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Prepare (N, 112, 112, 3) uint8 RGB faces; returns (N, *sizes) float32."""
        height, width = self.sizes[1:] if self.preprocessing.layout == "nchw" else self.sizes[:2]
        return self.preprocessing.apply(faces, (width, height))


def fit(preprocessing: Preprocessing, name: str, shape: Sequence[int | str | None] | None) -> Fitted:
    """Fit preprocessing to an input.

    Args:
        preprocessing: what the network expects.
        name: of the input.
        shape: of the input; what is not a number is free. None if not even its rank is declared.

    Raises:
        ExportError: they do not fit.
    """
    if shape is None:
        shape = ["?", 3, "?", "?"] if preprocessing.layout == "nchw" else ["?", "?", "?", 3]
    width, height = preprocessing.size_wh(name, shape)
    return Fitted(preprocessing, (3, height, width) if preprocessing.layout == "nchw" else (height, width, 3))
