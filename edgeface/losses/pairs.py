"""What every loss over pairs and triplets of a batch is."""

from abc import abstractmethod
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from edgeface.errors import UnknownNameError
from edgeface.losses.cross_entropy import IGNORED
from edgeface.losses.distances import DISTANCES
from edgeface.losses.head import Head, require, widened
from edgeface.losses.memory import CrossBatchMemory
from edgeface.losses.mining import TripletCounts, count_triplets

FACENET_MARGIN: Final = 0.2
"""Squared Euclidean distance by which FaceNet parts people, and by which triplets are counted by default."""


class PairHead(Head):
    """Compares the faces of a batch with one another, as directions: embeddings are normalised first, in float32.

    It has no parameters. A batch without anything to compare has zero loss with zero gradient, and is counted. A loss
    overrides `compare`.

    Args:
        classes: number of identities; labels are checked against it.
        embedding_size: D.
        memory: embeddings of former batches to compare with too (`CrossBatchMemory`); 0 keeps none.
        distance: a key of `DISTANCES`, by which triplets are counted.
        count_margin: margin that parts easy from semi-hard triplets in the counts, in the unit of the distance.
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        memory: int = 0,
        distance: str = "squared-euclidean",
        count_margin: float = FACENET_MARGIN,
    ) -> None:
        super().__init__(classes)
        require("memory", memory, 0, 10_000_000)
        if distance not in DISTANCES:
            raise UnknownNameError("loss.distance", distance, DISTANCES)
        self.distance = DISTANCES[distance]
        self.count_margin = count_margin
        self.memory = CrossBatchMemory(memory, embedding_size) if memory else None
        self._offer: tuple[TripletCounts, Tensor, Tensor, Tensor] | None = None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; rows that are ignored take no part. In training mode the memory takes the batch in."""
        self.check(labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            known = labels != IGNORED
            anchors = functional.normalize(widened(embeddings)[known])
            labels = labels[known]
            references, others = anchors, labels
            if self.memory is not None:
                kept, kept_labels = self.memory.recall()
                references, others = torch.cat([anchors, kept.to(anchors)]), torch.cat([labels, kept_labels])
            equal = labels[:, None] == others
            same, different = equal.clone().fill_diagonal_(False), ~equal
            if len(anchors):
                loss, used = self.compare(anchors, references, same, different)
            else:
                loss, used = anchors.sum(), same.sum()
            self._remember(anchors.detach(), same, different, used)
            if self.memory is not None and self.training:
                self.memory.store(anchors, labels)
            return loss

    @abstractmethod
    def compare(self, anchors: Tensor, references: Tensor, same: Tensor, different: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and how many tuples have part in it, an integer scalar.

        Args:
            anchors: (N, D) float32 of unit length, N >= 1.
            references: (M, D) the same N, then those of the memory, which have no gradient.
            same: (N, M) bool, another picture of the same person.
            different: (N, M) bool, another person.
        """

    def counts(self) -> dict[str, float]:
        """Return what the last batch offered: triplets by kind, pairs, what the loss used, and whether it was nothing.

        Triplets and pairs are those within the batch, pairs counted once. A triplet is hard where the negative is not
        farther than the positive, semi-hard where it is by less than the margin, else easy.
        """
        if self._offer is None:
            return {}
        triplets, positive, negative, used = self._offer
        numbers = torch.stack([triplets.easy, triplets.semi_hard, triplets.hard, positive, negative, used]).tolist()
        names = ("triplets_easy", "triplets_semi_hard", "triplets_hard", "pairs_positive", "pairs_negative", "used")
        return dict(zip(names, map(float, numbers), strict=True)) | {"batches_unused": float(numbers[-1] == 0)}

    @torch.no_grad()
    def _remember(self, anchors: Tensor, same: Tensor, different: Tensor, used: Tensor) -> None:
        count = len(anchors)
        same, different = same[:, :count], different[:, :count]
        triplets = count_triplets(self.distance(anchors, anchors), same, different, self.count_margin)
        self._offer = triplets, same.sum() // 2, different.sum() // 2, used


def masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """Return the log of the sum of exponentials over the columns in `mask`, (N,); very low where there is none.

    Where there is none the gradient is zero, not NaN.
    """
    return values.masked_fill(~mask, -1e4).logsumexp(1)
