"""The combined margin (Deng et al., 2019, arXiv 1801.07698)."""

import math
from typing import Unpack

from torch import Tensor

from edgeface.losses.arcface import rotated
from edgeface.losses.head import CosineOptions, PlainCosineHead, require
from edgeface.losses.sphereface import angle, falling_cosine


class CombinedMargin(PlainCosineHead):
    """All three margins, equation 4: cos(theta) becomes cos(m1 theta + m2) - m3.

    Beyond pi it goes on falling: as ArcFace does where m1 is 1, else as SphereFace does. (1, 0.5, 0) is ArcFace,
    (1, 0, 0.35) CosFace, (m, 0, 0) SphereFace.

    Args:
        classes: number of identities.
        embedding_size: D.
        m1: factor of the angle, in [1, 8].
        m2: added to the angle, in radians, in [0, pi / 2].
        m3: taken off the cosine, in [0, 1].
        options: as `CosineHead`, without a margin.
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        m1: float = 1.0,
        m2: float = 0.3,
        m3: float = 0.2,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(classes, embedding_size, **options)
        require("m1", m1, 1, 8)
        require("m2", m2, 0, math.pi / 2)
        require("m3", m3, 0, 1)
        self.margins = m1, m2, m3

    def target_cosine(self, cosine: Tensor) -> Tensor:
        """Return cos(m1 theta + m2) - m3 for cos(theta) = `cosine` (N,) float32."""
        m1, m2, m3 = self.margins
        if m1 == 1:
            return rotated(cosine, cosine.new_tensor(m2)) - m3
        return falling_cosine(m1 * angle(cosine) + m2) - m3
