"""Who it is: several looks at a face must agree before anything is said.

No clocks, no input or output: `decide` turns looks into an answer, `Judge` remembers the looks of each track.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from edgeface.errors import ConfigError
from edgeface.runtime.comparison import Comparison
from edgeface.runtime.tracker import Track

State = Literal["pending", "match", "unknown", "rejected"]


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    """When somebody counts as recognised.

    Attributes:
        threshold: cosine from which on one look agrees with a person. In a search among many people false matches add
            up, so that it depends on how many there are: see `edgeface.runtime.limits`.
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

    def __post_init__(self) -> None:
        # A threshold just above 1 is what calibration gives when nothing may match.
        if not -1 <= self.threshold <= 1.001:
            raise ConfigError(f"a threshold is a cosine in -1 to 1, got {self.threshold}; take the bundle's")
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
        for name in ("refresh_s", "retry_s", "max_gap_s", "max_age_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} cannot be negative, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Decision:
    """What is known about a track.

    Attributes:
        state: `pending` until there are enough looks.
        identity: who it is; None unless `state` is `match`.
        score: cosine of the look that stands for the answer: the median one of those that agree with it, else the best
            one; None if there was nothing to compare.
        threshold: that it was held against.
        runner_up: the nearest other person in that look.
        margin: by how much that one is farther.
        votes: looks that agreed when the answer was last confirmed.
        frames: looks that there were then.
        why: nobody was recognised; None for a match.
        is_news: this look gave the track an answer for the first time, or another one than before.
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


def decide(looks: Sequence[Comparison], settings: DecisionSettings, held: Decision | None = None) -> Decision:
    """Turn the last looks at one face into an answer.

    Args:
        looks: at most `settings.window`, the oldest first.
        settings: how many must agree on what.
        held: the answer before the newest look.
    """
    supporters: dict[str, list[Comparison]] = {}
    for look in looks:
        if look.best is not None and objection(look, settings) is None:
            supporters.setdefault(look.best.name, []).append(look)
    ranking = Counter({name: len(own) for name, own in supporters.items()}).most_common(2)
    leader, votes = ranking[0] if ranking else (None, 0)
    tied = len(ranking) == 2 and ranking[1][1] == votes
    if leader is not None and votes >= settings.votes and not tied:
        return _answer("match", leader, _median(supporters[leader]), votes, len(looks), settings, None)
    if held is not None and held.identity is not None:
        loyal = len(supporters.get(held.identity, ()))
        if loyal >= min(settings.hold, settings.votes):
            return held
    state: State = "pending"
    if len(looks) >= settings.window:
        state = "unknown" if settings.claim is None else "rejected"
    shown = _median(supporters[leader]) if leader is not None else _best(looks)
    why = _why(ranking, shown, settings)
    return _answer(state, None, shown, votes, len(looks), settings, why)


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


@dataclass(slots=True)
class _Memory:
    """What a judge knows of one track."""

    looks: deque[Comparison]
    decision: Decision
    last_look_s: float | None = None
    in_doubt: bool = False
    """The last look did not agree with the answer, or the face was out of sight."""
    reported: tuple[State, str | None] | None = None


@dataclass(slots=True)
class Judge:
    """Remembers the looks at each track and says when to look again."""

    settings: DecisionSettings
    _tracks: dict[int, _Memory] = field(default_factory=dict)

    def see(self, track: Track) -> None:
        """Take notice of a track that is in view. One that was away for too long must be recognised anew."""
        memory = self._tracks.get(track.id)
        if memory is None:
            memory = _Memory(deque(maxlen=self.settings.window), self._open_question())
            self._tracks[track.id] = memory
        elif track.gap_s > self.settings.max_gap_s and track.gap_frames:
            self._forget(memory, "out of sight for a while, not yet looked at again")
        elif track.gap_frames:
            memory.in_doubt = True

    def wants_embedding(self, track_id: int, time_s: float) -> bool:
        """Tell whether a face should be looked at in this frame, or its answer can stand for now."""
        memory = self._tracks[track_id]
        if memory.last_look_s is None or memory.in_doubt or memory.decision.state == "pending":
            return True
        wait_s = self.settings.refresh_s if memory.decision.state == "match" else self.settings.retry_s
        return abs(time_s - memory.last_look_s) >= wait_s

    def look(self, track_id: int, comparison: Comparison, time_s: float) -> Decision:
        """Take one look at a face and return what is known now."""
        memory = self._tracks[track_id]
        memory.looks.append(comparison)
        memory.last_look_s = time_s
        decision = decide(memory.looks, self.settings, memory.decision)
        vote = comparison.best.name if comparison.best and not objection(comparison, self.settings) else None
        memory.in_doubt = vote != decision.identity
        answer = (decision.state, decision.identity)
        is_news = decision.state != "pending" and answer != memory.reported
        if is_news:
            memory.reported = answer
        memory.decision = replace(decision, is_news=False)
        return replace(decision, is_news=is_news)

    def refuse(self, track_id: int, reason: str, time_s: float) -> Decision:
        """Take notice that a face was not worth a look. It counts for nothing, but an old answer expires."""
        memory = self._tracks[track_id]
        if memory.last_look_s is not None and abs(time_s - memory.last_look_s) > self.settings.max_age_s:
            self._forget(memory, reason)
        elif memory.decision.state == "pending":
            memory.decision = replace(memory.decision, why=reason)
        return memory.decision

    def decision(self, track_id: int) -> Decision:
        """Return what is known about a track; never news."""
        return self._tracks[track_id].decision

    def reset(self, settings: DecisionSettings) -> None:
        """Ask everybody anew, because the gallery changed: whoever was removed is not recognised any more.

        Args:
            settings: from now on; with more people the threshold is a stricter one.
        """
        self.settings = settings
        for memory in self._tracks.values():
            self._forget(memory, "the gallery changed, not yet looked at again")

    def end(self, track_id: int) -> Decision:
        """Forget a track that ended and return what was known about it."""
        return self._tracks.pop(track_id).decision

    def _forget(self, memory: _Memory, reason: str) -> None:
        memory.looks.clear()
        memory.last_look_s = None
        memory.decision = replace(self._open_question(), why=reason)

    def _open_question(self) -> Decision:
        return _answer("pending", None, None, 0, 0, self.settings, "not looked at yet")


def _answer(
    state: State,
    identity: str | None,
    look: Comparison | None,
    votes: int,
    frames: int,
    settings: DecisionSettings,
    why: str | None,
) -> Decision:
    return Decision(
        state=state,
        identity=identity,
        score=look.best.score if look and look.best else None,
        threshold=settings.threshold,
        runner_up=look.runner_up.name if look and look.runner_up else None,
        margin=look.margin if look else None,
        votes=votes,
        frames=frames,
        why=why,
    )


def _score(look: Comparison) -> float:
    return look.best.score if look.best else -2.0


def _best(looks: Sequence[Comparison]) -> Comparison | None:
    return max(looks, key=_score, default=None)


def _median(looks: Sequence[Comparison]) -> Comparison:
    """Return a look, not a mean, so that its score, runner-up and margin belong together."""
    return sorted(looks, key=_score)[(len(looks) - 1) // 2]


def _why(ranking: list[tuple[str, int]], shown: Comparison | None, settings: DecisionSettings) -> str:
    if len(ranking) == 2:
        (first, first_votes), (second, second_votes) = ranking
        return f"ambiguous between {first} and {second}: {first_votes} and {second_votes} votes, need {settings.votes}"
    if ranking:
        return f"too few votes for {ranking[0][0]}: {ranking[0][1]} of {settings.votes}"
    return (objection(shown, settings) if shown else None) or "not looked at yet"
