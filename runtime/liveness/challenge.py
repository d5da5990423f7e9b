"""Asking a face to do what a photograph cannot: turn to a side, or come closer, in an order that nobody knows before.

A pure state machine: what is seen and the time come in as arguments, chance comes from a generator that is given.

It stops a printed photograph and a picture on a screen, unless they are bent or moved with skill. It does not stop a
video of somebody who turns as asked, a video that is made while the challenge runs, or a mask.
"""

import random
from dataclasses import dataclass, replace
from typing import Final, Literal

from edgeface.errors import ConfigError

Action = Literal["left", "right", "closer"]
ACTIONS: Final[tuple[Action, ...]] = ("left", "right", "closer")

INSTRUCTIONS: Final[dict[Action, str]] = {
    "left": "turn your head to your left",
    "right": "turn your head to your right",
    "closer": "come closer",
}
LOOK_AHEAD: Final = "look straight at the camera"

Outcome = Literal["running", "passed", "failed"]


@dataclass(frozen=True, slots=True)
class ChallengeSettings:
    """What is asked, and what counts as done.

    Attributes:
        steps: so many actions, each different from the one before.
        timeout_s: the time for each of them.
        min_turn_deg: a head counts as turned from this yaw on. Estimates from five landmarks are within 15 degrees.
        max_ahead_deg: and as straight up to this one; every action starts from there.
        closer: the face must become so many times as large.
        hold: observations in a row that must show it.
        max_gap_s: a face that was out of sight for longer starts again.

    Raises:
        ConfigError: a value is out of range.
    """

    steps: int = 2
    timeout_s: float = 6.0
    min_turn_deg: float = 25.0
    max_ahead_deg: float = 12.0
    closer: float = 1.35
    hold: int = 3
    max_gap_s: float = 0.5

    def __post_init__(self) -> None:
        if self.steps < 1 or self.hold < 1:
            raise ConfigError(f"a challenge has at least one step and one observation, got {self.steps}, {self.hold}")
        if not self.timeout_s > 0 or not self.max_gap_s > 0:
            raise ConfigError(f"times must be more than 0, got {self.timeout_s} and {self.max_gap_s} s")
        if not 0 < self.max_ahead_deg < self.min_turn_deg < 90:
            raise ConfigError(
                "a straight head is turned less than a turned one, both between 0 and 90 degrees, "
                f"got {self.max_ahead_deg} and {self.min_turn_deg}"
            )
        if not self.closer > 1:
            raise ConfigError(f"closer must be more than 1, got {self.closer}; use for example 1.35")


@dataclass(frozen=True, slots=True)
class Challenge:
    """How far one face has come.

    Attributes:
        actions: what is asked, in order.
        since_s: when the present action was asked for.
        seen_s: when the face was last seen.
        done: actions that were done.
        start_px: size of the face when it looked straight ahead; None before it did, for this action.
        held: observations in a row that showed the present action.
        outcome: whether it is over.
        why: it failed; empty otherwise.
    """

    actions: tuple[Action, ...]
    since_s: float
    seen_s: float
    done: int = 0
    start_px: float | None = None
    held: int = 0
    outcome: Outcome = "running"
    why: str = ""

    @property
    def instruction(self) -> str:
        """What the person should do now; empty when it is over."""
        if self.outcome != "running":
            return ""
        return LOOK_AHEAD if self.start_px is None else INSTRUCTIONS[self.actions[self.done]]


def begin(settings: ChallengeSettings, rng: random.Random, time_s: float) -> Challenge:
    """Return a new challenge in an order that `rng` draws; no action comes twice in a row."""
    actions: list[Action] = []
    for _ in range(settings.steps):
        actions.append(rng.choice([action for action in ACTIONS if action not in actions[-1:]]))
    return Challenge(tuple(actions), time_s, time_s)


def advance(
    challenge: Challenge, settings: ChallengeSettings, yaw_deg: float, size_px: float, time_s: float
) -> Challenge:
    """Take one observation of the face and return how far it is now.

    Args:
        challenge: before.
        settings: what counts.
        yaw_deg: as in `edgeface.runtime.deciding.quality.Quality`: positive if the nose points to larger x, which in a
            picture that is not mirrored is the person's own left.
        size_px: the shorter side of the box.
        time_s: of the frame.
    """
    if challenge.outcome != "running":
        return challenge
    if time_s < challenge.seen_s or time_s - challenge.seen_s > settings.max_gap_s:
        return _failed(challenge, time_s, "out of sight in between")
    if time_s - challenge.since_s > settings.timeout_s:
        what = challenge.instruction
        return _failed(challenge, time_s, f"did not {what} within {settings.timeout_s:g} s")
    challenge = replace(challenge, seen_s=time_s)
    if challenge.start_px is None:
        is_ahead = abs(yaw_deg) <= settings.max_ahead_deg
        return replace(challenge, start_px=size_px, held=0) if is_ahead else challenge
    action = challenge.actions[challenge.done]
    turned = "left" if yaw_deg >= settings.min_turn_deg else "right" if yaw_deg <= -settings.min_turn_deg else None
    if turned is not None and turned != action:
        return _failed(challenge, time_s, f"turned {turned} when asked to {INSTRUCTIONS[action]}")
    shows = size_px >= settings.closer * challenge.start_px if action == "closer" else turned == action
    if not shows:
        return replace(challenge, held=0)
    if challenge.held + 1 < settings.hold:
        return replace(challenge, held=challenge.held + 1)
    done = challenge.done + 1
    outcome: Outcome = "passed" if done == len(challenge.actions) else "running"
    return replace(challenge, done=done, since_s=time_s, start_px=None, held=0, outcome=outcome)


def _failed(challenge: Challenge, time_s: float, why: str) -> Challenge:
    return replace(challenge, seen_s=time_s, outcome="failed", why=why)
