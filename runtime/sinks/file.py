"""Events as lines of a file, with rotation, and with patience where the disk is full."""

import contextlib
import logging
import os
from collections import deque
from pathlib import Path
from typing import Final

from edgeface.errors import ConfigError
from edgeface.files import open_private
from edgeface.runtime.events import Event, SinkState

logger = logging.getLogger(__name__)

MEMORY: Final = 10_000
"""Events that are kept while they cannot be written; some 7 MB."""


class FileSink:
    """Appends lines to a file, each by one write to the system before `write` returns.

    What was written survives the end of this process, however it ends. A power cut may take the last seconds, unless
    `sync` is set; the file is synced when it is rotated and when it is closed.

    While the disk is full or failing, events are kept in memory and written, in order, once that is possible again;
    beyond `memory` of them the oldest are lost and counted. Another program may move the file away (logrotate): the
    next event begins a new one.

    Args:
        path: made if it does not exist, with its folders. Old files are `path.1` (the newest), `path.2`, ...
        max_bytes: begin a new file before this one would be larger; None never does.
        keep: old files that are kept when a new one is begun; 0 keeps none.
        sync: have each event on the disk before going on. Costs milliseconds an event, on an SD card many.
        memory: events that are kept while they cannot be written.

    Raises:
        ConfigError: the file cannot be opened for writing, or a number is out of range.
    """

    def __init__(
        self, path: Path, *, max_bytes: int | None = None, keep: int = 5, sync: bool = False, memory: int = MEMORY
    ) -> None:
        if max_bytes is not None and max_bytes < 1:
            raise ConfigError(f"a file of events cannot have at most {max_bytes} bytes; use for example 10000000")
        if keep < 0:
            raise ConfigError(f"cannot keep {keep} old files of events; use 0 or more")
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._sync = sync
        self._memory = memory
        self._waiting: deque[bytes] = deque()
        self._sent = 0
        self._lost = 0
        self._error: str | None = None
        self._is_open = True
        self._is_torn = False
        self._is_stuck = False  # where rotation does not work it is told once
        try:
            self._descriptor: int | None = self._open()
        except OSError as error:
            raise ConfigError(f"events cannot be written to {path}: {error.strerror}; give another file") from error

    def write(self, event: Event) -> None:
        """Append one line, or keep it for later.

        Raises:
            OSError: the sink is closed.
        """
        if not self._is_open:
            raise OSError(f"{self.path} is closed")
        self._waiting.append(event.to_json().encode() + b"\n")
        self.catch_up()
        while len(self._waiting) > self._memory:
            self._waiting.popleft()
            if not self._lost:
                logger.error("more than %d events wait for %s: the oldest are lost", self._memory, self.path)
            self._lost += 1

    def catch_up(self) -> None:
        """Write what is kept, as far as that is possible now."""
        while self._waiting and self._is_open:
            try:
                self._append(self._waiting[0])
            except OSError as error:
                if self._error is None:
                    logger.warning("events cannot be written to %s: %s; they are kept for later", self.path, error)
                self._error = str(error)
                return
            self._waiting.popleft()
            self._sent += 1
        if self._error is not None:
            logger.warning("events are written to %s again", self.path)
            self._error = None

    def state(self) -> SinkState:
        """Return how many lines were written, are kept and were lost."""
        return SinkState(f"file {self.path}", self._sent, len(self._waiting), 0, self._lost, self._error)

    def close(self) -> None:
        """Write what is kept if that is possible, and close the file; what is kept then is lost. Idempotent."""
        if not self._is_open:
            return
        self.catch_up()
        self._is_open = False
        if self._waiting:
            logger.error("%d events could not be written to %s and are lost", len(self._waiting), self.path)
            self._lost += len(self._waiting)
            self._waiting.clear()
        if self._descriptor is not None:
            self._release()

    def _open(self) -> int:
        # Names and times of people are nobody else's business.
        descriptor = open_private(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._is_torn = _ends_within_a_line(self.path)
        return descriptor

    def _release(self) -> None:
        assert self._descriptor is not None
        with contextlib.suppress(OSError):  # not everything can be synced, and nothing can be done about it here
            os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None

    def _append(self, line: bytes) -> None:
        """Append one line as a whole or, with an OSError, nothing."""
        if self._descriptor is not None and self._was_moved():
            self._release()
        if self._descriptor is None:
            self._descriptor = self._open()
        size = os.fstat(self._descriptor).st_size
        if self._max_bytes is not None and size and size + len(line) > self._max_bytes and self._rotate():
            self._release()
            self._descriptor = self._open()
            size = os.fstat(self._descriptor).st_size
        line = b"\n" + line if self._is_torn else line
        written = os.write(self._descriptor, line)
        if written < len(line):
            # Only what this write left is taken back; somebody else may append to the file as well.
            if os.fstat(self._descriptor).st_size == size + written:
                os.ftruncate(self._descriptor, size)
            else:
                self._is_torn = True
            raise OSError(f"only {written} of {len(line)} bytes could be written; the disk may be full")
        self._is_torn = False
        if self._sync:
            os.fsync(self._descriptor)

    def _was_moved(self) -> bool:
        assert self._descriptor is not None
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return True

    def _rotate(self) -> bool:
        """Move the file out of the way, and the older ones before it; False if that cannot be done."""
        try:
            if not self._keep:
                self.path.unlink()
                return True
            for number in range(self._keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self._old(number), self._old(number + 1))
            os.replace(self.path, self._old(1))
        except OSError as error:  # better a file that is too long than no events
            if not self._is_stuck:
                logger.warning("%s cannot be rotated and grows on: %s", self.path, error)
            self._is_stuck = True
            return False
        return True

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _ends_within_a_line(path: Path) -> bool:
    """Tell whether a power cut left half a line, which must not swallow the next one."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # may be written but not read
        return False
