"""The log of a gallery: what it tells, that alterations show, and that a name can be erased from it."""

import functools
import sqlite3
import tempfile
from pathlib import Path

import pytest

from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.log import LogReport
from tests.test_gallery import DIMENSION, SPACE, on_disk, unit

KEY = GalleryKey(bytes(32), "k")
KEYS = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])


@functools.cache
def a_gallery(key: GalleryKey | None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.db"
        with Gallery(path, SPACE, DIMENSION, create=True, key=key, command="edgeface test") as gallery:
            gallery.enroll("Al", [Template(unit(0)), Template(unit(1))])
            gallery.add("Bo", unit(2))
            gallery.rename("Bo", "Bob")
            gallery.add("Cy", unit(3))
            gallery.merge("Bob", "Al")
            gallery.remove("Cy")
        return path.read_bytes()


def filled(path: Path, key: GalleryKey | None) -> None:
    path.write_bytes(a_gallery(key))


def read(path: Path, key: GalleryKey | None) -> LogReport:
    with Gallery(path, key=key) as gallery:
        return gallery.log()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER log_keeps_entries")
    connection.execute("DROP TRIGGER log_keeps_facts")
    for statement in statements:
        assert connection.execute(statement).rowcount > 0, statement
    connection.commit()
    connection.close()


@KEYS
def test_it_tells_who_when_what_and_by_which_command(path: Path, key: GalleryKey | None) -> None:
    filled(path, key)
    report = read(path, key)
    assert report.broken is None
    assert [(e.id, e.action, e.names, e.detail.get("templates")) for e in report.entries] == [
        (1, "enrolled", ("Al",), 2),
        (2, "enrolled", ("Bo",), 1),
        (3, "renamed", ("Bo", "Bob"), None),
        (4, "enrolled", ("Cy",), 1),
        (5, "merged", ("Bob", "Al"), 1),
        (6, "removed", ("Cy",), 1),
    ]
    assert {e.command for e in report.entries} == {"edgeface test"}
    assert all(e.user and e.time.endswith("+00:00") for e in report.entries)
    assert report.entries[1].subject == report.entries[2].subject == report.entries[4].detail["merged"]
    assert report.entries[0].subject == report.entries[4].subject


def test_what_failed_is_not_in_it(path: Path) -> None:
    filled(path, None)
    with Gallery(path) as gallery:
        for attempt in (
            lambda: gallery.remove("Eve"),
            lambda: gallery.rename("Al", ""),
            lambda: gallery.merge("Al", "Al"),
        ):
            with pytest.raises(Exception, match=r"nobody|empty|two names"):
                attempt()
        assert len(gallery.log().entries) == 6


def test_sqlite_itself_refuses_to_change_it(path: Path) -> None:
    filled(path, None)
    connection = sqlite3.connect(path)
    for statement in ("DELETE FROM log WHERE id = 1", "UPDATE log SET user = 'x'", "UPDATE log SET hash = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="the log only grows"):
            connection.execute(statement)
    connection.close()


@KEYS
@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE log SET user = 'nobody' WHERE id = 3", "entry 3 was altered"),
        ("UPDATE log SET time = '2020-01-01T00:00:00+00:00' WHERE id = 1", "entry 1 was altered"),
        ("UPDATE log SET action = 'enrolled' WHERE id = 6", "entry 6 was altered"),
        ("UPDATE log SET detail = '{}' WHERE id = 5", "entry 5 was altered"),
        ("UPDATE log SET detail = 'x' WHERE id = 5", "entry 5 was altered"),
        ("UPDATE log SET subject = '' WHERE id = 5", "entry 5 was altered"),
        ("UPDATE log SET hash = zeroblob(9) WHERE id = 2", "entry 2 was altered"),
        ("UPDATE log SET names = (SELECT names FROM log l WHERE l.id = 1) WHERE id = 2", "entry 2 was altered"),
        ('UPDATE log SET names = \'["", "Eve"]\' WHERE id = 2', "entry 2 was altered"),
        ("UPDATE log SET names = NULL WHERE id = 2", "names of entry 2 were erased"),
        ("DELETE FROM log WHERE id = 1", "entry 2 was altered, or one before it was left out"),
        ("DELETE FROM log WHERE id = 4", "entry 5 was altered, or one before it was left out"),
        ("DELETE FROM log WHERE id = 6", "it ends at entry 5, but there were 6"),
        ("DELETE FROM log", "it ends at entry 0, but there were 6"),
    ],
)
def test_an_alteration_shows(path: Path, key: GalleryKey | None, statement: str, why: str) -> None:
    filled(path, key)
    tamper(path, statement)
    broken = read(path, key).broken
    assert broken is not None and why in broken
    with Gallery(path, SPACE, DIMENSION, key=key) as gallery:
        if statement != "DELETE FROM log WHERE id = 6" and statement != "DELETE FROM log":
            gallery.add("Dee", unit(9))
        assert gallery.log().broken is not None  # what comes after heals nothing


@KEYS
def test_a_name_can_be_erased_and_the_chain_holds(path: Path, key: GalleryKey | None) -> None:
    filled(path, key)
    with Gallery(path, key=key) as gallery:
        gallery.remove("Al", forget=True)
        report = gallery.log()
        assert report.broken is None
        # Al, and Bo who was merged into Al under two names; Cy stays.
        assert [e.names for e in report.entries] == [None, None, None, ("Cy",), None, ("Cy",), None, ()]
        assert report.entries[-1].action == "forgotten"
        assert b"Bob" not in on_disk(path)
        gallery.add("Al", unit(7))
        assert gallery.log().entries[-1].subject != report.entries[0].subject


def test_a_removed_person_stays_in_the_log_unless_forgotten(path: Path) -> None:
    filled(path, None)
    with Gallery(path) as gallery:
        gallery.remove("Al")
        assert gallery.log().entries[-1].names == ("Al",)


def test_it_has_no_biometric_data(path: Path) -> None:
    with Gallery(path, SPACE, DIMENSION, create=True) as gallery:
        gallery.enroll("Al", [Template(unit(0), 0.123456789, "portrait.jpg")])
        rows = gallery._file.query("SELECT * FROM log")
    assert "portrait" not in repr(rows) and "0.1234" not in repr(rows)
    assert all(not isinstance(value, bytes) for row in rows for value in row)
