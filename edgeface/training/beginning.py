"""Weights that a run begins with: those of another run, or of a file that somebody saved."""

import logging
from pathlib import Path

from torch import nn

from edgeface.errors import CheckpointError
from edgeface.models.resnet import FaceResNet
from edgeface.models.weights.loading import open_weights, swap_channels
from edgeface.training.checkpoint import BACKBONE, find_checkpoint, load_weights
from edgeface.training.config import ModelConfig

log = logging.getLogger(__name__)


def begin_with(config: ModelConfig, backbone: nn.Module) -> None:
    """Fill a backbone with the weights that `model.start` names; without any it stays as it is.

    Blocks that the weights lack and that change nothing before they are trained stay fresh, and are told.

    Args:
        config: names the weights and the network.
        backbone: built for it, float32, on the CPU.

    Raises:
        CheckpointError: the weights are missing, broken or of another network.
    """
    if not config.start:
        return
    path = Path(config.start)
    if not path.exists():
        raise CheckpointError(
            f"model.start = {path} not found; give a run folder, a checkpoint folder or a file of weights"
        )
    if path.is_file():
        fresh = _from_file(path, config, backbone)
    else:
        grown = backbone.neutral_parts if isinstance(backbone, FaceResNet) else ()
        fresh = load_weights(find_checkpoint(path) / BACKBONE, backbone, optional=grown)
    if fresh:
        names = ", ".join(part.rstrip(".") for part in fresh)
        log.warning("model.start = %s lacks %s: blocks that begin as ones that change nothing", path, names)


def _from_file(path: Path, config: ModelConfig, backbone: nn.Module) -> tuple[str, ...]:
    weights = open_weights(path, config.name, may_grow=True)
    if weights.embedding_size != config.embedding_size:
        raise CheckpointError(
            f"model.start = {path} has embeddings of {weights.embedding_size} numbers and model.embedding_size is "
            f"{config.embedding_size}; set it to {weights.embedding_size}"
        )
    weights.fill(backbone)
    if weights.source.preprocessing == "adaface":  # it sees BGR, and a run RGB
        swap_channels(backbone)
    if weights.dropped:
        log.warning("left out of model.start = %s: %s", path, ", ".join(weights.dropped))
    return weights.fresh
