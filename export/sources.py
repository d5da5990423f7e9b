"""The kinds of networks that can be exported: our checkpoints, foreign ONNX embedders, and weights of others."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError
from edgeface.evaluation.backbone import BackboneEmbedder
from edgeface.export.foreign import adapt
from edgeface.export.graph import export_backbone
from edgeface.export.importing.deploying import deployable
from edgeface.export.importing.foreign_model import NOTHING_SAID, Choices, open_foreign
from edgeface.export.importing.graphs import opset_of
from edgeface.export.pipeline import Network
from edgeface.export.preprocessing import Preprocessing
from edgeface.export.presets import Said, complete
from edgeface.export.tracing import DEFAULT_OPSET
from edgeface.export.weights import weights_network
from edgeface.files import readable_name
from edgeface.plugins import Plugin
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
        self.preprocessing = self.foreign.image.preprocessing
        """With the layout and size of the network's input."""
        self.provider = self._session.provider
        """Short name of the provider that runs it."""

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed (N, 112, 112, 3) uint8 RGB faces; returns (N, D) float32 of unit length."""
        image, rows = self.foreign.image, []
        for face in faces:
            prepared = self.preprocessing.apply(face[None]).repeat(image.batch or 1, axis=0)
            rows.append(self._session.run({image.name: prepared})[0][:1])
        return self.preprocessing.finish(np.concatenate(rows))


def open_network(
    model: Path | None,
    onnx_file: Path | None,
    name: str | None,
    said: Said | None,
    opset: int = DEFAULT_OPSET,
    choices: Choices | None = None,
    allow_plugins: Collection[str] = (),
) -> Network:
    """Open what is to be exported, one of a model and an ONNX file.

    Args:
        model: run folder, checkpoint folder, or file of weights.
        onnx_file: foreign ONNX embedder.
        name: which network the weights are of, as `edgeface.models.build_model`.
        said: what was said of a foreign network.
        opset: of the result.
        choices: what was said of a foreign ONNX file besides; None for nothing.
        allow_plugins: as `edgeface.training.checkpoint.load_backbone`.

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
        return foreign_network(onnx_file, complete(said), opset, choices or NOTHING_SAID)
    if choices is not None:
        raise ConfigError("--output and --set-input are of a foreign ONNX file, which --onnx names; leave them out")
    assert model is not None
    if name is not None:
        return weights_network(model, name, said or Said(), opset)
    if said is not None:
        raise ConfigError(
            "what a network expects is said of foreign ones, with --onnx, or with --model and a file of weights; a run "
            "folder says it itself: leave it out"
        )
    return checkpoint_network(model, opset, allow_plugins)


def checkpoint_network(path: Path, opset: int = DEFAULT_OPSET, allow_plugins: Collection[str] = ()) -> Network:
    """Export the backbone of a run folder or checkpoint; `allow_plugins` as in `load_backbone`.

    Raises:
        CheckpointError, PluginError: it cannot be loaded.
        ExportError: it cannot be exported.
    """
    backbone, info = load_backbone(path, allow_plugins)
    model = export_backbone(backbone, classes=info.classes, opset=opset)
    origin: dict[str, str | int | float | None] = {
        "source": "trained by edgeface",
        "model": info.model,
        "loss": info.loss,
        "training data": readable_name(Path(info.data).name),  # not where it lay on this machine
        "training classes": info.classes,
        "training steps": info.step,
    }
    for facts in info.plugins:
        plugin = Plugin.from_json(facts)
        origin[f"plug-in {plugin.kind}"] = str(plugin)
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
        "preprocessing": str(original.preprocessing),
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
        remarks=(*original.preprocessing.remarks, *foreign.said, *ready.said),
        batch=ready.batch,
        quantized=foreign.quantized is not None,
    )
