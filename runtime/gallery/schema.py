"""What tables a gallery has, and how an older one gets them."""

import re
import secrets
import sqlite3
from collections.abc import Callable
from typing import Final

APPLICATION_ID: Final = int.from_bytes(b"EFgl", "big")
SCHEMA_VERSION: Final = 6

NO_ENCRYPTION: Final = "none"
AES_GCM: Final = "aes-256-gcm"

EMPTY_HEAD: Final = f"0:{'0' * 64}"
"""Number of entries in the log, and the hash of the last one."""

RESIDUE: Final = "residue"
"""Key in `meta` while the file may hold bytes of what was removed; its value is another one for each change."""

_LOG: Final = (
    # What is hashed never changes. The names lie outside of the chain, which holds their salted hash only, so that a
    # name can be erased, and encrypted later, without breaking it.
    """CREATE TABLE log (
        id INTEGER PRIMARY KEY,
        time TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL,
        command TEXT NOT NULL,
        user TEXT NOT NULL,
        commitment TEXT NOT NULL,
        hash TEXT NOT NULL,
        names BLOB
    )""",
    """CREATE TRIGGER log_keeps_entries BEFORE DELETE ON log
        BEGIN SELECT RAISE(ABORT, 'the log only grows'); END""",
    """CREATE TRIGGER log_keeps_facts
        BEFORE UPDATE OF id, time, action, subject, detail, command, user, commitment, hash ON log
        BEGIN SELECT RAISE(ABORT, 'the log only grows'); END""",
)

SCHEMA: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # With encryption, name and embedding are sealed bytes, source is empty, and `lookup` is a keyed hash of the name.
    """CREATE TABLE people (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created TEXT NOT NULL, uid BLOB, lookup BLOB
    )""",
    """CREATE TABLE templates (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        person INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
        embedding BLOB NOT NULL,
        quality REAL,
        source TEXT NOT NULL,
        created TEXT NOT NULL,
        precision TEXT,
        cohort TEXT,
        cohort_mean REAL,
        fitness REAL
    )""",
    "CREATE INDEX templates_person ON templates (person)",
    "CREATE UNIQUE INDEX people_uid ON people (uid)",
    "CREATE UNIQUE INDEX people_lookup ON people (lookup)",
    *_LOG,
)


def _remember_precision(connection: sqlite3.Connection) -> None:
    """Version 2 remembers the precision of each template; that of older ones is not known."""
    connection.execute("ALTER TABLE templates ADD COLUMN precision TEXT")


def _protect_and_log(connection: sqlite3.Connection) -> None:
    """Version 3 can be encrypted, and has a log, which begins empty."""
    connection.execute("ALTER TABLE people ADD COLUMN uid BLOB")
    connection.execute("ALTER TABLE people ADD COLUMN lookup BLOB")
    connection.execute("UPDATE people SET uid = randomblob(16)")
    connection.execute("CREATE UNIQUE INDEX people_uid ON people (uid)")
    connection.execute("CREATE UNIQUE INDEX people_lookup ON people (lookup)")
    for statement in _LOG:
        connection.execute(statement)
    connection.executemany("INSERT INTO meta VALUES (?, ?)", [("encryption", NO_ENCRYPTION), ("head", EMPTY_HEAD)])


def _look_for_residue(connection: sqlite3.Connection) -> None:
    """Version 4 leaves no bytes of what was removed, and seals the sum of its records; see `reader`."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (RESIDUE, secrets.token_hex(8)))


def _remember_cohort_means(connection: sqlite3.Connection) -> None:
    """Version 5 remembers the cohort mean of each template; that of older ones is computed when the gallery is read."""
    connection.execute("ALTER TABLE templates ADD COLUMN cohort TEXT")
    connection.execute("ALTER TABLE templates ADD COLUMN cohort_mean REAL")


def _remember_fitness(connection: sqlite3.Connection) -> None:
    """Version 6 remembers the fitness of each template; that of older ones is not known."""
    connection.execute("ALTER TABLE templates ADD COLUMN fitness REAL")


MIGRATIONS: Final[dict[int, Callable[[sqlite3.Connection], None]]] = {
    1: _remember_precision,
    2: _protect_and_log,
    3: _look_for_residue,
    4: _remember_cohort_means,
    5: _remember_fitness,
}
"""What brings a gallery from this schema version to the next; all of them run in one transaction."""

_TABLES: Final = {"meta", "people", "templates", "log"}
_FIXED: Final = {
    words[2 + (words[1] == "UNIQUE")]: " ".join(words)
    for words in (statement.split() for statement in SCHEMA)
    if words[1] != "TABLE"
}
"""Indices and triggers by name, as SQLite remembers them but for the spaces."""

_ODD_WORDS: Final = re.compile(
    r"\b(as|check|collate|conflict|default|deferrable|generated|strict|virtual|without)\b", re.I
)


def foreign_object(connection: sqlite3.Connection) -> str | None:
    """Look for what edgeface did not put into a gallery: a view in place of a table, a trigger, a computed column.

    Such things would run at the first look at the file, as whoever made it wants.

    Returns:
        What was found, in words; None if there is nothing.
    """
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        if not (isinstance(kind, str) and isinstance(name, str) and isinstance(sql, str | None)):
            return "a description of its tables that is no text"
        if name.startswith("sqlite_") and kind in ("table", "index"):  # SQLite keeps these names to itself
            continue
        text = " ".join((sql or "").split())
        if (
            kind == "table"
            and name in _TABLES
            and text.upper().startswith("CREATE TABLE")
            and not _ODD_WORDS.search(text)
        ):
            continue
        if kind in ("index", "trigger") and text == _FIXED.get(name):
            continue
        return f"the {kind} {name[:40]!r}"
    return None
