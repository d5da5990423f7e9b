"""Sizes from headers against what OpenCV decodes, and pictures that lie or are cut."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.errors import ImageError, SourceError
from edgeface.image_headers import picture_size
from edgeface.images import MAX_BYTES, decode_image, read_image
from edgeface.runtime.cameras.sources import find_source

FORMATS = {
    "jpeg": (".jpg", []),
    "progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "png": (".png", []),
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "lossless webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    "bmp": (".bmp", []),
    "tiff": (".tif", []),
}


def encoded(form: str, width: int, height: int) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    suffix, options = FORMATS[form]
    return bytes(cv2.imencode(suffix, image, options)[1])


def png_of(width: int, height: int) -> bytes:
    """A well-formed PNG of a few bytes that decodes to width * height pixels, were it not refused."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=30)
@given(width=st.integers(1, 100), height=st.integers(1, 100))
def test_a_header_says_what_the_decoder_gives(form: str, width: int, height: int) -> None:
    data = encoded(form, width, height)
    assert picture_size(data) == (width, height)
    assert decode_image(data).shape == (height, width, 3)


def test_headers_that_opencv_does_not_write() -> None:
    # An extended WebP (with an alpha channel), big-endian TIFF, BigTIFF, and bitmaps of OS/2 and from the top down.
    canvas = (1000).to_bytes(3, "little") + (799).to_bytes(3, "little")
    assert picture_size(b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + canvas) == (1001, 800)
    wide, high = struct.pack(">HHIHH", 256, 3, 1, 1001, 0), struct.pack(">HHII", 257, 4, 1, 800)
    assert picture_size(b"MM\0*" + struct.pack(">IH", 8, 2) + wide + high) == (1001, 800)
    big = struct.pack("<HHQQ", 256, 4, 1, 1001) + struct.pack("<HHQQ", 257, 16, 1, 800)
    assert picture_size(b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2) + big) == (1001, 800)
    assert picture_size(b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 1001, 800, 1, 24)) == (1001, 800)
    assert picture_size(b"BM" + bytes(12) + struct.pack("<Iii", 40, 1001, -800)) == (1001, 800)
    # A JPEG whose thumbnail has a frame of its own, with rubbish and padding between the segments.
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 800, 1001, 3)
    thumbnail = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 8, 10, 3)
    exif = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    assert picture_size(b"\xff\xd8" + exif + b"\0\0\xff\xff" + frame[1:]) == (1001, 800)


@given(st.binary(max_size=64), st.sampled_from(sorted(FORMATS)), st.integers(0, 200), st.integers(0, 60))
def test_rubbish_and_cut_headers_never_crash(rubbish: bytes, form: str, keep: int, at: int) -> None:
    data = encoded(form, 40, 30)
    for broken in (rubbish, data[:keep], data[:at] + rubbish + data[at + len(rubbish) :]):
        size_wh = picture_size(broken)
        assert size_wh is None or min(size_wh) > 0


@pytest.mark.parametrize("size_wh", [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (100_000_001, 1)])
def test_a_bomb_is_refused_by_its_header(
    size_wh: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    data = png_of(*size_wh)
    assert len(data) < 100
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "bomb.png")
    assert f"bomb.png has {size_wh[0]} x {size_wh[1]} pixels, more than 100,000,000; shrink it first" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    with find_source(str(tmp_path / "bomb.png")).open() as source, pytest.raises(SourceError, match="shrink it first"):
        source.read()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_picture_that_is_cut_off_is_refused(form: str, share: float) -> None:
    data = encoded(form, 64, 48)
    with pytest.raises(ImageError, match=r"a\.x is not a readable picture \(\d+ bytes\)"):
        decode_image(data[: int(len(data) * share)], "a.x")


def test_other_formats_and_files_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not a readable picture"):
        decode_image(b"PX 2 2 255 " + bytes(12))
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: it takes no room
    with pytest.raises(ImageError, match=r"huge\.jpg has 1,073,741,825 bytes, more than"):
        read_image(tmp_path / "huge.jpg")
