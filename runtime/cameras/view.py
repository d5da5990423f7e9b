"""What of a camera's picture goes into the pipeline: turned, mirrored and cut out, in this one place.

Everything behind it, events and their boxes included, speaks of the picture that comes out here.
"""

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError, ImageError, SourceError
from edgeface.runtime.cameras.frames import Frame, FrameSource, Notice

Image = npt.NDArray[np.uint8]

MIN_SIDE: Final = 16
"""A picture that is smaller, in pixels, is taken for a damaged one."""
_TURNS: Final = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, slots=True)
class View:
    """How a picture is looked at: turned first, then mirrored, then cut.

    Attributes:
        rotate_deg: 0, 90, 180 or 270, clockwise.
        mirror: swap left and right.
        crop_xywh: left, top, width and height in pixels of the turned and mirrored picture; None for all of it.

    Raises:
        ConfigError: a value is out of range.
    """

    rotate_deg: int = 0
    mirror: bool = False
    crop_xywh: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.rotate_deg not in (0, *_TURNS):
            raise ConfigError(f"a picture cannot be turned by {self.rotate_deg} degrees; use 0, 90, 180 or 270")
        if self.crop_xywh is not None and (min(self.crop_xywh[:2]) < 0 or min(self.crop_xywh[2:]) < MIN_SIDE):
            raise ConfigError(
                f"crop {_comma(self.crop_xywh)} cannot be used; give x,y,width,height in pixels, "
                f"x and y from 0, width and height from {MIN_SIDE}"
            )

    @property
    def is_plain(self) -> bool:
        """Whether it leaves pictures as they are."""
        return not self.rotate_deg and not self.mirror and self.crop_xywh is None

    def reduced(self, reduction: int) -> "View":
        """Return the same view of a picture that was decoded so many times smaller each way."""
        if reduction == 1 or self.crop_xywh is None:
            return self
        left, top, width, height = (side // reduction for side in self.crop_xywh)
        return replace(self, crop_xywh=(left, top, max(MIN_SIDE, width), max(MIN_SIDE, height)))

    def apply(self, image: Image) -> Image:
        """Return (H', W', 3) uint8 for (H, W, 3) uint8; the same array if there is nothing to do.

        Raises:
            ImageError: the crop reaches out of the picture.
        """
        if self.is_plain:
            return image
        height, width = image.shape[:2]
        if self.crop_xywh is not None:
            # Cutting first copies the fewest pixels, so the crop is led back to where the camera saw it.
            left, top, right, bottom = self._before_turning(width, height)
            image = image[top:bottom, left:right]
        if self.rotate_deg:
            image = _uint8(cv2.rotate(image, _TURNS[self.rotate_deg]))
        if self.mirror:
            image = _uint8(cv2.flip(image, 1))
        return np.ascontiguousarray(image)

    def _before_turning(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the crop in the picture as the camera gives it."""
        assert self.crop_xywh is not None
        left, top, crop_width, crop_height = self.crop_xywh
        turned_wh = (width, height) if self.rotate_deg in (0, 180) else (height, width)
        right, bottom = left + crop_width, top + crop_height
        if right > turned_wh[0] or bottom > turned_wh[1]:
            raise ImageError(
                f"crop {_comma(self.crop_xywh)} reaches out of the picture of {turned_wh[0]} x {turned_wh[1]} pixels; "
                "give a smaller one, or ask the camera for a larger picture with --size"
            )
        if self.mirror:
            left, right = turned_wh[0] - right, turned_wh[0] - left
        if self.rotate_deg == 90:  # (x, y) of the camera is now at (height - 1 - y, x)
            return top, height - right, bottom, height - left
        if self.rotate_deg == 180:
            return width - right, height - bottom, width - left, height - top
        if self.rotate_deg == 270:  # and here at (y, width - 1 - x)
            return width - bottom, left, width - top, right
        return left, top, right, bottom


class Viewed(FrameSource):
    """A source whose frames go through a `View`; owns the source."""

    def __init__(self, source: FrameSource, view: View) -> None:
        self.name, self.live, self.fps, self.stills = source.name, source.live, source.fps, source.stills
        self._source = source
        self._view = view
        self._has_given = False

    def wait(self, timeout_s: float) -> bool:
        """Wait as the source does."""
        return self._source.wait(timeout_s)

    def notices(self) -> tuple[Notice, ...]:
        """Return those of the source."""
        return self._source.notices()

    def read(self) -> Frame | None:
        """Return the next frame as the view shows it; None at the end.

        Raises:
            SourceError: the crop reaches out of the first frame of a camera or video.
            ImageError: the crop reaches out of a later one, or of a picture of a folder.
        """
        frame = self._source.read()
        if frame is None:
            return None
        try:
            image = self._view.reduced(frame.reduction).apply(frame.image)
        except ImageError as error:
            if self._has_given or self.stills:
                raise
            raise SourceError(f"{self.name}: {error}") from None
        self._has_given = True
        return replace(frame, image=image)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def to_rgb(image: npt.NDArray[np.generic] | None) -> Image:
    """Return (H, W, 3) uint8 RGB for what OpenCV gave: BGR, BGRA or grey of 8 bits.

    Raises:
        ImageError: it is no such picture.
    """
    if image is None or not isinstance(image, np.ndarray):
        raise ImageError(f"a frame is no picture but {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or min(image.shape[:2]) < MIN_SIDE:
        raise ImageError(f"a frame is no picture: shape {image.shape}, {image.dtype}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if channels not in codes:
        raise ImageError(f"a frame is no picture: it has {channels} channels")
    return _uint8(cv2.cvtColor(image, codes[channels]))


def check_picture(image: object) -> None:
    """Raise ImageError unless it is an (H, W, 3) uint8 array of at least `MIN_SIDE` pixels each way."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"a frame is no picture but {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < MIN_SIDE:
        raise ImageError(f"a frame is no picture: shape {image.shape}, {image.dtype}")


def _uint8(image: npt.NDArray[np.generic]) -> Image:
    assert image.dtype == np.uint8
    return image.view(np.uint8)


def _comma(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
