"""Cameras, video files and network streams through OpenCV; its BGR ends here."""

import logging
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2

from edgeface.errors import ConfigError, ImageError, SourceError
from edgeface.runtime.cameras.faults import explain, stream_error
from edgeface.runtime.cameras.frames import Frame, FrameSource
from edgeface.runtime.cameras.redaction import printable, redact
from edgeface.runtime.cameras.view import to_rgb

logger = logging.getLogger(__name__)

# FFmpeg also "plays" text files (ANSI art): these decoders mean that the file is no video.
_TEXT_CODECS: Final = frozenset({"ansi", "bint", "idf", "xbin"})
_TRIES: Final = 10  # damaged frames before the first good one
_TELLING: Final = ("OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL", "OPENCV_FFMPEG_DEBUG", "OPENCV_VIDEOIO_DEBUG")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a camera is asked for; it may give something else.

    Attributes:
        size_wh: width and height in pixels; None for the camera's own.
        fps: frames a second; None for the camera's own.

    Raises:
        ConfigError: a value is out of range.
    """

    size_wh: tuple[int, int] | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.size_wh is not None and (min(self.size_wh) < 16 or max(self.size_wh) > 16384):
            raise ConfigError(
                f"a camera cannot be asked for {self.size_wh[0]} x {self.size_wh[1]} pixels; use 16 to 16384 each way"
            )
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ConfigError(f"a camera cannot be asked for {self.fps} frames a second; use 1 to 1000")


class Captured(FrameSource):
    """What an OpenCV capture gives; its first frame is read at once, to know that there is one."""

    def __init__(self, name: str, capture: cv2.VideoCapture, live: bool, unusable: str) -> None:
        self.name = name
        self.live = live
        self._capture = capture
        self._started_s = time.monotonic()
        self._count = 0
        self._last_s = 0.0
        self._clock_told = False
        self._closed = False
        fps = float(capture.get(cv2.CAP_PROP_FPS)) if capture.isOpened() else 0.0
        self.fps = fps if 0 < fps <= 1000 else None
        self._first = self._try_first()
        if self._first is None:
            self.close()
            raise SourceError(unusable)

    def read(self) -> Frame | None:
        """Return the next frame; at its end a file gives None and a live source raises SourceError.

        Raises:
            ImageError: the frame is damaged; the next one may be read.
        """
        if self._closed:
            raise SourceError(f"{self.name} is closed; open it again to read from it")
        frame, self._first = self._first, None
        if frame is None:
            frame = self._next()
        if frame is None:
            self._end()
        return frame

    def close(self) -> None:
        """Release the device or file; may be called again."""
        self._closed = True
        self._first = None
        self._capture.release()

    def _try_first(self) -> Frame | None:
        """Return the first good frame, if one of the first few is: a stream may begin in the middle of a picture."""
        for _ in range(_TRIES):
            try:
                return self._next()
            except ImageError as error:
                logger.debug("%s: skipped: %s", self.name, error)
        return None

    def _next(self) -> Frame | None:
        try:
            done, image = self._capture.read()
        except cv2.error as error:
            logger.debug("%s: %s", self.name, error.err)
            return None
        if not done or image is None or image.size == 0:
            return None
        rgb = to_rgb(image)
        index, self._count = self._count, self._count + 1
        position_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        if self.live:
            return Frame(rgb, index, time.monotonic() - self._started_s, source_s=position_s)
        return Frame(rgb, index, self._time_s(index, position_s))

    def _time_s(self, index: int, position_s: float) -> float:
        """Return a file's own time, corrected where it goes back: who is followed over time needs one that goes on."""
        time_s = position_s if position_s > 0 or self.fps is None else index / self.fps
        if time_s < self._last_s:
            if not self._clock_told:
                logger.warning(
                    "%s: the time goes back from %.3f to %.3f s at frame %d; the frame rate is used instead",
                    self.name,
                    self._last_s,
                    time_s,
                    index,
                )
            self._clock_told = True
            time_s = self._last_s + (1 / self.fps if self.fps else 0.0)
        self._last_s = time_s
        return time_s

    def _end(self) -> None:
        """Say what the end means; live sources raise SourceError."""
        raise NotImplementedError


class VideoFile(Captured):
    """Every frame of a video file, in order and turned upright by its rotation mark."""

    def __init__(self, path: Path) -> None:
        quiet_opencv()
        if not path.is_file():
            raise SourceError(f"video not found: {path}")
        # Absolute, because FFmpeg takes "a:b.mp4" for a protocol called "a".
        capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        codec = int(capture.get(cv2.CAP_PROP_FOURCC)) if capture.isOpened() else 0
        if (codec & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1").lower() in _TEXT_CODECS:
            capture.release()
        self._expected = round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        unusable = (
            f"{path} is not a video that can be read ({path.stat().st_size} bytes); "
            "use mp4, mkv, mov or avi, or give a folder of pictures"
        )
        super().__init__(path.name, capture, live=False, unusable=unusable)

    def _end(self) -> None:
        # The header only estimates the number of frames, so a few less is no news.
        if self._count < 0.95 * self._expected - 2:
            logger.warning(
                "%s ended after %d of about %d frames: it is cut off or damaged",
                self.name,
                self._count,
                self._expected,
            )


class Camera(Captured):
    """A camera of this machine, by its number."""

    def __init__(self, index: int, asked: Asked | None = None) -> None:
        size_wh, fps = (asked.size_wh, asked.fps) if asked else (None, None)
        quiet_opencv()
        name = f"camera {index}"
        linux = sys.platform == "linux"
        device = Path(f"/dev/video{index}")
        if linux and not device.exists():
            raise SourceError(f"no {name}: {device} does not exist; {suggest_cameras()}")
        if linux and not os.access(device, os.R_OK | os.W_OK):
            raise SourceError(f"no permission to open {device}; add this user to the group 'video' and log in again")
        capture = cv2.VideoCapture(index, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
        if capture.isOpened() and size_wh is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size_wh[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size_wh[1])
        if capture.isOpened() and fps is not None:
            capture.set(cv2.CAP_PROP_FPS, fps)
        unusable = (
            f"{name} {'opened but gives no picture' if capture.isOpened() else 'cannot be opened'}; "
            f"another program may be using it; {suggest_cameras()}"
        )
        super().__init__(name, capture, live=True, unusable=unusable)
        if self._first is not None and size_wh is not None:
            got_wh = self._first.image.shape[1::-1]
            if got_wh != size_wh:
                logger.warning("%s was asked for %d x %d and gives %d x %d", name, *size_wh, *got_wh)
        if fps is not None and self.fps is not None and abs(self.fps - fps) > 0.5:
            logger.warning("%s was asked for %g frames a second and gives %g", name, fps, self.fps)

    def _end(self) -> None:
        raise SourceError(f"{self.name} stopped after {self._count} frames; check its cable and power")


class Stream(Captured):
    """A network camera or stream, through FFmpeg. RTSP prefers TCP: UDP loses parts of pictures."""

    def __init__(self, url: str, *, open_timeout_s: float = 10.0, read_timeout_s: float = 5.0) -> None:
        name = redact(url)
        quiet_opencv(keep_secrets=name != url)
        if not url.isprintable():
            raise SourceError(f"stream {name} has characters that cannot be in an address; check it")
        self._read_timeout_s = read_timeout_s
        settings = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, max(1, round(open_timeout_s * 1e3))),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, max(1, round(read_timeout_s * 1e3))),
        ]
        started_s = time.monotonic()
        # No transport is set here: OpenCV itself asks FFmpeg for prefer_tcp; a user who needs something
        # else sets OPENCV_FFMPEG_CAPTURE_OPTIONS.
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, settings)
        unusable = (
            f"stream {name} gave no picture in {time.monotonic() - started_s:.1f} s "
            f"(limit {open_timeout_s:g} s); "
            "check the address, user name and password, and that the camera is on"
        )
        try:
            super().__init__(name, capture, live=True, unusable=unusable)
        except SourceError:
            why = explain(url, min(2.0, read_timeout_s))  # FFmpeg knew, but OpenCV does not hand it on
            if why is None:
                raise
            raise stream_error(name, why) from None

    def _end(self) -> None:
        raise SourceError(
            f"stream {self.name} ended or was silent for {self._read_timeout_s:g} s after "
            f"{self._count} frames; check the network and the camera"
        )


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """A camera that the system lists; whether it gives pictures is known only by opening it."""

    index: int
    name: str


def list_cameras() -> tuple[CameraInfo, ...]:
    """Return the video devices that Linux lists, by index; empty on other systems.

    One camera often has two devices, of which the second gives no pictures.
    """
    found = []
    for device in Path("/dev").glob("video*"):
        if number := re.fullmatch(r"video([0-9]{1,5})", device.name):
            label = Path("/sys/class/video4linux") / device.name / "name"
            try:
                name = printable(label.read_text(errors="replace").strip())
            except OSError:
                name = ""
            found.append(CameraInfo(int(number[1]), name))
    return tuple(sorted(found, key=lambda camera: camera.index))


def suggest_cameras() -> str:
    """Say which cameras there are, as the end of an error."""
    cameras = list_cameras()
    if not cameras:
        return "no cameras found here; plug one in, or give a video file, a folder or a stream"
    return f"cameras here: {', '.join(f'{c.index} ({c.name})' if c.name else str(c.index) for c in cameras)}"


def quiet_opencv(*, keep_secrets: bool = False) -> None:
    """Keep OpenCV and FFmpeg from writing to stderr; a user's own OPENCV_LOG_LEVEL and ..._LOGLEVEL win.

    What they would say reaches the user as a SourceError. Process-wide, and FFmpeg looks at its variable only
    when it is first used, so this is called before anything is opened.

    Args:
        keep_secrets: an address with a password is about to be opened. Then nothing wins: at their higher levels,
            and with OPENCV_VIDEOIO_DEBUG or OPENCV_FFMPEG_DEBUG, both print it as it is.
    """
    silent = cv2.utils.logging.LOG_LEVEL_SILENT
    if keep_secrets:
        told = [name for name in _TELLING if name in os.environ]
        if told and cv2.utils.logging.getLogLevel() != silent:
            logger.warning("%s is left out of account: it would print the address with its password", ", ".join(told))
        os.environ.pop("OPENCV_FFMPEG_DEBUG", None)
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"
    if keep_secrets or "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(silent)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
