"""What can be wrong with a live source that still gives frames: one picture over and over, a rate too low, a new size.

No clock and no thread in here: times are handed in, in seconds of a monotonic clock.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError
from edgeface.runtime.cameras.frames import Frame

Image = npt.NDArray[np.uint8]

_SAMPLE_STEP: Final = 1021  # bytes; a prime, so that it walks through columns and colours


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What to take for a fault.

    Attributes:
        frozen_after_s: the very same picture for so long is a lost camera; 0 for never. A sensor's noise makes each
            picture different, but a stream that was compressed hard may repeat one while nothing moves.
        min_fps: fewer frames a second are told; 0 for never.
        min_fps_over_s: the time over which they are counted.

    Raises:
        ConfigError: a value is out of range.
    """

    frozen_after_s: float = 30.0
    min_fps: float = 0.0
    min_fps_over_s: float = 5.0

    def __post_init__(self) -> None:
        for name, value in (("frozen_after_s", self.frozen_after_s), ("min_fps", self.min_fps)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} must be 0 (off) or more, got {value}")
        if not (math.isfinite(self.min_fps_over_s) and self.min_fps_over_s > 0):
            raise ConfigError(f"min_fps_over_s must be more than 0, got {self.min_fps_over_s}")


class Watch:
    """Looks at the frames of one source, over all its openings."""

    def __init__(self, name: str, settings: WatchSettings) -> None:
        self._name = name
        self._settings = settings
        self._warnings: list[str] = []
        self._image: Image | None = None
        self._since_s = 0.0  # when the picture last changed
        self._is_frozen = False
        self._size_wh: tuple[int, int] | None = None
        self._source_s: float | None = None
        self._clock_told = False
        self._counted = (0.0, 0)  # when, and how many frames had come
        self._slow = False

    @property
    def changed_s(self) -> float:
        """When the picture last changed."""
        return self._since_s

    def warnings(self) -> tuple[str, ...]:
        """Return what is odd and new since the last call."""
        warnings, self._warnings = tuple(self._warnings), []
        return warnings

    def opened(self, now_s: float) -> None:
        """Note that the source was opened again: its clock and count of frames begin anew, not its last picture."""
        self._since_s = now_s
        self._source_s, self._clock_told = None, False
        self._counted = (now_s, 0)

    def see(self, frame: Frame, now_s: float) -> str | None:
        """Take the next frame; returns why it must not be shown to anybody, or None if it is a good one.

        After a picture was found frozen, it stays refused, also when the source is opened again, until another comes.
        """
        self._check_clock(frame)
        if not self._is_repeat(frame.image):
            self._image, self._since_s, self._is_frozen = frame.image, now_s, False
            self._check_size(frame)
            return None
        limit_s = self._settings.frozen_after_s
        if self._is_frozen or now_s - self._since_s >= limit_s:
            self._is_frozen = True
            return f"{self._name} repeats one picture for {limit_s:g} s or more"
        return None

    def count(self, arrived: int, now_s: float) -> None:
        """Take how many frames have come since the source was opened, fetched or not."""
        since_s, before = self._counted
        if not self._settings.min_fps or now_s - since_s < self._settings.min_fps_over_s:
            return
        rate = (arrived - before) / (now_s - since_s)
        self._counted = (now_s, arrived)
        was_slow, self._slow = self._slow, rate < self._settings.min_fps
        if self._slow and not was_slow:
            self._warnings.append(
                f"{self._name} gives {rate:.1f} frames a second, less than {self._settings.min_fps:g}; "
                "check its exposure, network and settings"
            )

    def _is_repeat(self, image: Image) -> bool:
        last = self._image
        if not self._settings.frozen_after_s or last is None or last.shape != image.shape:
            return False
        if last is image:
            return True
        # Two different pictures nearly always differ in a few thousand bytes: the whole is compared only then.
        few, few_before = image.reshape(-1)[::_SAMPLE_STEP], last.reshape(-1)[::_SAMPLE_STEP]
        return np.array_equal(few, few_before) and np.array_equal(image, last)

    def _check_size(self, frame: Frame) -> None:
        size_wh = (frame.image.shape[1], frame.image.shape[0])
        before = self._size_wh
        if before is not None and before != size_wh:
            self._warnings.append(
                f"{self._name} changed its picture from {before[0]} x {before[1]} to {size_wh[0]} x {size_wh[1]} pixels"
            )
        self._size_wh = size_wh

    def _check_clock(self, frame: Frame) -> None:
        if frame.source_s is None:
            return
        if self._source_s is not None and frame.source_s < self._source_s and not self._clock_told:
            self._clock_told = True
            self._warnings.append(
                f"the clock of {self._name} went back by {self._source_s - frame.source_s:.3f} s; "
                "frames keep the time of their arrival"
            )
        self._source_s = frame.source_s
