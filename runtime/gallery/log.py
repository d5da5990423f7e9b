"""The log of a gallery: who was enrolled, renamed, merged or removed, when, and by which user and command.

Entries form a chain: each holds the SHA-256 of the one before and of its own facts, and the gallery holds the number
of entries and the hash of the last one. An entry that was altered, left out or put in shows. In an encrypted gallery
that last hash is sealed, so that nobody without the key can write a chain that holds; in a plain one it guards against
accidents and the careless, as whoever can write the file can compute every hash anew.

Names stand outside of the chain, which has only their hash with a random salt: they can be erased, or encrypted, and
the chain still holds. So do the names of files, which may be those of people. No entry has biometric data.

The number of entries and the hash of the last one, the head, stand for all that was done. Who keeps a head elsewhere
can tell later whether the gallery has gone on from there, or whether an older file was put in its place.
"""

import getpass
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from edgeface.errors import ConfigError
from edgeface.runtime.gallery.record_sum import RecordSum
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
        hash: over this entry and all before it, 64 hexadecimal digits.
    """

    id: int
    time: str
    action: str
    names: tuple[str, ...] | None
    subject: str
    detail: dict[str, Any]
    command: str
    user: str
    hash: str


@dataclass(frozen=True, slots=True)
class LogReport:
    """The entries of a log, the oldest first, and what is wrong with them; None if the chain holds."""

    entries: tuple[LogEntry, ...]
    broken: str | None

    @property
    def head(self) -> str:
        """The number of entries and the hash of the last one: `12:4f0c...`."""
        return f"{len(self.entries)}:{self.entries[-1].hash}" if self.entries else EMPTY_HEAD

    def went_on_from(self, head: str) -> bool:
        """Whether the log once ended with this head, or does so now.

        Raises:
            ConfigError: `head` is none.
        """
        if not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", head):
            raise ConfigError(f"{head[:80]!r} is no head of a log; give what `edgeface gallery log --head` printed")
        number, _, last = head.partition(":")
        known = {entry.id: entry.hash for entry in self.entries} | {0: EMPTY_HEAD.partition(":")[2]}
        return self.broken is None and known.get(int(number)) == last


def append(
    connection: sqlite3.Connection,
    records: Records,
    action: str,
    names: Sequence[str],
    *,
    subject: bytes = b"",
    command: str = "",
    files: Mapping[str, str] | None = None,
    **detail: Any,
) -> None:
    """Write one more entry, in the transaction of the change that it tells of.

    Args:
        connection: in the transaction.
        records: of the gallery. What they were changed by goes into the head as well.
        action: what was done.
        names: of those concerned.
        subject: `uid` of the person concerned.
        command: that did it.
        files: names of files, kept as the names of people are.
        detail: numbers and the like.
    """
    head = records.head(read_meta(connection))
    number = head.entries + 1
    payload = json.dumps([os.urandom(16).hex(), *names, *([files] if files else ())])
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
    digest = _chained(head.last, facts)
    row = (*facts, digest, _stored(records, number, payload))
    connection.execute(f"INSERT INTO log ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)
    total = (head.sum or RecordSum()) + records.difference
    records.difference = RecordSum()
    write_head(connection, records, f"{number}:{digest}", total)


def write_head(connection: sqlite3.Connection, records: Records, head: str, total: RecordSum) -> None:
    """Write the end of the chain and the sum over all records, and with it what the gallery says of its encryption."""
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", records.describe(head, total).items())


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """Return what the gallery says about itself, in the transaction of the caller."""
    return {str(key): str(value) for key, value in connection.execute("SELECT key, value FROM meta")}


def read_log(connection: sqlite3.Connection, records: Records) -> LogReport:
    """Read the log, and check the chain."""
    head = records.head(read_meta(connection))
    entries: list[LogEntry] = []
    broken: str | None = None
    named: dict[str, int] = {}  # first entry about a subject whose names are there, and were erased
    unnamed: dict[str, int] = {}
    forgotten: dict[str, int] = {}  # last entry that says so
    last = EMPTY_HEAD.partition(":")[2]
    for expected, row in enumerate(connection.execute(f"SELECT {_COLUMNS} FROM log ORDER BY id"), 1):
        number = int(row[0])
        names, files, fits = _opened(records, number, row[9], row[7])
        detail = _detail(row[4])
        is_text = all(isinstance(value, str) for value in row[1:9])
        subject, digest = str(row[3]), str(row[8])
        entry = LogEntry(
            number,
            str(row[1]),
            str(row[2]),
            names,
            subject,
            {**(detail or {}), **files},
            str(row[5]),
            str(row[6]),
            digest,
        )
        fits = fits and is_text and detail is not None and digest == _chained(last, row[:8])
        if broken is None and not (fits and number == expected):
            broken = f"entry {number} was altered, or one before it was left out"
        forgotten |= dict.fromkeys((detail or {}).get("forgot", ()), number)
        (unnamed if names is None else named).setdefault(subject, number)
        last = digest
        entries.append(entry)
    if broken is None and (head.entries, head.last) != (len(entries), last):
        broken = f"it ends at entry {len(entries)}, but there were {head.entries}"
    erased = [number for subject, number in unnamed.items() if subject not in forgotten]
    if broken is None and erased:
        broken = f"the names of entry {min(erased)} were erased without `--forget`"
    back = [number for subject, number in named.items() if number < forgotten.get(subject, 0)]
    if broken is None and back:
        broken = f"the names of entry {min(back)} were put back after `--forget`"
    return LogReport(tuple(entries), broken)


def forget(connection: sqlite3.Connection, records: Records, name: str, uid: bytes | None = None) -> list[str]:
    """Erase the names from all entries about a person, and about those who were merged into them.

    Args:
        connection: in the transaction of the change.
        records: of the gallery.
        name: of the person. Entries about others of that name who are not in the gallery any more count as well.
        uid: of the person; None if nobody in the gallery has the name.

    Returns:
        The subjects that were concerned, for the entry that tells of it.
    """
    entries = read_log(connection, records).entries
    present = {person.uid.hex() for person in records.people(connection)}
    for entry in reversed(entries):
        if entry.subject in present and isinstance(merged := entry.detail.get("merged"), str):
            present.add(merged)  # lives on in somebody else
    subjects = {entry.subject for entry in entries if entry.names and name in entry.names} - present
    subjects = {subject for subject in subjects if subject} | ({uid.hex()} if uid else set())
    for entry in reversed(entries):
        merged = entry.detail.get("merged")
        if entry.subject in subjects and isinstance(merged, str):
            subjects.add(merged)
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
    # What is not JSON is not ours: it gets a hash all the same, which then does not fit.
    return hashlib.sha256(json.dumps([last, *facts], default=repr).encode()).hexdigest()


def _stored(records: Records, number: int, payload: str) -> str | bytes:
    return payload if records.sealer is None else records.sealer.seal(payload.encode(), "log", number)


def _payload(records: Records, number: int, stored: object) -> str | None:
    if records.sealer is None:
        return stored if isinstance(stored, str) else None
    try:
        return records.sealer.open(stored, "log", number).decode()
    except SealError:
        return None


def _opened(
    records: Records, number: int, stored: object, commitment: object
) -> tuple[tuple[str, ...] | None, dict[str, Any], bool]:
    """Return the names and the files of an entry, and whether they are what was written."""
    if stored is None:
        return None, {}, True
    payload = _payload(records, number, stored)
    if payload is None or hashlib.sha256(payload.encode()).hexdigest() != commitment:
        return (), {}, False
    try:
        _, *names = json.loads(payload)
        files = names.pop() if names and isinstance(names[-1], dict) else {}
    except (ValueError, TypeError, RecursionError):
        return (), {}, False
    if not all(isinstance(text, str) for text in (*names, *files.values())):
        return (), {}, False
    return tuple(names), files, True


def _detail(text: object) -> dict[str, Any] | None:
    """Return the numbers of an entry, or None if they are not what was written."""
    try:
        detail = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(detail, dict):
        return None
    forgot = detail.get("forgot", [])
    is_sound = isinstance(forgot, list) and all(isinstance(subject, str) for subject in forgot)
    return detail if is_sound else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run as a number without a name
        return str(os.getuid()) if hasattr(os, "getuid") else ""
