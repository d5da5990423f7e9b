"""Writes what the loop drew as a video file."""

import contextlib
import logging
import math
import os
import secrets
import shutil
from pathlib import Path
from typing import Final, Self

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError, SourceError, UnknownNameError
from edgeface.files import open_private
from edgeface.runtime.cameras.video import quiet_opencv

logger = logging.getLogger(__name__)

CODECS: Final[dict[str, tuple[str, ...]]] = {
    ".avi": ("MJPG", "XVID"),
    # MPEG-4 first: OpenCV's wheels have it everywhere, H.264 only where the system brings an encoder.
    ".mkv": ("mp4v", "avc1"),
    ".mov": ("mp4v", "avc1"),
    ".mp4": ("mp4v", "avc1"),
}
"""File name ending to the four-character codes to try, in this order."""

_MIN_FREE_BYTES: Final = 1 << 20  # with less, that is why a file cannot be begun


class VideoRecorder:
    """A video of fixed size. Named `STEM.HEX.partial.ENDING` until it is closed, then complete and under its own name.

    Only its owner may look at it, whatever an old file of that name allowed.

    After a crash or kill -9 a partial .mkv or .avi can be played, but for the last half megabyte, which OpenCV keeps in
    memory; a partial .mp4 or .mov cannot, as these have their index at the end.

    Args:
        path: where to write; the ending picks the format, see `CODECS`. An old file is replaced at the end.
        fps: frames a second at which to play it, rounded to a thousandth.
        size_wh: width and height in pixels. An odd number is made even by a black line, as codecs need it.

    Raises:
        UnknownNameError: no format has this ending.
        ConfigError: fps or size cannot be used.
        SourceError: the file cannot be written.
    """

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int]) -> None:
        suffix = path.suffix.lower()
        if suffix not in CODECS:
            raise UnknownNameError("video format", suffix or path.name, CODECS)
        if not (math.isfinite(fps) and 0.001 <= fps <= 1000):
            raise ConfigError(f"a video cannot have {fps} frames a second; use 0.001 to 1000")
        if min(size_wh) < 1 or max(size_wh) > 16384:
            raise ConfigError(f"a video cannot be {size_wh[0]} x {size_wh[1]} pixels; use 1 to 16384 each way")
        self.path = path
        self.size_wh = (size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2)
        self.frames = 0
        """Frames written so far."""
        self._temporary = path.absolute().with_name(f"{path.stem}.{secrets.token_hex(4)}.partial{suffix}")
        self._writer = self._open(round(fps, 3))

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Append (H, W, 3) uint8 RGB. Another size is scaled to fit, with black borders.

        Raises:
            SourceError: the recorder is closed.
        """
        if self._writer is None:
            raise SourceError(f"video {self.path} is closed; open a new recorder")
        self._writer.write(letterbox(image[:, :, ::-1], self.size_wh))
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name; without a frame there is no file. May be called again.

        Raises:
            SourceError: the file could not be finished, for example because the disk is full. What can be played of it
                is kept under its partial name, which the message says; the rest is removed.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        keep = False
        try:
            if self.frames == 0:
                logger.warning("no frame was recorded, so %s is not written", self.path)
                return
            plays, is_complete = self._read_back()
            if not is_complete:
                keep = plays
                kept = f"what can be played is in {self._temporary.name}" if plays else "nothing of it can be played"
                raise SourceError(
                    f"video {self.path} could not be finished after {self.frames} frames and {kept}; "
                    "check that the disk is not full"
                )
            with self._temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(self._temporary, self.path)
        except OSError as error:
            keep = True
            raise SourceError(
                f"video {self.path} cannot be written: {error.strerror}; it is in {self._temporary.name}"
            ) from error
        finally:
            if not keep:
                with contextlib.suppress(OSError):
                    self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Also after an error or Ctrl-C: what was recorded so far is what one wants to see then.
        self.close()

    def _open(self, fps: float) -> cv2.VideoWriter | None:
        quiet_opencv()
        codecs = CODECS[self.path.suffix.lower()]
        try:
            if self.path.is_dir():
                raise SourceError(f"video {self.path} cannot be written: it is a folder; give a file name")
            # OpenCV would not say why it cannot, and would let others look at the faces in it.
            os.close(open_private(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except OSError as error:
            raise SourceError(f"video {self.path} cannot be written: {error.strerror}") from error
        for codec in codecs:
            fourcc = cv2.VideoWriter.fourcc(*codec)
            writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, fourcc, fps, self.size_wh)
            if writer.isOpened():
                return writer
            writer.release()
        self._temporary.unlink(missing_ok=True)
        free_bytes = shutil.disk_usage(self._temporary.parent).free
        if free_bytes < _MIN_FREE_BYTES:  # some formats begin with a header, which then cannot be written
            raise SourceError(
                f"video {self.path} cannot be written: its disk is full ({free_bytes // 1024} kB are free); "
                "free some space, or record to another disk"
            )
        raise SourceError(
            f"this OpenCV cannot write {self.path.suffix} of {self.size_wh[0]} x {self.size_wh[1]} pixels "
            f"(tried {', '.join(codecs)}); try .avi, or another size"
        )

    def _read_back(self) -> tuple[bool, bool]:
        """Tell whether the file plays at all and in whole; OpenCV reports no failed write, but then the index lacks."""
        capture = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        try:
            plays = bool(capture.grab())
            # Some formats give the count as length times rate, which may be off by one.
            return plays, plays and capture.get(cv2.CAP_PROP_FRAME_COUNT) > self.frames - 2
        finally:
            capture.release()


def letterbox(image: npt.NDArray[np.uint8], size_wh: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Fit (H, W, 3) uint8 into `size_wh` (width, height), keeping its proportions, centred on black."""
    width, height = size_wh
    # A picture smaller by the one line that makes a size even is not worth a resampling.
    if not (0 <= width - image.shape[1] <= 1 and 0 <= height - image.shape[0] <= 1):
        scale = min(width / image.shape[1], height / image.shape[0])
        fit_wh = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(np.ascontiguousarray(image), fit_wh, interpolation=method)
    result = np.zeros((height, width, 3), np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    result[top : top + image.shape[0], left : left + image.shape[1]] = image
    return result
