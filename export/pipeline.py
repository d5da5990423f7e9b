"""From a network and aligned faces to a bundle, every step measured."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.data.faceset import FaceSet
from edgeface.data.pairs import Pairs
from edgeface.errors import ConfigError, ExportError, UnknownNameError
from edgeface.evaluation.verification import VerificationReport, verify_pairs
from edgeface.export.card import model_card
from edgeface.export.cleaning import serialize
from edgeface.export.half import convert_fp16
from edgeface.export.parity import Parity, assert_same, compare
from edgeface.export.prelu import rewrite_prelu
from edgeface.export.quantize import delicate_nodes, quantize_int8, resolve_target
from edgeface.export.thresholds import Scored, choose_thresholds, score_protocol
from edgeface.files import new_folder, sha256
from edgeface.manifest import (
    MANIFEST_NAME,
    Accuracy,
    Calibration,
    DetectorEntry,
    EmbedderContract,
    FileEntry,
    Licences,
    Manifest,
    PrecisionEntry,
    Quantization,
)
from edgeface.runtime.detector import YuNetDetector, open_detector
from edgeface.runtime.embedder import Embedder, open_embedder
from edgeface.runtime.session import latency_ms
from edgeface.scores import SCORES_NAME, write_scores

PRECISIONS: Final = ("fp32", "fp16", "int8")

Embed = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
Step = Callable[[str], None]
"""Called with a sentence when a step begins."""


@dataclass(frozen=True, slots=True)
class Network:
    """An embedder to export: its graph, and the original to compare with.

    Attributes:
        model: fp32 graph that meets the contract.
        reference: embeds (N, 112, 112, 3) uint8 RGB faces with the original network, outside that graph.
        origin: facts for the manifest and the model card.
    """

    model: onnx.ModelProto
    reference: Embed
    origin: dict[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """Pairs that accuracy is measured and thresholds are chosen on; `name` says which in words."""

    faces: FaceSet
    pairs: Pairs
    name: str


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What to put into a bundle.

    Attributes:
        precisions: any of `fp32`, `fp16`, `int8`.
        target: processor that the int8 network is for; a key of `export.quantize.TARGETS`, or `auto`.
        fmr: false match rates to choose thresholds for.
        detector: face detector network (ONNX), or None for a bundle without one.
    """

    name: str
    precisions: tuple[str, ...] = ("fp32", "int8")
    target: str = "auto"
    fmr: tuple[float, ...] = (1e-2, 1e-3)
    detector: bytes | None = None
    licences: Licences = field(default_factory=Licences)

    def __post_init__(self) -> None:
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UnknownNameError("precision", precision, PRECISIONS)
        if not self.precisions:
            raise ConfigError(f"no precision was asked; give one or more of {', '.join(PRECISIONS)}")


@dataclass(frozen=True, slots=True)
class _Variant:
    """One precision, exported and measured."""

    data: bytes
    parity: Parity
    latency: dict[str, float]
    quantization: Quantization | None
    report: VerificationReport | None
    embedder: Embedder


def export_bundle(
    network: Network,
    out: Path,
    settings: ExportSettings,
    calibration: npt.NDArray[np.uint8],
    calibration_source: str,
    labelled: LabelledPairs | None = None,
    step: Step = lambda _: None,
) -> Manifest:
    """Write a bundle: networks, manifest with hashes and thresholds, model card; all of it or nothing.

    Args:
        network: what to export.
        out: folder to write; a bundle that is there is replaced, anything else is refused.
        settings: what to put in.
        calibration: (N, 112, 112, 3) uint8 RGB aligned faces for quantization and parity.
        calibration_source: where they come from, in words.
        labelled: pairs for accuracy and thresholds; without them the bundle has neither.
        step: told what is going on.

    Raises:
        ExportError: the fp32 graph differs from the original, or a step of the export failed.
    """
    if out.exists() and not (out / MANIFEST_NAME).is_file():
        raise ExportError(f"{out} exists and is not a bundle; choose another --out")
    detector = _detector_entry(settings.detector)
    step("rewriting PReLU and checking the fp32 network against the original")
    rewritten = rewrite_prelu(network.model)
    reference = network.reference(calibration)
    _assert_same_network(rewritten, calibration, reference)
    variants: dict[str, _Variant] = {}
    for precision in settings.precisions:
        step(f"{precision}: exporting and measuring")
        model, quantization = _at_precision(rewritten, precision, calibration, settings.target)
        variants[precision] = _measure(serialize(model), quantization, calibration, reference, labelled, precision)
    files = {f"embedder.{name}.onnx": variant.data for name, variant in variants.items()}
    if detector is not None and settings.detector is not None:
        files[detector.file] = settings.detector
    scored = _score(variants, settings.fmr, labelled, step)
    if scored is not None:
        files[SCORES_NAME] = write_scores(scored.tables)
    manifest = Manifest(
        name=settings.name,
        space=next(iter(variants.values())).embedder.space,
        embedder=EmbedderContract(dimension=next(iter(variants.values())).embedder.dimension),
        precisions={name: _entry(name, variant, labelled) for name, variant in variants.items()},
        detector=detector,
        thresholds=() if scored is None else choose_thresholds(scored, settings.fmr),
        threshold_data=None if scored is None else scored.data,
        scores=None if scored is None else SCORES_NAME,
        calibration=Calibration(
            source=calibration_source, images=len(calibration), sha256=sha256(calibration.tobytes())
        ),
        opset=next(entry.version for entry in rewritten.opset_import if entry.domain == ""),
        ir_version=rewritten.ir_version,
        origin=network.origin,
        tools={name: _version(name) for name in ("edgeface", "torch", "onnx", "onnxscript", "onnxruntime")}
        | {"machine": platform.machine()},
        licences=settings.licences,
        files={name: FileEntry(sha256=sha256(data), bytes=len(data)) for name, data in files.items()},
    )
    card = model_card(manifest).encode()
    files["MODEL_CARD.md"] = card
    listed = manifest.files | {"MODEL_CARD.md": FileEntry(sha256=sha256(card), bytes=len(card))}
    manifest = manifest.model_copy(update={"files": listed})
    step(f"writing {out}")
    with new_folder(out) as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        (folder / MANIFEST_NAME).write_bytes(manifest.to_json())
    return manifest


def _at_precision(
    rewritten: onnx.ModelProto, precision: str, faces: npt.NDArray[np.uint8], target: str
) -> tuple[onnx.ModelProto, Quantization | None]:
    if precision == "fp16":
        return convert_fp16(rewritten), None
    if precision == "int8":
        return quantize_int8(rewritten, faces, resolve_target(target), delicate_nodes(rewritten))
    return rewritten, None


def _assert_same_network(
    model: onnx.ModelProto, faces: npt.NDArray[np.uint8], reference: npt.NDArray[np.float32]
) -> None:
    """Refuse a graph that is not the original network in fp32, whichever precisions are asked for."""
    embedder = open_embedder(serialize(model), provider="cpu", threads=0, name="the fp32 network")
    embeddings = embedder.embed(faces)
    assert_same(compare(reference, embeddings), "fp32 against the original network")
    single = np.concatenate([embedder.embed(face[None]) for face in faces[:4]])
    assert_same(compare(embeddings[:4], single), "fp32 one by one against a batch")


def _measure(
    data: bytes,
    quantization: Quantization | None,
    faces: npt.NDArray[np.uint8],
    reference: npt.NDArray[np.float32],
    labelled: LabelledPairs | None,
    precision: str,
) -> _Variant:
    """Open a network as a device would, and compare, time and score it."""
    timed = open_embedder(data, provider="cpu", threads=1, name=f"the {precision} network")
    parity = compare(reference, timed.embed(faces))
    latency = latency_ms(timed.session, {timed.contract.input: faces[:1]})
    quick = open_embedder(data, provider="cpu", threads=0, name=f"the {precision} network")
    report = verify_pairs(quick, labelled.faces, labelled.pairs) if labelled else None
    return _Variant(data, parity, {"cpu": round(latency, 3)}, quantization, report, timed)


def _entry(name: str, variant: _Variant, labelled: LabelledPairs | None) -> PrecisionEntry:
    accuracy = None
    if variant.report and labelled:
        report = variant.report
        accuracy = Accuracy(
            protocol=labelled.name,
            pairs=report.pairs,
            accuracy=report.accuracy,
            accuracy_se=report.accuracy_se,
            eer=report.eer,
            tar=report.tar,
        )
    return PrecisionEntry(
        file=f"embedder.{name}.onnx",
        parity_images=variant.parity.images,
        min_cosine=variant.parity.min_cosine,
        mean_cosine=variant.parity.mean_cosine,
        latency_ms=variant.latency,
        quantization=variant.quantization,
        accuracy=accuracy,
    )


def _score(
    variants: dict[str, _Variant], rates: tuple[float, ...], labelled: LabelledPairs | None, step: Step
) -> Scored | None:
    """Score the pairs with every pair of precisions: templates may be of another one than the faces of a camera."""
    if labelled is None:
        return None
    step("scoring templates of each precision against faces of each")
    embedders = {
        name: open_embedder(variant.data, provider="cpu", threads=0, name=f"the {name} network")
        for name, variant in variants.items()
    }
    return score_protocol(embedders, labelled.faces, labelled.pairs, labelled.name, rates)


def _detector_entry(detector: bytes | None) -> DetectorEntry | None:
    if detector is None:
        return None
    opened = open_detector(detector, provider="cpu")
    kind = "yunet" if isinstance(opened, YuNetDetector) else "detector/1"
    return DetectorEntry(file="detector.onnx", format=kind, min_score=opened.settings.min_score)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
