"""Reading what `edgeface.runtime.gallery.exchange` wrote, or an enemy: nothing is used before all of it was checked."""

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final

import numpy as np
from pydantic import ValidationError

from edgeface.errors import ConfigError, GalleryError
from edgeface.runtime.gallery.exchange import MAX_TEMPLATES, MAX_TEXT, End, Header, Line, first_fault
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.people import clean_name
from edgeface.runtime.gallery.records import TemplateRow
from edgeface.runtime.gallery.schema import NO_ENCRYPTION
from edgeface.runtime.gallery.sealing import Sealer, SealError

_UNIT_TOLERANCE: Final = 1e-4
"""Exported embeddings are of unit length to single precision; they are taken as they are, to the bit."""


@dataclass(frozen=True, slots=True)
class Export:
    """What an exported file holds: people by name, with their templates, of one embedding space."""

    space: str
    dimension: int
    encrypted: bool
    people: dict[str, list[TemplateRow]]


def read_export(path: Path, key: GalleryKey | None = None) -> Export:
    """Read an exported file, and check all of it.

    Args:
        path: the file.
        key: of an encrypted file; not asked for otherwise.

    Raises:
        GalleryError: missing, not such a file, altered, cut off, or encrypted with another key or with none given.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, file, key).read()
    except FileNotFoundError:
        raise GalleryError(f"exported gallery not found: {path}") from None
    except OSError as error:
        raise GalleryError(f"exported gallery {path} cannot be read: {error.strerror}") from error


class _Reader:
    def __init__(self, path: Path, file: IO[bytes], key: GalleryKey | None) -> None:
        self._path = path
        self._file = file
        self._digest = hashlib.sha256()
        first = self._line(1, MAX_TEXT)
        try:
            self._header = Header.model_validate_json(first)
        except ValidationError as error:
            raise GalleryError(f"{path} is not an exported gallery of version 1: {first_fault(error)}") from None
        self._bound = hashlib.sha256(first).hexdigest()
        self._sealer = self._open_sealer(key)

    def read(self) -> Export:
        header = self._header
        people: dict[str, list[TemplateRow]] = {}
        limit = MAX_TEXT + 8 * header.dimension * (2 if self._sealer else 1)  # two layers of base64
        count = 0
        for number, digest, data in self._lines(limit):
            try:
                end = End.model_validate_json(data) if data.startswith(b'{"templates"') else None
                if end is None:
                    line = Line.model_validate_json(data)
                    people.setdefault(self._name(number, line.name), []).append(self._row(number, line))
                    count += 1
            except ValidationError as error:
                raise self._wrong(number, first_fault(error)) from None
            if end is not None:
                if (end.templates, end.sha256) != (count, digest) or self._file.read(1):
                    raise self._wrong(number, "the end does not fit what comes before")
                return Export(header.space, header.dimension, self._sealer is not None, people)
            if count > MAX_TEMPLATES:
                raise self._wrong(number, f"there are more than {MAX_TEMPLATES} templates")
        raise GalleryError(f"{self._path} is cut off after {count} templates; copy it again")

    def _lines(self, limit: int) -> Iterator[tuple[int, str, bytes]]:
        """Give the number of each line, the hash of all before it, and its opened content."""
        number = 1
        while True:
            number += 1
            digest = self._digest.hexdigest()
            data = self._line(number, limit)
            if not data:
                return
            if self._sealer is not None:
                try:
                    sealed = base64.b64decode(data, validate=True)
                    data = self._sealer.open(sealed, "export", self._bound, number)
                except (binascii.Error, ValueError, SealError):
                    raise self._wrong(number, "it was altered or moved") from None
            yield number, digest, data

    def _line(self, number: int, limit: int) -> bytes:
        data = self._file.readline(limit + 1)
        if len(data) > limit:
            raise self._wrong(number, f"it is longer than {limit} bytes")
        self._digest.update(data)
        return data.removesuffix(b"\n") if data.endswith(b"\n") else b""

    def _open_sealer(self, key: GalleryKey | None) -> Sealer | None:
        header = self._header
        if header.encryption == NO_ENCRYPTION:
            return None
        if header.salt is None or header.key_id is None:
            raise self._wrong(1, "it does not say how the file is encrypted")
        if key is None:
            raise GalleryError(f"{self._path} is encrypted; give its key with --file-key FILE")
        sealer = Sealer(key, bytes.fromhex(header.salt), header.space, header.dimension)
        if sealer.key_id != header.key_id:
            raise GalleryError(
                f"{key.origin} does not open {self._path}: it is key {sealer.key_id}, not {header.key_id}; "
                "give the key that it was exported with"
            )
        return sealer

    def _name(self, number: int, name: str) -> str:
        try:
            clean = clean_name(name)
        except ConfigError as error:
            raise self._wrong(number, str(error)) from None
        if clean != name:
            raise self._wrong(number, f"the name {name!r} is not spelt as a gallery spells it")
        return clean

    def _row(self, number: int, line: Line) -> TemplateRow:
        try:
            blob = base64.b64decode(line.embedding, validate=True)
        except (binascii.Error, ValueError):
            raise self._wrong(number, "the embedding is not base64") from None
        if len(blob) != 4 * self._header.dimension:
            raise self._wrong(number, f"the embedding has {len(blob)} bytes, not {4 * self._header.dimension}")
        with np.errstate(all="ignore"):
            length = float(np.linalg.norm(np.frombuffer(blob, "<f4").astype(np.float64)))
        if not abs(length - 1) < _UNIT_TOLERANCE:  # also true for a length that is not finite
            raise self._wrong(number, f"the embedding has length {length:g} instead of 1")
        try:
            has_zone = datetime.fromisoformat(line.created).utcoffset() is not None
        except (ValueError, OverflowError):
            has_zone = False
        if not has_zone:
            raise self._wrong(number, "the time is not ISO 8601 with a time zone")
        return TemplateRow(blob, line.quality, line.source, line.precision, line.created, fitness=line.fitness)

    def _wrong(self, number: int, why: str) -> GalleryError:
        return GalleryError(f"{self._path} line {number} cannot be used: {why}; copy or export it again")
