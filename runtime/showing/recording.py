"""A recording that goes on for days: in pieces, and without filling the disk to the last byte."""

import logging
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError, EdgefaceError
from edgeface.runtime.events import SinkState
from edgeface.runtime.showing.recorder import VideoRecorder

logger = logging.getLogger(__name__)

MIN_FREE_BYTES: Final = 100 * 1024 * 1024
"""So much of the disk stays free for events, the outbox and the system."""

_CHECK_S: Final = 1.0  # between two looks at the disk


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Recording:
    """A video in one file, or in pieces `STEM-0001.ENDING`, `STEM-0002.ENDING`, ... that are complete one by one.

    Before the disk is full the file is finished, so that it plays, and what comes then is not recorded but counted.
    In pieces, recording goes on when there is twice that room again. What goes wrong with the disk is logged and never
    ends the run.

    Args:
        path: of the file; its ending picks the format, see `edgeface.runtime.showing.recorder.CODECS`.
        fps: frames a second at which to play it.
        size_wh: width and height in pixels.
        piece_s: begin a new piece after so many seconds, of playing time or by the clock, whichever is earlier; None
            records one file. Pieces that are there already are kept, and their numbers continued.
        min_free_bytes: of the disk.
        clock: seconds that never go back.
        free_bytes: tells the free bytes of the disk that holds a folder.

    Raises:
        ConfigError: a number cannot be used.
        UnknownNameError: no format has this ending.
        SourceError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        size_wh: tuple[int, int],
        *,
        piece_s: float | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        clock: Callable[[], float] = time.monotonic,
        free_bytes: Callable[[Path], int] = _free_bytes,
    ) -> None:
        if piece_s is not None and not piece_s > 0:
            raise ConfigError(f"a piece of a recording cannot be {piece_s} s long; use for example 600")
        self._path = path
        self._fps = fps
        self._size_wh = size_wh
        self._piece_s = piece_s
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._free_bytes = free_bytes
        self._recorded = 0
        self._skipped = 0
        self._error: str | None = None
        self._number = 0 if piece_s is None else _last_number(path)
        self._checked_s = self._began_s = clock()
        self._recorder: VideoRecorder | None = self._begin()

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Append (H, W, 3) uint8 RGB, unless the disk is nearly full."""
        now_s = self._clock()
        if now_s - self._checked_s >= _CHECK_S:
            self._checked_s = now_s
            self._check()
        recorder = self._recorder
        if recorder is not None and self._piece_s is not None and recorder.frames:
            is_long = recorder.frames >= self._piece_s * self._fps or now_s - self._began_s >= self._piece_s
            if is_long:
                self._end()
                self._begin_again()
        if self._recorder is None:
            self._skipped += 1
        else:
            self._recorder.write(image)
            self._recorded += 1

    def state(self) -> SinkState:
        """Return how many frames were recorded and how many were not for want of room."""
        return SinkState(f"recording {self._path}", self._recorded, 0, 0, self._skipped, self._error)

    def close(self) -> None:
        """Finish the last file; may be called again.

        Raises:
            SourceError: it could not be finished; see `VideoRecorder.close`.
        """
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()

    def _check(self) -> None:
        """End or resume the recording, as the disk has room."""
        try:
            free = self._free_bytes(self._path.absolute().parent)
        except OSError as error:
            logger.debug("cannot tell the room on the disk of %s: %s", self._path, error)
            return
        if self._recorder is not None and free < self._min_free_bytes:
            self._complain(f"only {free // 2**20} MB of the disk are free")
            self._end()
        elif self._recorder is None and self._piece_s is not None and free >= 2 * self._min_free_bytes:
            self._begin_again()

    def _begin(self) -> VideoRecorder:
        path = self._path
        if self._piece_s is not None:
            self._number += 1
            path = path.with_name(f"{path.stem}-{self._number:04d}{path.suffix}")
        self._began_s = self._clock()
        return VideoRecorder(path, self._fps, self._size_wh)

    def _begin_again(self) -> None:
        try:
            self._recorder = self._begin()
        except EdgefaceError as error:
            self._number -= 1
            self._complain(str(error))
        else:
            if self._error is not None:
                logger.warning("recording to %s goes on", self._path)
            self._error = None

    def _end(self) -> None:
        try:
            self.close()
        except EdgefaceError as error:
            self._complain(str(error))

    def _complain(self, error: str) -> None:
        if self._error is None:
            logger.warning("recording to %s stops: %s", self._path, error)
        self._error = error


def _last_number(path: Path) -> int:
    """Return the number of the last piece that is there."""
    pattern = re.compile(rf"{re.escape(path.stem)}-(\d+)(?:\.[0-9a-f]+\.partial)?{re.escape(path.suffix)}")
    folder = path.absolute().parent
    found = (pattern.fullmatch(other.name) for other in folder.iterdir()) if folder.is_dir() else ()
    return max((int(match[1]) for match in found if match), default=0)
