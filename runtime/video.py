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
import numpy as np
import numpy.typing as npt

from edgeface.errors import SourceError
from edgeface.runtime.frames import Frame, FrameSource
from edgeface.runtime.redaction import printable, redact

logger = logging.getLogger(__name__)

# FFmpeg also "plays" text files (ANSI art): these decoders mean that the file is no video.
_TEXT_CODECS: Final = frozenset({"ansi", "bint", "idf", "xbin"})


class _Captured(FrameSource):
    """What an OpenCV capture gives; its first frame is read at once, to know that there is one."""

    def __init__(self, name: str, capture: cv2.VideoCapture, live: bool, unusable: str) -> None:
        self.name = name
        self.live = live
        self._capture = capture
        self._started_s = time.monotonic()
        self._count = 0
        self._closed = False
        fps = float(capture.get(cv2.CAP_PROP_FPS)) if capture.isOpened() else 0.0
        self.fps = fps if 0 < fps <= 1000 else None
        self._first = self._next()
        if self._first is None:
            self.close()
            raise SourceError(unusable)

    def read(self) -> Frame | None:
        if self._closed:
            raise SourceError(f"{self.name} is closed; open it again to read from it")
        frame, self._first = self._first, None
        if frame is None:
            frame = self._next()
        if frame is None:
            self._end()
        return frame

    def close(self) -> None:
        self._closed = True
        self._first = None
        self._capture.release()

    def _next(self) -> Frame | None:
        try:
            done, image = self._capture.read()
        except cv2.error as error:
            logger.debug("%s: %s", self.name, error.err)
            return None
        if not done or image is None or image.size == 0:
            return None
        index, self._count = self._count, self._count + 1
        rgb: npt.NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return Frame(rgb, index, self._time_s(index))

    def _time_s(self, index: int) -> float:
        if self.live:
            return time.monotonic() - self._started_s
        position_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        return position_s if position_s > 0 or self.fps is None else index / self.fps

    def _end(self) -> None:
        """Say what the end means; live sources raise SourceError."""
        raise NotImplementedError


class VideoFile(_Captured):
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


class Camera(_Captured):
    """A camera of this machine, by its number."""

    def __init__(self, index: int, *, size_wh: tuple[int, int] | None = None) -> None:
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
        unusable = (
            f"{name} {'opened but gives no picture' if capture.isOpened() else 'cannot be opened'}; "
            f"another program may be using it; {suggest_cameras()}"
        )
        super().__init__(name, capture, live=True, unusable=unusable)
        if self._first is not None and size_wh is not None:
            got_wh = self._first.image.shape[1::-1]
            if got_wh != size_wh:
                logger.warning("%s was asked for %d x %d and gives %d x %d", name, *size_wh, *got_wh)

    def _end(self) -> None:
        raise SourceError(
            f"{self.name} stopped after {self._count} frames; check its cable and power, then start again"
        )


class Stream(_Captured):
    """A network camera or stream, through FFmpeg. RTSP prefers TCP: UDP loses parts of pictures."""

    def __init__(self, url: str, *, open_timeout_s: float = 10.0, read_timeout_s: float = 5.0) -> None:
        quiet_opencv()
        name = redact(url)
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
        super().__init__(name, capture, live=True, unusable=unusable)

    def _end(self) -> None:
        raise SourceError(
            f"stream {self.name} ended or was silent for {self._read_timeout_s:g} s after "
            f"{self._count} frames; "
            "check the network and the camera, then start again"
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


def quiet_opencv() -> None:
    """Keep OpenCV and FFmpeg from writing to stderr; a user's own OPENCV_LOG_LEVEL and ..._LOGLEVEL win.

    What they would say reaches the user as a SourceError. Process-wide, and FFmpeg looks at its variable only
    when it is first used, so this is called before anything is opened.
    """
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
