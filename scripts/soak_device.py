"""A camera for the soak test: a loop of pictures in memory, and faults on order."""

import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.errors import SourceError
from edgeface.runtime.cameras.frames import Frame, FrameSource

Image = npt.NDArray[np.uint8]

OUTAGES = ("disconnect", "hang", "frozen")
"""Faults that must be told as one `camera_lost` and one `camera_back` each."""
ODDITIES = ("corrupt", "resize", "source clock back")
"""Faults that must not interrupt anything."""
_BURST = 5  # frames of an oddity


class Device:
    """What is plugged in: sessions are opened on it one after another, and all of them see its faults.

    Args:
        pictures: (H, W, 3) uint8 RGB each, shown over and over; two in a row must differ.
        rate: frames a second.
        seed: of the shapes of damaged frames.
    """

    def __init__(self, pictures: Sequence[Image], rate: float, seed: int) -> None:
        self.opened = 0
        self.most_open = 0
        self.damaged = 0
        self.returned_s = 0.0
        self._pictures = pictures
        self._period_s = 1 / rate
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._outage = ""
        self._until_s = 0.0
        self._oddity = ""
        self._left = 0
        self._next = 0
        self._free = threading.Event()
        self._now_open = 0

    def break_down(self, fault: str, seconds: float) -> None:
        """Begin an outage that ends by itself."""
        with self._lock:
            self._outage, self._until_s = fault, time.monotonic() + seconds
            self._free.clear()

    def act_up(self, oddity: str) -> None:
        """Let the next few frames be odd."""
        with self._lock:
            self._oddity, self._left = oddity, _BURST

    def open(self) -> FrameSource:
        """Open a session; SourceError while there is nothing to open."""
        if self._current() in ("disconnect", "hang"):
            raise SourceError("soak camera: nothing is plugged in")
        with self._lock:
            self.opened += 1
            self._now_open += 1
            self.most_open = max(self.most_open, self._now_open)
        return _Session(self)

    def close(self) -> None:
        """Note that a session was closed."""
        with self._lock:
            self._now_open -= 1

    def picture(self) -> tuple[Any, float]:
        """Return the next picture and its time, or do what is wrong just now instead."""
        time.sleep(self._period_s)
        fault = self._current()
        if fault == "disconnect":
            raise SourceError("soak camera: the cable was pulled")
        if fault == "hang":
            self._free.wait(self._until_s - time.monotonic())
            raise SourceError("soak camera: the driver returned at last")
        with self._lock:
            if fault != "frozen":
                self._next = (self._next + 1) % len(self._pictures)
            picture, at_s = self._pictures[self._next], time.monotonic()
            if not self._left or fault:
                return picture, at_s
            self._left -= 1
            if self._oddity == "corrupt":
                self.damaged += 1
                return self._random.choice(_DAMAGES)(picture), at_s
            if self._oddity == "resize":
                return np.ascontiguousarray(picture[: picture.shape[0] * 9 // 10]), at_s
            return picture, at_s - 3600.0

    def _current(self) -> str:
        with self._lock:
            if self._outage and time.monotonic() >= self._until_s:
                self._outage, self.returned_s = "", self._until_s
                self._free.set()
            return self._outage


_DAMAGES = (
    lambda picture: None,
    lambda picture: picture.astype(np.float32),
    lambda picture: picture[:, :, 0],
    lambda picture: picture[:3, :3],
    lambda picture: picture.astype(np.uint16),
)


class _Session(FrameSource):
    name = "soak camera"
    live = True
    fps = None

    def __init__(self, device: Device) -> None:
        self._device = device
        self._count = 0
        self._closed = False

    def read(self) -> Frame | None:
        picture, source_s = self._device.picture()
        index, self._count = self._count, self._count + 1
        return Frame(picture, index, source_s, source_s=source_s)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._device.close()
