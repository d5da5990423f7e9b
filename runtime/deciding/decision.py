"""Who it is: several looks at a face must agree before anything is said.

No clocks, no input or output. `decide` counts votes, `edgeface.runtime.deciding.sequential.weigh` adds up evidence;
`edgeface.runtime.deciding.judge` remembers the looks of each track.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeface.errors import ConfigError
from edgeface.manifest import Kind
from edgeface.runtime.deciding.evidence import Evidence
from edgeface.runtime.gallery.comparison import Comparison

State = Literal["pending", "match", "unknown", "rejected"]
Rule = Literal["votes", "llr"]
"""How looks become an answer: so many of the last agree, or their log-likelihood ratios add up to enough."""


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    """When somebody counts as recognised.

    Attributes:
        threshold: score from which on one look agrees with a person. In a search among many people false matches add
            up, so that it depends on how many there are: see `edgeface.runtime.deciding.limits`.
        fmr: false match rate of one comparison at `threshold`, in (0, 1); None if nobody measured it.
        votes: so many of the last `window` looks must agree on one person.
        window: looks that are remembered. After so many without enough votes the answer is `unknown`, or `rejected`
            where there is a claim.
        hold: a match is kept while at least so many looks of the window agree with it and nobody else gets `votes`.
        min_margin: a look agrees only if its person is nearer than any other by this; 0 asks for nothing, so that
            with a claim somebody else may be nearer.
        claim: the person that everybody in view is taken to claim to be (1:1); None asks who it is (1:N).
        refresh_s: how often a recognised face is looked at again, in seconds; 0 looks at every frame.
        retry_s: how often one that was not recognised is looked at again.
        max_gap_s: a face that was out of sight for longer must be recognised anew: it may be somebody else.
        max_age_s: so must one that could not be looked at for longer, for example because it turned away.
        rule: `votes`, or `llr`; for that one see `edgeface.runtime.deciding.sequential`.
        within_s: the looks that make a new match lie within so many seconds; None takes those of the window.
        cooldown_s: a match with the same person is not told again for so long, whichever track it is; 0 always tells.
        exclusive: of two faces in one frame that seem to be one person, only the better is.
        evidence: what a score says, measured; needed by `llr`.
        miss: with `llr`, how often the right person may be turned away, in (0, 1).
        correlation: with `llr`, that of two looks at one track, in [0, 1]: with 0 every look counts in full,
            with 1 all count as one.
        scoring: what a score is.

    Raises:
        ConfigError: a value is out of range.
    """

    threshold: float
    fmr: float | None = None
    votes: int = 3
    window: int = 5
    hold: int = 2
    min_margin: float = 0.0
    claim: str | None = None
    refresh_s: float = 1.0
    retry_s: float = 0.3
    max_gap_s: float = 0.5
    max_age_s: float = 5.0
    rule: Rule = "votes"
    within_s: float | None = None
    cooldown_s: float = 0.0
    exclusive: bool = True
    evidence: Evidence | None = None
    miss: float = 0.01
    correlation: float = 0.7
    scoring: Kind = "cosine"

    def __post_init__(self) -> None:
        # A threshold just above 1 is what calibration gives when nothing may match.
        if not -1 <= self.threshold <= 1.001:
            raise ConfigError(f"a threshold is a score in -1 to 1, got {self.threshold}; take the bundle's")
        if self.fmr is not None and not 0 < self.fmr < 1:
            raise ConfigError(f"a false match rate lies between 0 and 1, got {self.fmr}")
        if not 1 <= self.votes <= self.window:
            raise ConfigError(
                f"votes must be at least 1 and at most the window, got {self.votes} of {self.window}; "
                "use for example 3 of 5"
            )
        if not 1 <= self.hold <= self.window:
            raise ConfigError(f"hold must lie in 1 to the window, got {self.hold}; use for example 2")
        if not 0 <= self.min_margin <= 2:
            raise ConfigError(f"min_margin lies in 0 to 2, got {self.min_margin}; use for example 0.05")
        for name in ("refresh_s", "retry_s", "max_gap_s", "max_age_s", "cooldown_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} cannot be negative, got {getattr(self, name)}")
        if self.within_s is not None and not self.within_s > 0:
            raise ConfigError(f"within_s must be more than 0, got {self.within_s}; use for example 2")
        self._check_llr()

    def _check_llr(self) -> None:
        if not 0 < self.miss < 0.5:
            raise ConfigError(f"miss lies between 0 and 0.5, got {self.miss}; use for example 0.01")
        if not 0 <= self.correlation <= 1:
            raise ConfigError(f"a correlation lies in 0 to 1, got {self.correlation}; use for example 0.5")
        if self.rule == "llr" and (self.evidence is None or self.fmr is None):
            raise ConfigError(
                "the rule llr needs the bundle's score tables and a false match rate, not a bare threshold; "
                "use the rule votes, or make tables with `edgeface calibrate`"
            )


@dataclass(frozen=True, slots=True)
class Decision:
    """What is known about a track.

    Attributes:
        state: `pending` until there are enough looks.
        identity: who it is; None unless `state` is `match`.
        score: of the look that stands for the answer: the median one of those that agree with it, else the best one;
            None if there was nothing to compare.
        threshold: that it was held against; with the rule `llr`, the score from which on a look speaks for somebody.
        runner_up: the nearest other person in that look.
        margin: by how much that one is farther.
        votes: looks that agreed when the answer was last confirmed.
        frames: looks that there were then.
        why: nobody was recognised; None for a match.
        is_news: this look gave the track an answer for the first time, or another one than before.
        evidence: with the rule `llr`, the log-likelihood ratio for the person in question; otherwise None.
        evidence_needed: from which on somebody is recognised by that rule; otherwise None.
        votes_needed: looks that must agree.
        rule: by which the answer was made.
        scoring: what the score is.
    """

    state: State
    identity: str | None
    score: float | None
    threshold: float
    runner_up: str | None
    margin: float | None
    votes: int
    frames: int
    why: str | None
    is_news: bool = False
    evidence: float | None = None
    evidence_needed: float | None = None
    votes_needed: int | None = None
    rule: Rule = "votes"
    scoring: Kind = "cosine"


def decide(
    looks: Sequence[Comparison],
    settings: DecisionSettings,
    held: Decision | None = None,
    recent: int | None = None,
) -> Decision:
    """Turn the last looks at one face into an answer.

    Args:
        looks: at most `settings.window`, the oldest first.
        settings: how many must agree on what.
        held: the answer before the newest look.
        recent: only so many of the last looks may make a new match; None lets all.
    """
    everyone = _supporters(looks, settings)
    supporters = everyone if recent is None else _supporters(looks[len(looks) - recent :], settings)
    ranking = Counter({name: len(own) for name, own in supporters.items()}).most_common(2)
    leader, votes = ranking[0] if ranking else (None, 0)
    tied = len(ranking) == 2 and ranking[1][1] == votes
    if leader is not None and votes >= settings.votes and not tied:
        return answer("match", leader, median(supporters[leader]), votes, len(looks), settings, None)
    if held is not None and held.identity is not None:
        loyal = len(everyone.get(held.identity, ()))
        if loyal >= min(settings.hold, settings.votes):
            return held
    state: State = "pending"
    if len(looks) >= settings.window:
        state = "unknown" if settings.claim is None else "rejected"
    shown = median(supporters[leader]) if leader is not None else nearest(looks)
    why = _why(ranking, shown, settings)
    return answer(state, None, shown, votes, len(looks), settings, why)


def _supporters(looks: Sequence[Comparison], settings: DecisionSettings) -> dict[str, list[Comparison]]:
    """Return the looks that agree with somebody, by name."""
    found: dict[str, list[Comparison]] = {}
    for look in looks:
        if look.best is not None and objection(look, settings) is None:
            found.setdefault(look.best.name, []).append(look)
    return found


def objection(look: Comparison, settings: DecisionSettings) -> str | None:
    """Say why one look does not agree with the person it fits best; None if it does."""
    if look.best is None:
        return "the gallery is empty" if settings.claim is None else f"{settings.claim} is not in the gallery"
    if look.best.score < settings.threshold:
        numbers = f"{look.best.score:.3f}", f"{settings.threshold:.3f}"
        if numbers[0] == numbers[1]:
            numbers = f"{look.best.score:.6f}", f"{settings.threshold:.6f}"
        if settings.claim is not None:
            return f"not {settings.claim}: score {numbers[0]} below threshold {numbers[1]}"
        return f"no gallery match: best score {numbers[0]} ({look.best.name}) below threshold {numbers[1]}"
    if look.runner_up is not None and look.margin is not None and look.margin < settings.min_margin:
        # Without a demand on it a margin may be negative: with a claim, somebody else may be nearer.
        if settings.min_margin == 0:
            return None
        people = f"{look.best.name} and {look.runner_up.name}"
        return f"ambiguous between {people}: margin {look.margin:.3f}, need {settings.min_margin:.3f}"
    return None


def answer(
    state: State,
    identity: str | None,
    look: Comparison | None,
    votes: int,
    frames: int,
    settings: DecisionSettings,
    why: str | None,
    evidence: float | None = None,
    evidence_needed: float | None = None,
) -> Decision:
    """Return the decision that one look stands for; see `Decision`."""
    scale = settings.evidence if settings.rule == "llr" else None
    return Decision(
        state=state,
        identity=identity,
        score=look.best.score if look and look.best else None,
        threshold=settings.threshold if scale is None else scale.neutral,
        runner_up=look.runner_up.name if look and look.runner_up else None,
        margin=look.margin if look else None,
        votes=votes,
        frames=frames,
        why=why,
        evidence=evidence,
        evidence_needed=evidence_needed,
        votes_needed=settings.votes,
        rule=settings.rule,
        scoring=settings.scoring,
    )


def _score(look: Comparison) -> float:
    return look.best.score if look.best else -2.0


def nearest(looks: Sequence[Comparison]) -> Comparison | None:
    """Return the look with the highest score, None if there is none."""
    return max(looks, key=_score, default=None)


def median(looks: Sequence[Comparison]) -> Comparison:
    """Return a look, not a mean, so that its score, runner-up and margin belong together."""
    return sorted(looks, key=_score)[(len(looks) - 1) // 2]


def _why(ranking: list[tuple[str, int]], shown: Comparison | None, settings: DecisionSettings) -> str:
    if len(ranking) == 2:
        (first, first_votes), (second, second_votes) = ranking
        return f"ambiguous between {first} and {second}: {first_votes} and {second_votes} votes, need {settings.votes}"
    if ranking:
        return f"too few votes for {ranking[0][0]}: {ranking[0][1]} of {settings.votes}"
    return (objection(shown, settings) if shown else None) or "not looked at yet"
