"""Batch norms that take their statistics over the rows of all processes; torch's own do so on GPUs only."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from edgeface.losses.ranks import Ranks


class SyncedBatchNorm(nn.Module):
    """Does in several processes what a batch norm does in one with all their rows; in float32.

    It shares parameters, running statistics and names with the norm that it takes the place of.

    Args:
        norm: over the second dimension, with running statistics and a momentum.
        ranks: the processes, each with as many rows.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.momentum = norm.weight, norm.bias, norm.eps, norm.momentum
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.ranks = ranks

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (N, C, ...) of any floating type; in evaluation mode by the running statistics."""
        shape = (1, -1, *[1] * (values.ndim - 2))
        wide = values.float()
        if self.training:
            others = [0, *range(2, values.ndim)]
            count = self.ranks.count * values.numel() // values.shape[1]
            mean = _total(wide.sum(others), self.ranks) / count
            away = wide - mean.view(shape)
            variance = _total(away.square().sum(others), self.ranks) / count
            self._follow(mean.detach(), variance.detach() * (count / max(1, count - 1)))
        else:
            away, variance = wide - self.running_mean.view(shape), self.running_var
        result = away * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(values.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


def sync_norms(network: nn.Module, ranks: Ranks) -> None:
    """Replace every batch norm in `network` by one over all processes."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SyncedBatchNorm(child, ranks))


def _total(values: Tensor, ranks: Ranks) -> Tensor:
    return cast(Tensor, _Total.apply(values, ranks))  # type: ignore[no-untyped-call]


class _Total(torch.autograd.Function):
    """Sum over the processes, each of which has a part of the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.sum_(values.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.sum_(slope.clone()), None
