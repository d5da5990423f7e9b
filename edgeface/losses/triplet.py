"""Triplet loss (FaceNet: Schroff et al., 2015, arXiv 1503.03832), with a margin or a soft one."""

from torch import Tensor
from torch.nn import functional

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.losses.head import require
from edgeface.losses.mining import MINING
from edgeface.losses.pairs import FACENET_MARGIN, PairHead


class Triplet(PairHead):
    """Wants each face nearer to those of its person than to others by a margin; equation 2.

        L = mean of max(0, d(a, p) - d(a, n) + m)
        soft margin: L = mean of log(1 + exp(d(a, p) - d(a, n)))   (Hermans et al., 2017, arXiv 1703.07737, section 2)

    over the chosen triplets whose loss is not zero: easy ones would only make the step smaller as training goes
    on. The choice has no gradient, the distances of the chosen have.

    Args:
        classes: number of identities.
        embedding_size: D.
        margin: m >= 0 in the unit of the distance, by default 0.2 of squared Euclidean; not with a soft margin.
        soft_margin: as above.
        mining: a key of `MINING`.
        distance: a key of `DISTANCES`, of unit embeddings.
        memory: embeddings of former batches to compare with too.
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        margin: float | None = None,
        soft_margin: bool = False,
        mining: str = "semi-hard",
        distance: str = "squared-euclidean",
        memory: int = 0,
    ) -> None:
        super().__init__(classes, embedding_size, memory, distance, FACENET_MARGIN if margin is None else margin)
        if soft_margin and margin is not None:
            raise ConfigError(f"a soft margin has no margin, {margin} was asked; leave one of the two out")
        require("margin", self.count_margin, 0, 4)
        if mining not in MINING:
            raise UnknownNameError("loss.mining", mining, MINING)
        self.soft_margin = soft_margin
        self.mining = mining

    def compare(self, anchors: Tensor, references: Tensor, same: Tensor, different: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean over the chosen triplets that have a loss, and how many they are."""
        distance = self.distance(anchors, references)
        chosen = MINING[self.mining](distance.detach(), same, different)
        gap = distance[chosen.anchor, chosen.positive] - distance[chosen.anchor, chosen.negative]
        each = functional.softplus(gap) if self.soft_margin else functional.relu(gap + self.count_margin)
        used = (each.detach() > 0).sum()
        return each.sum() / used.clamp_min(1), used
