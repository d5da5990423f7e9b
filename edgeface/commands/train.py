"""`edgeface train`: photographs in, a run folder out; of detectors in `edgeface.commands.detection`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.commands import console, detection, quality
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.training.config import TrainConfig
    from edgeface.training.progress import Status


def train_command(
    context: typer.Context,
    *,
    task: opt.Task = "embed",
    data: opt.Data = None,
    out: Annotated[Path, typer.Option(help="Run folder to write.")] = Path("runs/latest"),
    recipe: Annotated[str, typer.Option(help="Settings that come with edgeface; an unknown name lists them.")] = "",
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    model: Annotated[str | None, typer.Option(help="Network, such as mobilefacenet or resnet-edge.")] = None,
    loss: Annotated[str | None, typer.Option(help="Loss, such as arcface, adaface or triplet.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the faces.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Faces or pictures in a step.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting: optimizer.lr=1e-3.")] = None,
    val_data: Annotated[
        str | None, typer.Option(help="Validate on these aligned faces instead of people held out from --data.")
    ] = None,
    val_pairs: Annotated[Path | None, typer.Option(help="pairs.txt over --val-data.")] = None,
    nproc: Annotated[
        int, typer.Option(min=1, max=opt.MOST_THREADS, help="Processes that share each batch and the classes.")
    ] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train an embedding network with a margin loss, and verify people it has never seen as it goes.

    Settings come from the recipe, then --config, then the options. A run that was interrupted goes on with
    --resume and ends as if it had not been, also with another --nproc. On several machines, start
    `torchrun ... -m edgeface train ...` on each.

    With --task detect it trains a face detector instead, on a folder of detect.jsonl, detect-train.tar and
    detect-val.tar. With --task quality it trains the network that says how fit a face is to be recognised, on aligned
    faces of anybody.

    Examples:

      edgeface train --data faces/ --model mobilefacenet --loss arcface --epochs 20 --out runs/a

      edgeface train --task detect --data pictures/ --out runs/detector
    """
    if opt.check_task(task) == "quality":
        opt.refuse_foreign(context, task, quality.TRAIN_OPTIONS)
        wanted = quality.load_settings(config, set_ or (), recipe, data, epochs, batch_size)
        quality.train(wanted, out, resume=resume, as_json=as_json, quiet=quiet)
        return
    if task == "detect":
        opt.refuse_foreign(context, task, detection.TRAIN_OPTIONS)
        options = detection.load_settings(config, set_ or (), recipe, data, batch_size)
        detection.train(options, out, resume=resume, as_json=as_json, quiet=quiet)
        return
    from edgeface.errors import ConfigError
    from edgeface.training.config import load_config
    from edgeface.training.processes import is_one_of_many, leave

    named: dict[str, Any] = {
        "data.path": data,
        "model.name": model,
        "loss.name": loss,
        "run.epochs": epochs,
        "run.batch_size": batch_size,
    }
    overrides = [*(set_ or []), *(f"{key}={value}" for key, value in named.items() if value is not None)]
    settings = load_config(config, overrides, recipe)
    if not settings.data.path:
        raise ConfigError("train needs faces: give --data FOLDER, or data.path in --config")
    if nproc > 1 and is_one_of_many():
        raise ConfigError(f"--nproc {nproc} starts processes, but this is one of torchrun's already; leave it out")
    work = Work(settings, out, val_data, val_pairs, resume, as_json, quiet)
    if nproc == 1:
        run_training(work)
        if is_one_of_many():
            leave()
    else:
        from edgeface.training.launch import launch

        if not launch(nproc, run_in_process, work):
            raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Work:
    """What a process of the command does; the fields are the command's options."""

    settings: "TrainConfig"
    out: Path
    val_data: str | None
    val_pairs: Path | None
    resume: bool
    as_json: bool
    quiet: bool


def run_in_process(work: Work) -> None:
    """Train as one of several processes: what a user can mend is said in one line."""
    from edgeface.errors import EdgefaceError

    try:
        run_training(work)
    except EdgefaceError as error:
        console.complain(error)
        raise SystemExit(1) from None


def run_training(work: Work) -> None:
    """Train, and say how it went if this is the first process."""
    from edgeface.training.loop import train
    from edgeface.training.processes import is_first
    from edgeface.training.validation import Validation

    validation = None
    if work.val_data is not None:
        from edgeface.commands.labelled import open_pairs

        faces, pairs, _ = open_pairs(work.val_data, work.val_pairs, None)
        validation = Validation(faces, pairs)
    with console.progress("training", work.quiet or work.as_json or not is_first()) as advance:
        info = train(work.settings, work.out, validation=validation, resume=work.resume, progress=Bar(advance))
    if not is_first():
        return
    if work.as_json:
        console.print_json(
            {
                "run": str(work.out),
                "model": info.model,
                "loss": info.loss,
                "classes": info.classes,
                "faces": info.faces,
                "steps": info.step,
                "seconds": info.seconds,
                "accuracy": info.accuracy,
                "best_accuracy": info.best_accuracy,
            }
        )
        return
    best = f"{info.best_accuracy:.2%}" if info.best_accuracy is not None else "not measured"
    typer.echo(
        f"{info.model} with {info.loss} on {info.faces} faces of {info.classes} people: {info.step} steps in "
        f"{info.seconds:.0f} s, best accuracy on unseen people {best}"
    )
    typer.echo(f"run folder: {work.out}; next: edgeface export {work.out} --out my.bundle --calibration FACES")


class Bar:
    """Shows the training loop's status on a progress bar."""

    def __init__(self, advance: console.Advance) -> None:
        self._advance = advance

    def update(self, status: "Status") -> None:
        """Show the status."""
        accuracy = "" if status.val_accuracy is None else f", accuracy {status.val_accuracy:.1%}"
        note = (
            f"epoch {status.epoch}/{status.epochs}, loss {status.loss:.3f}{accuracy}, "
            f"{status.faces_per_s:.0f} images/s, {_minutes(status.eta_s)} left"
        )
        self._advance(status.step, status.steps, note)


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02}"
