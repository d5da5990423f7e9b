"""The optimizer of everything but the class matrix, its learning rate over time, and its state as flat tensors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgeface.errors import CheckpointError
from edgeface.training.config import OptimizerConfig

SCALER_KEYS: Final = ("scale", "_growth_tracker")
"""What changes in the state of a `GradScaler`; the rest are constants."""


def build_optimizer(parameters: Sequence[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer of these parameters; only matrices and kernels decay."""
    groups = decay_groups(parameters, config.weight_decay)
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=config.lr)


def decay_groups(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return the groups for an optimizer that decays matrices and kernels only.

    Biases, slopes and the scales of norms have one dimension. Pulling them to zero does not limit the
    function, since the next norm undoes it, but it starves channels.
    """
    decayed = [p for p in parameters if p.ndim > 1]
    free = [p for p in parameters if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def learning_rate(step: int, steps: int, warmup_steps: int, peak: float, final: float) -> float:
    """Return the rate for step 0 <= `step` < `steps`: a linear rise to `peak`, then half a cosine.

    The last step has the share `final` of the peak.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps - 1)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def optimizer_tensors(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """Return the state as named tensors: `INDEX.NAME` for each parameter, and that of the loss scaler."""
    tensors = {
        f"{index}.{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }
    scale = scaler.state_dict()
    return tensors | {f"scaler.{key}": torch.tensor(float(scale[key])) for key in SCALER_KEYS if key in scale}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, tensors: Mapping[str, Tensor], source: str
) -> None:
    """Take over what `optimizer_tensors` returned.

    Raises:
        CheckpointError: it belongs to another optimizer or network.
    """
    state: dict[int, dict[str, Tensor]] = {}
    scale: dict[str, float] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        if index == "scaler":
            scale[key] = tensor.item()
        else:
            state.setdefault(int(index) if index.isdigit() else -1, {})[key] = tensor
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    fits = sorted(state) == list(range(len(parameters))) and all(
        tensor.shape in ((), parameters[index].shape) for index, part in state.items() for tensor in part.values()
    )
    if not fits:
        raise CheckpointError(f"{source} does not fit the network and optimizer; was the configuration changed?")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if scaler.is_enabled() and len(scale) == len(SCALER_KEYS):
        tracker = int(scale["_growth_tracker"])
        scaler.load_state_dict(scaler.state_dict() | {"scale": scale["scale"], "_growth_tracker": tracker})
