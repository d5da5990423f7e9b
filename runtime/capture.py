"""A thread in front of a source: the newest frame of a live one, every frame of a file.

A wrapper owns its source: the thread closes it when it stops, because a capture must not be released while
another thread reads from it.
"""

import logging
import threading
from collections import deque
from dataclasses import replace

from edgeface.errors import SourceError
from edgeface.runtime.frames import Frame, FrameSource

logger = logging.getLogger(__name__)


def buffered(source: FrameSource, *, timeout_s: float = 5.0, ahead: int = 4) -> FrameSource:
    """Put the fitting thread in front of `source`: `LatestFrame` for a live one, else `ReadAhead`."""
    return LatestFrame(source, timeout_s=timeout_s) if source.live else ReadAhead(source, ahead=ahead)


class _Threaded(FrameSource):
    """Reads `source` in a thread; subclasses say what happens to a frame."""

    def __init__(self, source: FrameSource, timeout_s: float | None, close_timeout_s: float) -> None:
        self.name, self.live, self.fps = source.name, source.live, source.fps
        self._source = source
        self._timeout_s = timeout_s
        self._close_timeout_s = close_timeout_s
        self._changed = threading.Condition()  # guards everything below
        self._frames: deque[Frame] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._stopping = False
        # A daemon, so that a driver that never returns cannot keep the process from ending.
        self._thread = threading.Thread(target=self._drain, name=f"capture {self.name}", daemon=True)
        self._thread.start()

    def read(self) -> Frame | None:
        """Return the next frame, None at the end; raises what the source raised, after the frames before it.

        Raises:
            SourceError: also if no frame came in time, or the source is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._ended or self._stopping, self._timeout_s)
            if self._stopping:
                raise SourceError(f"{self.name} is closed; open it again to read from it")
            if self._frames:
                frame = self._frames.popleft()
                self._changed.notify_all()
                return frame
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
        raise SourceError(
            f"{self.name} gave no frame for {self._timeout_s:g} s; check the camera, its cable and network"
        )

    def close(self) -> None:
        """Stop the thread, which closes the source. A read that hangs is left to itself, with a warning."""
        with self._changed:
            self._stopping = True
            self._frames.clear()
            self._changed.notify_all()
        self._thread.join(self._close_timeout_s)
        if self._thread.is_alive():
            logger.warning("%s does not answer; it is left open until its driver returns", self.name)

    def _drain(self) -> None:
        error: BaseException | None = None
        try:
            while (frame := self._source.read()) is not None:
                with self._changed:
                    self._store(frame)
                    self._changed.notify_all()
                    if self._stopping:
                        break
        except BaseException as raised:  # handed to the reader, whatever it is
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()
        self._source.close()

    def _store(self, frame: Frame) -> None:
        """Keep `frame`; called with the lock held."""
        raise NotImplementedError


class LatestFrame(_Threaded):
    """The newest frame of a live source; older ones that nobody fetched are dropped and counted.

    `Frame.index` counts the frames that were fetched. After a time-out, reading again is allowed.

    Args:
        source: a live source, owned from now on.
        timeout_s: how long `read` waits for a frame, and `close` for a read that hangs.
    """

    def __init__(self, source: FrameSource, *, timeout_s: float = 5.0) -> None:
        self._dropped = 0
        self._fetched = 0
        super().__init__(source, timeout_s, timeout_s)

    @property
    def dropped(self) -> int:
        """Frames that were replaced by a newer one before anybody fetched them."""
        with self._changed:
            return self._dropped

    def read(self) -> Frame | None:
        """Return the newest frame that was not fetched yet; waits for one. Raises as the source does."""
        frame = super().read()
        if frame is None:
            return None
        index, self._fetched = self._fetched, self._fetched + 1
        return replace(frame, index=index)

    def _store(self, frame: Frame) -> None:
        self._dropped += len(self._frames)
        self._frames.clear()
        self._frames.append(frame)


class ReadAhead(_Threaded):
    """Every frame of a file in order, decoded ahead of the reader.

    Args:
        source: a source that waits for its reader, owned from now on.
        ahead: how many decoded frames may wait.
    """

    def __init__(self, source: FrameSource, *, ahead: int = 4) -> None:
        self._ahead = max(1, ahead)
        super().__init__(source, timeout_s=None, close_timeout_s=10.0)

    def _store(self, frame: Frame) -> None:
        self._changed.wait_for(lambda: len(self._frames) < self._ahead or self._stopping)
        self._frames.append(frame)
