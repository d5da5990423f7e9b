"""Verification pairs: the list of LFW, and drawn ones."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.data import UNKNOWN, FaceSet, InMemoryFaces, make_pairs, open_faces, read_lfw_pairs
from edgeface.data.faceset import Sample
from edgeface.errors import DataError


class NamedFaces(InMemoryFaces):
    """Faces with the keys of LFW and no pictures worth looking at."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(np.zeros((len(keys), 112, 112, 3), np.uint8), np.full(len(keys), UNKNOWN))
        self.samples = tuple(Sample(key) for key in keys)


GOOD = "2\t1\nAl\t1\t2\nAl\t1\tBo\t1\nBo\t1\t3\nBo\t3\tAl\t2\n"
KEYS = ["Al/Al_0001", "Al/Al_0002", "Bo/Bo_0001", "Bo/Bo_0003"]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lfw_list(tmp_path: Path, flat: bool, newline: str) -> None:
    (tmp_path / "pairs.txt").write_bytes(GOOD.replace("\n", newline).encode())
    faces = NamedFaces([key.rpartition("/")[2] for key in KEYS] if flat else KEYS)
    pairs = read_lfw_pairs(tmp_path / "pairs.txt", faces)
    assert pairs.first.tolist() == [0, 0, 2, 3]
    assert pairs.second.tolist() == [1, 2, 3, 1]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [0, 0, 1, 1]
    assert pairs.used.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line"),
        ("Al\t1\t2\n", "first line"),
        ("1\t2\n", "first line"),
        (GOOD.rsplit("\n", 2)[0], "promises 2 x 2 x 1 pairs and has 3"),
        (GOOD.replace("Al\t1\t2", "Al\t1\tx"), "pair 1: cannot read 'Al 1 x'"),
        (GOOD.replace("Al\t1\t2", "Al\t1\tBo\t2"), "pair 1: cannot read"),
        (GOOD.replace("Al\t1\tBo\t1", "Al\t1\t1"), "pair 2: cannot read"),
        (GOOD.replace("Bo\t1\t3", "Cy\t4\t5"), "2 pictures that .* the first: Cy_0004"),
    ],
)
def test_malformed_list(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_lfw_pairs(tmp_path / "pairs.txt", NamedFaces(KEYS))


def test_missing_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the pairs"):
        read_lfw_pairs(tmp_path / "pairs.txt", NamedFaces(KEYS))


def test_real_list(shared: Path) -> None:
    faces = open_faces(shared / "lfw" / "lfw-112.tar")
    pairs = read_lfw_pairs(shared / "lfw" / "pairs.txt", faces)
    assert (len(pairs), int(pairs.same.sum()), len(pairs.used)) == (6000, 3000, 7701)
    assert np.bincount(pairs.folds).tolist() == [600] * 10
    identity = [sample.identity for sample in faces.samples]
    agree = [identity[a] == identity[b] for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert agree == pairs.same.tolist()


def faces_with(counts: list[int]) -> FaceSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    return InMemoryFaces(
        np.zeros((len(labels), 112, 112, 3), np.uint8), np.append(labels, [])[: len(labels)].astype(int)
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 7), min_size=4, max_size=30), st.integers(1, 300), st.integers(0, 5))
def test_drawn_pairs_keep_their_promises(counts: list[int], count: int, seed: int) -> None:
    faces = faces_with(counts)
    if sum(n >= 2 for n in counts) < 4:
        with pytest.raises(DataError, match="pairs need at least 4"):
            make_pairs(faces, count, seed)
        return
    pairs = make_pairs(faces, count, seed)
    label = faces.labels
    assert len(pairs) <= count
    assert len({frozenset(p) for p in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}) == len(pairs)
    assert np.all(pairs.first != pairs.second)
    assert np.array_equal(label[pairs.first] == label[pairs.second], pairs.same)
    fold_of: dict[int, int] = {}
    for side in (pairs.first, pairs.second):
        for person, fold in zip(label[side].tolist(), pairs.folds.tolist(), strict=True):
            assert fold_of.setdefault(person, fold) == fold
    again = make_pairs(faces, count, seed)
    assert np.array_equal(pairs.first, again.first)
    assert np.array_equal(pairs.second, again.second)


def test_drawn_pairs_are_as_many_as_asked_and_balanced() -> None:
    pairs = make_pairs(faces_with([10] * 30), 1000, seed=1)
    assert len(pairs) == 1000
    assert pairs.same.sum() == 500
    assert set(pairs.folds.tolist()) == set(range(10))
    other = make_pairs(faces_with([10] * 30), 1000, seed=2)
    assert not np.array_equal(pairs.first, other.first)
