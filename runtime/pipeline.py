"""One frame in, answers out: everything between the picture and the decision, without sinks or windows."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeface.errors import GalleryError, ImageError
from edgeface.faces import align
from edgeface.operating_points import false_positive_rate
from edgeface.runtime.comparison import Comparison, People
from edgeface.runtime.decision import Decision, DecisionSettings, Judge
from edgeface.runtime.detections import Detections
from edgeface.runtime.detector import Detector
from edgeface.runtime.frames import Frame
from edgeface.runtime.limits import OperatingThreshold
from edgeface.runtime.quality import Quality, QualitySettings, measure, problem, too_small
from edgeface.runtime.timing import Laps
from edgeface.runtime.tracker import Track, Tracker, TrackerSettings

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
Limit = Callable[[], OperatingThreshold]
"""Says which threshold a gallery needs as it is at the moment of the call; see `Limits.search`."""

_WORTH_A_WARNING = 0.01


class FaceEmbedder(Protocol):
    """Turns aligned faces into embeddings."""

    def embed(self, faces: Image) -> npt.NDArray[np.float32]:
        """Return (N, D) float32 of unit length for (N, 112, 112, 3) uint8 RGB, N at least 1."""
        ...


class Templates(Protocol):
    """Where the people come from; `edgeface.runtime.gallery.Gallery` is one."""

    def templates(self) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        """Return T names, one a template, and the (T, D) float32 matrix with rows of unit length."""
        ...

    def changed(self) -> bool:
        """Tell, cheaply, whether there was a change since `templates` was last called."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Something new about a track: another decision, or its end with the last one.

    Attributes:
        track: which.
        decision: what is known.
        quality: of the face as it was last measured; None if it never was.
        is_last: the track has ended.
    """

    track: Track
    decision: Decision
    quality: Quality | None
    is_last: bool


class FramePipeline:
    """Follows the faces of successive frames and says who they are.

    Args:
        detector: finds the faces.
        embedder: embeds them, all that need it in a frame at once.
        gallery: who is known.
        decision: when somebody counts as recognised.
        quality: what a face needs to be embedded.
        tracker: when two boxes are the same face.
        limit: says which threshold the gallery needs as it is now, instead of that in `decision`; asked again whenever
            the gallery changes.

    Raises:
        GalleryError: the gallery cannot be read, or nobody in it has the claimed name.
        BundleError: as `limit` raises it.
    """

    def __init__(
        self,
        detector: Detector,
        embedder: FaceEmbedder,
        gallery: Templates,
        decision: DecisionSettings,
        quality: QualitySettings | None = None,
        tracker: TrackerSettings | None = None,
        limit: Limit | None = None,
    ) -> None:
        self.faces = 0
        """Faces found so far, summed over the frames."""
        self.embedded = 0
        """Faces embedded so far."""
        self.tracks = 0
        """Tracks begun so far."""
        self._detector = detector
        self._embedder = embedder
        self._gallery = gallery
        self._quality = quality or QualitySettings()
        self._claim = decision.claim
        self._tracker = Tracker(tracker)
        self._limit = limit
        self.limit: OperatingThreshold | None = None
        """What `limit` last said."""
        self._qualities: dict[int, Quality] = {}
        self._answers: list[Answer] = []
        self._is_outdated = False
        self._people = People(*gallery.templates())
        if self._claim is not None and self._claim not in self._people.names:
            known = ", ".join(self._people.names[:10]) or "nobody"
            raise GalleryError(f"nobody called {self._claim!r} is in the gallery to be claimed; it has: {known}")
        self._judge = Judge(self._limited(decision))
        if self.limit is None:
            self._warn_of_false_matches(decision)

    @property
    def settings(self) -> DecisionSettings:
        """What answers are decided by now."""
        return self._judge.settings

    @property
    def sees_somebody(self) -> bool:
        """Whether a face is in view, or was until a moment ago."""
        return bool(self._tracker.tracks)

    def process(self, frame: Frame, laps: Laps) -> tuple[Detections, tuple[Track, ...]]:
        """Take the next frame.

        Args:
            frame: with an (H, W, 3) uint8 RGB picture.
            laps: gets the time of the stages `detect`, `track`, `align`, `embed`, `match` and `decide`.

        Returns:
            The faces of the frame, and the track of each. What is new is fetched with `drain`, also after an error.

        Raises:
            GalleryError: the gallery cannot be read any more.
            Exception: whatever detector or embedder raise. The next frame may be tried.
        """
        found = Detections.empty()
        try:
            found = self._detector.detect(frame.image)
        finally:  # a frame that fails is a frame without faces to those that are followed
            laps.mark("detect")
            tracks = self._follow(found, frame.time_s)
        wanted = [row for row, track in enumerate(tracks) if self._judge.wants_embedding(track.id, frame.time_s)]
        laps.mark("track")
        if wanted:
            self._look(frame, found, tracks, wanted, laps)
        return found, tracks

    def take_up_changes(self) -> None:
        """Take up what changed in the gallery, as `process` does; for when there is no frame.

        Raises:
            GalleryError: the gallery cannot be read any more.
        """
        if self._is_outdated or self._gallery.changed():
            self._is_outdated = True  # until all of this has worked: neither the old people nor the old threshold hold
            people = People(*self._gallery.templates())
            self._judge.reset(self._limited(self._judge.settings))
            self._people, self._is_outdated = people, False
            logger.info("the gallery changed: %d people", len(self._people.names))

    def decision(self, track_id: int) -> Decision:
        """Return what is known about a track that has not ended."""
        return self._judge.decision(track_id)

    def drain(self) -> tuple[Answer, ...]:
        """Return what is new since the last call, in order."""
        answers, self._answers = tuple(self._answers), []
        return answers

    def end(self) -> None:
        """End all tracks; their last answers wait for `drain`."""
        for track in self._tracker.end():
            self._lose(track)

    def _follow(self, found: Detections, time_s: float) -> tuple[Track, ...]:
        self.take_up_changes()
        tracked = self._tracker.update(found.boxes, time_s)
        for track in tracked.lost:
            self._lose(track)
        for track in tracked.seen:
            self._judge.see(track)
        self.faces += len(found)
        self.tracks += sum(track.hits == 1 for track in tracked.seen)
        return tracked.seen

    def _look(
        self, frame: Frame, found: Detections, tracks: Sequence[Track], wanted: Sequence[int], laps: Laps
    ) -> None:
        """Align, check, embed, compare and decide for the rows in `wanted`."""
        crops: list[Image] = []
        rows: list[int] = []
        for row in wanted:
            crop, reason = self._crop(frame.image, found, row, tracks[row].id)
            if crop is None:
                self._judge.refuse(tracks[row].id, reason, frame.time_s)
            else:
                crops.append(crop)
                rows.append(row)
        laps.mark("align")
        if not crops:
            return
        embeddings = self._embedder.embed(np.stack(crops))
        self.embedded += len(crops)
        laps.mark("embed")
        comparisons = self._people.compare(embeddings, self._claim)
        laps.mark("match")
        for row, comparison in zip(rows, comparisons, strict=True):
            self._decide(tracks[row], comparison, frame.time_s)
        laps.mark("decide")

    def _crop(self, image: Image, found: Detections, row: int, track_id: int) -> tuple[Image | None, str]:
        """Return the aligned face if it is worth embedding, else the reason."""
        box, landmarks = found.boxes[row], found.landmarks[row]
        if reason := too_small(box, self._quality):
            return None, reason
        try:
            crop = align(image, landmarks)
        except ImageError as error:
            return None, str(error)
        quality = self._qualities[track_id] = measure(crop, box, landmarks)
        reason = problem(quality, self._quality)
        return (None, reason) if reason else (crop, "")

    def _decide(self, track: Track, comparison: Comparison, time_s: float) -> None:
        decision = self._judge.look(track.id, comparison, time_s)
        if decision.is_news:
            self._answers.append(Answer(track, decision, self._qualities.get(track.id), is_last=False))

    def _lose(self, track: Track) -> None:
        quality = self._qualities.pop(track.id, None)
        self._answers.append(Answer(track, self._judge.end(track.id), quality, is_last=True))

    def _limited(self, decision: DecisionSettings) -> DecisionSettings:
        """Return the settings with the threshold that the gallery needs now, and say so if it falls short."""
        if self._limit is None:
            return decision
        before, self.limit = self.limit, self._limit()
        if self.limit.note is not None and (before is None or before.note is None):
            logger.warning("%s", self.limit.note)
        return replace(decision, threshold=self.limit.cosine, fmr=self.limit.fmr)

    def _warn_of_false_matches(self, decision: DecisionSettings) -> None:
        if decision.fmr is None or decision.claim is not None:
            return
        rate = false_positive_rate(decision.fmr, self._people.templates)
        if rate > _WORTH_A_WARNING:
            logger.warning(
                "at a false match rate of %g, one look at a stranger fits one of %d templates "
                "with a chance of %.1f %%; use the threshold of a lower rate, more votes or a margin",
                decision.fmr,
                self._people.templates,
                100 * rate,
            )
