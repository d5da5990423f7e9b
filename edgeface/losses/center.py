"""Center loss (Wen et al., ECCV 2016) beside a softmax."""

import torch
from torch import Tensor

from edgeface.losses.cross_entropy import IGNORED
from edgeface.losses.head import known_mean, require, widened
from edgeface.losses.softmax import Softmax


class CenterLoss(Softmax):
    """Softmax plus the pull of each embedding towards the centre of its class, equation 5.

        L = L_softmax + lambda mean of 1/2 |x - c_y|^2

    The centres are not learned by gradient: after each batch c_j moves by alpha sum(x - c_j) / (1 + n_j) over the
    n_j rows of class j (equation 4). So the gradient by x is lambda (x - c_y) / N, that of the paper (equation 3)
    but for N: the paper sums over the batch. Euclidean, without normalisation.

    Args:
        classes: number of identities C.
        embedding_size: D.
        center_weight: lambda >= 0.
        center_rate: alpha in [0, 1].
        label_smoothing: of the softmax.
    """

    centers: Tensor
    """(C, D) float32, saved with the head."""

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        center_weight: float = 0.003,
        center_rate: float = 0.5,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(classes, embedding_size, label_smoothing=label_smoothing)
        require("center_weight", center_weight, 0, 1e6)
        require("center_rate", center_rate, 0, 1)
        self.center_weight = center_weight
        self.center_rate = center_rate
        self.register_buffer("centers", torch.zeros(classes, embedding_size))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of both losses, each averaged over the rows that are not ignored; moves the centres."""
        softmax = super().forward(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            features, known = widened(embeddings), labels != IGNORED
            away = features - self.centers[labels.clamp_min(0)].to(features.dtype)
            pull = known_mean(away.square().sum(1) / 2, known)
            if self.training:
                self._move(away.detach()[known], labels[known])
        return softmax + self.center_weight * pull

    @torch.no_grad()
    def _move(self, away: Tensor, labels: Tensor) -> None:
        touched, place, count = torch.unique(labels, return_inverse=True, return_counts=True)
        total = away.new_zeros(len(touched), away.shape[1]).index_add_(0, place, away)
        step = self.center_rate * total / (1 + count)[:, None]
        # A new tensor, not a change in place: the loss of this batch still refers to the old centres.
        self.centers = self.centers.index_add(0, touched, step.to(self.centers.dtype))
