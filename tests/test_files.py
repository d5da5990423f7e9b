"""Atomic writing: the old content or the new, never half."""

import os

import numpy as np
import pytest

from edgeface.errors import ImageError
from edgeface.files import new_folder, sha256, write_bytes
from edgeface.images import MAX_PIXELS, decode_image, encode_image, read_image, write_image


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "bundle"
    with new_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(KeyError), new_folder(target) as folder:
        (folder / "a").write_text("half")
        raise KeyError
    assert (target / "a").read_text() == "old"
    with new_folder(target) as folder:
        (folder / "b").write_text("new")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_modes_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"x")
        with new_folder(tmp_path / "f"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o750


def test_sha256_known_answer():
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_png_round_trip_keeps_the_channel_order(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize(("data", "message"), [(b"", "empty"), (b"not a picture", "not a readable picture")])
def test_broken_pictures_are_named(tmp_path, data, message):
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=f"x.jpg.*{message}"):
        read_image(tmp_path / "x.jpg")


def test_missing_picture(tmp_path):
    with pytest.raises(ImageError, match="not found"):
        read_image(tmp_path / "none.jpg")


def test_a_truncated_jpeg_does_not_crash():
    data = encode_image(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), ".jpg")
    for cut in (10, 100, len(data) // 2):
        try:
            assert decode_image(data[:cut]).shape == (64, 64, 3)
        except ImageError as error:
            assert "not a readable picture" in str(error)


def test_a_picture_of_absurd_size_is_refused():
    side = int(MAX_PIXELS**0.5) + 8
    with pytest.raises(ImageError, match="shrink it first"):
        decode_image(encode_image(np.zeros((side, side, 3), np.uint8), ".png"))
