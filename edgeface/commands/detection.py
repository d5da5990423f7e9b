"""Face detectors on the command line: what `--task detect` does in `edgeface train`, `eval` and `export`."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from edgeface.commands import console

if TYPE_CHECKING:
    from edgeface.data.detection import DetectionSet
    from edgeface.evaluation.detection import DetectorReport
    from edgeface.training.detection.config import DetectorConfig
    from edgeface.training.detection.loop import DetectorProgress

TRAIN_OPTIONS: Final = frozenset(
    {"task", "data", "out", "recipe", "config", "batch_size", "set_", "resume", "as_json", "quiet"}
)
EVAL_OPTIONS: Final = frozenset({"task", "model", "data", "split", "max_side", "against", "as_json", "quiet"})
EXPORT_OPTIONS: Final = frozenset(
    {
        *("task", "model", "out", "calibration", "precision", "calibration_images", "calibration_split", "split"),
        *("calibration_method", "target", "max_drop", "max_side", "min_score", "data", "opset", "seed"),
        *("as_json", "quiet"),
    }
)
"""Parameters of the commands that a detector knows."""

HEADER: Final = ["detector", "recall", "at score", "average precision", "landmark error", "at its own score"]
PRECISIONS: Final = ("fp32", "int8")


def train(settings: "DetectorConfig", out: Path, *, resume: bool, as_json: bool, quiet: bool) -> None:
    """Train a detector, and say how it went."""
    from edgeface.training.detection.loop import train_detector

    with console.progress("training", quiet or as_json) as advance:

        def show(at: "DetectorProgress") -> None:
            left_s = (at.steps - at.step) * settings.run.batch_size / max(at.images_per_s, 1e-9)
            note = f"loss {at.loss:.3f}, {at.images_per_s:.0f} images/s, {int(left_s // 60)}:{int(left_s % 60):02} left"
            advance(at.step, at.steps, note)

        scores = train_detector(
            settings, out, show, resume=resume, tell=lambda text: console.say(text, quiet or as_json)
        )
    if as_json:
        console.print_json({"run": str(out), "steps": settings.run.steps, **_facts(scores)})
        return
    console.table([_row(out.name, scores)], HEADER)
    typer.echo(f"run folder: {out}; next: edgeface export {out} --out detector.onnx --calibration DATA")


def evaluate(
    model: Path, data: str | None, split: str, max_side: int, against: Path | None, *, as_json: bool, quiet: bool
) -> None:
    """Score a detector, and perhaps another one, on labelled pictures."""
    from edgeface.errors import ConfigError

    if data is None:
        raise ConfigError("eval --task detect needs labelled pictures: give --data FOLDER with detect.jsonl")
    from edgeface.data.detection import open_detection_set

    pictures = open_detection_set(Path(data), split)
    console.say(str(pictures.census), quiet or as_json)
    reports = {name: _score(name, pictures, max_side) for name in dict.fromkeys([model, against]) if name is not None}
    if as_json:
        facts: dict[str, Any] = {"model": str(model), "split": split, "max_side": max_side, **_facts(reports[model])}
        if against is not None:
            facts["against"] = {"model": str(against), **_facts(reports[against])}
        console.print_json(facts)
        return
    console.table([_row(path.name, report) for path, report in reports.items()], HEADER)
    console.notes(_notes(reports[model]))


@dataclass(frozen=True, slots=True)
class DetectorExport:
    """What `edgeface export --task detect` is asked for; the fields are options of the command."""

    model: Path
    out: Path
    calibration: str
    calibration_split: str
    calibration_images: int
    calibration_method: str
    precisions: tuple[str, ...]
    target: str
    data: str
    split: str
    max_side: int
    max_drop: float | None
    min_score: float | None
    opset: int
    seed: int


def export(asked: DetectorExport, *, as_json: bool, quiet: bool) -> None:
    """Write a detector as ONNX in one or both precisions, each scored."""
    from edgeface.data.detection import open_detection_set
    from edgeface.errors import ConfigError, UnknownNameError
    from edgeface.evaluation.detection import evaluate_file
    from edgeface.export.cleaning import serialize
    from edgeface.export.detector import export_detector, with_min_score
    from edgeface.export.detector_int8 import MAX_DROP, DetectorBounds, calibration_frames, quantize_detector
    from edgeface.export.quantization.targets import check_target, resolve_target
    from edgeface.files import write_bytes
    from edgeface.training.detection.checkpoint import load_detector

    for precision in asked.precisions:
        if precision not in PRECISIONS:
            raise UnknownNameError("precision of a detector", precision, PRECISIONS)
    if not asked.precisions:
        raise ConfigError(f"no precision was asked; give one or more of {', '.join(PRECISIONS)}")
    if asked.out.suffix != ".onnx":
        raise ConfigError(f"a detector is written to one file: --out {asked.out} should end in .onnx")
    check_target(asked.target, "int8" in asked.precisions)

    def step(text: str) -> None:
        console.say(text, quiet or as_json)

    pictures = open_detection_set(Path(asked.data), asked.split)
    bounds = DetectorBounds(pictures, asked.max_side, MAX_DROP if asked.max_drop is None else asked.max_drop)
    network, info = load_detector(asked.model)
    step("fp32: exporting and measuring")
    model = export_detector(network, min_score=asked.min_score or 0.5, max_face=info.max_face, opset=asked.opset)
    original = evaluate_file(serialize(model), pictures, asked.max_side)
    model = with_min_score(model, asked.min_score or original.min_score)
    files = {"fp32": serialize(model)}
    reports = {"fp32": evaluate_file(files["fp32"], pictures, asked.max_side)}
    facts: dict[str, Any] = {}
    if "int8" in asked.precisions:
        train_set = open_detection_set(Path(asked.calibration), asked.calibration_split)
        frames = calibration_frames(train_set, asked.calibration_images, asked.seed)
        step(f"int8: calibrating on {len(frames)} pictures, measuring on {len(pictures)}")
        target = resolve_target(asked.target)
        made = quantize_detector(model, frames, target, asked.calibration_method, bounds, reports["fp32"])
        files["int8"], reports["int8"] = made.data, made.report
        facts["int8"] = {"quantization": made.record.model_dump()}
        step(f"int8: {made.record.bound}")
        step(f"int8: {made.record.speed}")
    written = {}
    for precision in asked.precisions:
        alone = len(asked.precisions) == 1
        written[precision] = asked.out if alone else asked.out.with_name(f"{asked.out.stem}.{precision}.onnx")
        write_bytes(written[precision], files[precision])
        facts[precision] = {
            "file": str(written[precision]),
            "bytes": len(files[precision]),
            **facts.get(precision, {}),
            **_facts(reports[precision]),
        }
    if as_json:
        console.print_json({"precisions": facts})
        return
    console.table([[*_row(key, report), f"{len(files[key]):,}"] for key, report in reports.items()], [*HEADER, "bytes"])
    for path in written.values():
        typer.echo(f"detector: {path}")


def load_settings(
    config: Path | None, overrides: Iterable[str], recipe: str, data: str | None, batch_size: int | None
) -> "DetectorConfig":
    """Read the settings of a run from the options of `edgeface train`."""
    from edgeface.training.detection.config import load_detector_config

    named = {"data.path": data, "run.batch_size": batch_size}
    options = [f"{key}={value}" for key, value in named.items() if value is not None]
    return load_detector_config(config, [*overrides, *options], recipe or "detector")


def _score(model: Path, pictures: "DetectionSet", max_side: int) -> "DetectorReport":
    from edgeface.errors import ConfigError
    from edgeface.evaluation.detection import evaluate_file

    if model.is_dir():
        from edgeface.training.detection.checkpoint import load_detector
        from edgeface.training.detection.loop import evaluate_on

        network, info = load_detector(model)
        return evaluate_on(network, pictures, max_side, info.max_face)
    from edgeface.runtime.signature import refuse_loose

    if not model.is_file():
        raise ConfigError(f"no detector {model}; give a run folder or an ONNX file")
    refuse_loose(model)
    return evaluate_file(model.read_bytes(), pictures, max_side, str(model))


def _facts(report: "DetectorReport") -> dict[str, Any]:
    return asdict(report)


def _row(name: str, report: "DetectorReport") -> list[str]:
    error, own = report.landmark_error, report.advised
    return [
        name,
        f"{report.recall:.2%}",
        f"{report.min_score:.3f}",
        f"{report.average_precision:.4f}",
        "-" if error is None else f"{error:.4f}",
        "-" if own is None else f"{own.min_score:g}: {own.recall:.2%}, {own.false_positives:.3f} false",
    ]


def _notes(report: "DetectorReport") -> list[str]:
    from edgeface.evaluation.detection import CONFIDENT_SCORE, FALSE_POSITIVES, MATCHING_IOU, MIN_FACE

    notes = [
        f"{report.faces} faces with a label score of at least {CONFIDENT_SCORE:g} and at least {MIN_FACE:g} px wide "
        f"and high, in {report.pictures} pictures; others count neither for nor against. Recall at "
        f"{FALSE_POSITIVES:g} false positives a picture, average precision at an overlap of {MATCHING_IOU:g}, landmark "
        "error: median over the found faces of the mean distance of the five landmarks, in distances between the eyes."
    ]
    if report.landmark_bias:
        names = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
        each = (
            f"{name} {x:+.3f} {y:+.3f} ({dx:.3f}, {dy:.3f})"
            for name, (x, y), (dx, dy) in zip(names, report.landmark_bias, report.landmark_spread, strict=True)
        )
        notes.append(f"Landmarks, found minus labelled, median and median deviation (x, y): {'; '.join(each)}.")
    return notes
