"""Any image classifier of the package timm as a face embedder."""

import importlib
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgeface.errors import ConfigError, MissingPackageError, UnknownNameError
from edgeface.faces import FACE_SIZE
from edgeface.models.layers import fixed_scale_norm

TIMM_PREFIX: Final = "timm:"


class TimmBackbone(nn.Module):
    """A network of timm at 112 x 112, its classifier replaced by a linear map to the embedding and a batch norm.

    Pooling and what comes before the classifier stay the network's own. Networks of a fixed picture size are built
    for 112 pixels where they can be. Weights are drawn, never downloaded; pixels reach the network with the mean
    and deviation that its published weights expect, should they be loaded.

    Args:
        name: as in `timm.list_models()`.
        embedding_size: D.

    Raises:
        MissingPackageError: timm is not installed.
        UnknownNameError: timm has no such network.
        ConfigError: the network does not take pictures of 112 x 112.
    """

    def __init__(self, name: str, embedding_size: int = 512) -> None:
        super().__init__()
        timm = _import_timm()
        if not timm.is_model(name):
            close = timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:8] or ["any of timm.list_models()"]
            raise UnknownNameError("timm model", name, close)
        self.network = _create(timm, name, embedding_size)
        mean, deviation = (torch.tensor(self.network.pretrained_cfg[key]) for key in ("mean", "std"))
        # (faces + 1) / 2 lies in [0, 1], where timm's mean and deviation are given
        self.scale: Tensor
        self.offset: Tensor
        self.register_buffer("scale", (0.5 / deviation)[:, None, None])
        self.register_buffer("offset", ((0.5 - mean) / deviation)[:, None, None])
        self.norm = fixed_scale_norm(embedding_size)
        self._try(name, embedding_size)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed (N, 3, 112, 112) float32 RGB in [-1, 1] as (N, D) float32, not normalised."""
        embeddings: Tensor = self.norm(self.network(faces * self.scale + self.offset))
        return embeddings

    def _try(self, name: str, embedding_size: int) -> None:
        self.eval()
        problem = ""
        try:
            with torch.no_grad():
                shape = tuple(self(torch.zeros(1, 3, FACE_SIZE, FACE_SIZE, device=self.scale.device)).shape)
            if shape != (1, embedding_size):
                problem = f"gives {shape}"
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            problem = str(error).split("\n")[0] or type(error).__name__
        if problem:
            raise ConfigError(
                f"timm's {name} makes no embedding of {embedding_size} from {FACE_SIZE} x {FACE_SIZE} pixels "
                f"({problem}); choose another network"
            )
        self.train()


def _import_timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingPackageError(error.name or "timm", "timm") from error


def _create(timm: ModuleType, name: str, embedding_size: int) -> Any:
    try:
        return timm.create_model(name, num_classes=embedding_size, img_size=FACE_SIZE)
    except TypeError:  # convolutional networks have no such option, and take pictures of any size
        return timm.create_model(name, num_classes=embedding_size)
