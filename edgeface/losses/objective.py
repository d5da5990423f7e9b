"""The weighted sum of losses that a run minimises."""

import torch
from torch import Tensor, nn

from edgeface.errors import TrainingError
from edgeface.losses.distillation import Distillation
from edgeface.losses.head import Head
from edgeface.losses.ranks import ALONE, Ranks, gathered_rows


class Objective(nn.Module):
    """A loss over identities, a teacher to imitate, or both.

    Args:
        head: the loss over identities, or None.
        head_weight: its factor.
        teacher_weight: factor of the distillation loss; 0 leaves it out.
        ranks: the processes whose rows make a batch.
    """

    def __init__(self, head: Head | None, head_weight: float, teacher_weight: float, ranks: Ranks = ALONE) -> None:
        super().__init__()
        self.ranks = ranks
        self.head = head
        self.distillation = Distillation() if teacher_weight else None
        self.head_weight = head_weight
        self.teacher_weight = teacher_weight

    def forward(
        self, embeddings: Tensor, labels: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the weighted sum and the two losses that it is made of, float32 scalars; None for one left out.

        They are those of the rows of all processes, the same in each.

        Args:
            embeddings: (N, D) of any floating type, not normalised; rows of this process.
            labels: (N,) int64, `edgeface.losses.IGNORED` for faces without identity.
            targets: (N, D) float32, what the teacher answers; rows of zeros where it did not; None without teacher.
        """
        embeddings, labels = gathered_rows(embeddings, self.ranks), self.ranks.gather(labels)
        total = torch.zeros((), device=embeddings.device)
        identity = imitation = None
        if self.head is not None:
            identity = self.head(embeddings, labels)
            if identity.shape != ():
                raise TrainingError(
                    f"the loss {type(self.head).__name__} gave an array of the shape {tuple(identity.shape)}; it has "
                    "to give one number, the mean over the faces"
                )
            total = total + self.head_weight * identity
        if self.distillation is not None and targets is not None:
            imitation = self.distillation(embeddings, self.ranks.gather(targets))
            total = total + self.teacher_weight * imitation
        return total, identity, imitation
