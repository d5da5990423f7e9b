"""Turning, mirroring and cutting against the slow way: the whole picture with NumPy, then the crop."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError, ImageError
from edgeface.runtime.cameras.frames import FrameSequence
from edgeface.runtime.cameras.view import View, Viewed, to_rgb


@st.composite
def views(draw: st.DrawFn) -> tuple[int, int, View]:
    width, height = draw(st.integers(20, 60)), draw(st.integers(20, 60))
    turn = draw(st.sampled_from([0, 90, 180, 270]))
    wide, high = (width, height) if turn in (0, 180) else (height, width)
    crop = None
    if draw(st.booleans()):
        crop_wh = draw(st.integers(16, wide)), draw(st.integers(16, high))
        crop = (draw(st.integers(0, wide - crop_wh[0])), draw(st.integers(0, high - crop_wh[1])), *crop_wh)
    return width, height, View(turn, draw(st.booleans()), crop)


@given(views())
def test_a_view_is_what_turning_mirroring_and_cutting_the_whole_picture_gives(drawn: tuple[int, int, View]) -> None:
    width, height, view = drawn
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    before = image.copy()
    slow = np.rot90(image, -view.rotate_deg // 90)
    if view.mirror:
        slow = slow[:, ::-1]
    if view.crop_xywh is not None:
        left, top, wide, high = view.crop_xywh
        slow = slow[top : top + high, left : left + wide]
    seen = view.apply(image)
    np.testing.assert_array_equal(seen, slow)
    assert seen.flags.c_contiguous
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rotate_deg": 45}, "turned by 45 degrees; use 0, 90"),
        ({"crop_xywh": (0, 0, 8, 99)}, "crop 0,0,8,99 cannot be used"),
        ({"crop_xywh": (-1, 0, 99, 99)}, "crop -1,0,99,99 cannot be used"),
    ],
)
def test_views_that_cannot_be_used_say_so(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        View(**wrong)


def test_a_picture_that_becomes_too_small_is_a_damaged_frame_and_not_the_end() -> None:
    images = [np.zeros((side, side, 3), np.uint8) for side in (64, 20, 64)]
    with Viewed(FrameSequence(images, fps=5.0), View(crop_xywh=(10, 10, 30, 30))) as source:
        assert source.fps == 5.0
        first = source.read()
        with pytest.raises(ImageError, match="crop 10,10,30,30 reaches out of the picture of 20 x 20 pixels"):
            source.read()
        third = source.read()
    assert first is not None
    assert third is not None
    assert (first.image.shape, third.time_s) == ((30, 30, 3), 0.4)


def test_what_opencv_gives_becomes_rgb() -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(to_rgb(bgr), bgr[:, :, ::-1])
    np.testing.assert_array_equal(to_rgb(cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA)), bgr[:, :, ::-1])
    for grey in (bgr[:, :, 0].copy(), bgr[:, :, :1].copy()):
        np.testing.assert_array_equal(to_rgb(grey), np.repeat(bgr[:, :, :1], 3, axis=2))
    for bad in (None, bgr.astype(np.float32), bgr[:, :, :2].copy(), bgr[:3], bgr.astype(np.uint16)):
        with pytest.raises(ImageError, match="a frame is no picture"):
            to_rgb(bad)
