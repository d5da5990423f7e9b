"""The log of a gallery: who was enrolled, renamed, merged or removed, when, and by which user and command.

Entries form a chain: each holds the SHA-256 of the one before and of its own facts, and the gallery holds the number
of entries and the hash of the last one. An entry that was altered, left out or put in shows. In an encrypted gallery
that last hash is sealed, so that nobody without the key can write a chain that holds; in a plain one it guards against
accidents and the careless, as whoever can write the file can compute every hash anew.

Names stand outside of the chain, which has only their hash with a random salt: they can be erased, or encrypted, and
the chain still holds. No entry has biometric data.
"""

import getpass
import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from edgeface.runtime.gallery.records import Records
from edgeface.runtime.gallery.schema import EMPTY_HEAD
from edgeface.runtime.gallery.sealing import SealError

_COLUMNS: Final = "id, time, action, subject, detail, command, user, commitment, hash, names"
_MAX_COMMAND: Final = 100  # characters


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What was done.

    Attributes:
        id: counts from 1.
        time: UTC, ISO 8601.
        action: `enrolled`, `removed`, `renamed` and the like.
        names: of those concerned, the old name before the new one; None where they were erased.
        subject: of the person concerned, 32 hexadecimal digits that stay when the name changes; or empty.
        detail: numbers and the like.
        command: that did it.
        user: who ran it, as the operating system says.
    """

    id: int
    time: str
    action: str
    names: tuple[str, ...] | None
    subject: str
    detail: dict[str, Any]
    command: str
    user: str


@dataclass(frozen=True, slots=True)
class LogReport:
    """The entries of a log, the oldest first, and what is wrong with them; None if the chain holds."""

    entries: tuple[LogEntry, ...]
    broken: str | None


def append(
    connection: sqlite3.Connection,
    records: Records,
    action: str,
    names: Sequence[str],
    *,
    subject: bytes = b"",
    command: str = "",
    **detail: Any,
) -> None:
    """Write one more entry, in the transaction of the change that it tells of."""
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    count, last = records.head(meta)
    number = count + 1
    payload = json.dumps([os.urandom(16).hex(), *names])
    commitment = hashlib.sha256(payload.encode()).hexdigest()
    facts = (
        number,
        datetime.now(UTC).isoformat(timespec="seconds"),
        action,
        subject.hex(),
        json.dumps(detail),
        command[:_MAX_COMMAND],
        _user(),
        commitment,
    )
    digest = _chained(last, facts)
    row = (*facts, digest, _stored(records, number, payload))
    connection.execute(f"INSERT INTO log ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)
    write_head(connection, records, f"{number}:{digest}")


def write_head(connection: sqlite3.Connection, records: Records, head: str) -> None:
    """Write the end of the chain, and with it what the gallery says of its encryption."""
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", records.describe(head).items())


def read_log(connection: sqlite3.Connection, records: Records) -> LogReport:
    """Read the log, and check the chain."""
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    head = records.head(meta)
    entries: list[LogEntry] = []
    broken: str | None = None
    unnamed: list[tuple[int, str]] = []
    forgotten: set[str] = set()
    last = EMPTY_HEAD.partition(":")[2]
    for expected, row in enumerate(connection.execute(f"SELECT {_COLUMNS} FROM log ORDER BY id"), 1):
        facts, digest, stored = row[:8], row[8], row[9]
        names, fits = _opened(records, int(row[0]), stored, row[7])
        try:
            detail = dict(json.loads(row[4]))
            forgotten.update(detail.get("forgot", ()))
        except (ValueError, TypeError):
            detail, fits = {}, False
        entry = LogEntry(int(row[0]), str(row[1]), str(row[2]), names, str(row[3]), detail, str(row[5]), str(row[6]))
        if names is None:
            unnamed.append((entry.id, entry.subject))
        if broken is None and not (entry.id == expected and fits and digest == _chained(last, facts)):
            broken = f"entry {entry.id} was altered, or one before it was left out"
        last = str(digest)
        entries.append(entry)
    if broken is None and head != (len(entries), last):
        broken = f"it ends at entry {len(entries)}, but there were {head[0]}"
    erased = [number for number, subject in unnamed if subject not in forgotten]
    if broken is None and erased:
        broken = f"the names of entry {erased[0]} were erased without `--forget`"
    return LogReport(tuple(entries), broken)


def forget(connection: sqlite3.Connection, records: Records, uid: bytes) -> list[str]:
    """Erase the names from all entries about a person, and about those who were merged into them.

    Returns:
        The subjects that were concerned, for the entry that tells of it.
    """
    subjects = {uid.hex()}
    for entry in reversed(read_log(connection, records).entries):
        if entry.subject in subjects and "merged" in entry.detail:
            subjects.add(entry.detail["merged"])
    for subject in subjects:
        connection.execute("UPDATE log SET names = NULL WHERE subject = ?", (subject,))
    return sorted(subjects)


def rewrite_names(connection: sqlite3.Connection, old: Records, new: Records) -> None:
    """Seal the names anew, or open them, for a gallery whose encryption changes.

    Raises:
        GalleryError: an entry does not fit.
    """
    for number, commitment, stored in connection.execute("SELECT id, commitment, names FROM log").fetchall():
        if stored is None:
            continue
        payload = _payload(old, number, stored)
        if payload is None or hashlib.sha256(payload.encode()).hexdigest() != commitment:
            raise old.altered(f"entry {number} of its log")
        connection.execute("UPDATE log SET names = ? WHERE id = ?", (_stored(new, number, payload), number))


def _chained(last: str, facts: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps([last, *facts]).encode()).hexdigest()


def _stored(records: Records, number: int, payload: str) -> str | bytes:
    return payload if records.sealer is None else records.sealer.seal(payload.encode(), "log", number)


def _payload(records: Records, number: int, stored: object) -> str | None:
    if records.sealer is None:
        return stored if isinstance(stored, str) else None
    try:
        return records.sealer.open(stored, "log", number).decode()
    except SealError:
        return None


def _opened(records: Records, number: int, stored: object, commitment: object) -> tuple[tuple[str, ...] | None, bool]:
    """Return the names of an entry, and whether they are what was written."""
    if stored is None:
        return None, True
    payload = _payload(records, number, stored)
    if payload is None or hashlib.sha256(payload.encode()).hexdigest() != commitment:
        return (), False
    return tuple(json.loads(payload)[1:]), True


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run as a number without a name
        return str(os.getuid()) if hasattr(os, "getuid") else ""
