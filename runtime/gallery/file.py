"""The SQLite file below a gallery: opening, migration, transactions, and what its failures mean."""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edgeface.errors import GalleryError, NoGalleryError
from edgeface.runtime.gallery.schema import APPLICATION_ID, MIGRATIONS, SCHEMA, SCHEMA_VERSION

logger = logging.getLogger(__name__)

_PRAGMAS: Final = (
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    "trusted_schema = OFF",
    "temp_store = MEMORY",  # no template in a temporary file
)
_RETRY_S: Final = 0.02
# Primary result codes of SQLite, with what to tell the user.
_FAILURES: Final[dict[int, str]] = {
    sqlite3.SQLITE_PERM: "may not be opened by this user; check its permissions",
    sqlite3.SQLITE_BUSY: "is locked by another program; waited {timeout_s:g} s, try again when it has finished",
    sqlite3.SQLITE_LOCKED: "is locked by another program; waited {timeout_s:g} s, try again when it has finished",
    sqlite3.SQLITE_READONLY: "is read-only; check the permissions of the file and its folder",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check that its disk works and is not full",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a copy, or delete it and enrol again",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; free some space and try again",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the permissions of the file and its folder",
    sqlite3.SQLITE_NOTADB: "is no gallery (not an SQLite file); give another path",
}


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
        self._timeout_s = timeout_s
        self.changes = 0
        """Transactions committed through this object."""
        if new_meta is not None:
            _create_empty(path)
        elif not path.exists():
            raise NoGalleryError(f"gallery not found: {path}; enrol somebody to make it")
        if path.is_dir():
            raise GalleryError(f"gallery {path} is a folder; give a file name")
        with self._clear_errors():
            # mode=rw never makes a file, whatever happens between the check above and here.
            uri = f"{path.absolute().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None)
        try:
            self._identify(new_meta is not None)
            self._configure()
            if self._schema_version() != SCHEMA_VERSION:
                with self.transaction() as connection:
                    self._migrate(connection, new_meta)
            if self.query("PRAGMA quick_check(1)") != [("ok",)]:
                raise self.damaged()
            self.meta = self.read_meta()
        except BaseException:
            self._connection.close()
            raise

    def read_meta(self) -> dict[str, str]:
        """Return what the gallery says about itself by now; another program may have encrypted it."""
        return dict(self.query("SELECT key, value FROM meta"))

    def query(self, statement: str) -> list[Any]:
        """Return all rows of a statement that changes nothing.

        Raises:
            GalleryError: the file cannot be read; the message says why.
        """
        with self._clear_errors():
            return self._connection.execute(statement).fetchall()

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
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection; what is done with it is on the disk after the block, or undone on an error.

        Raises:
            GalleryError: the file cannot be written; the message says why.
        """
        with self._clear_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise
        self.changes += 1

    def wipe_log(self) -> bool:
        """Empty the write-ahead log, whose older pages hold what was removed; False if it is being read."""
        ((busy, _, _),) = self.query("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy

    def close(self) -> None:
        """Close the file; may be called again."""
        with self._clear_errors():
            self._connection.close()

    def damaged(self) -> GalleryError:
        """Return the error for a file whose content makes no sense."""
        return self._failure(sqlite3.SQLITE_CORRUPT)

    def _identify(self, may_be_empty: bool) -> None:
        with self.snapshot() as connection:  # of one moment, as another program may be making the gallery
            ((tables,),) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
            ((application,),) = connection.execute("PRAGMA application_id").fetchall()
        if application != APPLICATION_ID and (tables or application):
            raise GalleryError(f"{self.path} is an SQLite file, but no gallery; give another path")
        if not tables and not may_be_empty:
            raise NoGalleryError(f"gallery {self.path} is empty; enrol somebody first")

    def _configure(self) -> None:
        for pragma in _PRAGMAS:
            self.query(f"PRAGMA {pragma}")
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

    def _failure(self, code: int | None, detail: str = "") -> GalleryError:
        what = _FAILURES.get((code or 0) & 0xFF)
        what = what.format(timeout_s=self._timeout_s) if what else f"cannot be used: {detail}; restore a copy"
        return GalleryError(f"gallery {self.path} {what}")

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a bug of ours, such as use after close
        except sqlite3.Error as error:
            raise self._failure(getattr(error, "sqlite_errorcode", None), str(error)) from error


def _create_empty(path: Path) -> None:
    """Make an empty file for the owner only, unless there is one; SQLite gives its log the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise GalleryError(f"gallery {path} cannot be made: {error.strerror}; give another path") from error
