"""`edgeface demo`: the whole line, with no camera, no data and no GPU."""

from pathlib import Path
from typing import Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt


def demo_command(
    *,
    out: Annotated[Path, typer.Option(help="Folder for what the demo makes; an earlier demo there is replaced.")] = (
        Path("edgeface-demo")
    ),
    seed: Annotated[int, typer.Option(min=0, help="Other people, another training, another camera.")] = 0,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train on drawn faces, export int8, enrol two people, and check every decision of a camera run.

    Takes a few minutes on two cores. Needs no camera, no data and no GPU.
    """
    import os
    import shutil

    from edgeface.commands.train import Bar
    from edgeface.demo import run_demo
    from edgeface.errors import ConfigError

    if out.exists():
        if any(out.iterdir()) and not (out / "run" / "config.json").is_file():
            raise ConfigError(f"{out} exists and is not an earlier demo; choose another folder with --out")
        shutil.rmtree(out)
    silent = quiet or as_json
    with console.progress("training", silent) as advance:
        result = run_demo(
            out,
            seed=seed,
            workers=min(4, os.cpu_count() or 1),
            progress=Bar(advance),
            say=lambda text: console.say(text, silent),
        )
    if as_json:
        console.print_json(
            {
                "decisions": len(result.outcomes),
                "correct": result.correct,
                "seconds": round(result.seconds, 1),
                "accuracy": result.report.accuracy,
                "files": [str(path) for path in result.files],
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
    for path in result.files:
        typer.echo(f"  {path}")
