"""What lies in an outbox between two runs: events that wait, and those that were set aside, with the reason."""

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeface.errors import ConfigError

SHOWN: Final = 20
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@dataclass(frozen=True, slots=True)
class SetAside:
    """An event that a destination does not want, or that cannot be sent.

    Attributes:
        sink: kind of destination, such as `webhook`.
        event: its id.
        why: it was set aside.
    """

    sink: str
    event: str
    why: str


@dataclass(frozen=True, slots=True)
class OutboxReport:
    """Events that wait, by kind of destination, how many were set aside, and the newest `SHOWN` of those."""

    waiting: Mapping[str, int]
    refused: int
    set_aside: tuple[SetAside, ...]


def look_into(path: Path) -> OutboxReport:
    """Look into an outbox that no run uses; nothing in it changes.

    Raises:
        ConfigError: it is missing, in use, damaged or no outbox.
    """
    if not path.is_file():
        raise ConfigError(f"outbox not found: {path}")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0.2)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            if connection.execute("SELECT type FROM sqlite_master WHERE name = 'letters'").fetchall() != [("table",)]:
                raise ConfigError(f"{path} is an SQLite file, but no outbox; give another path with --outbox")
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            waiting = connection.execute("SELECT sink, COUNT(*) FROM letters WHERE refused IS NULL GROUP BY sink")
            counts = {str(sink): int(count) for sink, count in waiting}
            ((refused,),) = connection.execute("SELECT COUNT(*) FROM letters WHERE refused IS NOT NULL")
            query = "SELECT sink, event, refused FROM letters WHERE refused IS NOT NULL ORDER BY number DESC LIMIT ?"
            rows = connection.execute(query, (SHOWN,)).fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
            raise ConfigError(f"outbox {path} is used by a run; look again when it has ended") from error
        why = " ".join(str(error).split())[:200]
        raise ConfigError(f"outbox {path} cannot be read: {why}; move it away, or give another path") from error
    return OutboxReport(counts, int(refused), tuple(SetAside(*map(_text, row)) for row in rows))


def _text(value: object) -> str:
    return " ".join(str(value).split())[:200]
