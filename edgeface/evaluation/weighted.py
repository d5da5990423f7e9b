"""The measures of verification when pairs count several times or not at all, for many such weightings at once."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.metrics import Flags, Scores

Weights = npt.NDArray[np.float64]
"""(B, P) float64: how often each of the P pairs counts, in B draws. Both classes have some weight in each draw."""

MEASURES: Final = ("accuracy", "eer", "auc", "d_prime")
"""What comes before the true accept rates in a row of results."""


class WeightedPairs:
    """Scored pairs, sorted once. With all weights 1 the results equal those of `edgeface.metrics`.

    Args:
        scores: (P,) finite.
        same: (P,) bool, of both kinds.
        correct: (P,) bool, whether each pair was decided rightly; the threshold is not chosen anew in each draw.
        rates: false accept rates to give the true accept rate at, in (0, 1).
    """

    def __init__(self, scores: Scores, same: Flags, correct: Flags, rates: Sequence[float]) -> None:
        order = np.argsort(-scores, kind="stable")
        self._genuine, self._impostor = order[same[order]], order[~same[order]]
        self._genuine_scores = np.asarray(scores, np.float64)[self._genuine]
        self._impostor_scores = np.asarray(scores, np.float64)[self._impostor]
        self._correct = correct.astype(np.float64)
        self._rates = tuple(rates)
        # How many genuine pairs lie above each impostor's score, and how many reach it.
        self._above = np.searchsorted(-self._genuine_scores, -self._impostor_scores, side="left")
        self._reaching = np.searchsorted(-self._genuine_scores, -self._impostor_scores, side="right")
        # How many pairs of each kind are accepted at each threshold, from none to all.
        thresholds = np.append(np.inf, np.unique(scores)[::-1])
        self._genuine_at = np.searchsorted(-self._genuine_scores, -thresholds, side="right")
        self._impostor_at = np.searchsorted(-self._impostor_scores, -thresholds, side="right")

    def measure(self, weights: Weights) -> npt.NDArray[np.float64]:
        """Return (B, 4 + rates): accuracy, EER, AUC and d' of each draw, then the TAR at each rate."""
        genuine, impostor = weights[:, self._genuine], weights[:, self._impostor]
        tar, fmr = _shares(genuine), _shares(impostor)
        below = (tar[:, self._above] + tar[:, self._reaching]) / 2
        columns = [
            weights @ self._correct / weights.sum(axis=1),
            self._equal_error_rate(tar, fmr),
            np.einsum("bi,bi->b", impostor, below) / impostor.sum(axis=1),
            self._d_prime(genuine, impostor),
            *(self._tar_at(rate, tar, fmr) for rate in self._rates),
        ]
        return np.stack(columns, axis=1)

    def _tar_at(
        self, rate: float, tar: npt.NDArray[np.float64], fmr: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Accept what scores more than the first impostor that would exceed the rate."""
        refused = np.count_nonzero(fmr[:, 1:] <= rate, axis=1)  # below 1, so one is always refused
        accepted: npt.NDArray[np.float64] = tar[np.arange(len(tar)), self._above[refused]]
        return accepted

    def _equal_error_rate(self, tar: npt.NDArray[np.float64], fmr: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """As `Roc.eer`: the first threshold where FMR reaches 1 - TAR is found by halving, for each draw."""
        rows = np.arange(len(tar))
        before, after = np.zeros(len(tar), np.int64), np.full(len(tar), len(self._genuine_at) - 1)
        while np.any(after - before > 1):
            middle = (before + after) // 2
            reached = fmr[rows, self._impostor_at[middle]] + tar[rows, self._genuine_at[middle]] >= 1
            before, after = np.where(reached, before, middle), np.where(reached, middle, after)
        low, high = fmr[rows, self._impostor_at[before]], fmr[rows, self._impostor_at[after]]
        gap = low + tar[rows, self._genuine_at[before]] - 1
        rise = high + tar[rows, self._genuine_at[after]] - 1 - gap
        crossing: npt.NDArray[np.float64] = low - gap / rise * (high - low)  # the gap was below 0 and is not now
        return crossing

    def _d_prime(self, genuine: Weights, impostor: Weights) -> npt.NDArray[np.float64]:
        mean, variance = _moments(genuine, self._genuine_scores)
        other_mean, other_variance = _moments(impostor, self._impostor_scores)
        return (mean - other_mean) / np.maximum(np.sqrt((variance + other_variance) / 2), 1e-6)


def _shares(weights: Weights) -> npt.NDArray[np.float64]:
    """Return the share of the weight that the first 0, 1, ... pairs have, (B, pairs + 1)."""
    shares = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=shares[:, 1:])
    shares /= shares[:, -1:].copy()
    return shares


def _moments(
    weights: Weights, scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    total = weights.sum(axis=1)
    mean = weights @ scores / total
    return mean, np.maximum(weights @ scores**2 / total - mean**2, 0)
