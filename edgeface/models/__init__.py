"""Embedding networks: aligned faces in, embeddings out.

Every network takes (N, 3, 112, 112) float32 RGB in [-1, 1] and gives (N, D) float32, not normalised. A new
one is a file here, a line in `MODELS`, and what was published about it in `PUBLISHED`; or a class elsewhere, whose
constructor takes the embedding size and options: see `edgeface.plugins`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import nn

from edgeface import plugins
from edgeface.errors import ConfigError, PluginError
from edgeface.faces import FACE_SIZE
from edgeface.models.counting import count_multiply_adds, count_parameters
from edgeface.models.edgenext import EdgeFace
from edgeface.models.ghostfacenet import GhostFaceNet
from edgeface.models.iresnet import IResNet
from edgeface.models.mbf import WideMobileFaceNet
from edgeface.models.mobilefacenet import MobileFaceNet
from edgeface.models.published import PUBLISHED, Published
from edgeface.models.resnet import FaceResNet
from edgeface.models.timm_backbone import TIMM_PREFIX, TimmBackbone

__all__ = [
    "MAX_EMBEDDING_SIZE",
    "MODELS",
    "PUBLISHED",
    "ModelFacts",
    "Published",
    "build_model",
    "count_multiply_adds",
    "count_parameters",
    "describe_model",
    "is_built_in",
]

MODELS: Final[dict[str, Callable[[int], nn.Module]]] = {
    "edgeface-s": partial(EdgeFace, widths=(48, 96, 160, 304), heads=8, rank_ratio=0.5),
    "edgeface-xs": partial(EdgeFace, widths=(32, 64, 100, 192), heads=4, rank_ratio=0.6),
    "ghostfacenetv1-1.3-1": partial(GhostFaceNet, width=1.3, stem_stride=1),
    "ghostfacenetv1-1.3-2": partial(GhostFaceNet, width=1.3, stem_stride=2),
    "ir18": partial(IResNet, depths=(2, 2, 2, 2), subsampled=True),
    "ir34": partial(IResNet, depths=(3, 4, 6, 3), subsampled=True),
    "ir50": partial(IResNet, depths=(3, 4, 14, 3), subsampled=True),
    "ir101": partial(IResNet, depths=(3, 13, 30, 3), subsampled=True),
    "iresnet18": partial(IResNet, depths=(2, 2, 2, 2)),
    "iresnet34": partial(IResNet, depths=(3, 4, 6, 3)),
    "iresnet50": partial(IResNet, depths=(3, 4, 14, 3)),
    "iresnet100": partial(IResNet, depths=(3, 13, 30, 3)),
    "iresnet200": partial(IResNet, depths=(6, 26, 60, 6)),
    "mbf": partial(WideMobileFaceNet, width=128, repeats=(1, 4, 6, 2)),
    "mbf-large": partial(WideMobileFaceNet, width=256, repeats=(2, 8, 12, 4)),
    "mobilefacenet": MobileFaceNet,
    "mobilefacenet-relu6": partial(MobileFaceNet, activation="relu6"),
    "resnet-edge": partial(FaceResNet, stem_stride=4, widths=(32, 64, 128), depths=(0, 2, 2)),
    "resnet-edge-deep": partial(FaceResNet, stem_stride=4, widths=(32, 64, 128), depths=(2, 3, 2)),
    "resnet-nano": partial(FaceResNet, stem_stride=4, widths=(32, 64, 96), depths=(0, 1, 1)),
}
"""Name of each network, and what builds it for an embedding size."""

MAX_EMBEDDING_SIZE: Final = 4096


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a network costs, counted.

    Attributes:
        name: as `build_model` takes it.
        parameters: trained numbers.
        multiply_adds: of one face, as `count_multiply_adds`.
        embedding_size: D for which they were counted.
        source: who described the network, and where.
    """

    name: str
    parameters: int
    multiply_adds: int
    embedding_size: int
    source: str


def is_built_in(name: str) -> bool:
    """Tell whether a network is edgeface's own, or one of timm: not a plug-in."""
    return name in MODELS or name.startswith(TIMM_PREFIX)


def build_model(name: str, embedding_size: int, **options: Any) -> nn.Module:
    """Build a network with freshly drawn weights (torch's global generator), in training mode.

    Args:
        name: a key of `MODELS`; `timm:NAME` for a network of the package timm; or a plug-in, `module:Class` or the name
            of an installed one, whose code is run.
        embedding_size: D, the length of an embedding.
        options: of a plug-in, as its constructor takes them.

    Raises:
        UnknownNameError: there is no such network.
        MissingPackageError: a network of timm was asked, and timm is not installed.
        ConfigError: the embedding size is outside 1 to `MAX_EMBEDDING_SIZE`.
        PluginError: the plug-in does not load, refuses its options, or is no network as edgeface needs it.
    """
    if not 1 <= embedding_size <= MAX_EMBEDDING_SIZE:
        raise ConfigError(
            f"an embedding size lies between 1 and {MAX_EMBEDDING_SIZE}, {embedding_size} was asked; 128 is usual"
        )
    if name.startswith(TIMM_PREFIX):
        return TimmBackbone(name.removeprefix(TIMM_PREFIX), embedding_size)
    return MODELS[name](embedding_size) if name in MODELS else _plugin(name, embedding_size, options)


def _plugin(name: str, embedding_size: int, options: dict[str, Any]) -> nn.Module:
    """Build a network from outside, and see that faces go in and embeddings come out."""
    known = (*MODELS, f"{TIMM_PREFIX}NAME")
    model: nn.Module = plugins.build(plugins.Kind.backbone, name, nn.Module, (embedding_size,), options, known=known)
    try:
        with torch.no_grad():
            found = model.eval()(torch.zeros(2, 3, FACE_SIZE, FACE_SIZE))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        said = str(error).partition("\n")[0]
        raise PluginError(f"backbone {name} cannot embed a (2, 3, {FACE_SIZE}, {FACE_SIZE}) tensor: {said}") from error
    shape = tuple(getattr(found, "shape", ()))
    if shape != (2, embedding_size):
        raise PluginError(
            f"backbone {name} gave {shape or type(found).__name__} for two faces; it has to give (2, {embedding_size})"
        )
    return model.train()


def describe_model(name: str) -> ModelFacts:
    """Count a network at its published embedding size, without drawing or computing numbers where that can be.

    A plug-in is loaded for it, which runs its code, and counted at 512.

    Raises:
        UnknownNameError, MissingPackageError, ConfigError: as `build_model`.
    """
    source = f"package timm, {name.removeprefix(TIMM_PREFIX)}" if name.startswith(TIMM_PREFIX) else "plug-in"
    published = PUBLISHED.get(name, Published(512, source))
    with torch.device("meta" if name in MODELS else "cpu"):
        model = build_model(name, published.embedding_size)
    return ModelFacts(
        name, count_parameters(model), count_multiply_adds(model), published.embedding_size, published.source
    )
