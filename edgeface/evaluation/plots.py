"""Pictures of a verification report."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from edgeface.evaluation.verification import VerificationReport
from edgeface.files import write_bytes


def plot_reports(path: Path, reports: Mapping[str, VerificationReport], title: str) -> None:
    """Draw the ROC curves and the score histograms of named reports into one PNG, written atomically."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    curves, histogram = figure.subplots(1, 2)
    lowest = 1 / max(int((~report.same).sum()) for report in reports.values())
    for name, report in reports.items():
        label = f"{name}: {report.accuracy:.1%}, EER {report.eer:.1%}"
        curves.step(np.maximum(report.roc.fmr, lowest / 2), report.roc.tar, where="post", label=label)
    curves.set(xscale="log", xlim=(lowest / 2, 1), ylim=(0, 1.01), xlabel="false match rate", ylabel="true accept rate")
    curves.grid(alpha=0.3)
    curves.legend(loc="lower right")
    bins = np.linspace(-1, 1, 101)
    for number, (name, report) in enumerate(reports.items()):
        style = {"bins": bins, "density": True, "histtype": "step", "linestyle": ["-", "--", ":"][number % 3]}
        histogram.hist(report.scores[report.same], color="tab:green", label=f"{name}: same person", **style)
        histogram.hist(report.scores[~report.same], color="tab:red", label=f"{name}: two people", **style)
    histogram.set(xlabel="cosine", ylabel="density")
    histogram.legend(loc="upper right")
    figure.suptitle(title)
    data = BytesIO()
    figure.savefig(data, format="png", dpi=110)
    write_bytes(path, data.getvalue())
