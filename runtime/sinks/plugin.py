"""Sinks from outside this package: a class that a user names takes each event, in a thread of its own.

    class Attendance(SinkPlugin):
        def __init__(self, path: Path) -> None: ...
        def write(self, event: Event) -> None: ...

See `edgeface.plugins` for how it is named and when its code is run.
"""

import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final

from edgeface.plugin_options import split_options
from edgeface.plugins import Kind, build
from edgeface.runtime.clock import steady_s
from edgeface.runtime.events import Event, SinkState

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 1000
"""Events that wait for a sink that is slower than they come; one more is lost."""


class SinkPlugin(ABC):
    """What a sink from outside derives from. What its constructor takes are its options."""

    @abstractmethod
    def write(self, event: Event) -> None:
        """Take one event; called from one thread, in order, and may take its time.

        Whatever it raises is told once and counted, and the next event comes all the same. A match that had to wait for
        longer than it holds does not come at all.
        """

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Free what is held open; called once, after the last event."""


def open_sink(text: str) -> "QueuedSink":
    """Load the sink that a user named as `NAME` or `NAME?key=value&key=value`, which runs its code.

    Raises:
        ConfigError: the options are not of that form.
        UnknownNameError, PluginError: as `edgeface.plugins.build`.
    """
    name, options = split_options(text)
    return QueuedSink(build(Kind.sink, name, SinkPlugin, (), options), name)


class QueuedSink:
    """Hands events to a plug-in in a thread of its own: nothing that it does delays the loop.

    Args:
        plugin: that takes them; owned from now on.
        name: what to call it in the summary.
        clock: seconds that never go back; the one that the events' `until_s` goes by.
    """

    def __init__(self, plugin: SinkPlugin, name: str, clock: Callable[[], float] = steady_s) -> None:
        self._plugin = plugin
        self._name = name
        self._clock = clock
        self._changed = threading.Condition()  # guards everything below
        self._waiting: deque[Event] = deque()
        self._is_busy = False
        self._is_closing = False
        self._sent = self._lost = self._late = 0
        self._error: str | None = None
        self._thread = threading.Thread(target=self._work, name=f"sink {name}", daemon=True)
        self._thread.start()

    def write(self, event: Event) -> None:
        """Keep the event for the plug-in.

        Raises:
            OSError: too many wait, or it is closed; the event is lost.
        """
        with self._changed:
            if self._is_closing:
                raise OSError("the sink is closed")
            if len(self._waiting) >= MAX_WAITING:
                raise OSError(f"{MAX_WAITING} other events wait for it")
            self._waiting.append(event)
            self._changed.notify_all()

    def catch_up(self) -> None:
        """Nothing is tried twice."""

    def state(self) -> SinkState:
        """Return how many events it took, wait, raised an error, and came too late."""
        with self._changed:
            waiting = len(self._waiting) + self._is_busy
            return SinkState(self._name, self._sent, waiting, 0, self._lost, self._error, self._late)

    def finish(self, timeout_s: float) -> None:
        """Wait for the events that are left, but not longer than that; then close."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_busy, timeout_s)
        self.close()

    def close(self) -> None:
        """Forget what waits and close the plug-in, unless it hangs; idempotent."""
        with self._changed:
            self._is_closing = True
            self._lost += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(1.0)
        if self._thread.is_alive():
            logger.warning("%s does not answer; it is left to itself", self._name)

    def _work(self) -> None:
        while (event := self._next()) is not None:
            failure = None
            try:
                self._plugin.write(event)
            except Exception as error:  # whatever it is, the next event may do
                logger.debug("the sink %s failed", self._name, exc_info=True)
                failure = f"{type(error).__name__}: {error}"
            with self._changed:
                self._is_busy = False
                if failure is None:
                    self._sent += 1
                else:
                    self._lost += 1
                    if failure != self._error:
                        logger.warning("the sink %s did not take an event: %s", self._name, failure)
                self._error = failure
                self._changed.notify_all()
        with contextlib.suppress(Exception):
            self._plugin.close()

    def _next(self) -> Event | None:
        """Wait for an event that still holds; None at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    return None
                event = self._waiting.popleft()
                if event.until_s is None or self._clock() <= event.until_s:
                    self._is_busy = True
                    return event
                self._late += 1
                self._changed.notify_all()
