"""What a failure of SQLite means to whoever uses a gallery."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgeface.errors import GalleryError

UNWRITABLE: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)
"""Codes with which a file that may only be read, or has no room, fails to be opened for writing."""

# Primary result codes of SQLite, with what to tell the user.
_MEANINGS: Final[dict[int, str]] = {
    sqlite3.SQLITE_PERM: "may not be opened by this user; check its permissions",
    sqlite3.SQLITE_BUSY: "is locked by another program; waited {timeout_s:g} s, try again when it has finished",
    sqlite3.SQLITE_LOCKED: "is locked by another program; waited {timeout_s:g} s, try again when it has finished",
    sqlite3.SQLITE_READONLY: "is read-only; check the permissions of the file and its folder",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check that its disk works and is not full",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a copy, or delete it and enrol again",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; free some space and try again",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the permissions of the file and its folder",
    sqlite3.SQLITE_NOTADB: "is no gallery (not an SQLite file); give another path",
    sqlite3.SQLITE_NOMEM: "needs more memory than there is; restore a copy if that is new",
}


class FileFailure(GalleryError):
    """SQLite could not do it.

    Args:
        path: of the gallery.
        code: result code of SQLite; None if it gave none.
        timeout_s: how long another program was waited for.
        detail: SQLite's own words, for codes that say nothing.
    """

    def __init__(self, path: Path, code: int | None, timeout_s: float = 0.0, detail: str = "") -> None:
        self.code = (code or 0) & 0xFF
        """The primary result code."""
        meaning = _MEANINGS.get(self.code, f"cannot be used: {' '.join(detail.split())[:200]}; restore a copy")
        super().__init__(f"gallery {path} {meaning.replace('{timeout_s:g}', f'{timeout_s:g}')}")


def damaged(path: Path) -> FileFailure:
    """Return the error for a file whose content makes no sense."""
    return FileFailure(path, sqlite3.SQLITE_CORRUPT)


@contextlib.contextmanager
def clear_errors(path: Path, timeout_s: float) -> Iterator[None]:
    """Turn what SQLite raises in the block into one clear error.

    Raises:
        FileFailure: with the cause.
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a bug of ours, such as use after close
    except sqlite3.Error as error:
        raise FileFailure(path, getattr(error, "sqlite_errorcode", None), timeout_s, str(error)) from error
    except UnicodeDecodeError as error:  # a message of SQLite with a name out of a foreign file
        raise damaged(path) from error
    except MemoryError as error:
        raise FileFailure(path, sqlite3.SQLITE_NOMEM) from error
