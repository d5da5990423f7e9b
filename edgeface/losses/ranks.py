"""The processes that train together, as losses see them: each has its own rows of a batch and its own classes."""

from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process and how many there are. Only with more than one is a process group of torch needed.

    Attributes:
        rank: number of this process, in [0, count).
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    def share(self, total: int) -> range:
        """Return which of `total` classes this process holds: an even share, divided as `torch.chunk` does."""
        size = -(-total // self.count)
        first = min(self.rank * size, total)
        return range(first, min(first + size, total))

    def sum_(self, values: Tensor) -> Tensor:
        """Replace `values` by their sum over the processes, and return them."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def max_(self, values: Tensor) -> Tensor:
        """Replace `values` by their maximum over the processes, and return them."""
        if self.count > 1:
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Return the rows (N, ...) of all processes, in their order; every process has as many."""
        if self.count == 1:
            return values
        result = values.new_empty(self.count * len(values), *values.shape[1:])
        distributed.all_gather(list(result.chunk(self.count)), values.contiguous())
        return result


ALONE: Final = Ranks()
"""A single process."""


def gathered_rows(values: Tensor, ranks: Ranks) -> Tensor:
    """Return the rows (N, ...) of all processes, differentiably.

    Every process must come to the same gradient of them; it keeps that of its own rows. So the gradients of what
    comes before add up over the processes to that of one process with all rows.
    """
    return values if ranks.count == 1 else cast(Tensor, _Gathered.apply(values, ranks))  # type: ignore[no-untyped-call]


def summed(values: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum of `values` over the processes, differentiably; every process comes to the same gradient of it."""
    return values if ranks.count == 1 else cast(Tensor, _Summed.apply(values, ranks))  # type: ignore[no-untyped-call]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.place = ranks.rank * len(values), len(values)
        return ranks.gather(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return slope.narrow(0, *ctx.place), None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        return ranks.sum_(values.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return slope, None
