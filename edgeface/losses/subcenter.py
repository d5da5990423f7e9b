"""Sub-center ArcFace (Deng et al., ECCV 2020)."""

from typing import Unpack

import torch
from torch import Tensor, nn

from edgeface.losses.arcface import ArcFace
from edgeface.losses.head import CosineOptions, require


class SubCenterArcFace(ArcFace):
    """ArcFace with K directions for each class, of which the nearest counts, equations 2 and 3.

        cos(class j) = max over k of cos(x, w_jk)

    Noisy faces gather at directions of their own and pull less at the main one. Only the nearest direction of each
    class gets a gradient. `weight` is (C * K, D), the K of one class side by side.

    Args:
        classes: number of identities C.
        embedding_size: D.
        subcenters: K >= 1.
        options: as `CosineHead`; the margin is in radians.
    """

    def __init__(
        self, classes: int, embedding_size: int, *, subcenters: int = 3, **options: Unpack[CosineOptions]
    ) -> None:
        super().__init__(classes, embedding_size, **options)
        require("subcenters", subcenters, 1, 100)
        self.subcenters = subcenters
        self.weight = nn.Parameter(torch.empty(classes * subcenters, embedding_size))
        nn.init.normal_(self.weight, std=0.01)

    def cosines(self, directions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosines (N, C) with the nearest direction of each class, and of the class `target` (N,)."""
        every, _ = super().cosines(directions, target)  # (N, C * K); the second is not that of the class
        nearest = every.view(len(every), self.classes, self.subcenters).max(2).values
        return nearest, nearest.gather(1, target[:, None]).squeeze(1)
