"""Two models, or two precisions of one, on the same pairs: is there a difference, and which decisions flip?"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np
import numpy.typing as npt

from edgeface.evaluation.bootstrap import Resampling, intervals
from edgeface.evaluation.verification import VerificationReport, rate_name
from edgeface.evaluation.weighted import MEASURES, WeightedPairs
from edgeface.intervals import Interval, judges_difference
from edgeface.metrics import OperatingPoint, cosine_scores


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more a measure is for the model than for the other one.

    Attributes:
        measure: `accuracy`, `eer`, `auc`, `d_prime`, or `tar at 1e-3` and the like.
        value: the model's minus the other's.
        interval: 95 %, by paired draws; None if none was asked.
    """

    measure: str
    value: float
    interval: Interval | None

    @property
    def significant(self) -> bool | None:
        """Whether 0 lies outside of the interval; None without one."""
        return None if self.interval is None else judges_difference(self.interval)


@dataclass(frozen=True, slots=True)
class Flip:
    """A pair that the two decide differently, each at its own threshold.

    Attributes:
        first: name of one side; `second` that of the other.
        same: whether both are one person.
        score: the model's; `against_score` is the other's.
        accepted: the model's decision; the other's is the opposite.
    """

    first: str
    second: str
    same: bool
    score: float
    against_score: float
    accepted: bool

    @property
    def mended(self) -> bool:
        """Whether the model is right and the other wrong."""
        return self.accepted == self.same


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cosines between the two embeddings of the same item, in one embedding space.

    Attributes:
        minimum: the smallest, in [-1, 1].
        mean: over all items.
        worst: name of the item with the smallest.
    """

    minimum: float
    mean: float
    worst: str


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """The model against another one.

    Attributes:
        name: of the other model, with its `precision` and `provider`.
        report: what the other scored.
        point: the other's own threshold for the same false match rate.
        differences: of accuracy, EER, AUC, d' and the TAR at each supported rate.
        flips: the pairs decided differently, those that the model has wrong first.
        agreement: None where the two do not share a space.
    """

    name: str
    precision: str
    provider: str
    report: VerificationReport
    point: OperatingPoint
    differences: tuple[Difference, ...]
    flips: tuple[Flip, ...]
    agreement: Agreement | None


def find_differences(
    model: VerificationReport, against: VerificationReport, rates: Sequence[float], resampling: Resampling | None
) -> tuple[Difference, ...]:
    """Return the differences of all measures; each draw of people or pairs is the same for both models.

    Their intervals are on the wide side where people occur in few pairs; see `edgeface.evaluation.bootstrap`.
    """
    both = [WeightedPairs(r.scores, r.same, r.correct, rates) for r in (model, against)]
    values = np.diff([pairs.measure(np.ones((1, len(model.same))))[0] for pairs in reversed(both)], axis=0)[0]
    found = None
    if resampling:
        found = intervals(lambda w: both[0].measure(w) - both[1].measure(w), resampling, corrected=False)
    names = [*MEASURES, *(f"tar at {rate_name(rate)}" for rate in rates)]
    return tuple(
        Difference(name, float(values[place]), found[place] if found else None) for place, name in enumerate(names)
    )


def find_flips(
    names: Sequence[tuple[str, str]],
    model: VerificationReport,
    threshold: float,
    against: VerificationReport,
    against_threshold: float,
) -> tuple[Flip, ...]:
    """Return the pairs whose decision differs; the model's mistakes first, within them the largest change first."""
    accepted, other = model.scores >= threshold, against.scores >= against_threshold
    flips = [
        Flip(
            first=names[pair][0],
            second=names[pair][1],
            same=bool(model.same[pair]),
            score=float(model.scores[pair]),
            against_score=float(against.scores[pair]),
            accepted=bool(accepted[pair]),
        )
        for pair in np.flatnonzero(accepted != other).tolist()
    ]
    return tuple(sorted(flips, key=lambda flip: (flip.mended, -abs(flip.score - flip.against_score))))


def agreement(model: npt.NDArray[np.float32], against: npt.NDArray[np.float32], names: Sequence[str]) -> Agreement:
    """Compare the embeddings (N, D) of the same N items, which lie in one space."""
    cosines = cosine_scores(model, against)
    worst = int(np.argmin(cosines))
    return Agreement(float(cosines[worst]), float(cosines.mean()), names[worst])


def flips_csv(flips: Sequence[Flip]) -> str:
    """Write flips as CSV with a header."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("first", "second", "same", "score", "against_score", "accepted", "against_accepted"))
    for flip in flips:
        row = (int(flip.same), f"{flip.score:.6f}", f"{flip.against_score:.6f}", int(flip.accepted))
        table.writerow((flip.first, flip.second, *row, int(not flip.accepted)))
    return text.getvalue()
