"""How sure a measured error rate is, also where the comparisons share people."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.metrics import RULE_OF_THREE

Interval = tuple[float, float]
"""Low and high end, both included."""

Z_95: Final = 1.959963984540054
"""Half the width of a 95 % interval of the normal distribution, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of trials.

    Attributes:
        errors: trials that count, in [0, trials].
        trials: number of trials, at least 1.
        interval: 95 % confidence interval of the rate, within [0, 1].
    """

    errors: int
    trials: int
    interval: Interval

    @property
    def value(self) -> float:
        """The rate, in [0, 1]."""
        return self.errors / self.trials

    def to_json(self) -> dict[str, float | int | list[float]]:
        """Return the rate, its interval and the counts behind it."""
        return {"rate": self.value, "interval": list(self.interval), "errors": self.errors, "trials": self.trials}


def wilson(rate: float, trials: float, z: float = Z_95) -> Interval:
    """Return the score interval of a binomial share (Wilson, 1927); unlike Wald's it is right near 0 and 1.

    Args:
        rate: measured share, in [0, 1].
        trials: independent trials, above 0; need not be a whole number.
        z: standard deviations to either side.
    """
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # Rounding must not push the interval off the rate or out of [0, 1].
    return max(0.0, min(centre - half, rate)), min(1.0, max(centre + half, rate))


def independent_rate(errors: int, trials: int) -> Rate:
    """Return the rate of trials that are taken to be independent."""
    return Rate(errors, trials, wilson(errors / trials, trials))


def clustered_rate(errors: npt.NDArray[np.int64], trials: npt.NDArray[np.int64], *, people_a_trial: int = 1) -> Rate:
    """Return the rate of trials that share people: Wilson's interval with an effective number of trials.

    Trials with a person in common rise and fall together, so they tell less than as many independent ones. The
    variance is the one that is robust to this, summed over all pairs of trials with a common person; the effective
    number of trials is what gives a binomial that variance (Fogliato, Patil and Perona, "Confidence intervals for
    error rates in 1:1 matching tasks", International Journal of Computer Vision, 2024). Where every trial or none
    is an error there is no variance to see: then all trials of the same people count as one.

    Args:
        errors: (C,) errors among the trials of each person.
        trials: (C,) trials of each person, not all 0.
        people_a_trial: 1 if a trial has one person (genuine pairs, probes), 2 if two (impostor pairs); a trial of
            two people is counted in the rows of both.
    """
    total, wrong = int(trials.sum()) // people_a_trial, int(errors.sum()) // people_a_trial
    rate, people = wrong / total, int(np.count_nonzero(trials))
    if wrong in (0, total):
        distinct = people if people_a_trial == 1 else people * (people - 1) // 2
        return Rate(wrong, total, wilson(rate, min(total, distinct)))
    binomial = total * rate * (1 - rate)
    shared = float(np.sum((errors - rate * trials) ** 2)) * people / max(people - 1, 1)
    if people_a_trial == 2:
        shared -= binomial  # the sum has each trial's own variance once for each of its people
    effective = total * binomial / max(shared, binomial)
    return Rate(wrong, total, wilson(rate, effective))


def pairs_needed(rate: float) -> int:
    """Return how many impostor pairs a false match rate needs at least, by the rule of three."""
    return math.ceil(round(RULE_OF_THREE / rate, 6))


def people_needed(pairs: int) -> int:
    """Return how many people it takes for so many pairs of two people."""
    return math.ceil((1 + math.sqrt(1 + 8 * pairs)) / 2)


def judges_difference(interval: Interval) -> bool:
    """Whether the interval of a difference leaves out 0, so that the difference is significant at 5 %."""
    return not interval[0] <= 0 <= interval[1]
