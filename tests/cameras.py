"""A camera that does what a script says, in a time of its own: nothing sleeps and no thread runs."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.errors import ImageError, SourceError
from edgeface.runtime.cameras.frames import Frame, FrameSource
from edgeface.runtime.cameras.reading import Clock, News, Opener
from edgeface.runtime.cameras.video import Captured
from edgeface.runtime.cameras.view import check_picture

Image = npt.NDArray[np.uint8]
Step = tuple[float, Any]
"""Seconds that a read takes, `HANG` for ever; and what it gives: a picture, None for a failure, or an exception."""
HANG = math.inf


class FakeClock:
    """Seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class FakeCapture:
    """Stands in for cv2.VideoCapture: what reads give, and how long they take.

    Args:
        steps: what each read does; after the last one reads fail at once.
        opened: whether it could be opened.
        called: is told of each call; real captures end the process when two threads call.
    """

    def __init__(
        self, steps: Iterable[Step] = (), *, opened: bool = True, called: Callable[[str], None] = lambda _: None
    ) -> None:
        self.steps = list(steps)
        self.opened = opened
        self.released = False
        self.settings: dict[int, float] = {}
        self.position_ms: list[float] = []
        self._called = called

    def isOpened(self) -> bool:
        return self.opened

    def get(self, what: int) -> float:
        return self.position_ms.pop(0) if what == 0 and self.position_ms else 0.0

    def set(self, what: int, value: float) -> bool:
        self.settings[what] = value
        return True

    def grab(self) -> bool:
        return self.read()[0]

    def read(self) -> tuple[bool, Image | None]:
        self._called("read")
        if not self.steps:
            return False, None
        _, gives = self.steps.pop(0)
        if isinstance(gives, Exception):
            raise gives
        return gives is not None, gives

    def release(self) -> None:
        self._called("release")
        self.released, self.opened = True, False

    @property
    def next_s(self) -> float:
        """How long the next read takes."""
        return self.steps[0][0] if self.steps else 0.0


class FakeCamera(Captured):
    """A live source in front of a fake capture."""

    def __init__(self, capture: Any) -> None:
        super().__init__("door", capture, live=True, unusable="door gives no picture")

    def _end(self) -> None:
        raise SourceError(f"door stopped after {self._count} frames")


class ScriptedReading:
    """A `Reading` whose thread is played by whoever waits for it."""

    def __init__(self, capture: FakeCapture, clock: FakeClock) -> None:
        self._capture = capture
        self._clock = clock
        self._due_s = clock() + capture.next_s
        self._source: FrameSource | None = None
        self._news = News()
        self.is_released = False

    def wait(self, timeout_s: float) -> None:
        assert timeout_s >= 0
        until_s = self._clock() + timeout_s
        while self._news.frame is None and not self._news.ended and self._due_s <= until_s:
            self._step()
        if self._news.frame is None and not self._news.ended:
            self._clock.now_s = max(self._clock.now_s, until_s)

    def take(self) -> News:
        while not self._news.ended and self._due_s <= self._clock():
            self._step()
        news = self._news
        self._news = News(None, 0.0, news.arrived, news.damaged, news.damage, news.ended, news.error, news.fps)
        return news

    def release(self, timeout_s: float) -> None:
        self.is_released = True
        if math.isfinite(self._due_s):
            self._capture.release()

    def holds(self) -> bool:
        return self.is_released and not math.isfinite(self._due_s)

    def free(self) -> None:
        """Let a read that hangs return."""
        self._due_s = self._clock()

    def _step(self) -> None:
        self._clock.now_s = at_s = max(self._clock.now_s, self._due_s)
        old = self._news
        try:
            if self._source is None:
                self._source = FakeCamera(self._capture)
            frame: Frame | None = self._source.read()
            assert frame is not None
            check_picture(frame.image)
            self._news = News(frame, at_s, old.arrived + 1, old.damaged, old.damage)
        except ImageError as damage:
            self._news = News(old.frame, old.at_s, old.arrived, old.damaged + 1, str(damage))
        except Exception as error:
            self._news = News(old.frame, old.at_s, old.arrived, old.damaged, old.damage, True, error)
        self._due_s = at_s + self._capture.next_s


class Bench:
    """Gives a `LiveSource` one capture after another, and remembers the readings and when they began.

    Args:
        captures: what each opening gives; or a function of the time.
    """

    def __init__(self, captures: Sequence[FakeCapture] | Callable[[float], FakeCapture]) -> None:
        self.clock = FakeClock()
        self.readings: list[ScriptedReading] = []
        self.opened_s: list[float] = []
        self._captures = captures

    def start(self, opener: Opener, name: str, clock: Clock) -> ScriptedReading:
        number, now_s = len(self.readings), self.clock() - 1000.0
        if callable(self._captures):
            capture = self._captures(now_s)
        else:
            capture = self._captures[number] if number < len(self._captures) else FakeCapture(opened=False)
        self.opened_s.append(now_s)
        self.readings.append(ScriptedReading(capture, self.clock))
        return self.readings[-1]


def pictures(count: int, every_s: float = 0.1, first: int = 0, side: int = 32) -> list[Step]:
    """Return reads that give `count` different pictures."""
    return [(every_s, np.full((side, side, 3), (first + i) % 251, np.uint8)) for i in range(count)]
