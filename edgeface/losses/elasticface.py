"""ElasticFace (Boutros et al., 2022, arXiv 2109.09416)."""

import math
from typing import ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor

from edgeface.errors import UnknownNameError
from edgeface.losses.arcface import rotated
from edgeface.losses.head import CosineHead, CosineOptions, require


class ElasticFace(CosineHead):
    """ArcFace or CosFace with a margin drawn anew for each row from a normal distribution, equations 5 and 6.

        form `arc`: T = cos(theta + E), form `cos`: T = cos(theta) - E, with E ~ Normal(margin, margin_sd^2)

    E is clipped to [0, pi / 2]. In evaluation mode E is the margin. The draws depend on a seed that is fixed when
    the head is built and on the number of batches so far; both are saved, so a resumed run draws what it would have.

    Args:
        classes: number of identities.
        embedding_size: D.
        form: `arc` or `cos`.
        margin_sd: standard deviation of the margin, >= 0.
        options: as `CosineHead`; the margin is in radians (`arc`) or in the cosine (`cos`).
    """

    default_margin: ClassVar[float] = 0.5
    margin_limit: ClassVar[float] = math.pi / 2
    margin_unit: ClassVar[str] = "radians, or cosine for the form cos"

    draws: Tensor
    """(2,) int64: seed and batches drawn, saved with the head."""

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        form: str = "arc",
        margin_sd: float = 0.0125,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(classes, embedding_size, **options)
        if form not in ("arc", "cos"):
            raise UnknownNameError("loss.form", form, ("arc", "cos"))
        require("margin_sd", margin_sd, 0, 1)
        self.form = form
        self.margin_sd = margin_sd
        self.register_buffer("draws", torch.stack([torch.randint(2**31, ()), torch.tensor(0)]))

    def adapted_cosine(self, cosine: Tensor, features: Tensor, known: Tensor) -> Tensor:
        """Return the harder cosine of each row; arguments as `CosineHead.adapted_cosine`."""
        margin = self._margins(len(cosine)).to(cosine)
        return rotated(cosine, margin) if self.form == "arc" else cosine - margin

    def _margins(self, count: int) -> Tensor:
        margins = torch.full((count,), self.margin)
        if not self.training:
            return margins
        seed, batches = self.draws.tolist()
        self.draws = self.draws + self.draws.new_tensor([0, 1])
        draws = np.random.default_rng((seed, batches)).standard_normal(count, np.float32)
        return (margins + self.margin_sd * torch.from_numpy(draws)).clamp_(0, self.margin_limit)
