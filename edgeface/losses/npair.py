"""N-pair loss (Sohn, NeurIPS 2016)."""

import torch
from torch import Tensor

from edgeface.losses.head import require
from edgeface.losses.pairs import PairHead


class NPair(PairHead):
    """One pair for each person; each anchor finds its positive among those of all people, equation 6.

        L = mean over people i of log(1 + sum over j != i of exp(s cos(a_i, p_j) - s cos(a_i, p_i)))

    a and p are a person's first two faces in the batch; people with one take no part. The paper uses dot products
    of embeddings kept short by a penalty; here they are of unit length, and s makes up for it.

    Args:
        classes: number of identities.
        embedding_size: D.
        scale: s > 0.
    """

    def __init__(self, classes: int, embedding_size: int, *, scale: float = 30.0) -> None:
        super().__init__(classes, embedding_size)
        require("scale", scale, 1e-3, 1e4)
        self.scale = scale

    def compare(self, anchors: Tensor, references: Tensor, same: Tensor, different: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean over the people with two faces, and how many they are; zero for fewer than two."""
        later = same.triu(1)
        first = (later.any(1) & ~same.tril(-1).any(1)).nonzero().squeeze(1)
        if len(first) < 2:
            return anchors.sum() * 0, torch.zeros_like(first.sum())
        positive = later[first].to(torch.uint8).argmax(1)  # the first of the largest
        logits = self.scale * anchors[first] @ references[positive].T
        own = logits.diagonal()
        return (logits.logsumexp(1) - own).mean(), first.new_tensor(len(first))
