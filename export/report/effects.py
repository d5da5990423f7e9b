"""What thresholds do to the faces that were scored: errors, decisions that differ between precisions, the trade-off."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.export.thresholds import PairScores, Scored
from edgeface.intervals import wilson
from edgeface.manifest import Threshold
from edgeface.metrics import RULE_OF_THREE, Roc, roc

CURVE_POINTS: Final = 120
LAXEST_FMR: Final = 0.5
"""Where curves end: nobody lets in every second stranger."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a threshold does to the faces that were measured.

    Attributes:
        threshold: which.
        fmr: share of impostor pairs that reach it, in [0, 1], with its 95 % interval.
        fmr_interval: (low, high).
        fnmr: share of genuine pairs that do not.
        fnmr_interval: (low, high).
    """

    threshold: Threshold
    fmr: float
    fmr_interval: tuple[float, float]
    fnmr: float
    fnmr_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Flips:
    """Decisions of one precision that differ from those of another, each at its own threshold.

    Attributes:
        fmr: the false match rate of both thresholds.
        pairs: decisions in all.
        genuine_lost: pairs of one person that only the other accepts.
        genuine_won: pairs of one person that only this one accepts.
        impostors_let_in: pairs of two people that only this one accepts.
        impostors_kept_out: pairs of two people that only the other accepts.
    """

    fmr: float
    pairs: int
    genuine_lost: int
    genuine_won: int
    impostors_let_in: int
    impostors_kept_out: int

    @property
    def worse(self) -> int:
        """Decisions in which this one is wrong and the other right."""
        return self.genuine_lost + self.impostors_let_in

    @property
    def better(self) -> int:
        """Decisions in which this one is right and the other wrong."""
        return self.genuine_won + self.impostors_kept_out


@dataclass(frozen=True, slots=True, eq=False)
class TradeOff:
    """False non-matches against false matches as the threshold moves.

    Attributes:
        curve: the whole ROC.
        fmr: (K,) float64, rising; from the lowest rate that the pairs support to `LAXEST_FMR`, or empty.
        fnmr: (K,) float64, falling: the share of genuine pairs that are refused there.
    """

    curve: Roc
    fmr: npt.NDArray[np.float64]
    fnmr: npt.NDArray[np.float64]


def measure_effects(thresholds: Sequence[Threshold], scored: Scored) -> tuple[Effect, ...]:
    """Measure thresholds on scores; those of precisions that were not scored are left out.

    Intervals go by the pairs that count as independent; of genuine ones those without a face in common.
    """
    effects = []
    for threshold in thresholds:
        own = scored.scores.get((threshold.gallery, threshold.precision))
        if own is None:
            continue
        fmr = float(np.mean(_accepted(own.impostor, threshold)))
        fnmr = float(np.mean(~_accepted(own.genuine, threshold)))
        effects.append(
            Effect(threshold, fmr, wilson(fmr, scored.data.independent), fnmr, wilson(fnmr, scored.disjoint))
        )
    return tuple(effects)


def count_flips(thresholds: Sequence[Threshold], scored: Scored, precision: str, other: str) -> tuple[Flips, ...]:
    """Count the decisions of `precision` that differ from those of `other`, for each rate that both have one for.

    Thresholds that were asked for different rates but support the same one count once.
    """
    found = {(t.precision, t.fmr): t for t in thresholds if t.gallery == t.precision}
    counted = []
    for (name, rate), threshold in found.items():
        against = found.get((other, rate))
        if name != precision or against is None:
            continue
        own, its = scored.scores[precision, precision], scored.scores[other, other]
        genuine, its_genuine = _accepted(own.genuine, threshold), _accepted(its.genuine, against)
        impostor, its_impostor = _accepted(own.impostor, threshold), _accepted(its.impostor, against)
        counted.append(
            Flips(
                fmr=rate,
                pairs=len(genuine) + len(impostor),
                genuine_lost=int((its_genuine & ~genuine).sum()),
                genuine_won=int((genuine & ~its_genuine).sum()),
                impostors_let_in=int((impostor & ~its_impostor).sum()),
                impostors_kept_out=int((its_impostor & ~impostor).sum()),
            )
        )
    return tuple(counted)


def trade_off(scores: PairScores, independent: int) -> TradeOff:
    """Return the ROC of scores, and the curve as far as so many independent impostor pairs support it."""
    same = np.repeat([True, False], [len(scores.genuine), len(scores.impostor)])
    curve = roc(np.concatenate([scores.genuine, scores.impostor]), same)
    lowest = RULE_OF_THREE / independent
    rates = np.geomspace(lowest, LAXEST_FMR, CURVE_POINTS) if lowest < LAXEST_FMR else np.empty(0)
    return TradeOff(curve, rates, np.array([1 - curve.at_fmr(float(rate))[0] for rate in rates]))


def _accepted(scores: npt.NDArray[np.float32], threshold: Threshold) -> npt.NDArray[np.bool_]:
    accepted: npt.NDArray[np.bool_] = scores.astype(np.float64) >= threshold.cosine
    return accepted
