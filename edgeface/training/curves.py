"""Pictures of a run."""

import io
from pathlib import Path
from typing import Final

from edgeface.errors import MissingPackageError
from edgeface.files import write_bytes
from edgeface.training.journal import read_journal

PANELS: Final = (
    (("loss", "identity_loss", "teacher_loss"), "loss", "linear"),
    (("lr",), "learning rate", "linear"),
    (("val_accuracy", "val_tar"), "held-out pairs", "linear"),
    (("faces_per_s",), "faces per second", "linear"),
)
"""Keys of metrics.jsonl in one panel, its title and its scale."""


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw the curves of metrics.jsonl as a PNG file.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot: no window system, no global state
    except ImportError:
        raise MissingPackageError("matplotlib", "train") from None
    lines = read_journal(metrics)
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    for axes, (keys, title, scale) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for key in keys:
            points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
            if points:
                marker = "o" if len(points) < 40 else ""
                axes.plot(*zip(*points, strict=True), label=key.replace("_", " "), marker=marker, markersize=3)
        axes.set(title=title, xlabel="step", yscale=scale)
        axes.grid(alpha=0.3)
        if len(keys) > 1 and axes.lines:
            axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(picture, buffer.getvalue())
