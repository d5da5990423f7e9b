"""Events as they are written: by `edgeface run --json`, to a file, to a webhook, a broker and a command."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from edgeface.manifest import Kind
from edgeface.runtime.deciding.decision import Rule
from edgeface.runtime.events import EventName
from edgeface.runtime.summary import Ended

Version = Literal[1]
Share = Annotated[float, Field(ge=0, le=1)]
Time = Annotated[str, Field(pattern=r"^\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
"""UTC, ISO 8601 with milliseconds."""
Box = Annotated[list[float], Field(min_length=4, max_length=4)]
"""x, y, width, height in pixels of the frame."""


class Quality(TypedDict):
    """The face as it was last measured; see `edgeface.runtime.deciding.quality.Quality`."""

    size_px: float
    sharpness: float
    brightness: float
    yaw_deg: float
    roll_deg: float
    pitch_deg: float
    eyes_covered: float
    mouth_covered: float
    score: Share
    fitness: NotRequired[float]


class _Event(TypedDict):
    schema: Version
    id: str
    time: Time
    valid_until: Time | None
    frame: int | None
    track: int | None
    box: Box | None
    identity: str | None
    score: float | None
    threshold: float | None
    runner_up: str | None
    margin: float | None
    votes: int | None
    frames: int | None
    quality: Quality | None
    liveness: float | None
    latency_ms: dict[str, float]
    why: str | None
    snapshot: str | None
    scoring: Kind | None
    rule: Rule | None
    votes_needed: int | None
    evidence: float | None
    evidence_needed: float | None


class Event(_Event):
    """Something that happened. What does not apply is null."""

    event: EventName
    late: Literal[False]


class LateMatch(_Event):
    """A match that could not be delivered while it held: nothing may be opened for it."""

    event: Literal["late_match"]
    late: Literal[True]


class Sink(TypedDict):
    """How far an output has come."""

    name: str
    sent: int
    waiting: int
    refused: int
    lost: int
    late: int
    error: str | None


class Percentiles(TypedDict):
    """Milliseconds that 50, 95 and 99 of a hundred frames did not exceed."""

    p50: float
    p95: float
    p99: float


class Summary(TypedDict):
    """The last line of `edgeface run --json`."""

    schema: Version
    event: Literal["summary"]
    ended: Ended
    error: str | None
    frames: int
    seconds: float
    fps: float
    faces: int
    embedded: int
    tracks: int
    decisions: dict[str, int]
    failures: int
    lost_events: int
    sinks: list[Sink]
    camera_losses: int
    skipped_frames: int
    threshold: float
    fmr: float | None
    fpir: float | None
    templates: int | None
    threshold_note: str | None
    stage_ms: dict[str, Percentiles]


EVENTS: dict[str, Any] = {"event": Event | LateMatch, "run": Event | Summary}
"""`event` is what every sink gets; `run` is a line of `edgeface run --json`."""
