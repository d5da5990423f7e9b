"""Verification metrics: similarity scores in, error rates and thresholds out.

A comparison is genuine (the same person) or an impostor's (two people). It is accepted when its score is
greater than or equal to the threshold. FMR (false match rate, also FAR) is the share of impostor comparisons
that are accepted; TAR (true accept rate) the share of genuine ones. Scores are cosines in [-1, 1], but every
function here takes any finite score of which a larger value means more alike.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import DataError

Scores = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]

RULE_OF_THREE: Final = 3.0
"""No error in N trials bounds the rate at 3 / N with 95 % confidence, so FMR f needs at least 3 / f pairs."""


@dataclass(frozen=True, slots=True)
class Roc:
    """Receiver operating characteristic, one point for each distinct score, from strict to lax.

    Attributes:
        threshold: (K,) float64, falling; the first is +inf (nothing accepted).
        fmr: (K,) float64 in [0, 1], rising.
        tar: (K,) float64 in [0, 1], rising.
    """

    threshold: npt.NDArray[np.float64]
    fmr: npt.NDArray[np.float64]
    tar: npt.NDArray[np.float64]

    @property
    def auc(self) -> float:
        """Area under the curve by the trapezoid rule, in [0, 1]; ties count half."""
        return float(np.sum(np.diff(self.fmr) * (self.tar[1:] + self.tar[:-1]) / 2))

    @property
    def eer(self) -> float:
        """Equal error rate: where FMR equals 1 - TAR, linear between the two points around the crossing."""
        gap = self.fmr - (1 - self.tar)  # rises from -1 to 1
        after = int(np.argmax(gap >= 0))
        before = max(after - 1, 0)
        rise = gap[after] - gap[before]
        share = -gap[before] / rise if rise > 0 else 0.0
        return float(self.fmr[before] + share * (self.fmr[after] - self.fmr[before]))

    def at_fmr(self, fmr: float) -> tuple[float, float]:
        """Return (TAR, threshold) at the laxest measured point whose FMR does not exceed `fmr`."""
        point = int(np.searchsorted(self.fmr, fmr, side="right")) - 1
        return float(self.tar[point]), float(self.threshold[point])


@dataclass(frozen=True, slots=True)
class TenFold:
    """Accuracy by the LFW protocol: the threshold is chosen on nine folds and tested on the tenth.

    Attributes:
        accuracy: mean over the folds, in [0, 1].
        standard_error: of that mean, in [0, 1].
        fold_accuracy: (folds,) float64 in [0, 1].
        fold_threshold: (folds,) float64, the score chosen for each fold.
        correct: (N,) bool, whether each pair was decided rightly at the threshold of its fold.
    """

    accuracy: float
    standard_error: float
    fold_accuracy: npt.NDArray[np.float64]
    fold_threshold: npt.NDArray[np.float64]
    correct: Flags


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold chosen for a false match rate.

    Attributes:
        asked_fmr: the rate that was asked for, in (0, 1).
        fmr: the rate that the pairs support: `asked_fmr`, or 3 / pairs where that is larger.
        threshold: accept at this score or above.
        interval: 95 % confidence interval of the threshold (low, high).
        pairs: number of impostor pairs it was chosen on.
    """

    asked_fmr: float
    fmr: float
    threshold: float
    interval: tuple[float, float]
    pairs: int

    @property
    def supported(self) -> bool:
        """Whether there were enough pairs for the asked rate."""
        return self.fmr == self.asked_fmr


def cosine_scores(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the cosine of each row of `first` with the same row of `second`.

    Args:
        first: (N, D) embeddings, of any length above zero.
        second: (N, D).

    Returns:
        (N,) float64 in [-1, 1].

    Raises:
        DataError: an embedding is zero or not finite, so it has no direction.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    if not np.all(np.isfinite(norms)) or np.any(norms == 0):
        raise DataError(f"{np.sum(~(norms > 0))} of {len(norms)} pairs have an embedding that is zero or not finite")
    cosines: npt.NDArray[np.float64] = np.clip(np.einsum("nd,nd->n", first, second) / norms, -1.0, 1.0)
    return cosines


def roc(scores: Scores, same: Flags) -> Roc:
    """Compute the ROC of `scores` (N,) with `same` (N,) true for genuine pairs.

    Raises:
        DataError: there is no genuine or no impostor pair, or a score is not finite.
    """
    scores, same = _checked(scores, same)
    order = np.argsort(-scores, kind="stable")
    ranked, genuine = scores[order], same[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    accepted = np.cumsum(genuine)[last_of_tie]
    tar = accepted / genuine.sum()
    fmr = (last_of_tie + 1 - accepted) / (~genuine).sum()
    return Roc(np.append(np.inf, ranked[last_of_tie]), np.append(0.0, fmr), np.append(0.0, tar))


def ten_fold(scores: Scores, same: Flags, folds: npt.NDArray[np.integer]) -> TenFold:
    """Accuracy by the protocol of LFW, View 2 (Huang et al., 2007).

    For each fold, the threshold with the highest accuracy on all other folds is applied to it. Among equally
    good ones the middle of the widest run is taken: candidates lie half way between neighbouring scores.

    Args:
        scores: (N,).
        same: (N,) bool.
        folds: (N,) int, the fold of each pair; at least two different ones.

    Raises:
        DataError: as `roc`, or there is only one fold.
    """
    scores, same = _checked(scores, same)
    names = np.unique(folds)
    if len(names) < 2:
        raise DataError(f"the protocol needs at least 2 folds, the pairs have {len(names)}")
    accuracy, thresholds, correct = [], [], np.empty(len(scores), bool)
    for name in names:
        test = folds == name
        threshold = best_threshold(scores[~test], same[~test])
        thresholds.append(threshold)
        correct[test] = (scores[test] >= threshold) == same[test]
        accuracy.append(float(np.mean(correct[test])))
    spread = float(np.std(accuracy, ddof=1) / math.sqrt(len(names)))
    return TenFold(float(np.mean(accuracy)), spread, np.array(accuracy), np.array(thresholds), correct)


def d_prime(scores: Scores, same: Flags) -> float:
    """Return how far genuine and impostor scores lie apart: difference of their means over their common spread.

    The spread is the root of the mean of both variances (Daugman, 2000), and is taken to be at least 1e-6.

    Raises:
        DataError: as `roc`.
    """
    scores, same = _checked(scores, same)
    genuine, impostor = scores[same], scores[~same]
    spread = math.sqrt((genuine.var() + impostor.var()) / 2)
    return float((genuine.mean() - impostor.mean()) / max(spread, 1e-6))


def best_threshold(scores: Scores, same: Flags) -> float:
    """Return the threshold with the highest accuracy: the middle of the widest gap that reaches it."""
    ranked, inverse = np.unique(scores, return_inverse=True)
    genuine = np.bincount(inverse, weights=same, minlength=len(ranked))
    impostor = np.bincount(inverse, weights=~same, minlength=len(ranked))
    # Cut k rejects the k lowest distinct scores.
    correct = np.append(0, np.cumsum(impostor)) + genuine.sum() - np.append(0, np.cumsum(genuine))
    edges = np.concatenate([[ranked[0] - 1e-6], ranked, [ranked[-1] + 1e-6]])
    best = np.flatnonzero(correct == correct.max())
    widest = best[np.argmax(edges[best + 1] - edges[best])]
    return float((edges[widest] + edges[widest + 1]) / 2)


def threshold_at_fmr(impostor_scores: Scores, fmr: float, confidence: float = 0.95) -> OperatingPoint:
    """Choose the threshold for a false match rate, with a distribution-free confidence interval.

    The threshold is the smallest that lets at most `fmr` of these pairs match. Its interval is that of a
    quantile by order statistics: the number of scores above the true quantile is binomial (N, fmr) (David and
    Nagaraja, Order Statistics, 2003, section 7.1). Pairs that share people are not independent, so the true
    uncertainty is somewhat larger.

    Args:
        impostor_scores: (N,) scores of pairs of different people.
        fmr: the rate asked for, in (0, 1).
        confidence: of the interval.

    Returns:
        The operating point; `supported` is false when 3 / N is larger than `fmr`, and then the threshold is
        for 3 / N, the tightest that so many pairs support.

    Raises:
        DataError: there are fewer than 4 pairs, a score is not finite, or `fmr` is outside (0, 1).
    """
    scores = np.sort(np.asarray(impostor_scores, np.float64))[::-1]
    if not 0 < fmr < 1:
        raise DataError(f"a false match rate lies between 0 and 1, {fmr} was asked; use for example 1e-3")
    if len(scores) < 4 or not np.all(np.isfinite(scores)):
        raise DataError(f"a threshold needs at least 4 finite impostor scores, {np.isfinite(scores).sum()} were given")
    count = len(scores)
    reached = max(fmr, RULE_OF_THREE / count)
    tail = (1 - confidence) / 2
    fewest, most = binomial_quantile(count, reached, tail), binomial_quantile(count, reached, 1 - tail)
    return OperatingPoint(
        asked_fmr=fmr,
        fmr=reached,
        threshold=_just_above(scores, int(count * reached + 1e-9)),
        interval=(_just_above(scores, most + 1), _just_above(scores, fewest)),
        pairs=count,
    )


def _just_above(falling: npt.NDArray[np.float64], allowed: int) -> float:
    """Return the smallest threshold that at most `allowed` of the falling scores reach."""
    if allowed >= len(falling):
        return float(falling[-1])
    return float(np.nextafter(falling[allowed], np.inf))


def binomial_quantile(count: int, rate: float, probability: float) -> int:
    """Return the smallest k with P(X <= k) >= probability for X binomial (count, rate)."""
    log_rate, log_rest = math.log(rate), math.log1p(-rate) if rate < 1 else -math.inf
    total = 0.0
    for k in range(count + 1):
        log_choose = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        rest = (count - k) * log_rest if k < count else 0.0
        total += math.exp(log_choose + k * log_rate + rest)
        if total >= probability:
            return k
    return count


def _checked(scores: Scores, same: Flags) -> tuple[npt.NDArray[np.float64], Flags]:
    checked: npt.NDArray[np.float64] = np.asarray(scores, np.float64)
    same = np.asarray(same, bool)
    if checked.shape != same.shape or checked.ndim != 1:
        raise DataError(f"scores {scores.shape} and labels {same.shape} must be two lists of the same length")
    if not np.all(np.isfinite(checked)):
        raise DataError(f"{np.sum(~np.isfinite(checked))} of {len(scores)} scores are not finite")
    if same.all() or not same.any():
        raise DataError(f"need genuine and impostor pairs, got {same.sum()} and {(~same).sum()}")
    return checked, same
