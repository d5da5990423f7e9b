"""CosFace (Wang et al., 2018, arXiv 1801.09414)."""

from typing import ClassVar

from torch import Tensor

from edgeface.losses.head import CosineHead


class CosFace(CosineHead):
    """Additive cosine margin, equation 4: the target's cosine becomes cos(theta) - margin."""

    default_margin: ClassVar[float] = 0.35
    margin_limit: ClassVar[float] = 1.0
    margin_unit: ClassVar[str] = "cosine"

    def target_cosine(self, cosine: Tensor) -> Tensor:
        """Return `cosine` (N,) less the margin."""
        return cosine - self.margin
