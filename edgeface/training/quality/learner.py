"""A quality network in training: its weights and the optimizer."""

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeface.errors import TrainingError
from edgeface.fitness import FAULTS, TURNS
from edgeface.models.quality import QualityNet
from edgeface.training.optimizer import decay_groups, learning_rate
from edgeface.training.quality.config import QualityConfig

CLIP_NORM: Final = 5.0
FINAL_RATE: Final = 0.01
"""The last learning rate, as a share of the peak."""
FITNESS_WEIGHT: Final = 4.0
"""Of the fitness in the loss, whose other parts each count once: it is what decides."""


class Targets(NamedTuple):
    """What is true of a batch; fields as of `edgeface.training.quality.views.Views`."""

    fitness: Tensor
    turns: Tensor
    faults: Tensor


class Losses(NamedTuple):
    """Means over a batch: `total` is what is minimised."""

    total: Tensor
    fitness: Tensor
    turns: Tensor
    faults: Tensor


def quality_loss(logits: Tensor, targets: Targets) -> Losses:
    """Return cross entropies of (N, 10) logits; of the fitness, with its value as the probability.

    Such a cross entropy is least where the prediction equals the mean of the fitness, as with a squared error.
    """
    fitness = functional.binary_cross_entropy_with_logits(logits[:, 0], targets.fitness)
    turns = functional.cross_entropy(logits[:, 1 : 1 + len(TURNS)], targets.turns)
    said = (targets.faults >= 0).float()
    each = functional.binary_cross_entropy_with_logits(
        logits[:, -len(FAULTS) :], targets.faults.clamp_min(0), reduction="none"
    )
    faults = (each * said).sum() / said.sum().clamp_min(1)
    return Losses(FITNESS_WEIGHT * fitness + turns + faults, fitness, turns, faults)


class QualityLearner:
    """A quality network in training.

    Attributes:
        config: what the run does.
        network: the weights that are trained.
        optimizer: AdamW.
        steps: steps of the run.
    """

    def __init__(self, config: QualityConfig, steps: int) -> None:
        """Begin with noise from torch's generator."""
        self.config, self.steps = config, steps
        self.network: QualityNet = QualityNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = decay_groups(list(self.network.parameters()), config.optimizer.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.optimizer.lr)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        settings = self.config.optimizer
        return learning_rate(step, self.steps, settings.warmup_steps, settings.lr, FINAL_RATE)

    def step(self, step: int, faces: Tensor, targets: Targets) -> Losses:
        """Learn from one batch of (N, 112, 112, 3) uint8 RGB.

        Raises:
            TrainingError: the loss is not finite.
        """
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        losses = quality_loss(self.network(pixels(faces)), targets)
        if not torch.isfinite(losses.total):
            raise TrainingError(f"the loss is {losses.total.item()} at step {step}; lower optimizer.lr ({rate:.2g})")
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        self.optimizer.step()
        return losses


def pixels(faces: Tensor) -> Tensor:
    """Turn (N, 112, 112, 3) uint8 RGB into (N, 3, 112, 112) float32 in [-1, 1]."""
    return (faces.permute(0, 3, 1, 2).float() - 127.5) / 127.5
