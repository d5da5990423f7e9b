"""How far apart the embeddings of different faces lie, and what a cosine says where that is not far.

Between the embeddings of two strangers a cosine of 0 is usual, but not the rule: networks whose embeddings share a
large mean have 0.5 or 0.85 there. The same error of quantization then moves a face by the same angle, but eats more of
what tells it from others. So bounds are stated on a scale of their own: with `common` the cosine that two different
faces usually have, a cosine c counts as 1 - (1 - c) / (1 - common). That is 1 for the same embedding, 0 for one that
is as far away as a stranger, and about the cosine that would be seen if the common part were taken away.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ExportError

WIDEST: Final = 1e-3
"""Least that embeddings of different faces may differ: 1 - cosine, in the median. Below it the rounding of float32 and
of cosines with four digits is as large as what tells faces apart."""

MAX_FACES: Final = 500
"""More faces than this are not compared each with each."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Cosines between the embeddings of different faces: the smallest, the median and the largest."""

    low: float
    median: float
    high: float

    @property
    def common(self) -> float:
        """The cosine that two different faces usually have, at least 0."""
        return max(self.median, 0.0)

    def __str__(self) -> str:
        return f"cosines from {self.low:.4f} to {self.high:.4f}, {self.median:.4f} in the median"


def measure_spread(embeddings: npt.NDArray[np.floating]) -> Spread:
    """Compare the embeddings of different faces, (N, D) of unit length, N >= 2, each with each.

    Raises:
        ExportError: one of them is zero or not finite.
    """
    chosen = np.asarray(embeddings, np.float64)[:MAX_FACES]
    lengths = np.linalg.norm(chosen, axis=1)
    broken = int((~(np.abs(lengths - 1) < 0.01)).sum())
    if broken:
        raise ExportError(
            f"the network gives embeddings of zeros, or none that are finite, for {broken} of {len(chosen)} faces; "
            "check --mean and --scale, or take another checkpoint"
        )
    cosines = (chosen @ chosen.T)[np.triu_indices(len(chosen), 1)]
    return Spread(float(cosines.min()), float(np.median(cosines)), float(cosines.max()))


def check_spread(spread: Spread) -> None:
    """Refuse a network that does not tell faces apart.

    Raises:
        ExportError: their embeddings are all alike.
    """
    if 1 - spread.median < WIDEST:
        raise ExportError(
            f"the network gives nearly the same embedding for every face: between different ones there are {spread}, "
            f"and at most {1 - WIDEST:g} in the median can be told apart; check --mean, --scale and --channel-order, "
            "take another checkpoint, or spread the embeddings with --output-transform"
        )


def from_relative(relative: float, common: float) -> float:
    """Return the cosine that a value means on the scale on which strangers, with the cosine `common`, have 0."""
    return 1 - (1 - relative) * (1 - common)
