"""What goes into a gallery and what it tells: names, templates and people, checked before they are stored."""

import math
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError, GalleryError

MAX_NAME_LENGTH: Final = 200
MAX_DIMENSION: Final = 1 << 14
NORM_TOLERANCE: Final = 1e-2
"""How far an embedding's length may be from 1; half precision stays well inside."""

MAX_SOURCE_LENGTH: Final = 1000

_BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """One face of a person, to be enrolled."""

    embedding: npt.NDArray[np.float32]
    """(D,) float32 of unit length."""
    quality: float | None = None
    source: str = ""
    """Where it came from, for example a file name. Stored as it is: no credentials."""
    precision: str | None = None
    """Of the network that made it, such as `fp32`; None if that is not known."""
    fitness: float | None = None
    """What a quality network said of the face, in [0, 1]; None if that is not known."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the gallery."""

    name: str
    templates: int
    created: str
    """UTC, ISO 8601."""
    precisions: tuple[str, ...] = ()
    """Of the networks that made the templates, as far as that is known."""


@dataclass(frozen=True, slots=True)
class TemplateInfo:
    """What is known of a template in the gallery besides its numbers; see `Template`."""

    id: int
    quality: float | None
    source: str
    precision: str | None
    created: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What came from another gallery: people that were new, templates, and templates that were there already."""

    people: int
    templates: int
    skipped: int


def clean_name(name: str) -> str:
    """Return a person's name trimmed and in Unicode NFC, so that one name has one spelling in bytes.

    Raises:
        ConfigError: empty, longer than `MAX_NAME_LENGTH`, or with characters that cannot be seen on a screen
            (control characters, line ends, marks that turn the reading direction).
    """
    clean = unicodedata.normalize("NFC", name.strip())
    if not clean:
        raise ConfigError("a person's name is empty; give at least one letter")
    if len(clean) > MAX_NAME_LENGTH:
        raise ConfigError(f"a person's name has {len(clean)} characters; use at most {MAX_NAME_LENGTH}")
    for character in clean:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS:
            raise ConfigError(f"a person's name has the control character U+{ord(character):04X}; leave it out")
    return clean


def is_clean(name: str) -> bool:
    """Whether a name is spelt as `clean_name` spells it."""
    if name.isascii() and name.isprintable():  # most are; there may be many
        return 0 < len(name) <= MAX_NAME_LENGTH and name == name.strip()
    try:
        return clean_name(name) == name
    except ConfigError:
        return False


def to_blob(embedding: npt.NDArray[np.float32], dimension: int, path: Path) -> bytes:
    """Return an embedding as little-endian float32 of exactly unit length.

    Raises:
        GalleryError: it does not fit a gallery of that dimension, or is not of unit length.
    """
    vector = np.asarray(embedding, np.float64)
    if vector.shape != (dimension,):
        raise GalleryError(
            f"an embedding of shape {vector.shape} does not fit gallery {path}, which takes "
            f"({dimension},); use the bundle it was enrolled with"
        )
    length = float(np.linalg.norm(vector))
    if not abs(length - 1) < NORM_TOLERANCE:  # also true for a length that is not finite
        raise GalleryError(f"an embedding has length {length:g} instead of 1; use another picture or model")
    return (vector / length).astype("<f4").tobytes()


def clean_quality(quality: float | None) -> float | None:
    """Return a quality as SQLite will give it back; one that is not finite is not known."""
    return None if quality is None or not math.isfinite(quality) else float(quality)


def clean_source(source: str) -> str:
    """Return where a template came from as it can be stored: not too long, and without bytes that are no text."""
    return source[:MAX_SOURCE_LENGTH].encode("utf-8", "replace").decode()
