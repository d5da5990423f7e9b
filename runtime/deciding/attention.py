"""Which faces of a frame are looked at: networks are slow, crowds are large, and most looks would say nothing new."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError
from edgeface.faces import FACE_SIZE
from edgeface.runtime.deciding.quality import frontality

_PATIENCE_S: Final = 0.5
"""A face that waited so long comes before any that did not wait."""


@dataclass(frozen=True, slots=True)
class AttentionSettings:
    """How many faces are looked at, and when again.

    Attributes:
        max_looks: at most so many faces are aligned and embedded in a frame, the most promising first; the others
            follow in later frames, and none waits for ever. None sets no limit.
        better: a face is looked at again before its time if it promises so many times as much as at its best look.

    Raises:
        ConfigError: a value is out of range.
    """

    max_looks: int | None = 8
    better: float = 1.25

    def __post_init__(self) -> None:
        if self.max_looks is not None and self.max_looks < 1:
            raise ConfigError(f"max_looks must be at least 1, got {self.max_looks}; use for example 8")
        if not self.better > 1:
            raise ConfigError(f"better must be more than 1, got {self.better}; use for example 1.25")


@dataclass(slots=True)
class _Past:
    """Of one track: since when it waits, and the most that a look at it promised."""

    waits_since_s: float
    best: float = 0.0


@dataclass(slots=True)
class Attention:
    """Picks the faces of each frame that are worth a look."""

    settings: AttentionSettings
    _tracks: dict[int, _Past] = field(default_factory=dict)

    def improved(self, track_id: int, promise: float) -> bool:
        """Tell whether a face promises much more than it did at its best look."""
        past = self._tracks.get(track_id)
        return past is None or promise > past.best * self.settings.better

    def pick(self, track_ids: Sequence[int], promises: Sequence[float], time_s: float) -> list[int]:
        """Return the rows of the faces to look at now, rising.

        Args:
            track_ids: of the faces that should be looked at.
            promises: see `promise`, one for each.
            time_s: of the frame.
        """
        keys = []
        for track_id, value in zip(track_ids, promises, strict=True):
            past = self._tracks.setdefault(track_id, _Past(time_s))
            keys.append(value + abs(time_s - past.waits_since_s) / _PATIENCE_S)
        order = sorted(range(len(keys)), key=lambda row: -keys[row])
        picked = sorted(order[: self.settings.max_looks])
        for row in picked:
            past = self._tracks[track_ids[row]]
            past.waits_since_s, past.best = time_s, max(past.best, promises[row])
        return picked

    def forget(self, track_id: int) -> None:
        """Forget a track that ended."""
        self._tracks.pop(track_id, None)


def promise(box: npt.NDArray[np.floating], landmarks: npt.NDArray[np.floating], score: float) -> float:
    """Return how much a look at a face promises, in [0, 1]: near, frontal and surely a face. Needs no pixels.

    Args:
        box: (4,) x, y, width, height in pixels.
        landmarks: (5, 2) as the detector gives them.
        score: of the detector, in [0, 1].
    """
    near = min(1.0, max(float(min(box[2], box[3])), 0.0) / FACE_SIZE)
    return near * frontality(landmarks) * score
