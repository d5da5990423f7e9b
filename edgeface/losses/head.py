"""What every loss over identities is: embeddings and labels in, one number out."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeface.errors import ConfigError

IGNORED: Final = -1
"""Label of a face that the loss leaves out: its identity is not known."""


class Head(nn.Module, ABC):
    """A loss with the parameters it needs; it is stripped before export."""

    @abstractmethod
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss, a float32 scalar; zero when every label is ignored.

        Args:
            embeddings: (N, D) of any floating type, not normalised.
            labels: (N,) int64 in [0, classes), or `IGNORED`.
        """


class CosineHead(Head):
    """Softmax over scaled cosines between an embedding and one direction for each class, in float32.

    A margin loss overrides `target_cosine` only.

    Args:
        classes: number of identities.
        embedding_size: D.
        scale: factor s before the softmax.
        margin: how much harder the target is made, in the unit of `margin_unit`; None takes the default.
    """

    default_margin: ClassVar[float] = 0.0
    margin_limit: ClassVar[float] = 0.0
    margin_unit: ClassVar[str] = "none"

    def __init__(self, classes: int, embedding_size: int, *, scale: float = 30.0, margin: float | None = None) -> None:
        super().__init__()
        self.margin = self.default_margin if margin is None else margin
        if not 0 <= self.margin <= self.margin_limit:
            raise ConfigError(
                f"a margin of {self.margin} is out of range for {type(self).__name__}; "
                f"use 0 to {self.margin_limit:g} (unit: {self.margin_unit})"
            )
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(classes, embedding_size))
        nn.init.normal_(self.weight, std=0.01)  # only the direction counts

    def logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return s times the cosines (N, classes) float32, with the margin on those of the labels."""
        with torch.autocast(embeddings.device.type, enabled=False):  # half precision rounds angles to degrees
            directions = functional.normalize(self.weight.float())
            cosine = functional.normalize(embeddings.float()) @ directions.T
            rows = torch.arange(len(labels), device=labels.device)
            target = labels.clamp_min(0)  # ignored rows get a margin too; their loss is not counted
            harder = self.target_cosine(cosine[rows, target])
            return self.scale * cosine.index_put((rows, target), harder)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy, averaged over the rows that are not ignored."""
        return mean_cross_entropy(self.logits(embeddings, labels), labels)

    def target_cosine(self, cosine: Tensor) -> Tensor:
        """Return what replaces the cosine (N,) float32 between each embedding and its own class."""
        return cosine


def mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Average over the rows that are not ignored; zero, with zero gradient, when there is none."""
    total = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp_min(1)
