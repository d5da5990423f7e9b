"""People that come from elsewhere: another gallery, or an exported file."""

import sqlite3
from collections.abc import Mapping, Sequence

from edgeface.errors import GalleryError
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.people import TakenIn
from edgeface.runtime.gallery.reader import GalleryReader
from edgeface.runtime.gallery.records import PersonRow, TemplateRow


def take_in(
    gallery: Gallery, people: Mapping[str, Sequence[TemplateRow]], origin: str, *, join: bool = False
) -> TakenIn:
    """Add people from elsewhere, all of them or none. Templates that a person has already are left out.

    Args:
        gallery: gets them.
        people: by clean name; the embeddings are those of this gallery's space, of unit length.
        origin: what the log says where they came from.
        join: whether somebody of the same name is the same person; otherwise that is an error.

    Raises:
        GalleryError: somebody here has one of the names, or the file cannot be written.
    """
    new = templates = skipped = 0
    records = gallery.records
    with gallery.changing() as connection:
        found = {name: records.find(connection, name) for name in people}
        fresh = {name: _fresh(gallery, connection, found[name], rows) for name, rows in people.items()}
        clashes = [name for name, person in found.items() if person is not None and fresh[name]]
        if clashes and not join:
            shown = ", ".join(map(repr, clashes[:5])) + (" and others" if len(clashes) > 5 else "")
            raise GalleryError(
                f"gallery {gallery.path} has somebody called {shown} already; rename one, or say with --join that "
                "those of the same name are the same people"
            )
        for name, rows in fresh.items():
            skipped += len(people[name]) - len(rows)
            if not rows:
                continue
            person = found[name]
            if person is None:
                person = records.add_person(connection, name, min(row.created for row in rows))
                new += 1
            for row in rows:
                records.add_template(connection, person, row)
            templates += len(rows)
            gallery.note(connection, "imported", (name,), person, files={"origin": origin}, templates=len(rows))
    return TakenIn(new, templates, skipped)


def merge_gallery(gallery: Gallery, other: GalleryReader, *, join: bool = False) -> TakenIn:
    """Add everybody from another gallery of the same embedding space; see `take_in`.

    Raises:
        GalleryError: as `take_in`, or the other gallery is of another space, or damaged.
    """
    if (other.space_id, other.dimension) != (gallery.space_id, gallery.dimension):
        raise GalleryError(
            f"gallery {other.path} is of embedding space {other.space_id[:12]}, and {gallery.path} of "
            f"{gallery.space_id[:12]}: they cannot be compared; enrol these people again"
        )
    return take_in(gallery, other.contents(), other.path.name, join=join)


def _fresh(
    gallery: Gallery, connection: sqlite3.Connection, person: PersonRow | None, rows: Sequence[TemplateRow]
) -> list[TemplateRow]:
    own = gallery.records.templates(connection, person) if person else ()
    seen = {row.embedding for _, _, row in own}
    fresh = []
    for row in rows:
        if row.embedding not in seen:
            seen.add(row.embedding)
            fresh.append(row)
    return fresh
