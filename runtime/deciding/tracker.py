"""Which face of this frame is which face of the frames before: boxes that overlap, or that are near.

In the manner of ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV
2022): boxes that the detector is sure of choose their tracks first, then the others may keep a track that is left,
because a face that turns or is half hidden scores low where it was a moment ago. They never start one.

No clocks: time comes in with the boxes, so the same boxes and times give the same tracks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError
from edgeface.runtime.deciding.motion import STILL, Motion

Floats = npt.NDArray[np.float32]

_LOW_MIN_IOU: Final = 0.5
"""A box that the detector is not sure of must overlap this much, as in ByteTrack: nearness alone proves nothing."""


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """When two boxes are the same face.

    Attributes:
        min_iou: boxes that overlap by this intersection over union belong together, in (0, 1].
        max_shift: so do boxes whose centres are at most so many mean box sides apart, if nothing overlaps better.
        max_growth: but only if their sides differ by at most this factor.
        max_missed_s: a track that was not seen for longer has ended, in seconds.

    Raises:
        ConfigError: a value is out of range.
    """

    min_iou: float = 0.3
    max_shift: float = 0.8
    max_growth: float = 1.6
    max_missed_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.min_iou <= 1:
            raise ConfigError(f"min_iou lies in (0, 1], got {self.min_iou}; use for example 0.3")
        if not self.max_shift >= 0:
            raise ConfigError(f"max_shift cannot be negative, got {self.max_shift}; use for example 0.8")
        if not self.max_growth >= 1:
            raise ConfigError(f"max_growth must be at least 1, got {self.max_growth}; use for example 1.6")
        if not self.max_missed_s >= 0:
            raise ConfigError(f"max_missed_s cannot be negative, got {self.max_missed_s}; use for example 1")


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One face over time.

    Attributes:
        id: counts from 1; never used again.
        box: (4,) float32, x, y, width, height, where it was last seen, in pixels.
        first_seen_s: time of its first frame.
        last_seen_s: time of the last frame that had it.
        hits: frames that had it.
        missed: frames since then without it; 0 for a face that is in view.
        gap_frames: frames without it between its last two sightings.
        gap_s: time between its last two sightings.
        motion: where it is going.
    """

    id: int
    box: Floats
    first_seen_s: float
    last_seen_s: float
    hits: int = 1
    missed: int = 0
    gap_frames: int = 0
    gap_s: float = 0.0
    motion: Motion = STILL

    @property
    def age_s(self) -> float:
        """Time from its first to its last sighting."""
        return self.last_seen_s - self.first_seen_s

    def expected(self, time_s: float) -> Floats:
        """Return the (4,) box where the face should be by now if it goes on as it went."""
        return self.motion.expected(self.box, time_s - self.last_seen_s)


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """What one frame did to the tracks.

    Attributes:
        seen: a track for each box that has one, in the order of the boxes.
        rows: which boxes these are; all but those that the detector was not sure of and that fitted no track.
        lost: tracks that have ended.
    """

    seen: tuple[Track, ...]
    rows: tuple[int, ...]
    lost: tuple[Track, ...]


class Tracker:
    """Gives each box of a frame to a track, the best overlap first, and ends what is no longer seen."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self.tracks: tuple[Track, ...] = ()
        """Faces in view, and those missed for not too long."""
        self._next_id = 1

    def update(self, boxes: Floats, time_s: float, sure: npt.NDArray[np.bool_] | None = None) -> Tracked:
        """Take the boxes of the next frame.

        Args:
            boxes: (N, 4) float32, x, y, width, height in pixels.
            time_s: time of the frame. A step back by more than `max_missed_s` ends all tracks, as one forward does.
            sure: (N,) bool, which boxes may start a track; None means all.
        """
        limit_s = self.settings.max_missed_s
        lost = tuple(track for track in self.tracks if abs(time_s - track.last_seen_s) > limit_s)
        # Those that ended are not offered: a face that comes now is somebody new.
        open_tracks = [track for track in self.tracks if abs(time_s - track.last_seen_s) <= limit_s]
        owners = self._owners(open_tracks, boxes, time_s, np.ones(len(boxes), bool) if sure is None else sure)
        seen, rows = [], []
        for row, (box, owner) in enumerate(zip(boxes, owners, strict=True)):
            if owner is not None:
                seen.append(_continue(open_tracks[owner], box, time_s))
            elif sure is None or sure[row]:
                seen.append(self._start(box, time_s))
            else:
                continue
            rows.append(row)
        taken = set(owners)
        missed = (replace(t, missed=t.missed + 1) for row, t in enumerate(open_tracks) if row not in taken)
        self.tracks = (*seen, *missed)
        return Tracked(tuple(seen), tuple(rows), lost)

    def end(self) -> tuple[Track, ...]:
        """End all tracks and return them."""
        ended, self.tracks = self.tracks, ()
        return ended

    def _owners(
        self, tracks: Sequence[Track], boxes: Floats, time_s: float, sure: npt.NDArray[np.bool_]
    ) -> list[int | None]:
        """Return for each box the row of its track in `tracks`, or None."""
        owners: list[int | None] = [None] * len(boxes)
        if not tracks or not len(boxes):
            return owners
        expected = np.stack([track.expected(time_s) for track in tracks])
        first = np.flatnonzero(sure)
        for track, column in _pairs(affinity(expected, boxes[first], self.settings)):
            owners[first[column]] = track
        taken = {owner for owner in owners if owner is not None}
        # A track that was missed before could be anywhere by now; a box of doubtful worth does not bring it back.
        left = np.array([row for row, track in enumerate(tracks) if row not in taken and not track.missed], np.intp)
        second = np.flatnonzero(~sure)
        settings = replace(self.settings, min_iou=max(self.settings.min_iou, _LOW_MIN_IOU), max_shift=0)
        if len(left) and len(second):
            for track, column in _pairs(affinity(expected[left], boxes[second], settings)):
                owners[second[column]] = int(left[track])
        return owners

    def _start(self, box: Floats, time_s: float) -> Track:
        track = Track(self._next_id, box, time_s, time_s)
        self._next_id += 1
        return track


def affinity(old: Floats, new: Floats, settings: TrackerSettings) -> npt.NDArray[np.float64]:
    """Return how well each old box fits each new one.

    Args:
        old: (T, 4) float32, x, y, width, height in pixels.
        new: (N, 4) float32, likewise.
        settings: what still fits.

    Returns:
        (T, N) float64: the intersection over union where it is enough; else minus the distance of the centres in
        mean sides where that is small enough; else minus infinity. So any overlap comes before any nearness.
    """
    # (T, 1, 2) and (1, N, 2), float64 so that the sum of two large areas stays exact.
    old_corner, new_corner = old[:, None, :2].astype(np.float64), new[None, :, :2].astype(np.float64)
    old_wh = np.maximum(old[:, None, 2:].astype(np.float64), 1e-6)
    new_wh = np.maximum(new[None, :, 2:].astype(np.float64), 1e-6)
    ends = np.minimum(old_corner + old_wh, new_corner + new_wh)
    shared = np.maximum(ends - np.maximum(old_corner, new_corner), 0).prod(axis=2)
    old_area, new_area = old_wh.prod(axis=2), new_wh.prod(axis=2)
    iou = shared / (old_area + new_area - shared)
    old_side, new_side = np.sqrt(old_area), np.sqrt(new_area)
    offset = (old_corner + old_wh / 2) - (new_corner + new_wh / 2)
    shift = np.hypot(offset[..., 0], offset[..., 1]) / ((old_side + new_side) / 2)
    growth = np.maximum(old_side, new_side) / np.minimum(old_side, new_side)
    near = (shift <= settings.max_shift) & (growth <= settings.max_growth)
    return np.where(iou >= settings.min_iou, iou, np.where(near, -shift, -np.inf))


def _pairs(scores: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return (row, column) of scores (T, N) that go together, the best first, each row and column once at most."""
    rows: set[int] = set()
    columns: set[int] = set()
    found = []
    for place in np.argsort(-scores, axis=None, kind="stable").tolist():
        row, column = divmod(place, scores.shape[1])
        if scores[row, column] == -np.inf:
            break
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            found.append((row, column))
    return found


def _continue(track: Track, box: Floats, time_s: float) -> Track:
    return Track(
        id=track.id,
        box=box,
        first_seen_s=track.first_seen_s,
        last_seen_s=time_s,
        hits=track.hits + 1,
        gap_frames=track.missed,
        gap_s=abs(time_s - track.last_seen_s),
        motion=track.motion.after(track.box, box, time_s - track.last_seen_s),
    )
