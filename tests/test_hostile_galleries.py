"""Gallery files of an enemy, or of a broken disk: there is an answer, or one line that says why not."""

import contextlib
import functools
import os
import random
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeface.errors import EdgefaceError, GalleryError
from edgeface.runtime.gallery.comparison import People
from edgeface.runtime.gallery.exchange import export_gallery
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.importing import merge_gallery
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.protection import protect
from edgeface.runtime.gallery.reader import is_encrypted
from edgeface.runtime.gallery.schema import SCHEMA
from tests.test_gallery import DIMENSION, SPACE, unit

KEY = GalleryKey(bytes(32), "k")
KEYS = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])

VALUES = (
    None, 0, -1, 7, 2**63 - 1, 1e400, -0.5, "", "x", "é" * 300, "[" * 100_000, '{"forgot": 5}', '{"forgot": [[1]]}',
    '{"merged": {}}', "9" * 5000, "1:2:3", "a\0b\n\x1b[31m", b"", b"\xff\xfe", b"\0" * 64, b"{" * 5000,
)  # fmt: skip
COLUMNS = {
    "meta": ("key", "value"),
    "people": ("id", "name", "created", "uid", "lookup"),
    "templates": ("id", "person", "embedding", "quality", "source", "created", "precision"),
    "log": ("id", "time", "action", "subject", "detail", "command", "user", "commitment", "hash", "names"),
}


@functools.cache
def a_gallery(key: GalleryKey | None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.db"
        with Gallery(path, SPACE, DIMENSION, create=True, key=key) as gallery:
            gallery.enroll("Al", [Template(unit(i), 0.5, f"{i}.jpg", "fp32") for i in range(6)])
            gallery.add("Bo", unit(7))
            gallery.rename("Bo", "Bob")
            gallery.add("Cy", unit(8))
            gallery.merge("Bob", "Al")
            gallery.add("Di", unit(9))
            gallery.remove("Di", forget=True)
        return path.read_bytes()


def use(path: Path, key: GalleryKey | None) -> int:
    """Do all that can be done with a gallery; returns how much of it was refused."""
    refused = 0

    def attempt(action: Callable[[], object]) -> None:
        nonlocal refused
        try:
            action()
        except EdgefaceError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000
            refused += 1

    def all_of_it() -> None:
        with Gallery(path, SPACE, DIMENSION, key=key, timeout_s=0.1) as gallery:
            attempt(lambda: People(*gallery.templates()).compare(unit(1)[None]))
            for action in (gallery.list, gallery.contents, gallery.log, gallery.precisions):
                attempt(action)
            attempt(lambda: gallery.details("Al"))
            attempt(lambda: gallery.precisions("Cy"))
            attempt(lambda: export_gallery(gallery, path.with_name("e"), None, force=True))
            attempt(lambda: other(gallery))
            attempt(lambda: gallery.add("Al", unit(3)))
            attempt(lambda: gallery.rename("Cy", "Cyrus"))
            attempt(lambda: gallery.remove("Al", forget=True))
            attempt(lambda: protect(gallery, KEY))
            assert isinstance(gallery.version, int)

    def other(gallery: Gallery) -> None:
        with Gallery(path.with_name("o.db"), SPACE, DIMENSION, create=True) as mine:
            merge_gallery(mine, gallery)

    attempt(lambda: is_encrypted(path))
    attempt(all_of_it)
    return refused


def mutate(path: Path, pick: random.Random) -> str:
    """Put something into the file that does not belong there; returns what."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("DROP TRIGGER log_keeps_entries")
    connection.execute("DROP TRIGGER log_keeps_facts")
    done = []
    with contextlib.closing(connection):
        if pick.random() < 0.5:  # columns that take anything
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")
            connection.execute("UPDATE sqlite_master SET sql = replace(replace(sql, ' TEXT', ''), ' REAL', '')")
            connection.execute("PRAGMA writable_schema = RESET")
        for _ in range(pick.choice((1, 1, 1, 2, 3))):
            table = pick.choice(tuple(COLUMNS))
            column, value = pick.choice(COLUMNS[table]), pick.choice(VALUES)
            row = pick.choice(("", " WHERE rowid = 1", f" WHERE rowid = (SELECT MAX(rowid) FROM {table})"))
            statement = f"UPDATE OR IGNORE {table} SET {column} = ?{row}"
            if pick.random() < 0.2:
                statement, value = f"DELETE FROM {table}{row}", None
            with contextlib.suppress(sqlite3.Error):
                connection.execute(statement, () if statement.startswith("DELETE") else (value,))
            done.append((statement, repr(value)[:40]))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in SCHEMA:
            if "TRIGGER" in statement:
                connection.execute(statement)
    return str(done)


@KEYS
def test_anything_in_any_column(fast_path: Path, key: GalleryKey | None) -> None:
    refused = 0
    for seed in range(60):
        path = fast_path / str(seed) / "people.db"
        path.parent.mkdir()
        path.write_bytes(a_gallery(key))
        what = mutate(path, random.Random(seed))
        try:
            refused += use(path, key)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error} after {what}") from error
    assert refused > 60


@KEYS
def test_any_bytes(fast_path: Path, key: GalleryKey | None) -> None:
    refused = 0
    for seed in range(60):
        path, pick = fast_path / str(seed) / "people.db", random.Random(seed)
        path.parent.mkdir()
        data = bytearray(a_gallery(key))
        for _ in range(pick.choice((1, 2, 10, 100))):
            place = pick.choice((pick.randrange(len(data)), pick.randrange(4096), pick.randrange(100)))
            if pick.random() < 0.7:
                data[place] = pick.choice((0, 255, pick.randrange(256), data[place] ^ 1 << pick.randrange(8)))
            else:
                data[place : place + pick.randrange(64)] = pick.randbytes(pick.randrange(64))
        path.write_bytes(data)
        refused += use(path, key)
    assert refused > 60


def altered(path: Path, *statements: str) -> None:
    path.write_bytes(a_gallery(None))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


EVERYTHING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"  # never ends


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        ((f"CREATE VIEW extra AS {EVERYTHING}",), "the view 'extra'"),
        (
            ("DROP TABLE templates", f"CREATE VIEW templates AS SELECT 1 AS id, i AS person FROM ({EVERYTHING})"),
            "the view 'templates'",
        ),
        (("DROP TABLE meta", "CREATE VIRTUAL TABLE meta USING fts5(key, value)"), "the table 'meta'"),
        (("CREATE TABLE notes (text)",), "the table 'notes'"),
        (
            ("CREATE TRIGGER t AFTER INSERT ON templates BEGIN DELETE FROM people; END",),
            "the trigger 't'",
        ),
        (
            (
                "DROP TRIGGER log_keeps_entries",
                "CREATE TRIGGER log_keeps_entries AFTER INSERT ON people BEGIN DELETE FROM templates; END",
            ),
            "the trigger 'log_keeps_entries'",
        ),
        (
            ("DROP INDEX templates_person", "CREATE INDEX templates_person ON templates (person, length(hex(source)))"),
            "the index 'templates_person'",
        ),
        (
            ("DROP TABLE log", "CREATE TABLE log (id INTEGER PRIMARY KEY, time AS (hex(zeroblob(900000000))))"),
            "the table 'log'",
        ),
        (("ALTER TABLE people ADD COLUMN x CHECK (length(hex(zeroblob(9))))",), "the table 'people'"),
        (('CREATE VIEW "a\n\x1b[31m" AS SELECT 1',), r"the view 'a\n\x1b[31m'"),
    ],
)
def test_what_would_run_at_a_look_at_the_file_is_refused(
    tmp_path: Path, statements: tuple[str, ...], what: str
) -> None:
    path = tmp_path / "people.db"
    altered(path, *statements)
    with pytest.raises(GalleryError) as caught:
        Gallery(path, SPACE, DIMENSION)
    assert f"was altered: it holds {what}, which edgeface never wrote; restore a copy" in str(caught.value)


def test_a_gallery_that_is_looked_into_by_the_user_still_opens(tmp_path: Path) -> None:
    altered(tmp_path / "people.db", "ANALYZE", "REINDEX")
    with Gallery(tmp_path / "people.db", SPACE, DIMENSION) as gallery:
        assert gallery.log().broken is None


@pytest.mark.parametrize(("key", "value"), [("dimension", "9" * 6), ("dimension", "\u0663"), ("space", "a\x1b[31m")])
def test_a_gallery_of_absurd_facts_is_damaged(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "people.db"
    altered(path, f"UPDATE meta SET value = '{value}' WHERE key = '{key}'")
    with pytest.raises(GalleryError, match="is damaged"):
        Gallery(path)


def test_many_small_rows_take_no_memory_for_large_ones(tmp_path: Path) -> None:
    path = tmp_path / "people.db"
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
    altered(
        path,
        "UPDATE meta SET value = '16384' WHERE key = 'dimension'",
        "DELETE FROM templates",
        f"INSERT INTO templates (person, embedding, source, created) {rows} SELECT 1, x'', '', '' FROM n",
    )
    with Gallery(path) as gallery, pytest.raises(GalleryError, match=r"a template of 'Al' .* is damaged"):
        gallery.templates()  # 6.5 GB if the count were believed


@pytest.mark.parametrize("name", ["a\x1b[31mb", "", " Al", "x" * 201, "e\u0301", "\u202eAl"])
def test_names_that_edgeface_would_not_have_written_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "people.db"
    path.write_bytes(a_gallery(None))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE people SET name = ? WHERE id = 1", (name,))
    with Gallery(path) as gallery, pytest.raises(GalleryError, match="was altered: a name"):
        gallery.list()


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GalleryError, match="is no regular file"):
        Gallery(tmp_path / "pipe", SPACE, DIMENSION)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(GalleryError, match="cannot be opened"):
        Gallery(tmp_path / "loop", SPACE, DIMENSION)
