"""The people a device knows: names and templates in one SQLite file.

A gallery belongs to one embedding space. Every change is one transaction that is on the disk before it
returns (WAL with synchronous=FULL): after a power cut, a person who was removed stays removed. It is written into the
gallery's log in the same transaction; see `edgeface.runtime.gallery.log`.

With a key, names and templates are encrypted (`edgeface.runtime.gallery.sealing` says how, and what stays readable);
without one the file is plain. Either way it is readable by its owner only, and what is removed is overwritten in it;
copies, backups and the blocks of a flash disk are out of its reach.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.cohort import Cohort
from edgeface.errors import GalleryError
from edgeface.runtime.gallery import log as gallery_log
from edgeface.runtime.gallery.people import (
    Person,
    Template,
    TemplateInfo,
    clean_name,
    clean_quality,
    clean_source,
    to_blob,
)
from edgeface.runtime.gallery.reader import GalleryReader
from edgeface.runtime.gallery.record_sum import RecordSum
from edgeface.runtime.gallery.records import PersonRow, TemplateRow
from edgeface.scoring import COSINE, Scoring

__all__ = ["Gallery", "Person", "Template", "TemplateInfo", "clean_name"]

logger = logging.getLogger(__name__)


class Gallery(GalleryReader):
    """An open gallery that can be changed; `GalleryReader` says how it is opened."""

    def add(self, name: str, embedding: npt.NDArray[np.float32], quality: float | None = None, source: str = "") -> int:
        """Add one template to a person, who is made if new; returns the template's id. See `enroll`."""
        return self.enroll(name, (Template(embedding, quality, source),))[0]

    def enroll(self, name: str, templates: Sequence[Template], scoring: Scoring = COSINE) -> tuple[int, ...]:
        """Add templates to a person, who is made if new: all of them or, on any error, none.

        Args:
            name: of the person.
            templates: to add.
            scoring: of the bundle that made them; their cohort means are stored with them.

        Returns:
            The ids of the templates.

        Raises:
            ConfigError: the name cannot be used; see `clean_name`.
            GalleryError: no templates, an embedding that does not fit, or the file cannot be written.
        """
        name = clean_name(name)
        if not templates:
            raise GalleryError(f"no templates for {name!r}; give at least one face")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = [self._row(template, now, scoring.cohort) for template in templates]
        with self.changing() as connection:
            person = self.records.find(connection, name) or self.records.add_person(connection, name, now)
            ids = tuple(self.records.add_template(connection, person, row) for row in rows)
            self.note(connection, "enrolled", (name,), person, templates=len(rows))
        return ids

    def remove(self, name: str, *, template: int | None = None, forget: bool = False) -> int:
        """Remove a person with all templates, or one template of theirs, and overwrite the bytes.

        Args:
            name: of the person.
            template: id of the only one to remove, which must not be the last.
            forget: also erase the names of the person from the log, and those of people of this name who were removed
                before; then nobody in the gallery needs to have it.

        Returns:
            The number of templates that were removed.

        Raises:
            ConfigError: the name cannot be one; see `clean_name`.
            GalleryError: nobody has that name, they have no such template, or the file cannot be written.
        """
        name = clean_name(name)
        with self.changing(removes=True) as connection:
            if forget and template is None and self.records.find(connection, name) is None:
                return self._forget_removed(connection, name)
            person = self._find(connection, name)
            own = self.records.template_ids(connection, person)
            if template is None:
                self.records.remove_person(connection, person)
                gone = len(own)
            elif template not in own or len(own) == 1:
                why = "it is the only one, remove the person" if template in own else f"there are {own}"
                raise GalleryError(f"template {template} of {name!r} cannot be removed: {why}")
            else:
                self.records.remove_template(connection, template)
                gone = 1
            action = "removed" if template is None else "removed template"
            self.note(connection, action, (name,), person, templates=gone)
            if forget:
                subjects = gallery_log.forget(connection, self.records, name, person.uid)
                self.note(connection, "forgotten", (), forgot=subjects)
        return gone

    def _forget_removed(self, connection: sqlite3.Connection, name: str) -> int:
        """Erase the name of somebody who was removed before from the log."""
        subjects = gallery_log.forget(connection, self.records, name)
        if not subjects:
            self._find(connection, name)  # raises
        self.note(connection, "forgotten", (), forgot=subjects)
        return 0

    def rename(self, name: str, new: str) -> None:
        """Give a person another name.

        Raises:
            ConfigError: a name cannot be used; see `clean_name`.
            GalleryError: nobody has the name, somebody has the new one, or the file cannot be written.
        """
        name, new = clean_name(name), clean_name(new)
        with self.changing(removes=True) as connection:
            person = self._find(connection, name)
            if self.records.find(connection, new) is not None:
                raise GalleryError(
                    f"somebody is called {new!r} in gallery {self.path} already; merge them if they are one"
                )
            self.records.rename(connection, person, new)
            self.note(connection, "renamed", (name, new), person)

    def merge(self, name: str, into: str) -> int:
        """Give all templates of a person to another one, and remove the first; returns how many there were.

        Raises:
            ConfigError: a name cannot be used; see `clean_name`.
            GalleryError: nobody has one of the names, they are the same, or the file cannot be written.
        """
        name, into = clean_name(name), clean_name(into)
        if name == into:
            raise GalleryError(f"{name!r} cannot be merged into {into!r}; give two names")
        with self.changing(removes=True) as connection:
            source, target = self._find(connection, name), self._find(connection, into)
            moved = list(self.records.templates(connection, source))
            for number, _, row in moved:
                self.records.rewrite_template(connection, number, target, row)
            self.records.remove_person(connection, source)
            self.note(connection, "merged", (name, into), target, templates=len(moved), merged=source.uid.hex())
        return len(moved)

    @property
    def can_change(self) -> bool:
        """Whether the file can be written, as far as is known."""
        return self._file.obstacle is None

    def _row(self, template: Template, now: str, cohort: Cohort | None) -> TemplateRow:
        blob = to_blob(template.embedding, self.dimension, self.path)
        row = TemplateRow(
            blob,
            clean_quality(template.quality),
            clean_source(template.source),
            template.precision,
            now,
            fitness=clean_quality(template.fitness),
        )
        if cohort is None:
            return row
        mean = float(cohort.means(np.frombuffer(blob, "<f4")[None])[0])
        return replace(row, cohort=cohort.id, cohort_mean=mean)

    @contextlib.contextmanager
    def changing(self, *, removes: bool = False) -> Iterator[sqlite3.Connection]:
        """Give the connection for a change, which is on the disk after the block or undone on an error.

        Args:
            removes: the change takes something away, of which nothing is then left in the file.

        Raises:
            GalleryError: the file cannot be written, or another program changed its encryption.
        """
        with self._file.transaction(removes=removes) as connection:
            self.records.check_current(self._file.read_meta())
            self.records.difference = RecordSum()
            yield connection
        if removes and (why := self._file.clean_up()):
            logger.warning("%s %s", self.path, why)

    @contextlib.contextmanager
    def rewriting(self) -> Iterator[sqlite3.Connection]:
        """As `changing`, for a change of every record, which is not begun if there is no room to leave nothing behind.

        Raises:
            GalleryError: as `changing`, or there is no room.
        """
        self._file.room_for_anew()
        with self.changing(removes=True) as connection:
            yield connection

    def note(
        self,
        connection: sqlite3.Connection,
        action: str,
        names: Sequence[str],
        person: PersonRow | None = None,
        *,
        files: Mapping[str, str] | None = None,
        **detail: Any,
    ) -> None:
        """Write into the log, in the transaction of the change that it tells of; `files` as `log.append` takes them."""
        subject = b"" if person is None else person.uid
        gallery_log.append(
            connection, self.records, action, names, subject=subject, command=self.command, files=files, **detail
        )
