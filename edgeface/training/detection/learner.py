"""A detector in training: its weights, their average over the steps, and the optimizer."""

from typing import Final

import torch
from torch import Tensor, nn

from edgeface.errors import TrainingError
from edgeface.models.detector import FaceDetector
from edgeface.training.detection.config import DetectorConfig
from edgeface.training.detection.loss import Losses, Targets, detection_loss
from edgeface.training.optimizer import decay_groups, learning_rate

CLIP_NORM: Final = 10.0
FINAL_RATE: Final = 0.01
"""The last learning rate, as a share of the peak."""


class DetectorLearner:
    """A detector in training.

    Attributes:
        config: what the run does.
        network: the weights that are trained.
        average: by name, the weights that are kept: an exponential average of the trained ones.
        optimizer: AdamW.
    """

    def __init__(self, config: DetectorConfig, beginning: FaceDetector | None = None) -> None:
        """Begin with the weights of another detector of the same shape, or with noise from torch's generator."""
        self.config = config
        network = FaceDetector(config.model)
        if beginning is not None:
            network.load_state_dict(beginning.state_dict())
        self.network: FaceDetector = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        parameters = list(self.network.parameters())
        groups = decay_groups(parameters, config.optimizer.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.optimizer.lr)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        settings = self.config.optimizer
        return learning_rate(step, self.config.run.steps, settings.warmup_steps, settings.lr, FINAL_RATE)

    def step(self, step: int, images: Tensor, targets: Targets) -> Losses:
        """Learn from one batch; `images` are (N, 3, H, W) float32 RGB in [0, 1].

        Raises:
            TrainingError: the loss is not finite.
        """
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        losses = detection_loss(self.network(images), targets)
        if not torch.isfinite(losses.total):
            raise TrainingError(f"the loss is {losses.total.item()} at step {step}; lower optimizer.lr ({rate:.2g})")
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        self.optimizer.step()
        self._follow(min(self.config.optimizer.averaging, (1 + step) / (10 + step)))
        return losses

    def kept(self) -> FaceDetector:
        """Return a detector with the averaged weights, in eval mode."""
        network = FaceDetector(self.config.model)
        network.load_state_dict(self.average)
        return network.eval()

    def _follow(self, momentum: float) -> None:
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - momentum)
            else:
                self.average[name].copy_(tensor)
