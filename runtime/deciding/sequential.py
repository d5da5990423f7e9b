"""Who it is, by adding up evidence: Wald's sequential test on the log-likelihood ratios of the looks at one track.

Wald, "Sequential Tests of Statistical Hypotheses", Annals of Mathematical Statistics 16, 1945. With a wanted rate a
of false matches with one person and a wanted rate b of misses, somebody is recognised once the ratios add up to
ln((1 - b) / a), and nobody is once those of the likeliest person fall to ln(b / (1 - a)). In between the question stays
open, up to the looks that are remembered. In a search a is the rate of one comparison that the wanted FPIR leaves, so
that the chances of all people add up to it.

The looks at one track are not independent: who resembles somebody does so in every frame. n looks with a correlation r
count as n / (1 + (n - 1) r) times their mean, which is never more than 1 / r of them. The correlation is an
assumption, see `DecisionSettings.correlation`.

A look knows the two nearest people only. For anybody else it counts at most as the runner-up did, and never in favour.
"""

import math
from collections.abc import Sequence

import numpy as np

from edgeface.runtime.deciding.decision import Decision, DecisionSettings, State, answer, median, nearest
from edgeface.runtime.deciding.evidence import Evidence
from edgeface.runtime.gallery.comparison import Comparison


def limits(settings: DecisionSettings) -> tuple[float, float]:
    """Return the sums at which nobody and somebody is recognised, from `fmr` and `miss`."""
    if settings.fmr is None:
        raise ValueError("the limits follow from a false match rate")
    return math.log(settings.miss / (1 - settings.fmr)), math.log((1 - settings.miss) / settings.fmr)


def effective_looks(count: int, correlation: float) -> float:
    """Return how many independent looks tell as much as `count` that are correlated, in [1, count] if there are any."""
    return count / (1 + (count - 1) * correlation) if count else 0.0


def weigh(
    looks: Sequence[Comparison],
    settings: DecisionSettings,
    held: Decision | None = None,
    recent: int | None = None,
) -> Decision:
    """Turn the last looks at one face into an answer; arguments as `edgeface.runtime.deciding.decision.decide`.

    A new match also needs `votes` looks that speak for the person. It is kept while the looks together still do: one
    limit to open and a lower one to close. Who was unknown stays so until there is enough for a match.
    """
    scale = settings.evidence
    if scale is None:
        raise ValueError("ratios need measured scores")
    lower, upper = limits(settings)
    counted = looks if recent is None else looks[len(looks) - recent :]
    sums = {name: _sum(counted, name, settings, scale) for name in _names(counted, settings)}
    ranking = sorted(sums, key=lambda name: -sums[name])
    leader = ranking[0] if ranking else None
    second = ranking[1] if len(ranking) > 1 else None
    total = sums[leader] if leader is not None else 0.0
    votes = [look for look in counted if look.best is not None and look.best.name == leader]
    votes = [look for look in votes if _ratio(look, leader or "", settings, scale) > 0]
    tied = second is not None and sums[second] >= upper
    if leader is not None and total >= upper and len(votes) >= settings.votes and not tied:
        return answer("match", leader, median(votes), len(votes), len(looks), settings, None, total, upper)
    if held is not None and held.identity is not None and _sum(looks, held.identity, settings, scale) > 0:
        return held
    state: State = "pending"
    was_unknown = held is not None and held.state in ("unknown", "rejected")
    if len(looks) >= settings.window or (looks and total <= lower) or was_unknown:
        state = "unknown" if settings.claim is None else "rejected"
    shown = median(votes) if votes else nearest(looks)
    why = "not looked at yet"
    if tied:
        why = f"ambiguous between {leader} and {second}: evidence {total:.1f} and {sums[second or '']:.1f}"
    elif leader is None:
        why = "the gallery is empty" if settings.claim is None else f"{settings.claim} is not in the gallery"
    elif total >= upper:
        why = f"too few votes for {leader}: {len(votes)} of {settings.votes}"
    elif looks:
        why = f"too little evidence for {leader}: {total:.1f}, need {upper:.1f}"
    why = why if looks else "not looked at yet"
    return answer(state, None, shown, len(votes), len(looks), settings, why, total, upper)


def _names(looks: Sequence[Comparison], settings: DecisionSettings) -> list[str]:
    """Return whom the looks were near to, in order of appearance; with a claim it is about one person only."""
    pairs = ((look.best,) if settings.claim is not None else (look.best, look.runner_up) for look in looks)
    return list(dict.fromkeys(match.name for pair in pairs for match in pair if match is not None))


def _sum(looks: Sequence[Comparison], name: str, settings: DecisionSettings, scale: Evidence) -> float:
    ratios = [_ratio(look, name, settings, scale) for look in looks]
    return effective_looks(len(ratios), settings.correlation) * float(np.mean(ratios)) if ratios else 0.0


def _ratio(look: Comparison, name: str, settings: DecisionSettings, scale: Evidence) -> float:
    """Return what a look says for or against a person."""
    if look.best is None:
        return 0.0
    close = settings.min_margin > 0 and look.margin is not None and look.margin < settings.min_margin
    if look.best.name == name:
        ratio = scale.ratio(look.best.score)
        return min(ratio, 0.0) if close else ratio
    if look.runner_up is None:
        return 0.0
    ratio = scale.ratio(look.runner_up.score)
    return ratio if look.runner_up.name == name and not close else min(ratio, 0.0)
