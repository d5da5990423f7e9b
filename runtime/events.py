"""What the loop says to the world: one JSON object a line, and the places where the lines go."""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Protocol, TextIO

from edgeface.errors import ConfigError
from edgeface.runtime.decision import Decision
from edgeface.runtime.quality import Quality
from edgeface.runtime.tracker import Track

logger = logging.getLogger(__name__)

EventName = Literal[
    "match", "unknown", "rejected", "no_face", "lost", "camera_lost", "camera_back", "camera_warning", "error"
]

_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as it is written. Fields that do not apply are None.

    Attributes:
        time: UTC.
        event: what happened. `match`, `unknown`, `rejected`: a track has a new answer; `lost`: a track ended, with its
            last answer; `no_face`: nobody is in view any more; `camera_lost`, `camera_back`, `camera_warning`: see
            `why`.
        frame: index of the frame.
        track: id of the track.
        box: where its face was last seen: x, y, width, height in pixels of the frame.
        identity: who it is.
        score: cosine that stands for the answer.
        threshold: cosine that it was held against.
        runner_up: the nearest other person.
        margin: by how much that one is farther.
        votes: looks that agreed.
        frames: looks that were taken into account.
        quality: of the face as it was last measured.
        liveness: always None so far.
        latency_ms: time by stage from the arrival of the frame to this event, and their `total`; `read` is the wait
            for the frame and not part of it.
        why: nobody was recognised, or something failed.
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

    def to_json(self) -> str:
        """Return one line without its end: JSON in ASCII, so that no terminal or log can garble a name."""
        values = {
            "time": self.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": self.event,
            "frame": self.frame,
            "track": self.track,
            "box": None if self.box is None else [round(side, 1) for side in self.box],
            "identity": self.identity,
            "score": _rounded(self.score),
            "threshold": _rounded(self.threshold),
            "runner_up": self.runner_up,
            "margin": _rounded(self.margin),
            "votes": self.votes,
            "frames": self.frames,
            "quality": self.quality.to_json() if self.quality else None,
            "liveness": _rounded(self.liveness),
            "latency_ms": {stage: round(ms, 3) for stage, ms in self.latency_ms.items()},
            "why": self.why,
        }
        return json.dumps(values, allow_nan=False)


def decision_event(
    name: EventName,
    decision: Decision,
    *,
    time: datetime,
    frame: int | None,
    track: Track,
    quality: Quality | None,
    latency_ms: Mapping[str, float],
) -> Event:
    """Return the event for what is known about a track."""
    return Event(
        time=time,
        event=name,
        frame=frame,
        track=track.id,
        box=(float(track.box[0]), float(track.box[1]), float(track.box[2]), float(track.box[3])),
        identity=decision.identity,
        score=decision.score,
        threshold=decision.threshold,
        runner_up=decision.runner_up,
        margin=decision.margin,
        votes=decision.votes,
        frames=decision.frames,
        quality=quality,
        latency_ms=latency_ms,
        why=decision.why,
    )


class EventSink(Protocol):
    """A place where events go."""

    def write(self, event: Event) -> None:
        """Take one event.

        Raises:
            BrokenPipeError: nobody listens any more, and that is why the run should end.
            OSError: this event could not be written; the next one may be.
        """
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

    def close(self) -> None:
        """Keep everything."""


class LinesSink:
    """Writes lines to an open text stream, flushed one by one; standard output, as a rule.

    When the reader has gone (`| head`), the stream's descriptor is turned to the null device: what is printed later,
    and Python's own flush at the end, then go nowhere instead of failing.

    Args:
        stream: where lines go.
        render: turns an event into a line, or None to leave it out; JSON by default.
    """

    def __init__(self, stream: TextIO, render: Callable[[Event], str | None] = Event.to_json) -> None:
        self._stream = stream
        self._render = render

    def write(self, event: Event) -> None:
        """Write and flush one line; BrokenPipeError once the reader has gone or the stream is closed."""
        if self._stream.closed:
            raise BrokenPipeError("the stream for events is closed")
        try:
            line = self._render(event)
            if line is not None:
                self._stream.write(line + "\n")
                self._stream.flush()
        except BrokenPipeError:
            with contextlib.suppress(OSError):  # not every stream has a descriptor
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
            raise

    def close(self) -> None:
        """Leave the stream open: it belongs to the caller."""


class FileSink:
    """Appends lines to a file. Each is one write to the system, so a crash loses none that came before.

    Args:
        path: made if it does not exist, with its folders.

    Raises:
        ConfigError: the file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Names and times of people are nobody else's business.
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(f"events cannot be written to {path}: {error.strerror}; give another file") from error
        self.path = path
        self._is_torn = False
        self._is_open = True

    def write(self, event: Event) -> None:
        """Append one line. After a write that stopped half way, the next one starts a new line.

        Raises:
            OSError: the disk is full or failing, or the sink is closed.
        """
        if not self._is_open:
            raise OSError(f"{self.path} is closed")
        line = ("\n" if self._is_torn else "") + event.to_json() + "\n"
        data = line.encode()
        written = os.write(self._descriptor, data)
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError(f"only {written} of {len(data)} bytes could be written; the disk may be full")

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)


class FanOut:
    """Hands each event to several sinks. One that fails is logged once and tried again: a disk may have room later."""

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self._sinks = tuple(sinks)
        self._failures = [0] * len(self._sinks)

    @property
    def failures(self) -> int:
        """Events that some sink did not take."""
        return sum(self._failures)

    def write(self, event: Event) -> None:
        """Hand the event to all sinks, then raise BrokenPipeError if one of them said so."""
        broken: BrokenPipeError | None = None
        for row, sink in enumerate(self._sinks):
            try:
                sink.write(event)
            except BrokenPipeError as error:
                broken = error
            except OSError as error:
                if not self._failures[row]:
                    place = getattr(sink, "path", type(sink).__name__)
                    logger.warning("event not written to %s: %s; trying again with the next", place, error)
                self._failures[row] += 1
        if broken is not None:
            raise broken

    def close(self) -> None:
        """Close all sinks."""
        for sink in self._sinks:
            sink.close()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
