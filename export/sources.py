"""The two kinds of networks that can be exported: our checkpoints and foreign ONNX embedders."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from edgeface.errors import ExportError
from edgeface.evaluation.backbone import BackboneEmbedder
from edgeface.export.foreign import Preprocessing, adapt
from edgeface.export.graph import export_backbone
from edgeface.export.pipeline import Network
from edgeface.export.tracing import DEFAULT_OPSET
from edgeface.files import readable_name, sha256
from edgeface.runtime.inspecting.inspection import inspect_model
from edgeface.runtime.providers.session import open_session
from edgeface.training.checkpoint import load_backbone


class ForeignEmbedder:
    """A foreign network as its maker meant it: preprocessing outside the graph, one face at a time.

    Args:
        path: ONNX file with one image input and one output.
        preprocessing: what it expects, and what its embeddings need.
        provider: as `edgeface.runtime.providers.session.open_session`.
        threads: as there.

    Raises:
        ExportError: the file is missing, or its input is of another size than the preprocessing gives.
        BundleError, ProviderError: as `open_session`.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing, *, provider: str = "auto", threads: int = 0) -> None:
        if not path.is_file():
            raise ExportError(f"network not found: {path}")
        self._session = open_session(path.read_bytes(), provider=provider, threads=threads, name=str(path))
        self._preprocessing = preprocessing
        self._size_wh = preprocessing.size_wh(self._session.inputs[0].name, self._session.inputs[0].shape)
        self.provider = self._session.provider
        """Short name of the provider that runs it."""

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed (N, 112, 112, 3) uint8 RGB faces; returns (N, D) float32 of unit length."""
        name = self._session.inputs[0].name
        prepared = (self._preprocessing.apply(face[None], self._size_wh) for face in faces)
        return self._preprocessing.finish(np.concatenate([self._session.run({name: one})[0] for one in prepared]))


def checkpoint_network(path: Path, opset: int = DEFAULT_OPSET) -> Network:
    """Export the backbone of a run folder or checkpoint.

    Raises:
        CheckpointError: it cannot be loaded.
        ExportError: it cannot be exported.
    """
    backbone, info = load_backbone(path)
    model = export_backbone(backbone, classes=info.classes, opset=opset)
    origin: dict[str, str | int | float | None] = {
        "source": "trained by edgeface",
        "model": info.model,
        "loss": info.loss,
        "training data": readable_name(Path(info.data).name),  # not where it lay on this machine
        "training classes": info.classes,
        "training steps": info.step,
    }
    if teacher := info.config.get("teacher", {}).get("path"):
        origin["teacher"] = f"{readable_name(Path(teacher).name)}, weight {info.config['teacher']['weight']:g}"
        origin["loss weight"] = info.config["loss"]["weight"]
    return Network(model, BackboneEmbedder(backbone).embed, origin)


def foreign_network(path: Path, preprocessing: Preprocessing, opset: int = DEFAULT_OPSET) -> Network:
    """Bring in an ONNX embedder that somebody else trained.

    Raises:
        ExportError: it is missing, not ONNX, or cannot be adapted.
        BundleError: it is not a network that inspection lets run.
    """
    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
    except FileNotFoundError:
        raise ExportError(f"network not found: {path}") from None
    except OSError as error:
        raise ExportError(f"network {path} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise ExportError(f"{path} is not an ONNX file ({len(data)} bytes): {error}") from None
    inspect_model(data, str(path))  # before onnx's converters, which are native code, work on it
    adapted = adapt(model, preprocessing, opset)
    original = ForeignEmbedder(path, preprocessing, provider="cpu")
    origin: dict[str, str | int | float | None] = {
        "source": "foreign ONNX network",
        "file": readable_name(path.name),
        "sha256": sha256(data),
        "preprocessing": str(preprocessing),
    }
    if preprocessing.transform is not None:
        origin["output transform"] = str(preprocessing.transform)
    return Network(adapted, original.embed, origin)
