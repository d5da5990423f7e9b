"""Cross-batch memory (Wang et al., 2020, arXiv 1912.06798)."""

import torch
from torch import Tensor, nn

from edgeface.losses.cross_entropy import IGNORED


class CrossBatchMemory(nn.Module):
    """The embeddings of the last batches, to compare a batch with more faces than it holds.

    They have no gradient and are a little old; the paper shows that embeddings drift slowly once training has
    warmed up. Saved with the head, so a resumed run has the same ones.

    Args:
        size: embeddings to keep.
        embedding_size: D.
    """

    embeddings: Tensor
    """(size, D) float32 of unit length."""
    labels: Tensor
    """(size,) int64, `IGNORED` where nothing is kept yet."""
    stored: Tensor
    """() int64, embeddings stored so far."""

    def __init__(self, size: int, embedding_size: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(size, embedding_size))
        self.register_buffer("labels", torch.full((size,), IGNORED))
        self.register_buffer("stored", torch.tensor(0))

    def recall(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings (M, D) that are kept, and their labels (M,)."""
        kept = self.labels != IGNORED
        return self.embeddings[kept], self.labels[kept]

    @torch.no_grad()
    def store(self, embeddings: Tensor, labels: Tensor) -> None:
        """Take in unit embeddings (N, D) and their labels (N,); the oldest give way."""
        size = len(self.labels)
        embeddings, labels = embeddings[-size:], labels[-size:]
        places = (self.stored + torch.arange(len(labels), device=labels.device)) % size
        self.embeddings[places] = embeddings.to(self.embeddings.dtype)
        self.labels[places] = labels
        self.stored += len(labels)
