"""Turning the encryption of a gallery on or off, and changing its key."""

from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.log import append, rewrite_names, write_head
from edgeface.runtime.gallery.records import Records
from edgeface.runtime.gallery.sealing import Sealer


def protect(gallery: Gallery, key: GalleryKey | None) -> int:
    """Encrypt everything with a key, with another one than before, or, with None, with none.

    All in one transaction, with every record checked on the way. The old bytes are overwritten in the file; other
    programs that have it open must open it again.

    Returns:
        The number of templates.

    Raises:
        GalleryError: a record was altered, or the file cannot be written; then nothing is changed.
    """
    old = gallery.records
    sealer = None if key is None else Sealer.new(key, gallery.space_id, gallery.dimension)
    new = Records(gallery.path, sealer)
    action = "decrypted" if key is None else "changed the key" if gallery.encrypted else "encrypted"
    with gallery.changing() as connection:
        (count,) = connection.execute("SELECT COUNT(*) FROM templates").fetchone()
        done = 0
        for person in list(old.people(connection)):
            for number, _, row in list(old.templates(connection, person)):
                new.rewrite_template(connection, number, person, row)
                done += 1
            new.rename(connection, person, person.name)
        if done != count:
            raise old.altered("a template of nobody")
        rewrite_names(connection, old, new)
        entries, last = old.head(dict(connection.execute("SELECT key, value FROM meta").fetchall()))
        connection.execute("DELETE FROM meta WHERE key IN ('salt', 'key_id')")
        write_head(connection, new, f"{entries}:{last}")
        append(connection, new, action, (), command=gallery.command)
    gallery.records = new
    gallery.wipe()
    return int(count)
