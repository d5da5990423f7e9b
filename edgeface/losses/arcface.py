"""ArcFace (Deng et al., 2019, arXiv 1801.07698)."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from edgeface.losses.head import CosineHead


class ArcFace(CosineHead):
    """Additive angular margin, equation 3: the target's cosine cos(theta) becomes cos(theta + margin).

    Where theta + margin exceeds pi, cos(theta + margin) would rise again; there it is continued by
    cos(theta) - margin * sin(margin), as in the authors' code, which keeps falling.
    """

    default_margin: ClassVar[float] = 0.5
    margin_limit: ClassVar[float] = math.pi / 2
    margin_unit: ClassVar[str] = "radians"

    def target_cosine(self, cosine: Tensor) -> Tensor:
        """Return cos(theta + margin) for cos(theta) = `cosine` (N,) float32."""
        return rotated(cosine, cosine.new_tensor(self.margin))


def rotated(cosine: Tensor, margin_rad: Tensor) -> Tensor:
    """Return cos(theta + margin), continued beyond pi, for cos(theta) = `cosine` (N,); margin () or (N,) >= 0."""
    # sin has no finite slope at cos = +-1; rounding may even pass 1. The slope of the loss by the
    # embedding is finite there all the same, since that of the cosine vanishes, so that of the clamped
    # sine may be zero.
    sine = (1 - cosine.square()).clamp_min(1e-12).sqrt()
    beyond = cosine < torch.cos(math.pi - margin_rad)
    inside = cosine * torch.cos(margin_rad) - sine * torch.sin(margin_rad)
    return torch.where(beyond, cosine - margin_rad * torch.sin(margin_rad), inside)
