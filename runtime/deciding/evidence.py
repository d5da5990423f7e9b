"""What a score says about whether two faces are one person: the log-likelihood ratio, from a bundle's score tables."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from edgeface.metrics import RULE_OF_THREE
from edgeface.operating_points import Ranking, ScoreTable

_BINS: Final = 2000  # of scores in [-1, 1]
_QUANTILES: Final = 2048
_DENSITY_OF_NOTHING: Final = 0.5  # the uniform one on [-1, 1]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Log-likelihood ratios of "this person" against "somebody else", by score.

    Both densities are histograms of the scores of labelled pairs, smoothed by a Gaussian of Silverman's width, with a
    share of 3 / n of the uniform density mixed in: n pairs cannot show that something happens less often than that
    (rule of three). For the same reason no ratio is beyond ln(n / 3) of the pairs that would have to show it. Ratios
    never fall as the score rises: where thin tails say otherwise, the tails are wrong.

    Attributes:
        cosines: (K,) float64, rising.
        ratios: (K,) float64, natural logarithms, never falling.
    """

    cosines: Floats
    ratios: Floats

    @classmethod
    def of(cls, table: ScoreTable) -> Self:
        """Read the ratios off a score table."""
        edges = np.linspace(-1, 1, _BINS + 1)
        unseen, missed = min(1.0, table.tightest_fmr), min(1.0, RULE_OF_THREE / table.genuine.count)
        genuine, impostor = _density(table.genuine, edges, missed), _density(table.impostor, edges, unseen)
        ratios = np.log(genuine / impostor)
        # From the middle of the impostors on upwards, and downwards from there, so that no odd tail spreads.
        middle = int(np.searchsorted(edges[1:], float(np.median(_spread(table.impostor)[0]))))
        ratios[middle:] = np.maximum.accumulate(ratios[middle:])
        ratios[: middle + 1] = np.minimum.accumulate(ratios[middle::-1])[::-1]
        return cls((edges[1:] + edges[:-1]) / 2, np.clip(ratios, math.log(missed), -math.log(unseen)))

    def ratio(self, cosine: float) -> float:
        """Return what one look says: above 0 for the person, below 0 against."""
        return float(np.interp(cosine, self.cosines, self.ratios))

    @property
    def neutral(self) -> float:
        """The score from which on a look speaks for the person."""
        return float(self.cosines[min(int(np.searchsorted(self.ratios, 0.0, side="right")), len(self.cosines) - 1)])


def _spread(ranking: Ranking) -> tuple[Floats, Floats]:
    """Return scores, falling, and the share of all scores that each stands for.

    Between kept ranks scores are interpolated along the quantiles of a normal distribution, so that a tail of which few
    ranks were kept falls off as tails do and not evenly.
    """
    normal = NormalDist()
    kept = np.array([normal.inv_cdf((rank + 0.5) / ranking.count) for rank in ranking.ranks.tolist()])
    quantiles = np.union1d(kept, np.linspace(kept[0], kept[-1], _QUANTILES))
    middles = [normal.cdf(middle) for middle in ((quantiles[1:] + quantiles[:-1]) / 2).tolist()]
    return np.interp(quantiles, kept, ranking.scores.astype(np.float64)), np.diff([0.0, *middles, 1.0])


def _density(ranking: Ranking, edges: Floats, floor: float) -> Floats:
    """Return the density of scores in each bin, with a share `floor` of the uniform one."""
    scores, shares = _spread(ranking)
    step = float(edges[1] - edges[0])
    counts = np.histogram(np.clip(scores, -1, 1), edges, weights=shares)[0]
    mean = float(scores @ shares)
    spread = math.sqrt(max(float((scores - mean) ** 2 @ shares), 1e-12))
    quarters = np.interp([0.25, 0.75], np.cumsum(shares), scores)
    robust = abs(float(quarters[1] - quarters[0])) / 1.34
    width = 0.9 * (min(spread, robust) or spread) * ranking.count**-0.2  # Silverman, 1986, equation 3.31
    reach = max(1, math.ceil(4 * width / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / max(width, step)) ** 2)
    smooth = np.convolve(np.pad(counts, reach, mode="symmetric"), kernel / kernel.sum(), mode="valid")
    return (1 - floor) * smooth / step + floor * _DENSITY_OF_NOTHING
