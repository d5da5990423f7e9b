"""From results to one row for each loss, as JSON and as Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edgeface.comparison.cost import Cost
from edgeface.comparison.jobs import Measurement
from edgeface.comparison.results import Result


@dataclass(frozen=True, slots=True)
class Row:
    """What one loss reached.

    Attributes:
        loss: label of the contender.
        seeds: runs that the means are over.
        accuracy: mean over the runs, in [0, 1]; None if none succeeded, as all that follows.
        accuracy_sd: standard deviation over the runs; None for fewer than two, as every `_sd`.
        eer: mean equal error rate.
        tar: mean true accept rate by false accept rate.
        tar_sd: by false accept rate.
        steps: of training, in each run.
        ms_per_step, mb_per_step, loss_ms, loss_mb: as `edgeface.comparison.cost.Cost`; None if not measured.
        error: why a job of it failed, or empty.
    """

    loss: str
    seeds: int
    accuracy: float | None
    accuracy_sd: float | None
    eer: float | None
    tar: dict[str, float]
    tar_sd: dict[str, float | None]
    steps: int | None
    ms_per_step: float | None
    mb_per_step: float | None
    loss_ms: float | None
    loss_mb: float | None
    error: str


def rows(labels: Sequence[str], results: Sequence[Result]) -> tuple[Row, ...]:
    """Return a row for each label, in that order."""
    return tuple(_row(label, [result for result in results if result.job.label == label]) for label in labels)


def cells(table: Sequence[Row]) -> list[list[str]]:
    """Return header and rows as text, to be printed or joined by bars."""
    rates = list(dict.fromkeys(rate for row in table for rate in row.tar))
    header = ["loss", "accuracy", *(f"TAR at FAR {rate}" for rate in rates), "step", "its loss"]
    return [header, *(_cells(row, rates) for row in table)]


def markdown(table: Sequence[Row], note: str) -> str:
    """Return the table in Markdown, below it `note` and what went wrong."""
    header, *lines = cells(table)
    texts = ["| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines]]
    failures = [f"- {row.loss}: {row.error}" for row in table if row.error]
    return "\n".join([*texts, "", note, *(["", *failures] if failures else [])]) + "\n"


def _row(label: str, results: Sequence[Result]) -> Row:
    runs = [result.value for result in results if isinstance(result.value, Measurement)]
    cost = next((result.value for result in results if isinstance(result.value, Cost)), None)
    rates = runs[0].tar if runs else {}
    return Row(
        loss=label,
        seeds=len(runs),
        accuracy=_mean([run.accuracy for run in runs]),
        accuracy_sd=_sd([run.accuracy for run in runs]),
        eer=_mean([run.eer for run in runs]),
        tar={rate: statistics.fmean(run.tar[rate] for run in runs) for rate in rates},
        tar_sd={rate: _sd([run.tar[rate] for run in runs]) for rate in rates},
        steps=runs[0].steps if runs else None,
        ms_per_step=None if cost is None else round(cost.ms_per_step, 2),
        mb_per_step=None if cost is None else round(cost.mb_per_step, 3),
        loss_ms=None if cost is None else round(cost.loss_ms, 2),
        loss_mb=None if cost is None else round(cost.loss_mb, 3),
        error="; ".join(dict.fromkeys(result.error for result in results if result.error)),
    )


def _cells(row: Row, rates: Sequence[str]) -> list[str]:
    return [
        row.loss,
        "failed" if row.accuracy is None else _spread(row.accuracy, row.accuracy_sd),
        *(_spread(row.tar[rate], row.tar_sd[rate]) if rate in row.tar else "" for rate in rates),
        _cost(row.ms_per_step, row.mb_per_step),
        _cost(row.loss_ms, row.loss_mb),
    ]


def _spread(mean: float, sd: float | None) -> str:
    return f"{mean:.1%}" if sd is None else f"{100 * mean:.1f} ± {100 * sd:.1f} %"


def _cost(ms: float | None, mb: float | None) -> str:
    return "" if ms is None or mb is None else f"{ms:.1f} ms, {mb:.1f} MB"


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
