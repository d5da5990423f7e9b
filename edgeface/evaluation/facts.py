"""What was measured as plain values, for `--json` and `results.json`."""

from collections.abc import Sequence
from typing import Any

from edgeface.evaluation.assessment import Assessment
from edgeface.evaluation.comparison import ComparisonReport
from edgeface.evaluation.groups import GroupRates
from edgeface.evaluation.identification import IdentificationReport
from edgeface.evaluation.verification import rate_name
from edgeface.schema_files import SCHEMA_VERSION


def to_json(assessment: Assessment) -> dict[str, Any]:
    """Return everything that was measured, as plain values."""
    report, point, plan = assessment.report, assessment.point, assessment.plan
    facts: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "protocol": plan.protocol,
        "pairs": report.pairs,
        "accuracy": report.accuracy,
        "accuracy_se": report.accuracy_se,
        "eer": report.eer,
        "auc": report.auc,
        "tar": report.tar,
        "scoring": report.scoring,
        "precision": assessment.precision,
        "provider": assessment.provider,
        "model": assessment.model,
        "genuine_pairs": int(report.same.sum()),
        "impostor_pairs": point.pairs,
        "d_prime": report.d_prime,
        "unsupported": report.unsupported,
        "threshold": {
            "asked_fmr": point.asked_fmr,
            "fmr": point.fmr,
            "cosine": point.threshold,
            "interval": list(point.interval),
            "measured_fmr": assessment.fmr.to_json(),
            "measured_fnmr": assessment.fnmr.to_json(),
        },
    }
    if out := (*plan.broken, *plan.items.faces.skipped):
        facts["left_out"] = {
            "pairs": plan.lost_pairs,
            "pictures": [{"picture": one.key, "why": one.reason, "kind": one.kind} for one in out],
        }
    if plan.resampling:
        facts["intervals"] = {name: list(interval) for name, interval in assessment.intervals.items()}
        facts["bootstrap"] = {"replicates": plan.replicates, "drawn": plan.resampling.unit, "seed": plan.seed}
    if assessment.identification:
        facts["identification"] = _identification_json(assessment.identification, plan.items.names)
    if plan.labels:
        facts["groups"] = [_group_json(group) for group in assessment.groups]
        facts["columns_left_out"] = list(plan.labels.left_out)
    if assessment.comparison:
        facts["comparison"] = _comparison_json(assessment.comparison)
    return facts


def _identification_json(found: IdentificationReport, names: Sequence[str]) -> dict[str, Any]:
    return {
        "gallery": found.gallery,
        "mated": found.mated,
        "non_mated": found.non_mated,
        "rank": {str(rank): rate.to_json() for rank, rate in found.ranks.items()},
        "cmc": found.cmc.tolist(),
        "fnir": {rate_name(p.fpir): p.fnir.to_json() | {"cosine": p.threshold} for p in found.open_set},
        "unsupported": found.unsupported,
        "nearest": [{"probe": names[n.probe], "enrolled": names[n.enrolled], "score": n.score} for n in found.nearest],
    }


def _group_json(group: GroupRates) -> dict[str, Any]:
    return {
        "column": group.column,
        "value": group.value,
        "items": group.items,
        "impostor_pairs": group.impostor_pairs,
        "genuine_pairs": group.genuine_pairs,
        "fmr": group.fmr.to_json() if group.fmr else None,
        "fnmr": group.fnmr.to_json() if group.fnmr else None,
        "why": group.why or None,
    }


def _comparison_json(comparison: ComparisonReport) -> dict[str, Any]:
    flips, close = comparison.flips, comparison.agreement
    return {
        "model": comparison.name,
        "precision": comparison.precision,
        "provider": comparison.provider,
        "accuracy": comparison.report.accuracy,
        "tar": comparison.report.tar,
        "scoring": comparison.report.scoring,
        "cosine": comparison.point.threshold,
        "differences": {
            d.measure: {"value": d.value, "interval": d.interval and list(d.interval), "significant": d.significant}
            for d in comparison.differences
        },
        "flipped": {
            "mended": sum(flip.mended for flip in flips),
            "broken": sum(not flip.mended for flip in flips),
            "pairs": [
                {
                    "first": flip.first,
                    "second": flip.second,
                    "same": flip.same,
                    "score": flip.score,
                    "against_score": flip.against_score,
                    "accepted": flip.accepted,
                }
                for flip in flips
            ],
        },
        "agreement": {"min_cosine": close.minimum, "mean_cosine": close.mean, "worst": close.worst} if close else None,
    }
