"""Which triplets of a batch a loss looks at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Triplets:
    """Indices of anchors into the rows, of positives and negatives into the columns, each (T,) int64."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


@dataclass(frozen=True, slots=True)
class TripletCounts:
    """How many triplets a batch offers, each a scalar int64.

    Attributes:
        easy: the negative is farther than the positive by the margin or more; a margin loss ignores it.
        semi_hard: farther, but by less than the margin.
        hard: not farther.
    """

    easy: Tensor
    semi_hard: Tensor
    hard: Tensor


def mine_all(distance: Tensor, same: Tensor, different: Tensor) -> Triplets:
    """Return every triplet.

    Args:
        distance: (N, M) between anchors and references.
        same: (N, M) bool, another picture of the same person.
        different: (N, M) bool, another person.
    """
    anchor, positive = same.nonzero(as_tuple=True)
    pair, negative = different[anchor].nonzero(as_tuple=True)
    return Triplets(anchor[pair], positive[pair], negative)


def mine_hard(distance: Tensor, same: Tensor, different: Tensor) -> Triplets:
    """Return for each anchor its farthest positive and nearest negative (Hermans et al., 2017, equation 5)."""
    positive = distance.masked_fill(~same, -torch.inf).argmax(1)
    negative = distance.masked_fill(~different, torch.inf).argmin(1)
    anchor = (same.any(1) & different.any(1)).nonzero().squeeze(1)
    return Triplets(anchor, positive[anchor], negative[anchor])


def mine_semi_hard(distance: Tensor, same: Tensor, different: Tensor) -> Triplets:
    """Return for each anchor and positive the nearest negative that is farther than the positive.

    (Schroff et al., 2015, section 3.2.) Where that is farther by the margin or more, its loss is zero, so what
    counts are the hardest of the semi-hard triplets. Pairs whose negatives are all nearer give none.
    """
    anchor, positive = same.nonzero(as_tuple=True)
    return _nearest_beyond(distance, different, anchor, positive)


def mine_easy_positive(distance: Tensor, same: Tensor, different: Tensor) -> Triplets:
    """Return for each anchor its nearest positive, and the nearest negative that is farther than that.

    (Xuan et al., 2020, arXiv 1904.04370, "easy positive semi-hard negative".)
    """
    positive = distance.masked_fill(~same, torch.inf).argmin(1)
    anchor = same.any(1).nonzero().squeeze(1)
    return _nearest_beyond(distance, different, anchor, positive[anchor])


def _nearest_beyond(distance: Tensor, different: Tensor, anchor: Tensor, positive: Tensor) -> Triplets:
    beyond = different[anchor] & (distance[anchor] > distance[anchor, positive][:, None])
    if not len(anchor):
        return Triplets(anchor, positive, anchor)
    nearest, negative = distance[anchor].masked_fill(~beyond, torch.inf).min(1)
    there = nearest < torch.inf
    return Triplets(anchor[there], positive[there], negative[there])


MINING: Final[dict[str, Callable[[Tensor, Tensor, Tensor], Triplets]]] = {
    "all": mine_all,
    "easy-positive": mine_easy_positive,
    "hard": mine_hard,
    "semi-hard": mine_semi_hard,
}
"""Name of each way to choose triplets."""


def count_triplets(distance: Tensor, same: Tensor, different: Tensor, margin: float) -> TripletCounts:
    """Count the triplets without listing them, in N M log M steps; arguments as `mine_all`."""
    negatives = distance.masked_fill(~different, torch.inf).sort(1).values
    farthest = different.sum(1, keepdim=True)
    nearer = torch.searchsorted(negatives, distance.contiguous(), right=True).minimum(farthest)
    within = torch.searchsorted(negatives, distance + margin).minimum(farthest)
    hard = nearer[same].sum()
    semi_hard = (within - nearer).clamp_min(0)[same].sum()
    total = (same.sum(1, keepdim=True) * farthest).sum()
    return TripletCounts(total - hard - semi_hard, semi_hard, hard)
