"""Training pictures of a detector: labels under motion, and what is done to the pixels."""

import math

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.data.detection import Labelled
from edgeface.training.detection import augment
from edgeface.training.detection.augment import training_picture
from edgeface.training.detection.geometry import MIRRORED, move, move_boxes, move_landmarks, placement, squeeze
from edgeface.training.detection.scenes import drawn_scenes
from tests.detector_faces import labelled

angles = st.floats(-math.pi, math.pi)
scales = st.floats(0.3, 3.0)


# Geometry.


@given(angles, scales, st.booleans(), st.floats(-20, 20), st.floats(-20, 20))
def test_placement_moves_its_centre_to_the_target(angle, scale, mirror, x, y):
    matrix = placement((x, y), (5.0, 7.0), scale, angle, mirror)
    np.testing.assert_allclose(matrix @ [x, y, 1], [5, 7], atol=1e-9)
    assert math.isclose(np.linalg.det(matrix[:, :2]), scale**2 * (-1 if mirror else 1), rel_tol=1e-9)


@given(angles, scales, st.booleans(), st.floats(0.5, 1.5))
def test_squeezing_keeps_the_centre_and_narrows_the_old_picture(angle, scale, mirror, factor):
    matrix = placement((4.0, 5.0), (9.0, 3.0), scale, angle, mirror)
    squeezed = squeeze(matrix, (4.0, 5.0), factor)
    np.testing.assert_allclose(squeezed @ [4, 5, 1], [9, 3], atol=1e-9)
    np.testing.assert_allclose(squeezed @ [4 + 2 / factor, 5, 1], matrix @ [6, 5, 1], atol=1e-9)
    np.testing.assert_allclose(squeezed @ [4, 11, 1], matrix @ [4, 11, 1], atol=1e-9)


@given(angles, scales, st.booleans())
@settings(deadline=None)
def test_a_moved_box_is_the_one_around_the_moved_ellipse(angle, scale, mirror):
    box = np.array([[10, 20, 30, 44]], np.float32)
    matrix = placement((25, 42), (60, 50), scale, angle, mirror)
    turn = np.linspace(0, 2 * math.pi, 4001)
    ellipse = np.stack([25 + 15 * np.cos(turn), 42 + 22 * np.sin(turn), np.ones_like(turn)])
    outline = matrix @ ellipse
    low, high = outline.min(axis=1), outline.max(axis=1)
    np.testing.assert_allclose(move_boxes(box, matrix)[0], [*low, *(high - low)], atol=2e-3 * scale)


@given(angles, scales)
def test_mirroring_twice_gives_the_landmarks_back(angle, scale):
    landmarks = labelled([[10, 20, 30, 40]]).landmarks
    there = placement((3, 4), (9, 8), scale, angle, True)
    back = np.linalg.inv(np.vstack([there, [0, 0, 1]]))[:2]
    np.testing.assert_allclose(move_landmarks(move_landmarks(landmarks, there), back), landmarks, atol=1e-3)


def test_the_left_eye_stays_on_the_left():
    face = labelled([[10, 20, 30, 40]])
    mirrored = move_landmarks(face.landmarks, placement((25, 40), (25, 40), 1.0, 0.0, True))
    assert mirrored[0, 0, 0] < mirrored[0, 1, 0] and mirrored[0, 3, 0] < mirrored[0, 4, 0]
    np.testing.assert_allclose(mirrored, face.landmarks, atol=1e-4)  # this face is symmetric
    assert [MIRRORED[i] for i in MIRRORED] == [0, 1, 2, 3, 4]


@given(angles, st.floats(0.4, 2.0), st.booleans())
@settings(max_examples=25, deadline=None)
def test_labels_move_with_the_pixels(angle, scale, mirror):
    image = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(image, (41, 56), 5, (255, 255, 255), cv2.FILLED)
    face = labelled([[20, 20, 50, 60]], side=96)
    face.landmarks[0, 2] = 41, 56
    target = np.zeros((128, 128, 3), np.uint8)
    matrix = placement((45, 50), (64, 64), scale, angle, mirror)
    moved = move(Labelled(image, face.boxes, face.landmarks, face.scores), matrix, target)
    weight = moved.image[:, :, 0].astype(float)
    rows, columns = np.mgrid[:128, :128]
    blob = [(columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()]
    np.testing.assert_allclose(moved.landmarks[0, 2], blob, atol=0.35)


def test_faces_that_leave_are_not_taught():
    face = labelled([[10, 10, 20, 20], [30, 30, 20, 20], [44, 44, 6, 6]])
    shift = placement((0, 0), (-20, 0), 1.0, 0.0, False)
    moved = move(face, shift, np.zeros((64, 64, 3), np.uint8))
    assert moved.sure.tolist() == [False, True, False]  # half visible, whole, tiny
    gone = move(face, placement((0, 0), (-100, 0), 1.0, 0.0, False), np.zeros((64, 64, 3), np.uint8))
    assert len(gone) == 0 and gone.landmarks.shape == (0, 5, 2)


def test_a_training_picture_depends_on_its_generator_alone():
    scenes = drawn_scenes(4, seed=1)
    first, second, other = (
        training_picture(np.random.default_rng(seed), lambda rng: scenes[rng.integers(4)], 128) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    assert first.image.shape == (128, 128, 3) and not np.array_equal(first.image, other.image)
    assert len(first.boxes) == len(first.landmarks) == len(first.scores)


def one_face(side=96):
    """A picture with one bright face on a dark ground."""
    face = labelled([[36, 36, 24, 24]], side=side)
    face.image[36:60, 36:60] = 200
    return face


def test_training_pictures_show_every_size_angle_and_mirror_image_that_is_meant():
    rng = np.random.default_rng(0)
    face = one_face()
    face.landmarks[0] = [[40, 40], [56, 40], [48, 48], [42, 54], [54, 54]]
    sides, angles, mirrored = [], [], []
    for _ in range(500):
        picture = augment.random_tile(rng, face, np.zeros((192, 192, 3), np.uint8))
        for box, points in zip(picture.boxes, picture.landmarks, strict=True):
            sides.append(box[2:].max())
            across, down = points[1] - points[0], points[3] + points[4] - points[0] - points[1]
            angles.append(math.degrees(math.atan2(across[1], across[0])))
            mirrored.append(across[0] * down[1] - across[1] * down[0] > 0)
    assert min(sides) < 10 and max(sides) > 90  # zooms of 0.3 to 4, in both ways of drawing
    assert max(map(abs, angles)) > 40
    assert all(mirrored)  # whatever is mirrored, the left eye stays left and the mouth below


def test_tiles_are_up_to_sixteen(monkeypatch):
    tiles: list[list[tuple[int, ...]]] = []

    def paste(rng, face, canvas):
        tiles[-1].append(canvas.shape)
        return Labelled(canvas, face.boxes, face.landmarks, face.scores)

    monkeypatch.setattr(augment, "random_tile", paste)
    rng = np.random.default_rng(0)
    for _ in range(60):
        tiles.append([])
        training_picture(rng, lambda _: one_face(), 96)
    assert {len(shapes) for shapes in tiles} == {1, 4, 9, 16}
    assert all(sum(h * w for h, w, _ in shapes) == 96 * 96 for shapes in tiles)


def test_faces_are_covered_and_pictures_darkened_softened_and_noisy():
    rng = np.random.default_rng(0)
    covered = [np.any(augment.occlude(rng, one_face().image, one_face().boxes) != one_face().image) for _ in range(300)]
    assert 0.06 < np.mean(covered) < 0.18  # OCCLUDED_SHARE, less what is hidden in the face's own colour
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    soft = augment._soften(stripes, 2.0)
    assert soft.shape == stripes.shape and np.ptp(soft[:, 2:-2].astype(int)) <= 2 and abs(soft.mean() - 127.5) < 2
    grey = np.full((48, 48, 3), 128, np.uint8)
    taken = np.stack([augment.photograph(rng, grey) for _ in range(300)]).astype(float)
    assert 0.03 < np.mean(taken.mean(axis=(1, 2, 3)) < 64) < 0.25  # in the dark
    assert 0.1 < np.mean(taken.std(axis=(1, 2)).max(axis=1) > 1.5) < 0.4  # noise, some of it blurred away by JPEG
    sharp = np.stack([augment.photograph(rng, stripes) for _ in range(300)]).astype(float)
    contrast = np.abs(np.diff(sharp.mean(axis=3), axis=2)).mean(axis=(1, 2)) / np.maximum(sharp.mean(axis=(1, 2, 3)), 1)
    assert 0.2 < np.mean(contrast < 0.7) < 0.6  # blurred, moved or softened
