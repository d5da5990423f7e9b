"""The comparison from top to bottom: train, measure, draw.

What is the same for all losses: the network and, for a seed, its first weights; the faces; the optimizer with its
learning rate; the number of steps and of faces in a step. What differs is what a loss cannot do without: losses over
pairs get batches of a few faces each of a few people (sampler `pk`), the others shuffled ones. The options of
each loss are its own defaults, those of its paper where one gives them; none was tuned on these faces, and neither
was the learning rate for any one loss. So the table ranks the losses at that budget and out of the box, and a loss that
wants another learning rate or scale may gain by `--set` or by options of its own (`arcface:margin=0.3`).

Open set: the people that are measured are never trained on, and the last weights are measured, not the best ones. The
spread is that over seeds of weights, order and augmentation; the people and pairs are the same in all runs, so it does
not say how far other people would give other numbers.

The drawn faces: 150 people of 12 faces to train on, 70 of 12 to measure on; 8 000 pairs support a TAR at FAR 1e-3.
The nuisance is the generator's default, a camera at a door. Six epochs keep sixty runs to some 22 minutes of one core,
eleven on two that are free; eight were begun and given up for their time. Softmax and ArcFace had been tried once with
six and with ten epochs before, and two triplet minings with six, to see that nothing is near perfect. So short a
training is also a limit of the result: losses that start slowly look worse than they end.

The circles (`edgeface.comparison.circles`) are a training of their own, with another start, and no measure of a loss.
Steps are timed at the end, one loss after the other in one process and thread, since runs beside each other distort
times; work of other programs still does.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from edgeface.comparison.contenders import Contender
from edgeface.comparison.jobs import Job, job
from edgeface.comparison.people import People
from edgeface.comparison.plots import draw_angles, draw_circles, draw_comparison, draw_target_logits
from edgeface.comparison.results import Result, ResultFile
from edgeface.comparison.table import Row, markdown, rows
from edgeface.comparison.target_logits import target_logits
from edgeface.comparison.workers import Stopped, finish
from edgeface.errors import TrainingError
from edgeface.files import write_text

TABLE: Final = "comparison.json"
MARKDOWN: Final = "comparison.md"
PICTURES: Final = ("comparison.png", "circles.png", "angles.png", "target_logits.png")


@dataclass(frozen=True, slots=True)
class Settings:
    """What to compare.

    Attributes:
        contenders: the losses, in the order of table and pictures.
        overrides: `key=value` for every run.
        seeds: number of runs of each loss, with seeds 0, 1, ...
        workers: processes.
    """

    contenders: tuple[Contender, ...]
    overrides: tuple[str, ...] = ()
    seeds: int = 3
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it."""

    rows: tuple[Row, ...]
    files: tuple[Path, ...]


class Advance(Protocol):
    """Is told how many jobs are done."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show it."""


def plan(settings: Settings) -> tuple[Job, ...]:
    """Return all jobs: runs seed by seed, so that an early look has every loss, then circles, then costs.

    Raises:
        ConfigError: an override or an option cannot be used.
    """
    each, overrides = settings.contenders, settings.overrides
    return (
        *(job("run", one, overrides, seed) for seed in range(settings.seeds) for one in each),
        *(job("circle", one, overrides, 0) for one in each),
        *(job("cost", one, overrides, 0) for one in each),
    )


def compare(
    settings: Settings,
    people: People,
    file: ResultFile,
    *,
    advance: Advance = lambda done, total, note="": None,
    stop: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Train, measure and draw, and write everything into the folder of `file`.

    Args:
        settings: what to compare.
        people: to train on and to measure on.
        file: what it has of the same settings is taken, but for what failed; beside it come comparison.json,
            comparison.md and four pictures.
        advance: is told how many jobs are done.
        stop: is asked now and then whether to stop; what is measured stays.

    Raises:
        ConfigError: an override or an option cannot be used.
        TrainingError: it was stopped, or a worker died. A loss that fails is a row with its error instead.
    """
    jobs = plan(settings)
    fingerprint = people.fingerprint
    keys = {each: each.key(fingerprint) for each in jobs}
    before = file.measured(list(keys.values()))
    results = {each: Result(each, before[keys[each]]) for each in jobs if keys[each] in before}
    advance(len(results), len(jobs), "taken from before" if results else "")
    # Costs come last and one after the other in this process: beside other work, a step takes longer.
    for costs, workers in ((False, settings.workers), (True, 1)):
        todo = [each for each in jobs if each not in results and (each.kind == "cost") == costs]
        try:
            for done, value in finish(todo, people, workers, stop):
                result = Result(done, None, value) if isinstance(value, str) else Result(done, value)
                file.add(keys[done], result)
                results[done] = result
                advance(len(results), len(jobs), f"{done.label}: {done.kind} {'failed' if result.error else 'done'}")
        except Stopped:
            raise TrainingError(
                f"stopped after {len(results)} of {len(jobs)} jobs; their results are in {file.path}, go on with "
                "--resume"
            ) from None
    ordered = [results[each] for each in jobs]
    labels = [each.label for each in settings.contenders]
    table = rows(labels, ordered)
    files = tuple(file.folder / name for name in (TABLE, MARKDOWN, *PICTURES))
    write_text(
        files[0],
        json.dumps({"rows": [asdict(row) for row in table], "settings": _described(settings, people)}, indent=2) + "\n",
    )
    write_text(files[1], markdown(table, _note(settings, people, jobs[0])))
    _draw(files[2:], settings, people, table, ordered)
    return Comparison(table, files)


def _draw(
    files: Sequence[Path], settings: Settings, people: People, table: Sequence[Row], results: Sequence[Result]
) -> None:
    labels = [row.loss for row in table]
    draw_comparison(files[0], table, people.name)
    draw_circles(files[1], labels, results)
    draw_angles(files[2], labels, results, people.name)
    curves = [curve for one in settings.contenders for curve in target_logits(one, one.config(settings.overrides))]
    draw_target_logits(files[3], curves)


def _described(settings: Settings, people: People) -> dict[str, object]:
    config = settings.contenders[0].config(settings.overrides)
    return {
        "training_people": len(people.training.identities),
        "training_faces": len(people.training),
        "test_people": len(people.test.identities),
        "test_faces": len(people.test),
        "pairs": len(people.pairs),
        "seeds": settings.seeds,
        "overrides": list(settings.overrides),
        "model": config.model.name,
        "embedding_size": config.model.embedding_size,
        "epochs": config.run.epochs,
        "batch_size": config.run.batch_size,
    }


def _note(settings: Settings, people: People, first: Job) -> str:
    model, run, training = first.config.model, first.config.run, people.training
    return (
        f"Network `{model.name}`, {model.embedding_size} numbers an embedding, trained on {len(training)} faces of "
        f"{len(training.identities)} people; epochs: {run.epochs}, of {len(training) // run.batch_size} steps of "
        f"{run.batch_size} faces; measured on {len(people.pairs)} pairs of {people.name} never trained on. Seeds: "
        f"{settings.seeds}, mean ± standard deviation. Each loss has its own default options unless they are named."
    )
