"""The five-point alignment against a slow reference, an independent library and known answers."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from edgeface.errors import ImageError
from edgeface.faces import FACE_SIZE, TEMPLATE, align, similarity_transform


def slow_similarity(source, target):
    """Least squares over (a, b, tx, ty) with x' = a x - b y + tx, y' = b x + a y + ty: a rotation and a scale.

    The linear solution is the optimal similarity without reflection, found without any SVD of a covariance.
    """
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


points = st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=5, max_size=5).map(np.array)


@given(points)
def test_equals_the_slow_reference(source):
    if np.var(source, axis=0).sum() < 1:
        return
    matrix = similarity_transform(source, TEMPLATE)
    slow = slow_similarity(source, TEMPLATE)

    def error(m):
        return ((source @ m[:, :2].T + m[:, 2] - TEMPLATE) ** 2).sum()

    # The optimum may be flat (then the matrices differ), its value may not.
    assert error(matrix) == pytest.approx(error(slow), rel=1e-6, abs=1e-6)


@given(st.floats(-3, 3), st.floats(0.1, 10), st.floats(-200, 200), st.floats(-200, 200))
def test_recovers_a_known_similarity(angle_rad, scale, dx, dy):
    cos, sin = scale * np.cos(angle_rad), scale * np.sin(angle_rad)
    moved = TEMPLATE @ np.array([[cos, sin], [-sin, cos]]) + [dx, dy]
    matrix = similarity_transform(moved, TEMPLATE)
    np.testing.assert_allclose(moved @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-6)


def test_agrees_with_scikit_image():
    rng = np.random.default_rng(0)
    for _ in range(20):
        source = TEMPLATE * rng.uniform(0.5, 4) + rng.normal(0, 5, TEMPLATE.shape)
        theirs = SimilarityTransform.from_estimate(source, TEMPLATE)
        np.testing.assert_allclose(similarity_transform(source, TEMPLATE), theirs.params[:2], atol=1e-9)


def test_never_mirrors():
    mirrored = TEMPLATE * [-1, 1]
    assert np.linalg.det(similarity_transform(mirrored, TEMPLATE)[:, :2]) > 0


@pytest.mark.parametrize("bad", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_landmarks_without_extent_are_refused(bad):
    with pytest.raises(ImageError, match="landmarks"):
        similarity_transform(bad, TEMPLATE)


def test_an_aligned_face_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (FACE_SIZE, FACE_SIZE, 3), np.uint8)
    np.testing.assert_array_equal(align(image, TEMPLATE), image)


def test_borders_replicate():
    image = np.full((FACE_SIZE, FACE_SIZE, 3), 200, np.uint8)
    assert (align(image, TEMPLATE + np.array([30, 0])) == 200).all()


def painted(size_wh, landmarks, radius):
    """A dark picture with a bright disc on each landmark."""
    image = np.full((size_wh[1], size_wh[0], 3), 20, np.uint8)
    for x, y in landmarks:
        cv2.circle(image, (round(x * 16), round(y * 16)), round(radius * 16), (240,) * 3, -1, cv2.LINE_AA, 4)
    return image


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 9), st.floats(-0.5, 0.5), st.floats(-20, 60), st.floats(-20, 60))
def test_landmarks_land_on_the_template(scale, angle_rad, dx, dy):
    """Also for faces so large that they are shrunk first, and for those at the border of the picture."""
    rotation = np.array([[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]])
    landmarks = (TEMPLATE - 56) @ rotation.T * scale + 56 * scale + [max(dx, 0) + 40, max(dy, 0) + 40]
    side = round(112 * scale + 160)
    crop = align(painted((side, side), landmarks, 3 * scale), landmarks)[..., 0].astype(float) - 20
    for x, y in TEMPLATE:
        top, left = round(y) - 6, round(x) - 6
        patch = np.clip(crop[top : top + 13, left : left + 13] - 40, 0, None)
        rows, columns = np.mgrid[top : top + 13, left : left + 13]
        centre = (patch * columns).sum() / patch.sum(), (patch * rows).sum() / patch.sum()
        assert np.hypot(centre[0] - x, centre[1] - y) < 0.35


def test_a_large_face_is_averaged_not_sampled():
    """A fine checkerboard becomes grey; bilinear sampling alone would keep it black and white."""
    image = np.zeros((896, 896, 3), np.uint8)
    image[::2, 1::2] = image[1::2, ::2] = 255
    crop = align(image, TEMPLATE * 8 + 3.5)
    assert abs(crop.astype(float).mean() - 127.5) < 3
    assert crop.std() < 10
