"""Optimizers of the class matrix, which count the steps of each row for itself."""

from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import Tensor, nn

from edgeface.training.config import OptimizerConfig

BLOCK: Final = 1 << 22
"""Numbers that are moved at a time: what is needed beside the matrix does not grow with it."""

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8
"""Constants of AdamW, as torch has them."""


class RowOptimizer(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101) or SGD with Nesterov momentum, row by row.

    A row moves in the steps whose gradient has it: all with a dense gradient, those of the sampled classes with a
    sparse one (its rows must be distinct). A row that was left out keeps its moments, does not decay, and its
    step is not counted, so after n steps of its own it is where it would be without the steps between. With dense
    gradients it is torch's optimizer of that name.

    Args:
        weight: (C, D) float32.
        config: which optimizer and its constants.
    """

    def __init__(self, weight: nn.Parameter, config: OptimizerConfig) -> None:
        super().__init__([weight], {"lr": config.lr})
        self.config = config
        moments = ("moment",) if config.name == "sgd" else ("moment", "square")
        self.state[weight] = {name: torch.zeros_like(weight) for name in moments}
        self.state[weight]["steps"] = torch.zeros(len(weight), device=weight.device)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The state itself: `moment` and, of AdamW, `square`, (C, D) float32; `steps` (C,) float32 of each row."""
        state: dict[str, Tensor] = self.state[self.param_groups[0]["params"][0]]
        return state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # it never has one
        """Move the rows that have a gradient."""
        weight = self.param_groups[0]["params"][0]
        if weight.grad is None:
            return
        everything = {"weight": weight, **self.tensors}
        move = self._adamw if self.config.name == "adamw" else self._sgd
        for rows, slope in _blocks(weight.grad, max(1, BLOCK // weight.shape[1])):
            part = {name: values[rows] for name, values in everything.items()}  # views of a slice, copies of an index
            part["steps"].add_(1)
            move(slope, self.param_groups[0]["lr"], **part)
            if isinstance(rows, Tensor):
                for name, values in part.items():
                    everything[name][rows] = values

    def _adamw(self, slope: Tensor, lr: float, weight: Tensor, moment: Tensor, square: Tensor, steps: Tensor) -> None:
        first, second = BETAS
        weight.mul_(1 - lr * self.config.weight_decay)
        moment.lerp_(slope, 1 - first)
        square.mul_(second).addcmul_(slope, slope, value=1 - second)
        # Each row has its own bias corrections.
        below = square.sqrt().div_((1 - second**steps).sqrt_()[:, None]).add_(EPSILON)
        weight.sub_(below.reciprocal_().mul_(moment).mul_((lr / (1 - first**steps))[:, None]))

    def _sgd(self, slope: Tensor, lr: float, weight: Tensor, moment: Tensor, steps: Tensor) -> None:
        slope = slope.add(weight, alpha=self.config.weight_decay)
        moment.mul_(self.config.momentum).add_(slope)
        weight.sub_(slope.add_(moment, alpha=self.config.momentum), alpha=lr)


def gradient_values(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Return the numbers of the gradients, of a sparse one those that it holds; in place."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]


def _blocks(gradient: Tensor, count: int) -> Iterator[tuple[Tensor | slice, Tensor]]:
    """Give `count` rows of the gradient at a time, and which they are."""
    if gradient.is_sparse:
        index, values = gradient._indices()[0], gradient._values()
        for start in range(0, len(index), count):
            yield index[start : start + count], values[start : start + count]
    else:
        for start in range(0, len(gradient), count):
            yield slice(start, start + count), gradient[start : start + count]
