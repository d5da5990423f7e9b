"""One opening of a live source, in a thread of its own.

That thread opens the device, reads it and closes it, and no other ever touches it: releasing a capture under
a thread that reads from it crashes. A thread that hangs is therefore left to itself, and closes its device
when its driver returns.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edgeface.errors import ImageError
from edgeface.runtime.cameras.frames import Frame, FrameSource
from edgeface.runtime.cameras.view import check_picture

Opener = Callable[[], FrameSource]
Clock = Callable[[], float]
"""Seconds that never go back, such as `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class News:
    """What a reading has got so far.

    Attributes:
        frame: the newest frame that nobody fetched yet.
        at_s: when it arrived.
        arrived: good frames so far.
        damaged: damaged ones, which were left out.
        damage: what is wrong with the last of them.
        ended: the thread is done with the device; `error` says why, None for a source that came to its end.
        fps: frames a second as the source says.
    """

    frame: Frame | None = None
    at_s: float = 0.0
    arrived: int = 0
    damaged: int = 0
    damage: str = ""
    ended: bool = False
    error: BaseException | None = None
    fps: float | None = None


class Reading(Protocol):
    """What `edgeface.runtime.cameras.live` needs of an opening; tests script one."""

    def wait(self, timeout_s: float) -> None:
        """Wait up to so long for a frame or the end."""
        ...

    def take(self) -> News:
        """Return what there is; the frame is fetched with it."""
        ...

    def release(self, timeout_s: float) -> None:
        """Let the device go, and wait up to so long until it is closed. May be called again."""
        ...

    def holds(self) -> bool:
        """Tell whether the device is still held, as by a read that hangs."""
        ...


class ThreadReading:
    """A thread that holds the newest frame of a source; older ones that nobody fetched are dropped.

    Args:
        opener: opens the source; called in the thread.
        name: of the source.
        clock: dates the frames.
    """

    def __init__(self, opener: Opener, name: str, clock: Clock) -> None:
        self._opener = opener
        self._clock = clock
        self._changed = threading.Condition()  # guards everything below
        self._frame: Frame | None = None
        self._at_s = 0.0
        self._arrived = 0
        self._damaged = 0
        self._damage = ""
        self._ended = False
        self._error: BaseException | None = None
        self._fps: float | None = None
        self._is_released = False
        # A daemon, so that a driver that never returns cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"capture {name}", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Wait for a frame that was not fetched yet, the end, or the release by another thread."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._frame is not None or self._ended or self._is_released, max(0.0, timeout_s)
            )

    def take(self) -> News:
        """Return what there is, and forget the frame."""
        with self._changed:
            frame, self._frame = self._frame, None
            return News(
                frame,
                self._at_s,
                self._arrived,
                self._damaged,
                self._damage,
                self._ended,
                self._error,
                self._fps,
            )

    def release(self, timeout_s: float) -> None:
        """Make the thread close its device once the read at work returns."""
        with self._changed:
            self._is_released = True
            self._frame = None
            self._changed.notify_all()
        self._thread.join(max(0.0, timeout_s))

    def holds(self) -> bool:
        """Tell whether the thread still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        error: BaseException | None = None
        source: FrameSource | None = None
        try:
            source = self._opener()
            with self._changed:
                self._fps = source.fps
            while not self._is_released and self._read(source):
                pass
        except BaseException as raised:  # handed to the reader, whatever it is
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()
        if source is not None:
            source.close()

    def _read(self, source: FrameSource) -> bool:
        """Read one frame; False at the end of the source."""
        try:
            frame = source.read()
            if frame is None:
                return False
            check_picture(frame.image)
        except ImageError as damage:
            with self._changed:
                self._damaged += 1
                self._damage = str(damage)
            return True
        at_s = self._clock()
        with self._changed:
            if not self._is_released:
                self._frame, self._at_s = frame, at_s
                self._arrived += 1
                self._changed.notify_all()
        return True
