"""JPEG pictures out of bytes that come in any pieces, with anything between them."""

import itertools
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ImageError
from edgeface.runtime.cameras import jpeg_stream
from edgeface.runtime.cameras.jpeg_stream import JpegSplitter, NoPictureError


def jpeg(seed: int, size: int = 40, *options: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return cv2.imencode(".jpg", noise, list(options))[1].tobytes()


def with_thumbnail(picture: bytes, thumbnail: bytes) -> bytes:
    """As cameras do: a small JPEG inside of the large one's header."""
    exif = b"Exif\0\0" + thumbnail
    return picture[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + picture[2:]


PICTURES = [
    jpeg(0),
    jpeg(1, 17, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    jpeg(2, 33, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    with_thumbnail(jpeg(3), jpeg(4, 16)),
    jpeg(5, 24, cv2.IMWRITE_JPEG_QUALITY, 5),
]


def split(data: bytes, cuts: list[int]) -> list[bytes | str]:
    """What comes out when the data arrives in these pieces; "damage" for a picture that is not whole."""
    splitter, found = JpegSplitter(), list[bytes | str]()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        splitter.feed(data[start:end])
        while True:
            try:
                picture = splitter.next()
            except ImageError:
                found.append("damage")
                continue
            if picture is None:
                break
            found.append(picture)
    return found


# What is between pictures: boundaries good and bad, lengths that lie, padding; but not the beginning of a picture.
BETWEEN = st.sampled_from(
    [b"", b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 7\r\n\r\n", b"\0" * 9, b"--\n\n", b"\xff\xff"]
) | st.binary(max_size=30).filter(lambda data: b"\xff\xd8" not in data and not data.endswith(b"\xff"))


@given(
    parts=st.lists(st.tuples(BETWEEN, st.sampled_from(PICTURES)), max_size=4),
    cuts=st.lists(st.integers(0, 100_000), max_size=12),
)
def test_every_picture_comes_out_whole_however_it_arrives(parts: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data = b"".join(between + picture for between, picture in parts)
    assert split(data, cuts) == [picture for _, picture in parts]


def test_byte_by_byte_is_the_same() -> None:
    data = b"--x\r\n".join(PICTURES)
    assert split(data, list(range(len(data)))) == PICTURES


@pytest.mark.parametrize("keep", [3, 30, 300, 1000])
def test_a_picture_that_is_cut_off_is_damage_and_the_next_one_whole(keep: int) -> None:
    found = split(PICTURES[0][:keep] + b"\r\n--frame\r\n\r\n" + PICTURES[2] + PICTURES[0], [])
    assert found[-1] == PICTURES[0]
    assert "damage" in found
    assert PICTURES[0][:keep] not in found


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=5))
def test_any_bytes_are_pictures_damage_or_nothing(data: bytes, cuts: list[int]) -> None:
    for picture in split(b"\xff\xd8\xff" + data, cuts):
        assert picture == "damage" or (isinstance(picture, bytes) and picture[:2] + picture[-2:] == b"\xff\xd8\xff\xd9")


def test_what_never_begins_and_what_never_ends_is_told_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    splitter = JpegSplitter()
    with pytest.raises(NoPictureError, match="in which no JPEG picture begins"):
        for _ in range(100):
            splitter.feed(b"X-Header: endless\r\n" * 500)
            splitter.next()
    assert len(splitter._buffer) < 10
    monkeypatch.setattr(jpeg_stream, "MAX_PICTURE", 50_000)
    splitter = JpegSplitter()
    splitter.feed(PICTURES[0][:-2])
    with pytest.raises(NoPictureError, match="more than 50,000 bytes"):
        for _ in range(100):
            splitter.feed(b"\0" * 1000)
            splitter.next()
