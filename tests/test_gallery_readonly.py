"""Galleries that cannot be written: read-only disks, other owners, full disks. Who is in them is known all the same."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import GalleryError
from edgeface.runtime.gallery import file as gallery_file
from edgeface.runtime.gallery import place
from edgeface.runtime.gallery.exchange import export_gallery
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.place import Obstacle
from edgeface.runtime.gallery.wal import UnsettledError, committed_image
from tests.conftest import ROOT
from tests.test_gallery import DIMENSION, SPACE, unit
from tests.test_gallery_sum import as_version_3

KEY = GalleryKey(bytes(range(32)), "k")
KEYS = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no gallery could be written; root may write everywhere but on such a disk."""
    monkeypatch.setattr(gallery_file, "unwritable", lambda _: Obstacle("its disk is mounted read-only", "mount it"))
    monkeypatch.setattr(gallery_file, "_told", set())


def left_open(path: Path, key: GalleryKey | None = None) -> None:
    """Make a gallery whose last changes are in its write-ahead log only, as after a crash."""
    source = path.with_name("source.db")
    with Gallery(source, SPACE, DIMENSION, create=True, key=key) as gallery:
        gallery.add("Al", unit(0))
        gallery._file.query("PRAGMA wal_checkpoint(TRUNCATE)")
        gallery.enroll("Bo", [Template(unit(i)) for i in range(1, 40)])
        gallery.rename("Al", "Alan")
        gallery.add("Cy", unit(50))
        for ending in ("", "-wal"):
            shutil.copy(f"{source}{ending}", f"{path}{ending}")
    source.unlink()
    assert path.with_name(f"{path.name}-wal").stat().st_size > 4096


@KEYS
def test_all_is_read_and_nothing_is_changed(
    fast_path: Path,
    key: GalleryKey | None,
    fixed: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = fast_path / "people.db"
    with monkeypatch.context() as writable:
        writable.setattr(gallery_file, "unwritable", lambda _: None)
        left_open(path, key)
    before = {file.name: file.read_bytes() for file in fast_path.iterdir()}
    for _ in range(2):
        with Gallery(path, SPACE, DIMENSION, key=key) as gallery:
            assert [(p.name, p.templates) for p in gallery.list()] == [("Alan", 1), ("Bo", 39), ("Cy", 1)]
            assert len(gallery.templates()[0]) == 41 and not gallery.changed() and not gallery.can_change
            np.testing.assert_allclose(gallery.templates()[1][-1], unit(50), atol=1e-7)
            assert gallery.log().broken is None and len(gallery.log().entries) == 4
            assert export_gallery(gallery, fast_path.parent / f"{fast_path.name}.jsonl", key, force=True) == 41
            for change in (lambda: gallery.add("Di", unit(3)), lambda: gallery.remove("Bo")):
                with pytest.raises(GalleryError, match="is read-only, as its disk is mounted read-only; mount it and"):
                    change()
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                gallery._file._connection.execute("DELETE FROM templates")
    (fast_path.parent / f"{fast_path.name}.jsonl").unlink()
    assert {file.name: file.read_bytes() for file in fast_path.iterdir()} == before
    assert caplog.text.count("nothing can be changed, as its disk is mounted read-only; whoever is in it is known") == 1
    assert "its log does not tell of this export" in caplog.text


def test_changes_of_a_program_that_may_write_are_taken_up(fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fast_path / "people.db"
    with Gallery(path, SPACE, DIMENSION, create=True) as writer:
        writer.add("Al", unit(0))
        with monkeypatch.context() as patch:
            patch.setattr(gallery_file, "unwritable", lambda _: Obstacle("x", "y"))
            reader = Gallery(path, SPACE, DIMENSION)
        assert reader.templates()[0] == ("Al",) and not reader.changed()
        writer.add("Bo", unit(1))
        assert reader.changed() and reader.templates()[0] == ("Al", "Bo")
        writer.remove("Al")  # written anew, and the log emptied
        assert reader.changed() and reader.templates()[0] == ("Bo",) and not reader.changed()
    path.rename(path.with_name("away"))
    assert not reader.changed() and reader.templates()[0] == ("Bo",)  # the disk was taken out: the door stays as it is
    path.write_bytes(b"nonsense" * 1000)
    for _ in range(2):
        with pytest.raises(GalleryError, match="is no gallery"):
            reader.changed()
    path.with_name("away").rename(path)  # and put in again
    assert reader.changed() and reader.templates()[0] == ("Bo",)
    reader.close()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_gallery_is_read_as_it_is(
    fast_path: Path, version: int, fixed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fast_path / "people.db"
    with monkeypatch.context() as writable:
        writable.setattr(gallery_file, "unwritable", lambda _: None)
        with Gallery(path, SPACE, DIMENSION, create=True, key=KEY if version == 3 else None) as gallery:
            gallery.add("Al", unit(0))
        if version == 3:
            as_version_3(path)
    if version < 3:
        connection = sqlite3.connect(path)
        connection.executescript("DROP TABLE log; DROP INDEX people_uid; DROP INDEX people_lookup")
        connection.execute("DELETE FROM meta WHERE key NOT IN ('space', 'dimension')")
        for column in ("uid", "lookup"):
            connection.execute(f"ALTER TABLE people DROP COLUMN {column}")
        for column in ("cohort", "cohort_mean", "fitness"):
            connection.execute(f"ALTER TABLE templates DROP COLUMN {column}")
        if version == 1:
            connection.execute("ALTER TABLE templates DROP COLUMN precision")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
    before = path.read_bytes()
    with Gallery(path, SPACE, DIMENSION, key=KEY if version == 3 else None) as gallery:
        assert gallery.templates()[0] == ("Al",)
    assert path.read_bytes() == before


def test_an_altered_gallery_is_refused_there_too(fast_path: Path, fixed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fast_path / "people.db"
    with monkeypatch.context() as writable:
        writable.setattr(gallery_file, "unwritable", lambda _: None)
        left_open(path, KEY)
    os.unlink(f"{path}-wal")  # the last commits left out: a state of before, as a whole
    with Gallery(path, key=KEY) as gallery:
        assert set(gallery.templates()[0]) == {"Alan", "Bo"}
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM templates")
    connection.close()
    with pytest.raises(GalleryError, match="was altered: records"):
        Gallery(path, key=KEY)


def test_a_change_that_broke_off_in_a_journal_is_told(fast_path: Path, fixed: None) -> None:
    path = fast_path / "people.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 5000,)] * 100)
    with pytest.raises(
        GalleryError, match=r"cannot be read, as its disk .* a change that broke off waits in people.db-journ"
    ):
        Gallery(path)
    connection.close()


def test_an_empty_file_and_one_that_cannot_be_read_are_one_line(
    fast_path: Path, fixed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fast_path / "people.db"
    path.touch()
    with pytest.raises(GalleryError, match="is empty; enrol somebody first"):
        Gallery(path, SPACE, DIMENSION, create=True)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gallery_file, "committed_image", refuse)
    with pytest.raises(GalleryError, match="may not be opened by this user"):
        Gallery(path)


def test_a_file_that_never_rests_is_told(fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fast_path / "people.db"
    path.write_bytes(b"x")
    read = Path.read_bytes

    def grow(self: Path) -> bytes:
        with path.open("ab") as file:
            file.write(b"x")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", grow)
    with pytest.raises(UnsettledError, match="another program keeps changing it"):
        committed_image(path)


@pytest.mark.parametrize("seed", range(24))
def test_the_picture_in_memory_is_what_sqlite_itself_reads(fast_path: Path, seed: int) -> None:
    path, pick = fast_path / "a.db", random.Random(seed)
    page = pick.choice((512, 1024, 4096))
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (f"PRAGMA page_size = {page}", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF"):
        connection.execute(statement)
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    for _ in range(pick.randint(0, 25)):
        statement = pick.choice(
            [
                "PRAGMA wal_checkpoint(PASSIVE)",
                "PRAGMA wal_checkpoint(RESTART)",
                "PRAGMA wal_checkpoint(TRUNCATE)",
                "VACUUM",
            ]
            + ["DELETE FROM t WHERE a % 3 = 0"] * 2
            + [f"INSERT INTO t (b) VALUES (x'{pick.randbytes(pick.randrange(3000)).hex()}')"] * 9
        )
        connection.execute(statement).fetchall()
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN")  # half a transaction is in the log, and counts for nothing
    for _ in range(pick.randint(0, 9)):
        connection.execute("INSERT INTO t (b) VALUES (zeroblob(3000))")
    log = path.with_name("a.db-wal")
    if pick.random() < 0.3 and log.exists() and log.stat().st_size:  # a torn end, as a power cut leaves it
        copy = path.with_name("b.db")
        data = bytearray(log.read_bytes())
        data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
        shutil.copy(path, copy)
        copy.with_name("b.db-wal").write_bytes(data[: pick.randrange(len(data))] if pick.random() < 0.5 else data)
    else:
        copy = path
    image = committed_image(copy)
    mine = sqlite3.connect(":memory:")
    mine.deserialize(image)
    theirs = sqlite3.connect(copy)
    try:
        expected = theirs.execute("SELECT * FROM t").fetchall()
        assert mine.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert mine.execute("SELECT * FROM t").fetchall() == expected
    except sqlite3.OperationalError:  # not even the table had been moved into the file
        with pytest.raises(sqlite3.OperationalError):
            theirs.execute("SELECT * FROM t")
    for opened in (connection, mine, theirs):
        opened.close()


LOOK = """
import json, logging, os, resource, signal, sys
from pathlib import Path
import numpy as np
from edgeface.errors import EdgefaceError
from edgeface.runtime.gallery.gallery import Gallery

if sys.argv[2] == "nobody":  # another user from here on: this one may not even read where Python lies
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
if sys.argv[2] == "full":  # no byte can be written to any file from here on
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
logging.basicConfig(stream=sys.stderr, format="%(message)s")
with Gallery(Path(sys.argv[1]), "a" * 64, 16) as gallery:
    names = gallery.templates()[0]
    try:
        gallery.add("Di", np.eye(16, dtype=np.float32)[0])
        why = ""
    except EdgefaceError as error:
        why = str(error)
sys.stdout.write(json.dumps([sorted(set(names)), why]))
"""


def look(path: Path, how: str, *prefix: str) -> tuple[list[str], str, str]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", LOOK, str(path), how], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names, why = json.loads(done.stdout)
    return names, why, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_a_full_disk_lets_it_be_read(tmp_path: Path) -> None:
    left_open(tmp_path / "people.db")
    names, why, told = look(tmp_path / "people.db", "full")
    assert names == ["Alan", "Bo", "Cy"]
    assert "is read-only, as it cannot be written where it lies" in why
    assert told.count("nothing can be changed") == 1
    names, why, _ = look(tmp_path / "people.db", "room")
    assert (names, why) == (["Alan", "Bo", "Cy"], "")


def test_a_full_disk_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    assert place.obstacle(tmp_path / "people.db") == Obstacle("its disk is full", "free some space")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0 or sys.platform != "linux", reason="needs another user")
@pytest.mark.parametrize("file_mode", [0o644, 0o666])
def test_another_owner_lets_it_be_read(tmp_path: Path, file_mode: int) -> None:
    path = tmp_path / "people.db"
    left_open(path)
    for file in (path, path.with_name("people.db-wal")):
        file.chmod(file_mode)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    names, why, told = look(path, "nobody")
    assert names == ["Alan", "Bo", "Cy"]
    assert "is read-only, as this user may not write" in why
    assert told.count("nothing can be changed") == 1
    assert sorted(os.listdir(tmp_path)) == ["people.db", "people.db-wal"]


@pytest.mark.skipif(not os.access("/proc/self/ns/mnt", os.R_OK) or os.name != "posix", reason="needs namespaces")
def test_a_read_only_mount_lets_it_be_read(tmp_path: Path) -> None:
    path = tmp_path / "people.db"
    left_open(path)
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"
    prefix = ("unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh")
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount anything")
    names, why, _ = look(path, "room", *prefix)
    assert names == ["Alan", "Bo", "Cy"] and "is read-only, as its disk is mounted read-only" in why


def test_what_was_left_to_be_cleaned_is_no_hindrance(fast_path: Path, fixed: None) -> None:
    path = fast_path / "people.db"
    with pytest.MonkeyPatch.context() as writable:
        writable.setattr(gallery_file, "unwritable", lambda _: None)
        with Gallery(path, SPACE, DIMENSION, create=True) as gallery:
            gallery.add("Al", unit(0))
            gallery._file._connection.execute("INSERT INTO meta VALUES ('residue', 'x')")
    with Gallery(path) as gallery:
        assert gallery.templates()[0] == ("Al",)
        assert "what was removed before stays in it" in str(gallery._file.clean_up())
