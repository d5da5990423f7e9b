"""The battery of conditions: each change against a slow and obvious version or a known answer."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.conditions.battery import BATTERY, CLEAN, GLASSES, MASKS, degrade
from edgeface.conditions.covers import wear_glasses, wear_mask
from edgeface.conditions.drawing import MISPLACED, SURROUNDINGS, WORN, worsen
from edgeface.conditions.framing import cut, turned
from edgeface.conditions.light import READ_NOISE, backlight, dark, grey, infrared
from edgeface.conditions.sharpness import gauss, jpeg, motion, small
from edgeface.errors import UnknownNameError
from edgeface.faces import TEMPLATE

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def face():
    """A picture with detail everywhere, colours and no symmetry."""
    coarse = np.random.default_rng(5).uniform(40, 220, (14, 14, 3)).astype(np.float32)
    return np.rint(cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC).clip(0, 255)).astype(np.uint8)


def differs(a, b, x, y, reach=3):
    """Return by how many grey values two pictures differ around a place."""
    x, y = round(float(x)), round(float(y))
    patch = (slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1))
    return float(np.abs(a[patch].astype(int) - b[patch]).mean())


@pytest.mark.parametrize("name", BATTERY)
def test_a_condition_is_the_same_each_time_and_leaves_the_face_alone(name, face):
    before = face.copy()
    first = degrade(face, name, "a", 1)
    assert first.shape == (112, 112, 3) and first.dtype == np.uint8
    assert np.array_equal(first, degrade(face, name, "a", 1))
    assert np.array_equal(face, before)
    assert np.array_equal(first, face) == (name == CLEAN)


@pytest.mark.parametrize("name", ["motion-9", "dark-20", "mask", "sunglasses", "cut-left", "turned-180", "backlight"])
def test_another_key_or_seed_is_another_draw(name, face):
    first = degrade(face, name, "a", 1)
    assert not np.array_equal(first, degrade(face, name, "b", 1))
    assert not np.array_equal(first, degrade(face, name, "a", 2))


def test_an_unknown_condition_is_named():
    with pytest.raises(UnknownNameError, match="mask"):
        degrade(np.zeros((112, 112, 3), np.uint8), "masks")


def test_motion_along_x_is_the_mean_of_moved_pictures(face):
    padded = np.pad(face.astype(float), ((0, 0), (4, 4), (0, 0)), mode="edge")
    # A line of 9 px reaches from -4 to 4; its two ends count half, as only half of those pixels is covered.
    weights = np.array([0.5, *[1.0] * 7, 0.5])
    slow = sum(w * padded[:, i : i + 112] for i, w in enumerate(weights)) / weights.sum()
    assert np.abs(motion(face, 9, 0.0) - slow).max() <= 1.5


@given(length_px=st.floats(1, 30), angle_rad=st.floats(-10, 10))
@settings(max_examples=25, deadline=None)
def test_motion_keeps_flat_pictures_and_ignores_half_turns(length_px, angle_rad):
    flat = np.full((40, 40, 3), 77, np.uint8)
    assert np.array_equal(motion(flat, length_px, angle_rad), flat)
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 255
    there, back = motion(dot, length_px, angle_rad), motion(dot, length_px, angle_rad + math.pi)
    assert np.abs(there.astype(int) - back).max() <= 1
    rows, columns = np.nonzero(there[..., 0])
    assert np.hypot(rows - 20, columns - 20).max() <= (length_px - 1) / 2 + math.sqrt(2)


def test_small_equals_block_means_enlarged(face):
    blocks = face.reshape(28, 4, 28, 4, 3).mean(axis=(1, 3))
    slow = cv2.resize(np.rint(blocks).astype(np.uint8), (112, 112), interpolation=cv2.INTER_LINEAR)
    assert np.abs(small(face, 28).astype(int) - slow).max() <= 1


def test_gauss_has_the_spread_that_it_says():
    dot = np.zeros((112, 112, 3), np.uint8)
    dot[46:67, 46:67] = 255
    profile = gauss(dot, 3.0)[:, :, 0].astype(float).sum(axis=0)
    places = np.arange(112)
    centre = (profile * places).sum() / profile.sum()
    variance = (profile * (places - centre) ** 2).sum() / profile.sum()
    assert variance == pytest.approx(9.0 + (21**2 - 1) / 12, rel=0.03)


def test_dark_has_the_mean_and_the_noise_that_it_says():
    flat = np.full((112, 112, 3), 160, np.uint8)
    night = dark(flat, 40, 1.0, np.random.default_rng(0)).astype(float)
    assert night.mean() == pytest.approx(40, abs=0.3)
    assert night.var() == pytest.approx(40 * 1.0 + READ_NOISE**2 + 1 / 12, rel=0.05)
    dim = np.full((112, 112, 3), 12, np.uint8)
    assert dark(dim, 40, 0.1, np.random.default_rng(0)).mean() == pytest.approx(12, abs=0.5)


def test_light_from_behind_darkens_the_face_and_not_what_is_behind(face):
    lit = backlight(face, 35, 40, np.random.default_rng(1))
    assert lit[45:85, 40:72].mean() < 80 < 200 < lit[:6, :6].mean()


def test_grey_and_infrared_have_no_colour(face):
    for picture in (grey(face), infrared(face, 0.6, 0.8, np.random.default_rng(1))):
        assert np.array_equal(picture[..., 0], picture[..., 1]) and np.array_equal(picture[..., 1], picture[..., 2])
    weighted = face.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(grey(face)[..., 0] - weighted).max() <= 1


def test_jpeg_is_what_opencv_writes(face):
    data = cv2.imencode(".jpg", face[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 8])[1]
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert picture is not None and np.array_equal(jpeg(face, 8), picture[:, :, ::-1])


@pytest.mark.parametrize("edge", ["left", "right", "above", "below"])
def test_a_straight_cut_repeats_the_last_line(edge, face):
    missing = 45  # pixels
    view = {"left": face[:, ::-1], "right": face, "above": face[::-1].swapaxes(0, 1), "below": face.swapaxes(0, 1)}
    slow = view[edge].copy()
    slow[:, 112 - missing :] = slow[:, 111 - missing : 112 - missing]
    back = {"left": slow[:, ::-1], "right": slow, "above": slow.swapaxes(0, 1)[::-1], "below": slow.swapaxes(0, 1)}
    # The edge lies between two pixels, half a pixel beyond the last one that is there.
    seen = cut(face, edge, (missing + 0.5) / 112, 0.0)
    assert np.abs(seen.astype(int) - back[edge]).max() <= 1


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turning_moves_the_eyes(quarters):
    marked = np.zeros((112, 112, 3), np.uint8)
    for x, y in TEMPLATE[:2]:
        cv2.circle(marked, (round(x), round(y)), 6, (255, 255, 255), -1)
    rows, columns = np.nonzero(turned(marked, quarters, np.random.default_rng(2))[..., 0])
    before_x, before_y = TEMPLATE[:2].mean(axis=0) - 55.5
    for _ in range(quarters):  # clockwise in a picture whose y points down
        before_x, before_y = -before_y, before_x
    # Moved by up to 8 px any way and, upside down, by up to 32 px down.
    assert abs(columns.mean() - 55.5 - before_x) <= 10
    assert -10 <= rows.mean() - 55.5 - before_y <= (42 if quarters == 2 else 10)


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_covers_the_mouth_and_no_eye(mask, face):
    worn = wear_mask(face, mask, np.random.default_rng(3))
    for x, y in TEMPLATE[3:]:
        assert differs(worn, face, x, y) > 10
    for x, y in TEMPLATE[:2]:
        assert differs(worn, face, x, y) < 2  # a shadow at most


@pytest.mark.parametrize("glasses", GLASSES)
def test_dark_glasses_cover_the_eyes_and_no_mouth(glasses, face):
    worn = wear_glasses(face, glasses, np.random.default_rng(3))
    for x, y in TEMPLATE[:2]:
        assert differs(worn, face, x, y) > 10
        assert worn[round(y), round(x)].mean() < 110
    for x, y in TEMPLATE[3:]:
        assert differs(worn, face, x, y) == 0


def test_covers_follow_the_landmarks(face):
    moved = TEMPLATE @ np.array([[0.5, 0.1], [-0.1, 0.5]]) + [30, 20]
    worn = wear_glasses(
        wear_mask(face, MASKS[0], np.random.default_rng(3), moved), GLASSES[0], np.random.default_rng(3), moved
    )
    for x, y in moved[[0, 1, 3, 4]]:
        assert differs(worn, face, x, y, 1) > 10
    assert np.array_equal(worn[100:, :20], face[100:, :20])


@given(seed=SEEDS, strength=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_what_training_draws_is_a_face_again(seed, strength):
    flat = np.random.default_rng(1).integers(0, 256, (112, 112, 3), np.uint8)
    before = flat.copy()
    for draw in (worsen, *SURROUNDINGS.values(), *WORN.values(), *MISPLACED.values()):
        drawn = draw(flat, strength, np.random.default_rng(seed))
        assert drawn.shape == (112, 112, 3) and drawn.dtype == np.uint8
        assert np.array_equal(drawn, draw(flat, strength, np.random.default_rng(seed)))
    assert np.array_equal(flat, before)


def test_conditions_grow_with_the_strength(face):
    def change(strength):
        rngs = (np.random.default_rng(seed) for seed in range(300))
        return np.mean([np.abs(worsen(face, strength, rng).astype(int) - face).mean() for rng in rngs])

    mild, middle, strong = change(0.0), change(0.5), change(1.0)
    assert mild * 1.1 < middle < strong / 1.1
