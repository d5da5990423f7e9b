"""Pictures of a run."""

import io
from pathlib import Path
from typing import Final

from edgeface.errors import MissingPackageError
from edgeface.files import write_bytes
from edgeface.training.journal import read_journal

PANELS: Final = (
    ("loss", {"loss": "total", "identity_loss": "identities", "teacher_loss": "teacher"}),
    ("learning rate", {"lr": "learning rate"}),
    ("people never trained on", {"val_accuracy": "accuracy", "val_tar": "TAR at FMR 1 %"}),
    ("faces per second", {"faces_per_s": "speed"}),
)
"""Title of each panel, and its keys of metrics.jsonl with what to call them."""


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
    for axes, (title, keys) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for key, label in keys.items():
            points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
            if points:
                marker = "o" if len(points) < 40 else ""
                axes.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if len(axes.lines) > 1:
            axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(picture, buffer.getvalue())
