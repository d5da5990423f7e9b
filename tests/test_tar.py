"""Tar files: read as Python's own reader reads them, and hostile ones refused in one line and bounded work."""

import io
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeface.data.shards import open_shards
from edgeface.data.tar import MAX_HEADER, Member, TarError, members
from edgeface.errors import DataError
from tests.test_shards import picture

NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=160)
FILES = st.lists(st.tuples(NAMES, st.integers(0, 1500)), max_size=6)


def write(path: Path, files: list[tuple[str, int]], form: int) -> None:
    with tarfile.open(path, "w", format=form) as tar:
        for number, (name, size) in enumerate(files):
            info = tarfile.TarInfo(name)
            info.size = size
            info.mtime = number + 0.5  # pax writes that into a header of its own
            tar.addfile(info, io.BytesIO(bytes([number % 256]) * size))
            link = tarfile.TarInfo(f"{name[:30]}.link")
            link.type, link.linkname = tarfile.SYMTYPE, name
            tar.addfile(link)


def theirs(path: Path) -> list[Member]:
    with tarfile.open(path, "r:") as tar:
        return [
            Member(m.name, m.offset_data, m.size, m.isreg() and m.sparse is None)
            for m in tar
            if m.isreg() or m.name.endswith(".link")
        ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(FILES, st.sampled_from((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)))
def test_it_reads_as_pythons_own_reader_does(tmp_path: Path, files: list[tuple[str, int]], form: int) -> None:
    path = tmp_path / "a.tar"
    try:
        write(path, files, form)
    except ValueError:  # too long a name for the oldest format
        return
    expected = theirs(path)
    found = list(members(path))
    # Python takes the slashes from the end of a name.
    assert [(m.name.rstrip("/"), m.size, m.is_plain) for m in found if m.is_plain] == [
        (m.name.rstrip("/"), m.size, m.is_plain) for m in expected if m.is_plain
    ]
    assert [m.offset for m in found if m.is_plain] == [m.offset for m in expected if m.is_plain]
    assert sum(not m.is_plain for m in found) == len(files)


def block(name: bytes = b"a.png", size: bytes = b"00000000000", kind: bytes = b"0", data: bytes = b"") -> bytes:
    header = bytearray(512)
    header[: len(name)] = name
    header[124 : 124 + len(size)] = size
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    text = b"".join(records)
    return block(b"pax", b"%011o" % len(text), kind, text)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length, key, value)


END = bytes(1024)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no end-of-archive mark"),
        (b"x" * 600, "holds .* for a number|is none"),
        (block() + b"x" * 30, "ends within the header at byte 512"),
        (block(size=b"77777777777") + END, "goes on after the end"),
        (block(size=b"-0000000001") + END, "for a number"),
        (block(size=b"1_0") + END, "for a number"),
        (block(size=b"\x80" + b"\xff" * 11) + END, "goes on after the end"),
        (block(size=b"\xff" * 12) + END, "for a number"),
        (pax(record(b"size", b"-5")) + block() + END, "has b'-5' for a size"),
        (pax(record(b"size", b"1e3")) + block() + END, "for a size"),
        (pax(record(b"size", b"9" * 5000)) + block() + END, "for a size"),
        (pax(record(b"size", b"99999999999")) + block() + END, "goes on after the end"),
        (pax(b"99 path=a\n") + block() + END, "the extended header at byte 0 is broken"),
        (pax(b"-1 path=a\n") + block() + END, "is broken"),
        (pax(b"x path=a\n") + block() + END, "is broken"),
        (pax(b"0 path=a\n") + block() + END, "is broken"),
        (pax(b"99999999999999999999 a=b\n") + block() + END, "is broken"),
        (pax(record(b"path", b"a")) + END, "belongs to no file"),
        (block(b"n", b"%011o" % (MAX_HEADER + 1), b"L") + END, f"more than {MAX_HEADER}"),
        (block(b"n", b"00000001000", b"L"), "ends within the extended header"),
        (block(kind=b"S")[:482] + b"\1" + block(kind=b"S")[483:], "is none"),
    ],
)
def test_what_no_tar_file_says_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(TarError, match=message) as caught:
        list(members(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"a\.tar is (not an uncompressed tar file|cut short)"):
        open_shards("a", [path], None)


def test_files_with_holes_and_odd_kinds_are_told_as_such(tmp_path: Path) -> None:
    sparse = bytearray(block(b"s.png", kind=b"S"))
    sparse[482] = 1  # the list of holes goes on in another block
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    content = b"".join(
        (
            bytes(sparse) + bytes(512),
            pax(record(b"GNU.sparse.major", b"1"), record(b"path", b"GNUSparseFile.0/t.png")) + block(),
            block(b"d/", kind=b"\0"),
            block(b"dev", kind=b"3", size=b"00000077777"),  # a device has no data, whatever it says
            pax(record(b"comment", b"=" * 90_000), kind=b"g"),
            pax(*[record(b"k%d" % i, b"v") for i in range(20_000)]) + block(b"last.png"),
        )
    )
    path = tmp_path / "a.tar"
    path.write_bytes(content + END)
    assert [(m.name, m.is_plain) for m in members(path)] == [
        ("s.png", False),
        ("GNUSparseFile.0/t.png", False),
        ("d/", False),
        ("dev", False),
        ("last.png", True),
    ]


def test_names_that_are_no_text_come_through(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(block(b"\xff\xfe.png") + pax(record(b"path", b"\xc3\xa9\xff.png")) + block() + END)
    assert [m.name for m in members(path)] == ["\udcff\udcfe.png", "é\udcff.png"]


def test_changed_bytes_are_read_or_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.tar"
    with tarfile.open(whole, "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(3):
            for name, data in (
                (f"{'n' * 120}{number}é.png", picture(number)),
                (f"{number}.json", b'{"identity": "a"}'),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    data = whole.read_bytes().rstrip(b"\0") + END
    refused = 0
    for seed in range(200):
        pick, changed = random.Random(seed), bytearray(data)
        for _ in range(pick.choice((1, 1, 3, 20))):
            place = (
                pick.randrange(len(changed)) if pick.random() < 0.3 else 512 * pick.randrange(4) + pick.randrange(512)
            )
            changed[place] = pick.randrange(256)
        header = 512 * pick.randrange(len(changed) // 512)  # a sum that fits, so that more is looked at
        if pick.random() < 0.7:
            changed[header + 148 : header + 156] = b" " * 8
            changed[header + 148 : header + 156] = b"%06o\0 " % sum(changed[header : header + 512])
        path = tmp_path / "a.tar"
        path.write_bytes(changed)
        try:
            faces = open_shards("a", [path], None)
            assert len(faces) <= 3
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50
