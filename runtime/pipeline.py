"""One frame in, answers out: everything between the picture and the decision, without sinks or windows."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeface.errors import GalleryError, ImageError
from edgeface.faces import align
from edgeface.operating_points import false_positive_rate
from edgeface.runtime.cameras.frames import Frame
from edgeface.runtime.deciding.answers import Answer, Shot
from edgeface.runtime.deciding.attention import Attention, AttentionSettings, promise
from edgeface.runtime.deciding.decision import Decision, DecisionSettings
from edgeface.runtime.deciding.gate import OPEN, Gate
from edgeface.runtime.deciding.judge import Judge
from edgeface.runtime.deciding.limits import OperatingThreshold
from edgeface.runtime.deciding.quality import Quality, fitness_of, too_small
from edgeface.runtime.deciding.tracker import Track, Tracker, TrackerSettings
from edgeface.runtime.detection.detections import Detections, DetectorSettings
from edgeface.runtime.detection.detector import Detector
from edgeface.runtime.gallery.comparison import People
from edgeface.runtime.liveness.liveness import LOOK_EVERY_S, LivenessCheck
from edgeface.runtime.timing import Laps
from edgeface.scoring import COSINE, Scoring

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
    """Where the people come from; `edgeface.runtime.gallery.gallery.Gallery` is one."""

    def templates(self, scoring: Scoring = COSINE) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        """Return T names, one a template, and the (T, D + `extra`) float32 matrix that `scoring.templates` makes."""
        ...

    def changed(self) -> bool:
        """Tell, cheaply, whether there was a change since `templates` was last called."""
        ...


class FramePipeline:
    """Follows the faces of successive frames and says who they are.

    Args:
        detector: finds the faces.
        embedder: embeds them, all that need it in a frame at once.
        gallery: who is known.
        decision: when somebody counts as recognised.
        gate: says which faces are good enough to be embedded.
        tracker: when two boxes are the same face.
        limit: says which threshold the gallery needs as it is now, instead of that in `decision`; asked again whenever
            the gallery changes.
        attention: how many faces are looked at.
        liveness: whether those who are recognised are alive; None does not ask.
        scoring: how a face is compared with a template.

    Raises:
        GalleryError: the gallery cannot be read, or there are people in it and nobody has the claimed name.
        BundleError: as `limit` raises it.
    """

    def __init__(
        self,
        detector: Detector,
        embedder: FaceEmbedder,
        gallery: Templates,
        decision: DecisionSettings,
        gate: Gate | None = None,
        tracker: TrackerSettings | None = None,
        limit: Limit | None = None,
        attention: AttentionSettings | None = None,
        liveness: LivenessCheck | None = None,
        scoring: Scoring = COSINE,
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
        self._claim = decision.claim
        self._tracker = Tracker(tracker)
        self._attention = Attention(attention or AttentionSettings())
        self._liveness = liveness
        self._gate = gate or OPEN
        settings = getattr(detector, "settings", None)
        self._sure_score = settings.min_score if isinstance(settings, DetectorSettings) else 0.0
        self._limit = limit
        self.limit: OperatingThreshold | None = None
        """What `limit` last said."""
        self._qualities: dict[int, Quality] = {}
        self._shots: dict[int, Shot] = {}
        self._answers: list[Answer] = []
        self._is_outdated = False
        self._scoring = scoring
        self._people = self._load()
        # Before anybody is enrolled, whoever is claimed may still come; among others, it is a slip.
        if self._claim is not None and self._people.names and self._claim not in self._people.names:
            known = ", ".join(self._people.names[:10])
            raise GalleryError(
                f"nobody called {self._claim!r} is in the gallery to be claimed, it has: {known}; "
                f"enrol {self._claim!r}, or claim one of these"
            )
        self._judge = Judge(
            self._limited(replace(decision, scoring=scoring.kind)), None if liveness is None else liveness.gate
        )
        if self.limit is None:
            self._warn_of_false_matches(decision)

    @property
    def settings(self) -> DecisionSettings:
        """What answers are decided by now."""
        return self._judge.settings

    @property
    def people(self) -> tuple[str, ...]:
        """Who is known by now."""
        return self._people.names

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
            The faces of the frame, and the track of each; without boxes that the detector was not sure of and that no
            track needed. What is new is fetched with `drain`, also after an error.

        Raises:
            GalleryError: the gallery cannot be read any more.
            Exception: whatever detector or embedder raise. The next frame may be tried.
        """
        found = Detections.empty()
        try:
            found = self._detector.detect(frame.image)
        finally:  # a frame that fails is a frame without faces to those that are followed
            laps.mark("detect")
            found, tracks = self._follow(found, frame.time_s)
        self._tell(self._judge.settle(frame.time_s), tracks)
        wanted = self._wanted(found, tracks, frame.time_s)
        laps.mark("track")
        if wanted:
            self._look(frame, found, tracks, wanted, laps)
        if self._liveness is not None:
            self._check_liveness(self._liveness, frame, found, tracks)
            laps.mark("liveness")
        return found, tracks

    def take_up_changes(self) -> None:
        """Take up what changed in the gallery, as `process` does; for when there is no frame.

        Raises:
            GalleryError: the gallery cannot be read any more.
        """
        if self._is_outdated or self._gallery.changed():
            self._is_outdated = True  # until all of this has worked: neither the old people nor the old threshold hold
            people = self._load()
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

    def _load(self) -> People:
        names, matrix = self._gallery.templates(self._scoring)
        return People(names, matrix, scoring=self._scoring)

    def _follow(self, found: Detections, time_s: float) -> tuple[Detections, tuple[Track, ...]]:
        self.take_up_changes()
        tracked = self._tracker.update(found.boxes, time_s, found.scores >= self._sure_score)
        if len(tracked.rows) < len(found):
            found = found.select(np.array(tracked.rows, np.intp))
        for track in tracked.lost:
            self._lose(track)
        for track in tracked.seen:
            self._judge.see(track)
        self.faces += len(found)
        self.tracks += sum(track.hits == 1 for track in tracked.seen)
        return found, tracked.seen

    def _wanted(self, found: Detections, tracks: Sequence[Track], time_s: float) -> list[int]:
        """Return the rows of the faces that are to be looked at in this frame."""
        rows: list[int] = []
        promises: list[float] = []
        for row, track in enumerate(tracks):
            if found.scores[row] < self._sure_score:
                continue
            value = promise(found.boxes[row], found.landmarks[row], float(found.scores[row]))
            is_checked = self._liveness is not None and self._liveness.is_checking(track.id)
            every_s = LOOK_EVERY_S if is_checked else None
            is_due = self._judge.wants_embedding(track.id, time_s, every_s)
            if not is_due and not self._attention.improved(track.id, value):
                continue
            if reason := too_small(found.boxes[row], self._gate.compare):
                self._judge.refuse(track.id, reason, time_s)
                continue
            rows.append(row)
            promises.append(value)
        return [rows[place] for place in self._attention.pick([tracks[row].id for row in rows], promises, time_s)]

    def _look(
        self, frame: Frame, found: Detections, tracks: Sequence[Track], wanted: Sequence[int], laps: Laps
    ) -> None:
        """Align, check, embed, compare and decide for the rows in `wanted`."""
        faces = dict(self._aligned(frame.image, found, wanted, tracks, frame.time_s))
        measured = self._gate.measure(list(faces.values()), found.boxes[list(faces)], found.landmarks[list(faces)])
        crops: list[Image] = []
        rows: list[int] = []
        for (row, crop), quality in zip(faces.items(), measured, strict=True):
            if self._is_fit(crop, quality, tracks[row].id, frame.time_s):
                crops.append(crop)
                rows.append(row)
        laps.mark("align")
        if not crops:
            return
        embeddings = self._embedder.embed(np.stack(crops))
        self.embedded += len(crops)
        laps.mark("embed")
        fitness = fitness_of(self._qualities[tracks[row].id] for row in rows)
        comparisons = self._people.compare(embeddings, self._claim, fitness)
        laps.mark("match")
        looks = {tracks[row].id: comparison for row, comparison in zip(rows, comparisons, strict=True)}
        self._tell(self._judge.look_at(looks, frame.time_s), tracks)
        laps.mark("decide")

    def _aligned(
        self, image: Image, found: Detections, wanted: Sequence[int], tracks: Sequence[Track], time_s: float
    ) -> Iterator[tuple[int, Image]]:
        """Yield the rows that can be aligned, each with its face."""
        for row in wanted:
            try:
                crop = align(image, found.landmarks[row])
            except ImageError as error:
                self._judge.refuse(tracks[row].id, str(error), time_s)
            else:
                yield row, crop

    def _is_fit(self, crop: Image, quality: Quality, track_id: int, time_s: float) -> bool:
        """Tell whether an aligned face is good enough to be embedded, and remember the best of its track."""
        self._qualities[track_id] = quality
        if reason := self._gate.refuses(quality):
            self._judge.refuse(track_id, reason, time_s)
            return False
        best = self._shots.get(track_id)
        if best is None or quality.score > best.quality.score:
            self._shots[track_id] = Shot(quality, crop)
        return True

    def _check_liveness(
        self, liveness: LivenessCheck, frame: Frame, found: Detections, tracks: Sequence[Track]
    ) -> None:
        """Let the recognised faces be checked, decide anew, and ask for what is to be done."""
        for row, track in enumerate(tracks):
            name = self._judge.candidate(track.id)
            liveness.observe(track, name, found.landmarks[row], frame.image, frame.time_s)
        self._tell(self._judge.settle(frame.time_s), tracks)
        asked = {track_id: self._judge.decision(track_id) for track_id in liveness.drain()}
        self._tell(asked, tracks, is_request=True)

    def _tell(self, news: Mapping[int, Decision], tracks: Sequence[Track], *, is_request: bool = False) -> None:
        for track in tracks:
            if (decision := news.get(track.id)) is not None:
                self._answers.append(self._answer(track, decision, is_request=is_request))

    def _answer(self, track: Track, decision: Decision, *, is_last: bool = False, is_request: bool = False) -> Answer:
        liveness = None if self._liveness is None else self._liveness.value(track.id)
        quality, best = self._qualities.get(track.id), self._shots.get(track.id)
        return Answer(track, decision, quality, is_last, best, liveness, is_request)

    def _lose(self, track: Track) -> None:
        self._answers.append(self._answer(track, self._judge.end(track.id), is_last=True))
        self._attention.forget(track.id)
        self._qualities.pop(track.id, None)
        self._shots.pop(track.id, None)
        if self._liveness is not None:
            self._liveness.forget(track.id)

    def _limited(self, decision: DecisionSettings) -> DecisionSettings:
        """Return the settings with the threshold that the gallery needs now, and say so if it falls short."""
        if self._limit is None:
            return decision
        before, self.limit = self.limit, self._limit()
        if self.limit.note is not None and (before is None or before.note is None):
            logger.warning("%s", self.limit.note)
        evidence = self.limit.evidence or decision.evidence
        return replace(decision, threshold=self.limit.cosine, fmr=self.limit.fmr, evidence=evidence)

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
