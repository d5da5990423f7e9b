"""A frame, what gives frames, and a source in memory."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from edgeface.errors import SourceError

NoticeKind = Literal["camera_lost", "camera_back", "camera_warning"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3) uint8 RGB."""
    index: int
    """Counts the frames that the reader was given, from 0."""
    time_s: float
    """Position in a video; of a live source, the seconds since it was opened; of a folder, the index."""
    name: str = ""
    """File name of a picture from a folder, otherwise empty."""
    reduction: int = 1
    """More than 1 for a huge picture that was decoded smaller: coordinates times this are those in the file."""
    source_s: float | None = None
    """When it was taken by the source's own clock, in seconds from anywhere; only to notice one that goes back."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a source has to say besides its frames, once each time."""

    kind: NoticeKind
    """`camera_lost` and `camera_back` take turns; `camera_warning`: frames go on, but something is odd."""
    why: str
    """One line without credentials."""


class FrameSource(Protocol):
    """Gives frames until it ends. Also a context manager that closes it."""

    name: str
    """What to call the source in logs, events and errors; never holds credentials."""
    live: bool
    """Whether frames come by themselves, so that one that is not fetched in time is lost."""
    fps: float | None
    """Frames a second, None where the source does not say."""
    stills: bool = False
    """Whether the frames are unrelated pictures, as from a folder."""
    skipped: int = 0
    """Damaged frames that were left out so far."""

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` until `read` will not block, and tell whether it will not.

        A source that cannot tell says True at once. False before the time is up means that there are `notices`.
        """
        return True

    def notices(self) -> tuple[Notice, ...]:
        """Return what there is to say since the last call, in order."""
        return ()

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end of a source that has one.

        Raises:
            SourceError: a live source is lost, or the source is closed.
            ImageError: this frame is damaged; the next one may be read.
        """
        ...

    def close(self) -> None:
        """Free the device, file or connection; may be called again."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FrameSequence(FrameSource):
    """Frames from memory, for demonstrations and tests.

    Args:
        images: (H, W, 3) uint8 RGB each; taken one by one as they are read.
        fps: frames a second; without it `time_s` is the index.
        live: whether to behave as a camera: frames come no faster than `fps`, and the end is a lost camera.
        name: name of the source.
    """

    def __init__(
        self,
        images: Iterable[npt.NDArray[np.uint8]],
        *,
        fps: float | None = None,
        live: bool = False,
        name: str = "memory",
    ) -> None:
        self.name = name
        self.live = live
        self.fps = fps
        self._images = iter(images)
        self._count = 0
        self._closed = False
        self._started_s = time.monotonic()

    def read(self) -> Frame | None:
        """Return the next frame; at the end None, or SourceError if live."""
        if self._closed:
            raise SourceError(f"{self.name} is closed; open it again to read from it")
        image = next(self._images, None)
        if image is None:
            if self.live:
                raise SourceError(f"{self.name} stopped after {self._count} frames")
            return None
        index, self._count = self._count, self._count + 1
        time_s = index / (self.fps or 1.0)
        if self.live and self.fps is not None:
            time.sleep(max(0.0, self._started_s + time_s - time.monotonic()))
        return Frame(image, index, time_s)

    def close(self) -> None:
        """Forget the images."""
        self._closed = True
        self._images = iter(())
