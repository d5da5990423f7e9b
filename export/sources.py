"""The kinds of networks that can be exported: our checkpoints, foreign ONNX embedders, and weights of others."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from edgeface.errors import ConfigError, ExportError
from edgeface.evaluation.backbone import BackboneEmbedder
from edgeface.export.foreign import adapt
from edgeface.export.graph import export_backbone
from edgeface.export.pipeline import Network
from edgeface.export.preprocessing import Preprocessing
from edgeface.export.presets import Said, complete
from edgeface.export.tracing import DEFAULT_OPSET
from edgeface.export.weights import weights_network
from edgeface.files import sha256
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
        self.preprocessing = preprocessing.fitted(self._session.inputs[0].name, self._session.inputs[0].shape)
        """With the layout and size of the network's input."""
        self.provider = self._session.provider
        """Short name of the provider that runs it."""

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed (N, 112, 112, 3) uint8 RGB faces; returns (N, D) float32 of unit length."""
        name = self._session.inputs[0].name
        prepared = (self.preprocessing.apply(face[None]) for face in faces)
        return self.preprocessing.finish(np.concatenate([self._session.run({name: one})[0] for one in prepared]))


def open_network(
    model: Path | None, onnx_file: Path | None, name: str | None, said: Said | None, opset: int = DEFAULT_OPSET
) -> Network:
    """Open what is to be exported, one of a model and an ONNX file.

    Args:
        model: run folder, checkpoint folder, or file of weights.
        onnx_file: foreign ONNX embedder.
        name: which network the weights are of, as `edgeface.models.build_model`.
        said: what was said of a foreign network.
        opset: of the result.

    Raises:
        ConfigError: what was said does not go with what is to be exported.
        CheckpointError, ExportError, BundleError: as the kind of network raises them.
    """
    if onnx_file is not None:
        if name is not None:
            raise ConfigError(
                f"--model {name} is for a file of weights; an ONNX file has its network inside: leave it out"
            )
        if said is None:
            raise ConfigError(
                "--onnx needs --preprocessing NAME, or --input-layout, --channel-order, --mean and --scale; nothing is "
                "guessed"
            )
        return foreign_network(onnx_file, complete(said), opset)
    assert model is not None
    if name is not None:
        return weights_network(model, name, said or Said(), opset)
    if said is not None:
        raise ConfigError(
            "what a network expects is said of foreign ones, with --onnx, or with --model and a file of weights; a run "
            "folder says it itself: leave it out"
        )
    return checkpoint_network(model, opset)


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
        "training data": Path(info.data).name,  # not where it lay on this machine
        "training classes": info.classes,
        "training steps": info.step,
    }
    if teacher := info.config.get("teacher", {}).get("path"):
        origin["teacher"] = f"{Path(teacher).name}, weight {info.config['teacher']['weight']:g}"
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
        "file": path.name,
        "sha256": sha256(data),
        "preprocessing": str(original.preprocessing),
    }
    if preprocessing.transform is not None:
        origin["output transform"] = str(preprocessing.transform)
    return Network(adapted, original.embed, origin, original.preprocessing.remarks)
