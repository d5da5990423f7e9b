"""What data jobs need of a face detector, and which of several faces they take.

Data knows no network: whoever starts a job passes a detector of `edgeface.runtime.detection.detector`, or any other.
"""

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


class FoundFaces(Protocol):
    """The faces of one picture: boxes (N, 4) x, y, width, height; scores (N,); landmarks (N, 5, 2); in pixels."""

    @property
    def boxes(self) -> Floats: ...  # noqa: D102
    @property
    def scores(self) -> Floats: ...  # noqa: D102
    @property
    def landmarks(self) -> Floats: ...  # noqa: D102


class FaceFinder(Protocol):
    """A face detector that several threads may use at once, as those of the runtime."""

    def detect(self, image: npt.NDArray[np.uint8]) -> FoundFaces:
        """Find the faces in `image`, (H, W, 3) uint8 RGB of any size."""
        ...


def _largest(boxes: Floats, width: int, height: int) -> Floats:
    area: Floats = boxes[:, 2] * boxes[:, 3]
    return area


def _central(boxes: Floats, width: int, height: int) -> Floats:
    offset = boxes[:, :2] + boxes[:, 2:] / 2 - np.array([width, height]) / 2
    distance: Floats = -(offset**2).sum(axis=1)
    return distance


def _prominent(boxes: Floats, width: int, height: int) -> Floats:
    """Area less twice the squared distance from the centre: what insightface's and facenet's aligners take."""
    return _largest(boxes, width, height) + 2 * _central(boxes, width, height)


CHOICES: Final[dict[str, Callable[[Floats, int, int], Floats]]] = {
    "prominent": _prominent,
    "largest": _largest,
    "central": _central,
}
"""Which face of several is taken: the one with the highest value."""
