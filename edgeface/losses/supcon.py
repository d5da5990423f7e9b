"""Supervised contrastive loss (Khosla et al., 2020, arXiv 2004.11362)."""

import torch
from torch import Tensor

from edgeface.losses.head import require
from edgeface.losses.pairs import PairHead, masked_logsumexp


class SupervisedContrastive(PairHead):
    """Softmax over all other faces of the batch, with every face of the same person a target; equation 2.

        L = mean over anchors i of -1/|P(i)| sum over p in P(i) of log(exp(S_ip / t) / sum over a != i of exp(S_ia / t))

    S is the cosine, P(i) the other faces of the person. Anchors without a positive or without a negative take no
    part.

    Args:
        classes: number of identities.
        embedding_size: D.
        temperature: t > 0.
        memory: embeddings of former batches to compare with too.
    """

    def __init__(self, classes: int, embedding_size: int, *, temperature: float = 0.1, memory: int = 0) -> None:
        super().__init__(classes, embedding_size, memory)
        require("temperature", temperature, 1e-3, 1e3)
        self.temperature = temperature

    def compare(self, anchors: Tensor, references: Tensor, same: Tensor, different: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean over the anchors with positives and negatives, and how many positive pairs those have."""
        logits = anchors @ references.T / self.temperature
        log_share = logits - masked_logsumexp(logits, same | different)[:, None]
        positives = same.sum(1)
        takes_part = (positives > 0) & different.any(1)
        each = -torch.where(same, log_share, 0).sum(1) / positives.clamp_min(1)
        total = torch.where(takes_part, each, 0).sum()
        return total / takes_part.sum().clamp_min(1), (positives * takes_part).sum()
