"""The weighted sum of losses that a run minimises."""

import torch
from torch import Tensor, nn

from edgeface.losses.distillation import Distillation
from edgeface.losses.head import Head


class Objective(nn.Module):
    """A loss over identities, a teacher to imitate, or both.

    Args:
        head: the loss over identities, or None.
        head_weight: its factor.
        teacher_weight: factor of the distillation loss; 0 leaves it out.
    """

    def __init__(self, head: Head | None, head_weight: float, teacher_weight: float) -> None:
        super().__init__()
        self.head = head
        self.distillation = Distillation() if teacher_weight else None
        self.head_weight = head_weight
        self.teacher_weight = teacher_weight

    def forward(
        self, embeddings: Tensor, labels: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the weighted sum and the two losses that it is made of, float32 scalars; None for one left out.

        Args:
            embeddings: (N, D) of any floating type, not normalised.
            labels: (N,) int64, `edgeface.losses.IGNORED` for faces without identity.
            targets: (N, D) float32, what the teacher answers; rows of zeros where it did not; None without teacher.
        """
        total = torch.zeros((), device=embeddings.device)
        identity = imitation = None
        if self.head is not None:
            identity = self.head(embeddings, labels)
            total = total + self.head_weight * identity
        if self.distillation is not None and targets is not None:
            imitation = self.distillation(embeddings, targets)
            total = total + self.teacher_weight * imitation
        return total, identity, imitation
