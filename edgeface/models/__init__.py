"""Embedding networks: aligned faces in, embeddings out.

Every network takes (N, 3, 112, 112) float32 RGB in [-1, 1] and gives (N, D) float32, not normalised. A new
one is a file here and a line in `MODELS`.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from torch import nn

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.models.mobilefacenet import MobileFaceNet
from edgeface.models.resnet import FaceResNet

MODELS: Final[dict[str, Callable[[int], nn.Module]]] = {
    "mobilefacenet": MobileFaceNet,
    "mobilefacenet-relu6": partial(MobileFaceNet, activation="relu6"),
    "resnet-edge": partial(FaceResNet, stem=32, stem_stride=4, widths=(64, 128), depths=(2, 2)),
    "resnet-nano": partial(FaceResNet, stem=32, stem_stride=4, widths=(64, 96), depths=(1, 1)),
}
"""Name of each network, and what builds it for an embedding size."""

MAX_EMBEDDING_SIZE: Final = 4096


def build_model(name: str, embedding_size: int) -> nn.Module:
    """Build a network of `MODELS` with freshly drawn weights (torch's global generator), in training mode.

    Args:
        name: a key of `MODELS`.
        embedding_size: D, the length of an embedding.

    Raises:
        UnknownNameError: there is no such network.
        ConfigError: the embedding size is outside 1 to `MAX_EMBEDDING_SIZE`.
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    if not 1 <= embedding_size <= MAX_EMBEDDING_SIZE:
        raise ConfigError(
            f"an embedding size lies between 1 and {MAX_EMBEDDING_SIZE}, {embedding_size} was asked; 128 is usual"
        )
    return MODELS[name](embedding_size)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained parameters (weights, biases, slopes; not running statistics)."""
    return sum(parameter.numel() for parameter in model.parameters())
