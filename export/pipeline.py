"""From a network and aligned faces to a bundle, every step measured."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.data.faceset import FaceSet
from edgeface.data.pairs import Pairs
from edgeface.data.usable import usable_pairs
from edgeface.errors import ConfigError, ExportError, UnknownNameError
from edgeface.export.assembly import assemble, list_files
from edgeface.export.cleaning import serialize
from edgeface.export.entries import accuracy_entry, detector_entry, quality_entry, tool_versions
from edgeface.export.graph import fix_batch
from edgeface.export.half import convert_fp16
from edgeface.export.parity import Parity, assert_same_network, compare
from edgeface.export.prelu_choice import with_fast_prelu
from edgeface.export.quantization.bounded import Bounded, Bounds, Trial, quantize_within
from edgeface.export.quantization.calibration import held_out
from edgeface.export.quantization.finetuning import check_epochs, finetune
from edgeface.export.quantization.quantize import Quantizer
from edgeface.export.quantization.sensitivity import CHART_NAME, Sensitivity, draw_sensitivity
from edgeface.export.quantization.targets import check_target, resolve_target
from edgeface.export.speed import explain_speed, race
from edgeface.export.spread import Spread, check_spread, measure_spread
from edgeface.export.strangers import Strangers, make_cohort
from edgeface.export.thresholds import Scored, score_protocol
from edgeface.files import new_folder, sha256
from edgeface.manifest import (
    MANIFEST_NAME,
    Calibration,
    EmbedderContract,
    Licences,
    Manifest,
    PrecisionEntry,
    Quantization,
)
from edgeface.runtime.canary import make_canary
from edgeface.runtime.embedder import MAX_BATCH, Embedder, open_embedder
from edgeface.scoring import COSINE, Scoring

PRECISIONS: Final = ("fp32", "fp16", "int8")
SPREAD_FACT: Final = "embeddings of two different calibration faces"
"""What the manifest says of how far apart a network keeps faces."""

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
        remarks: sentences that a user should read about how it was brought in.
        batch: faces that it takes in every run, None for any number.
        quantized: it is in int8 already, and stays as it is.
    """

    model: onnx.ModelProto
    reference: Embed
    origin: dict[str, str | int | float | None]
    remarks: tuple[str, ...] = ()
    batch: int | None = None
    quantized: bool = False


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
        target: processor that the networks are for; one of `export.quantization.targets.NAMES`.
        method: from activations to their ranges; a key of `export.quantization.ranges.METHODS`.
        bounds: what the int8 network has to keep, and what it may cost.
        finetune: epochs of fine-tuning int8, None for post-training quantization alone.
        batch: faces in every run of a network, None to leave that free.
        fmr: false match rates to choose thresholds for.
        detector: face detector network (ONNX), or None for a bundle without one.
        quality: quality network (ONNX), or None for a bundle without one.
    """

    name: str
    precisions: tuple[str, ...] = ("fp32", "int8")
    target: str = "auto"
    method: str = "minmax"
    bounds: Bounds = field(default_factory=Bounds)
    finetune: int | None = None
    batch: int | None = None
    fmr: tuple[float, ...] = (1e-2, 1e-3)
    detector: bytes | None = None
    quality: bytes | None = None
    licences: Licences = field(default_factory=Licences)

    def __post_init__(self) -> None:
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UnknownNameError("precision", precision, PRECISIONS)
        if not self.precisions:
            raise ConfigError(f"no precision was asked; give one or more of {', '.join(PRECISIONS)}")
        if self.batch is not None and not 1 <= self.batch <= MAX_BATCH:
            raise ConfigError(f"--batch is 1 to {MAX_BATCH} faces, got {self.batch}; leave it out for any number")
        check_target(self.target, "int8" in self.precisions)
        check_epochs(self.finetune, "int8" in self.precisions)


@dataclass(frozen=True, slots=True)
class _Original:
    """The network as a file before anything is made smaller, and what it says of the calibration faces."""

    data: bytes
    reference: npt.NDArray[np.float32]
    spread: Spread
    quantized: bool


@dataclass(frozen=True, slots=True)
class _Variant:
    """One precision, exported and measured."""

    data: bytes
    parity: Parity
    latency: dict[str, float]
    quantization: Quantization | None
    embedder: Embedder
    sensitivities: tuple[Sensitivity, ...]


def export_bundle(
    network: Network,
    out: Path,
    settings: ExportSettings,
    calibration: npt.NDArray[np.uint8],
    calibration_source: str,
    labelled: LabelledPairs | None = None,
    step: Step = lambda _: None,
    strangers: Strangers | None = None,
) -> Manifest:
    """Write a bundle: networks, manifest with hashes and thresholds, model card, report; all or nothing.

    Args:
        network: what to export.
        out: folder to write; a bundle that is there is replaced, anything else is refused.
        settings: what to put in.
        calibration: (N, 112, 112, 3) uint8 RGB aligned faces for quantization and parity.
        calibration_source: where they come from, in words.
        labelled: pairs for accuracy and thresholds; without them the bundle has neither.
        step: told what is going on.
        strangers: for a cohort; without them scores are cosines.

    Raises:
        ExportError: the fp32 graph differs from the original, or a step of the export failed.
    """
    if out.exists() and not (out / MANIFEST_NAME).is_file():
        raise ExportError(f"{out} exists and is not a bundle; choose another --out")
    settings = fit_settings(settings, network, step)
    detector, quality = detector_entry(settings.detector), quality_entry(settings.quality)
    reference = network.reference(calibration)
    spread = measure_spread(reference)
    check_spread(spread)
    step(f"embeddings of two different faces: {spread}")
    stored = "int8" if network.quantized else "fp32"
    step(f"checking the {stored} network against the original")
    model, prelus = network.model, None
    if not network.quantized:
        model, prelus = with_fast_prelu(model, settings.target, calibration[:1])
    if prelus is not None:
        step(prelus)
    fp32 = serialize(model)
    labelled = _usable(labelled, step)
    checked = fp32 if settings.batch is None else serialize(fix_batch(model, settings.batch))
    assert_same_network(checked, calibration, reference, stored)
    variants: dict[str, _Variant] = {}
    for precision in settings.precisions:
        step(f"{precision}: exporting and measuring")
        trial = _Original(fp32, reference, spread, network.quantized)
        made = _at_precision(model, trial, precision, settings, calibration, labelled, step)
        variants[precision] = _measure(made, calibration, reference, precision)
    variants = _timed(variants, checked, calibration[:1], settings.target)
    for name, variant in variants.items():
        if variant.quantization is not None:
            step(f"{name}: {variant.quantization.speed}")
    files = {f"embedder.{name}.onnx": variant.data for name, variant in variants.items()}
    if detector is not None and settings.detector is not None:
        files[detector.file] = settings.detector
    if quality is not None and settings.quality is not None:
        files[quality.file] = settings.quality
    for variant in variants.values():
        if variant.quantization is not None and variant.sensitivities:
            files[CHART_NAME] = draw_sensitivity(variant.sensitivities, variant.quantization.float_nodes)
    space = next(iter(variants.values())).embedder.space
    cohort = None
    if strangers is not None:
        step(f"cohort: embedding {strangers.source}")
        cohort = make_cohort(strangers, variants.get("fp32", next(iter(variants.values()))).embedder, space)
        files[cohort.entry.file] = cohort.data
    scored = _score(variants, settings.fmr, labelled, cohort.scoring if cohort else COSINE, step)
    facts = Manifest(
        name=settings.name,
        space=space,
        embedder=EmbedderContract(dimension=next(iter(variants.values())).embedder.dimension),
        precisions={name: _entry(name, variant, scored) for name, variant in variants.items()},
        detector=detector,
        quality=quality,
        cohort=cohort.entry if cohort else None,
        calibration=Calibration(
            source=calibration_source, images=len(calibration), sha256=sha256(calibration.tobytes())
        ),
        opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
        ir_version=model.ir_version,
        origin=network.origin | {SPREAD_FACT: str(spread)},
        tools=tool_versions(),
        licences=settings.licences,
        files=list_files(files),
    )
    manifest, told = assemble(facts, scored, settings.fmr)
    step(f"writing {out}")
    with new_folder(out) as folder:
        for name, data in (files | told | {MANIFEST_NAME: manifest.to_json()}).items():
            (folder / name).write_bytes(data)
    return manifest


def fit_settings(settings: ExportSettings, network: Network, step: Step = lambda _: None) -> ExportSettings:
    """Return the settings that a network leaves a choice of: some take one face in a run, some are in int8 already.

    Args:
        settings: as asked.
        network: to export.
        step: told what was left out.

    Raises:
        ConfigError: something was asked that cannot be had.
    """
    batch = settings.batch if network.batch is None else network.batch
    if settings.batch not in (None, batch):
        raise ConfigError(f"this network takes {batch} face in every run, not {settings.batch}; use --batch {batch}")
    if settings.finetune is not None and (network.batch is not None or network.quantized):
        kind = "is in int8 already" if network.quantized else f"takes {batch} face in every run"
        raise ConfigError(f"--finetune trains on many faces at once, and this network {kind}; leave it out")
    if not network.quantized:
        return replace(settings, batch=batch)
    if "int8" not in settings.precisions:
        raise ConfigError(
            f"this network is in int8 already, so it cannot be had as {' or '.join(settings.precisions)}; use "
            "--precision int8, or bring in the float32 network that it was made from"
        )
    if left := [name for name in settings.precisions if name != "int8"]:
        step(f"{' and '.join(left)} left out: the network is in int8 already")
    return replace(settings, precisions=("int8",), batch=batch)


def _at_precision(
    model: onnx.ModelProto,
    original: _Original,
    precision: str,
    settings: ExportSettings,
    faces: npt.NDArray[np.uint8],
    labelled: LabelledPairs | None,
    step: Step,
) -> Bounded:
    made = Bounded(original.data, None, ())
    if precision == "fp16":
        made = Bounded(serialize(convert_fp16(model)), None, ())
    elif precision == "int8" and not original.quantized:
        ranges, tried, name = held_out(len(faces))
        quantizer = Quantizer(model, faces[ranges], resolve_target(settings.target), settings.method)
        if settings.finetune is not None:
            finetune(quantizer, faces[ranges], settings.finetune, step)
        pairs = (labelled.faces, labelled.pairs) if labelled else None
        reference, common = original.reference[tried], original.spread.common
        trial = Trial(faces[tried], reference, name, pairs, original.data, common)
        made = quantize_within(quantizer, settings.bounds, trial)
    if settings.batch is None:
        return made
    return replace(made, data=serialize(fix_batch(onnx.load_model_from_string(made.data), settings.batch)))


def _measure(
    made: Bounded,
    faces: npt.NDArray[np.uint8],
    reference: npt.NDArray[np.float32],
    precision: str,
) -> _Variant:
    """Open a network as a device would, and compare it."""
    timed = open_embedder(made.data, provider="cpu", threads=1, name=f"the {precision} network")
    parity = compare(reference, timed.embed(faces))
    return _Variant(made.data, parity, {}, made.record, timed, made.sensitivities)


def _timed(variants: dict[str, _Variant], fp32: bytes, face: npt.NDArray[np.uint8], target: str) -> dict[str, _Variant]:
    """Time the networks side by side, and say of int8 whether it is faster than fp32, and if not, why."""
    embedders = {name: variant.embedder for name, variant in variants.items()}
    if "fp32" not in embedders and any(variant.quantization for variant in variants.values()):
        embedders["fp32"] = open_embedder(fp32, provider="cpu", threads=1, name="the fp32 network")
    times = race(embedders, face)
    result = {}
    for name, variant in variants.items():
        record = variant.quantization
        if record is not None:
            speed = explain_speed(times["fp32"], times[name], variant.data, resolve_target(target))
            record = record.model_copy(update={"speed": speed})
        result[name] = replace(variant, latency={"cpu": round(times[name], 3)}, quantization=record)
    return result


def _entry(name: str, variant: _Variant, scored: Scored | None) -> PrecisionEntry:
    return PrecisionEntry(
        file=f"embedder.{name}.onnx",
        parity_images=variant.parity.images,
        min_cosine=variant.parity.min_cosine,
        mean_cosine=variant.parity.mean_cosine,
        latency_ms=variant.latency,
        quantization=variant.quantization,
        accuracy=None if scored is None else accuracy_entry(scored.reports[name], scored.data.name),
        canary=make_canary(variant.embedder),
    )


def _usable(labelled: LabelledPairs | None, step: Step) -> LabelledPairs | None:
    """Leave out the pairs of which a picture cannot be read, and tell."""
    if labelled is None:
        return None
    usable = usable_pairs(labelled.faces, labelled.pairs)
    if usable.broken:
        step(str(usable))
    return replace(labelled, pairs=usable.pairs)


def _score(
    variants: dict[str, _Variant],
    rates: tuple[float, ...],
    labelled: LabelledPairs | None,
    scoring: Scoring,
    step: Step,
) -> Scored | None:
    """Score the pairs with every pair of precisions: templates may be of another one than the faces of a camera."""
    if labelled is None:
        return None
    step("scoring templates of each precision against faces of each")
    embedders = {
        name: open_embedder(variant.data, provider="cpu", threads=0, name=f"the {name} network")
        for name, variant in variants.items()
    }
    return score_protocol(embedders, labelled.faces, labelled.pairs, labelled.name, rates, scoring)
