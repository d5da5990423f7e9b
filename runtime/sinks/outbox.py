"""Events on their way to other machines: on the disk until they have arrived.

One SQLite file with one table, a row for each event and destination. Writing is one transaction with the write-ahead
log and synchronous=FULL: after `add` the event survives kill -9 and, as far as the disk keeps its word, a power cut.
"""

import contextlib
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeface.errors import ConfigError
from edgeface.runtime.sinks.outbox_file import UNREADABLE, open_file

logger = logging.getLogger(__name__)

MEMORY: Final = 10_000
"""Letters that are kept while the disk takes none."""

_OVERHEAD: Final = 100  # bytes a row takes besides its body


@dataclass(frozen=True, slots=True)
class Letter:
    """An event for one destination.

    Attributes:
        number: counts up in the order of the events.
        event: id of the event.
        body: the event as JSON.
        until_s: by `edgeface.runtime.clock.steady_s`: it must not leave as it is after that. None may leave at any
            time, or comes from an earlier run, whose clock says nothing now.
    """

    number: int
    event: str
    body: bytes
    until_s: float | None = None


class Outbox:
    """An open outbox, for one process at a time; its threads may share it.

    When it holds more than `max_bytes`, the oldest letters are dropped, those that were refused first. While the disk
    is full or failing, letters are kept in memory, up to `memory` of them, then the oldest of these are lost. They are
    delivered from there, so that a full disk does not stop the network.

    Args:
        path: made if it does not exist, with its folders, readable by its owner only.
        max_bytes: of all letters together.
        memory: letters that are kept while the disk takes none.

    Raises:
        ConfigError: the file cannot be opened, is no outbox, is damaged, or another process uses it.
    """

    def __init__(self, path: Path, *, max_bytes: int = 64 * 1024 * 1024, memory: int = MEMORY) -> None:
        if max_bytes < 1:
            raise ConfigError(f"an outbox cannot hold at most {max_bytes} bytes; use for example 64000000")
        self.path = path
        self.dropped: dict[str, int] = {}
        """Letters that are nowhere any more, by sink."""
        self.error: str | None = None
        """Why the disk takes no letters now."""
        self._max_bytes = max_bytes
        self._memory_size = memory
        self._memory: deque[tuple[str, Letter]] = deque()
        self._until_s: dict[int, float] = {}  # by number of letter
        self._arrived: list[int] = []  # numbers of what is still in the file, although it was sent
        self._left: list[tuple[str, int]] = []  # sink and number of what waits when it is closed
        self._lock = threading.Lock()
        self._is_open = True
        self._connection = open_file(path)
        ((last, count, size),) = self._connection.execute(
            "SELECT IFNULL(MAX(number), 0), COUNT(*), IFNULL(SUM(LENGTH(body)), 0) FROM letters"
        )
        self._last: int = last
        self._bytes: int = size + _OVERHEAD * count

    def add(self, sink: str, event: str, body: str, until_s: float | None = None) -> None:
        """Take a letter; on the disk when this returns, or in memory if the disk takes none.

        `until_s` is as in `Letter`, and forgotten when the process ends.

        Raises:
            OSError: the outbox is closed.
        """
        with self._lock:
            if not self._is_open:
                raise OSError(f"outbox {self.path} is closed")
            self._last += 1
            if until_s is not None:
                self._until_s[self._last] = until_s
            self._memory.append((sink, Letter(self._last, event, body.encode(), until_s)))
            self._store()
            while len(self._memory) > self._memory_size:
                sink, letter = self._memory.popleft()
                self._until_s.pop(letter.number, None)
                self._drop(sink, 1, f"more than {self._memory_size} wait for the disk")

    def catch_up(self) -> None:
        """Write what is only in memory, and forget what has arrived, if the disk takes it now."""
        with self._lock:
            self._forget()
            self._store()

    def first(self, sink: str, after: int = 0) -> Letter | None:
        """Return the oldest letter that waits for a sink and has a number above `after`."""
        with self._lock:
            if not self._is_open:
                return None
            with self._tolerant("read"):
                query = "SELECT number, event, body FROM letters WHERE sink = ? AND number > ? AND refused IS NULL"
                row = self._connection.execute(f"{query} ORDER BY number LIMIT 1", (sink, after)).fetchone()
                if row is not None:
                    number, event, body = row
                    return Letter(number, event, body, self._until_s.get(number))
            return next((letter for to, letter in self._memory if to == sink and letter.number > after), None)

    def done(self, sink: str, letter: Letter) -> None:
        """Forget a letter that has arrived, now or with `catch_up`; else it is sent again in another run."""
        with self._lock:
            if not self._is_open:
                return
            self._until_s.pop(letter.number, None)
            self._memory = deque(entry for entry in self._memory if entry[1].number != letter.number)
            self._arrived.append(letter.number)
            self._forget()

    def refuse(self, sink: str, letter: Letter, why: str) -> None:
        """Set a letter aside that the destination does not want; see `revive`."""
        with self._lock:
            if not self._is_open:
                return
            self._until_s.pop(letter.number, None)
            self._store()
            with self._tolerant("set aside"):
                self._connection.execute("UPDATE letters SET refused = ? WHERE number = ?", (why, letter.number))
            before = len(self._memory)
            self._memory = deque(entry for entry in self._memory if entry[1].number != letter.number)
            if len(self._memory) < before:
                self._drop(sink, 1, "it was refused, and there is no room to keep it")

    def revive(self, sink: str) -> int:
        """Let letters wait again that were refused, as after a token was changed; returns how many."""
        revived = 0
        with self._lock, self._tolerant("revive"):
            revived = self._connection.execute(
                f"UPDATE letters SET refused = NULL WHERE sink = ? AND refused IS NOT NULL AND NOT {UNREADABLE}",
                (sink,),
            ).rowcount
        return revived

    def count(self, sink: str, after: int = 0) -> int:
        """Return how many letters with a number above `after` wait for a sink; also after `close`."""
        with self._lock:
            kept = sum(to == sink and letter.number > after for to, letter in self._memory)
            if not self._is_open:
                return sum(to == sink and number > after for to, number in self._left)
            with self._tolerant("count"):
                query = "SELECT COUNT(*) FROM letters WHERE sink = ? AND number > ? AND refused IS NULL"
                kept += self._connection.execute(query, (sink, after)).fetchone()[0]
            return int(kept)

    def close(self) -> None:
        """Write what is only in memory, if that is possible, else count it as lost; close the file. Idempotent."""
        with self._lock:
            if not self._is_open:
                return
            self._forget()
            self._store()
            for sink, _ in self._memory:
                self._drop(sink, 1, "the disk took them not before the end")
            self._memory.clear()
            with self._tolerant("count"):
                query = "SELECT sink, number FROM letters WHERE refused IS NULL"
                self._left = self._connection.execute(query).fetchall()
            self._is_open = False
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()

    def _store(self) -> None:
        """Move letters from memory to the disk, the oldest first, all or none; called with the lock held."""
        if not self._memory or not self._is_open:
            return
        size = sum(len(letter.body) + _OVERHEAD for _, letter in self._memory)
        try:
            if self._bytes + size > self._max_bytes:
                self._make_room(size)
            with self._transaction():
                self._connection.executemany(
                    "INSERT OR REPLACE INTO letters (number, sink, event, body) VALUES (?, ?, ?, ?)",
                    [(letter.number, sink, letter.event, letter.body) for sink, letter in self._memory],
                )
        except sqlite3.Error as error:
            if self.error is None:
                logger.warning("events cannot be written to outbox %s: %s; they are kept in memory", self.path, error)
            self.error = str(error)
            return
        self._bytes += size
        self._memory.clear()
        if self.error is not None:
            logger.warning("events are written to outbox %s again", self.path)
            self.error = None

    def _make_room(self, size: int) -> None:
        """Drop the oldest letters, refused ones first, until `size` bytes fit or nothing is left."""
        query = "SELECT number, sink, LENGTH(body) FROM letters ORDER BY refused IS NULL, number"
        free = self._max_bytes - self._bytes
        numbers, sinks = [], []
        for number, sink, length in self._connection.execute(query):
            if free >= size:
                break
            free += length + _OVERHEAD
            self._until_s.pop(number, None)
            numbers.append((number,))
            sinks.append(sink)
        with self._transaction():
            self._connection.executemany("DELETE FROM letters WHERE number = ?", numbers)
        self._bytes = self._max_bytes - free
        for sink in dict.fromkeys(sinks):
            self._drop(sink, sinks.count(sink), f"the outbox holds {self._max_bytes} bytes at most")

    def _drop(self, sink: str, count: int, why: str) -> None:
        if sink not in self.dropped:
            logger.error("the oldest events for %s are lost: %s", sink, why)
        self.dropped[sink] = self.dropped.get(sink, 0) + count

    def _forget(self) -> None:
        """Delete what has arrived; called with the lock held."""
        if not self._arrived or not self._is_open:
            return
        freed = 0
        try:
            with self._transaction():
                for number in self._arrived:
                    query = "DELETE FROM letters WHERE number = ? RETURNING LENGTH(body)"
                    rows = self._connection.execute(query, (number,)).fetchall()
                    freed += sum(length + _OVERHEAD for (length,) in rows)
        except sqlite3.Error as error:
            if len(self._arrived) == 1:  # once, not for each
                logger.warning("outbox %s: cannot mark as sent: %s", self.path, error)
            return
        self._bytes -= freed
        self._arrived.clear()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise

    @contextlib.contextmanager
    def _tolerant(self, what: str) -> Iterator[None]:
        """Log an error of the disk instead of raising it: what is in the file stays there for another time."""
        try:
            yield
        except sqlite3.Error as error:
            logger.warning("outbox %s: cannot %s: %s", self.path, what, error)
