"""AdaFace (Kim, Jain and Liu, 2022, arXiv 2204.00964)."""

import math
from typing import ClassVar, Final, Unpack

import torch
from torch import Tensor

from edgeface.losses.head import CosineHead, CosineOptions, require
from edgeface.losses.sphereface import angle

SHORTEST: Final = 1e-3
LONGEST: Final = 100.0
"""Lengths of embeddings are clipped to these, as in the authors' code."""


class AdaFace(CosineHead):
    """A margin that adapts to the quality of the picture, read off the length of its embedding; equation 15.

        q = clip((|x| - mean) / (sd / h), -1, 1)        mean and sd of |x|, running
        T(cos(theta)) = cos(theta - m q) - (m + m q)

    A short embedding (q = -1) gets the margin of ArcFace, a middling one (q = 0) that of CosFace, a long one (q = 1)
    cos(theta - m) - 2 m. theta - m q is clipped to [0, pi]; q has no gradient (section 3.4).

    The statistics begin as a plain mean of the batches so far and end as one with momentum; the authors begin at a
    length of 20, which fits their own network.

    Args:
        classes: number of identities.
        embedding_size: D.
        concentration: h > 0: how many standard deviations 1 / h make a picture good or bad.
        momentum: of the statistics, in [0, 1).
        options: as `CosineHead`; the margin m is in radians and in the cosine alike.
    """

    default_margin: ClassVar[float] = 0.4
    margin_limit: ClassVar[float] = 1.0
    margin_unit: ClassVar[str] = "radians and cosine"

    length: Tensor
    """(3,) float32: running mean and standard deviation of the lengths, and the batches counted; saved."""

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        concentration: float = 0.333,
        momentum: float = 0.99,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(classes, embedding_size, **options)
        require("concentration", concentration, 1e-3, 1e3)
        require("momentum", momentum, 0, 0.9999)
        self.concentration = concentration
        self.momentum = momentum
        self.register_buffer("length", torch.tensor([1.0, 1.0, 0.0]))

    def adapted_cosine(self, cosine: Tensor, features: Tensor, known: Tensor) -> Tensor:
        """Return cos(theta - m q) - (m + m q) for each row; arguments as `CosineHead.adapted_cosine`."""
        lengths = features.detach().norm(dim=1).clamp(SHORTEST, LONGEST)
        if self.training:
            self._count(lengths[known])
        mean, sd, _ = self.length.to(lengths.dtype)
        quality = ((lengths - mean) * self.concentration / (sd + 1e-3)).clamp(-1, 1)
        turned = (angle(cosine) - self.margin * quality).clamp(0, math.pi)
        harder: Tensor = torch.cos(turned) - self.margin * (1 + quality)
        return harder

    def _count(self, lengths: Tensor) -> None:
        if not len(lengths):
            return
        mean, sd, batches = self.length
        rate = max(1 - self.momentum, 1 / (batches.item() + 1))
        now = torch.stack([lengths.mean(), lengths.std(correction=min(1, len(lengths) - 1))]).to(mean.dtype)
        self.length = torch.cat([torch.stack([mean, sd]).lerp(now, rate), (batches + 1)[None]])
