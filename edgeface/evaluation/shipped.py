"""What the thresholds that a bundle ships accept on the pairs of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.evaluation.bootstrap import Resampling, intervals
from edgeface.evaluation.weighted import Weights
from edgeface.intervals import Interval
from edgeface.manifest import Threshold
from edgeface.metrics import Flags, Scores


@dataclass(frozen=True, slots=True)
class ShippedRates:
    """One threshold of a bundle, and what it does here.

    Attributes:
        promised: the false match rate that it was chosen for.
        threshold: accept at this score or above.
        tar: share of the genuine pairs that it accepts.
        fmr: share of the impostor pairs that it accepts.
        tar_interval: 95 %; None without bootstrap.
        fmr_interval: likewise.
    """

    promised: float
    threshold: float
    tar: float
    fmr: float
    tar_interval: Interval | None
    fmr_interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "promised_fmr": self.promised,
            "threshold": self.threshold,
            "tar": self.tar,
            "fmr": self.fmr,
            "tar_interval": None if self.tar_interval is None else list(self.tar_interval),
            "fmr_interval": None if self.fmr_interval is None else list(self.fmr_interval),
        }


def shipped_rates(
    thresholds: Sequence[Threshold], precision: str, scores: Scores, same: Flags, resampling: Resampling | None
) -> tuple[ShippedRates, ...]:
    """Apply the thresholds for templates and faces of one precision.

    Args:
        thresholds: of the bundle.
        precision: that was measured.
        scores: (P,) of the pairs, as the bundle makes them.
        same: (P,) whether each pair is genuine.
        resampling: for intervals; None for none.
    """
    found = []
    for threshold in sorted(thresholds, key=lambda one: -one.fmr):
        if (threshold.gallery, threshold.precision) != (precision, precision):
            continue
        accepted = np.asarray(scores) >= threshold.cosine
        around: list[Interval] | list[None] = [None, None]
        if resampling is not None:

            def measure(weights: Weights, accepted: Flags = accepted) -> npt.NDArray[np.float64]:
                rates = [(weights @ (accepted & kind)) / (weights @ kind) for kind in (same, ~same)]
                return np.stack(rates, axis=1)

            around = intervals(measure, resampling)
        tar, fmr = (float(accepted[kind].mean()) for kind in (same, ~same))
        found.append(ShippedRates(threshold.fmr, threshold.cosine, tar, fmr, around[0], around[1]))
    return tuple(found)
