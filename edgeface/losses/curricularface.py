"""CurricularFace (Huang et al., 2020, arXiv 2004.00288)."""

from typing import Unpack

import torch
from torch import Tensor

from edgeface.losses.arcface import ArcFace
from edgeface.losses.head import CosineOptions, known_mean, require


class CurricularFace(ArcFace):
    """ArcFace whose hard negatives weigh more as training goes on, equations 5 to 8.

        N(t, cos j) = cos j            where cos j <= T(cos y)
                      cos j (t + cos j)  else, with T that of ArcFace
        t = momentum t + (1 - momentum) mean(cos y), from 0

    t is a running mean without a gradient, saved with the head; that of the batch is counted before its loss.

    Args:
        classes: number of identities.
        embedding_size: D.
        momentum: of t, in [0, 1).
        options: as `CosineHead`; the margin is in radians.
    """

    t: Tensor
    """() float32: how well the targets are met so far, in [-1, 1]."""

    def __init__(
        self, classes: int, embedding_size: int, *, momentum: float = 0.99, **options: Unpack[CosineOptions]
    ) -> None:
        super().__init__(classes, embedding_size, **options)
        require("momentum", momentum, 0, 0.9999)
        self.momentum = momentum
        self.register_buffer("t", torch.zeros(()))

    def curriculum(self, cosine: Tensor, known: Tensor) -> Tensor | None:
        """Return t after this batch of targets' cosines (N,), of which those `known` (N,) bool count."""
        if self.training and bool(known.any()):
            mean = known_mean(cosine.detach(), known).to(self.t.dtype)
            self.t = self.momentum * self.t + (1 - self.momentum) * mean
        return self.t
