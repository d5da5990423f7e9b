"""Learning from another network's embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Distillation(nn.Module):
    """Mean of 1 - cosine between an embedding and its teacher's."""

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss in [0, 2], a float32 scalar; zero when no row has a target.

        Args:
            embeddings: (N, D) of any floating type, not normalised.
            targets: (N, D) float32; a row of zeros is a face that the teacher did not see.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            present = targets.square().sum(1) > 0
            cosine = functional.cosine_similarity(embeddings.float(), targets)
            return ((1 - cosine) * present).sum() / present.sum().clamp_min(1)
