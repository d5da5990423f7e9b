"""Opening whatever a user calls a model: a run folder, a checkpoint, an ONNX file or a bundle."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError, MissingPackageError
from edgeface.evaluation.verification import FaceEmbedder
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import bundle_embedder, open_embedder


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model ready to embed, and what it is."""

    embedder: FaceEmbedder
    name: str
    precision: str
    provider: str


class TorchEmbedder:
    """A PyTorch backbone as a `FaceEmbedder`: the reference that every exported file is compared with."""

    def __init__(self, backbone: "torch.nn.Module") -> None:  # type: ignore[name-defined]  # noqa: F821
        self._backbone = backbone.eval()

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed (N, 112, 112, 3) uint8 RGB faces; returns (N, D) float32 of unit length."""
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(faces).permute(0, 3, 1, 2).to(torch.float32)
            embeddings = self._backbone((pixels - 127.5) / 127.5)
            unit: npt.NDArray[np.float32] = torch.nn.functional.normalize(embeddings).numpy()
        return unit


def open_model(path: Path, *, precision: str = "auto", provider: str = "auto", threads: int = 0) -> OpenModel:
    """Open a run folder, a checkpoint folder, an ONNX embedder, a bundle, or the bundle called `default`.

    Raises:
        ConfigError: nothing of that kind lies there, or the precision does not fit the kind of model.
        CheckpointError, BundleError, ProviderError: as the kind of model raises them.
    """
    if path.suffix == ".onnx" and path.is_file():
        if precision not in ("auto", "fp32", "fp16", "int8"):
            raise ConfigError(f"--precision {precision!r} is not one of auto, fp32, fp16, int8")
        embedder = open_embedder(path.read_bytes(), provider=provider, threads=threads, name=str(path))
        return OpenModel(embedder, str(path), "as stored", embedder.session.provider)
    if str(path) == "default" or (path / "manifest.json").is_file() or (path.is_file() and path.suffix == ".zip"):
        bundle = open_bundle(path)
        embedder, chosen = bundle_embedder(bundle, precision=precision, provider=provider, threads=threads)
        return OpenModel(embedder, str(path), chosen, embedder.session.provider)
    if not path.exists():
        raise ConfigError(f"model not found: {path}; give a run folder, a checkpoint, an ONNX file or a bundle")
    if precision not in ("auto", "fp32"):
        raise ConfigError(f"{path} is a checkpoint and runs in fp32, not {precision}; export it to a bundle first")
    try:
        from edgeface.training.checkpoint import load_backbone
    except ImportError:
        raise MissingPackageError("torch", "train") from None
    backbone, info = load_backbone(path)
    return OpenModel(TorchEmbedder(backbone), f"{path} (step {info.step})", "fp32", "torch")
