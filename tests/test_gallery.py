"""The gallery file, under errors, other programs and sudden death; and exact search among templates."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgeface.errors import ConfigError, GalleryError
from edgeface.runtime.gallery import file as gallery_file
from edgeface.runtime.gallery import schema as gallery_schema
from edgeface.runtime.gallery.gallery import Gallery, Template, clean_name
from edgeface.runtime.gallery.matching import Match, best_per_person, similarities
from tests.conftest import ROOT

SPACE = "a" * 64
DIMENSION = 16


def unit(seed: int, dimension: int = DIMENSION) -> npt.NDArray[np.float32]:
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def make(path: Path) -> Gallery:
    return Gallery(path, SPACE, DIMENSION, create=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


def on_disk(path: Path) -> bytes:
    """The gallery, its log and whatever else lies beside it."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


# --- people in and out


def test_what_goes_in_comes_out(path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    with make(path) as gallery:
        assert gallery.list() == ()
        names, matrix = gallery.templates()
        assert names == ()
        assert matrix.shape == (0, DIMENSION)
        ids = [gallery.add("Bo", unit(0), 0.5, "b.jpg"), *gallery.enroll("Al", [Template(unit(1)), Template(unit(2))])]
        ids.append(gallery.add("Bo", unit(3)))
        assert len(set(ids)) == 4
    with Gallery(path, SPACE, DIMENSION) as gallery:
        names, matrix = gallery.templates()
        people = gallery.list()
    assert names == ("Bo", "Al", "Al", "Bo")
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, [unit(i) for i in range(4)], atol=1e-7)
    assert [(p.name, p.templates) for p in people] == [("Al", 2), ("Bo", 2)]
    for person in people:
        created = datetime.fromisoformat(person.created)
        assert created.utcoffset() is not None
        assert before <= created <= datetime.now(UTC)


def test_quality_and_source_are_kept_and_the_format_is_little_endian(path: Path) -> None:
    with make(path) as gallery:
        gallery.add("Al", unit(7), 0.25, "a.jpg")
    connection = sqlite3.connect(path)
    ((blob, quality, source),) = connection.execute("SELECT embedding, quality, source FROM templates").fetchall()
    connection.close()
    assert (quality, source) == (0.25, "a.jpg")
    np.testing.assert_allclose(np.frombuffer(blob, "<f4"), unit(7), atol=1e-7)


def test_embeddings_are_brought_to_exactly_unit_length(path: Path) -> None:
    with make(path) as gallery:
        gallery.add("Al", unit(0) * np.float32(1.004))
        _, matrix = gallery.templates()
    assert np.linalg.norm(matrix[0].astype(np.float64)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(matrix[0], unit(0), atol=1e-6)


def test_remove_takes_all_templates_of_one_person(path: Path) -> None:
    with make(path) as gallery:
        gallery.enroll("Al", [Template(unit(1)), Template(unit(2))])
        gallery.add("Bo", unit(3))
        assert gallery.remove(" Al ") == 2
        assert [p.name for p in gallery.list()] == ["Bo"]
        names, matrix = gallery.templates()
        assert names == ("Bo",)
        np.testing.assert_allclose(matrix, [unit(3)], atol=1e-7)
        with pytest.raises(GalleryError, match=r"nobody is called 'Al' in gallery .*; list the gallery"):
            gallery.remove("Al")
        with pytest.raises(GalleryError, match=r"nobody is called 'Boo' .* did you mean 'Bo'"):
            gallery.remove("Boo")
        assert gallery.remove("Bo") == 1


@pytest.mark.parametrize("reader", [False, True])
def test_removed_templates_leave_no_bytes_behind(path: Path, reader: bool) -> None:
    other = None
    with make(path) as gallery:
        gallery.enroll("Remains", [Template(unit(i)) for i in range(20)])
        gallery.enroll("Zaphod", [Template(unit(100 + i)) for i in range(20)])
        rows = gallery._file.query("SELECT embedding FROM templates WHERE person = 2")
        blobs = [b"Zaphod", *(blob for (blob,) in rows)]  # the log forgets the name, too
        assert len(blobs) == 21
        assert all(blob in on_disk(path) for blob in blobs)
        if reader:  # an open gallery of another program that is not reading at the moment
            other = Gallery(path, SPACE, DIMENSION)
            other.templates()
        assert gallery.remove("Zaphod", forget=True) == 20
        assert not any(blob in on_disk(path) for blob in blobs)
        assert b"Remains" in on_disk(path)
    if other is not None:
        other.close()
    assert not any(blob in on_disk(path) for blob in blobs)


def test_removing_while_it_is_read_warns_and_the_bytes_go_when_it_is_closed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Gallery(path, SPACE, DIMENSION, create=True, timeout_s=0.1) as gallery:
        gallery.add("Al", unit(0))
        ((blob,),) = gallery._file.query("SELECT embedding FROM templates")
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM templates").fetchall()
        assert gallery.remove("Al") == 1
        assert "is in use: removed templates stay in its -wal file" in caplog.text
        assert blob in on_disk(path)
        reader.close()
    assert blob not in on_disk(path)


def test_the_file_and_its_log_are_for_the_owner_only(path: Path) -> None:
    mask = os.umask(0)
    try:
        with make(path) as gallery:
            gallery.add("Al", unit(0))
            files = sorted(file.name for file in path.parent.iterdir())
            modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(mask)
    assert files == ["people.db", "people.db-shm", "people.db-wal"]
    assert modes == {0o600}


def test_the_connection_is_as_safe_as_it_is_meant_to_be(path: Path) -> None:
    with make(path) as gallery:
        settings = {p: gallery._file.query(f"PRAGMA {p}")[0][0] for p in (
            "journal_mode", "synchronous", "foreign_keys", "secure_delete", "temp_store", "user_version"
        )}  # fmt: skip
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "secure_delete": 1,
        "temp_store": 2,  # MEMORY
        "user_version": gallery_schema.SCHEMA_VERSION,
    }


# --- what does not fit


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (unit(0, 8), r"shape \(8,\) does not fit .* takes \(16,\)"),
        (unit(0)[None], r"shape \(1, 16\)"),
        (unit(0) * 2, "has length 2 instead of 1"),
        (np.zeros(16, np.float32), "has length 0 instead of 1"),
        (np.full(16, np.nan, np.float32), "has length nan instead of 1"),
        (np.array([np.inf] + [0] * 15, np.float32), "has length inf instead of 1"),
    ],
)
def test_an_embedding_that_does_not_fit_enrols_nothing(
    path: Path, embedding: npt.NDArray[np.float32], message: str
) -> None:
    with make(path) as gallery:
        with pytest.raises(GalleryError, match=message):
            gallery.enroll("Al", [Template(unit(0)), Template(embedding)])
        assert gallery.list() == ()


def test_enrolling_without_templates_is_an_error(path: Path) -> None:
    with make(path) as gallery:
        with pytest.raises(GalleryError, match="no templates for 'Al'"):
            gallery.enroll("Al", [])
        assert gallery.list() == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        (" \t\n", "is empty"),
        ("a\nb", r"U\+000A"),
        ("a\0", r"U\+0000"),
        ("a\u2028b", r"U\+2028"),
        ("evil\u202etxt", r"U\+202E"),
        ("\ud800", r"U\+D800"),
        ("x" * 201, "201 characters; use at most 200"),
    ],
)
def test_names_that_cannot_be_used(path: Path, name: str, message: str) -> None:
    with make(path) as gallery, pytest.raises(ConfigError, match=message):
        gallery.add(name, unit(0))


@given(st.text(max_size=220))
@example("e\u0301")
@example("\u00a0Zoë\u3000")
@example("\u0958" * 150)  # one character that NFC makes two
@example("می‌خواهم")  # joiners are part of names
def test_a_clean_name_is_stable_and_shown_on_one_line(name: str) -> None:
    try:
        clean = clean_name(name)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert clean == clean_name(clean)
    assert clean == clean_name(f"  {unicodedata.normalize('NFD', name)}\n")
    assert 1 <= len(clean) <= 200
    assert clean.splitlines() == [clean]
    clean.encode()


def test_two_spellings_of_a_name_are_one_person(path: Path) -> None:
    with make(path) as gallery:
        gallery.add("Zoe\u0308", unit(0))
        gallery.add(" Zoë", unit(1))
        assert [(p.name, p.templates) for p in gallery.list()] == [("Zo\u00eb", 2)]


# --- files that cannot be opened


def test_another_embedding_space_is_refused_with_both_ids(path: Path) -> None:
    make(path).close()
    with pytest.raises(GalleryError, match=r"space a{12} \(16 numbers\), not in b{12} .*enrol again"):
        Gallery(path, "b" * 64, DIMENSION)
    with pytest.raises(GalleryError, match=r"\(16 numbers\), not in a{12} \(32 numbers\)"):
        Gallery(path, SPACE, 32, create=True)
    with Gallery(path) as gallery:
        assert (gallery.space_id, gallery.dimension) == (SPACE, DIMENSION)


def test_a_missing_gallery_is_not_made_by_looking(path: Path) -> None:
    with pytest.raises(GalleryError, match=r"gallery not found: .*people.db; enrol somebody"):
        Gallery(path, SPACE, DIMENSION)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("content", [b"hello world, this is no database " * 40, b"SQLite format 3\0" + b"\xff" * 500])
@pytest.mark.parametrize("create", [False, True])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes, create: bool) -> None:
    path.write_bytes(content)
    with pytest.raises(GalleryError, match=r"is no gallery \(not an SQLite file\)|is damaged"):
        Gallery(path, SPACE, DIMENSION, create=create)
    assert path.read_bytes() == content


@pytest.mark.parametrize("create", [False, True])
def test_a_database_of_another_program_is_refused_and_left_alone(path: Path, create: bool) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(GalleryError, match="is an SQLite file, but no gallery"):
        Gallery(path, SPACE, DIMENSION, create=create)
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_gallery_only_when_one_is_to_be_made(path: Path) -> None:
    path.touch()
    with pytest.raises(GalleryError, match="is empty; enrol somebody first"):
        Gallery(path, SPACE, DIMENSION)
    with make(path) as gallery:
        gallery.add("Al", unit(0))
    with Gallery(path, SPACE, DIMENSION) as gallery:
        assert len(gallery.list()) == 1


def test_a_folder_is_no_gallery(tmp_path: Path) -> None:
    for create in (False, True):
        with pytest.raises(GalleryError, match="is a folder"):
            Gallery(tmp_path, SPACE, DIMENSION, create=create)


def test_a_gallery_below_a_file_cannot_be_made(path: Path) -> None:
    path.touch()
    with pytest.raises(GalleryError, match=r"cannot be made: .*; give another path"):
        make(path / "inner.db")


def test_a_damaged_gallery_is_refused(path: Path) -> None:
    with make(path) as gallery:
        gallery.enroll("Al", [Template(unit(i)) for i in range(200)])
    data = bytearray(path.read_bytes())
    for page in range(2 * 4096, len(data), 4096):
        data[page : page + 64] = b"\xff" * 64
    path.write_bytes(data)
    with pytest.raises(GalleryError, match="is damaged; restore a copy"):
        Gallery(path, SPACE, DIMENSION)


def test_a_cut_off_gallery_is_refused(path: Path) -> None:
    with make(path) as gallery:
        gallery.enroll("Al", [Template(unit(i)) for i in range(200)])
    path.write_bytes(path.read_bytes()[: 4096 * 3 + 100])
    with pytest.raises(GalleryError, match="is damaged"):
        Gallery(path, SPACE, DIMENSION)


@pytest.mark.parametrize(
    "blob",
    [b"", b"\0" * 60, b"\0" * 64, np.full(16, np.nan, "<f4").tobytes(), (unit(0) * 1e5).tobytes(), "text", None],
)
def test_a_damaged_template_is_never_compared(path: Path, blob: bytes | str | None) -> None:
    with make(path) as gallery:
        gallery.add("Al", unit(0))
        gallery.add("Bo", unit(1))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    try:
        connection.execute("UPDATE templates SET embedding = ? WHERE id = 2", (blob,))
    except sqlite3.IntegrityError:
        assert blob is None  # the schema keeps this one out
        return
    finally:
        connection.commit()
        connection.close()
    with Gallery(path, SPACE, DIMENSION) as gallery:
        with pytest.raises(GalleryError, match=r"a template of 'Bo' .* is damaged; remove and enrol again"):
            gallery.templates()
        gallery.remove("Bo")
        assert gallery.templates()[0] == ("Al",)


def test_a_locked_gallery_can_be_read_and_says_so_when_written(path: Path) -> None:
    make(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Gallery(path, SPACE, DIMENSION, timeout_s=0.1) as gallery:
        assert gallery.list() == ()
        with pytest.raises(GalleryError, match=r"people.db is locked by another program; wait"):
            gallery.add("Al", unit(0))
        other.execute("ROLLBACK")
        gallery.add("Al", unit(0))
        assert len(gallery.list()) == 1
    other.close()


def test_an_exclusively_locked_gallery_says_so_at_open(path: Path) -> None:
    make(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("PRAGMA user_version = 1")
    with pytest.raises(GalleryError, match="is locked by another program"):
        Gallery(path, SPACE, DIMENSION, timeout_s=0.1)
    other.close()


def test_a_read_only_gallery_says_so_when_written(path: Path) -> None:
    with make(path) as gallery:
        gallery._file.query("PRAGMA query_only = ON")  # the same result code as a file that may not be written
        with pytest.raises(GalleryError, match="is read-only; check the permissions"):
            gallery.add("Al", unit(0))
        assert gallery.list() == ()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_gallery_in_a_read_only_folder_is_one_clear_error(path: Path) -> None:
    make(path).close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with (
            pytest.raises(GalleryError, match=r"is read-only|cannot be opened"),
            Gallery(path, SPACE, DIMENSION) as gallery,
        ):
            gallery.add("Al", unit(0))
    finally:
        path.parent.chmod(0o700)


def test_a_full_disk_undoes_the_enrolment(path: Path) -> None:
    with make(path) as gallery:
        gallery.add("Al", unit(0))
        ((pages,),) = gallery._file.query("PRAGMA page_count")
        gallery._file.query(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(GalleryError, match="the disk is full"):
            gallery.enroll("Bo", [Template(unit(i)) for i in range(300)])
        assert [p.name for p in gallery.list()] == ["Al"]
        assert gallery.templates()[0] == ("Al",)


# --- schema versions


def set_version(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def test_a_newer_schema_asks_for_a_newer_program(path: Path) -> None:
    make(path).close()
    newer = gallery_schema.SCHEMA_VERSION + 1
    set_version(path, newer)
    with pytest.raises(GalleryError, match=f"has schema version {newer}, this edgeface uses {newer - 1}; update"):
        Gallery(path, SPACE, DIMENSION)


def test_an_older_schema_is_migrated_step_by_step_or_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(path) as gallery:
        gallery.add("Al", unit(0))
    now = gallery_schema.SCHEMA_VERSION
    monkeypatch.setattr(gallery_file, "SCHEMA_VERSION", now + 2)

    def add_note(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE people ADD COLUMN note TEXT")

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE people SET note = 'half way'")
        raise GalleryError("stopped")

    monkeypatch.setitem(gallery_schema.MIGRATIONS, now, add_note)
    with pytest.raises(GalleryError, match=f"version {now}, this edgeface uses {now + 2} and cannot convert it"):
        Gallery(path, SPACE, DIMENSION)
    monkeypatch.setitem(gallery_schema.MIGRATIONS, now + 1, fail)
    with pytest.raises(GalleryError, match="stopped"):
        Gallery(path, SPACE, DIMENSION)
    monkeypatch.setitem(
        gallery_schema.MIGRATIONS,
        now + 1,
        lambda connection: connection.execute("UPDATE people SET note = 'new'") and None,
    )
    with Gallery(path, SPACE, DIMENSION) as gallery:  # the first step was undone, or it would fail now
        assert gallery._file.query("SELECT name, note FROM people") == [("Al", "new")]
        assert gallery._file.query("PRAGMA user_version") == [(now + 2,)]
        assert gallery.templates()[0] == ("Al",)


def test_a_gallery_of_version_1_keeps_its_templates_whose_precision_is_not_known(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(
        f"""
        PRAGMA application_id = {gallery_schema.APPLICATION_ID};
        PRAGMA user_version = 1;
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
        CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created TEXT NOT NULL);
        CREATE TABLE templates (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            person INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
            embedding BLOB NOT NULL,
            quality REAL,
            source TEXT NOT NULL,
            created TEXT NOT NULL
        );
        CREATE INDEX templates_person ON templates (person);
        INSERT INTO meta VALUES ('space', '{SPACE}'), ('dimension', '{DIMENSION}');
        INSERT INTO people VALUES (1, 'Al', '2026-01-01T00:00:00+00:00');
        """
    )
    connection.execute(
        "INSERT INTO templates VALUES (1, 1, ?, 0.5, 'a.jpg', '2026-01-01T00:00:00+00:00')", (unit(0).tobytes(),)
    )
    connection.commit()
    connection.close()
    for _ in range(2):  # migrated once, then as it is
        with Gallery(path, SPACE, DIMENSION) as gallery:
            names, matrix = gallery.templates()
            assert names == ("Al",) and gallery.precisions() == {None: 1}
            np.testing.assert_allclose(matrix, [unit(0)], atol=1e-7)
    with Gallery(path, SPACE, DIMENSION) as gallery:
        gallery.enroll("Al", [Template(unit(1), precision="int8")])
        assert gallery.precisions("Al") == {None: 1, "int8": 1}
        assert gallery._file.query("PRAGMA user_version") == [(gallery_schema.SCHEMA_VERSION,)]


# --- several programs, and sudden death


def test_changes_by_this_and_by_other_programs_are_noticed(path: Path) -> None:
    with make(path) as gallery, Gallery(path, SPACE, DIMENSION) as other:
        assert gallery.changed()
        gallery.templates()
        assert not gallery.changed()
        versions = [gallery.version]
        other.add("Al", unit(0))
        assert gallery.changed()
        assert gallery.changed()  # until it is loaded
        versions.append(gallery.version)
        assert gallery.templates()[0] == ("Al",)
        assert not gallery.changed()
        gallery.add("Bo", unit(1))
        assert gallery.changed()
        versions.append(gallery.version)
        gallery.templates()
        other.remove("Al")
        assert gallery.changed()
        versions.append(gallery.version)
        assert gallery.templates()[0] == ("Bo",)
        with pytest.raises(GalleryError):
            other.remove("Al")
        assert not gallery.changed()
    assert versions == sorted(set(versions))


CHILD = """
import sys
from pathlib import Path
import numpy as np
from edgeface.runtime.gallery.gallery import Gallery, Template

path, stop_in_the_middle = Path(sys.argv[1]), sys.argv[2] == "middle"
gallery = Gallery(path, "a" * 64, 16, create=True)
face = np.eye(16, dtype=np.float32)[0]
inserted = 0

def watch(statement):
    global inserted
    inserted += statement.startswith("INSERT INTO templates")
    if inserted == 70:  # of the third person
        print("middle", flush=True)
        sys.stdin.read()

if stop_in_the_middle:
    gallery._file._connection.execute("PRAGMA cache_size = 1")  # so that half a transaction is on the disk
    gallery._file._connection.set_trace_callback(watch)
print("ready", flush=True)
for person in range(100_000):
    gallery.enroll(f"person {person}", [Template(face)] * 30)
    print(person, flush=True)
"""


def killed_while_enrolling(path: Path, mode: str, lines: int) -> int:
    """Run CHILD, kill -9 it after so many lines; returns how many people it reported as enrolled."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), mode],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline().strip() for _ in range(lines)]
        child.kill()
        seen += child.stdout.read().split("\n")
    assert child.returncode != 0
    assert "ready" in seen
    return sum(line.isdecimal() for line in seen)


def test_killed_in_the_middle_of_an_enrolment_the_gallery_is_as_before_it(path: Path) -> None:
    reported = killed_while_enrolling(path, "middle", lines=4)
    assert reported == 2
    with Gallery(path, SPACE, DIMENSION) as gallery:
        assert [(p.name, p.templates) for p in gallery.list()] == [("person 0", 30), ("person 1", 30)]
        assert len(gallery.templates()[0]) == 60
        gallery.add("after", unit(0))
        assert len(gallery.list()) == 3


@pytest.mark.parametrize("lines", [1, 2, 9, 30])
def test_killed_at_any_time_no_enrolment_is_lost_or_half(path: Path, lines: int) -> None:
    reported = killed_while_enrolling(path, "free", lines)
    with Gallery(path, SPACE, DIMENSION) as gallery:
        people = gallery.list()
        assert gallery._file.query("PRAGMA integrity_check") == [("ok",)]
    assert {p.templates for p in people} <= {30}
    assert {p.name for p in people} == {f"person {i}" for i in range(len(people))}
    assert reported <= len(people) <= reported + 1


def test_two_programs_may_make_the_same_gallery(path: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path; from edgeface.runtime.gallery.gallery import Gallery\n"
        "print('ready', flush=True); sys.stdin.read()\n"
        "gallery = Gallery(Path(sys.argv[1]), 'a' * 64, 16, create=True, timeout_s=20)\n"
        "for i in range(20): gallery.add(sys.argv[2], np.eye(16, dtype=np.float32)[i % 16])\n"
    )
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as running:
        programs = [
            running.enter_context(
                subprocess.Popen([sys.executable, "-c", code, str(path), name], cwd=ROOT, stdin=pipe, stdout=pipe)
            )
            for name in ("Al", "Bo", "Cy")
        ]
        assert [program.stdout.readline() for program in programs if program.stdout] == [b"ready\n"] * 3
        for program in programs:  # all at once
            assert program.stdin
            program.stdin.close()
        assert [program.wait(60) for program in programs] == [0, 0, 0]
    with Gallery(path, SPACE, DIMENSION) as gallery:
        assert [(p.name, p.templates) for p in gallery.list()] == [("Al", 20), ("Bo", 20), ("Cy", 20)]


def test_a_gallery_that_another_program_is_making_is_waited_for(path: Path) -> None:
    path.touch()
    maker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")  # as a program in the middle of its first write
    with pytest.raises(GalleryError, match=r"locked by another program; waited 0\.1 s"):
        Gallery(path, SPACE, DIMENSION, create=True, timeout_s=0.1)
    end = threading.Timer(0.3, maker.rollback)
    end.start()
    with Gallery(path, SPACE, DIMENSION, create=True, timeout_s=20) as gallery:
        assert gallery.list() == ()
    end.join()
    maker.close()


# --- exact search


@given(
    npst.arrays(np.float64, st.tuples(st.integers(0, 20), st.just(8)), elements=st.floats(-1, 1)), st.integers(0, 99)
)
def test_similarities_are_the_cosines(vectors: npt.NDArray[np.float64], seed: int) -> None:
    matrix = vectors[np.linalg.norm(vectors, axis=1) > 1e-3]
    matrix = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)
    probe = unit(seed, 8)
    scores = similarities(matrix, probe)
    assert scores.shape == (len(matrix),)
    assert scores.dtype == np.float32
    for row, score in zip(matrix, scores, strict=True):
        assert score == pytest.approx(sum(float(a) * float(b) for a, b in zip(row, probe, strict=True)), abs=1e-6)
        assert -1 <= score <= 1


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(-4, 4)), max_size=12), st.none() | st.integers(0, 6))
def test_best_per_person_against_the_obvious_way(rows: list[tuple[str, int]], limit: int | None) -> None:
    names = tuple(name for name, _ in rows)
    scores = np.array([score / 4 for _, score in rows], np.float32)
    matches = best_per_person(names, scores, limit)
    expected = {name: max(s for n, s in zip(names, scores.tolist(), strict=True) if n == name) for name in names}
    assert [m.score for m in matches] == sorted(expected.values(), reverse=True)[:limit]
    assert all(m.score == expected[m.name] for m in matches)
    assert len({m.name for m in matches}) == len(matches)


def test_best_per_person_of_equals_takes_the_first() -> None:
    scores = np.array([0.2, 0.5, 0.5, 0.1], np.float32)
    assert best_per_person(("a", "b", "c", "b"), scores, 2) == (Match("b", 0.5), Match("c", 0.5))
    with pytest.raises(ValueError, match="3 names for 4 scores"):
        best_per_person(("a", "b", "c"), scores)
