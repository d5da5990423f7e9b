"""The SQLite file below a gallery: opening, migration, transactions, and the removal of what is left of old records.

Where the file cannot be written it is read into memory, with all that was committed, and nothing can be changed; see
`edgeface.runtime.gallery.wal`.

SQLite overwrites what is deleted (`secure_delete`), but not the copies of it that stay in the unused part of a page
when its content is moved to others. So after each change that takes something away, the whole file is written anew
(VACUUM), and the write-ahead log is emptied. A mark in the file, set by the change itself, says that this is still to
be done: after a crash, on a full disk or while another program reads, whoever opens the gallery next does it.
"""

import contextlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edgeface.errors import GalleryError, NoGalleryError
from edgeface.runtime.gallery.failures import UNWRITABLE, FileFailure, clear_errors, damaged
from edgeface.runtime.gallery.place import (
    Obstacle,
    check_kind,
    create_empty,
    lacks_room,
    no_room,
    obstacle,
    room_needed,
    unwritable,
)
from edgeface.runtime.gallery.schema import APPLICATION_ID, MIGRATIONS, RESIDUE, SCHEMA, SCHEMA_VERSION, foreign_object
from edgeface.runtime.gallery.wal import Stamp, UnsettledError, committed_image, stamp

logger = logging.getLogger(__name__)

_PRAGMAS: Final = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    "temp_store = MEMORY",  # no template in a temporary file, also while all is written anew
)
_RETRY_S: Final = 0.02
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_IN_USE: Final = (
    "is in use: removed templates stay in its -wal file, and in the file itself, until it is closed or opened again"
)

_told: set[Path] = set()  # it is said once in a process that a gallery cannot be changed


class GalleryFile:
    """An open gallery file; `meta` is what it says about itself.

    Args:
        path: the file.
        new_meta: what a gallery made here is to say about itself; None opens only what is there.
        timeout_s: how long to wait for another program's change.

    Raises:
        GalleryError: missing, of another schema version, no gallery, damaged, locked or not permitted.
    """

    def __init__(self, path: Path, new_meta: dict[str, str] | None, timeout_s: float) -> None:
        self.path = path
        self.obstacle: Obstacle | None = None
        """Why nothing can be changed; None if it can."""
        self._timeout_s = timeout_s
        self._changes = 0  # transactions committed through this object, or states read of a file that is not writable
        self._stamp: Stamp = ()
        self._is_clean = True
        if new_meta is not None:
            create_empty(path)
        check_kind(path)
        if found := unwritable(path):
            self._open_in_memory(found, new_meta)
            return
        try:
            with self._clear_errors():
                # mode=rw never makes a file, whatever happens between the check above and here.
                uri = f"{path.absolute().as_uri()}?mode=rw"
                self._connection = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None)
            self._set_up(new_meta)
        except FileFailure as error:
            if error.code not in UNWRITABLE:
                raise
            self._open_in_memory(obstacle(path), new_meta, error)
            return
        if RESIDUE in self.meta and (why := self.clean_up(wait=False)):
            logger.warning("%s %s", path, why)

    def read_meta(self) -> dict[str, str]:
        """Return what the gallery says about itself by now; another program may have encrypted it."""
        meta = dict(self.query("SELECT key, value FROM meta"))
        if not all(isinstance(text, str) for entry in meta.items() for text in entry):
            raise damaged(self.path)
        return meta

    def query(self, statement: str) -> list[Any]:
        """Return all rows of a statement that changes nothing.

        Raises:
            GalleryError: the file cannot be read; the message says why.
        """
        with self._clear_errors():
            return self._connection.execute(statement).fetchall()

    @property
    def others(self) -> int:
        """A number that is another one after each change by another program, while the file is open."""
        if self.obstacle is not None:
            self._follow()
            return self._changes
        ((number,),) = self.query("PRAGMA data_version")
        return int(number)

    @property
    def version(self) -> int:
        """A number that is a higher one after each change, by this program or another, while the file is open."""
        return self.others if self.obstacle is not None else self.others + self._changes

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Give the connection; whatever is read with it is of one moment.

        Raises:
            GalleryError: the file cannot be read; the message says why.
        """
        with self._clear_errors():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.rollback()

    @contextlib.contextmanager
    def transaction(self, *, removes: bool = False) -> Iterator[sqlite3.Connection]:
        """Give the connection; what is done with it is on the disk after the block, or undone on an error.

        Args:
            removes: the change takes something away, of which `clean_up` is then to leave nothing.

        Raises:
            GalleryError: the file cannot be written; the message says why.
        """
        if self.obstacle is not None:
            raise GalleryError(
                f"gallery {self.path} is read-only, as {self.obstacle.why}; {self.obstacle.mend} and try again"
            )
        with self._clear_errors():
            before = self._connection.total_changes
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                if removes:
                    self._connection.execute(
                        "INSERT OR REPLACE INTO meta VALUES (?, ?)", (RESIDUE, secrets.token_hex(8))
                    )
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                if self._connection.total_changes > before:  # pages of what was undone may lie in the log
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                raise
        self._changes += 1

    def clean_up(self, *, wait: bool = True) -> str | None:
        """Write the whole file anew and empty its log, so that no byte of what was removed is left in them.

        Args:
            wait: for other programs that use the file, as long as for any change.

        Returns:
            Why that cannot be done now, after the name of the gallery; None if it was done. It is done at the next
            chance then.

        Raises:
            GalleryError: the file is damaged.
        """
        if self.obstacle is not None:
            return f"is read-only, as {self.obstacle.why}: what was removed before stays in it"
        self._is_clean = False
        self.query(f"PRAGMA busy_timeout = {int(1000 * self._timeout_s) if wait else 0}")
        try:
            why = self._write_anew()
        except FileFailure as error:
            if error.code not in UNWRITABLE and error.code not in _BUSY:
                raise
            why = _IN_USE if error.code in _BUSY else no_room(self.path, self._bytes())
        finally:
            self.query(f"PRAGMA busy_timeout = {int(1000 * self._timeout_s)}")
        self._is_clean = why is None
        return why

    def room_for_anew(self) -> None:
        """Look whether the disk has room for all of the file to be written anew.

        Raises:
            GalleryError: it has not.
        """
        size = self._bytes()
        if lacks_room(self.path, size):
            needed = f"{room_needed(size) / 1e6:.1f} MB"
            raise GalleryError(
                f"gallery {self.path} cannot be written anew, for which its disk needs {needed} of room; free some "
                "space and try again"
            )

    def close(self) -> None:
        """Close the file; may be called again."""
        if not self._is_clean:
            self._is_clean = True
            with contextlib.suppress(GalleryError, sqlite3.ProgrammingError):
                self.clean_up(wait=False)
        with self._clear_errors():
            self._connection.close()

    def _write_anew(self) -> str | None:
        marks = [value for (value,) in self.query(f"SELECT value FROM meta WHERE key = '{RESIDUE}'")]
        if why := lacks_room(self.path, self._bytes()):
            return why
        try:
            self.query("VACUUM")
        finally:  # also when it failed: the log takes as much room as the file by then
            ((is_busy, _, _),) = self.query("PRAGMA wal_checkpoint(TRUNCATE)")
        if is_busy:
            return _IN_USE
        with self._clear_errors():  # not the mark of a change that another program made in the meantime
            for mark in marks:
                self._connection.execute("DELETE FROM meta WHERE key = ? AND value = ?", (RESIDUE, mark))
        return None

    def _bytes(self) -> int:
        ((pages,),), ((size,),) = self.query("PRAGMA page_count"), self.query("PRAGMA page_size")
        return int(pages) * int(size)

    def _set_up(self, new_meta: dict[str, str] | None) -> None:
        try:
            self._identify(new_meta is not None)
            self._configure()
            if self._schema_version() != SCHEMA_VERSION:
                with contextlib.nullcontext(self._connection) if self.obstacle else self.transaction() as connection:
                    self._migrate(connection, new_meta)
            self._check_content()
        except BaseException:
            self._connection.close()
            raise

    def _open_in_memory(
        self, found: Obstacle, new_meta: dict[str, str] | None = None, failure: FileFailure | None = None
    ) -> None:
        """Read the file as it is, for which nothing has to be written; raise `failure` if even that is impossible."""
        self.obstacle = found
        try:
            self._read_into_memory(new_meta)
        except OSError as error:
            raise failure or FileFailure(self.path, sqlite3.SQLITE_PERM) from error
        except UnsettledError as error:
            raise GalleryError(f"gallery {self.path} cannot be read, as {found.why} and {error.why}") from error
        if self.path not in _told:
            _told.add(self.path)
            logger.warning(
                "%s: nothing can be changed, as %s; whoever is in it is known all the same", self.path, found.why
            )

    def _read_into_memory(self, new_meta: dict[str, str] | None = None) -> None:
        self._stamp = stamp(self.path)
        image = committed_image(self.path)
        if not image:
            raise GalleryError(f"gallery {self.path} is empty; enrol somebody first")
        with self._clear_errors():
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            self._connection.deserialize(image)
        del image
        self._set_up(new_meta)
        self.query("PRAGMA query_only = ON")
        self._changes += 1

    def _follow(self) -> None:
        """Read a file that cannot be written once more, if another program could and did change it."""
        known, connection = self._stamp, self._connection
        try:
            if stamp(self.path) == known:
                return
            self._read_into_memory()
        except BaseException as error:
            self._stamp, self._connection = known, connection  # what is known stays known, and it is looked at again
            if not isinstance(error, OSError | UnsettledError):  # else it is gone, or changing just now
                raise
            logger.debug("%s cannot be read again: %s", self.path, error)
        else:
            connection.close()

    def _identify(self, may_be_empty: bool) -> None:
        self.query("PRAGMA trusted_schema = OFF")  # before anything of a foreign file is looked at
        with self.snapshot() as connection:  # of one moment, as another program may be making the gallery
            ((tables,),) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
            ((application,),) = connection.execute("PRAGMA application_id").fetchall()
            foreign = foreign_object(connection) if application == APPLICATION_ID else None
        if application != APPLICATION_ID and (tables or application):
            raise GalleryError(f"{self.path} is an SQLite file, but no gallery; give another path")
        if not tables and not may_be_empty:
            raise NoGalleryError(f"gallery {self.path} is empty; enrol somebody first")
        if foreign is not None:
            raise GalleryError(
                f"gallery {self.path} was altered: it holds {foreign}, which edgeface never wrote; restore a copy"
            )

    def _check_content(self) -> None:
        if self.query("PRAGMA quick_check(1)") != [("ok",)]:
            raise damaged(self.path)
        self.meta = self.read_meta()

    def _configure(self) -> None:
        for pragma in _PRAGMAS:
            self.query(f"PRAGMA {pragma}")
        if self.obstacle is not None:
            return
        mode = self._switch_to_log()
        if mode != "wal":
            logger.warning("%s: no write-ahead log on this file system, journal mode is %s", self.path, mode)

    def _switch_to_log(self) -> str:
        """Return the journal mode after asking for a write-ahead log.

        SQLite refuses this one change at once while another program writes to a file that has no such log yet
        (its busy handler is not asked, as two that wait for each other would never end), so the wait is here.
        """
        deadline = time.monotonic() + self._timeout_s
        with self._clear_errors():
            while True:
                try:
                    ((mode,),) = self._connection.execute("PRAGMA journal_mode = WAL").fetchall()
                    return str(mode)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                        raise
                time.sleep(_RETRY_S)

    def _migrate(self, connection: sqlite3.Connection, new_meta: dict[str, str] | None) -> None:
        version = self._schema_version()  # again: another program may have been faster
        if version == 0 and new_meta is not None:
            for statement in SCHEMA:
                connection.execute(statement)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", new_meta.items())
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            version = SCHEMA_VERSION
        unlike = f"gallery {self.path} has schema version {version}, this edgeface uses {SCHEMA_VERSION}"
        if version > SCHEMA_VERSION:
            raise GalleryError(f"{unlike}; update edgeface")
        for step in range(version, SCHEMA_VERSION):
            if step not in MIGRATIONS:
                raise GalleryError(f"{unlike} and cannot convert it; enrol again into a new gallery")
            MIGRATIONS[step](connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _schema_version(self) -> int:
        ((version,),) = self.query("PRAGMA user_version")
        return int(version)

    def _clear_errors(self) -> contextlib.AbstractContextManager[None]:
        return clear_errors(self.path, self._timeout_s)
