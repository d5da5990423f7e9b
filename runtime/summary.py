"""What a run did, as its last line says it."""

from dataclasses import dataclass
from typing import Any, Literal

from edgeface.errors import EdgefaceError
from edgeface.runtime.deciding.limits import OperatingThreshold
from edgeface.runtime.events import SinkState
from edgeface.runtime.timing import Percentiles
from edgeface.schema_files import SCHEMA_VERSION

Ended = Literal["end of source", "max_frames", "stopped", "window closed", "reader gone", "error"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes:
        ended: why it ended.
        error: what ended it, to be raised after the summary was printed; None unless `ended` is `error`.
        frames: frames that were read.
        seconds: from the first read to the end.
        faces: faces found, summed over the frames.
        embedded: faces embedded, likewise; fewer, as who is recognised is looked at only now and then.
        tracks: faces followed over time.
        decisions: how often `match`, `unknown` and `rejected` were told.
        failures: frames that could not be processed.
        sinks: how far each sink of events has come.
        camera_losses: how often the source was lost.
        skipped_frames: damaged frames that were left out.
        threshold: score that faces were held against at the end.
        fmr: false match rate of one comparison at that threshold, if known.
        stage_ms: percentiles by stage, over the frames in which the stage ran. `read` is the wait for a frame and not
            part of `total`.
        limit: how that threshold came about from the size of the gallery; None if it was fixed.
    """

    ended: Ended
    error: EdgefaceError | None
    frames: int
    seconds: float
    faces: int
    embedded: int
    tracks: int
    decisions: dict[str, int]
    failures: int
    sinks: tuple[SinkState, ...]
    threshold: float
    fmr: float | None
    stage_ms: dict[str, Percentiles]
    limit: OperatingThreshold | None = None
    camera_losses: int = 0
    skipped_frames: int = 0

    @property
    def fps(self) -> float:
        """Frames a second over the whole run."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    @property
    def lost_events(self) -> int:
        """Events that some sink neither wrote nor keeps."""
        return sum(sink.lost for sink in self.sinks)

    def to_json(self) -> dict[str, Any]:
        """Return the last line of a run's events, for `json.dumps`."""
        return {
            "schema": SCHEMA_VERSION,
            "event": "summary",
            "ended": self.ended,
            "error": None if self.error is None else str(self.error),
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "faces": self.faces,
            "embedded": self.embedded,
            "tracks": self.tracks,
            "decisions": self.decisions,
            "failures": self.failures,
            "lost_events": self.lost_events,
            "sinks": [sink.to_json() for sink in self.sinks],
            "camera_losses": self.camera_losses,
            "skipped_frames": self.skipped_frames,
            "threshold": round(self.threshold, 6),
            "fmr": self.fmr,
            "fpir": None if self.limit is None else self.limit.fpir,
            "templates": None if self.limit is None else self.limit.templates,
            "threshold_note": None if self.limit is None else self.limit.note,
            "stage_ms": {stage: values.to_json() for stage, values in self.stage_ms.items()},
        }
