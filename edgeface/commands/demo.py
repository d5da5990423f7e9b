"""`edgeface demo`: the whole line, with no camera, no data and no GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.runtime.photographs import Trial


def demo_command(
    *,
    out: Annotated[Path, typer.Option(help="Folder for what the demo makes; an earlier demo there is replaced.")] = (
        Path("edgeface-demo")
    ),
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Other people, another training, another camera.")
    ] = 0,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs: the bundle of the package looks whom it knows again in changed copies."
        ),
    ] = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train on drawn faces, export int8, enrol two people, and check every decision of a camera run.

    Takes a few minutes on two cores. Needs no camera, no data and no GPU. With --pictures, the bundle of the package
    also looks at photographs of real people.
    """
    import os
    import shutil

    from edgeface.commands.train import Bar
    from edgeface.demo import run_demo
    from edgeface.errors import ConfigError

    if pictures is not None and not pictures.is_dir():
        raise ConfigError(f"no folder of photographs at {pictures}")
    if out.exists():
        if any(out.iterdir()) and not (out / "run" / "config.json").is_file():
            raise ConfigError(f"{out} exists and is not an earlier demo; choose another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)  # one that cannot be made is known before minutes of training
    silent = quiet or as_json
    with console.progress("training", silent) as advance:
        result = run_demo(
            out,
            seed=seed,
            workers=min(4, os.cpu_count() or 1),
            progress=Bar(advance),
            say=lambda text: console.say(text, silent),
        )
    trials = _try(pictures, out / "photographs", silent) if pictures is not None else ()
    if as_json:
        console.print_json(
            {
                "decisions": len(result.outcomes),
                "correct": result.correct,
                "seconds": round(result.seconds, 1),
                "accuracy": result.report.accuracy,
                "files": [str(path) for path in result.files] + [str(trial.picture) for trial in trials],
                "photographs": [
                    {"name": t.name, "faces": t.faces, "known": t.known, "unknown": t.unknown, "mistaken": t.mistaken}
                    for t in trials
                ],
            }
        )
        return
    rows = [
        [
            str(outcome.visit + 1),
            outcome.truth or "a stranger",
            outcome.decided,
            "" if outcome.score is None else f"{outcome.score:.3f}",
            "right" if outcome.correct else "WRONG",
        ]
        for outcome in result.outcomes
    ]
    console.table(rows, ["visit", "truth", "decided", "score", ""])
    int8 = result.manifest.precisions["int8"]
    threshold = result.manifest.threshold_for("int8")
    typer.echo(
        f"{result.correct} of {len(result.outcomes)} decisions right; threshold {threshold.cosine:.3f} for a false "
        f"match rate of {threshold.fmr:g}; accuracy on people never seen: {result.report.accuracy:.1%}, int8, "
        f"{int8.latency_ms['cpu']:.2f} ms a face; camera: {result.summary.fps:.0f} frames a second; "
        f"{result.seconds:.0f} s in all"
    )
    if trials:
        header = ["photograph", "faces", "known again", "unknown", "mistaken", "threshold"]
        counts = [[t.name, t.faces, t.known, t.unknown, t.mistaken, f"{t.threshold:.3f}"] for t in trials]
        console.table([[str(value) for value in row] for row in counts], header)
    for path in (*result.files, *(trial.picture for trial in trials)):
        typer.echo(f"  {path}")


def _try(folder: Path, out: Path, silent: bool) -> "tuple[Trial, ...]":
    from edgeface.runtime.photographs import try_photographs
    from edgeface.runtime.recognizer import open_recognizer

    console.say("looking at photographs with the bundle of the package", silent)
    return try_photographs(open_recognizer("default", provider="cpu"), folder, out)
