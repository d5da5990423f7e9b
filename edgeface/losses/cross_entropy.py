"""Softmax cross-entropy over cosines to many classes, in as little memory as it takes.

With C classes, D numbers in an embedding and N rows, the class matrix (C, D) and the cosines (N, C) are all that is
large. Plain autograd keeps a normalised copy of the first and several copies of the second. Here the norms of
the classes scale the columns of the cosines instead, and what the backward pass needs is computed anew from
the cosines: beyond the class matrix, its gradient and the cosines, two buffers (N, C) live at a time.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED: Final = -1
"""Label of a face that the loss leaves out: its identity is not known."""

SMALLEST_NORM: Final = 1e-12


class ClassCosines(torch.autograd.Function):
    """Cosines of unit embeddings with every class direction, and those with the row's own class."""

    @staticmethod
    def forward(ctx: Any, directions: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosines (N, C), and those of the targets (N,).

        Args:
            ctx: of autograd.
            directions: (N, D) of unit length.
            weight: (C, D), of any length.
            target: (N,) int64 in [0, C).
        """
        inverse = weight.norm(dim=1).clamp_min_(SMALLEST_NORM).reciprocal_()  # (C,)
        cosine = (directions @ weight.T).mul_(inverse)
        ctx.save_for_backward(directions, weight, target, inverse, cosine)
        return cosine, cosine.gather(1, target[:, None]).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, target_slope: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return d/d directions and d/d weight: of w, G^T x / |w| - w (sum of G cos) / |w|^2."""
        directions, weight, target, inverse, cosine = ctx.saved_tensors
        with torch.autocast(weight.device.type, enabled=False):
            scaled = slope * inverse  # (N, C), ours to change
            scaled.scatter_add_(1, target[:, None], (target_slope * inverse[target])[:, None])
            by_directions = scaled @ weight
            by_weight = scaled.T @ directions
            along = scaled.mul_(cosine).sum(0).mul_(inverse)
            by_weight.addcmul_(weight, along[:, None], value=-1)
        return by_directions, by_weight, None


class TargetCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of scaled cosines, where the target's cosine has been replaced by `harder`."""

    @staticmethod
    def forward(
        ctx: Any,
        cosine: Tensor,
        harder: Tensor,
        labels: Tensor,
        scale: float,
        smoothing: float,
        filter_above: float,
        curriculum: Tensor | None,
    ) -> Tensor:
        """Return the mean over the rows that are not ignored; zero when there is none.

        Args:
            ctx: of autograd.
            cosine: (N, C) in [-1, 1].
            harder: (N,), what stands for the target's cosine.
            labels: (N,) int64 in [0, C), or `IGNORED`.
            scale: factor s before the softmax.
            smoothing: share of the target's probability that is spread evenly over all classes, in [0, 1).
            filter_above: cosines of other classes above it count as 0; 0 filters none.
            curriculum: scalar t of CurricularFace, or None.
        """
        target, share = labels.clamp_min(0), _shares(labels, cosine.dtype)
        logits = _logits(cosine, harder, target, scale, filter_above, curriculum)
        rows = (smoothing - 1) * scale * harder
        if smoothing:
            rows -= smoothing * logits.mean(1)
        highest = logits.amax(1, keepdim=True)
        total = logits.sub_(highest).exp_().sum(1).log_() + highest.squeeze(1)  # log of the sum of exponentials
        ctx.save_for_backward(cosine, harder, labels, total, curriculum)
        ctx.options = scale, smoothing, filter_above
        return ((rows + total) * share).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        """Return d/d cosine, zero at the targets, and d/d harder."""
        cosine, harder, labels, total, curriculum = ctx.saved_tensors
        scale, smoothing, filter_above = ctx.options
        target, share = labels.clamp_min(0)[:, None], _shares(labels, cosine.dtype)
        slopes = _logits(cosine, harder, target[:, 0], scale, filter_above, curriculum)
        slopes.sub_(total[:, None]).exp_()  # the probabilities
        if smoothing:
            slopes.sub_(smoothing / cosine.shape[1])
        slopes.scatter_add_(1, target, torch.full_like(total, smoothing - 1)[:, None])
        slopes.mul_((slope * scale * share)[:, None])
        by_harder = slopes.gather(1, target).squeeze(1)
        if curriculum is not None:
            hard = cosine > harder[:, None]
            slopes.mul_((cosine * 2).add_(curriculum).masked_fill_(~hard, 1))
        if filter_above:
            slopes.masked_fill_(cosine > filter_above, 0)
        slopes.scatter_(1, target, 0)
        return slopes, by_harder, None, None, None, None, None


def _shares(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight of each row in the mean, (N,)."""
    known = (labels != IGNORED).to(dtype)
    return known / known.sum().clamp_min(1)


def _logits(
    cosine: Tensor, harder: Tensor, target: Tensor, scale: float, filter_above: float, curriculum: Tensor | None
) -> Tensor:
    logits = cosine * scale
    if curriculum is not None:
        logits.mul_((cosine + curriculum).masked_fill_(cosine <= harder[:, None], 1))
    if filter_above:
        logits.masked_fill_(cosine > filter_above, 0)
    return logits.scatter_(1, target[:, None], (scale * harder)[:, None])
