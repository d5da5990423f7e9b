"""Tar shards: layouts, labels, odd members and damage."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeface.data import UNKNOWN, open_faces
from edgeface.errors import DataError
from edgeface.images import encode_image


def picture(value: int) -> bytes:
    return encode_image(np.full((112, 112, 3), value, np.uint8), ".png")


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_folder_of_a_member_is_its_identity(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", {"Bo/Bo_0001.png": picture(7), "./Al/Al_0001.png": picture(9)})
    faces = open_faces(shard)
    assert [(s.key, s.identity) for s in faces.samples] == [("Bo/Bo_0001", "Bo"), ("Al/Al_0001", "Al")]
    assert faces.labels.tolist() == [1, 0]
    assert faces.read(0)[5, 5].tolist() == [7, 7, 7]
    assert faces.read(1)[5, 5].tolist() == [9, 9, 9]


def test_labels_in_the_shard(tmp_path: Path) -> None:
    members = {
        "a.png": picture(1),
        "a.cls": b"12\n",
        "b.json": json.dumps({"identity": "Bo", "split": "val"}).encode(),
        "b.png": picture(2),
        "c.png": picture(3),
    }
    faces = open_faces(write_tar(tmp_path / "a.tar", members))
    assert [(s.identity, s.split) for s in faces.samples] == [("12", ""), ("Bo", "val"), (None, "")]
    assert faces.labels.tolist() == [0, 1, UNKNOWN]


def test_table_beside_the_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "d" / "1.tar", {"b.png": picture(2)})
    write_tar(tmp_path / "d" / "0.tar", {"a.png": picture(1), "x/c.png": picture(3)})
    (tmp_path / "d" / "t.csv").write_text("key,note,identity,split\na,,Al,train\nb,,,train\nz,,Al,val\n")
    faces = open_faces(tmp_path / "d")
    assert [(s.key, s.identity, s.split) for s in faces.samples] == [
        ("a", "Al", "train"),
        ("x/c", None, ""),  # with a table, a folder is not taken for an identity
        ("b", None, "train"),
    ]
    assert [s.key for s in faces.skipped] == ["z"]
    assert len(open_faces(tmp_path / "d" / "0.*tar")) == 2
    assert open_faces(tmp_path / "d" / "1.tar").samples[0].split == "train"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,identity\na,Al\n", "needs the columns key and identity; it has: name, identity"),
        ("key,identity\na,Al\na,Bo\n", "line 3: the key 'a' occurs twice"),
        ("", "it has: none"),
        (b"key,identity\n\xff\xfe,1\n", "not a CSV file in UTF-8"),
    ],
)
def test_malformed_table(tmp_path: Path, table: str | bytes, message: str) -> None:
    write_tar(tmp_path / "d" / "0.tar", {"a.png": picture(1)})
    (tmp_path / "d" / "t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DataError, match=message):
        open_faces(tmp_path / "d")


def test_two_tables_are_ambiguous(tmp_path: Path) -> None:
    write_tar(tmp_path / "d" / "0.tar", {"a.png": picture(1)})
    for name in ("t.csv", "u.csv"):
        (tmp_path / "d" / name).write_text("key,identity\n")
    with pytest.raises(DataError, match="2 CSV files"):
        open_faces(tmp_path / "d")


def test_a_key_may_occur_once(tmp_path: Path) -> None:
    for name in ("0", "1"):
        write_tar(tmp_path / "d" / f"{name}.tar", {"a.png": picture(1)})
    with pytest.raises(DataError, match=r"the key 'a' is in .*0.tar and again in .*1.tar"):
        open_faces(tmp_path / "d")
    with pytest.raises(DataError, match="two pictures of the key 'a'"):
        open_faces(write_tar(tmp_path / "e.tar", {"a.png": picture(1), "a.jpg": picture(1)}))


def test_odd_members_are_ignored(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("f.png", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("._resource.png", "../../up.png", "read.me", "d.tar/"):
            info = tarfile.TarInfo(name)
            info.size = len(picture(1))
            tar.addfile(info, io.BytesIO(picture(1)))
    faces = open_faces(tmp_path / "a.tar")
    assert [s.key for s in faces.samples] == ["../../up"]  # a name only: nothing is unpacked
    assert faces.read(0).shape == (112, 112, 3)


@pytest.mark.parametrize("label", [{"a.cls": b"seven"}, {"a.json": b"[1]"}, {"a.json": b"{"}, {"a.cls": b"\xff"}])
def test_unreadable_label(tmp_path: Path, label: dict[str, bytes]) -> None:
    shard = write_tar(tmp_path / "a.tar", {"a.png": picture(1), **label})
    with pytest.raises(DataError, match="is not a label"):
        open_faces(shard)


def test_shard_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures in"):
        open_faces(write_tar(tmp_path / "a.tar", {"a.txt": b"text"}))


def test_compressed_or_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b" + bytes(range(256)) * 8)
    with pytest.raises(DataError, match="not an uncompressed tar file"):
        open_faces(tmp_path / "a.tar")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.0, 1.0))
def test_every_cut_is_noticed(tmp_path: Path, share: float) -> None:
    """A shard cut anywhere before its end-of-archive mark is refused, with its name."""
    whole = write_tar(tmp_path / "whole.tar", {f"{i}.png": picture(i) for i in range(5)})
    data = whole.read_bytes().rstrip(b"\0")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(data[: int(share * (len(data) - 1))])
    with pytest.raises(DataError, match=r"cut.tar is (cut short after [1-5] pictures|not an uncompressed tar)"):
        open_faces(cut)


def test_cut_at_the_border_of_a_member_is_noticed(tmp_path: Path) -> None:
    """Tar readers take a file without its zero blocks for whole; half a download would go unnoticed."""
    whole = write_tar(tmp_path / "whole.tar", {f"{i}.png": picture(i) for i in range(5)})
    with tarfile.open(whole) as tar:
        third = tar.getmembers()[3].offset
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:third])
    with pytest.raises(DataError, match=r"cut short after 3 pictures \(last: 2.png\)"):
        open_faces(tmp_path / "cut.tar")
