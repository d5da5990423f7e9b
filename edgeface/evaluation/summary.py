"""What was measured in words and rows of text, for the terminal and the report."""

import math
from typing import Final

from edgeface.data.faceset import left_out
from edgeface.evaluation.assessment import Assessment
from edgeface.evaluation.comparison import ComparisonReport, Difference
from edgeface.evaluation.groups import EVERYBODY, GroupRates
from edgeface.evaluation.identification import IdentificationReport
from edgeface.evaluation.verification import rate_name
from edgeface.intervals import Interval, Rate, pairs_needed
from edgeface.scoring import WORDS

HEADER: Final[tuple[str, ...]] = ("measure", "value", "95 % interval")
GROUP_HEADER: Final[tuple[str, ...]] = ("group", "items", "FMR", "impostor pairs", "FNMR", "genuine pairs")
COMPARISON_HEADER: Final[tuple[str, ...]] = ("measure", "model", "other", "difference", "95 % interval", "significant")

Rows = list[list[str]]


def verification_rows(assessment: Assessment) -> Rows:
    """Return accuracy, EER, AUC, d', the TAR at each supported rate and the threshold."""
    report, found, point = assessment.report, assessment.intervals, assessment.point
    low, high = point.interval
    return [
        ["pairs", f"{report.pairs} ({assessment.plan.protocol})", ""],
        ["accuracy", f"{report.accuracy:.2%} ± {report.accuracy_se:.2%}", _share(found.get("accuracy"))],
        ["equal error rate", _percent(report.eer), _share(found.get("eer"))],
        ["area under ROC", f"{report.auc:.4f}", _number(found.get("auc"), 4)],
        ["d'", f"{report.d_prime:.2f}", _number(found.get("d_prime"), 2)],
        *([f"TAR at FAR {rate}", f"{tar:.2%}", _share(found.get(rate))] for rate, tar in report.tar.items()),
        [
            f"threshold ({WORDS[report.scoring]}) for FMR {point.fmr:.3g}",
            f"{point.threshold:.4f}",
            f"{low:.4f} to {high:.4f}",
        ],
        ["FMR at the threshold", _percent(assessment.fmr.value), _share(assessment.fmr.interval)],
        ["FNMR at the threshold", _percent(assessment.fnmr.value), _share(assessment.fnmr.interval)],
        ["ran as", f"{assessment.precision} on {assessment.provider}", ""],
    ]


def verification_notes(assessment: Assessment) -> list[str]:
    """Say how sure the numbers are, and which were left out."""
    report, point, resampling = assessment.report, assessment.point, assessment.plan.resampling
    notes = []
    if broken := assessment.plan.broken:
        notes.append(
            f"Left out: {assessment.plan.lost_pairs} pairs, for {len(broken)} pictures cannot be used: "
            f"{left_out(broken)}."
        )
    if skipped := assessment.plan.items.faces.skipped:
        notes.append(f"Not among the faces: {len(skipped)}, of which nothing was used: {left_out(skipped)}.")
    if resampling is None:
        notes.append("± is the standard error of the mean over the folds. Intervals by bootstrap were not asked for.")
    else:
        reason = (
            "people are drawn, because pairs of one person rise and fall together"
            if resampling.unit == "identities"
            else "pairs are drawn, because it is not known who is on them; pairs that share people make the true "
            "uncertainty larger"
        )
        notes.append(
            f"± is the standard error of the mean over the folds. Intervals are from {resampling.replicates} bootstrap "
            f"draws (seed {resampling.seed}); {reason}."
        )
    if report.unsupported:
        needs = ", ".join(f"{rate} ({pairs:,})" for rate, pairs in report.unsupported.items())
        notes.append(
            f"Left out, because {point.pairs:,} impostor pairs cannot show so small a rate: TAR at FAR {needs}; in "
            "brackets the impostor pairs that each needs at least (rule of three)."
        )
    if not point.supported:
        notes.append(
            f"The threshold is for FMR {point.fmr:.3g}: the pairs are too few for {point.asked_fmr:g}, which needs "
            f"{pairs_needed(point.asked_fmr):,} impostor pairs."
        )
    return notes


def identification_rows(found: IdentificationReport) -> Rows:
    """Return the shares found at some ranks, and FNIR at each supported FPIR."""
    rows = [
        ["gallery", f"{found.gallery:,} people", ""],
        ["probes", f"{found.mated:,} mated, {found.non_mated:,} non-mated", ""],
        *([f"rank {rank}", f"{rate.value:.2%}", _share(rate.interval)] for rank, rate in found.ranks.items()),
    ]
    for point in found.open_set:
        value = f"{point.fnir.value:.2%} (threshold {point.threshold:.3f})"
        rows.append([f"FNIR at FPIR {rate_name(point.fpir)}", value, _share(point.fnir.interval)])
    return rows


def identification_notes(found: IdentificationReport) -> list[str]:
    """Say which operating points were left out."""
    if not found.unsupported:
        return []
    needs = ", ".join(f"{rate} ({probes:,})" for rate, probes in found.unsupported.items())
    return [
        f"Left out, because {found.non_mated:,} non-mated probes cannot show so small a rate: FNIR at FPIR {needs}; in "
        "brackets the non-mated probes that each needs at least."
    ]


def group_rows(groups: tuple[GroupRates, ...]) -> Rows:
    """Return the rates of everybody and of each group."""
    return [
        [
            _group(group),
            f"{group.items:,}",
            _rate(group.fmr),
            f"{group.impostor_pairs:,}",
            _rate(group.fnmr),
            f"{group.genuine_pairs:,}",
        ]
        for group in groups
    ]


def group_notes(assessment: Assessment) -> list[str]:
    """Say what was compared with what."""
    point, labels = assessment.point, assessment.plan.labels
    notes = [
        f"One threshold for all: {point.threshold:.4f}, chosen for FMR {point.fmr:.3g} on the pairs of the protocol. "
        "Both items of a comparison belong to the group; in brackets 95 % intervals."
    ]
    notes += [f"{_group(group)}: {group.why}." for group in assessment.groups if group.why]
    if labels and labels.left_out:
        notes.append(f"Too many values to be groups: {', '.join(labels.left_out)}.")
    return notes


def comparison_rows(assessment: Assessment, comparison: ComparisonReport) -> Rows:
    """Return both models' measures, their differences and whether those are significant."""
    model, other = assessment.report, comparison.report
    values: dict[str, tuple[float, float]] = {
        "accuracy": (model.accuracy, other.accuracy),
        "eer": (model.eer, other.eer),
        "auc": (model.auc, other.auc),
        "d_prime": (model.d_prime, other.d_prime),
        **{f"tar at {rate}": (tar, other.tar[rate]) for rate, tar in model.tar.items()},
    }
    rows = []
    for found in comparison.differences:
        both = [_measure(found.measure, value) for value in values[found.measure]]
        low_high = "" if found.interval is None else _signed(found, *found.interval)
        verdict = {None: "", True: "yes", False: "no"}[found.significant]
        name = {"eer": "EER", "auc": "AUC", "d_prime": "d'"}.get(found.measure, found.measure.replace("tar", "TAR"))
        rows.append([name, *both, _signed(found, found.value), low_high, verdict])
    return rows


def comparison_notes(assessment: Assessment, comparison: ComparisonReport) -> list[str]:
    """Count the flipped decisions, and say how close the embeddings are."""
    flips = comparison.flips
    broken = [flip for flip in flips if not flip.mended]
    notes = [
        f"Other: {comparison.name}, {comparison.precision} on {comparison.provider}. Differences are the model minus "
        "the other, with the same draws for both; significant means that 0 is outside of the interval.",
        f"{len(flips)} of {assessment.report.pairs:,} decisions differ, each model at its own threshold "
        f"({assessment.point.threshold:.4f} and {comparison.point.threshold:.4f}, for FMR {assessment.point.fmr:.3g}): "
        f"the model is wrong where the other is right in {len(broken)} "
        f"(false non-matches: {sum(flip.same for flip in broken)}, false matches: "
        f"{sum(not flip.same for flip in broken)}), and right where it is wrong in {len(flips) - len(broken)}.",
    ]
    if comparison.agreement:
        close = comparison.agreement
        notes.append(
            f"Both embeddings of the same item have cosine {close.mean:.4f} on average and {close.minimum:.4f} at "
            f"worst ({close.worst})."
        )
    return notes


def _group(group: GroupRates) -> str:
    return group.column if group.column == EVERYBODY else f"{group.column}: {group.value}"


def _measure(name: str, value: float) -> str:
    return {"auc": f"{value:.4f}", "d_prime": f"{value:.2f}"}.get(name, f"{value:.2%}")


def _signed(found: Difference, *values: float) -> str:
    style = {"auc": "{:+.5f}", "d_prime": "{:+.3f}"}.get(found.measure, "{:+.2%}")
    return " to ".join(style.format(value) for value in values)


def _rate(rate: Rate | None) -> str:
    return "too few pairs" if rate is None else f"{_percent(rate.value)} ({_share(rate.interval)})"


def _percent(value: float) -> str:
    """Write a share with two decimals, of small ones with two digits that are not 0."""
    decimals = 2 if value == 0 else max(2, 1 - math.floor(math.log10(100 * value)))
    return f"{100 * value:.{decimals}f}%"


def percent_interval(interval: Interval) -> str:
    """Write an interval of shares."""
    return f"{_percent(interval[0])} to {_percent(interval[1])}"


def _share(interval: Interval | None) -> str:
    return "" if interval is None else percent_interval(interval)


def _number(interval: Interval | None, digits: int) -> str:
    return "" if interval is None else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"
