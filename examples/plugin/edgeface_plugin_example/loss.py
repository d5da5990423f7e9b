"""A loss in twenty lines."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeface.losses import IGNORED, Head


class ProxyNCA(Head):
    """Proxy-NCA (Movshovitz-Attias et al., 2017): faces are drawn to the proxy of their person, away from others."""

    def __init__(self, classes: int, embedding_size: int, *, temperature: float = 0.2) -> None:
        super().__init__(classes)
        self.proxies = nn.Parameter(torch.randn(classes, embedding_size))
        self.temperature = temperature

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the faces whose person is known."""
        self.check(labels)
        known = labels != IGNORED
        faces, owner = functional.normalize(embeddings[known].float()), labels[known][:, None]
        distances = torch.cdist(faces, functional.normalize(self.proxies)).square() / self.temperature
        others = distances.scatter(1, owner, torch.inf)
        return (distances.gather(1, owner)[:, 0] + torch.logsumexp(-others, 1)).sum() / known.sum().clamp_min(1)
