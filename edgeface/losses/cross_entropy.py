"""Softmax cross-entropy over cosines to many classes, in as little memory as it takes.

With C classes, D numbers in an embedding and N rows, the class matrix (C, D) and the cosines (N, C) are all that is
large. Plain autograd keeps a normalised copy of the first and several copies of the second. Here the norms of
the classes scale the columns of the cosines instead, and what the backward pass needs is computed anew from
the cosines: beyond the class matrix, its gradient and the cosines, two buffers (N, C) live at a time.

Processes that share the classes (Partial FC, An et al., 2020 and 2022, arXiv 2010.05222 and 2203.15565) compute the
cosines of their own only. Three numbers a row go between them: the target's cosine, the largest logit and the sum
of exponentials; on the way back, the gradient of the embeddings. Of classes that were sampled, the gradient has rows
for those alone: a sparse tensor, as that of `torch.nn.Embedding`.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgeface.losses.ranks import Ranks

IGNORED: Final = -1
"""Label of a face that the loss leaves out: its identity is not known."""

SMALLEST_NORM: Final = 1e-12


class ClassCosines(torch.autograd.Function):
    """Cosines of unit embeddings with class directions, and those with the row's own class."""

    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, weight: Tensor, index: Tensor | None, rows: Tensor, columns: Tensor, ranks: Ranks
    ) -> tuple[Tensor, Tensor]:
        """Return the cosines (N, S), and those at (rows, columns), (M,).

        Args:
            ctx: of autograd.
            unit: (N, D) of unit length, the same in every process.
            weight: (C, D), of any length: what this process holds.
            index: (S,) int64, the rows of `weight` that take part, each once; None for all of them.
            rows: (M,) int64 in [0, N), each once.
            columns: (M,) int64 in [0, S).
            ranks: who shares the classes.
        """
        chosen = weight if index is None else weight.index_select(0, index)
        inverse = chosen.norm(dim=1).clamp_min_(SMALLEST_NORM).reciprocal_()  # (S,)
        cosine = (unit @ chosen.T).mul_(inverse)
        ctx.save_for_backward(unit, chosen, index, rows, columns, inverse, cosine)
        ctx.ranks, ctx.shape = ranks, weight.shape
        return cosine, cosine[rows, columns]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, own_slope: Tensor) -> tuple[Tensor | None, ...]:
        """Return d/d unit, of all classes, and d/d weight: of w, G^T x / |w| - w (sum of G cos) / |w|^2."""
        unit, chosen, index, rows, columns, inverse, cosine = ctx.saved_tensors
        with torch.autocast(chosen.device.type, enabled=False):
            scaled = slope * inverse  # (N, S), ours to change
            scaled.index_put_((rows, columns), own_slope * inverse[columns], accumulate=True)
            by_unit = ctx.ranks.sum_(scaled @ chosen)
            by_weight = scaled.T @ unit
            along = scaled.mul_(cosine).sum(0).mul_(inverse)
            by_weight.addcmul_(chosen, along[:, None], value=-1)
            if index is not None:
                by_weight = torch.sparse_coo_tensor(
                    index[None], by_weight, ctx.shape, is_coalesced=True, check_invariants=False
                )
        return by_unit, by_weight, None, None, None, None


class TargetCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of scaled cosines, where the target's cosine has been replaced by `harder`."""

    @staticmethod
    def forward(
        ctx: Any,
        cosine: Tensor,
        harder: Tensor,
        labels: Tensor,
        rows: Tensor,
        columns: Tensor,
        scale: float,
        smoothing: float,
        filter_above: float,
        curriculum: Tensor | None,
        ranks: Ranks,
    ) -> Tensor:
        """Return the mean over the rows that are not ignored; zero when there is none.

        Args:
            ctx: of autograd.
            cosine: (N, S) in [-1, 1], with the classes of this process.
            harder: (N,), what stands for the target's cosine, the same in every process.
            labels: (N,) int64, or `IGNORED`.
            rows: (M,) int64, the rows whose target this process has.
            columns: (M,) int64 in [0, S), that target.
            scale: factor s before the softmax.
            smoothing: share of the target's probability that is spread evenly over all classes, in [0, 1).
            filter_above: cosines of other classes above it count as 0; 0 filters none.
            curriculum: scalar t of CurricularFace, or None.
            ranks: who shares the classes.
        """
        share = _shares(labels, cosine.dtype)
        logits = _logits(cosine, harder, (rows, columns), scale, filter_above, curriculum)
        sums = torch.zeros(3 if smoothing else 1, len(logits), dtype=logits.dtype, device=logits.device)
        if smoothing:
            sums[1], sums[2] = logits.sum(1), logits.shape[1]
        lowest = torch.finfo(logits.dtype).min  # a process may have no class at all
        highest = logits.amax(1) if logits.shape[1] else logits.new_full((len(logits),), lowest)
        ranks.max_(highest)
        sums[0] = logits.sub_(highest[:, None]).exp_().sum(1)
        ranks.sum_(sums)
        # Log of the sum of exponentials; infinite where the row is ignored, so that it has no probabilities.
        total = torch.where(share > 0, sums[0].log() + highest, torch.inf)
        loss = total - (1 - smoothing) * scale * harder
        if smoothing:
            loss -= smoothing * sums[1] / sums[2]
        classes = sums[2, :1] if smoothing else None
        ctx.save_for_backward(cosine, harder, labels, rows, columns, total, curriculum, classes)
        ctx.options = scale, smoothing, filter_above
        return torch.where(share > 0, loss * share, 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """Return d/d cosine, zero at the targets, and d/d harder."""
        cosine, harder, labels, rows, columns, total, curriculum, classes = ctx.saved_tensors
        scale, smoothing, filter_above = ctx.options
        weight = slope * scale * _shares(labels, cosine.dtype)  # (N,)
        slopes = _logits(cosine, harder, (rows, columns), scale, filter_above, curriculum)
        slopes.sub_(total[:, None]).exp_()  # the probabilities
        by_harder = (scale * harder - total).exp_() - (1 - smoothing)
        if smoothing:
            slopes.sub_(smoothing / classes)
            by_harder -= smoothing / classes
        slopes.mul_(weight[:, None])
        if curriculum is not None:
            hard = cosine > harder[:, None]
            slopes.mul_((cosine * 2).add_(curriculum).masked_fill_(~hard, 1))
        if filter_above:
            slopes.masked_fill_(cosine > filter_above, 0)
        slopes[rows, columns] = 0
        return slopes, by_harder * weight, *[None] * 8


def _shares(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight of each row in the mean, (N,)."""
    known = (labels != IGNORED).to(dtype)
    return known / known.sum().clamp_min(1)


def _logits(
    cosine: Tensor,
    harder: Tensor,
    targets: tuple[Tensor, Tensor],
    scale: float,
    filter_above: float,
    curriculum: Tensor | None,
) -> Tensor:
    logits = cosine * scale
    if curriculum is not None:
        logits.mul_((cosine + curriculum).masked_fill_(cosine <= harder[:, None], 1))
    if filter_above:
        logits.masked_fill_(cosine > filter_above, 0)
    logits[targets] = scale * harder[targets[0]]
    return logits
