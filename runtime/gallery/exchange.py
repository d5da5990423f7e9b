"""A gallery as one file that can be copied to another device.

The file is UTF-8 text, one JSON object a line. The first line is the header:

    {"format": "edgeface gallery", "version": 1, "space": ID, "dimension": D, "encryption": "none"}

Then comes one line for each template, person by person:

    {"name": TEXT, "embedding": BASE64, "quality": NUMBER or null, "source": TEXT, "precision": TEXT or null,
     "created": UTC in ISO 8601, "fitness": NUMBER from 0 to 1, where it is known}

with the embedding as D little-endian float32 of unit length. The last line is

    {"templates": NUMBER, "sha256": of all bytes before this line, as hexadecimal digits}

In an encrypted file the header says `aes-256-gcm` and has `salt` and `key_id`, and each further line is the base64 of
a record that `edgeface.runtime.gallery.sealing` seals, bound to the header and to the number of the line: lines that
were altered, moved or left out do not open. What is read is checked as if an enemy had written it, and a file that is
wrong anywhere adds nobody.
"""

import base64
import hashlib
import logging
from pathlib import Path
from typing import IO, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeface.errors import ConfigError, GalleryError
from edgeface.files import PRIVATE, new_file
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.people import MAX_DIMENSION, MAX_SOURCE_LENGTH
from edgeface.runtime.gallery.schema import AES_GCM, NO_ENCRYPTION
from edgeface.runtime.gallery.sealing import Sealer

logger = logging.getLogger(__name__)

MAX_TEMPLATES: Final = 2_000_000
MAX_TEXT: Final = 1 << 14  # bytes of a line beside the embedding


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Header(_Model):
    """The first line."""

    format: Literal["edgeface gallery"] = "edgeface gallery"
    version: Literal[1] = 1
    space: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)]
    encryption: Literal["none", "aes-256-gcm"] = "none"
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None


class Line(_Model):
    """A line of a template."""

    name: Annotated[str, Field(max_length=1000)]
    embedding: str
    quality: float | None
    source: Annotated[str, Field(max_length=MAX_SOURCE_LENGTH)]
    precision: Annotated[str, Field(pattern=r"^[0-9A-Za-z._-]{1,32}$")] | None
    created: Annotated[str, Field(max_length=40)]
    fitness: Annotated[float, Field(ge=0, le=1)] | None = None


class End(_Model):
    """The last line."""

    templates: int
    sha256: str


def export_gallery(gallery: Gallery, path: Path, key: GalleryKey | None, *, force: bool = False) -> int:
    """Write everybody into one file, readable by its owner only, and that into the gallery's log if it can be written.

    Args:
        gallery: to export.
        path: file to write.
        key: encrypts the file; None leaves it plain.
        force: replace a file that is there.

    Returns:
        The number of templates.

    Raises:
        GalleryError: the gallery is damaged or was altered.
        ConfigError: the file is there already, or cannot be written.
    """
    if path.exists() and not force:
        raise ConfigError(f"{path} exists; give another name, or replace it with --force")
    people = gallery.contents()
    header = Header(space=gallery.space_id, dimension=gallery.dimension)
    sealer = None if key is None else Sealer.new(key, gallery.space_id, gallery.dimension)
    if sealer is not None:
        facts = {"encryption": AES_GCM, "salt": sealer.salt.hex(), "key_id": sealer.key_id}
        header = Header.model_validate({**header.model_dump(), **facts})
    templates = sum(len(rows) for rows in people.values())
    try:
        with new_file(path, mode=PRIVATE) as file:
            writer = _Writer(file, header, sealer)
            for name, rows in people.items():
                for row in rows:
                    writer.write(
                        Line(
                            name=name,
                            embedding=base64.b64encode(row.embedding).decode(),
                            quality=row.quality,
                            source=row.source,
                            precision=row.precision,
                            created=row.created,
                            **({} if row.fitness is None else {"fitness": row.fitness}),
                        )
                    )
            writer.write(End(templates=templates, sha256=writer.digest.hexdigest()))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; give another path") from error
    except ValidationError as error:
        raise GalleryError(
            f"gallery {gallery.path} holds a record that cannot be exported: {first_fault(error)}"
        ) from None
    if not gallery.can_change:
        logger.warning("gallery %s is read-only, so its log does not tell of this export", gallery.path)
        return templates
    with gallery.changing() as connection:
        encryption = NO_ENCRYPTION if key is None else AES_GCM
        gallery.note(connection, "exported", (), people=len(people), templates=templates, encryption=encryption)
    return templates


class _Writer:
    def __init__(self, file: IO[bytes], header: Header, sealer: Sealer | None) -> None:
        self.digest = hashlib.sha256()
        self._file = file
        self._sealer = sealer
        self._number = 1
        first = header.model_dump_json(exclude_none=True).encode()
        self._bound = hashlib.sha256(first).hexdigest()
        self._put(first)

    def write(self, line: BaseModel) -> None:
        self._number += 1
        data = line.model_dump_json(exclude_unset=True).encode()
        if self._sealer is not None:
            data = base64.b64encode(self._sealer.seal(data, "export", self._bound, self._number))
        self._put(data)

    def _put(self, line: bytes) -> None:
        self.digest.update(line + b"\n")
        self._file.write(line + b"\n")


def first_fault(error: ValidationError) -> str:
    """Return the first thing that is wrong, without what was in the file."""
    what = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, what["loc"]))[:60]
    return f"{place}: {what['msg']}" if place else str(what["msg"])
