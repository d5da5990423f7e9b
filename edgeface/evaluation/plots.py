"""Pictures of an evaluation: DET and ROC curves, score histograms, the cumulative match characteristic."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from edgeface.evaluation.identification import IdentificationReport
from edgeface.evaluation.verification import VerificationReport
from edgeface.files import write_bytes
from edgeface.scoring import WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from edgeface.evaluation.discard import DiscardCurve

Reports = Mapping[str, VerificationReport]
"""What models scored, by the name for the legend."""

DET_TICKS: Final = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.2, 0.4)
CURVE_POINTS: Final = 4000
"""A curve is thinned to so many points; a picture shows no more."""

LINES: Final = ("-", "--", ":")


def plot_reports(path: Path, reports: Reports, title: str) -> None:
    """Draw the ROC curves and the score histograms of named reports into one PNG, written atomically."""

    def draw(figure: "Figure") -> None:
        curves, histogram = figure.subplots(1, 2)
        _draw_roc(curves, reports)
        _draw_scores(histogram, reports)
        figure.suptitle(title)

    write_bytes(path, png(draw, (11, 4.5)))


def plot_discards(path: Path, curves: "Mapping[str, DiscardCurve]") -> None:
    """Draw error-versus-discard curves by name into a PNG, written atomically."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for line, (name, curve) in zip(_lines(len(curves)), curves.items(), strict=True):
            axes.plot(curve.refused, curve.missed, line, label=f"{name}: area {curve.area:.4f}")
        axes.set(xlabel="share of the pairs refused, worst quality first", ylabel="share of the others missed")
        axes.set_ylim(bottom=0)
        axes.legend()

    write_bytes(path, png(draw, (6.5, 4.5)))


def roc_picture(reports: Reports) -> bytes:
    """Draw the ROC curves, the false match rate on a logarithmic axis; returns a PNG."""
    return png(lambda figure: _draw_roc(figure.subplots(), reports), (6.5, 4.5))


def score_picture(reports: Reports, threshold: float) -> bytes:
    """Draw how the scores of both kinds of pairs are spread, and the threshold; returns a PNG."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        _draw_scores(axes, reports)
        axes.set(yscale="log")  # the mistakes are in the tails
        axes.axvline(threshold, color="black", linewidth=1, label=f"threshold {threshold:.3f}")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)

    return png(draw, (6.5, 5))


def det_picture(reports: Reports) -> bytes:
    """Draw the detection error tradeoff on normal-deviate axes (Martin et al., Eurospeech 1997); returns a PNG.

    Where scores of both kinds are normal the curve is a straight line. It ends where the pairs end: rates below one in
    the number of pairs cannot be measured.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        lowest = min(min(_resolution(report)) for report in reports.values())
        for line, (name, report) in zip(_lines(len(reports)), reports.items(), strict=True):
            impostor, genuine = _resolution(report)
            corners = _corners(report)
            fmr, fnmr = report.roc.fmr[corners], 1 - report.roc.tar[corners]
            shown = (fmr >= impostor) & (fmr <= 0.5) & (fnmr >= genuine) & (fnmr <= 0.5)
            label = f"{name}: EER {report.eer:.2%}"
            axes.plot(_deviates(fmr[shown]), _deviates(fnmr[shown]), line, label=label, drawstyle="steps-post")
        ticks = [tick for tick in DET_TICKS if tick >= lowest] or [0.1, 0.4]
        labels = [f"{100 * tick:g}%" for tick in ticks]
        ends = _deviates(np.array([min(lowest, ticks[0]), 0.5]))
        axes.plot(ends, ends, color="lightgrey", linewidth=0.8, zorder=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(_deviates(np.array(ticks)), labels=labels)
        axes.set(xlim=ends, ylim=ends, xlabel="false match rate", ylabel="false non-match rate")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right")

    return png(draw, (5.5, 5))


def cmc_picture(found: IdentificationReport) -> bytes:
    """Draw how often the mate is among the first 1, 2, ... of the gallery; returns a PNG."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.plot(np.arange(1, len(found.cmc) + 1), found.cmc, marker=".")
        low = max(0.0, float(found.cmc[0]) - max(0.02, 1 - float(found.cmc[0])))
        axes.set(xlabel="rank", ylabel="mated probes found", ylim=(low, 1.002), xlim=(0, len(found.cmc) + 1))
        axes.grid(alpha=0.3)

    return png(draw, (6.5, 4))


def _draw_roc(axes: "Axes", reports: Reports) -> None:
    lowest = 1 / max(int((~report.same).sum()) for report in reports.values())
    least = min(float(report.roc.at_fmr(lowest)[0]) for report in reports.values())
    for line, (name, report) in zip(_lines(len(reports)), reports.items(), strict=True):
        label = f"{name}: {report.accuracy:.1%}, EER {report.eer:.1%}"
        corners = _corners(report)
        fmr = np.maximum(report.roc.fmr[corners], lowest / 2)
        axes.step(fmr, report.roc.tar[corners], line, where="post", label=label)
    span = 1.0 if least < 0.8 else 2 * (1 - least) + 1e-3  # the curve of a good model fills the axes too
    ylim = (1 - span, 1 + span / 100)
    axes.set(xscale="log", xlim=(lowest / 2, 1), ylim=ylim, xlabel="false match rate", ylabel="true accept rate")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _draw_scores(axes: "Axes", reports: Reports) -> None:
    bins = np.linspace(-1, 1, 101).tolist()
    for line, (name, report) in zip(_lines(len(reports)), reports.items(), strict=True):
        for kind, color, words in ((report.same, "tab:green", "same person"), (~report.same, "tab:red", "two people")):
            axes.hist(
                report.scores[kind],
                bins=bins,
                density=True,
                histtype="step",
                linestyle=line,
                color=color,
                label=f"{name}: {words}",
            )
    scores = np.concatenate([report.scores for report in reports.values()])
    margin = 0.05
    axes.set(xlim=(max(-1.0, scores.min() - margin), min(1.0, scores.max() + margin)))
    kinds = list(dict.fromkeys(WORDS[report.scoring] for report in reports.values()))
    axes.set(xlabel=" or ".join(kinds), ylabel="density")
    axes.legend(loc="best")


def _lines(count: int) -> list[str]:
    return [LINES[number % len(LINES)] for number in range(count)]


def _resolution(report: VerificationReport) -> tuple[float, float]:
    """Return the smallest FMR and FNMR above 0 that the pairs can show."""
    return 1 / int((~report.same).sum()), 1 / int(report.same.sum())


def _corners(report: VerificationReport) -> npt.NDArray[np.int64]:
    """Return the points of the ROC with the highest TAR for each FMR, all at its strict end and ever fewer later."""
    last = np.append(np.flatnonzero(np.diff(report.roc.fmr)), len(report.roc.fmr) - 1)
    steps = np.geomspace(1, len(last), min(CURVE_POINTS, len(last))).astype(np.int64) - 1
    corners: npt.NDArray[np.int64] = last[np.unique(np.append(steps, len(last) - 1))]
    return corners


def _deviates(rates: npt.NDArray[np.float64]) -> list[float]:
    """Map rates in (0, 1) to standard deviations of the normal distribution."""
    return [NormalDist().inv_cdf(float(rate)) for rate in rates]


def png(draw: "Callable[[Figure], None]", size_wh: tuple[float, float]) -> bytes:
    """Draw a figure of so many inches, 110 pixels each."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=size_wh, layout="constrained")
    draw(figure)
    data = BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return data.getvalue()
