"""Verification files and tables of pictures."""

import contextlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.data import open_bin, open_faces
from edgeface.data.synthetic import crops
from edgeface.errors import DataError
from edgeface.images import encode_image, write_image
from tests.test_pickled import Code
from tests.test_runtime_bundle import write_bundle


def picture(value: int) -> bytes:
    return encode_image(np.full((112, 112, 3), value, np.uint8), ".png")


@pytest.mark.parametrize("protocol", range(6))
def test_faces_and_pairs(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "cfp_fp.bin"
    same = [number % 3 == 0 for number in range(23)]
    path.write_bytes(pickle.dumps(([picture(value) for value in range(46)], same), protocol))
    faces, pairs = open_bin(path)
    assert len(faces) == len(open_faces(path)) == 46
    assert [faces.read(i)[0, 0, 0] for i in (0, 7, 45)] == [0, 7, 45]
    assert [s.key for s in faces.samples][:2] == ["00", "01"]
    assert faces.identities == ()
    assert pairs.first.tolist() == list(range(0, 46, 2)) and pairs.second.tolist() == list(range(1, 46, 2))
    assert pairs.same.tolist() == same
    # scikit-learn's KFold without shuffling, which the files' own evaluation uses: 3 folds of 3, 7 of 2
    assert np.bincount(pairs.folds).tolist() == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    assert np.all(np.diff(pairs.folds) >= 0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "should hold a list of pictures"),
        ((1, 2), "should hold a list of pictures"),
        (([], []), "at least one"),
        (([b"a"], [True]), "1 pictures for 1 pairs"),
        (([b"a", b"b"], [True, False]), "2 pictures for 2 pairs"),
        (([b"a", 5], [True]), "a int is where a picture"),
        (([b"a", b"b"], [2]), "a int is where a picture"),
        (([b"a", b"b"], [b"x"]), "a bytes is where"),
        ((["a", b"b"], [True]), "holds text"),
        ({"a": 1}, "opcode"),
    ],
)
def test_other_values(tmp_path: Path, value: object, message: str) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=message):
        open_faces(tmp_path / "x.bin")


def test_too_large_or_missing(tmp_path: Path) -> None:
    with (tmp_path / "x.bin").open("wb") as file:
        file.truncate(5 << 30)  # takes no room on the disk
    with pytest.raises(DataError, match="is it a verification file"):
        open_bin(tmp_path / "x.bin")
    with pytest.raises(DataError, match="cannot read"):
        open_bin(tmp_path / "y.bin")


def test_a_broken_picture_is_left_out_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps(([picture(1), b"junk"], [True])))
    assert [s.key for s in open_faces(tmp_path / "x.bin").checked().skipped] == ["1"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=100))
def test_arbitrary_bytes_raise_nothing_else(tmp_path: Path, data: bytes) -> None:
    for suffix in (".bin", ".csv", ".lst"):
        (tmp_path / f"x{suffix}").write_bytes(data)
        with contextlib.suppress(DataError):
            open_faces(tmp_path / f"x{suffix}")


def test_eval_on_a_verification_file(tmp_path: Path) -> None:
    images, labels = crops(6, 4, seed=5)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(images), (2, 60))
    second[::2] = first[::2]
    pictures = [encode_image(images[i]) for pair in zip(first, second, strict=True) for i in pair]
    same = (labels[first] == labels[second]).tolist()
    (tmp_path / "drawn.bin").write_bytes(pickle.dumps((pictures, same), 2))
    model = write_bundle(tmp_path / "b.bundle")
    arguments = ["eval", str(model), "--data", str(tmp_path / "drawn.bin"), "--precision", "int8", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["protocol"] == "drawn" and facts["pairs"] == 60

    (tmp_path / "evil.bin").write_bytes(pickle.dumps(([Code(tmp_path / "ran")], [True])))
    result = CliRunner().invoke(app, ["eval", str(model), "--data", str(tmp_path / "evil.bin")])
    assert result.exit_code == 1
    assert "asks for code" in result.stderr and "nothing was run" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "ran").exists()


class TestTables:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("a/1.png", "a/2.png", "b/1.png"):
            write_image(tmp_path / "pictures" / name, np.full((112, 112, 3), len(name), np.uint8))
        return tmp_path

    def test_csv(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        rows = "\ufeffpath,note,identity,split\npictures/a/1.png,x,Al,train\npictures/b/1.png,,,val\n"
        rows += "pictures/c.png,,Cy,val\n"
        (folder / "list.csv").write_text(rows)
        faces = open_faces(folder / "list.csv")
        assert [(s.key, s.identity, s.split) for s in faces.samples] == [
            ("pictures/a/1", "Al", "train"),
            ("pictures/b/1", None, "val"),
        ]
        assert faces.read(0).shape == (112, 112, 3)
        assert [s.key for s in faces.skipped] == ["pictures/c.png"]
        assert "1 of 3 pictures" in caplog.text
        assert len(open_faces(folder / "list.csv", split="val")) == 1

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ("", "needs the columns path and identity; it has: none"),
            ("key,identity\n", "it labels shards, so give its folder"),
            ("path,identity\n", "lists no pictures"),
            ("path,identity\nx.png,1\n", "none of the 1 pictures"),
            ("path,identity\na.png,1\na.png,2\n", "lists 'a.png' twice"),
            ("path,identity\na.png\n", "line 2: a row needs"),
            ("path,identity\n,1\n", "line 2: a row needs"),
            ("path,identity\n" + "x" * 200_000 + ",1\n", "not a CSV file"),
            ('path,identity\n"a.png,1\n', "not a CSV file"),
        ],
    )
    def test_malformed_csv(self, tmp_path: Path, rows: str, message: str) -> None:
        (tmp_path / "list.csv").write_text(rows)
        with pytest.raises(DataError, match=message):
            open_faces(tmp_path / "list.csv")

    @pytest.mark.parametrize(
        "lines",
        [
            "5\t3.000000\tpictures/a/1.png\n6\t4\t0.5\tpictures/b/1.png\n",  # im2rec
            "1\tpictures/a/1.png\t3\n1\tpictures/b/1.png\t4\n",  # insightface
        ],
    )
    def test_lst(self, folder: Path, lines: str) -> None:
        (folder / "train.lst").write_text(lines)
        faces = open_faces(folder / "train.lst")
        assert [(s.key, s.identity) for s in faces.samples] == [("pictures/a/1", "3"), ("pictures/b/1", "4")]

    @pytest.mark.parametrize("lines", ["1\tx\n", "1\t\0\tx\n", "1\t" + "9" * 100_000, os.sep])
    def test_malformed_lst(self, tmp_path: Path, lines: str) -> None:
        (tmp_path / "train.lst").write_text(lines)
        with pytest.raises(DataError, match=r"line 1: expected"):
            open_faces(tmp_path / "train.lst")
