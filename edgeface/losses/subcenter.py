"""Sub-center ArcFace (Deng et al., ECCV 2020)."""

from typing import Unpack

import torch
from torch import Tensor

from edgeface.losses.arcface import ArcFace
from edgeface.losses.classes import Chosen
from edgeface.losses.head import CosineOptions, require


class SubCenterArcFace(ArcFace):
    """ArcFace with K directions for each class, of which the nearest counts, equations 2 and 3.

        cos(class j) = max over k of cos(x, w_jk)

    Noisy faces gather at directions of their own and pull less at the main one. Only the nearest direction of each
    class gets a gradient.

    Args:
        classes: number of identities.
        embedding_size: D.
        subcenters: K >= 1.
        options: as `CosineHead`; the margin is in radians.
    """

    def __init__(
        self, classes: int, embedding_size: int, *, subcenters: int = 3, **options: Unpack[CosineOptions]
    ) -> None:
        require("subcenters", subcenters, 1, 100)
        super().__init__(classes, embedding_size, per_class=subcenters, **options)

    def cosines(self, unit: Tensor, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """Return the cosines (N, S) with the nearest direction of each class, and those with the rows' own, (M,)."""
        index, count = chosen.classes, self.per_class
        if index is not None:
            index = (index[:, None] * count + torch.arange(count, device=index.device)).flatten()
        # The targets are not among its columns: they are those of the nearest.
        every, _ = super().cosines(unit, Chosen(index, chosen.rows[:0], chosen.columns[:0]))  # (N, S * K)
        nearest = every.view(len(every), -1, count).max(2).values
        return nearest, nearest[chosen.rows, chosen.columns]
