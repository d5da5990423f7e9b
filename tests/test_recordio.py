"""RecordIO against a writer that follows dmlc-core, and against damage."""

import contextlib
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeface.data import StoredFaces, open_faces
from edgeface.data.recordio import open_record
from edgeface.errors import DataError
from edgeface.images import encode_image

MAGIC = struct.pack("<I", 0xCED7230A)
ONCE_PER_FILE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def record(data: bytes) -> bytes:
    """As dmlc::RecordIOWriter::WriteRecord: cut at aligned magic numbers, which are left out."""
    words = [data[i : i + 4] for i in range(0, len(data), 4)]
    parts, part = [], b""
    for word in words:
        if word == MAGIC:
            parts.append(part)
            part = b""
        else:
            part += word
    parts.append(part)
    result = b""
    for number, part in enumerate(parts):
        flag = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
        result += MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + bytes(-len(part) % 4)
    return result


def item(label: float | tuple[float, ...], number: int, picture: bytes = b"") -> bytes:
    if isinstance(label, tuple):
        return struct.pack(f"<IfQQ{len(label)}f", len(label), 0, number, 0, *label) + picture
    return struct.pack("<IfQQ", 0, label, number, 0) + picture


def write(path: Path, items: dict[int, bytes], index: bool = True) -> Path:
    data, lines = b"", ""
    for key, content in items.items():
        lines += f"{key}\t{len(data)}\n"
        data += record(content)
    path.write_bytes(data)
    if index:
        path.with_suffix(".idx").write_text(lines)
    return path


def picture(value: int) -> bytes:
    return encode_image(np.full((112, 112, 3), value, np.uint8), ".png")


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """As insightface writes it: what there is, pictures by class, the range of each class."""
    items = {
        0: item((5.0, 8.0), 0),
        1: item(7.0, 1, picture(10)),
        2: item(7.0, 2, picture(20)),
        3: item((12.0, 0.5), 3, picture(30)),
        4: item(-1.0, 4, picture(40)),
        5: item((1.0, 3.0), 5),
        6: item((3.0, 4.0), 6),
        7: item((4.0, 4.0), 7),
    }
    return write(tmp_path / "train.rec", items)


@pytest.mark.parametrize("index", [True, False])
def test_faces_of_insightface(train: Path, index: bool, caplog: pytest.LogCaptureFixture) -> None:
    if not index:
        train.with_suffix(".idx").unlink()
    faces = open_faces(train)
    assert [(s.key, s.identity) for s in faces.samples] == [("1", "7"), ("2", "7"), ("3", "12"), ("4", None)]
    assert [faces.read(i)[0, 0, 0] for i in range(4)] == [10, 20, 30, 40]
    assert [s.key for s in faces.skipped] == ["7"]
    assert [r.getMessage() for r in caplog.records] == [f"{train} has 1 classes with no picture"]
    assert open_faces(train.parent).samples == faces.samples
    assert faces.select([2]).read(0)[0, 0, 0] == 30


def test_a_missing_line_of_the_index_is_told(train: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = train.with_suffix(".idx")
    index.write_text("".join(line for line in index.read_text().splitlines(True) if not line.startswith("2\t")))
    with caplog.at_level(logging.WARNING):
        assert len(open_faces(train)) == 3
    assert "says that it has 4 pictures; 3 were found" in caplog.text
    assert "leaves out records of" in caplog.text and "in 1 places" in caplog.text


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("0\t0\n1\t4\n", "no record at byte 4, where train.idx expects the record 1"),
        ("0\t0\n1\t99999999\n", "ends where train.idx expects the record 1"),
        ("0\t0\n1\t0\n", "lists the offset 0 twice"),
        ("0\t0\n0\t40\n", "two records of the key 0"),
        ("0\t-8\n", "expected KEY and OFFSET"),
        ("0\t" + "9" * 40 + "\n", "expected KEY and OFFSET"),
        ("0 0 0\n", "expected KEY and OFFSET"),
        ("\xff\n", "expected KEY and OFFSET"),
        ("9" * 100_000, "expected KEY and OFFSET"),
        ("", "is empty; delete it"),
        ("0\t0\n", "1 records and no picture"),
    ],
)
def test_an_index_that_lies(train: Path, index: str, message: str) -> None:
    train.with_suffix(".idx").write_text(index)
    with pytest.raises(DataError, match=message):
        open_faces(train)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\0" * 64, "no record at byte 0"),
        (MAGIC, "ends after 0 records"),
        (MAGIC + struct.pack("<I", (1 << 29) - 1) + b"x", "536,870,911 bytes should follow"),
        (MAGIC + struct.pack("<I", 3 << 29), "no record at byte 0"),
        (MAGIC + struct.pack("<I", 1 << 29), "ends after 0 records"),
        (MAGIC + struct.pack("<I", 1 << 29) + MAGIC + bytes(4), "no record at byte 8"),
        (record(b"short"), "too short for its header"),
        (record(struct.pack("<IfQQ", 0xFFFFFFFF, 0, 1, 0)), "promises 4294967295 labels"),
        (record(struct.pack("<IfQQ", 3, 0, 1, 0) + b"abcd"), "promises 3 labels"),
        (record(item(1, 1, b"x")) * 2, "two records of the key 1"),
    ],
)
def test_damaged_records(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "train.rec").write_bytes(data)
    with pytest.raises(DataError, match=message):
        open_record(tmp_path / "train.rec")


def test_two_records_in_a_folder(train: Path) -> None:
    write(train.with_name("val.rec"), {1: item(1, 1, picture(1))})
    with pytest.raises(DataError, match=r"2 .rec files; name one"):
        open_faces(train.parent)
    with pytest.raises(DataError, match="cannot read"):
        open_record(train.with_name("none.rec"))


CONTENT = st.lists(st.just(MAGIC) | st.binary(max_size=9), max_size=8).map(b"".join)


@ONCE_PER_FILE
@given(
    pictures=st.lists(
        st.tuples(st.integers(0, 1 << 23).map(float) | st.tuples(st.just(3.0), st.floats(width=32)), CONTENT),
        min_size=1,
        max_size=6,
    ),
    index=st.booleans(),
)
def test_what_is_written_is_read(
    tmp_path: Path, pictures: list[tuple[float | tuple[float, ...], bytes]], index: bool
) -> None:
    """Magic numbers within header and picture, in any place, come back."""
    (tmp_path / "a.idx").unlink(missing_ok=True)
    items = {key: item(label, key, b"P" + content) for key, (label, content) in enumerate(pictures)}
    faces = open_record(write(tmp_path / "a.rec", items, index))
    assert isinstance(faces, StoredFaces)
    assert [faces.encoded(i) for i in range(len(faces))] == [b"P" + content for _, content in pictures]
    labels = [label[0] if isinstance(label, tuple) else label for label, _ in pictures]
    assert [s.identity for s in faces.samples] == [str(int(label)) for label in labels]


def test_a_header_with_the_magic_number_in_it(tmp_path: Path) -> None:
    label = struct.unpack("<f", MAGIC)[0]  # a large negative number: no class
    faces = open_record(write(tmp_path / "a.rec", {0: item(label, 0, MAGIC + b"abc")}))
    assert isinstance(faces, StoredFaces)
    assert faces.encoded(0) == MAGIC + b"abc" and faces.samples[0].identity is None


@ONCE_PER_FILE
@given(share=st.floats(0, 1), place=st.integers(0, 10**6), value=st.integers(0, 255), index=st.booleans())
def test_cuts_and_damage_raise_nothing_else(tmp_path: Path, share: float, place: int, value: int, index: bool) -> None:
    items = {key: item(float(key), key, picture(key) + MAGIC) for key in range(4)}
    whole = bytearray(write(tmp_path / "a.rec", items, index).read_bytes())
    if not index:
        (tmp_path / "a.idx").unlink(missing_ok=True)
    cut = whole[: int(share * len(whole))]
    (tmp_path / "a.rec").write_bytes(cut)
    if index and len(cut) <= len(whole) - 4:  # else only padding is gone
        with pytest.raises(DataError):
            open_record(tmp_path / "a.rec")
    whole[place % len(whole)] = value
    (tmp_path / "a.rec").write_bytes(whole)
    with contextlib.suppress(DataError):
        open_record(tmp_path / "a.rec")


@ONCE_PER_FILE
@given(data=st.binary(max_size=200), index=st.binary(max_size=60) | st.none())
def test_arbitrary_bytes_raise_nothing_else(tmp_path: Path, data: bytes, index: bytes | None) -> None:
    (tmp_path / "a.idx").unlink(missing_ok=True)
    if index is not None:
        (tmp_path / "a.idx").write_bytes(index)
    for content in (data, MAGIC + data):
        (tmp_path / "a.rec").write_bytes(content)
        with contextlib.suppress(DataError):
            open_record(tmp_path / "a.rec")
