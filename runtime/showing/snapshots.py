"""Pictures of the moments in which somebody was recognised: the last few, with everybody else made unrecognisable."""

import contextlib
import logging
import re
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError
from edgeface.files import PRIVATE, make_private_folder, write_bytes
from edgeface.images import encode_image
from edgeface.runtime.events import SinkState
from edgeface.runtime.showing.draw import FaceView, Overlay

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside

_NAME: Final = re.compile(r"\d{8}T\d{9}Z-[a-z]+-\d+-\d+\.jpg")
_TEMPORARY: Final = re.compile(rf"\.{_NAME.pattern}\..+")
_REMEMBERED_S: Final = 1.0  # a detector misses a face in one frame that it had in the one before
_CELLS: Final = 6  # of a mosaic, each way: too few to tell faces apart
_HEAD: Final = 0.3  # of a face's sides, around it, that are made unrecognisable with it
_MARGIN: Final = 0.4  # of a face's sides, around it, in a picture of one face


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """Which moments are kept, and what of them.

    Attributes:
        keep: pictures; the oldest are removed.
        subject: `face` cuts out the face that the event is about; `frame` keeps the whole frame with its label.
        unknown: also of people who were not recognised.
        show_others: leave the other faces of the picture as they are.
        quality: of the JPEG, 1 to 100.

    Raises:
        ConfigError: a value is out of range.
    """

    keep: int = 100
    subject: Literal["face", "frame"] = "face"
    unknown: bool = False
    show_others: bool = False
    quality: int = 90

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ConfigError(f"cannot keep {self.keep} snapshots; use at least 1")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"the quality of a JPEG lies in 1 to 100, got {self.quality}")


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    name: str
    image: Image
    face: FaceView
    present: tuple[npt.NDArray[np.floating], ...]
    recent: tuple[npt.NDArray[np.floating], ...]


class Snapshots:
    """A folder of pictures. They are made and written in a thread of their own; the loop only copies pixels.

    Each file appears complete under its name. A picture that the disk does not take, or that finds four others waiting,
    is not made and counted. Names hold time, event, frame and track, never who it is.

    The other faces are those that the detector finds in the frame or found in the last second. One that it does not
    find is not hidden.

    Args:
        folder: made if it does not exist. Only files with names such as these are ever removed from it.
        settings: which moments.

    Raises:
        ConfigError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, settings: SnapshotSettings | None = None) -> None:
        self._folder = folder
        self._settings = settings or SnapshotSettings()
        self._overlay = Overlay()
        self._image: Image | None = None
        self._frame = -1
        self._faces: tuple[FaceView, ...] = ()
        self._seen: dict[int, tuple[float, npt.NDArray[np.floating]]] = {}
        self._changed = threading.Condition()  # guards everything below
        self._jobs: deque[_Job] = deque()
        self._is_busy = False
        self._is_closed = False
        self._written = 0
        self._lost = 0
        self._error: str | None = None
        try:
            make_private_folder(folder)
            for path in folder.iterdir():  # what a crash left
                if _TEMPORARY.fullmatch(path.name):
                    path.unlink()
            write_bytes(folder / ".writable", b"", mode=PRIVATE)
            (folder / ".writable").unlink()
        except OSError as error:
            raise ConfigError(
                f"snapshots cannot be written to {folder}: {error.strerror}; give another folder"
            ) from error
        threading.Thread(target=self._work, name="snapshots", daemon=True).start()

    def see(self, image: Image, frame: int, time_s: float, faces: Sequence[FaceView]) -> None:
        """Take note of a frame and the faces in it, (H, W, 3) uint8 RGB. Copies nothing."""
        self._image, self._frame, self._faces = image, frame, tuple(faces)
        self._seen = {
            track: (seen_s, box) for track, (seen_s, box) in self._seen.items() if 0 <= time_s - seen_s < _REMEMBERED_S
        }
        self._seen.update((face.track, (time_s, face.box)) for face in faces)

    def take(self, event: str, frame: int | None, track: int, time: datetime) -> str | None:
        """Make a picture of an event in the frame that was seen last.

        Returns:
            The file's name; None if there is no picture of such an event, or none could be taken.
        """
        if event != "match" and not (self._settings.unknown and event in ("unknown", "rejected")):
            return None
        face = next((face for face in self._faces if face.track == track), None)
        if self._image is None or frame != self._frame or face is None:
            return None
        stamp = time.astimezone(UTC).strftime("%Y%m%dT%H%M%S%f")[:-3]
        name = f"{stamp}Z-{event}-{frame}-{track}.jpg"
        with self._changed:
            if self._is_closed or len(self._jobs) >= 4:
                self._lost += 1
                return None
        present = tuple(other.box for other in self._faces if other is not face)
        now = {other.track for other in self._faces}
        recent = tuple(box for other, (_, box) in self._seen.items() if other not in now)
        # The source may use the array again for the next frame.
        job = _Job(name, self._image.copy(), face, present, recent)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()
        return name

    def state(self) -> SinkState:
        """Return how many pictures were written, wait and were not made."""
        with self._changed:
            waiting = len(self._jobs) + self._is_busy
            return SinkState(f"snapshots {self._folder}", self._written, waiting, 0, self._lost, self._error)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, but take no longer than that; idempotent."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._jobs and not self._is_busy, timeout_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_closed)
                if not self._jobs:
                    return
                job = self._jobs.popleft()
                self._is_busy = True
            error = ""
            try:
                self._write(job)
            except OSError as raised:
                error = raised.strerror or str(raised)
            except Exception as raised:  # the next one may work
                logger.exception("a snapshot failed")
                error = f"{type(raised).__name__}: {raised}"
            with self._changed:
                self._is_busy = False
                self._written += not error
                self._lost += bool(error)
                if error and self._error is None:
                    logger.warning("snapshot %s not written to %s: %s", job.name, self._folder, error)
                self._error = error or None
                self._changed.notify_all()

    def _write(self, job: _Job) -> None:
        image = job.image
        if not self._settings.show_others:
            image = hide(image, job.face.box, job.present, job.recent)
        if self._settings.subject == "face":
            left, top, right, bottom = _around(job.face.box, _MARGIN, image)
            image = np.ascontiguousarray(image[top:bottom, left:right])
        else:
            self._overlay.draw(image, [job.face])
        write_bytes(self._folder / job.name, encode_image(image, ".jpg", self._settings.quality), mode=PRIVATE)
        names = sorted(path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name))
        for name in names[: -self._settings.keep]:
            with contextlib.suppress(FileNotFoundError):
                (self._folder / name).unlink()


def hide(
    image: Image,
    face: npt.NDArray[np.floating],
    present: Sequence[npt.NDArray[np.floating]],
    recent: Sequence[npt.NDArray[np.floating]] = (),
) -> Image:
    """Return a copy in which all faces but one are coarse mosaics, from which they cannot be recovered.

    Args:
        image: (H, W, 3) uint8 RGB.
        face: (4,) x, y, width, height of the face that stays.
        present: boxes of the others. Where one overlaps the face that stays, it is hidden all the same.
        recent: boxes where others were a moment ago. The face that stays is not touched by these.
    """
    result = image.copy()
    for box in (*present, *recent):
        left, top, right, bottom = _around(box, _HEAD, image)
        patch = result[top:bottom, left:right]
        if patch.size:
            small = cv2.resize(np.ascontiguousarray(patch), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
            patch[:] = cv2.resize(small, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    keep = np.zeros(image.shape[:2], bool)
    left, top, right, bottom = _around(face, 0.0, image)
    keep[top:bottom, left:right] = True
    for box in present:
        left, top, right, bottom = _around(box, 0.0, image)
        keep[top:bottom, left:right] = False
    result[keep] = image[keep]
    return result


def _around(box: npt.NDArray[np.floating], share: float, image: Image) -> Rectangle:
    """Return a box with `share` of its sides added on each side, within the picture."""
    x, y, width, height = (float(value) for value in box)
    height_px, width_px = image.shape[:2]
    left, right = np.clip([x - share * width, x + (1 + share) * width], 0, width_px)
    top, bottom = np.clip([y - share * height, y + (1 + share) * height], 0, height_px)
    return int(np.floor(left)), int(np.floor(top)), int(np.ceil(right)), int(np.ceil(bottom))
