"""What shows or names people is for its owner only, from the moment it is made, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edgeface.data import InMemoryFaces, open_faces
from edgeface.data.alignment import AlignSettings, align_photographs
from edgeface.data.packing import pack_faces
from edgeface.data.views import teach_faces
from edgeface.evaluation.report import make_folder
from edgeface.files import PRIVATE, make_private_folder, new_folder, open_private, write_bytes, write_text
from edgeface.images import write_image
from edgeface.runtime.events import Event
from edgeface.runtime.gallery.exchange import export_gallery
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.key import GalleryKey, make_key
from edgeface.runtime.gallery.protection import protect
from edgeface.runtime.showing.recorder import VideoRecorder
from edgeface.runtime.showing.recording import Recording
from edgeface.runtime.showing.snapshots import Snapshots
from edgeface.runtime.sinks.file import FileSink
from edgeface.runtime.sinks.outbox import Outbox
from tests.test_data_jobs import SeesColour
from tests.test_gallery import DIMENSION, SPACE, unit

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
EVENT = Event(datetime(2026, 11, 23, tzinfo=UTC), "match", 1, identity="alice")


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    mask = os.umask(0)
    yield
    os.umask(mask)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of all that lies in a folder, but of the folder itself."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in found}


def assert_private(folder: Path, *names: str) -> None:
    found = modes(folder)
    assert set(names) <= set(found), found
    for name, mode in found.items():
        assert mode == (0o700 if (folder / name).is_dir() else 0o600), (name, oct(mode))


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_recordings(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"out{suffix}"
    with VideoRecorder(path, 5, (32, 32)) as recorder:
        for _ in range(3):
            recorder.write(np.zeros((32, 32, 3), np.uint8))
        assert_private(tmp_path, "new")
        assert len(modes(tmp_path)) == 2
    assert_private(tmp_path, f"new/out{suffix}")
    path.chmod(0o644)  # an old one that others could see is replaced by one that they cannot
    pieces = Recording(path, 5, (32, 32), piece_s=0.4)
    for _ in range(5):
        pieces.write(np.zeros((32, 32, 3), np.uint8))
    pieces.close()
    with VideoRecorder(path, 5, (32, 32)) as recorder:
        recorder.write(np.zeros((32, 32, 3), np.uint8))
    assert_private(tmp_path, f"new/out-0001{suffix}", f"new/out-0002{suffix}", f"new/out{suffix}")


def test_events_and_what_waits_for_others(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a" / "b" / "events.jsonl", max_bytes=700, keep=2)
    outbox = Outbox(tmp_path / "c" / "outbox.db")
    for _ in range(4):
        sink.write(EVENT)
        outbox.add("webhook", EVENT.id, EVENT.to_json())
    assert_private(tmp_path, "a/b/events.jsonl", "a/b/events.jsonl.1", "c/outbox.db", "c/outbox.db-wal")
    sink.close()
    outbox.close()


def test_a_file_that_is_added_to_keeps_what_its_owner_wanted(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").touch(0o640)
    sink = FileSink(tmp_path / "events.jsonl")
    sink.write(EVENT)
    sink.close()
    assert modes(tmp_path) == {"events.jsonl": 0o640}


def test_snapshots(tmp_path: Path) -> None:
    Snapshots(tmp_path / "x" / "shots").close()
    write_bytes(tmp_path / "x" / "shots" / "1.jpg", b"x", mode=PRIVATE)
    assert_private(tmp_path, "x/shots", "x/shots/1.jpg")


def test_galleries_keys_and_exports(tmp_path: Path) -> None:
    make_key(str(tmp_path / "keys" / "k"))
    with Gallery(tmp_path / "g" / "people.db", SPACE, DIMENSION, create=True) as gallery:
        gallery.add("Al", unit(0))
        assert_private(tmp_path, "g/people.db", "g/people.db-wal", "g/people.db-shm", "keys/k")
        export_gallery(gallery, tmp_path / "e" / "people.jsonl", None)
        protect(gallery, GalleryKey(bytes(32), "k"))
        gallery.remove("Al", forget=True)
        assert_private(tmp_path, "g/people.db", "e/people.jsonl")


class Knows:
    """Stands in for a teacher."""

    def embed(self, faces: np.ndarray) -> np.ndarray:
        return np.ones((len(faces), 4), np.float32) / 2


def test_pictures_of_people(tmp_path: Path) -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[0, 0, 0] = 1
    write_image(tmp_path / "raw" / "Al" / "1.png", image)
    align_photographs(open_faces(tmp_path / "raw"), tmp_path / "crops", SeesColour(), AlignSettings(suffix=".png"))
    pack_faces(open_faces(tmp_path / "crops"), tmp_path / "shards")
    face = InMemoryFaces(np.zeros((1, 112, 112, 3), np.uint8), np.zeros(1, int))
    teach_faces(face, tmp_path / "taught", Knows(), views=1)  # type: ignore[arg-type]
    make_folder(tmp_path / "report")
    write_text(tmp_path / "report" / "report.html", "x", mode=PRIVATE)
    assert_private(tmp_path, "crops/align.jsonl", "shards/faces-000000.tar", "taught/teacher.npz", "report/report.html")


def test_the_helpers(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "public", b"x")
    assert modes(tmp_path) == {"a": 0o777, "a/public": 0o666}
    make_private_folder(tmp_path / "a" / "b" / "c")
    make_private_folder(tmp_path / "a")  # is there already
    os.close(open_private(tmp_path / "a" / "d" / "f", os.O_CREAT | os.O_WRONLY))
    with new_folder(tmp_path / "e", private=True) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    expected = {"a": 0o777, "a/public": 0o666, "a/b": 0o700, "a/b/c": 0o700, "a/d": 0o700, "a/d/f": 0o600, "e": 0o700}
    assert modes(tmp_path) == expected
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        make_private_folder(tmp_path / "a" / "public" / "x")
