"""SphereFace (Liu et al., 2017, arXiv 1704.08063)."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from edgeface.losses.head import CosineHead


class SphereFace(CosineHead):
    """Multiplicative angular margin, equation 7: cos(theta) becomes psi(margin * theta).

        psi(a) = (-1)^k cos(a) - 2 k   for a in [k pi, (k + 1) pi]

    psi falls all the way. The paper scales by |x| and takes margin 4, which needs its annealing; here the scale is
    the constant s as in the later losses, the margin need not be whole, and its default is mild.
    """

    default_margin: ClassVar[float] = 1.5
    margin_floor: ClassVar[float] = 1.0
    margin_limit: ClassVar[float] = 8.0
    margin_unit: ClassVar[str] = "factor of the angle"

    def target_cosine(self, cosine: Tensor) -> Tensor:
        """Return psi(margin * theta) for cos(theta) = `cosine` (N,) float32."""
        return falling_cosine(self.margin * angle(cosine))


def angle(cosine: Tensor) -> Tensor:
    """Return theta in radians for cos(theta) = `cosine` (N,); its slope is zero at +-1, where acos has none."""
    # As for ArcFace's sine: the slope of the cosine by the embedding vanishes there.
    return torch.acos(cosine.clamp(-1 + 2e-7, 1 - 2e-7))


def falling_cosine(angle_rad: Tensor) -> Tensor:
    """Return psi(angle): the cosine, continued beyond pi so that it keeps falling."""
    turns = (angle_rad.detach() / math.pi).floor()
    sign = 1 - 2 * (turns % 2)
    return sign * torch.cos(angle_rad) - 2 * turns
