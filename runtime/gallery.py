"""The people a device knows: names and templates in one SQLite file.

A gallery belongs to one embedding space. Every change is one transaction that is on the disk before it
returns (WAL with synchronous=FULL): after a power cut, a person who was removed stays removed.

The templates are not encrypted. The file is readable by its owner only, and what is removed is overwritten
in it; copies, backups and the blocks of a flash disk are out of its reach.
"""

import difflib
import logging
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError, GalleryError
from edgeface.runtime.gallery_file import GalleryFile

logger = logging.getLogger(__name__)

MAX_NAME_LENGTH: Final = 200
NORM_TOLERANCE: Final = 1e-2
"""How far an embedding's length may be from 1; half precision stays well inside."""

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


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the gallery."""

    name: str
    templates: int
    created: str
    """UTC, ISO 8601."""
    precisions: tuple[str, ...] = ()
    """Of the networks that made the templates, as far as that is known."""


class Gallery:
    """An open gallery; use it in the thread that opened it. Also a context manager that closes it.

    Args:
        path: the file.
        space_id: embedding space of the bundle in use; None takes the gallery's own, to list or remove.
        dimension: length of an embedding; None as above.
        create: whether to make the gallery if there is none; needs `space_id` and `dimension`.
        timeout_s: how long to wait for another program's change.

    Raises:
        GalleryError: missing, of another embedding space or schema version, no gallery, damaged or locked.
    """

    def __init__(
        self,
        path: Path,
        space_id: str | None = None,
        dimension: int | None = None,
        *,
        create: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        new_meta = None
        if create:
            if not space_id or dimension is None or dimension < 1:
                raise ValueError(f"a new gallery needs a space id and a dimension, got {space_id!r}, {dimension}")
            new_meta = {"space": space_id, "dimension": str(dimension)}
        self.path = path
        self._file = GalleryFile(path, new_meta, timeout_s)
        self._loaded: int | None = None
        try:
            self.space_id, self.dimension = self._check_space(space_id, dimension)
        except BaseException:
            self._file.close()
            raise

    def add(self, name: str, embedding: npt.NDArray[np.float32], quality: float | None = None, source: str = "") -> int:
        """Add one template to a person, who is made if new; returns the template's id. See `enroll`."""
        return self.enroll(name, (Template(embedding, quality, source),))[0]

    def enroll(self, name: str, templates: Sequence[Template]) -> tuple[int, ...]:
        """Add templates to a person, who is made if new: all of them or, on any error, none.

        Returns:
            The ids of the templates.

        Raises:
            ConfigError: the name cannot be used; see `clean_name`.
            GalleryError: no templates, an embedding that does not fit, or the file cannot be written.
        """
        name = clean_name(name)
        if not templates:
            raise GalleryError(f"no templates for {name!r}; give at least one face")
        rows = [(self._to_blob(t.embedding), t.quality, t.source, t.precision) for t in templates]
        created = datetime.now(UTC).isoformat(timespec="seconds")
        columns = "person, embedding, quality, source, precision, created"
        insert = f"INSERT INTO templates ({columns}) VALUES (?, ?, ?, ?, ?, ?)"
        with self._file.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO people (name, created) VALUES (?, ?)", (name, created))
            (person,) = connection.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()
            ids = [connection.execute(insert, (person, *row, created)).lastrowid for row in rows]
        return tuple(i for i in ids if i is not None)

    def remove(self, name: str) -> int:
        """Remove a person with all templates and overwrite their bytes; returns the number of templates.

        Raises:
            ConfigError: the name cannot be one; see `clean_name`.
            GalleryError: nobody has that name, or the file cannot be written.
        """
        name = clean_name(name)
        count_sql = "SELECT COUNT(*) FROM templates JOIN people ON person = people.id WHERE name = ?"
        with self._file.transaction() as connection:
            (count,) = connection.execute(count_sql, (name,)).fetchone()
            if connection.execute("DELETE FROM people WHERE name = ?", (name,)).rowcount == 0:
                everybody = [row[0] for row in connection.execute("SELECT name FROM people")]
                near = " or ".join(map(repr, difflib.get_close_matches(name, everybody)))
                hint = f"did you mean {near}?" if near else "list the gallery to see who is in it"
                raise GalleryError(f"nobody is called {name!r} in gallery {self.path}; {hint}")
        if not self._file.wipe_log():
            logger.warning("%s is in use: removed templates stay in its -wal file until it is closed", self.path)
        return int(count)

    def list(self) -> tuple[Person, ...]:
        """Return everybody, by name."""
        rows = self._file.query(
            "SELECT name, COUNT(templates.id), people.created, GROUP_CONCAT(DISTINCT precision) FROM people "
            "LEFT JOIN templates ON person = people.id GROUP BY people.id ORDER BY name"
        )
        return tuple(
            Person(name, templates, created, tuple(sorted(made.split(",") if made else ())))
            for name, templates, created, made in rows
        )

    def templates(self) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        """Return the names, one a template, and the (T, D) float32 matrix with rows of unit length.

        Raises:
            GalleryError: a template is damaged.
        """
        # Taken first: a change in between is then seen as one more change, never missed.
        loaded = self.version
        rows = self._file.query(
            "SELECT name, embedding FROM templates JOIN people ON person = people.id ORDER BY templates.id"
        )
        names = tuple(name for name, _ in rows)
        for name, blob in rows:
            if not isinstance(blob, bytes) or len(blob) != 4 * self.dimension:
                raise self._damaged(name)
        matrix = np.frombuffer(b"".join(blob for _, blob in rows), "<f4").reshape(len(rows), self.dimension)
        # Written so that a NaN counts as damaged.
        damaged = ~(np.abs(np.linalg.norm(matrix, axis=1) - 1) < NORM_TOLERANCE)
        if damaged.any():
            raise self._damaged(names[int(damaged.argmax())])
        self._loaded = loaded
        return names, matrix.astype(np.float32)

    def precisions(self, name: str | None = None) -> dict[str | None, int]:
        """Return how many templates were made with each precision, None for those that do not say.

        Args:
            name: only templates of this person, as `clean_name` spells it; None for all.
        """
        rows = self._file.query(
            "SELECT name, precision, COUNT(*) FROM templates JOIN people ON person = people.id GROUP BY name, precision"
        )
        counts: Counter[str | None] = Counter()
        for person, precision, count in rows:
            if name in (None, person):
                counts[precision] += count
        return dict(counts)

    @property
    def version(self) -> int:
        """A number that grows with every change, by this program or another, while the gallery is open."""
        ((by_others,),) = self._file.query("PRAGMA data_version")
        return int(by_others) + self._file.changes

    def changed(self) -> bool:
        """Tell whether the gallery changed since `templates` was last called, or it never was."""
        return self.version != self._loaded

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_space(self, space_id: str | None, dimension: int | None) -> tuple[str, int]:
        own, digits = self._file.meta.get("space"), self._file.meta.get("dimension", "")
        if not own or not digits.isdecimal() or int(digits) < 1:
            raise self._file.damaged()
        if space_id not in (None, own) or dimension not in (None, int(digits)):
            raise GalleryError(
                f"gallery {self.path} was enrolled in embedding space {own[:12]} ({digits} numbers), not in "
                f"{(space_id or own)[:12]} ({dimension or digits} numbers) of this bundle; "
                "enrol again with this bundle into a new gallery, or use the bundle it was enrolled with"
            )
        return own, int(digits)

    def _to_blob(self, embedding: npt.NDArray[np.float32]) -> bytes:
        vector = np.asarray(embedding, np.float64)
        if vector.shape != (self.dimension,):
            raise GalleryError(
                f"an embedding of shape {vector.shape} does not fit gallery {self.path}, which takes "
                f"({self.dimension},); use the bundle it was enrolled with"
            )
        length = float(np.linalg.norm(vector))
        if not abs(length - 1) < NORM_TOLERANCE:  # also true for a length that is not finite
            raise GalleryError(f"an embedding has length {length:g} instead of 1; use another picture or model")
        return (vector / length).astype("<f4").tobytes()

    def _damaged(self, name: str) -> GalleryError:
        return GalleryError(f"a template of {name!r} in gallery {self.path} is damaged; remove and enrol again")


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
