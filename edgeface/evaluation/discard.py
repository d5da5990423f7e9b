"""How good a quality score is: what errors are left when the faces that it likes least are refused."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.fitness import FAULTS, TURNS

Floats = npt.NDArray[np.floating]

REFUSED: Final = 0.2
"""Share of faces that is refused where one number has to stand for the curve."""
STEPS: Final = 101


@dataclass(frozen=True, slots=True, eq=False)
class DiscardCurve:
    """The error-versus-discard characteristic (Grother and Tabassi, IEEE TPAMI 29(4), 2007, section 4).

    Attributes:
        refused: (K,) share of the pairs that is refused, those of least quality first, from 0.
        missed: (K,) share of the others that lies below the threshold, in [0, 1]; 0 where none is left.
    """

    refused: npt.NDArray[np.float64]
    missed: npt.NDArray[np.float64]

    @property
    def area(self) -> float:
        """The area under the curve, by the trapezoid rule; smaller is better."""
        return float(np.sum(np.diff(self.refused) * (self.missed[1:] + self.missed[:-1]) / 2))

    def at(self, share: float) -> float:
        """Return what is missed when this share is refused."""
        return float(np.interp(share, self.refused, self.missed))


def discard_curve(quality: Floats, missed: npt.NDArray[np.bool_], largest: float = 0.95) -> DiscardCurve:
    """Refuse pairs in the order of their quality.

    Args:
        quality: (P,) of a genuine pair: that of the worse of its two faces.
        missed: (P,) whether its score lies below the threshold.
        largest: the share up to which pairs are refused.

    Pairs of equal quality are refused together, each counted in part.
    """
    order = np.argsort(quality, kind="stable")
    # Where qualities are equal, each of them stands for the mean of all of them.
    _, where, counts = np.unique(quality[order], return_inverse=True, return_counts=True)
    means = np.bincount(where, missed[order].astype(np.float64)) / counts
    left = np.concatenate([[0.0], np.cumsum(means[where])])
    share = np.linspace(0, largest, STEPS)
    places = share * len(quality)
    refused_misses = np.interp(places, np.arange(len(quality) + 1), left)
    kept = np.maximum(len(quality) - places, 1e-9)
    return DiscardCurve(share, np.clip((left[-1] - refused_misses) / kept, 0, 1))


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What a quality network says of views of faces that it did not learn from.

    Attributes:
        views: how many.
        fitness_error: mean distance of its fitness to the true one.
        fitness_correlation: rank correlation of both (Spearman), in [-1, 1].
        turns: share of the views whose turn is told rightly.
        faults: for each fault, the chance that a view that has it is told to have it rather than one that has not
            (area under the ROC curve); None where no view has it.
    """

    views: int
    fitness_error: float
    fitness_correlation: float
    turns: float
    faults: dict[str, float | None]


class Judged(Protocol):
    """The truth about views; `edgeface.training.quality.views.Views` is one."""

    @property
    def fitness(self) -> npt.NDArray[np.float32]:
        """(N,) in [0, 1]."""

    @property
    def turns(self) -> npt.NDArray[np.int64]:
        """(N,) quarters of a circle."""

    @property
    def faults(self) -> npt.NDArray[np.float32]:
        """(N, 5): 1 is there, 0 is not, less is unsaid."""


def judge_views(said: Floats, truth: Judged) -> QualityReport:
    """Compare what a network said, (N, 10) in the order of `edgeface.fitness.OUTPUTS`, with the truth."""
    fitness, turns, faults = said[:, 0], said[:, 1 : 1 + len(TURNS)], said[:, -len(FAULTS) :]
    areas: dict[str, float | None] = {}
    for place, name in enumerate(FAULTS):
        has, lacks = truth.faults[:, place] == 1, truth.faults[:, place] == 0
        areas[name] = _area(faults[has, place], faults[lacks, place]) if has.any() and lacks.any() else None
    return QualityReport(
        views=len(said),
        fitness_error=float(np.abs(fitness - truth.fitness).mean()),
        fitness_correlation=_rank_correlation(fitness, truth.fitness),
        turns=float((turns.argmax(axis=1) == truth.turns).mean()),
        faults=areas,
    )


def _rank_correlation(one: Floats, other: Floats) -> float:
    first, second = (ranks - ranks.mean() for ranks in (_ranks(one), _ranks(other)))
    length = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / length if length else 0.0


def _ranks(values: Floats) -> npt.NDArray[np.float64]:
    """Return the rank of each value, equal ones with the mean of theirs."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: npt.NDArray[np.float64] = last - (counts + 1) / 2
    return means[where]


def _area(having: Floats, lacking: Floats) -> float:
    ranks = _ranks(np.concatenate([having, lacking]))
    wins = ranks[: len(having)].sum() - len(having) * (len(having) - 1) / 2
    return float(wins / (len(having) * len(lacking)))
