"""Nothing is left of what was removed from a gallery or encrypted in it: a search of the raw files, byte by byte."""

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import GalleryError
from edgeface.runtime.gallery.file import GalleryFile
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.importing import merge_gallery, take_in
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.people import to_blob
from edgeface.runtime.gallery.protection import protect
from edgeface.runtime.gallery.records import TemplateRow
from edgeface.runtime.gallery.schema import SCHEMA_VERSION
from tests.conftest import ROOT
from tests.test_gallery import SPACE, on_disk, unit

KEY = GalleryKey(bytes(range(32)), "k")
OTHER = GalleryKey(bytes(range(1, 33)), "o")


def a_crowd(path: Path, seed: int, key: GalleryKey | None) -> Gallery:
    """A gallery of random size, names and dimension, filled in one go."""
    pick = np.random.default_rng(seed)
    dimension, people = int(pick.choice([16, 64, 128, 192])), int(pick.integers(20, 160))
    crowd = {}
    for number in pick.permutation(people).tolist():
        vectors = pick.normal(size=(int(pick.integers(1, 4)), dimension))
        blobs = [to_blob(vector / np.linalg.norm(vector), dimension, path) for vector in vectors]
        rows = [TemplateRow(blob, 0.5, f"{number:03}~.jpg", None, "2026-01-01T00:00:00+00:00") for blob in blobs]
        crowd[f"{number:03}~Zaphod{'é' * (7 * number % 60)}"] = rows
    gallery = Gallery(path, SPACE, dimension, create=True, key=key)
    take_in(gallery, crowd, "from zaphod.jsonl")
    return gallery


def traces(gallery: Gallery, names: Iterable[str] | None = None) -> set[bytes]:
    """What must not be found: templates and sources as stored and opened, names in all encodings."""
    wanted = set(names or (person.name for person in gallery.list()))
    traced: set[bytes] = set()
    for name, rows in gallery.contents().items():
        if name in wanted:
            traced |= {blob[start : start + 16] for blob in (row.embedding for row in rows) for start in (0, 40)}
            traced |= {row.embedding for row in rows} | {row.source.encode() for row in rows}
            traced |= {np.frombuffer(row.embedding, "<f4").astype("<f2").tobytes()[:16] for row in rows}
            traced |= {name[:10].encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")}
    stored = "SELECT name, embedding, name FROM people JOIN templates ON person = people.id"
    if gallery.encrypted:  # then what is sealed is what could be put back
        for name, blob, _ in gallery._file.query(stored):
            if names is None or gallery.records.sealer is None:
                traced |= {name[:20], blob[:20]}
    return traced - {b""}


def found(path: Path, secrets: set[bytes]) -> list[bytes]:
    """Those of the secrets that are somewhere in the folder."""
    everything = on_disk(path)
    return [secret for secret in secrets if secret in everything]


def encrypt(gallery: Gallery) -> None:
    protect(gallery, KEY)


def rekey(gallery: Gallery) -> None:
    protect(gallery, OTHER)


# With the first three of these seeds something is left where the file is not written anew.
@pytest.mark.parametrize(
    ("seed", "before", "change"),
    [(9, None, encrypt), (13, None, encrypt), (52, None, encrypt), (1, None, encrypt), (2, KEY, rekey)],
)
def test_after_encrypting_nothing_of_before_is_left(
    fast_path: Path, seed: int, before: GalleryKey | None, change: Callable[[Gallery], None]
) -> None:
    path = fast_path / "people.db"
    with a_crowd(path, seed, before) as gallery:
        secrets = traces(gallery)
        if before is None:
            assert len(found(path, secrets)) > len(secrets) / 3
        change(gallery)
        assert not found(path, secrets)
        assert list(path.parent.glob("*-journal")) == []
    assert not found(path, secrets)


@pytest.mark.parametrize("seed", [1, 2])
def test_after_forgetting_nothing_of_the_forgotten_is_left(fast_path: Path, seed: int) -> None:
    path = fast_path / "people.db"
    with a_crowd(path, seed, None) as gallery:
        everybody = [person.name for person in gallery.list()]
        gone = np.random.default_rng(seed).permutation(everybody)[:12].tolist()
        gallery.merge(gone[0], gone[1])
        gallery.rename(gone[2], f"{gone[2][:4]}New")
        secrets = traces(gallery, [*gone[1:], f"{gone[2][:4]}New"]) | {gone[0][:10].encode(), b"999~Al"}
        secrets -= traces(gallery, set(everybody) - set(gone))
        for name in (*gone[1:2], f"{gone[2][:4]}New", *gone[3:]):
            gallery.remove(name, forget=True)
        assert not found(path, secrets)
        assert len(gallery.templates()[0]) > 0 and gallery.log().broken is None
    assert not found(path, secrets)


def test_the_name_of_an_imported_file_is_forgotten_with_the_person(fast_path: Path) -> None:
    path = fast_path / "people.db"
    with a_crowd(path, 3, None) as gallery:
        assert gallery.log().entries[0].detail["origin"] == "from zaphod.jsonl"
        assert b"from zaphod" in on_disk(path)
        for person in gallery.list():
            gallery._file.clean_up = lambda **_: None  # type: ignore[method-assign]  # once, at the end, will do
            gallery.remove(person.name, forget=True)
        del gallery._file.clean_up
        gallery.add("Al", unit(0, gallery.dimension))
        gallery.remove("Al")
        assert b"zaphod" not in on_disk(path).lower()
    with a_crowd(fast_path / "sealed.db", 3, KEY):
        assert b"zaphod" not in on_disk(fast_path / "sealed.db").lower()


def test_somebody_who_was_removed_earlier_can_still_be_forgotten(fast_path: Path) -> None:
    path = fast_path / "people.db"
    with Gallery(path, SPACE, 16, create=True) as gallery:
        gallery.add("Zaphod", unit(0))
        gallery.add("Bo", unit(1))
        gallery.remove("Zaphod")
        gallery.add("Zaphod", unit(2))  # somebody else of the same name
        assert gallery.remove("Zaphod", forget=True) == 1
        assert b"aphod" not in on_disk(path)
        gallery.add("Trillian", unit(3))
        gallery.remove("Trillian")
        assert b"rillian" in on_disk(path)
        assert gallery.remove("Trillian", forget=True) == 0
        assert b"rillian" not in on_disk(path)
        assert gallery.log().broken is None
        with pytest.raises(GalleryError, match="nobody is called 'Trillian'"):
            gallery.remove("Trillian", forget=True)
        assert gallery.log().entries[-1].action == "forgotten"


def test_forgetting_somebody_leaves_the_log_of_others_alone(fast_path: Path) -> None:
    with Gallery(fast_path / "people.db", SPACE, 16, create=True) as gallery:
        gallery.add("Al", unit(0))
        gallery.add("Bo", unit(1))
        gallery.merge("Al", "Bo")  # lives on as Bo
        gallery.add("Al", unit(2))
        gallery.remove("Al", forget=True)
        assert [entry.names for entry in gallery.log().entries][:4] == [("Al",), ("Bo",), ("Al", "Bo"), None]


def test_an_import_that_fails_leaves_nothing(fast_path: Path) -> None:
    path = fast_path / "people.db"
    with a_crowd(fast_path / "other.db", 5, None) as other, Gallery(path, SPACE, other.dimension, create=True) as mine:
        secrets = traces(other)
        mine.add(other.list()[-1].name, unit(0, other.dimension))
        mine._file._connection.execute("PRAGMA cache_size = 1")  # so that pages reach the log before the end
        other.close()
        shutil.copy(fast_path / "other.db", fast_path / "copy.db")
        (fast_path / "other.db").unlink()
        mine._file._connection.execute(
            "CREATE TEMP TRIGGER stop AFTER INSERT ON log BEGIN SELECT RAISE(ABORT, 'x'); END"
        )
        with Gallery(fast_path / "copy.db") as copy, pytest.raises(GalleryError):
            merge_gallery(mine, copy, join=True)
        (fast_path / "copy.db").unlink()
        assert len(found(path, secrets)) <= 3  # of the one who is in it


KILLED = """
import os, signal, sys
from pathlib import Path
from edgeface.runtime.gallery import file
from edgeface.runtime.gallery.gallery import Gallery

def die(self):
    {when}
    os.kill(os.getpid(), signal.SIGKILL)

file.GalleryFile._write_anew = die
with Gallery(Path(sys.argv[1])) as gallery:
    gallery.remove("Zaphod", forget=True)
"""


@pytest.mark.parametrize(
    "when", ["pass", 'self.query("VACUUM")', 'self.query("VACUUM"); self.query("PRAGMA wal_checkpoint")']
)
def test_killed_before_it_was_written_anew_that_is_done_at_the_next_opening(fast_path: Path, when: str) -> None:
    path = fast_path / "people.db"
    with Gallery(path, SPACE, 16, create=True) as gallery:
        gallery.enroll("Zaphod", [Template(unit(i)) for i in range(30)])
        gallery.add("Bo", unit(50))
        secrets = traces(gallery, ["Zaphod"])
    killed = subprocess.run([sys.executable, "-c", KILLED.format(when=when), str(path)], cwd=ROOT)
    assert killed.returncode < 0
    assert found(path, secrets) or "checkpoint" in when
    with Gallery(path) as gallery:
        assert [person.name for person in gallery.list()] == ["Bo"]
        assert not found(path, secrets)
        assert gallery._file.query("SELECT * FROM meta WHERE key = 'residue'") == []
        assert gallery._file.query("PRAGMA integrity_check") == [("ok",)]


def test_a_program_that_reads_is_not_disturbed_and_what_is_left_goes_later(
    fast_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fast_path / "people.db"
    with Gallery(path, SPACE, 16, create=True, timeout_s=0.1) as gallery:
        gallery.add("Bo", unit(1))
        gallery.add("Zaphod", unit(0))
        secrets = traces(gallery, ["Zaphod"])
        with sqlite3.connect(path, isolation_level=None) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT COUNT(*) FROM templates").fetchone() == (2,)
            gallery.remove("Zaphod", forget=True)
            assert "is in use: removed templates stay in its -wal file" in caplog.text
            assert reader.execute("SELECT COUNT(*) FROM templates").fetchone() == (2,)  # of its own moment
            reader.execute("COMMIT")
        reader.close()
        Gallery(path).close()  # anybody's opening does it
        assert not found(path, secrets)


def test_a_mark_of_another_program_is_not_taken_away(fast_path: Path) -> None:
    path = fast_path / "people.db"
    with Gallery(path, SPACE, 16, create=True) as one, Gallery(path) as two:
        two._file.clean_up = lambda **_: None  # type: ignore[method-assign]  # dies before it
        one.add("Al", unit(0))
        one.add("Bo", unit(1))
        vacuum = GalleryFile.query

        def meanwhile(self: GalleryFile, statement: str) -> list[object]:
            rows = vacuum(self, statement)
            if statement == "VACUUM" and self is one._file:
                two.remove("Bo")
            return rows

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(GalleryFile, "query", meanwhile)
            one.remove("Al")
        assert len(one._file.query("SELECT value FROM meta WHERE key = 'residue'")) == 1


def test_without_room_it_is_said_and_encrypting_is_not_begun(
    fast_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fast_path / "people.db"
    usage = shutil.disk_usage(fast_path)
    with Gallery(path, SPACE, 16, create=True) as gallery:
        gallery.add("Al", unit(0))
        gallery.add("Zaphod", unit(1))
        secrets = traces(gallery, ["Zaphod"])
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500_000))
        gallery.remove("Zaphod", forget=True)
        assert (
            "has no room to be written anew: that takes 1.1 MB of its disk for a moment, of which 0.5 MB" in caplog.text
        )
        with pytest.raises(
            GalleryError, match=r"cannot be written anew, for which its disk needs 1\.1 MB of room; free"
        ):
            protect(gallery, KEY)
        assert not gallery.encrypted
        monkeypatch.undo()
    Gallery(path).close()
    assert not found(path, secrets)


def test_a_disk_that_fills_up_while_it_is_written_anew(fast_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = fast_path / "people.db"
    with Gallery(path, SPACE, 16, create=True) as gallery:
        gallery.add("Al", unit(0))
        gallery.add("Zaphod", unit(1))
        secrets = traces(gallery, ["Zaphod"])
        query = GalleryFile.query

        def full(self: GalleryFile, statement: str) -> list[object]:
            if statement == "VACUUM":
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                with self._clear_errors():
                    raise error
            return query(self, statement)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(GalleryFile, "query", full)
            assert gallery.remove("Zaphod", forget=True) == 1
        assert "has no room to be written anew" in caplog.text
    assert not found(path, secrets)  # closing tries again


def test_an_older_gallery_is_written_anew_once(fast_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = fast_path / "people.db"
    with a_crowd(path, 8, None) as gallery:
        pages = gallery._file.query("PRAGMA page_count")
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM templates WHERE id > 20")  # leaves empty pages, as older ones may
    for column in ("cohort", "cohort_mean", "fitness"):
        connection.execute(f"ALTER TABLE templates DROP COLUMN {column}")
    connection.execute("PRAGMA user_version = 3")
    connection.commit()
    connection.close()
    caplog.set_level(logging.WARNING)
    with Gallery(path) as gallery:
        assert gallery._file.query("PRAGMA page_count") < pages
        assert gallery._file.query("PRAGMA freelist_count") == [(0,)]
        assert gallery._file.query("PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert caplog.text == "" and os.listdir(fast_path) == ["people.db"]
