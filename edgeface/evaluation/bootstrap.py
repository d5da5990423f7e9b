"""Confidence intervals by the bootstrap: people are drawn again, or pairs where nobody knows who is on them.

Pairs with a person in common are not independent: a face that is hard is hard in all its pairs. So where identities
are known it is they that are drawn with replacement, and a pair of two people counts as often as the product of
how often they were drawn (the pigeonhole bootstrap: Owen, Annals of Applied Statistics, 2007; Owen and Eckles,
2012), a genuine pair as often as its one person.

The product exaggerates what is peculiar to a single impostor pair: it gives its variance three times, once for each
person and once for both. That is much where people occur in few pairs, as in LFW. Two of the three are taken off
again, as the intersections are in clustering by two factors (Cameron, Gelbach and Miller, 2011): impostor pairs are
drawn on their own too, and deviations are shrunk by the ratio of the corrected standard error to the first. They
never become smaller than if all pairs were independent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import UNKNOWN
from edgeface.evaluation.weighted import Weights
from edgeface.intervals import Interval
from edgeface.metrics import Flags

BLOCK: Final = 1 << 18
"""Weights that are held at a time, some tens of megabytes with what is made of them; more pairs go draw by draw."""

Measure = Callable[[Weights], npt.NDArray[np.float64]]
"""(B, P) weights to (B, K) measures, one row for each draw."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How pairs are drawn again.

    Attributes:
        same: (P,) bool, true for genuine pairs.
        first: (P,) int64, label of the person on one side; `UNKNOWN` where not known.
        second: (P,) int64, of the other side.
        replicates: number of draws, at least 100.
        seed: of the draws; the same seed gives every model the same draws, so differences are paired.
    """

    same: Flags
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    replicates: int = 1000
    seed: int = 0

    @property
    def unit(self) -> Literal["identities", "pairs"]:
        """What is drawn: identities, unless a pair has a face of an unknown person."""
        known = np.all(self.first != UNKNOWN) and np.all(self.second != UNKNOWN)
        return "identities" if known else "pairs"

    def draws(self) -> Iterator[Weights]:
        """Yield the weights of all pairs, in blocks; a draw without genuine or impostor pairs is left out."""
        if self.unit == "pairs":
            yield from self.pair_draws()
            return
        rng = np.random.default_rng(self.seed)
        people, numbers = np.unique(np.concatenate([self.first, self.second]), return_inverse=True)
        first, second = numbers[: len(self.same)], numbers[len(self.same) :]
        one_person = first == second

        def weights(rows: int) -> npt.NDArray[np.int64]:
            # Independent Poisson counts are the usual multinomial ones with the size of the sample left free.
            drawn = rng.poisson(1, (rows, len(people)))
            return drawn[:, first] * np.where(one_person, 1, drawn[:, second])

        yield from self._filled(weights)

    def pair_draws(self, impostors_only: bool = False) -> Iterator[Weights]:
        """Yield weights that draw pairs one by one, as if they were independent.

        Args:
            impostors_only: leave the genuine pairs as they are.
        """
        rng = np.random.default_rng([self.seed, 1])

        def weights(rows: int) -> npt.NDArray[np.int64]:
            drawn = rng.poisson(1, (rows, len(self.same)))
            return np.where(self.same, 1, drawn) if impostors_only else drawn

        yield from self._filled(weights)

    def _filled(self, weights: Callable[[int], npt.NDArray[np.int64]]) -> Iterator[Weights]:
        rows = max(1, BLOCK // len(self.same))
        for start in range(0, self.replicates, rows):
            block = weights(min(rows, self.replicates - start)).astype(np.float64)
            yield block[(block @ self.same > 0) & (block @ ~self.same > 0)]


def intervals(measure: Measure, resampling: Resampling, *, corrected: bool = True) -> list[Interval]:
    """Return the 95 % interval of each measure, by percentiles; it always holds the measured value.

    Args:
        measure: gives K measures of weighted pairs.
        resampling: how to draw the weights.
        corrected: take off what drawing people exaggerates. Not for differences that are a few decisions of many: their
            draws are whole numbers, 0 among them, and shrinking would move 0 out of the interval.
    """
    measured = measure(np.ones((1, len(resampling.same))))[0]
    drawn = _measured(measure, resampling.draws())
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    if corrected and resampling.unit == "identities":
        shrink = _corrected(measure, resampling, drawn.var(axis=0))
        low, high = measured + shrink * (low - measured), measured + shrink * (high - measured)
    low, high = np.minimum(low, measured), np.maximum(high, measured)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _corrected(measure: Measure, resampling: Resampling, variance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the factor of deviations, (K,) in (0, 1], that takes off what single impostor pairs give too much."""
    fewer = replace(resampling, replicates=max(100, resampling.replicates // 4))  # a variance needs no more
    alone = _measured(measure, fewer.pair_draws(impostors_only=True)).var(axis=0)
    independent = _measured(measure, fewer.pair_draws()).var(axis=0)
    kept = np.maximum(variance - 2 * alone, independent)
    factor: npt.NDArray[np.float64] = np.sqrt(np.minimum(kept / np.where(variance > 0, variance, 1), 1))
    return factor


def _measured(measure: Measure, draws: Iterator[Weights]) -> npt.NDArray[np.float64]:
    return np.concatenate([measure(weights) for weights in draws])
