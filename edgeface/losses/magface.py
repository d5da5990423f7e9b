"""MagFace (Meng et al., 2021, arXiv 2103.06627)."""

import math
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from edgeface.errors import ConfigError
from edgeface.losses.arcface import rotated
from edgeface.losses.cross_entropy import IGNORED
from edgeface.losses.head import CosineHead, CosineOptions, known_mean, require, widened


class MagFace(CosineHead):
    """ArcFace with a margin that rises with the length a = |x| of the embedding, which is drawn out; equations 5 to 7.

        m(a) = margin + (margin_high - margin) (a - length_low) / (length_high - length_low)
        g(a) = 1 / a + a / length_high^2
        L = ArcFace with m(a) + length_weight mean of g(a)

    a is clipped to [length_low, length_high], outside which margin and g have no slope. The gradient reaches
    the length through both, so that after training the length measures quality.

    Args:
        classes: number of identities.
        embedding_size: D.
        margin_high: margin in radians at `length_high`, in [margin, pi / 2].
        length_low: > 0.
        length_high: above `length_low`.
        length_weight: lambda_g >= 0.
        options: as `CosineHead`; `margin` is that at `length_low`, in radians.
    """

    default_margin: ClassVar[float] = 0.45
    margin_limit: ClassVar[float] = math.pi / 2
    margin_unit: ClassVar[str] = "radians"

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        margin_high: float = 0.8,
        length_low: float = 10.0,
        length_high: float = 110.0,
        length_weight: float = 35.0,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(classes, embedding_size, **options)
        require("margin_high", margin_high, self.margin, math.pi / 2)
        require("length_weight", length_weight, 0, 1e6)
        if not 0 < length_low < length_high:
            raise ConfigError(
                f"loss.length_low = {length_low} and loss.length_high = {length_high} are no range of lengths; "
                "give two positive numbers, the second the larger"
            )
        self.margin_high = margin_high
        self.lengths = length_low, length_high
        self.length_weight = length_weight

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of both parts, averaged over the rows that are not ignored."""
        loss = super().forward(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            length = self._length(widened(embeddings))
            drawn = 1 / length + length / self.lengths[1] ** 2
            return loss + self.length_weight * known_mean(drawn, labels != IGNORED)

    def adapted_cosine(self, cosine: Tensor, features: Tensor, known: Tensor) -> Tensor:
        """Return cos(theta + m(a)) for each row; arguments as `CosineHead.adapted_cosine`."""
        low, high = self.lengths
        share = (self._length(features) - low) / (high - low)
        return rotated(cosine, self.margin + (self.margin_high - self.margin) * share)

    def _length(self, features: Tensor) -> Tensor:
        lengths: Tensor = features.norm(dim=1).clamp(*self.lengths)
        return lengths
