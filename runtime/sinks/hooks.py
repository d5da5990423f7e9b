"""Commands that run when something happens: a lock, a lamp, a script."""

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.runtime.clock import steady_s
from edgeface.runtime.events import Event, EventName, SinkState, utc_text

logger = logging.getLogger(__name__)

_PREFIX: Final = "EDGEFACE_"
_FACTS: Final = ("id", "event", "frame", "track", "identity", "score", "threshold", "margin", "runner_up", "why",
                 "snapshot")  # fmt: skip
_STDERR: Final = 2


@dataclass(frozen=True, slots=True)
class HookSettings:
    """How commands are run.

    Attributes:
        timeout_s: a command that takes longer is killed, with all that it started.
        at_once: commands that run side by side.
        waiting: events that wait for a free place; one more is lost.
        max_wait_s: an event that waited for longer is not run any more and lost: to open a door for somebody who left a
            minute ago lets in whoever stands there now. An event that says itself how long it holds goes by that.

    Raises:
        ConfigError: a value is out of range.
    """

    timeout_s: float = 10.0
    at_once: int = 4
    waiting: int = 32
    max_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if not (self.timeout_s > 0 and self.at_once >= 1 and self.waiting >= 1 and self.max_wait_s > 0):
            raise ConfigError(f"hooks cannot run with {self}; use for example {HookSettings()}")


def parse_hook(text: str, option: str) -> tuple[EventName, list[str]]:
    """Read `NAME=COMMAND` of an event's name and a command.

    Raises:
        ConfigError: there is no such event, or the command cannot be run; see `parse_command`.
    """
    name, equals, command = text.partition("=")
    for known in get_args(EventName):
        if name.strip() == known and equals:
            return known, parse_command(command, option)
    raise UnknownNameError(f"event in {option} (NAME=COMMAND)", name.strip(), get_args(EventName))


def parse_command(text: str, option: str) -> list[str]:
    """Split a command as a shell would, without one: no variables, no pipes, no patterns.

    Raises:
        ConfigError: quotes that do not close, no command, or a program that is not there.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r} cannot be split into words: {error}") from error
    if not words:
        raise ConfigError(f"{option} needs a command, such as '/usr/local/bin/open-door --seconds 3'")
    program = shutil.which(words[0])
    if program is None:
        raise ConfigError(f"{option}: {words[0]!r} is no program that can be run; give its path and check its rights")
    # The program as it was found now: PATH or the folder may be another one later.
    return [os.path.abspath(program), *words[1:]]


class HookSink:
    """Runs commands for events, without a shell, in threads of its own; `write` never waits.

    What is known about the event goes into the environment (EDGEFACE_EVENT, EDGEFACE_IDENTITY, EDGEFACE_SCORE, ...;
    what is not known is not set) and as one line of JSON to standard input. Nothing of it becomes part of the command
    line, so that no name can change what is run. Variables of this process that begin with EDGEFACE_ are not handed
    on, as some hold secrets. What commands print goes to standard error.

    Args:
        commands: program and arguments by event.
        settings: how they are run.
        clock: seconds that never go back; the one that the events' `until_s` goes by.
    """

    def __init__(
        self,
        commands: Mapping[EventName, Sequence[Sequence[str]]],
        settings: HookSettings | None = None,
        clock: Callable[[], float] = steady_s,
    ) -> None:
        self._commands = {name: [list(command) for command in own] for name, own in commands.items()}
        self._settings = settings or HookSettings()
        self._clock = clock
        self._changed = threading.Condition()  # guards everything below
        self._queue: deque[tuple[float, list[str], Event]] = deque()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._busy = 0
        self._sent = 0
        self._refused = 0
        self._lost = 0
        self._error: str | None = None
        self._is_closed = False
        for number in range(self._settings.at_once):
            threading.Thread(target=self._work, name=f"hook {number}", daemon=True).start()

    def write(self, event: Event) -> None:
        """Have the commands for this event run soon.

        Raises:
            OSError: the sink is closed.
        """
        with self._changed:
            for command in self._commands.get(event.event, ()):
                if self._is_closed:
                    raise OSError("the hooks are closed")
                if len(self._queue) < self._settings.waiting:
                    self._queue.append((self._clock(), command, event))
                else:
                    self._settle(lost=f"{self._settings.waiting} other events wait for one")
            self._changed.notify_all()

    def catch_up(self) -> None:
        """Nothing is tried twice."""

    def state(self) -> SinkState:
        """Return how many commands succeeded, wait or run, failed, and were not run."""
        with self._changed:
            waiting = len(self._queue) + self._busy
            return SinkState("hooks", self._sent, waiting, self._refused, self._lost, self._error)

    def finish(self, timeout_s: float) -> None:
        """Wait for the commands that run or wait, but not longer than that; then close."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue and not self._busy, timeout_s)
        self.close()

    def close(self) -> None:
        """Kill what runs and forget what waits; idempotent."""
        with self._changed:
            self._is_closed = True
            for process in self._running:
                _kill(process)
            while self._queue:
                self._queue.popleft()
                self._settle(lost="the run ended")
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_closed)
                if not self._queue:
                    return
                queued_s, command, event = self._queue.popleft()
                now_s = self._clock()
                until_s = queued_s + self._settings.max_wait_s if event.until_s is None else event.until_s
                if now_s > until_s:
                    self._settle(lost=f"an event came {now_s - until_s:.1f} s too late for one")
                    continue
                self._busy += 1
            try:
                failure = self._run(command, event)
            except OSError as error:
                failure = f"{command[0]} cannot be run: {error.strerror}"
            except Exception as error:  # a thread that dies would take its place with it
                logger.exception("a hook failed")
                failure = f"{type(error).__name__}: {error}"
            with self._changed:
                self._busy -= 1
                self._settle(failure=failure)

    def _run(self, command: list[str], event: Event) -> str:
        """Run one command to its end; returns how it failed, or nothing."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=_STDERR,  # standard output is for events
            env=environment(event, os.environ),
            start_new_session=True,  # Ctrl-C is for the loop, and what the command starts can be killed with it
        )
        with self._changed:
            self._running.add(process)
            if self._is_closed:
                _kill(process)
        try:
            try:
                process.communicate(event.to_json().encode() + b"\n", self._settings.timeout_s)
            except subprocess.TimeoutExpired:
                _kill(process)
                process.communicate()
                return f"{command[0]} took longer than {self._settings.timeout_s:g} s and was killed"
        finally:
            with self._changed:
                self._running.discard(process)
        logger.info("hook %s for event %s: exit status %d", command[0], event.id, process.returncode)
        return "" if process.returncode == 0 else f"{command[0]} ended with exit status {process.returncode}"

    def _settle(self, *, failure: str = "", lost: str = "") -> None:
        """Count an event that is through; called with the lock held."""
        if lost:
            is_news = not self._lost
            self._lost += 1
        elif failure:
            is_news = failure != self._error
            self._refused += 1
        else:
            is_news = False
            self._sent += 1
        self._error = lost or failure or None
        self._changed.notify_all()
        if is_news:
            logger.warning("%s", f"a hook is not run: {lost}" if lost else f"a hook failed: {failure}")


def environment(event: Event, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: `base` without what begins with EDGEFACE_, and the facts of the event."""
    result = {name: value for name, value in base.items() if not name.startswith(_PREFIX)}
    result[f"{_PREFIX}TIME"] = event.time.isoformat()
    if event.valid_until is not None:
        result[f"{_PREFIX}VALID_UNTIL"] = utc_text(event.valid_until)
    for fact in _FACTS:
        value = getattr(event, fact)
        if value is not None:
            text = f"{value:.6f}" if isinstance(value, float) else str(value)
            # What no environment can hold: a zero, and halves of characters.
            result[f"{_PREFIX}{fact.upper()}"] = text.replace("\0", "").encode(errors="replace").decode()
    return result


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
