import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.faces import TEMPLATE
from edgeface.runtime.deciding.quality import Quality, QualitySettings, measure, pitch, pose, problem, too_small

BOX = np.array([0, 0, 80, 100], np.float32)


def texture(seed=0, mean=128.0, spread=30.0, sigma=2):
    noise = np.random.default_rng(seed).normal(size=(112, 112, 1))
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
    grey = mean + spread * smooth / smooth.std()
    return np.clip(grey, 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)


def head(yaw_deg, roll_deg=0.0, scale=100.0):
    """Eyes one unit apart, mouth corners below, the nose in front, seen along z from far away."""
    points = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0, 0.05, 0.42], [-0.42, 0.55, 0], [0.42, 0.55, 0]], np.float64)
    a, b = math.radians(yaw_deg), math.radians(roll_deg)
    x = points[:, 0] * math.cos(a) + points[:, 2] * math.sin(a)
    y = points[:, 1]
    return scale * np.stack([x * math.cos(b) - y * math.sin(b), x * math.sin(b) + y * math.cos(b)], 1) + 300


# Light and shade as on a face, without the detail.
BLURRED = texture(spread=40, sigma=12)


@given(st.floats(-85, 85), st.floats(-80, 80), st.floats(1, 500))
def test_pose_of_a_turned_head_is_found(yaw_deg, roll_deg, scale):
    assert pose(head(yaw_deg, roll_deg, scale)) == pytest.approx((yaw_deg, roll_deg), abs=1e-3)


def test_the_template_is_frontal_and_one_eye_alone_is_a_profile():
    yaw_deg, roll_deg = pose(TEMPLATE)
    assert abs(yaw_deg) < 1
    assert abs(roll_deg) < 1
    assert pose(np.zeros((5, 2)))[0] == 90


def test_sharpness_falls_with_blur_and_does_not_depend_on_light():
    face = texture()
    values = [
        measure(cv2.GaussianBlur(face, (0, 0), sigma) if sigma else face, BOX, TEMPLATE).sharpness
        for sigma in (0, 1, 2, 3)
    ]
    assert values == sorted(values, reverse=True)
    assert values[3] < 0.5 * values[0]
    dim = measure(texture(mean=64, spread=15), BOX, TEMPLATE)
    assert dim.sharpness == pytest.approx(values[0], rel=0.05)
    assert dim.brightness == pytest.approx(64, abs=3)


def test_sharpness_is_the_slow_sum():
    face = texture(3)
    grey = face[:, :, 0].astype(np.float64)
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey

    quality = measure(face, BOX, TEMPLATE)

    assert quality.sharpness == pytest.approx(laplacian.std() / grey.std(), rel=1e-6)
    assert quality.brightness == pytest.approx(grey[16:-16, 16:-16].mean(), rel=1e-6)
    assert quality.size_px == 80


@pytest.mark.parametrize(
    ("face", "box", "landmarks", "expected"),
    [
        (texture(), BOX, TEMPLATE, None),
        (texture(), BOX / 2.1, TEMPLATE, "too small: 38 px, need 40"),
        (texture(), BOX / 2.001, TEMPLATE, "too small: 39 px, need 40"),
        (texture(), BOX, head(70), "turned away: about 70°, at most 60°"),
        (texture(), BOX, head(-70), "turned away: about 70°, at most 60°"),
        (texture(), BOX, head(0, 75), "tilted: 75°, at most 60°"),
        (texture(mean=10, spread=2), BOX, TEMPLATE, "too dark: 9 of 255, need 20"),
        (texture(mean=240, spread=2), BOX, TEMPLATE, "too bright: 240 of 255, at most 220"),
        (BLURRED, BOX, TEMPLATE, "blurred: sharpness 0.0"),
        (np.full((112, 112, 3), 128, np.uint8), BOX, TEMPLATE, "blurred: sharpness 0.000, need 0.050"),
    ],
)
def test_a_face_that_is_not_worth_a_look_has_a_reason(face, box, landmarks, expected):
    reason = problem(measure(face, box, landmarks), QualitySettings())
    if expected is None:
        assert reason is None
    else:
        assert reason is not None
        assert reason.startswith(expected)
    if expected and expected.startswith("too small"):
        assert too_small(box, QualitySettings()) == reason
    else:
        assert too_small(box, QualitySettings()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_size_px": -1},
        {"min_sharpness": math.nan},
        {"min_brightness": 230},
        {"max_brightness": 256},
        {"max_yaw_deg": 181},
        {"max_roll_deg": -1},
    ],
)
def test_settings_that_cannot_be_used_say_so(wrong):
    with pytest.raises(ConfigError):
        QualitySettings(**wrong)


@pytest.mark.parametrize("angle", [-30, -15, 0, 15, 30])
def test_pitch_is_that_of_a_turned_head(angle):
    """Five points in space with the nose in front, nodded and projected: the estimate finds the angle again."""
    eye = 35.2
    depth = np.array([0, 0, 0.42 * eye, 0, 0])
    height = np.array([0, 0, 0.495 * 1.157 * eye, 1.157 * eye, 1.157 * eye])
    across = np.array([-0.5, 0.5, 0, -0.4, 0.4]) * eye
    radians = np.deg2rad(angle)
    points = np.stack([across, height * np.cos(radians) + depth * np.sin(radians)], axis=1)
    turned = np.deg2rad(20)
    spin = np.array([[np.cos(turned), np.sin(turned)], [-np.sin(turned), np.cos(turned)]])
    assert pitch(points) == pytest.approx(angle, abs=0.1)
    assert pitch(points @ spin * 3 + 50) == pytest.approx(angle, abs=0.1)  # wherever, however large and tilted
    assert pitch(np.zeros((5, 2))) == 90.0


def test_the_score_of_a_look_falls_with_everything_that_is_wrong_with_it():
    good = Quality(120.0, 0.3, 128.0, 0.0, 0.0)
    assert good.score == 1.0
    halves: dict[str, Any] = {
        "size_px": 56.0,
        "sharpness": 0.075,
        "yaw_deg": 60.0,
        "pitch_deg": -60.0,
        "brightness": 30.0,
    }
    for name, value in halves.items():
        assert replace(good, **{name: value}).score == pytest.approx(0.5, abs=0.01)
    assert replace(good, brightness=255.0).score == 0


def test_a_nodding_face_is_refused_with_the_way_it_is_turned():
    settings = QualitySettings(max_pitch_deg=30)
    assert problem(Quality(99, 0.3, 128, 0, 0, 31.0), settings) == "turned down: about 31°, at most 30°"
    assert problem(Quality(99, 0.3, 128, 0, 0, -31.0), settings) == "turned up: about 31°, at most 30°"
    assert problem(Quality(99, 0.3, 128, 0, 0, 29.0), settings) is None


def drawn_face():
    """Light skin with fine texture, dark eyes and a mouth with some detail."""
    face = texture(mean=150.0, spread=20.0, sigma=1)
    for x in (38, 74):
        cv2.ellipse(face, (x, 52), (7, 4), 0, 0, 360, (40, 40, 40), -1)
    cv2.ellipse(face, (56, 92), (14, 4), 0, 0, 360, (120, 60, 60), -1)
    return face


def test_dark_glasses_and_masks_are_hinted_at_and_lower_the_score():
    bare, glasses, mask = drawn_face(), drawn_face(), drawn_face()
    for x in (38, 74):
        cv2.ellipse(glasses, (x, 53), (16, 12), 0, 0, 360, (25, 25, 25), -1)
    cv2.fillPoly(mask, [np.array([[18, 68], [56, 62], [94, 68], [88, 100], [56, 111], [24, 100]])], (120, 160, 190))
    looks = [measure(face, BOX, head(0)) for face in (bare, glasses, mask)]
    assert [look.covered for look in looks] == [(), ("eyes",), ("mouth",)]
    both = replace(looks[0], covered=("eyes", "mouth"))
    assert both.score == pytest.approx(looks[0].score / 4)
    assert problem(both, QualitySettings()) is None
    assert problem(both, QualitySettings(may_be_covered=False)) == "covered: eyes and mouth, must be bare"
