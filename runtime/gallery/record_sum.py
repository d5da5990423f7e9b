"""One number over all records of an encrypted gallery: what was put in, put back, replaced or left out shows.

Each record is sealed by itself (`edgeface.runtime.gallery.sealing`), so it cannot be altered; but one that was removed
could be put back, or one left out, by whoever can write the file. So the sum of a keyed hash of every record, modulo
2^256, is sealed together with the head of the log. A change brings it up to date by the records that it touches, not by
all of them; over all it is computed when the gallery is opened.

Why this holds: the hash F is keyed BLAKE2b, whose values are random 256-bit numbers to all who lack the key. They never
see a value or a sum, as the sum is encrypted; all they learn is whether a gallery is refused. A record goes in with its
number, which SQLite lets no two records share, so the records of a gallery are a set. If the set in the file is another
one than the set that was sealed, some record is in only one of them, and its F is independent of all other terms: both
sums are equal with a chance of 2^-256 at each try. (It is the additive multiset hash of Clarke and others, Asiacrypt
2003; where sums are in the open it needs more than this.)

A record is represented by its number, its owner, and nonce and tag of its AES-GCM seal, which nobody without the key
can make fit another content.

What this cannot show: the whole file put back as it was. For that somebody has to remember a later state elsewhere; see
`edgeface gallery log --head`.
"""

import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from edgeface.runtime.gallery.sealing import NONCE_BYTES, TAG_BYTES

_MODULUS: Final = 1 << 256

_PEOPLE: Final = f"SELECT 'p', id, uid, lookup, SUBSTR(name, 1, {NONCE_BYTES}), SUBSTR(name, -{TAG_BYTES}) FROM people"
_TEMPLATES: Final = (
    f"SELECT 't', id, person, SUBSTR(embedding, 1, {NONCE_BYTES}), SUBSTR(embedding, -{TAG_BYTES}) FROM templates"
)


@dataclass(frozen=True, slots=True)
class RecordSum:
    """How many people and templates there are, and the sum of their hashes, in [0, 2^256)."""

    people: int = 0
    templates: int = 0
    total: int = 0

    def __add__(self, other: "RecordSum") -> "RecordSum":
        return RecordSum(
            self.people + other.people, self.templates + other.templates, (self.total + other.total) % _MODULUS
        )

    def __sub__(self, other: "RecordSum") -> "RecordSum":
        return RecordSum(
            self.people - other.people, self.templates - other.templates, (self.total - other.total) % _MODULUS
        )

    def to_text(self) -> str:
        """Return it as it is sealed."""
        return f"{self.people}:{self.templates}:{self.total:064x}"

    @classmethod
    def from_text(cls, text: str) -> "RecordSum":
        """Read what `to_text` gave.

        Raises:
            ValueError: it is something else.
        """
        people, templates, total = text.split(":")
        return cls(int(people), int(templates), int(total, 16))


def sum_of_all(connection: sqlite3.Connection, key: bytes) -> RecordSum:
    """Compute it over every record; takes about 10 µs each."""
    people, one = _hashed(connection.execute(_PEOPLE), key)
    templates, two = _hashed(connection.execute(_TEMPLATES), key)
    return RecordSum(people, templates, (one + two) % _MODULUS)


def sum_of_template(connection: sqlite3.Connection, key: bytes, number: int) -> RecordSum:
    """Compute it for one template, by its id."""
    count, total = _hashed(connection.execute(f"{_TEMPLATES} WHERE id = ?", (number,)), key)
    return RecordSum(0, count, total % _MODULUS)


def sum_of_person(connection: sqlite3.Connection, key: bytes, number: int) -> RecordSum:
    """Compute it for one person, by their id, without their templates."""
    count, total = _hashed(connection.execute(f"{_PEOPLE} WHERE id = ?", (number,)), key)
    return RecordSum(count, 0, total % _MODULUS)


def _hashed(rows: Iterable[tuple[Any, ...]], key: bytes) -> tuple[int, int]:
    """Return how many rows there are and the sum of their hashes; `repr` tells any two rows apart."""
    count = total = 0
    for row in rows:
        count += 1
        total += int.from_bytes(hashlib.blake2b(repr(row).encode(), key=key, digest_size=32).digest(), "little")
    return count, total
