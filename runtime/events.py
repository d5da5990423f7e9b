"""What the loop says to the world: one JSON object a line, and the places where the lines go."""

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol

from edgeface.manifest import Kind
from edgeface.runtime.clock import steady_s
from edgeface.runtime.deciding.decision import Decision, Rule
from edgeface.runtime.deciding.quality import Quality
from edgeface.runtime.deciding.tracker import Track
from edgeface.schema_files import SCHEMA_VERSION

logger = logging.getLogger(__name__)

EventName = Literal[
    "match",
    "unknown",
    "rejected",
    "challenge",
    "no_face",
    "lost",
    "camera_lost",
    "camera_back",
    "camera_warning",
    "error",
]

_DIGITS: Final = 6
_HALVES: Final = re.compile("[\ud800-\udfff]")  # of characters; no text of any encoding may hold one
_CATCH_UP_S: Final = 1.0  # between two tries to write what could not be written


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as it is written. Fields that do not apply are None.

    Attributes:
        time: UTC.
        event: what happened. `match`, `unknown`, `rejected`: a track has a new answer; `lost`: a track ended, with its
            last answer; `challenge`: somebody is asked to do what `why` says; `no_face`: nobody is in view any more;
            `camera_lost`, `camera_back`, `camera_warning`: see `why`. Delivered too late, a
            `match` is a `late_match`; see `edgeface.runtime.sinks.late`.
        frame: index of the frame.
        track: id of the track.
        box: where its face was last seen: x, y, width, height in pixels of the frame.
        identity: who it is.
        score: that stands for the answer; `scoring` says whether it is a cosine or a normalised score.
        threshold: that it was held against; with the rule `llr` one look speaks for somebody from there on, no more.
        runner_up: the nearest other person.
        margin: by how much that one is farther.
        votes: looks that agreed.
        frames: looks that were taken into account.
        rule: what made the answer: `votes` were held against `votes_needed`, and with `llr` also `evidence` against
            `evidence_needed`, natural logarithms.
        quality: of the face as it was last measured.
        liveness: how live the face is, in [0, 1]; None where that was not checked.
        latency_ms: time by stage from the arrival of the frame to this event, and their `total`; `read` is the wait
            for the frame and not part of it.
        why: nobody was recognised, or something failed.
        snapshot: file name of the picture of this moment, in the folder for snapshots.
        valid_until: UTC; who acts on the event later acts on somebody who may have left. None is for ever.
        until_s: the same moment by `edgeface.runtime.clock.steady_s`, which this process goes by, as the wall clock may
            be set at any time. It is not written.
        id: unlike that of any other event, so that who gets an event twice can tell.
    """

    time: datetime
    event: EventName
    frame: int | None = None
    track: int | None = None
    box: tuple[float, float, float, float] | None = None
    identity: str | None = None
    score: float | None = None
    threshold: float | None = None
    runner_up: str | None = None
    margin: float | None = None
    votes: int | None = None
    frames: int | None = None
    quality: Quality | None = None
    liveness: float | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    why: str | None = None
    snapshot: str | None = None
    scoring: Kind | None = None
    rule: Rule | None = None
    votes_needed: int | None = None
    evidence: float | None = None
    evidence_needed: float | None = None
    valid_until: datetime | None = None
    until_s: float | None = None
    id: str = field(default_factory=_new_id)

    def to_json(self) -> str:
        """Return one line without its end: JSON in ASCII, so that no terminal or log can garble a name."""
        values = {
            "schema": SCHEMA_VERSION,
            "id": self.id,
            "time": utc_text(self.time),
            "event": self.event,
            "valid_until": None if self.valid_until is None else utc_text(self.valid_until),
            "late": False,
            "frame": self.frame,
            "track": self.track,
            "box": None if self.box is None else [round(side, 1) for side in self.box],
            "identity": _whole(self.identity),
            "score": _rounded(self.score),
            "threshold": _rounded(self.threshold),
            "runner_up": _whole(self.runner_up),
            "margin": _rounded(self.margin),
            "votes": self.votes,
            "frames": self.frames,
            "quality": self.quality.to_json() if self.quality else None,
            "liveness": _rounded(self.liveness),
            "latency_ms": {stage: round(ms, 3) for stage, ms in self.latency_ms.items()},
            "why": _whole(self.why),
            "snapshot": self.snapshot,
            "scoring": self.scoring,
            "rule": self.rule,
            "votes_needed": self.votes_needed,
            "evidence": _rounded(self.evidence),
            "evidence_needed": _rounded(self.evidence_needed),
        }
        return json.dumps(values, allow_nan=False)


def utc_text(time: datetime) -> str:
    """Return a time as events have it, such as 2026-11-23T18:05:09.123Z."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def decision_event(
    name: EventName,
    decision: Decision,
    *,
    time: datetime,
    frame: int | None,
    track: Track,
    quality: Quality | None,
    latency_ms: Mapping[str, float],
    snapshot: str | None = None,
    liveness: float | None = None,
    left_s: float | None = None,
    reduction: int = 1,
) -> Event:
    """Return the event for what is known about a track.

    `left_s` is for how long from now on it may be acted on, `reduction` that of the frame.
    """
    x, y, width, height = (float(side) * reduction for side in track.box)
    return Event(
        time=time,
        event=name,
        frame=frame,
        track=track.id,
        box=(x, y, width, height),
        identity=decision.identity,
        score=decision.score,
        threshold=decision.threshold,
        runner_up=decision.runner_up,
        margin=decision.margin,
        votes=decision.votes,
        frames=decision.frames,
        quality=quality if quality is None else replace(quality, size_px=quality.size_px * reduction),
        liveness=liveness,
        latency_ms=latency_ms,
        why=decision.why,
        snapshot=snapshot,
        scoring=decision.scoring,
        rule=decision.rule,
        votes_needed=decision.votes_needed,
        evidence=decision.evidence,
        evidence_needed=decision.evidence_needed,
        valid_until=None if left_s is None else time + timedelta(seconds=left_s),
        until_s=None if left_s is None else steady_s() + left_s,
    )


@dataclass(frozen=True, slots=True)
class SinkState:
    """How far a sink has come in this run.

    Attributes:
        name: what to call it; holds no credentials.
        sent: events that arrived where they should.
        waiting: events that are kept and will be tried again, some perhaps from an earlier run.
        refused: events that were answered with a no, such as an HTTP status 400 or a command that failed.
        lost: events that are nowhere any more.
        late: matches that could not be delivered while they held: they were delivered as late ones, or left out.
        error: what failed last, if what came after it has not worked yet.
    """

    name: str
    sent: int = 0
    waiting: int = 0
    refused: int = 0
    lost: int = 0
    error: str | None = None
    late: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the state for `json.dumps`."""
        return {
            "name": self.name,
            "sent": self.sent,
            "waiting": self.waiting,
            "refused": self.refused,
            "lost": self.lost,
            "late": self.late,
            "error": self.error,
        }


class EventSink(Protocol):
    """A place where events go."""

    def write(self, event: Event) -> None:
        """Take one event.

        Raises:
            BrokenPipeError: nobody listens any more, and that is why the run should end.
            OSError: this event could not be written and is not kept; the next one may be.
        """
        ...

    def catch_up(self) -> None:
        """Try again what could not be written and is kept. Cheap: it is called about once a second."""
        ...

    def state(self) -> SinkState:
        """Return how far it has come; also after `close`."""
        ...

    def close(self) -> None:
        """Free what is held open; may be called again."""
        ...


class ListSink:
    """Keeps the events in memory, for tests and notebooks."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        """What was written, the oldest first."""

    def write(self, event: Event) -> None:
        """Append the event."""
        self.events.append(event)

    def catch_up(self) -> None:
        """Nothing ever waits."""

    def state(self) -> SinkState:
        """Count the events."""
        return SinkState("memory", sent=len(self.events))

    def close(self) -> None:
        """Keep everything."""


class FanOut:
    """Hands each event to several sinks. One that fails is logged once and tried again: a disk may have room later.

    Args:
        sinks: in the order in which they are served.
        clock: seconds that never go back.
    """

    def __init__(self, sinks: Sequence[EventSink], clock: Callable[[], float] = time.monotonic) -> None:
        self._sinks = tuple(sinks)
        self._failures = [0] * len(self._sinks)
        self._errors: list[str | None] = [None] * len(self._sinks)
        self._clock = clock
        self._next_s = clock() + _CATCH_UP_S

    def write(self, event: Event) -> None:
        """Hand the event to all sinks, then raise BrokenPipeError if one of them said so."""
        broken: BrokenPipeError | None = None
        for row, sink in enumerate(self._sinks):
            try:
                sink.write(event)
                self._errors[row] = None
            except BrokenPipeError as error:
                broken = error
            except OSError as error:
                if not self._failures[row]:
                    logger.warning("event not written to %s: %s; trying with the next", sink.state().name, error)
                self._failures[row] += 1
                self._errors[row] = str(error)
        if broken is not None:
            raise broken

    def catch_up(self) -> None:
        """Let the sinks try again what they keep, about once a second however often it is called."""
        if self._clock() >= self._next_s:
            self._next_s = self._clock() + _CATCH_UP_S
            for sink in self._sinks:
                sink.catch_up()

    def states(self) -> tuple[SinkState, ...]:
        """Return how far each sink has come, with what it did not take as lost."""
        rows = zip(self._sinks, self._failures, self._errors, strict=True)
        states = ((sink.state(), failures, error) for sink, failures, error in rows)
        return tuple(replace(s, lost=s.lost + failures, error=s.error or error) for s, failures, error in states)

    def close(self) -> None:
        """Close all sinks."""
        for sink in self._sinks:
            sink.close()


def _whole(text: str | None) -> str | None:
    """Return text without halves of characters, which strict readers of JSON refuse with the whole line."""
    return None if text is None else _HALVES.sub("\ufffd", text)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
