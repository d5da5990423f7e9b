"""Plain softmax, and softmax over cosines (NormFace: Wang et al., 2017, arXiv 1704.06369)."""

import torch
from torch import Tensor, nn

from edgeface.errors import ConfigError
from edgeface.losses.head import CosineHead, Head, mean_cross_entropy, require, widened


class Softmax(Head):
    """Softmax over a linear map of the embedding, without normalisation; `scale` is not used.

        L = mean of -log softmax(W x + b)_y

    Args:
        classes: number of identities.
        embedding_size: D.
        scale: accepted, so that every head over classes is built alike.
        margin: must be None or 0.
        label_smoothing: share of the target's probability that is spread evenly over all classes, in [0, 1).
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        scale: float = 30.0,
        margin: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(classes)
        if margin:
            raise ConfigError(f"the loss softmax has no margin, {margin} was asked; leave it out or use arcface")
        require("label_smoothing", label_smoothing, 0, 0.999)
        self.label_smoothing = label_smoothing
        self.linear = nn.Linear(embedding_size, classes)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy, averaged over the rows that are not ignored."""
        self.check(labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            return mean_cross_entropy(self.linear(widened(embeddings)), labels, self.label_smoothing)


class NormSoftmax(CosineHead):
    """Softmax over scaled cosines, without a margin: equation 6 of the paper without its free bias."""
