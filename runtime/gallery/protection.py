"""Turning the encryption of a gallery on or off, and changing its key."""

import sqlite3
from typing import TYPE_CHECKING

from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.log import append, read_meta, rewrite_names, write_head
from edgeface.runtime.gallery.record_sum import RecordSum, sum_of_all
from edgeface.runtime.gallery.records import Records
from edgeface.runtime.gallery.sealing import Sealer

if TYPE_CHECKING:
    from edgeface.runtime.gallery.gallery import Gallery


def protect(gallery: "Gallery", key: GalleryKey | None) -> int:
    """Encrypt everything with a key, with another one than before, or, with None, with none.

    All in one transaction, with every record checked on the way. The file is then written anew, so that no old bytes
    are left in it; other programs that have it open must open it again.

    Returns:
        The number of templates.

    Raises:
        GalleryError: a record was altered, or the file cannot be written, or the disk has no room to write it anew;
            then nothing is changed.
    """
    sealer = None if key is None else Sealer.new(key, gallery.space_id, gallery.dimension)
    new = Records(gallery.path, sealer)
    action = "decrypted" if key is None else "changed the key" if gallery.encrypted else "encrypted"
    with gallery.rewriting() as connection:
        count = reseal(connection, gallery.records, new, action, gallery.command)
    gallery.records = new
    return count


def reseal(connection: sqlite3.Connection, old: Records, new: Records, action: str, command: str) -> int:
    """Write everything as `new` keeps it; returns the number of templates.

    Raises:
        GalleryError: a record was altered.
    """
    head = old.head(read_meta(connection))
    old.check_whole(connection, read_meta(connection))
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
    connection.execute("DELETE FROM meta WHERE key IN ('salt', 'key_id')")
    total = RecordSum() if new.sealer is None else sum_of_all(connection, new.sealer.sum_key)
    new.difference = RecordSum()
    write_head(connection, new, f"{head.entries}:{head.last}", total)
    append(connection, new, action, (), command=command)
    return int(count)
