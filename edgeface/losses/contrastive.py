"""Contrastive loss (Hadsell, Chopra and LeCun, CVPR 2006)."""

import torch
from torch import Tensor
from torch.nn import functional

from edgeface.errors import UnknownNameError
from edgeface.losses.distances import euclidean
from edgeface.losses.head import require
from edgeface.losses.mining import MINING
from edgeface.losses.pairs import PairHead


class Contrastive(PairHead):
    """Pulls pairs of one person together and pushes pairs of two apart, up to a margin; equation 4 without its 1/2.

        form `distance`          L = mean over pairs of y D^2 + (1 - y) max(0, m - D)^2
        form `squared-distance`  L = mean over pairs of y D^2 + (1 - y) max(0, m - D^2)

    with D the Euclidean distance of unit embeddings, in [0, 2], and y = 1 for one person. The gradient of the
    first by a negative grows as it nears the margin from within, that of the second is that of D^2 throughout. At
    D = 0 both are zero, so two people who fell on one point stay there.

    Args:
        classes: number of identities.
        embedding_size: D.
        form: `distance` or `squared-distance`.
        margin: m, a distance in [0, 2], or squared in [0, 4].
        mining: a key of `MINING`; `all` takes every pair, others the pairs of the triplets that they choose.
        memory: embeddings of former batches to compare with too.
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        form: str = "distance",
        margin: float | None = None,
        mining: str = "all",
        memory: int = 0,
    ) -> None:
        super().__init__(classes, embedding_size, memory)
        if form not in ("distance", "squared-distance"):
            raise UnknownNameError("loss.form", form, ("distance", "squared-distance"))
        if mining not in MINING:
            raise UnknownNameError("loss.mining", mining, MINING)
        self.form = form
        self.margin = 1.0 if margin is None else margin
        require("margin", self.margin, 0, 2 if form == "distance" else 4)
        self.mining = mining

    def compare(self, anchors: Tensor, references: Tensor, same: Tensor, different: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean over the chosen pairs, and how many of them have a loss."""
        distance = euclidean(anchors, references)
        if self.mining != "all":
            chosen = MINING[self.mining](distance.detach(), same, different)
            pairs = torch.zeros_like(same)
            pairs[chosen.anchor, chosen.positive] = True
            pairs[chosen.anchor, chosen.negative] = True
            same, different = same & pairs, different & pairs
        squared = distance.square()
        near = functional.relu(self.margin - (distance if self.form == "distance" else squared))
        each = squared * same + (near.square() if self.form == "distance" else near) * different
        return each.sum() / (same | different).sum().clamp_min(1), (each.detach() > 0).sum()
