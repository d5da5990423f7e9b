"""Frames on their way to a video file and a window."""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.runtime.showing.draw import FaceView, Overlay, status_lines
from edgeface.runtime.timing import Laps

Image = npt.NDArray[np.uint8]

_SMOOTHING: Final = 0.1  # of the frame rate that is drawn


class Recorder(Protocol):
    """Takes the pictures for a video; `edgeface.runtime.showing.recorder.VideoRecorder` is one."""

    def write(self, image: Image) -> None:
        """Append (H, W, 3) uint8 RGB."""
        ...

    def close(self) -> None:
        """Finish the video."""
        ...


class Screen(Protocol):
    """Shows the pictures; `edgeface.runtime.showing.display.Window` is one."""

    def show(self, image: Image) -> bool:
        """Show (H, W, 3) uint8 RGB; False once the user wants to stop."""
        ...

    def close(self) -> None:
        """Take it off the screen."""
        ...


class Pictures:
    """Draws the frames for a recorder and a window; does nothing where there is neither."""

    def __init__(
        self,
        open_recorder: Callable[[tuple[int, int]], Recorder] | None,
        window: Screen | None,
        note: Callable[[], str] = lambda: "",
    ) -> None:
        self.wanted = open_recorder is not None or window is not None
        self._open_recorder = open_recorder
        self._recorder: Recorder | None = None
        self._window = window
        self._overlay = Overlay() if self.wanted else None
        self._note = note
        self._ms: dict[str, float] = {}  # by stage, each as it last was: many do not run in every frame
        self._last_s: float | None = None
        self._interval_s = 0.0
        self._shown: Image | None = None

    def idle(self) -> bool:
        """Show the last picture again while there is no new one, so that the window lives; False as of `show`."""
        return self._window is None or self._shown is None or self._window.show(self._shown)

    def show(self, image: Image, faces: Sequence[FaceView], laps: Laps) -> bool:
        """Draw one frame and pass it on; False once the user wants to stop."""
        now_s = time.perf_counter()
        if self._last_s is not None:
            weight = _SMOOTHING if self._interval_s else 1.0
            self._interval_s += weight * (now_s - self._last_s - self._interval_s)
        self._last_s = now_s
        self._ms.update(laps.ms)
        # A source may hand out the same array again, and a face with a box through it is another face.
        image = image.copy()
        if self._overlay is not None:
            fps = 1 / self._interval_s if self._interval_s else None
            self._overlay.draw(image, faces, status_lines(self._ms, laps.total_ms, fps, len(faces), self._note()))
        laps.mark("draw")
        if self._open_recorder is not None:
            if self._recorder is None:
                self._recorder = self._open_recorder((image.shape[1], image.shape[0]))
            self._recorder.write(image)
        self._shown = None if self._window is None else image
        goes_on = self._window is None or self._window.show(image)
        laps.mark("output")
        self._ms.update((stage, laps.ms[stage]) for stage in ("draw", "output"))
        return goes_on

    def close(self) -> None:
        """Finish the video and take the window off the screen."""
        if self._window is not None:
            self._window.close()
        if self._recorder is not None:
            self._recorder.close()
