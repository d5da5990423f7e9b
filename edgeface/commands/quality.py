"""Quality networks on the command line: what `--task quality` does in `edgeface train`, `eval` and `export`."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from edgeface.commands import console

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeface.training.quality.config import QualityConfig
    from edgeface.training.quality.loop import QualityProgress

TRAIN_OPTIONS: Final = frozenset(
    {"task", "data", "out", "recipe", "config", "epochs", "batch_size", "set_", "resume", "as_json", "quiet"}
)
EVAL_OPTIONS: Final = frozenset(
    {"task", "model", "data", "split", "against", "precision", "provider", "threads", "seed", "out", "as_json", "quiet"}
)
EXPORT_OPTIONS: Final = frozenset(
    {
        *("task", "model", "out", "calibration", "precision", "calibration_images", "calibration_split"),
        *("calibration_method", "target", "opset", "seed", "as_json", "quiet"),
    }
)
"""Parameters of the commands that a quality network knows."""

PRECISIONS: Final = ("fp32", "int8")
REFUSED: Final = (0.03, 0.08)
"""Shares of the calibration faces, photographs as people have them, that are refused: to be compared, and to become a
template."""


def load_settings(
    config: Path | None,
    overrides: Iterable[str],
    recipe: str,
    data: str | None,
    epochs: int | None,
    batch_size: int | None,
) -> "QualityConfig":
    """Read the settings of a run from the options of `edgeface train`."""
    from edgeface.training.quality.config import load_quality_config

    named = {"data.path": data, "run.epochs": epochs, "run.batch_size": batch_size}
    options = [f"{key}={value}" for key, value in named.items() if value is not None]
    return load_quality_config(config, [*overrides, *options], recipe or "quality")


def train(settings: "QualityConfig", out: Path, *, resume: bool, as_json: bool, quiet: bool) -> None:
    """Train a quality network, and say how it went."""
    from edgeface.training.quality.loop import train_quality

    with console.progress("training", quiet or as_json) as advance:

        def show(at: "QualityProgress") -> None:
            note = at.stage if not at.loss else f"loss {at.loss:.3f}, {at.images_per_s:.0f} images/s"
            advance(at.done, at.total, note)

        scores = train_quality(settings, out, show, resume=resume)
    if as_json:
        console.print_json({"run": str(out), "epochs": settings.run.epochs, **asdict(scores)})
        return
    faults = ", ".join(f"{name} {area:.3f}" for name, area in scores.faults.items() if area is not None)
    typer.echo(
        f"on {scores.views} views of faces held apart: fitness off by {scores.fitness_error:.3f} in the mean, rank "
        f"correlation {scores.fitness_correlation:.3f}; turn told rightly for {scores.turns:.1%}; area under the ROC "
        f"curve of each fault: {faults}"
    )
    typer.echo(f"run folder: {out}; next: edgeface export {out} --out quality.onnx --calibration FACES")


def evaluate(
    model: Path,
    data: str | None,
    split: str | None,
    against: Path | None,
    *,
    precision: str,
    provider: str,
    threads: int,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure what refusing faces saves, for the scores of a bundle."""
    from edgeface.data import open_faces
    from edgeface.errors import ConfigError
    from edgeface.evaluation.fitness import assess_fitness
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.deciding.fitness import open_fitness_network
    from edgeface.runtime.deciding.gate import bundle_gate, fitness_scores
    from edgeface.runtime.deciding.limits import bundle_limits
    from edgeface.runtime.embedder import bundle_embedder
    from edgeface.runtime.signature import refuse_loose

    if data is None:
        raise ConfigError("eval --task quality needs labelled faces: give --data FACES")
    if not model.is_file():
        raise ConfigError(f"no quality network {model}; give the .onnx file that edgeface export wrote")
    refuse_loose(model)
    network = open_fitness_network(model.read_bytes(), provider=provider, threads=threads, name=str(model))
    bundle = open_bundle("default" if against is None else against)
    embedder, chosen = bundle_embedder(bundle, precision=precision, provider=provider, threads=threads)
    threshold, scoring = bundle_limits(bundle, chosen).search({chosen: 1}).cosine, bundle.scoring()

    judge = bundle_gate(bundle, provider=provider, threads=threads).network

    def compare(templates: "npt.NDArray[np.uint8]", probes: "npt.NDArray[np.uint8]") -> "npt.NDArray[np.float64]":
        first, second = (None if judge is None else fitness_scores(judge, side) for side in (templates, probes))
        return scoring.pairs(embedder.embed(templates), embedder.embed(probes), (first, second))

    with console.progress("conditions", quiet or as_json) as advance:
        report = assess_fitness(open_faces(data, split=split), network, compare, threshold, seed=seed, progress=advance)
    facts: dict[str, Any] = {"model": str(model), "bundle": bundle.manifest.name, **report.to_json()}
    if out is not None:
        from edgeface.evaluation.plots import plot_discards

        out.mkdir(parents=True, exist_ok=True)
        facts["files"] = [str(out / "discard.png")]
        plot_discards(out / "discard.png", {"quality network": report.network, "measured": report.measured})
    if as_json:
        console.print_json(facts)
        return
    rows = [
        ["none refused", f"{report.missed:.2%}", ""],
        *(
            [f"worst 20 % refused by {name}", f"{curve.at(0.2):.2%}", f"{curve.area:.4f}"]
            for name, curve in (("the network", report.network), ("the hand-made score", report.measured))
        ),
    ]
    console.table(rows, ["faces", "missed", "area"])
    console.notes(
        [
            f"{report.pairs} genuine pairs of {report.people} people, the probe under every condition of the battery, "
            f"scores of {bundle.manifest.name} {chosen} at {report.threshold:.4f}; the network refuses "
            f"{report.clean_refused:.2%} of the faces as they are."
        ]
    )


def export(
    model: Path,
    out: Path,
    calibration: str,
    calibration_split: str | None,
    calibration_images: int,
    method: str,
    precisions: tuple[str, ...],
    target: str,
    *,
    opset: int,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a quality network as ONNX in one precision, with the limits that it advises."""
    import numpy as np

    from edgeface.data import open_faces
    from edgeface.errors import ConfigError, UnknownNameError
    from edgeface.export.cleaning import serialize
    from edgeface.export.entries import quality_entry
    from edgeface.export.quality import export_quality, quantize_quality
    from edgeface.export.quantization.targets import check_target, resolve_target
    from edgeface.files import write_bytes
    from edgeface.training.quality.checkpoint import load_quality

    for precision in precisions:
        if precision not in PRECISIONS:
            raise UnknownNameError("precision of a quality network", precision, PRECISIONS)
    if len(precisions) != 1:
        raise ConfigError(f"a quality network has one precision, fp32 or int8; got {','.join(precisions) or 'none'}")
    if out.suffix != ".onnx":
        raise ConfigError(f"a quality network is written to one file: --out {out} should end in .onnx")
    check_target(target, "int8" in precisions)
    network, _ = load_quality(model)
    faces = open_faces(calibration, split=calibration_split)
    chosen = np.random.default_rng(seed).permutation(len(faces))[: max(calibration_images, 16)]
    pictures = faces.read_many(np.sort(chosen).tolist())
    console.say(f"exporting and choosing limits on {len(pictures)} faces", quiet or as_json)
    graph = export_quality(network, pictures, REFUSED, opset)
    if precisions == ("int8",):
        data = quantize_quality(graph, pictures[:500], resolve_target(target), method)
    else:
        data = serialize(graph)
    write_bytes(out, data)
    entry = quality_entry(data)
    assert entry is not None
    facts = {
        "file": str(out),
        "bytes": len(data),
        "min_fitness": entry.min_fitness,
        "enrol_fitness": entry.enrol_fitness,
    }
    if as_json:
        console.print_json(facts)
        return
    typer.echo(
        f"quality network: {out}, {len(data):,} bytes; least fitness {entry.min_fitness:.3f} to be compared, "
        f"{entry.enrol_fitness:.3f} to become a template"
    )
