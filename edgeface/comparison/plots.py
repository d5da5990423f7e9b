"""Pictures of a comparison."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeface.comparison.angles import BIN_DEG, BINS
from edgeface.comparison.jobs import Circle, Measurement
from edgeface.comparison.results import Result
from edgeface.comparison.table import Row
from edgeface.comparison.target_logits import ANGLES_DEG, Curve, merged
from edgeface.errors import MissingPackageError
from edgeface.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS: Final = 5
"""Panels side by side where each loss has one."""


def draw_comparison(path: Path, table: Sequence[Row], people: str) -> None:
    """Draw accuracy and true accept rates of each loss, with the spread over the seeds."""
    rates = list(dict.fromkeys(rate for row in table for rate in row.tar))
    strictest = rates[-2:]
    figure = _figure(11, 1.6 + 0.3 * len(table))
    places = np.arange(len(table))
    panels = [("accuracy", [(row.accuracy, row.accuracy_sd) for row in table])]
    panels += [
        (f"TAR at FAR {rate}", [(row.tar.get(rate), row.tar_sd.get(rate)) for row in table]) for rate in strictest
    ]
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, values) in zip(grid, panels, strict=True):
        for place, (mean, sd) in zip(places, values, strict=True):
            if mean is None:
                axes.text(0.02, place, "failed", transform=axes.get_yaxis_transform(), va="center", color="tab:red")
            else:
                axes.errorbar(100 * mean, place, xerr=100 * (sd or 0), fmt="o", color="tab:blue", capsize=3)
        axes.set(title=title, xlabel="per cent")
        axes.grid(alpha=0.3)
    grid[0].set(yticks=places, yticklabels=[row.loss for row in table], ylim=(len(table) - 0.5, -0.5))
    seeds = max((row.seeds for row in table), default=0)
    spread = f"mean and standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{people}, never trained on: {spread}")
    _save(figure, path)


def draw_circles(path: Path, labels: Sequence[str], results: Sequence[Result]) -> None:
    """Draw where each loss puts the faces of a few people on the circle, a panel for each loss."""
    figure, grid = _panels(labels, 2.2, 2.4)
    for axes, label in zip(grid, labels, strict=True):
        axes.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", xticks=[], yticks=[])
        axes.set_title(label, fontsize=10)
        turns = np.linspace(0, 2 * np.pi, 200)
        axes.plot(np.cos(turns), np.sin(turns), color="0.85", linewidth=0.8, zorder=0)
        circle = next((r.value for r in results if r.job.label == label and isinstance(r.value, Circle)), None)
        if circle is None:
            _failed(axes)
            continue
        angles, people = np.radians(circle.angles_deg), np.array(circle.labels)
        for person in np.unique(people):
            own = angles[people == person]
            colour = f"C{person}"
            axes.scatter(np.cos(own), np.sin(own), s=12, color=colour, alpha=0.6, linewidths=0)
            mean = np.array([np.cos(own).mean(), np.sin(own).mean()])
            axes.plot(*zip((0, 0), mean, strict=True), color=colour, linewidth=1.2)
    figure.suptitle(
        "a few people in two dimensions, from one network that triplets taught: a dot for each face trained on,\n"
        "a line to the mean of a person's directions, which reaches the circle where all agree",
        fontsize=11,
    )
    _save(figure, path)


def draw_angles(path: Path, labels: Sequence[str], results: Sequence[Result], people: str) -> None:
    """Draw how the angles to the own and to the nearest other centre are distributed, a panel for each loss."""
    figure, grid = _panels(labels, 2.2, 1.9)
    edges = BIN_DEG * np.arange(BINS + 1)
    for axes, label in zip(grid, labels, strict=True):
        axes.set(xlim=(0, 110), yticks=[], xticks=[0, 30, 60, 90])
        axes.set_title(label, fontsize=10)
        runs = [r.value for r in results if r.job.label == label and isinstance(r.value, Measurement)]
        if not runs:
            _failed(axes)
            continue
        own, other = (
            np.sum([run.own_deg for run in runs], axis=0),
            np.sum([run.other_deg for run in runs], axis=0),
        )
        for counts, name, colour in ((own, "own centre", "tab:green"), (other, "nearest other", "tab:red")):
            axes.stairs(counts / counts.sum(), edges, fill=True, alpha=0.45, color=colour, label=name)
        nearer = np.minimum(own / own.sum(), other / other.sum()).sum()
        axes.text(0.97, 0.93, f"overlap {nearer:.0%}", transform=axes.transAxes, ha="right", va="top", fontsize=8)
    handles, names = next((axes.get_legend_handles_labels() for axes in grid if axes.patches), ([], []))
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    figure.suptitle(
        f"angle in degrees of each face of {people} to the mean direction of that person's other faces,\n"
        "and to the nearest mean direction of another person; all seeds together",
        fontsize=11,
    )
    _save(figure, path)


def draw_target_logits(path: Path, curves: Sequence[Curve]) -> None:
    """Draw the target logit, before the scale, over the angle; equal curves as one."""
    figure = _figure(10, 6)
    axes = figure.subplots()
    axes.plot(ANGLES_DEG, np.cos(np.radians(ANGLES_DEG)), color="0.6", linewidth=4, alpha=0.5, label="cosine")
    for number, curve in enumerate(merged(curves)):
        axes.plot(ANGLES_DEG, curve.values, linestyle=("-", "--", ":", "-.")[number // 10 % 4], label=curve.label)
    axes.set(
        xlabel="angle between an embedding and its class, degrees",
        ylabel="target logit / scale",
        xticks=range(0, 181, 30),
        xlim=(0, 180),
        title="what stands for the cosine of a face's own class in training",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    _save(figure, path)


def _panels(labels: Sequence[str], width: float, height: float) -> "tuple[Figure, list[Axes]]":
    """Return a figure with a panel for each label."""
    columns = min(COLUMNS, len(labels))
    lines = -(-len(labels) // columns)
    figure = _figure(max(7.0, width * columns), 0.9 + height * lines)
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid[len(labels) :]:
        axes.set_axis_off()
    return figure, grid[: len(labels)]


def _failed(axes: "Axes") -> None:
    axes.text(0.5, 0.5, "failed", transform=axes.transAxes, ha="center", va="center", color="tab:red")


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure  # without pyplot: no window system, no global state
    except ImportError:
        raise MissingPackageError("matplotlib", "train") from None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getvalue())
