"""Face sets: folders, memory, broken pictures, teachers."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.data import UNKNOWN, InMemoryFaces, open_faces
from edgeface.data.teacher import read_targets
from edgeface.errors import DataError, ImageError
from edgeface.images import encode_image, write_image


def face(value: int, size: int = 112) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Two people with two and one faces, as PNG."""
    root = tmp_path / "people"
    for name, value in (("Bo/2.png", 30), ("Bo/1.png", 20), ("Al/1.png", 10)):
        write_image(root / name, face(value))
    return root


def test_folder_names_the_identity(people: Path) -> None:
    faces = open_faces(people)
    assert [s.key for s in faces.samples] == ["Al/1", "Bo/1", "Bo/2"]
    assert [s.identity for s in faces.samples] == ["Al", "Bo", "Bo"]
    assert faces.labels.tolist() == [0, 1, 1]
    assert faces.identities == ("Al", "Bo")
    assert [faces.read(i)[0, 0, 0] for i in range(3)] == [10, 20, 30]
    assert faces.read_many([2, 0]).shape == (2, 112, 112, 3)
    assert faces.read_many([]).shape == (0, 112, 112, 3)


def test_pictures_without_folder_have_no_identity(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png", face(2))
    write_image(tmp_path / "a.png", face(1))
    faces = open_faces(tmp_path)
    assert [s.key for s in faces.samples] == ["a", "b"]
    assert faces.labels.tolist() == [UNKNOWN, UNKNOWN]


def test_split_folders(tmp_path: Path) -> None:
    for name in ("train/Al/1.png", "train/Bo/1.png", "val/Cy/1.png"):
        write_image(tmp_path / name, face(1))
    faces = open_faces(tmp_path)
    assert faces.splits == {"train", "val"}
    assert faces.identities == ("Al", "Bo", "Cy")
    assert open_faces(tmp_path, split="val").identities == ("Cy",)
    with pytest.raises(DataError, match="no split 'test'; its splits: train, val"):
        open_faces(tmp_path, split="test")


def test_one_stem_in_two_formats_keeps_both(people: Path) -> None:
    write_image(people / "Al" / "1.jpg", face(99))
    assert [s.key for s in open_faces(people).samples][:2] == ["Al/1.jpg", "Al/1.png"]


def test_hidden_files_links_and_other_files_are_ignored(people: Path) -> None:
    write_image(people / "Al" / ".hidden.png", face(1))
    (people / "Al" / "notes.txt").write_text("no picture")
    (people / "Al" / "gone.png").symlink_to(people / "nowhere.png")
    (people / "Cy").symlink_to(people / "Al")
    os.mkfifo(people / "Al" / "pipe.png")
    faces = open_faces(people)
    assert len(faces) == 3
    assert len(faces.checked()) == 3


def test_broken_and_wrong_pictures_are_left_out_with_the_reason(people: Path) -> None:
    (people / "Al" / "cut.jpg").write_bytes(encode_image(face(1), ".jpg")[:200])
    (people / "Al" / "empty.png").write_bytes(b"")
    write_image(people / "Bo" / "large.png", face(1, 250))
    faces = open_faces(people).checked()
    assert [s.key for s in faces.samples] == ["Al/1", "Bo/1", "Bo/2"]
    reasons = {s.key: s.reason for s in faces.skipped}
    assert reasons.keys() == {"Al/cut", "Al/empty", "Bo/large"}
    assert "250 x 250" in reasons["Bo/large"]
    assert "aligned crops of 112 x 112 are needed" in reasons["Bo/large"]
    assert "0 bytes" in reasons["Al/empty"]


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "Al" / "1.png", face(1, 64))
    with pytest.raises(DataError, match=r"none of the 1 pictures .* 64 x 64 .* aligned crops"):
        open_faces(tmp_path).checked()


@pytest.mark.parametrize("name", ["missing", "missing-*.tar", "empty", "list.txt"])
def test_nothing_to_open_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("x")
    with pytest.raises(DataError, match=r"no faces at|no pictures under|not a data set"):
        open_faces(tmp_path / name)


def test_file_that_vanishes(people: Path) -> None:
    faces = open_faces(people)
    (people / "Al" / "1.png").unlink()
    with pytest.raises(DataError, match="cannot read"):
        faces.read(0)


def test_selection_renumbers_labels_and_keeps_what_was_skipped() -> None:
    images = np.stack([face(value) for value in range(4)])
    faces = InMemoryFaces(images, np.array([0, 5, UNKNOWN, 5]))
    assert faces.labels.tolist() == [0, 1, UNKNOWN, 1]
    chosen = faces.select([3, 2])
    assert chosen.labels.tolist() == [0, UNKNOWN]
    assert chosen.identities == ("5",)
    assert chosen.read(0)[0, 0, 0] == 3
    assert chosen.label_counts() == {0: 1, UNKNOWN: 1}


def test_memory_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(2, 112, 112, 3\) uint8, got \(2, 64, 64, 3\)"):
        InMemoryFaces(np.zeros((2, 64, 64, 3), np.uint8), np.array([0, 1]))


def test_broken_picture_raises_when_read(people: Path) -> None:
    (people / "Al" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match="Al/1 in"):
        open_faces(people).read(0)


class TestTeacher:
    @pytest.fixture
    def faces(self) -> InMemoryFaces:
        return InMemoryFaces(np.zeros((3, 112, 112, 3), np.uint8), np.full(3, UNKNOWN))

    def test_targets_follow_the_keys(self, tmp_path: Path, faces: InMemoryFaces) -> None:
        stored = np.array([[3.0, 4.0], [0.0, 2.0]], np.float16)
        np.savez(tmp_path / "t.npz", key=np.array(["2", "0"]), embedding=stored)
        targets = read_targets(tmp_path / "t.npz", faces)
        assert [row.tolist() for row in targets] == [[0, 1], [0, 0], pytest.approx([0.6, 0.8])]

    def test_transform(self, tmp_path: Path, faces: InMemoryFaces) -> None:
        rng = np.random.default_rng(0)
        stored, basis = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
        mean, scale = rng.standard_normal(4), rng.standard_normal(2)
        np.savez(tmp_path / "t.npz", key=np.array(["0", "1", "2"]), embedding=stored)
        np.savez(tmp_path / "x.npz", mean=mean, basis=basis, scale=scale)
        targets = read_targets(tmp_path / "t.npz", faces, tmp_path / "x.npz")
        for row, embedding in zip(targets, stored, strict=True):
            offset = [float(embedding[i] - 0.8 * mean[i]) for i in range(4)]
            x, y = (float(scale[j]) * sum(offset[i] * float(basis[i, j]) for i in range(4)) for j in (0, 1))
            assert row.tolist() == pytest.approx([x / math.hypot(x, y), y / math.hypot(x, y)], rel=1e-5)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"key": np.array(["0"])}, "is not a .npz file with key, embedding"),
            ({"key": np.array(["x"]), "embedding": np.ones((1, 2))}, "an embedding for none of the 3 faces"),
            ({"key": np.array(["0"]), "embedding": np.ones((2, 2))}, "should hold key"),
            ({"key": np.array(["0"]), "embedding": np.zeros((1, 2))}, "1 embeddings .* zero or not finite"),
            ({"key": np.array(["0"]), "embedding": np.array([[np.nan, 1]])}, "zero or not finite"),
            ({"key": np.array(["0"], object), "embedding": np.ones((1, 2))}, "is not a .npz file"),
        ],
    )
    def test_malformed_files(self, tmp_path: Path, faces: InMemoryFaces, arrays: dict[str, Any], message: str) -> None:
        np.savez(tmp_path / "t.npz", **arrays)
        with pytest.raises(DataError, match=message):
            read_targets(tmp_path / "t.npz", faces)

    def test_missing_file(self, tmp_path: Path, faces: InMemoryFaces) -> None:
        with pytest.raises(DataError, match="no file"):
            read_targets(tmp_path / "t.npz", faces)


def test_real_shards_of_faces(shared: Path) -> None:
    faces = open_faces(shared / "faces")
    assert len(faces) == 38806
    assert len(faces.identities) == 299
    assert faces.splits == {"train", "val"}
    assert len(faces.split("val").identities) == 30
    assert faces.read(0).shape == (112, 112, 3)
