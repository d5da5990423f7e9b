"""Opening whatever a user calls a model: a run folder, a checkpoint, an ONNX file or a bundle."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgeface.errors import ConfigError, MissingPackageError
from edgeface.evaluation.verification import FaceEmbedder
from edgeface.files import readable_name
from edgeface.runtime.bundle import SHIPPED, open_bundle
from edgeface.runtime.deciding.gate import FitnessJudge, bundle_gate
from edgeface.runtime.embedder import bundle_embedder, open_embedder
from edgeface.runtime.signature import refuse_loose
from edgeface.scoring import COSINE, Scoring


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model ready to embed, and what it is.

    Attributes:
        embedder: ready to embed.
        name: what the user called it.
        precision: what runs.
        provider: short name of what runs it.
        space: of its embeddings; those of two models with the same one can be compared. Empty if not known.
        scoring: how two faces are compared: as the bundle does, else by cosine.
        judge: says how fit faces are, where scores depend on that.
        remarks: sentences that a user should read about how it was opened.
    """

    embedder: FaceEmbedder
    name: str
    precision: str
    provider: str
    space: str = ""
    scoring: Scoring = COSINE
    judge: FitnessJudge | None = None
    remarks: tuple[str, ...] = ()


def open_model(
    path: Path,
    *,
    precision: str = "auto",
    provider: str = "auto",
    threads: int = 0,
    cosine: bool = False,
    allow_plugins: Collection[str] = (),
) -> OpenModel:
    """Open a run folder, a checkpoint folder, an ONNX embedder, a bundle, or one that comes with the package.

    With `cosine` two faces are compared by cosine, even if the bundle has a cohort. `allow_plugins` are those that a
    checkpoint may name, as `edgeface.training.checkpoint.load_backbone`.

    Raises:
        ConfigError: nothing of that kind lies there, or the precision does not fit the kind of model.
        CheckpointError, PluginError, BundleError, ProviderError: as the kind of model raises them; also where this
            device requires signed bundles and the model is a loose ONNX file.
    """
    name = readable_name(str(path))
    if path.suffix == ".onnx" and path.is_file():
        if precision not in ("auto", "fp32", "fp16", "int8"):
            raise ConfigError(f"--precision {precision!r} is not one of auto, fp32, fp16, int8")
        refuse_loose(path)
        embedder = open_embedder(path.read_bytes(), provider=provider, threads=threads, name=str(path))
        return OpenModel(embedder, name, "as stored", embedder.session.provider, embedder.space)
    if str(path) in SHIPPED or (path / "manifest.json").is_file() or (path.is_file() and path.suffix == ".zip"):
        bundle = open_bundle(path)
        embedder, chosen = bundle_embedder(bundle, precision=precision, provider=provider, threads=threads)
        scoring = COSINE if cosine else bundle.scoring()
        judge = None
        if scoring.fitness is not None:
            judge = bundle_gate(bundle, provider=provider, threads=threads).network
        return OpenModel(embedder, name, chosen, embedder.session.provider, embedder.space, scoring, judge)
    if not path.exists():
        raise ConfigError(f"model not found: {path}; give a run folder, a checkpoint, an ONNX file or a bundle")
    if precision not in ("auto", "fp32"):
        raise ConfigError(f"{path} is a checkpoint and runs in fp32, not {precision}; export it to a bundle first")
    try:
        from edgeface.evaluation.backbone import BackboneEmbedder
        from edgeface.training.checkpoint import load_backbone
    except ImportError:
        raise MissingPackageError("torch", "train") from None
    backbone, info = load_backbone(path, allow_plugins)
    return OpenModel(BackboneEmbedder(backbone), f"{name} (step {info.step})", "fp32", "torch")
