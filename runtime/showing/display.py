"""A window on the screen, where there is one."""

import functools
import os
import subprocess
import sys
from typing import Final, Self

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError
from edgeface.runtime.cameras.video import quiet_opencv

# Opens a window for real. It runs in a process of its own, because Qt aborts the process when it cannot.
_PROBE: Final = """
import sys
if sys.platform != "win32":
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import cv2
cv2.namedWindow("edgeface")
cv2.waitKey(1)
cv2.destroyAllWindows()
"""
_CLOSE_KEYS: Final = (ord("q"), 27)  # q and Esc


def has_display() -> bool:
    """Tell whether a window can be opened here, without ever risking the process.

    On Linux without DISPLAY and WAYLAND_DISPLAY the answer is no. With one of them a second process opens a
    window once, as a variable may name a display that is not there. macOS and Windows are taken to have one.
    """
    if cv2.currentUIFramework() in ("", "NONE"):  # opencv-python-headless
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    displays = (os.environ.get("DISPLAY", ""), os.environ.get("WAYLAND_DISPLAY", ""))
    return any(displays) and _can_open_window(displays)


@functools.cache
def _can_open_window(displays: tuple[str, str]) -> bool:
    """Try it; `displays` is what the answer depends on. A few tenths of a second, once."""
    try:
        probe = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


class Window:
    """A window that shows pictures and notices when the user wants to stop.

    Args:
        title: what is written on the window; also its name for OpenCV, so two windows need two titles.

    Raises:
        ConfigError: there is no display.
    """

    def __init__(self, title: str = "edgeface") -> None:
        if not has_display():
            raise ConfigError(
                "no display: DISPLAY and WAYLAND_DISPLAY name none that works; "
                "run without a window, or record to a file instead"
            )
        quiet_opencv()
        self._title = title
        self._shown = False
        self._closed = False

    def show(self, image: npt.NDArray[np.uint8]) -> bool:
        """Show (H, W, 3) uint8 RGB and handle keys; False once the user closed it or pressed q or Esc."""
        if self._closed or (self._shown and not self._is_visible()):
            self.close()
            return False
        if not self._shown:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(self._title, image.shape[1], image.shape[0])
            self._shown = True
        cv2.imshow(self._title, np.ascontiguousarray(image[:, :, ::-1]))
        key = cv2.waitKey(1)
        if (key >= 0 and key & 0xFF in _CLOSE_KEYS) or not self._is_visible():
            self.close()
            return False
        return True

    def close(self) -> None:
        """Close the window; may be called again."""
        if self._shown and not self._closed:
            # Already gone when the user closed it.
            if self._is_visible():
                cv2.destroyWindow(self._title)
            cv2.waitKey(1)  # lets the window system take it off the screen
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_visible(self) -> bool:
        try:
            return bool(cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1)
        except cv2.error:  # Qt, after the user closed the only window
            return False
