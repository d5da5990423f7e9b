"""A live source that is opened again whenever it is lost: the newest frame, or news of what is wrong.

A hung driver, a cable that was pulled, a stream that repeats itself: whatever happens to the device happens in
the thread of a `Reading`. What decides is here and runs in the reader's own thread, by a clock that never goes
back, so that the reader can do other things, or stop, while there is no frame.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from edgeface.errors import EdgefaceError, SourceError
from edgeface.runtime.cameras.frames import Frame, FrameSource, Notice, NoticeKind
from edgeface.runtime.cameras.live_settings import LiveSettings
from edgeface.runtime.cameras.reading import Clock, News, Opener, Reading, ThreadReading
from edgeface.runtime.cameras.watch import Watch

logger = logging.getLogger(__name__)

_GRACE_S: Final = 0.5  # for a backend to keep its own time-out before the watchdog gives up its thread
_STEADY_S: Final = 10.0  # with frames for so long, the next loss is a new one and is answered at once
_CLOSING_S: Final = 1.0  # how long a device that answers may take to close
_LOOK_S: Final = 0.05  # between two looks whether it has


class LiveSource(FrameSource):
    """The newest frame of a live source, over all its losses. Read and close it in one thread.

    `Frame.index` counts the frames that were fetched and `Frame.time_s` is when one arrived, in seconds since the
    source was made; both go on over a loss, and the time never goes back.

    Args:
        name: of the source, without credentials.
        opener: opens it; called in a new thread for each opening. What it opens belongs to that thread.
        settings: when it is lost, and what then.
        clock: seconds that never go back.
        pause: waits for so many seconds.
        rng: draws the pauses between attempts.
        start: makes a `Reading` of the opener, the name and the clock.
    """

    def __init__(
        self,
        name: str,
        opener: Opener,
        settings: LiveSettings | None = None,
        *,
        clock: Clock = time.monotonic,
        pause: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
        start: Callable[[Opener, str, Clock], Reading] = ThreadReading,
    ) -> None:
        self.name, self.live = name, True
        self.fps: float | None = None
        self.losses = 0
        """How often it was lost so far."""
        self.dropped = 0
        """Frames that were replaced by a newer one before anybody fetched them."""
        self._opener = opener
        self._settings = settings or LiveSettings()
        self._clock = clock
        self._pause = pause or threading.Event().wait
        self._random = rng or random.Random()
        self._start = start
        self._watch = Watch(name, self._settings.watch)
        self._notices: list[Notice] = []
        self._frame: Frame | None = None
        self._fetched = 0
        self._error: BaseException | None = None
        self._closed = False
        self._began_s = clock()
        self._last_s = 0.0  # time_s of the last frame
        self._lost_s: float | None = None  # since when there is no frame, if it is lost
        self._why = ""  # it is lost
        self._back_s = self._began_s
        self._attempts = 0  # without a steady source between them: they make the pauses longer
        self._tries = 0  # since it was lost
        self._retry_s = self._released_s = self._began_s
        self._left: list[Reading] = []  # released, but maybe still holding their device
        self._is_stuck = False  # too many of them
        self._reading: Reading | None = None
        # Of the reading at work:
        self._opened_s = self._alive_s = self._began_s  # when it was opened, and when its last frame arrived
        self._has_frames = False
        self._arrived = self._damaged = 0
        self._open(self._began_s)

    @property
    def hung(self) -> int:
        """Threads that hang in a driver now."""
        return sum(reading.holds() for reading in self._left)

    def await_first(self) -> None:
        """Wait until the source gives its first frame.

        Raises:
            SourceError: it gives none, and is not to be waited for.
        """
        while self._frame is None and self._error is None:
            self._advance(self._settings.open_timeout_s, wake_for_news=False)
        if self._error is not None:
            self.close()
            raise self._error

    def wait(self, timeout_s: float) -> bool:
        """Wait for a frame or the end; False when there is none, in time or before it because of `notices`."""
        return self._advance(timeout_s, wake_for_news=True)

    def notices(self) -> tuple[Notice, ...]:
        """Return what there is to say since the last call: losses, returns and warnings."""
        notices, self._notices = tuple(self._notices), []
        return notices

    def read(self) -> Frame:
        """Return the newest frame that was not fetched yet; waits for one, however long the source is away.

        Raises:
            SourceError: the source is lost for good, or closed.
        """
        while not self._advance(self._settings.read_timeout_s, wake_for_news=False):
            pass
        if self._closed:
            raise SourceError(f"{self.name} is closed; open it again to read from it")
        if self._frame is not None:
            frame, self._frame = self._frame, None
            index, self._fetched = self._fetched, self._fetched + 1
            return replace(frame, index=index)
        assert self._error is not None
        raise self._error

    def close(self) -> None:
        """Stop. A device that hangs is left to its thread, without waiting for it; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._frame = None
        if self._reading is not None:
            # One that gave a frame a moment ago will give the next one soon, and then closes in order.
            answers = self._has_frames and self._clock() - self._alive_s < _CLOSING_S
            self._reading.release(_CLOSING_S if answers else 0.05)
            self._left.append(self._reading)
            self._reading = None
        if self.hung:
            logger.warning("%s does not answer; it is left open until its driver returns", self.name)
        if self.skipped:
            logger.warning("%s: %d damaged frames were skipped", self.name, self.skipped)

    def _advance(self, timeout_s: float, *, wake_for_news: bool) -> bool:
        """Let time pass until there is a frame or an error; False after `timeout_s`, or for a notice."""
        until_s = self._clock() + timeout_s
        while True:
            now_s = self._clock()
            self._step(now_s)
            if self._frame is not None or self._error is not None or self._closed:
                return True
            if (wake_for_news and self._notices) or now_s >= until_s:
                return False
            reading = self._reading
            if reading is not None:
                reading.wait(min(until_s, self._limit_s()) - now_s)
            else:
                self._pause(max(0.0, min(until_s, self._retry_s) - now_s))

    def _step(self, now_s: float) -> None:
        """Look at the device as it is now, and do what is to be done; never waits."""
        if self._error is not None or self._closed:
            return
        if self._lost_s is not None and self._settings.give_up_after_s is not None:
            away_s = now_s - self._lost_s
            if away_s >= self._settings.give_up_after_s:
                self._error = SourceError(f"{self.name} was away for {away_s:.1f} s; {self._why}")
                return
        reading = self._reading
        if reading is None:
            if now_s >= self._retry_s:
                self._open(now_s)
            return
        news = reading.take()
        self._note(news, now_s)
        if news.frame is not None and (self._accept(news.frame, news.at_s) or self._reading is None):
            return
        if news.ended:
            self._lose(now_s, self._ending(news), news.error)
        elif now_s >= self._limit_s():
            self._lose(now_s, self._silence(news, now_s))

    def _open(self, now_s: float) -> None:
        self._left = [reading for reading in self._left if reading.holds()]
        if self._left and now_s - self._released_s < _CLOSING_S:
            self._retry_s = now_s + _LOOK_S  # opened while it is being closed, a device says that it is busy
            return
        was_stuck, self._is_stuck = self._is_stuck, len(self._left) >= self._settings.max_hung
        if self._is_stuck:
            self._retry_s = now_s + self._settings.retry_max_s
            if not was_stuck:
                logger.warning("%s: %d reads hang in the driver; waiting for one of them", self.name, len(self._left))
            return
        self._attempts += 1
        self._tries += 1
        self._opened_s = self._alive_s = now_s
        self._has_frames = False
        self._arrived = self._damaged = 0
        self._watch.opened(now_s)
        self._reading = self._start(self._opener, self.name, self._clock)

    def _note(self, news: News, now_s: float) -> None:
        """Keep the counts up to date, and tell what is odd."""
        self.fps = news.fps or self.fps
        arrived, self._arrived = news.arrived - self._arrived, news.arrived
        fetched = int(news.frame is not None)
        self.dropped += arrived - fetched + (fetched if self._frame is not None else 0)
        if news.damaged and not self._damaged:
            self._tell("camera_warning", f"{self.name} gives damaged frames, which are skipped: {news.damage}")
        self.skipped += news.damaged - self._damaged
        self._damaged = news.damaged
        self._watch.count(news.arrived, now_s)

    def _accept(self, frame: Frame, at_s: float) -> bool:
        """Take a frame that arrived; False if it is one picture over and over, which counts as none."""
        why = self._watch.see(frame, at_s)
        for warning in self._watch.warnings():
            self._tell("camera_warning", warning)
        if why is not None:
            if self._lost_s is None:
                self._alive_s = self._watch.changed_s
                self._lose(at_s, why)
            return False
        self._has_frames, self._alive_s = True, at_s
        self._last_s = max(self._last_s, at_s - self._began_s)
        self._frame = replace(frame, time_s=self._last_s)
        if self._lost_s is not None:
            attempts = f"{self._tries} attempt{'' if self._tries == 1 else 's'}"
            self._tell("camera_back", f"{self.name} is back after {at_s - self._lost_s:.1f} s and {attempts}")
            self._lost_s, self._back_s = None, at_s
        elif at_s - self._back_s >= _STEADY_S:
            self._attempts = 0
        return True

    def _lose(self, now_s: float, why: str, error: BaseException | None = None) -> None:
        """Let the device go; then try again later, or end."""
        if self._reading is not None:
            self._reading.release(0.0)
            self._left.append(self._reading)
            self._reading, self._released_s = None, now_s
        is_first = self._fetched == 0 and self._frame is None
        if self._lost_s is None:
            self.losses += 1
            self._lost_s, self._why, self._tries = self._alive_s, why, 0
            if not self._settings.reconnect or (is_first and not self._settings.wait_at_start):
                # A bug is raised as it is.
                is_ours = error is None or isinstance(error, EdgefaceError)
                self._error = SourceError(why) if is_ours else error
                return
            self._tell("camera_lost", why)
        else:
            logger.debug("%s: attempt %d failed: %s", self.name, self._attempts, why)
        # The exponent is bounded: 2 ** 1100 is no float, and a camera may be away for months.
        longest_s = min(self._settings.retry_max_s, self._settings.retry_base_s * 2.0 ** min(self._attempts, 30))
        self._retry_s = now_s + self._random.uniform(0.0, longest_s)

    def _limit_s(self) -> float:
        """Return when the reading at work counts as hung."""
        if self._has_frames:
            return self._alive_s + self._settings.read_timeout_s + _GRACE_S
        return self._opened_s + self._settings.open_timeout_s + self._settings.read_timeout_s + _GRACE_S

    def _silence(self, news: News, now_s: float) -> str:
        what = f"gave no frame for {now_s - self._alive_s:.1f} s"
        if news.damaged:
            what += f" that is usable ({news.damaged} damaged: {news.damage})"
        return f"{self.name} {what}; check the camera, its cable and network"

    def _ending(self, news: News) -> str:
        if news.error is None:
            return f"{self.name} ended; check the camera, its cable and network"
        if isinstance(news.error, EdgefaceError):
            return str(news.error)
        # What an unknown error says may name the address with its password.
        return f"{self.name} failed with {type(news.error).__name__}"

    def _tell(self, kind: NoticeKind, why: str) -> None:
        logger.log(logging.INFO if kind == "camera_back" else logging.WARNING, "%s", why)
        self._notices.append(Notice(kind, why))
