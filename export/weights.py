"""Weights that somebody saved with torch, as a network to export or to measure."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeface.errors import ConfigError
from edgeface.export.graph import export_backbone
from edgeface.export.pipeline import Network
from edgeface.export.preprocessing import Channels, Preprocessing, unit_length
from edgeface.export.presets import Said, complete
from edgeface.export.tracing import DEFAULT_OPSET
from edgeface.files import file_sha256
from edgeface.models.weights.loading import Weights, open_weights, swap_channels

_BATCH: Final = 32


class WeightsEmbedder:
    """A network as the maker of its weights meant it: preprocessing by numpy, then torch.

    Args:
        backbone: (N, 3, 112, 112) float32 -> (N, D), in eval mode.
        preprocessing: what it expects.
    """

    def __init__(self, backbone: nn.Module, preprocessing: Preprocessing) -> None:
        self._backbone = backbone
        self._preprocessing = preprocessing

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed (N, 112, 112, 3) uint8 RGB faces; returns (N, D) float32 of unit length."""
        made = []
        with torch.inference_mode():
            for first in range(0, len(faces), _BATCH):
                pixels = torch.from_numpy(self._preprocessing.apply(faces[first : first + _BATCH]))
                made.append(self._backbone(pixels).numpy())
        return unit_length(np.concatenate(made))


def open_weights_embedder(path: Path, model: str, said: Said) -> tuple[WeightsEmbedder, tuple[str, ...]]:
    """Open weights to measure; returns the embedder, and sentences that a user should read.

    Raises:
        ConfigError, CheckpointError, ExportError: as `weights_network`.
    """
    weights, preprocessing = _opened(path, model, said)
    return WeightsEmbedder(weights.build(), preprocessing), (*preprocessing.remarks, *_remarks(weights))


def weights_network(path: Path, model: str, said: Said, opset: int = DEFAULT_OPSET) -> Network:
    """Bring in weights of a network of `edgeface.models` that somebody else trained.

    Args:
        path: file of `torch.save` or safetensors; no code of it is run.
        model: which network, as `edgeface.models.build_model`.
        said: what the network expects, where that differs from what the source of the weights does.
        opset: of the result.

    Raises:
        CheckpointError: the file cannot be read, or is of another network.
        ConfigError: something was said that is for ONNX files, or BGR of a network that sees RGB alone.
        ExportError: it cannot be exported.
    """
    weights, preprocessing = _opened(path, model, said)
    backbone = weights.build()
    exported = backbone
    if preprocessing.channel_order == "bgr":
        exported = deepcopy(backbone)
        swap_channels(exported)
    mean, scale = (_for_rgb(value, preprocessing) for value in (preprocessing.mean, preprocessing.scale))
    graph = export_backbone(exported, opset=opset, mean=mean, scale=scale)
    origin: dict[str, str | int | float | None] = {
        "source": f"weights under the names of {weights.source.name}",
        "file": path.name,
        "sha256": file_sha256(path),
        "model": model,
        "preprocessing": str(preprocessing),
    }
    remarks = (*preprocessing.remarks, *_remarks(weights), f"what the network sees: {preprocessing}")
    return Network(graph, WeightsEmbedder(backbone, preprocessing).embed, origin, remarks)


def _opened(path: Path, model: str, said: Said) -> tuple[Weights, Preprocessing]:
    for option, value in (
        ("--input-layout", said.layout),
        ("--input-size", said.size_wh),
        ("--input-affine", said.affine),
        ("--output-transform", said.transform),
    ):
        if value is not None:
            raise ConfigError(f"{option} is for ONNX files; networks of edgeface take the crop of 112 x 112 as it is")
    weights = open_weights(path, model)
    preset = said.preset or weights.source.preprocessing
    return weights, complete(replace(said, preset=preset, layout="nchw"))


def _remarks(weights: Weights) -> tuple[str, ...]:
    named = (
        f"{weights.path.name}: {weights.model} with embeddings of {weights.embedding_size} numbers, under the names of "
        f"{weights.source.name}"
    )
    dropped = (f"left out of {weights.path.name}: {', '.join(weights.dropped)}",) if weights.dropped else ()
    return (named, *dropped)


def _for_rgb(value: Channels, preprocessing: Preprocessing) -> Channels:
    """Return a mean or scale in the order of RGB, in which the graph has the channels."""
    if isinstance(value, tuple) and preprocessing.channel_order == "bgr":
        return value[2], value[1], value[0]
    return value
