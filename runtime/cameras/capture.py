"""What is read from with a thread in front: every frame of a file, the newest one of a live source."""

import logging
import threading
from collections import deque

from edgeface.errors import ImageError, SourceError
from edgeface.runtime.cameras.frames import Frame, FrameSource
from edgeface.runtime.cameras.live import LiveSource
from edgeface.runtime.cameras.live_settings import LiveSettings
from edgeface.runtime.cameras.sources import find_source
from edgeface.runtime.cameras.video import Asked
from edgeface.runtime.cameras.view import View

logger = logging.getLogger(__name__)


def open_frames(
    spec: str,
    *,
    asked: Asked | None = None,
    view: View | None = None,
    live: LiveSettings | None = None,
    ahead: int = 4,
) -> FrameSource:
    """Open what `spec` names, with the thread that fits: a `LiveSource`, or `ReadAhead` for files and folders.

    Args:
        spec: see `edgeface.runtime.cameras.sources.find_source`.
        asked: what to ask a camera for; files ignore it.
        view: how to turn and cut the pictures.
        live: when a live source is lost, and what then; files ignore it.
        ahead: how many decoded frames of a file may wait.

    Raises:
        SourceError: there is no such source, it gives no picture and is not to be waited for, or its pictures are
            smaller than the crop of `view`.
    """
    live = live or LiveSettings()
    found = find_source(
        spec,
        asked=asked,
        view=view,
        open_timeout_s=live.open_timeout_s,
        read_timeout_s=live.read_timeout_s,
        any_certificate=live.any_certificate,
    )
    if not found.live:
        return ReadAhead(found.open(), ahead=ahead)
    source = LiveSource(found.name, found.open, live)
    if not live.wait_at_start:
        try:
            source.await_first()
        except BaseException:
            source.close()
            raise
    return source


class ReadAhead(FrameSource):
    """Every frame of a source that waits for its reader, in order, decoded ahead of it.

    The thread closes the source when it stops, because a capture must not be released while another thread
    reads from it.

    Args:
        source: owned from now on.
        ahead: how many decoded frames may wait.
    """

    def __init__(self, source: FrameSource, *, ahead: int = 4) -> None:
        self.name, self.live, self.fps, self.stills = source.name, source.live, source.fps, source.stills
        self._source = source
        self._ahead = max(1, ahead)
        self._changed = threading.Condition()  # guards everything below
        self._frames: deque[Frame] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._stopping = False
        # A daemon, so that a file system that never answers cannot keep the process from ending.
        self._thread = threading.Thread(target=self._drain, name=f"capture {self.name}", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a frame or the end."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._frames) or self._ended or self._stopping, timeout_s)

    def read(self) -> Frame | None:
        """Return the next frame, None at the end; raises what the source raised, after the frames before it.

        Raises:
            SourceError: also if the source is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._ended or self._stopping)
            if self._stopping:
                raise SourceError(f"{self.name} is closed; open it again to read from it")
            if self._frames:
                frame = self._frames.popleft()
                self._changed.notify_all()
                return frame
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Stop the thread, which closes the source. A read that hangs is left to itself, with a warning."""
        with self._changed:
            self._stopping = True
            self._frames.clear()
            self._changed.notify_all()
        self._thread.join(1.0)
        if self._thread.is_alive():
            logger.warning("%s does not answer; it is left open until it can be read", self.name)

    def _drain(self) -> None:
        error: BaseException | None = None
        try:
            while self._read_one():
                pass
        except BaseException as raised:  # handed to the reader, whatever it is
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()
        self._source.close()
        if self.skipped:
            logger.warning("%s: %d damaged frames were skipped", self.name, self.skipped)

    def _read_one(self) -> bool:
        """Read one frame and keep it once there is room; False at the end or when nobody wants it."""
        try:
            frame = self._source.read()
        except ImageError as error:
            self.skipped += 1
            logger.debug("%s: skipped: %s", self.name, error)
            return True
        if frame is None:
            return False
        with self._changed:
            self._changed.wait_for(lambda: len(self._frames) < self._ahead or self._stopping)
            self._frames.append(frame)
            self._changed.notify_all()
            return not self._stopping
