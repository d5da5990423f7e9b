"""What others wrote, or a crash left half, is refused with one line or left out; found by scripts/fuzz_parsers.py."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgeface.comparison.results import ResultFile
from edgeface.data import InMemoryFaces
from edgeface.data.detection import open_detection_set
from edgeface.data.teacher import read_targets, read_transform_arrays
from edgeface.errors import ConfigError, DataError, ExportError
from edgeface.export.resampling import Affine
from edgeface.files import parse_json
from edgeface.training.journal import cut_journal, read_journal

ROOT = Path(__file__).resolve().parents[1]
DEEP = "[" * 100_000


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000, "", "{", b"\xff", "nul"])
def test_whatever_is_wrong_with_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_numbers_and_texts_are_those_of_json():
    assert parse_json('{"a": [1, 0.5, null, "\\u00e4"]}') == parse_json(b'{"a": [1, 0.5, null, "\xc3\xa4"]}')


@pytest.mark.parametrize("broken", [b'{"step": 2', b"\xff\xfe", b"[1]", b"3", DEEP.encode()])
def test_a_journal_ends_at_a_line_that_is_not_whole(tmp_path, broken):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"other": 1}\n' + broken + b'\n{"step": 3}\n')
    assert read_journal(path) == [{"step": 1}, {"other": 1}]
    cut_journal(path, 5)
    assert path.read_bytes() == b'{"step": 1}\n'


@pytest.mark.parametrize("line", [{"key": "a", "value": {}}, {"key": "a", "kind": "x", "value": {"y": 1}}])
def test_a_broken_result_is_named(tmp_path, line):
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError, match=r"results\.jsonl holds a broken result"):
        ResultFile(tmp_path, resume=True).measured(["a"])


@pytest.mark.parametrize("line", [{"value": 1}, {"key": ["a"]}, {"key": "a"}, {"key": "b", "value": 1}])
def test_a_result_of_something_else_is_passed_over(tmp_path, line):
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    assert ResultFile(tmp_path, resume=True).measured(["a"]) == {}


@pytest.fixture
def detect(tmp_path):
    with tarfile.open(tmp_path / "detect-train.tar", "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    return tmp_path


@pytest.mark.parametrize(
    "line", [b"\xff", b'{"file": "a.jpg", "split": "train", "faces": [1]}', DEEP.encode(), b"7", b'{"split": "train"}']
)
def test_labels_that_are_none(detect, line):
    (detect / "detect.jsonl").write_bytes(b'{"file": "a.jpg", "split": "train"}\n' + line + b"\n")
    with pytest.raises(DataError, match=r"line 2 of .* is not a labelled picture|cannot read .*detect\.jsonl") as error:
        open_detection_set(detect, "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"\0" * 600, b"x" * 600, b"\x1f\x8b\x08" + b"\0" * 600])
def test_an_archive_of_pictures_that_is_none(detect, data):
    (detect / "detect.jsonl").write_text('{"file": "a.jpg", "split": "train"}\n')
    (detect / "detect-train.tar").write_bytes(data)
    with pytest.raises(DataError) as error:
        open_detection_set(detect, "train")
    assert "\n" not in str(error.value)


HEADERS = [
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, ",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999999999), }",
    b"((((((((((((((((",
    b"'\0",
]


@pytest.mark.parametrize("header", HEADERS)
def test_arrays_whose_headers_are_none(tmp_path, header):
    """NumPy reads a header as Python, and so raises what Python's tokenizer raises."""
    padded = header + b" " * (118 - len(header)) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + b"\0" * 47
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(ExportError, match=r"a\.npy is not a \.npy file of a 2 x 3 matrix") as error:
        Affine.read(tmp_path / "a.npy")
    assert "\n" not in str(error.value)
    np.savez(tmp_path / "t.npz", mean=np.zeros(2), basis=np.eye(2), scale=np.ones(2))
    broken = (tmp_path / "t.npz").read_bytes().replace(b"'shape': (2, 2)", b"'shape': (2, ((")
    (tmp_path / "t.npz").write_bytes(broken)
    with pytest.raises(DataError, match=r"is not a \.npz file with"):
        read_transform_arrays(tmp_path / "t.npz")
    with pytest.raises(DataError, match=r"is not a \.npz file with"):
        read_targets(tmp_path / "t.npz", InMemoryFaces(np.zeros((1, 112, 112, 3), np.uint8), np.zeros(1, np.int64)))


def test_a_short_fuzzing_finds_nothing():
    names = ["onnx", "scores", "record", "bin"]
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "fuzz_parsers.py"), "--count", "4", "--seed", "7", "--only", *names],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    counts = {line.split()[1]: int(line.split()[0]) for line in result.stdout.splitlines()}
    assert counts["read"] + counts["refused"] == 160 and counts["refused"] > 40
