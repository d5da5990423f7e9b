"""The file of an outbox: its one table, and the check that it holds nothing else."""

import errno
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

from edgeface.errors import ConfigError
from edgeface.files import open_private

logger = logging.getLogger(__name__)

_TABLE: Final = """
CREATE TABLE letters (
    number INTEGER PRIMARY KEY,  -- in the order of events
    sink TEXT NOT NULL,          -- kind of destination, such as webhook
    event TEXT NOT NULL,         -- id
    body BLOB NOT NULL,          -- JSON
    refused TEXT                 -- why the destination does not want it; NULL while it waits
)
"""
_APPLICATION_ID: Final = 0x65666F62  # "efob"
_LARGEST: Final = 1 << 62  # number of a letter; SQLite itself could not count on from its largest
_PRAGMAS: Final = (
    "trusted_schema = OFF",
    # One process at a time, told by the file itself: two would send the same letters twice and out of order.
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
)
_NO_TEXT: Final = (  # the length of a text ends at its first zero, and is in characters
    "(TYPEOF({0}) != 'text' OR LENGTH({0}) NOT BETWEEN 1 AND 200 OR LENGTH({0}) != LENGTH(CAST({0} AS BLOB)) "
    "OR {0} GLOB '*[^ -~]*')"
)
UNREADABLE: Final = f"({_NO_TEXT.format('sink')} OR {_NO_TEXT.format('event')} OR TYPEOF(body) != 'blob' OR number < 1)"
"""Which rows are no letters, in SQL; edgeface writes none of them, but a file may hold anything."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open the file of an outbox for this process alone; it is made if it does not exist, for its owner only.

    Raises:
        ConfigError: it cannot be opened, is no outbox, is damaged, or another process uses it.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is no regular file")
        os.close(open_private(path, os.O_CREAT | os.O_RDWR))
    except OSError as error:
        raise ConfigError(f"outbox {path} cannot be opened: {error.strerror}; give another with --outbox") from error
    connection = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        connection.close()
        raise ConfigError(f"outbox {path} {_reason(error)}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    ((application,),) = connection.execute("PRAGMA application_id")
    tables = connection.execute("SELECT sql FROM sqlite_master").fetchall()
    if application != _APPLICATION_ID and (application or tables):
        raise ConfigError(f"{path} is an SQLite file, but no outbox; give another path with --outbox")
    if application != _APPLICATION_ID or not tables:  # else nothing is written, so that a full disk is no obstacle
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(_TABLE)
    elif [_words(sql) for (sql,) in tables] != [_words(_TABLE)]:
        raise sqlite3.DatabaseError("it holds other tables than an outbox, damage or an alteration")
    if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
        raise sqlite3.DatabaseError("a check found damage")
    ((last,),) = connection.execute("SELECT IFNULL(MAX(number), 0) FROM letters")
    if last > _LARGEST:
        raise sqlite3.DatabaseError("its letters are numbered as none are, damage")
    _set_unreadable_aside(connection, path)


def _set_unreadable_aside(connection: sqlite3.Connection, path: Path) -> None:
    """Keep rows that are no letters from standing in the way of those that are."""
    query = f"SELECT COUNT(*) FROM letters WHERE refused IS NULL AND {UNREADABLE}"
    ((count,),) = connection.execute(query)
    if not count:
        return
    sink = f"CASE WHEN {_NO_TEXT.format('sink')} THEN 'unknown' ELSE sink END"
    connection.execute(f"UPDATE letters SET refused = 'it cannot be read', sink = {sink} WHERE {UNREADABLE}")
    logger.warning("outbox %s: %d events cannot be read and are set aside", path, count)


def _words(sql: object) -> str:
    """Return a statement without its comments and line ends."""
    return " ".join(" ".join(line.partition("--")[0] for line in str(sql).splitlines()).split())


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    if "locked" in text:
        return "is used by another run; give this one a file of its own with --outbox"
    if any(word in text for word in ("not a database", "malformed", "damage")):
        return f"is damaged or no outbox ({text}); move it away, or give another path with --outbox"
    return f"cannot be used: {text}; give another path with --outbox"
