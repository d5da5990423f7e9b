"""The camera loop: read, recognise, tell, draw, until the source ends or somebody stops it."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from edgeface.errors import ConfigError, EdgefaceError, GalleryError, SourceError
from edgeface.runtime.cameras.frames import Frame, FrameSource
from edgeface.runtime.cameras.redaction import printable
from edgeface.runtime.clock import steady_s
from edgeface.runtime.deciding.attention import AttentionSettings
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.gate import OPEN, Gate
from edgeface.runtime.deciding.tracker import Track, TrackerSettings
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.detection.detector import Detector
from edgeface.runtime.events import Event, EventName, EventSink, FanOut, decision_event
from edgeface.runtime.liveness.liveness import LivenessCheck
from edgeface.runtime.pipeline import FaceEmbedder, FramePipeline, Limit, Templates
from edgeface.runtime.showing.draw import FaceView
from edgeface.runtime.showing.pictures import Pictures, Recorder, Screen
from edgeface.runtime.showing.snapshots import Snapshots
from edgeface.runtime.summary import Ended, Summary
from edgeface.runtime.timing import Laps, StageTimes
from edgeface.scoring import COSINE, Scoring

__all__ = ["RunSettings", "Summary", "run"]

logger = logging.getLogger(__name__)


_MAX_WHY: Final = 300  # characters
_LONGEST_AGE_S: Final = 86_400.0  # no door should open for somebody who came a day ago
_IDLE_S: Final = 0.1  # without a frame: how often `stop`, the gallery, the window and old tracks are looked after


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run works.

    Attributes:
        decision: when somebody counts as recognised.
        gate: which faces are good enough to be embedded; the smallest face is here.
        tracker: when two boxes are the same face.
        attention: how many faces of a frame are looked at.
        max_frames: stop after so many; None goes on to the end of the source.
        stills: the frames are unrelated pictures, as from a folder: each face is a track of its own and is decided by
            the one look that there is.
        max_failures: give up after so many frames in a row that could not be processed.
        max_age_s: for how long a match holds, from the arrival of its frame on; None is for ever.

    Raises:
        ConfigError: a value is out of range.
    """

    decision: DecisionSettings
    gate: Gate = OPEN
    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    attention: AttentionSettings = field(default_factory=AttentionSettings)
    max_frames: int | None = None
    stills: bool = False
    max_failures: int = 30
    max_age_s: float | None = 5.0

    def __post_init__(self) -> None:
        if self.max_frames is not None and self.max_frames < 1:
            raise ConfigError(f"max_frames must be at least 1, got {self.max_frames}")
        if self.max_failures < 1:
            raise ConfigError(f"max_failures must be at least 1, got {self.max_failures}; use for example 30")
        if self.max_age_s is not None and not 0 < self.max_age_s <= _LONGEST_AGE_S:
            raise ConfigError(f"max_age_s must be above 0 and at most {_LONGEST_AGE_S:g}, got {self.max_age_s}")


def run(
    source: FrameSource,
    detector: Detector,
    embedder: FaceEmbedder,
    gallery: Templates,
    settings: RunSettings,
    sinks: Sequence[EventSink],
    *,
    limit: Limit | None = None,
    recorder: Callable[[tuple[int, int]], Recorder] | None = None,
    window: Screen | None = None,
    snapshots: Snapshots | None = None,
    note: str = "",
    stop: threading.Event | None = None,
    liveness: LivenessCheck | None = None,
    scoring: Scoring = COSINE,
    clock: Callable[[], float] = time.monotonic,
) -> Summary:
    """Run until the source ends or something else does; see `Ended`.

    A live source that is away and will be opened again is waited for: meanwhile tracks end, changes of the gallery
    are taken up, and `stop` and the window are obeyed within 0.2 s.

    What goes wrong while it runs is not raised but told in an event and returned in the summary. Recorder and window
    are closed; source, gallery, sinks and snapshots belong to the caller.

    Args:
        source: gives the frames; they are only read.
        detector: finds the faces.
        embedder: embeds them, all that need it in a frame at once.
        gallery: who is known. Changes by another process count from the next frame on.
        settings: how the run works.
        sinks: where events go.
        limit: says which threshold the gallery needs as it is, instead of the one in `settings`.
        recorder: opens a recorder for pictures of (width, height); called with the size of the first frame.
        window: shows the pictures.
        snapshots: keeps pictures of decisions.
        note: what runs, for the pictures; the number of people is added.
        stop: ends the run when it is set, after the frame in work.
        liveness: whether those who are recognised are alive; None does not ask.
        scoring: how a face is compared with a template, as the threshold was measured.
        clock: seconds that never go back, for how long there was no frame.

    Raises:
        GalleryError: before the first frame: the gallery cannot be read, or there are people in it and nobody has the
            claimed name.
        BundleError: before the first frame: as `limit` raises it.
    """
    decision, attention = settings.decision, settings.attention
    if settings.stills:
        decision = replace(decision, votes=1, window=1, hold=1, cooldown_s=0.0)
        attention = replace(attention, max_looks=None)  # there is no later frame
    pipeline = FramePipeline(
        detector, embedder, gallery, decision, settings.gate, settings.tracker, limit, attention, liveness, scoring
    )

    def whole_note() -> str:
        count = len(pipeline.people)
        people = f"{count} person" if count == 1 else f"{count} people"
        return f"{people}  {note}" if note else people

    loop = _Loop(source, pipeline, settings, FanOut(sinks), Pictures(recorder, window, whole_note), snapshots, clock)
    return loop.run(stop or threading.Event())


class _Loop:
    """One run."""

    def __init__(
        self,
        source: FrameSource,
        pipeline: FramePipeline,
        settings: RunSettings,
        sinks: FanOut,
        pictures: Pictures,
        snapshots: Snapshots | None,
        clock: Callable[[], float],
    ) -> None:
        self.source = source
        self.pipeline = pipeline
        self.settings = settings
        self.sinks = sinks
        self.pictures = pictures
        self.snapshots = snapshots
        self.clock = clock
        self.times = StageTimes()
        self.decisions: Counter[str] = Counter()
        self.frames = 0
        self.failures = 0
        self.failures_in_a_row = 0
        self.last_failure: str | None = None
        self.saw_somebody: bool | None = None
        self.is_reading = False
        self.is_away = False
        self.camera_losses = 0
        self.last_index: int | None = None
        self.last_frame_s = clock()
        self.last_shape: tuple[int, ...] | None = None
        self.arrived_s = steady_s()
        self.last_reduction = 1

    def run(self, stop: threading.Event) -> Summary:
        ended: Ended = "error"
        error: EdgefaceError | None = None
        started_s = time.perf_counter()
        try:
            ended, error = self._run(stop)
        except BrokenPipeError:
            ended = "reader gone"
        finally:
            try:
                self.pictures.close()
            except EdgefaceError as raised:
                ended, error = "error", error or raised
        return Summary(
            ended=ended,
            error=error,
            frames=self.frames,
            seconds=time.perf_counter() - started_s,
            faces=self.pipeline.faces,
            embedded=self.pipeline.embedded,
            tracks=self.pipeline.tracks,
            decisions=dict(self.decisions),
            failures=self.failures,
            sinks=self.sinks.states(),
            threshold=self.pipeline.settings.threshold,
            fmr=self.pipeline.settings.fmr,
            limit=self.pipeline.limit,
            stage_ms=self.times.percentiles(),
            camera_losses=self.camera_losses,
            skipped_frames=self.source.skipped,
        )

    def _run(self, stop: threading.Event) -> tuple[Ended, EdgefaceError | None]:
        """Process all frames, then end the tracks, whatever the frames ended with."""
        try:
            ended, error = self._process_frames(stop), None
        except KeyboardInterrupt:  # where nobody turned Ctrl-C into `stop`
            ended, error = "stopped", None
        except EdgefaceError as raised:
            ended, error = "error", raised
            name: EventName = "error"
            if self.is_reading and self.source.live and not self.is_away:
                name = "camera_lost"
                self.camera_losses += 1
            self._tell(name, why=str(raised))
        self._end_tracks(None)
        return ended, error

    def _process_frames(self, stop: threading.Event) -> Ended:
        laps = Laps()
        while not stop.is_set():
            if self.frames == self.settings.max_frames:
                return "max_frames"
            self.is_reading = True
            is_ready = self.source.wait(_IDLE_S)
            self._tell_notices()
            if not is_ready:
                self.is_reading = False
                if not self._idle():
                    return "window closed"
                if self.is_away:
                    laps = Laps()  # or the time that a camera was away would count as that of reading a frame
                continue
            ended = self._process_frame(laps)
            if ended is not None:
                return ended
            laps = Laps()
        return "stopped"

    def _process_frame(self, laps: Laps) -> Ended | None:
        """Read and process the frame that is there; returns why the run ends, None if it goes on."""
        found = Detections.empty()
        tracks: tuple[Track, ...] = ()
        frame = None
        try:
            frame = self.source.read()
            self.is_reading = False
            if frame is None:
                return "end of source"
            self._take(frame)
            laps.mark("read")
            found, tracks = self.pipeline.process(frame, laps)
            self.failures_in_a_row, self.last_failure = 0, None
            if self.snapshots is not None:
                self.snapshots.see(frame.image, frame.index, frame.time_s, self._views(found, tracks))
        except (GalleryError, SourceError):
            raise
        except Exception as error:  # one bad frame must not close the door for good
            self._fail(error)
        self._tell_answers(laps)
        if frame is not None:
            self._tell_whether_empty(laps)
        self.sinks.catch_up()
        laps.mark("events")
        goes_on = frame is None or not self.pictures.wanted or self._draw(frame, found, tracks, laps)
        if self.settings.stills:
            self._end_tracks(laps)
        self.times.add(_latency_ms(laps))
        return None if goes_on else "window closed"

    def _take(self, frame: Frame) -> None:
        """Note that there is a frame. Where it has another size than the last one, no box of that means anything."""
        self.frames += 1
        self.last_index, self.last_frame_s, self.arrived_s = frame.index, self.clock(), steady_s()
        self.last_reduction = frame.reduction
        shape, self.last_shape = self.last_shape, frame.image.shape
        if shape not in (None, frame.image.shape) and not self.settings.stills:
            self._end_tracks(None)

    def _idle(self) -> bool:
        """Do what cannot wait for the next frame; False if the window was closed."""
        # A file that is slow to read stops its own time; before a camera time goes on.
        if self.source.live and self.clock() - self.last_frame_s > self.settings.tracker.max_missed_s:
            self._end_tracks(None)
        self.pipeline.take_up_changes()
        self.sinks.catch_up()
        return self.pictures.idle()

    def _tell_notices(self) -> None:
        for notice in self.source.notices():
            self._tell(notice.kind, why=notice.why)
            if notice.kind == "camera_lost":
                self.is_away = True
                self.camera_losses += 1
                self._end_tracks(None)  # who stands there when it is back may be somebody else
            elif notice.kind == "camera_back":
                self.is_away = False

    def _end_tracks(self, laps: Laps | None) -> None:
        self.pipeline.end()
        self._tell_answers(laps)

    def _tell_answers(self, laps: Laps | None) -> None:
        for answer in self.pipeline.drain():
            state = answer.decision.state
            name: EventName = "lost" if answer.is_last or state == "pending" else state
            if answer.is_request:
                name = "challenge"
            elif name != "lost":
                self.decisions[name] += 1
            now = datetime.now(UTC)
            snapshot = None
            if self.snapshots is not None and self.last_index is not None:
                snapshot = self.snapshots.take(name, self.last_index, answer.track.id, now)
            event = decision_event(
                name,
                answer.decision,
                time=now,
                frame=self.last_index,
                track=answer.track,
                quality=answer.quality,
                latency_ms=_latency_ms(laps),
                snapshot=snapshot,
                liveness=answer.liveness,
                left_s=self._left_s() if name == "match" else None,
                reduction=self.last_reduction,
            )
            self.sinks.write(event)

    def _left_s(self) -> float | None:
        """Return for how long a match holds from now on."""
        age_s, longest_s = steady_s() - self.arrived_s, self.settings.max_age_s
        return None if longest_s is None else max(0.0, longest_s - age_s)

    def _tell_whether_empty(self, laps: Laps) -> None:
        somebody = self.pipeline.sees_somebody
        if not somebody and (self.saw_somebody is not False or self.settings.stills):
            self._tell("no_face", laps)
        self.saw_somebody = somebody

    def _tell(self, name: EventName, laps: Laps | None = None, why: str | None = None) -> None:
        self.sinks.write(Event(datetime.now(UTC), name, self.last_index, latency_ms=_latency_ms(laps), why=why))

    def _fail(self, error: Exception) -> None:
        """Tell of a frame that could not be processed, once for the same error in a row, and give up after many."""
        self.failures += 1
        self.failures_in_a_row += 1
        text = str(error) if isinstance(error, EdgefaceError) else f"{type(error).__name__}: {error}"
        why = printable(" ".join(text.split()))[:_MAX_WHY]
        if why != self.last_failure:
            logger.warning("frame not processed: %s", why, exc_info=not isinstance(error, EdgefaceError))
            self._tell("error", why=why)
        self.last_failure = why
        if self.failures_in_a_row >= self.settings.max_failures:
            raise EdgefaceError(
                f"the last {self.failures_in_a_row} frames could not be processed: {why}; "
                "check the source and the bundle"
            ) from error

    def _draw(self, frame: Frame, found: Detections, tracks: tuple[Track, ...], laps: Laps) -> bool:
        return self.pictures.show(frame.image, self._views(found, tracks), laps)

    def _views(self, found: Detections, tracks: tuple[Track, ...]) -> list[FaceView]:
        return [
            FaceView(track.id, found.boxes[row], found.landmarks[row], self.pipeline.decision(track.id))
            for row, track in enumerate(tracks)
        ]


def _latency_ms(laps: Laps | None) -> dict[str, float]:
    return {**laps.ms, "total": laps.total_ms} if laps else {}
