"""People and templates as they lie in a gallery file: plain, or sealed. Works inside the transaction of the caller."""

import base64
import binascii
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edgeface.errors import GalleryError
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.people import is_clean
from edgeface.runtime.gallery.record_sum import RecordSum, sum_of_all, sum_of_person, sum_of_template
from edgeface.runtime.gallery.schema import AES_GCM, EMPTY_HEAD, NO_ENCRYPTION
from edgeface.runtime.gallery.sealing import SALT_BYTES, Sealer, SealError

UID_BYTES: Final = 16

_HEAD: Final = re.compile(r"(\d{1,18}):([0-9a-f]{64})(?::(\d{1,18}:\d{1,18}:[0-9a-f]{64}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PersonRow:
    """Somebody; `uid` are random bytes that stay the same when the name changes, and are never used again."""

    id: int
    uid: bytes
    name: str
    created: str


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """One template, as it is kept. `embedding` is D little-endian float32; `created` UTC, ISO 8601.

    `cohort_mean` is its mean with the cohort of that id, see `edgeface.cohort`; None where it was enrolled without.
    `fitness` is what a quality network said of the face, see `edgeface.fitness`; None where there was none.
    """

    embedding: bytes
    quality: float | None
    source: str
    precision: str | None
    created: str
    cohort: str | None = None
    cohort_mean: float | None = None
    fitness: float | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """What a gallery says about itself as a whole.

    Attributes:
        entries: of the log.
        last: hash of the last one.
        sum: over all records of an encrypted gallery; None in a plain one, and in one that has none yet.
    """

    entries: int
    last: str
    sum: RecordSum | None = None


class Records:
    """Writes and reads the rows of a gallery.

    Args:
        path: of the gallery, for messages.
        sealer: encrypts; None leaves everything plain.
    """

    def __init__(self, path: Path, sealer: Sealer | None = None) -> None:
        self.path = path
        self.sealer = sealer
        self.difference = RecordSum()
        """What the changes since the head was written last have added to the sum over all records."""

    @classmethod
    def open(cls, path: Path, meta: Mapping[str, str], space: str, dimension: int, key: GalleryKey | None) -> "Records":
        """Return the records of a gallery as its `meta` describes it.

        Raises:
            GalleryError: it is encrypted and there is no key, or not this one; it is not encrypted and there is a key;
                or what it says about itself was altered.
        """
        encryption = meta.get("encryption")
        if encryption == NO_ENCRYPTION:
            if key is not None:
                raise GalleryError(
                    f"gallery {path} is not encrypted, but {key.origin} gives a key for it; encrypt it with "
                    "`edgeface gallery encrypt`, or leave the key out"
                )
            return cls(path)
        try:
            salt = bytes.fromhex(meta.get("salt", ""))
        except ValueError:
            salt = b""
        if encryption != AES_GCM or len(salt) != SALT_BYTES:
            raise GalleryError(f"gallery {path} does not say how it is encrypted; restore a copy")
        if key is None:
            raise GalleryError(
                f"gallery {path} is encrypted; give its key with --gallery-key FILE or in EDGEFACE_GALLERY_KEY"
            )
        sealer = Sealer(key, salt, space, dimension)
        if sealer.key_id != meta.get("key_id"):
            raise GalleryError(
                f"{key.origin} does not open gallery {path}: it is key {sealer.key_id}, not {meta.get('key_id')}; "
                "give the key that it was encrypted with"
            )
        records = cls(path, sealer)
        records.head(meta)  # sealed with the space and the dimension
        return records

    def describe(self, head: str = EMPTY_HEAD, total: RecordSum | None = None) -> dict[str, str]:
        """Return what `meta` has to say for `open`, with the head of the log and the sum over all records."""
        if self.sealer is None:
            return {"encryption": NO_ENCRYPTION, "head": head}
        text = f"{head}:{(total or RecordSum()).to_text()}"
        sealed = base64.b64encode(self.sealer.seal(text.encode(), "head")).decode()
        return {
            "encryption": AES_GCM,
            "salt": self.sealer.salt.hex(),
            "key_id": self.sealer.key_id,
            "head": sealed,
        }

    def check_current(self, meta: Mapping[str, str]) -> None:
        """Raise `GalleryError` if another program encrypted or decrypted the gallery in the meantime."""
        if meta.get("salt", "") != (self.sealer.salt.hex() if self.sealer else ""):
            raise GalleryError(f"gallery {self.path} was encrypted anew by another program; open it again with its key")

    def head(self, meta: Mapping[str, str]) -> Head:
        """Return what is kept about the log and all records.

        Raises:
            GalleryError: it was altered.
        """
        text = meta.get("head", "")
        if self.sealer is not None:
            try:
                text = self.sealer.open(base64.b64decode(text, validate=True), "head").decode()
            except (binascii.Error, ValueError, SealError):
                raise self.altered("what it says about itself") from None
        found = _HEAD.fullmatch(text)
        if found is None or (found[3] is not None and self.sealer is None):
            raise self.altered("the end of its log")
        return Head(int(found[1]), found[2], None if found[3] is None else RecordSum.from_text(found[3]))

    def check_whole(self, connection: sqlite3.Connection, meta: Mapping[str, str]) -> None:
        """Look whether all records are there, and no others; a plain gallery cannot tell.

        Raises:
            GalleryError: a record was put in, put back, replaced or left out.
        """
        if self.sealer is None or (kept := self.head(meta).sum) is None:
            return
        found = sum_of_all(connection, self.sealer.sum_key)
        if found != kept:
            counts = f"{kept.people} people with {kept.templates} templates"
            there = f"{found.people} with {found.templates}"
            if there == f"{kept.people} with {kept.templates}":
                there = "as many, but not those"
            raise GalleryError(
                f"gallery {self.path} was altered: records were put in, put back, replaced or left out; it was left "
                f"with {counts}, there are {there}; restore a copy"
            )

    def people(self, connection: sqlite3.Connection) -> Iterator[PersonRow]:
        """Give everybody, in the order in which they came.

        Raises:
            GalleryError: a name was altered.
        """
        for row in connection.execute("SELECT id, uid, name, created FROM people ORDER BY id"):
            yield self._person(*row)

    def find(self, connection: sqlite3.Connection, name: str) -> PersonRow | None:
        """Return who has that name, spelt as `clean_name` does; None if nobody has.

        Raises:
            GalleryError: the record was altered.
        """
        column, value = ("name", name) if self.sealer is None else ("lookup", self.sealer.blind(name))
        sql = f"SELECT id, uid, name, created FROM people WHERE {column} = ?"
        row = connection.execute(sql, (value,)).fetchone()
        if row is None:
            return None
        person = self._person(*row)
        if person.name != name:
            raise self.altered(f"the name of {name!r}")
        return person

    def add_person(self, connection: sqlite3.Connection, name: str, created: str) -> PersonRow:
        """Add somebody whose name is free."""
        uid = os.urandom(UID_BYTES)
        insert = "INSERT INTO people (name, created, uid, lookup) VALUES (?, ?, ?, ?)"
        cursor = connection.execute(insert, (*self._stored_name(uid, name, created), uid, self._lookup(name)))
        number = cursor.lastrowid or 0
        self._count_person(connection, number)
        return PersonRow(number, uid, name, created)

    def rename(self, connection: sqlite3.Connection, person: PersonRow, name: str) -> None:
        """Give somebody a name that is free; also seals the old one anew."""
        stored, _ = self._stored_name(person.uid, name, person.created)
        update = "UPDATE people SET name = ?, lookup = ? WHERE id = ?"
        self._count_person(connection, person.id, gone=True)
        connection.execute(update, (stored, self._lookup(name), person.id))
        self._count_person(connection, person.id)

    def remove_person(self, connection: sqlite3.Connection, person: PersonRow) -> None:
        """Remove somebody with all templates that are still theirs."""
        for number in self.template_ids(connection, person):
            self.remove_template(connection, number)
        self._count_person(connection, person.id, gone=True)
        connection.execute("DELETE FROM people WHERE id = ?", (person.id,))

    def template_ids(self, connection: sqlite3.Connection, person: PersonRow) -> list[int]:
        """Return the ids of the templates of a person, in the order in which they came."""
        query = "SELECT id FROM templates WHERE person = ? ORDER BY id"
        return [number for (number,) in connection.execute(query, (person.id,))]

    def remove_template(self, connection: sqlite3.Connection, number: int) -> None:
        """Remove a template by its id."""
        self._count_template(connection, number, gone=True)
        connection.execute("DELETE FROM templates WHERE id = ?", (number,))

    def add_template(self, connection: sqlite3.Connection, person: PersonRow, row: TemplateRow) -> int:
        """Add a template to a person; returns its id."""
        columns = "embedding, source, quality, precision, created, cohort, cohort_mean, fitness, person"
        insert = f"INSERT INTO templates ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        facts = (row.quality, row.precision, row.created, row.cohort, row.cohort_mean, row.fitness)
        values = (*self._stored_template(person, row), *facts, person.id)
        number = connection.execute(insert, values).lastrowid or 0
        self._count_template(connection, number)
        return number

    def rewrite_template(
        self, connection: sqlite3.Connection, number: int, person: PersonRow, row: TemplateRow
    ) -> None:
        """Write a template again, for a person."""
        update = "UPDATE templates SET embedding = ?, source = ?, person = ? WHERE id = ?"
        self._count_template(connection, number, gone=True)
        connection.execute(update, (*self._stored_template(person, row), person.id, number))
        self._count_template(connection, number)

    def templates(
        self, connection: sqlite3.Connection, person: PersonRow | None = None
    ) -> Iterator[tuple[int, PersonRow, TemplateRow]]:
        """Give id, person and content of the templates of a person or of all, in the order in which they came.

        Plain content is given as it is, also where it makes no sense.

        Raises:
            GalleryError: a sealed record was altered.
        """
        people = {row.id: row for row in ([person] if person else self.people(connection))}
        which = "" if person is None else f"WHERE person = {person.id:d} "
        columns = "id, person, embedding, quality, source, precision, created, cohort, cohort_mean, fitness"
        for number, owner, *rest in connection.execute(f"SELECT {columns} FROM templates {which}ORDER BY id"):
            if owner not in people:
                raise self.altered("a template of nobody")
            row = TemplateRow(*rest)
            if not _is_sound(row):
                raise self.altered(f"a template of {people[owner].name!r}")
            yield number, people[owner], self._template(people[owner], row)

    def altered(self, what: str) -> GalleryError:
        """Return the error for a record that is not what was written."""
        return GalleryError(f"gallery {self.path} was altered: {what} does not fit; restore a copy")

    def _count_person(self, connection: sqlite3.Connection, number: int, *, gone: bool = False) -> None:
        if self.sealer is not None:
            self._count(sum_of_person(connection, self.sealer.sum_key, number), gone)

    def _count_template(self, connection: sqlite3.Connection, number: int, *, gone: bool = False) -> None:
        if self.sealer is not None:
            self._count(sum_of_template(connection, self.sealer.sum_key, number), gone)

    def _count(self, one: RecordSum, gone: bool) -> None:
        self.difference = self.difference - one if gone else self.difference + one

    def _person(self, number: int, uid: object, name: object, created: object) -> PersonRow:
        if self.sealer is not None and isinstance(uid, bytes) and isinstance(created, str):
            try:
                name = self.sealer.open(name, "person", uid.hex(), created).decode()
            except SealError:
                raise self.altered("a name") from None
        if not isinstance(name, str) or not isinstance(uid, bytes) or not isinstance(created, str):
            raise self.altered("a name")
        if not is_clean(name):
            raise self.altered("a name")
        return PersonRow(number, uid, name, created)

    def _stored_name(self, uid: bytes, name: str, created: str) -> tuple[str | bytes, str]:
        if self.sealer is None:
            return name, created
        return self.sealer.seal(name.encode(), "person", uid.hex(), created), created

    def _lookup(self, name: str) -> bytes | None:
        return None if self.sealer is None else self.sealer.blind(name)

    def _template(self, person: PersonRow, row: TemplateRow) -> TemplateRow:
        if self.sealer is None:
            return row
        try:
            opened = self.sealer.open(row.embedding, *_belongs(person, row))
        except SealError:
            raise self.altered(f"a template of {person.name!r}") from None
        size = int.from_bytes(opened[:4], "little")
        embedding, source = opened[4 : 4 + size], opened[4 + size :].decode()
        return replace(row, embedding=embedding, source=source)

    def _stored_template(self, person: PersonRow, row: TemplateRow) -> tuple[bytes, str]:
        """Return what goes into the columns `embedding` and `source`; sealed, the source is in with the embedding."""
        if not isinstance(row.embedding, bytes):  # a row of the file may hold anything
            raise self.altered(f"a template of {person.name!r}")
        if self.sealer is None:
            return row.embedding, row.source
        data = len(row.embedding).to_bytes(4, "little") + row.embedding + row.source.encode()
        return self.sealer.seal(data, *_belongs(person, row)), ""


def _belongs(person: PersonRow, row: TemplateRow) -> tuple[str | float | None, ...]:
    # Only what a record says is bound to it, so that those of older versions still open.
    told: tuple[str | float | None, ...] = (row.cohort, row.cohort_mean, row.fitness)
    if row.fitness is None:
        told = () if row.cohort is None and row.cohort_mean is None else told[:2]
    return "template", person.uid.hex(), row.quality, row.precision, row.created, *told


def _is_sound(row: TemplateRow) -> bool:
    """Tell whether a row of the file, which may hold anything, has the types it should; the embedding aside."""
    return (
        isinstance(row.quality, float | None)
        and isinstance(row.precision, str | None)
        and isinstance(row.source, str)
        and isinstance(row.created, str)
        and isinstance(row.cohort, str | None)
        and all(
            share is None or (isinstance(share, float) and 0 <= share <= 1) for share in (row.cohort_mean, row.fitness)
        )
    )
