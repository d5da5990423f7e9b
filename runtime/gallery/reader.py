"""An open gallery, as far as it is read: opening and checking it, who is in it, their templates, its log."""

import contextlib
import difflib
import math
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from edgeface.errors import GalleryError
from edgeface.runtime.gallery import log as gallery_log
from edgeface.runtime.gallery.failures import damaged
from edgeface.runtime.gallery.file import GalleryFile
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.people import MAX_DIMENSION, NORM_TOLERANCE, Person, TemplateInfo, clean_name
from edgeface.runtime.gallery.protection import reseal
from edgeface.runtime.gallery.records import PersonRow, Records, TemplateRow
from edgeface.runtime.gallery.schema import NO_ENCRYPTION
from edgeface.runtime.gallery.sealing import Sealer
from edgeface.scoring import COSINE, Scoring


def is_encrypted(path: Path, timeout_s: float = 5.0) -> bool:
    """Tell whether a gallery says that it is encrypted.

    Raises:
        GalleryError: it cannot be opened.
    """
    file = GalleryFile(path, None, timeout_s)
    file.close()
    return file.meta.get("encryption") != NO_ENCRYPTION


class GalleryReader:
    """An open gallery; use it in the thread that opened it. Also a context manager that closes it.

    Args:
        path: the file.
        space_id: embedding space of the bundle in use; None takes the gallery's own, to list or remove.
        dimension: length of an embedding; None as above.
        create: whether to make the gallery if there is none, encrypted if there is a key; needs `space_id` and
            `dimension`.
        timeout_s: how long to wait for another program's change.
        key: of an encrypted gallery; None for one that is not.
        command: what the log says who made changes.

    Raises:
        GalleryError: missing, of another embedding space or schema version, no gallery, damaged, locked, altered, or
            encrypted with another key, with none, or not at all.
    """

    def __init__(
        self,
        path: Path,
        space_id: str | None = None,
        dimension: int | None = None,
        *,
        create: bool = False,
        timeout_s: float = 5.0,
        key: GalleryKey | None = None,
        command: str = "",
    ) -> None:
        new_meta = None
        if create:
            if not space_id or dimension is None or dimension < 1:
                raise ValueError(f"a new gallery needs a space id and a dimension, got {space_id!r}, {dimension}")
            new = Records(path, None if key is None else Sealer.new(key, space_id, dimension))
            new_meta = {"space": space_id, "dimension": str(dimension), **new.describe()}
        self.path = path
        self.command = command
        self._file = GalleryFile(path, new_meta, timeout_s)
        self._loaded: int | None = None
        self._whole: int | None = None  # what other programs had changed when all records were there, and no others
        try:
            self.space_id, self.dimension = self._check_space(space_id, dimension)
            self.records = Records.open(path, self._file.meta, self.space_id, self.dimension, key)
            self._begin_sum(key)
            with self._reading():
                pass
        except BaseException:
            self._file.close()
            raise

    @property
    def encrypted(self) -> bool:
        """Whether names and templates are."""
        return self.records.sealer is not None

    def contents(self) -> Mapping[str, Sequence[TemplateRow]]:
        """Return all templates by person, in the order in which they came.

        Raises:
            GalleryError: a record is damaged or was altered.
        """
        people: dict[str, list[TemplateRow]] = {}
        with self._reading() as connection:
            for _, person, row in self.records.templates(connection):
                self._checked(person.name, row.embedding)
                people.setdefault(person.name, []).append(row)
        return people

    def list(self) -> tuple[Person, ...]:
        """Return everybody, by name."""
        count = "SELECT person, precision, COUNT(*) FROM templates GROUP BY person, precision"
        templates: Counter[int] = Counter()
        precisions: dict[int, set[str]] = {}
        with self._reading() as connection:
            for person, precision, number in connection.execute(count):
                templates[person] += number
                precisions.setdefault(person, set()).update(() if precision is None else (str(precision),))
            people = [
                Person(row.name, templates[row.id], row.created, tuple(sorted(precisions.get(row.id, ()))))
                for row in self.records.people(connection)
            ]
        return tuple(sorted(people, key=lambda person: person.name))

    def details(self, name: str) -> tuple[TemplateInfo, ...]:
        """Return what is known of the templates of a person, the oldest first.

        Raises:
            ConfigError: the name cannot be one; see `clean_name`.
            GalleryError: nobody has that name, or a record was altered.
        """
        with self._reading() as connection:
            person = self._find(connection, clean_name(name))
            return tuple(
                TemplateInfo(number, row.quality, row.source, row.precision, row.created)
                for number, _, row in self.records.templates(connection, person)
            )

    def templates(self, scoring: Scoring = COSINE) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        """Return the names, one a template, and the side of the templates of all comparisons.

        Args:
            scoring: how faces are compared with them. Cohort means that are not stored, or belong to another cohort,
                are computed.

        Returns:
            T names, and the (T, D + `scoring.extra`) float32 matrix that `scoring.templates` makes; without a cohort
            the embeddings as they are, rows of unit length.

        Raises:
            GalleryError: a template is damaged or was altered.
        """
        # Taken first: a change in between is then seen as one more change, never missed.
        loaded = self.version
        names: list[str] = []
        means: list[float] = []
        fitness: list[float] = []
        with self._reading() as connection:
            count, stored = connection.execute(
                "SELECT COUNT(*), IFNULL(SUM(LENGTH(embedding)), 0) FROM templates"
            ).fetchone()
            size = 4 * self.dimension
            # Filled row by row, so that nothing is ever there twice; not more than there can be, whatever the count.
            memory = bytearray(min(count * size, int(stored)))
            view = memoryview(memory)
            for _, person, row in self.records.templates(connection):
                blob, end = self._checked(person.name, row.embedding), (len(names) + 1) * size
                if end > len(memory):  # the rows before were sound, so one that comes is not
                    continue
                view[end - size : end] = blob
                names.append(person.name)
                means.append(_known_mean(row, scoring))
                fitness.append(math.nan if row.fitness is None else row.fitness)
            if len(names) != count:
                raise damaged(self.path)
        matrix = np.frombuffer(memory, "<f4").reshape(count, self.dimension)
        # Written so that a NaN counts as damaged.
        odd = ~(np.abs(np.sqrt(np.einsum("td,td->t", matrix, matrix)) - 1) < NORM_TOLERANCE)
        if odd.any():
            raise self._damaged(names[int(odd.argmax())])
        self._loaded = loaded
        known = np.array(means, np.float32), np.array(fitness, np.float32)
        return tuple(names), _side(matrix.astype(np.float32, copy=False), *known, scoring)

    def precisions(self, name: str | None = None) -> dict[str | None, int]:
        """Return how many templates were made with each precision, None for those that do not say.

        Args:
            name: only templates of this person, as `clean_name` spells it; None for all.
        """
        with self._reading() as connection:
            person = None if name is None else self.records.find(connection, name)
            if name is not None and person is None:
                return {}
            which = "" if person is None else f"WHERE person = {person.id:d} "
            rows = connection.execute(f"SELECT precision, COUNT(*) FROM templates {which}GROUP BY precision").fetchall()
        return dict(rows)

    def log(self) -> gallery_log.LogReport:
        """Return what was done to the gallery, and whether the log is whole."""
        with self._reading() as connection:
            return gallery_log.read_log(connection, self.records)

    @property
    def version(self) -> int:
        """A number that grows with every change, by this program or another, while the gallery is open."""
        return self._file.version

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

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        # Taken first: a change in between is then looked at once more, never missed.
        others = self._file.others
        with self._file.snapshot() as connection:
            meta = self._file.read_meta()
            self.records.check_current(meta)
            if others != self._whole:
                self.records.check_whole(connection, meta)
                self._whole = others
            yield connection

    def _begin_sum(self, key: GalleryKey | None) -> None:
        """Give an encrypted gallery that an older edgeface wrote a sum over all records.

        All of it is sealed anew, with another salt, so that what was sealed before does not fit any more.
        """
        if key is None or self._file.obstacle is not None or self.records.head(self._file.meta).sum is not None:
            return
        with self._file.transaction(removes=True) as connection:
            old = Records.open(self.path, self._file.read_meta(), self.space_id, self.dimension, key)
            new = Records(self.path, Sealer.new(key, self.space_id, self.dimension))
            if old.head(self._file.read_meta()).sum is None:  # else another program was faster
                reseal(connection, old, new, "sealed anew", self.command)
        self._file.clean_up()
        self.records = Records.open(self.path, self._file.read_meta(), self.space_id, self.dimension, key)

    def _find(self, connection: sqlite3.Connection, name: str) -> PersonRow:
        person = self.records.find(connection, name)
        if person is None:
            everybody = [row.name for row in self.records.people(connection)]
            near = " or ".join(map(repr, difflib.get_close_matches(name, everybody)))
            hint = f"did you mean {near}?" if near else "list the gallery to see who is in it"
            raise GalleryError(f"nobody is called {name!r} in gallery {self.path}; {hint}")
        return person

    def _check_space(self, space_id: str | None, dimension: int | None) -> tuple[str, int]:
        own, digits = self._file.meta.get("space", ""), self._file.meta.get("dimension", "")
        if not re.fullmatch("[!-~]{1,200}", own) or not re.fullmatch("[0-9]{1,6}", digits):
            raise damaged(self.path)
        if not 1 <= int(digits) <= MAX_DIMENSION:
            raise damaged(self.path)
        if space_id not in (None, own) or dimension not in (None, int(digits)):
            raise GalleryError(
                f"gallery {self.path} was enrolled in embedding space {own[:12]} ({digits} numbers), not in "
                f"{(space_id or own)[:12]} ({dimension or digits} numbers) of this bundle; "
                "enrol again with this bundle into a new gallery, or use the bundle it was enrolled with"
            )
        return own, int(digits)

    def _checked(self, name: str, blob: object) -> bytes:
        if not isinstance(blob, bytes) or len(blob) != 4 * self.dimension:
            raise self._damaged(name)
        return blob

    def _damaged(self, name: str) -> GalleryError:
        return GalleryError(f"a template of {name!r} in gallery {self.path} is damaged; remove and enrol again")


def _known_mean(row: TemplateRow, scoring: Scoring) -> float:
    """Return the stored cohort mean of a template; NaN if there is none, or one with another cohort."""
    cohort = scoring.cohort
    return row.cohort_mean if cohort and row.cohort == cohort.id and row.cohort_mean is not None else math.nan


def _side(
    matrix: npt.NDArray[np.float32],
    means: npt.NDArray[np.float32],
    fitness: npt.NDArray[np.float32],
    scoring: Scoring,
) -> npt.NDArray[np.float32]:
    """Return the side of the templates; means that are NaN are computed."""
    unknown = np.isnan(means)
    if scoring.cohort is not None and unknown.any():
        means[unknown] = scoring.cohort.means(matrix[unknown])
    return scoring.templates(matrix, means, fitness)
