"""Whether a recognised face is a living one: a challenge to the person, a network that looks for fakes, or both.

Off by default. Who is recognised but was not shown to be live is not a match.
"""

import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError
from edgeface.runtime.deciding.decision import Decision
from edgeface.runtime.deciding.quality import pose
from edgeface.runtime.deciding.tracker import Track
from edgeface.runtime.liveness.challenge import Challenge, ChallengeSettings, advance, begin

SCORE_EVERY_S: Final = 0.5
"""Once the network has had its frames it is asked so often."""
LOOK_EVERY_S: Final = 0.2
"""While somebody is being checked they are compared so often, so that nobody else can do it for them."""


class FakeFinder(Protocol):
    """Says how live a face looks; `edgeface.runtime.liveness.spoofing.SpoofDetector` is one."""

    @property
    def threshold(self) -> float:
        """A face is live from this probability on."""
        ...

    def live(self, image: npt.NDArray[np.uint8], box: npt.NDArray[np.floating]) -> float:
        """Return how probably the face in `box` (4,) of an (H, W, 3) uint8 RGB frame is live, in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class LivenessSettings:
    """What is asked of a recognised face.

    Attributes:
        challenge: what the person is asked to do; None asks nothing.
        attempts: so many challenges may fail before the face is rejected for as long as it is in view.
        pause_s: between a challenge that failed and the next.
        scores: the mean over so many frames of what the network says is held against its threshold.

    Raises:
        ConfigError: a value is out of range.
    """

    challenge: ChallengeSettings | None = field(default_factory=ChallengeSettings)
    attempts: int = 3
    pause_s: float = 2.0
    scores: int = 5

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.scores < 1:
            raise ConfigError(f"attempts and scores must be at least 1, got {self.attempts} and {self.scores}")
        if not self.pause_s >= 0:
            raise ConfigError(f"pause_s cannot be negative, got {self.pause_s}")


@dataclass(slots=True)
class _Check:
    """What is known of one track."""

    name: str
    """For whom it was recognised; another name starts again."""
    scores: deque[float]
    scored_s: float = 0.0
    challenge: Challenge | None = None
    failed: int = 0


class LivenessCheck:
    """Checks the recognised tracks of successive frames.

    Args:
        settings: what is asked.
        fakes: the network; None has none.
        rng: draws the order of the challenges; the system's by default, which nobody can foretell.

    Raises:
        ConfigError: there is neither a challenge nor a network.
    """

    def __init__(
        self, settings: LivenessSettings, fakes: FakeFinder | None = None, rng: random.Random | None = None
    ) -> None:
        if settings.challenge is None and fakes is None:
            raise ConfigError("liveness needs a challenge, an anti-spoofing network, or both")
        self.settings = settings
        self._fakes = fakes
        self._rng = rng or random.SystemRandom()
        self._checks: dict[int, _Check] = {}
        self._news: list[int] = []

    def observe(
        self,
        track: Track,
        name: str | None,
        landmarks: npt.NDArray[np.floating],
        image: npt.NDArray[np.uint8],
        time_s: float,
    ) -> None:
        """Take notice of a face that is in view.

        Args:
            track: which; its box is looked at.
            name: for whom it is recognised; None if for nobody, then nothing is asked of it.
            landmarks: (5, 2) in pixels of the frame.
            image: (H, W, 3) uint8 RGB, the frame.
            time_s: of the frame.

        Raises:
            ImageError: as the network raises it.
        """
        if name is None:
            self._checks.pop(track.id, None)
            return
        check = self._checks.get(track.id)
        if check is None or check.name != name:
            check = self._checks[track.id] = _Check(name, deque(maxlen=self.settings.scores))
        is_due = len(check.scores) < self.settings.scores or abs(time_s - check.scored_s) >= SCORE_EVERY_S
        if self._fakes is not None and is_due:
            check.scores.append(self._fakes.live(image, track.box))
            check.scored_s = time_s
        if self.settings.challenge is not None:
            self._challenge(track, check, self.settings.challenge, landmarks, time_s)

    def is_checking(self, track_id: int) -> bool:
        """Tell whether a challenge to this track is under way."""
        check = self._checks.get(track_id)
        return check is not None and check.challenge is not None and check.challenge.outcome == "running"

    def gate(self, track_id: int, decision: Decision) -> Decision:
        """Let a match pass only if its face was shown to be live."""
        if decision.identity is None:
            return decision
        check = self._checks.get(track_id)
        if check is None or check.name != decision.identity:
            return replace(decision, state="pending", identity=None, why="liveness: not checked yet")
        if (reason := self._fake(check)) is not None:
            return replace(decision, state="rejected", identity=None, why=f"{check.name} is not live: {reason}")
        if self._fakes is not None and len(check.scores) < self.settings.scores:
            return replace(decision, state="pending", identity=None, why="liveness: too few frames so far")
        challenge = check.challenge
        if self.settings.challenge is None or (challenge is not None and challenge.outcome == "passed"):
            return decision
        if challenge is None or challenge.outcome == "running":
            what = "look at the camera" if challenge is None else challenge.instruction
            return replace(decision, state="pending", identity=None, why=f"liveness: {what}")
        return replace(decision, state="rejected", identity=None, why=f"{check.name} is not live: {challenge.why}")

    def value(self, track_id: int) -> float | None:
        """Return the mean of what the network says, or without one 1 for a challenge passed and 0 for one failed."""
        check = self._checks.get(track_id)
        if check is None:
            return None
        outcome = None if check.challenge is None else {"passed": 1.0, "failed": 0.0}.get(check.challenge.outcome)
        if not check.scores:
            return outcome
        score = sum(check.scores) / len(check.scores)
        return score if outcome is None else min(score, outcome)

    def drain(self) -> tuple[int, ...]:
        """Return the tracks that were asked for something new since the last call."""
        news, self._news = tuple(dict.fromkeys(self._news)), []
        return news

    def forget(self, track_id: int) -> None:
        """Forget a track that ended."""
        self._checks.pop(track_id, None)

    def _fake(self, check: _Check) -> str | None:
        """Return why the network takes a face for a fake; None if it does not, or there are too few frames so far."""
        if self._fakes is None or len(check.scores) < self.settings.scores:
            return None
        score = sum(check.scores) / len(check.scores)
        threshold = self._fakes.threshold
        return f"looks live by {score:.3f}, need {threshold:.3f}" if score < threshold else None

    def _challenge(
        self,
        track: Track,
        check: _Check,
        settings: ChallengeSettings,
        landmarks: npt.NDArray[np.floating],
        time_s: float,
    ) -> None:
        before = check.challenge
        if before is not None and track.gap_frames and track.gap_s > settings.max_gap_s:
            before = None  # passed or not: it may be somebody else
        if before is not None and before.outcome == "failed":
            has_waited = abs(time_s - before.seen_s) >= self.settings.pause_s
            if check.failed >= self.settings.attempts or not has_waited:
                return
            before = None
        now = before if before is not None else begin(settings, self._rng, time_s)
        size_px = float(min(track.box[2], track.box[3]))
        now = advance(now, settings, pose(landmarks)[0], size_px, time_s)
        check.failed += now.outcome == "failed"
        if now.instruction and (before is None or now.instruction != before.instruction):
            self._news.append(track.id)
        check.challenge = now
