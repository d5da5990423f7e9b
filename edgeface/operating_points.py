"""Thresholds for stated error rates, read off a short table of scores that can travel with a bundle.

A table keeps the highest impostor scores one by one, because a strict threshold lies among them, and thins out the
rest, so that a device can move along the curve without the data. Where a rank is not kept, the answer errs on the
strict side.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from edgeface.errors import DataError
from edgeface.metrics import RULE_OF_THREE, OperatingPoint, binomial_quantile

EXACT_RANKS: Final = 512
"""So many of the highest scores are kept one by one ..."""
RANK_STEP: Final = 1.05
"""... and after them every rank that is larger than the one before by this factor."""
GENUINE_RANKS: Final = 256
"""Genuine scores are kept at so many evenly spaced ranks: a true match rate is known to half a percent."""
DECADES: Final = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Thresholds for these rates, and the ends of their intervals, are exact in every table."""
MIN_COMPARISONS: Final = 4
"""Fewer support no false match rate at all: the rule of three would bound it at 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Some of many scores, by rank: the highest has rank 0.

    Attributes:
        count: how many scores there were.
        ranks: (K,) int64, rising, from 0 to `count` - 1.
        scores: (K,) float32, falling: the score of each of these ranks.
    """

    count: int
    ranks: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    @classmethod
    def of(cls, scores: npt.NDArray[np.floating], ranks: npt.NDArray[np.integer]) -> Self:
        """Keep some `ranks` of all `scores` (N,), and the first and last one."""
        falling = np.sort(np.asarray(scores, np.float32))[::-1]
        last = len(falling) - 1
        kept = np.unique(np.clip(np.concatenate([[0], ranks, [last]]).astype(np.int64), 0, last))
        return cls(len(falling), kept, falling[kept])

    def threshold(self, allowed: int, *, lax: bool = False) -> float:
        """Return the smallest threshold that at most `allowed` scores reach.

        If that rank was not kept, the threshold of the nearest stricter one; with `lax`, of the nearest laxer one.
        """
        if allowed >= self.count:
            return float(self.scores[-1])
        at = int(np.searchsorted(self.ranks, allowed, side="left" if lax else "right")) - (0 if lax else 1)
        # The next float32, not float64: NumPy compares float32 scores with a Python float in float32.
        return float(np.nextafter(self.scores[at], np.float32(np.inf)))

    def reached(self, threshold: float) -> tuple[int, int]:
        """Return the least and the most scores that can lie at `threshold` or above."""
        kept = int(np.searchsorted(-self.scores.astype(np.float64), -threshold, side="right"))
        least = int(self.ranks[kept - 1]) + 1 if kept else 0
        return least, int(self.ranks[kept]) if kept < len(self.ranks) else self.count


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """The scores of labelled pairs of one precision against another, short enough for a bundle.

    Attributes:
        gallery: precision of the templates.
        probe: precision of the faces that are held against them.
        independent: impostor comparisons that count as independent of one another. Each pair of a protocol counts;
            where all pictures were compared with all, only the pairs of people do.
        impostor: scores of pairs of two people.
        genuine: scores of pairs of one person.
    """

    gallery: str
    probe: str
    independent: int
    impostor: Ranking
    genuine: Ranking

    @classmethod
    def of(
        cls,
        pair: tuple[str, str],
        impostor: npt.NDArray[np.floating],
        genuine: npt.NDArray[np.floating],
        *,
        independent: int | None = None,
        rates: Iterable[float] = (),
    ) -> Self:
        """Make the table of a pair of precisions (gallery, probe).

        Scores are taken in float32, as a device computes them.

        Args:
            pair: precision of the templates, and of the faces that are held against them.
            impostor: (N,) scores in [-1, 1].
            genuine: (M,) scores.
            independent: as the attribute; all of the impostor scores by default.
            rates: false match rates whose thresholds are to be exact, besides `DECADES`.

        Raises:
            DataError: there are too few scores, or some are not finite.
        """
        for kind, scores, least in (("impostor", impostor, MIN_COMPARISONS), ("genuine", genuine, 1)):
            if len(scores) < least or not np.all(np.isfinite(scores)):
                raise DataError(
                    f"a score table needs at least {least} finite {kind} scores, "
                    f"{np.isfinite(scores).sum()} of {len(scores)} are; give more labelled faces"
                )
        count = len(impostor)
        support = count if independent is None else min(independent, count)
        if support < MIN_COMPARISONS:
            raise DataError(f"{support} independent comparisons support no threshold; give at least 4 people")
        ranks = [np.arange(min(count, EXACT_RANKS)), _geometric(count)]
        for rate in (*DECADES, *rates):
            if 0 < rate < 1:
                ranks.append(np.array(_ranks(rate, count, support, 0.95)[1:]))
        spread = np.linspace(0, len(genuine) - 1, GENUINE_RANKS).round()
        return cls(
            *pair, support, Ranking.of(impostor, np.concatenate(ranks)), Ranking.of(genuine, spread.astype(np.int64))
        )

    @property
    def tightest_fmr(self) -> float:
        """The lowest false match rate that so many comparisons support, by the rule of three."""
        return RULE_OF_THREE / self.independent

    def operating_point(self, fmr: float, confidence: float = 0.95) -> OperatingPoint:
        """Choose a threshold as `edgeface.metrics.threshold_at_fmr` does on all scores.

        They accept exactly the same scores for the rates that the table was made for, for `DECADES`, and wherever the
        threshold lies among the `EXACT_RANKS` highest scores; elsewhere this one is a little stricter and its interval
        wider.

        Raises:
            DataError: `fmr` is outside (0, 1).
        """
        if not 0 < fmr < 1:
            raise DataError(f"a false match rate lies between 0 and 1, {fmr} was asked; use for example 1e-3")
        reached, allowed, fewest, most = _ranks(fmr, self.impostor.count, self.independent, confidence)
        return OperatingPoint(
            asked_fmr=fmr,
            fmr=reached,
            threshold=self.impostor.threshold(allowed),
            interval=(self.impostor.threshold(most, lax=True), self.impostor.threshold(fewest)),
            pairs=self.impostor.count,
        )

    def true_match_rate(self, threshold: float) -> float:
        """Return the share of genuine scores that surely reach `threshold`, in [0, 1]."""
        return self.genuine.reached(threshold)[0] / self.genuine.count


def false_positive_rate(fmr: float, templates: int) -> float:
    """Return how often one look at a stranger fits at least one of so many templates: FPIR = 1 - (1 - FMR)^N.

    N counts templates and not people: a person with several can be hit at each. Comparisons with them are taken as
    independent; as those of one person hit and miss together, the true rate is at most this.
    """
    return -math.expm1(templates * math.log1p(-fmr))


def comparison_rate(fpir: float, templates: int) -> float:
    """Return the false match rate of one comparison at which a search has this FPIR: 1 - (1 - FPIR)^(1/N).

    Raises:
        DataError: `fpir` is outside (0, 1), or there is no template.
    """
    if not 0 < fpir < 1:
        raise DataError(f"a false positive rate lies between 0 and 1, {fpir} was asked; use for example 1e-2")
    if templates < 1:
        raise DataError(f"a search is among 1 or more templates, got {templates}")
    return fpir if templates == 1 else -math.expm1(math.log1p(-fpir) / templates)


def _ranks(fmr: float, count: int, independent: int, confidence: float) -> tuple[float, int, int, int]:
    """Return the rate that is supported, the scores it allows, and the fewest and most at the ends of its interval."""
    reached = max(fmr, RULE_OF_THREE / independent)
    tail = (1 - confidence) / 2
    fewest, most = (binomial_quantile(independent, reached, probability) for probability in (tail, 1 - tail))
    # So many of the independent comparisons stand for this many of all.
    fewest, most = fewest * count // independent, -(-(most + 1) * count // independent)
    return reached, int(count * reached + 1e-9), fewest, most


def _geometric(count: int) -> npt.NDArray[np.int64]:
    steps = max(0, math.ceil(math.log(max(count, 1) / EXACT_RANKS, RANK_STEP)))
    ranks: npt.NDArray[np.int64] = (EXACT_RANKS * RANK_STEP ** np.arange(steps)).astype(np.int64)
    return ranks
