"""What an enrolment still needs, and what is wrong with the face in view.

Decisions only: times, measurements and embeddings come in as arguments. `edgeface.runtime.enrolling.enrolment` brings
them from a camera, and shows what is said here.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError
from edgeface.runtime.deciding.quality import ENROLMENT_QUALITY, Quality, QualitySettings, problem
from edgeface.scoring import COSINE, Scoring

Angle = Literal["frontal", "left", "right", "up", "down"]
ANGLES: Final[tuple[Angle, ...]] = ("frontal", "left", "right", "up", "down")
"""In the order in which they are asked for; left and right are the person's own."""

REDUNDANT_COSINE: Final = 0.95
"""Templates at least this near say the same. With a MobileFaceNet, nine of ten faces in video frames 40 ms apart stay
below 0.95, and three of four that are half a second apart below 0.83."""

_NOSE_RATIO: Final = 0.54
"""Where the nose lies between eyes and mouth on a level face: 0.50 in the alignment template, 0.58 as the built-in
detector sees LFW. It depends on detector and face, so that up and down count from the first frontal picture."""

_PITCH_PER_RATIO: Final = 2.7
"""Tangent of the pitch for a change of that ratio: the face is 1.13 eye distances high, the nose 0.42 deep."""

_LOOSE_PITCH_DEG: Final = 25.0

_INSTRUCTIONS: Final[dict[Angle, str]] = {
    "frontal": "look straight into the camera",
    "left": "turn your head a little to your left",
    "right": "turn your head a little to your right",
    "up": "raise your chin a little",
    "down": "lower your chin a little",
}


@dataclass(frozen=True, slots=True)
class CoachSettings:
    """What an enrolment should have.

    Attributes:
        shots: pictures to take.
        angles: how many of `ANGLES` they should show, 1 to 5, in turns; 1 takes any.
        quality: what a face needs.
        interval_s: between two pictures, so that they differ.
        max_cosine: a picture that is nearer to one that was taken says nothing new.
        min_score: a picture whose score with all that were taken is lower shows somebody else; None asks for nothing.
        frontal_deg: a face turned by less is frontal.
        turned_deg: one turned by more shows a side.
        nodded_deg: one that looks up or down by more than the first frontal picture shows that.

    Raises:
        ConfigError: a value is out of range.
    """

    shots: int = 5
    angles: int = 5
    quality: QualitySettings = field(default_factory=lambda: ENROLMENT_QUALITY)
    interval_s: float = 0.5
    max_cosine: float = REDUNDANT_COSINE
    min_score: float | None = None
    frontal_deg: float = 12.0
    turned_deg: float = 18.0
    nodded_deg: float = 9.0

    def __post_init__(self) -> None:
        if self.shots < 1:
            raise ConfigError(f"an enrolment takes at least 1 picture, got {self.shots}; use for example 5")
        if not 1 <= self.angles <= len(ANGLES):
            raise ConfigError(f"there are 1 to {len(ANGLES)} angles, got {self.angles}; use 1 to take any")
        if not 0 < self.frontal_deg <= self.turned_deg or not self.nodded_deg > 0:
            raise ConfigError("a frontal face is turned less than one that shows a side; use for example 12 and 18")

    @property
    def wanted(self) -> Counter[Angle]:
        """How many pictures of each angle; empty if any will do."""
        if self.angles == 1:
            return Counter()
        return Counter(ANGLES[index % self.angles] for index in range(self.shots))


@dataclass(frozen=True, slots=True)
class View:
    """The one face in view: how good it is, and `pitch_deg`, see `pitch`."""

    quality: Quality
    pitch_deg: float


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do now.

    Attributes:
        taken: pictures so far.
        shots: pictures that are wanted.
        instruction: what the person should do next; empty when all were taken.
        fault: why the face in view is not taken; None if it is, or may be.
    """

    taken: int
    shots: int
    instruction: str
    fault: str | None = None

    def __str__(self) -> str:
        parts = [part for part in (self.instruction, self.fault and f"not taken, {self.fault}") if part]
        return f"{self.taken} of {self.shots}: " + ("; ".join(parts) or "done")


class Coach:
    """Looks at one face after the other, and says which to take.

    For each frame call `look`. If that finds no fault, embed the face and call `take`, which has the last word.

    Args:
        settings: what the enrolment should have.
        scoring: what `min_score` is a score of.
    """

    def __init__(self, settings: CoachSettings | None = None, scoring: Scoring = COSINE) -> None:
        self.settings = settings or CoachSettings()
        self._scoring = scoring
        self._left = self.settings.wanted
        self._embeddings: list[npt.NDArray[np.float32]] = []
        self._level_deg: float | None = None
        self._last_s = -math.inf

    @property
    def taken(self) -> int:
        """Pictures so far."""
        return len(self._embeddings)

    @property
    def done(self) -> bool:
        """Whether all were taken."""
        return self.taken >= self.settings.shots

    @property
    def missing(self) -> tuple[Angle, ...]:
        """Angles that are still wanted, the next one first; empty if any will do."""
        return tuple(angle for angle in ANGLES if self._left[angle] > 0)

    def look(self, now_s: float, faces: int, view: View | None = None) -> Advice:
        """Say what is wrong with the face in view, as far as can be told without its embedding.

        Args:
            now_s: time of the frame, in seconds.
            faces: how many there are.
            view: the only one.
        """
        if view is None or faces != 1:
            return self._advice("nobody is in view" if faces == 0 else f"{faces} faces are in view, come alone")
        fault = problem(view.quality, self.settings.quality)
        if fault is None and self.missing and self.angle(view) not in self._acceptable():
            fault = self._off(view)
        if fault is None and now_s - self._last_s < self.settings.interval_s:
            fault = "too soon after the last picture"
        return self._advice(fault)

    def take(self, now_s: float, view: View, embedding: npt.NDArray[np.float32]) -> Advice:
        """Take a face in which `look` found no fault, unless its embedding has one.

        Args:
            now_s: as in `look`.
            view: the face.
            embedding: (D,) float32 of unit length.
        """
        if self._embeddings:
            nearest = max(float(embedding @ taken) for taken in self._embeddings)
            if nearest >= self.settings.max_cosine:
                return self._advice(f"nearly the same as one before (cosine {nearest:.2f}), move a little")
            if self.settings.min_score is not None:
                taken = np.stack(self._embeddings)
                score = float(self._scoring.pairs(np.broadcast_to(embedding, taken.shape), taken).max())
                if score < self.settings.min_score:
                    word = self._scoring.word
                    return self._advice(f"does not look like the person in the pictures before ({word} {score:.2f})")
        angle = self.angle(view)
        if self._level_deg is None and angle == "frontal":
            self._level_deg = view.pitch_deg
        if angle is not None and self._left[angle] > 0:
            self._left[angle] -= 1
        self._embeddings.append(embedding)
        self._last_s = now_s
        return self._advice(None)

    def angle(self, view: View) -> Angle | None:
        """Say which angle a face shows; None for one in between."""
        settings = self.settings
        yaw_deg = view.quality.yaw_deg
        if yaw_deg >= settings.turned_deg:
            return "left"  # the nose points to larger x, which is the left of who looks at us
        if yaw_deg <= -settings.turned_deg:
            return "right"
        if self._level_deg is None:
            level = abs(view.pitch_deg) <= _LOOSE_PITCH_DEG
            return "frontal" if abs(yaw_deg) <= settings.frontal_deg and level else None
        nod_deg = view.pitch_deg - self._level_deg
        if abs(nod_deg) >= settings.nodded_deg:
            return "down" if nod_deg > 0 else "up"
        return "frontal" if abs(yaw_deg) <= settings.frontal_deg else None

    def _acceptable(self) -> tuple[Angle, ...]:
        """Return what may be taken now: the frontal face first, as up and down count from it; then in any order."""
        return ("frontal",) if self._level_deg is None else self.missing

    def _off(self, view: View) -> str:
        shown = self.angle(view)
        if shown is None:
            return f"in between: turned by about {abs(view.quality.yaw_deg):.0f}°"
        return f"there are enough that look {shown}" if self._level_deg is not None else f"that looks {shown}"

    def _advice(self, fault: str | None) -> Advice:
        instruction = ""
        if not self.done:
            instruction = _INSTRUCTIONS[self.missing[0]] if self.missing else "look at the camera, and move a little"
        return Advice(self.taken, self.settings.shots, instruction, fault)


class Teller:
    """Says a line when it changes, but not more often than people can read."""

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval_s = interval_s
        self._last: tuple[float, str, int] | None = None

    def say(self, now_s: float, advice: Advice) -> str | None:
        """Return what to say at a time in seconds, or None; a picture that was taken is always told."""
        line = str(advice)
        if self._last is not None:
            then_s, before, taken = self._last
            if line == before or (now_s - then_s < self._interval_s and advice.taken == taken):
                return None
        self._last = (now_s, line, advice.taken)
        return line


def pitch(landmarks: npt.NDArray[np.floating]) -> float:
    """Return how far a face looks down, in degrees, estimated from (5, 2) landmarks; negative if it looks up.

    Where the nose lies between eyes and mouth differs between people and detectors by as much as 10 degrees; compare
    two pictures of one person.
    """
    points = np.asarray(landmarks, np.float64)
    across = points[1] - points[0]
    eyes = float(np.hypot(*across))
    if eyes == 0:
        return 0.0
    down = np.array([-across[1], across[0]]) / eyes
    middle = points[:2].mean(axis=0)
    height = float((points[3:].mean(axis=0) - middle) @ down)
    if height <= 0:
        return 0.0
    ratio = float((points[2] - middle) @ down) / height
    return math.degrees(math.atan(_PITCH_PER_RATIO * (ratio - _NOSE_RATIO)))


def redundant(embeddings: npt.NDArray[np.float32], limit: float = REDUNDANT_COSINE) -> int:
    """Return how many of (T, D) templates of one person could go, as another one that stays says the same."""
    kept: list[int] = []
    for row in range(len(embeddings)):
        if not kept or float((embeddings[kept] @ embeddings[row]).max()) < limit:
            kept.append(row)
    return len(embeddings) - len(kept)
