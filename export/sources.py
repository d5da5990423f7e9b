"""The two kinds of networks that can be exported: our checkpoints and foreign ONNX embedders."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.evaluation.backbone import BackboneEmbedder
from edgeface.export.foreign import Preprocessing, adapt
from edgeface.export.graph import export_backbone
from edgeface.export.importing.foreign_model import NOTHING_SAID, Choices, deployable, open_foreign
from edgeface.export.importing.graphs import opset_of
from edgeface.export.pipeline import Network
from edgeface.export.tracing import DEFAULT_OPSET
from edgeface.files import readable_name
from edgeface.runtime.providers.session import open_session
from edgeface.training.checkpoint import load_backbone


class ForeignEmbedder:
    """A foreign network as its maker meant it: preprocessing outside the graph, one face at a time.

    Args:
        path: ONNX file.
        preprocessing: what it expects, and what its embeddings need.
        provider: as `edgeface.runtime.providers.session.open_session`.
        threads: as there.
        choices: what cannot be told from the file.

    Raises:
        ExportError: the file is missing or no embedder, or its input is of another size than the preprocessing gives.
        BundleError, ProviderError: as `open_session`.
    """

    def __init__(
        self,
        path: Path,
        preprocessing: Preprocessing,
        *,
        provider: str = "auto",
        threads: int = 0,
        choices: Choices = NOTHING_SAID,
    ) -> None:
        self.foreign = open_foreign(path, preprocessing, choices)
        """The network, without what kept it from being used."""
        data = self.foreign.model.SerializeToString()
        self._session = open_session(data, provider=provider, threads=threads, name=str(path))
        self._preprocessing = preprocessing
        self.provider = self._session.provider
        """Short name of the provider that runs it."""

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed (N, 112, 112, 3) uint8 RGB faces; returns (N, D) float32 of unit length."""
        image, rows = self.foreign.image, []
        for face in faces:
            prepared = image.fitted.apply(face[None]).repeat(image.batch or 1, axis=0)
            rows.append(self._session.run({image.name: prepared})[0][:1])
        return self._preprocessing.finish(np.concatenate(rows))


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


def foreign_network(
    path: Path, preprocessing: Preprocessing, opset: int = DEFAULT_OPSET, choices: Choices = NOTHING_SAID
) -> Network:
    """Bring in an ONNX embedder that somebody else trained.

    Raises:
        ExportError: it is missing, not ONNX, or cannot be adapted.
        BundleError: it is not a network that inspection lets run.
    """
    original = ForeignEmbedder(path, preprocessing, provider="cpu", choices=choices)
    foreign = original.foreign
    ready = deployable(foreign, opset)
    named = choices.output is not None
    adapted = adapt(ready.model, preprocessing, opset_of(ready.model), batch=ready.batch, named=named)
    origin: dict[str, str | int | float | None] = {
        "source": "foreign ONNX network",
        "file": readable_name(path.name),
        "sha256": foreign.source.sha256,
        "preprocessing": str(preprocessing),
    }
    if foreign.source.beside:
        origin["weights beside it"] = ", ".join(f"{name} {digest}" for name, digest in foreign.source.beside.items())
    if choices.output is not None:
        origin["output"] = choices.output
    if choices.set_inputs:
        origin["inputs set"] = ", ".join(f"{name}={value:g}" for name, value in choices.set_inputs.items())
    if foreign.quantized is not None:
        origin["quantized"] = f"by its maker: {foreign.quantized}"
    if ready.single is not None:
        origin["faces in a run"] = f"1: {ready.single}"
    if preprocessing.transform is not None:
        origin["output transform"] = str(preprocessing.transform)
    return Network(
        adapted,
        original.embed,
        origin,
        remarks=(*foreign.said, *ready.said),
        batch=ready.batch,
        quantized=foreign.quantized is not None,
    )
