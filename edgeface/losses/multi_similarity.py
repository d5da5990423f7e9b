"""Multi-similarity loss (Wang et al., 2019, arXiv 1904.06627)."""

from torch import Tensor
from torch.nn import functional

from edgeface.losses.head import require
from edgeface.losses.pairs import PairHead, masked_logsumexp


class MultiSimilarity(PairHead):
    """Weighs each pair by how it stands among the others of its anchor, equation 10.

        L = mean over anchors of 1/alpha log(1 + sum over positives of exp(-alpha (S - base)))
                               + 1/beta  log(1 + sum over negatives of exp(beta (S - base)))

    S is the cosine. Of an anchor's pairs only those count that are harder than the easiest of the other kind, less
    epsilon (equations 7 and 8): S- > min S+ - epsilon, S+ < max S- + epsilon. The choice has no gradient.

    Args:
        classes: number of identities.
        embedding_size: D.
        positive_scale: alpha > 0.
        negative_scale: beta > 0.
        base: the paper's lambda, a cosine.
        epsilon: >= 0, a cosine.
        memory: embeddings of former batches to compare with too.
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        positive_scale: float = 2.0,
        negative_scale: float = 50.0,
        base: float = 0.5,
        epsilon: float = 0.1,
        memory: int = 0,
    ) -> None:
        super().__init__(classes, embedding_size, memory)
        require("positive_scale", positive_scale, 1e-3, 1e3)
        require("negative_scale", negative_scale, 1e-3, 1e3)
        require("base", base, -1, 1)
        require("epsilon", epsilon, 0, 2)
        self.positive_scale, self.negative_scale = positive_scale, negative_scale
        self.base, self.epsilon = base, epsilon

    def compare(self, anchors: Tensor, references: Tensor, same: Tensor, different: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean over all anchors, and how many pairs count."""
        cosine = anchors @ references.T
        fixed = cosine.detach()
        nearest_negative = fixed.masked_fill(~different, -9).amax(1, keepdim=True)
        farthest_positive = fixed.masked_fill(~same, 9).amin(1, keepdim=True)
        same = same & (fixed < nearest_negative + self.epsilon)
        different = different & (fixed > farthest_positive - self.epsilon)
        away = cosine - self.base
        # log(1 + sum of exp) is softplus of the log of the sum
        pull = functional.softplus(masked_logsumexp(-self.positive_scale * away, same)) / self.positive_scale
        push = functional.softplus(masked_logsumexp(self.negative_scale * away, different)) / self.negative_scale
        return (pull + push).mean(), same.sum() + different.sum()
