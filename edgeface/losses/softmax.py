"""Plain softmax, and softmax over cosines (NormFace: Wang et al., 2017, arXiv 1704.06369)."""

import torch
from torch import Tensor, nn

from edgeface.errors import ConfigError
from edgeface.losses.head import CosineHead, Head, mean_cross_entropy


class Softmax(Head):
    """Softmax over a linear map of the embedding, without normalisation; `scale` is not used.

    Args:
        classes: number of identities.
        embedding_size: D.
        scale: accepted, so that every head is built alike.
        margin: must be None or 0.
    """

    def __init__(self, classes: int, embedding_size: int, *, scale: float = 30.0, margin: float | None = None) -> None:
        super().__init__()
        if margin:
            raise ConfigError(f"the loss softmax has no margin, {margin} was asked; leave it out or use arcface")
        self.linear = nn.Linear(embedding_size, classes)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy, averaged over the rows that are not ignored."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return mean_cross_entropy(self.linear(embeddings.float()), labels)


class NormSoftmax(CosineHead):
    """Softmax over scaled cosines, without a margin: equation 6 of the paper without its free bias."""
