"""Training a detector: labels under motion, assignment, loss, metrics, and the loop on a handful of pictures."""

import functools
import io
import json
import math
import tarfile
from dataclasses import asdict
from importlib import resources
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.data.detection import Labelled, open_detection_set
from edgeface.errors import CheckpointError, ConfigError, DataError, TrainingError
from edgeface.evaluation.detection import TorchDetector, evaluate_detector, match
from edgeface.images import encode_image
from edgeface.models.detector import STRIDES, DetectorShape, FaceDetector, Level
from edgeface.runtime.detection.detections import Detections, DetectorSettings
from edgeface.runtime.detection.detector import FixedDetector
from edgeface.training.config import load_config
from edgeface.training.detection import augment, loop
from edgeface.training.detection.augment import training_picture
from edgeface.training.detection.checkpoint import load_detector
from edgeface.training.detection.config import DetectorConfig, load_detector_config
from edgeface.training.detection.geometry import MIRRORED, move, move_boxes, move_landmarks, placement, squeeze
from edgeface.training.detection.loop import DetectorProgress, make_batch, make_targets, train_detector
from edgeface.training.detection.loss import (
    CENTRAL,
    FACE_RANGES,
    IGNORED,
    LEGIBLE_SIDE,
    NEGATIVE,
    RADIUS,
    Targets,
    assign,
    cell_centres,
    detection_loss,
    overlaps,
)
from edgeface.training.detection.scenes import drawn_scenes

TINY = DetectorShape(widths=(8, 8, 16, 16, 16), depths=(1, 1, 1), neck=16)

angles = st.floats(-math.pi, math.pi)
scales = st.floats(0.3, 3.0)


def labelled(boxes, scores=None, side=64):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    x, y, w, h = boxes.T
    places = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
    landmarks = np.stack([np.stack([x + a * w, y + b * h], axis=1) for a, b in places], axis=1).astype(np.float32)
    scores = np.ones(len(boxes)) if scores is None else np.array(scores)
    return Labelled(np.zeros((side, side, 3), np.uint8), boxes, landmarks, scores.astype(np.float32))


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


# Assignment.


def test_a_face_teaches_the_cells_around_its_centre():
    # Side 64: stride 16 alone. Centre (104, 104) is the centre of cell (6, 6); 1.5 strides reach one cell further.
    labels = assign(np.array([[72, 72, 64, 64]], np.float32), np.ones(1, bool), (256, 256))
    fine, middle, coarse = np.split(labels, [32 * 32, 32 * 32 + 16 * 16])
    assert (fine == NEGATIVE).all() and (coarse == NEGATIVE).all()
    rows, columns = np.nonzero(middle.reshape(16, 16) == 0)
    assert sorted(set(rows)) == sorted(set(columns)) == [5, 6, 7] and len(rows) == 9


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_assignment_matches_the_slow_version(seed, count):
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(6), np.log(150), (count, 1))) * rng.uniform(0.8, 1.25, (count, 2))
    boxes = np.hstack([rng.uniform(0, 128, (count, 2)) - sides / 2, sides]).astype(np.float32)
    sure = rng.random(count) < 0.7
    expected = []
    for level, stride in enumerate(STRIDES):
        cells = [((c + 0.5) * stride, (r + 0.5) * stride) for r in range(128 // stride) for c in range(128 // stride)]
        owners = [NEGATIVE] * len(cells)
        for x, y, w, h in boxes[~sure].tolist():
            for cell, (cx, cy) in enumerate(cells):
                if x < cx < x + w and y < cy < y + h:
                    owners[cell] = IGNORED
        for face in sorted(np.flatnonzero(sure), key=lambda face: -boxes[face, 2] * boxes[face, 3]):
            x, y, w, h = boxes[face].astype(float)
            if (
                not FACE_RANGES[level][0]
                <= np.float32(np.sqrt(boxes[face, 2] * boxes[face, 3]))
                < FACE_RANGES[level][1]
            ):
                continue
            away = [(abs(cx - x - w / 2), abs(cy - y - h / 2)) for cx, cy in cells]
            nearest = min(range(len(cells)), key=lambda cell: max(away[cell]))
            for cell, (dx, dy) in enumerate(away):
                if cell == nearest or (
                    dx <= min(RADIUS * stride, CENTRAL * w) and dy <= min(RADIUS * stride, CENTRAL * h)
                ):
                    owners[cell] = int(face)
        expected += owners
    assert assign(boxes, sure, (128, 128)).tolist() == expected


def test_every_size_has_a_level_and_levels_overlap():
    for (_, most), (least, _) in pairwise(FACE_RANGES):
        assert least < most


# Loss.


def perfect_levels(picture, sure_of=20.0):
    """Outputs that say exactly what the labels of one picture say."""
    side = picture.image.shape[0]
    labels = assign(picture.boxes, picture.sure, (side, side))
    centres, strides = cell_centres((side, side))
    levels = []
    for stride in STRIDES:
        cells = np.flatnonzero(strides == stride)
        shape = side // stride, side // stride
        scores = np.full(len(cells), -sure_of, np.float32)
        boxes, landmarks = np.ones((4, len(cells)), np.float32), np.zeros((10, len(cells)), np.float32)
        for number, cell in enumerate(cells):
            if labels[cell] >= 0:
                x, y, w, h = picture.boxes[labels[cell]]
                cx, cy = centres[cell]
                scores[number] = sure_of
                boxes[:, number] = np.array([cx - x, cy - y, x + w - cx, y + h - cy]) / stride
                landmarks[:, number] = (picture.landmarks[labels[cell]] - centres[cell]).ravel() / stride
        arrays = (scores.reshape(1, 1, *shape), boxes.reshape(1, 4, *shape), landmarks.reshape(1, 10, *shape))
        levels.append(Level(*(torch.from_numpy(array).requires_grad_() for array in arrays)))
    return tuple(levels)


def test_the_right_answer_costs_nothing():
    picture = labelled([[20, 30, 50, 60], [90, 90, 20, 24]], side=128)
    losses = detection_loss(perfect_levels(picture), make_targets([picture]))
    assert losses.total.item() < 1e-4
    moved = labelled([[23, 30, 50, 60], [90, 90, 20, 24]], side=128)
    wrong = detection_loss(perfect_levels(picture), make_targets([moved]))
    assert wrong.box.item() > 0.01 and wrong.landmark.item() > 0.01


def test_an_unsure_face_costs_nothing_either_way():
    picture = labelled([[20, 30, 50, 60]], scores=[0.4], side=128)
    shown = detection_loss(perfect_levels(labelled([[20, 30, 50, 60]], side=128)), make_targets([picture]))
    hidden = detection_loss(perfect_levels(labelled([], side=128)), make_targets([picture]))
    assert shown.total.item() < 1e-3 and hidden.total.item() < 1e-3
    nothing = detection_loss(
        perfect_levels(labelled([[20, 30, 50, 60]], side=128)), make_targets([labelled([], side=128)])
    )
    assert nothing.score.item() > 1


def test_a_batch_without_faces_has_a_gradient():
    network = FaceDetector(TINY)
    losses = detection_loss(network(torch.rand(2, 3, 64, 64)), make_targets([labelled([])] * 2))
    losses.total.backward()
    assert torch.isfinite(losses.total) and losses.box.item() == losses.landmark.item() == 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_overlaps_match_the_slow_version():
    rng = np.random.default_rng(0)
    first, second = (np.sort(rng.uniform(0, 10, (50, 2, 2)), axis=1).reshape(50, 4) for _ in range(2))
    iou, giou = overlaps(torch.from_numpy(first), torch.from_numpy(second))
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
        hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
        assert math.isclose(iou[row].item(), shared / union, abs_tol=1e-6)
        assert math.isclose(giou[row].item(), shared / union - (hull - union) / hull, abs_tol=1e-6)


def test_targets_of_a_batch_point_at_their_own_faces():
    pictures = [labelled([[4, 4, 24, 30]]), labelled([]), labelled([[10, 10, 16, 16], [30, 30, 28, 28]])]
    targets = make_targets(pictures)
    assert isinstance(targets, Targets) and len(targets.boxes) == 3
    assert set(targets.labels[0].tolist()) == {NEGATIVE, 0} and set(targets.labels[1].tolist()) == {NEGATIVE}
    assert set(targets.labels[2].tolist()) == {NEGATIVE, 1, 2}
    np.testing.assert_allclose(targets.boxes[2], [30, 30, 58, 58])


def test_a_few_steps_learn_one_batch_by_heart():
    torch.manual_seed(0)
    scenes = [picture for picture in drawn_scenes(12, seed=3) if len(picture)][:2]
    pictures = [Labelled(np.ascontiguousarray(p.image[:224, :320]), p.boxes, p.landmarks, p.scores) for p in scenes]
    images = torch.from_numpy(np.stack([p.image for p in pictures])).permute(0, 3, 1, 2).float() / 255
    targets = make_targets(pictures)
    network = FaceDetector(TINY).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    history = []
    for _ in range(70):
        losses = detection_loss(network(images), targets)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(losses.total.item())
    assert history[-1] < 0.35 * history[0]
    with torch.no_grad():  # in train mode still: the running statistics have not settled after so few steps
        logits = torch.cat([level.scores.flatten(1) for level in network(images)], dim=1)
    taught = targets.labels >= 0
    assert logits[taught].mean() > logits[targets.labels == NEGATIVE].mean() + 3


# Metrics.


def found(boxes, scores):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scores, np.float32), labelled(boxes).landmarks)


def test_metrics_on_a_known_answer():
    face, other = [10, 10, 30, 30], [60, 60, 30, 30]
    pictures = [labelled([face]), labelled([face, other], scores=[1.0, 0.5])] + [labelled([])] * 18
    answers = [
        found([face], [0.9]),
        found([face, other, [10, 60, 30, 30]], [0.7, 0.65, 0.6]),  # `other` is unsure: neither good nor bad
        found([[0, 0, 20, 20]], [0.8]),
    ]
    report = evaluate_detector(FixedDetector(answers), pictures)
    # By score: hit 0.9, miss 0.8, hit 0.7, miss 0.6; at 20 pictures one miss is allowed.
    assert (report.pictures, report.faces) == (20, 2)
    assert report.recall == 1.0 and report.min_score == pytest.approx(0.7)
    assert report.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert report.landmark_error == pytest.approx(0, abs=1e-6)
    strict = evaluate_detector(FixedDetector(answers), pictures[:10])
    assert strict.recall == 0.5 and strict.min_score == pytest.approx(0.9)


def test_the_second_detection_of_a_face_is_a_miss():
    face = np.array([[10, 10, 30, 30]], np.float32)
    assert match(np.vstack([face, face + 1]), face, np.ones(1, bool)) == [0, -1]
    assert match(np.vstack([face, face + 1]), face, np.zeros(1, bool)) == [0, 0]


def test_nothing_to_find_is_an_error():
    with pytest.raises(DataError, match="no face"):
        evaluate_detector(FixedDetector([]), [labelled([])])


# Data and the loop.


@functools.cache
def ten_scenes():
    return drawn_scenes(10, seed=2)


@pytest.fixture
def folder(tmp_path):
    """Ten drawn scenes in the layout of a training folder."""
    data = tmp_path / "data"
    data.mkdir()
    lines = []
    for split, first in (("train", 0), ("val", 6)):
        with tarfile.open(data / f"detect-{split}.tar", "w") as tar:
            for index, picture in enumerate(ten_scenes()[first : first + 6], start=first):
                encoded = encode_image(picture.image, ".png")
                member = tarfile.TarInfo(f"{index}.png")
                member.size = len(encoded)
                tar.addfile(member, io.BytesIO(encoded))
                faces = [
                    {"box": box.tolist(), "score": 0.9, "landmarks": points.tolist()}
                    for box, points in zip(picture.boxes, picture.landmarks, strict=True)
                ]
                height, width = picture.image.shape[:2]
                lines.append({"file": member.name, "split": split, "width": width, "height": height, "faces": faces})
    (data / "detect.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return data


def config(folder, **changes):
    """A tiny run; `changes` are of any section."""
    values: dict[str, dict[str, Any]] = {
        "data": {"path": str(folder), "scenes": 3},
        "model": asdict(TINY),
        "optimizer": {},
        "run": {"steps": 4, "batch_size": 2, "side": 64, "checkpoint_steps": 2},
    }
    for section, table in DetectorConfig().to_dict().items():
        values[section] |= {name: changes[name] for name in changes if name in table}
    return DetectorConfig.from_dict(values)


def test_the_set_reads_what_was_written(folder):
    pictures = open_detection_set(folder, "val")
    expected = ten_scenes()[6:]
    assert len(pictures) == 4
    for index, picture in enumerate(expected):
        for _ in range(2):  # decoded, then remembered
            read = pictures.read(index)
            np.testing.assert_array_equal(read.image, picture.image)
            np.testing.assert_allclose(read.boxes, picture.boxes, rtol=1e-6)
            np.testing.assert_allclose(read.landmarks, picture.landmarks, rtol=1e-6)


def test_turned_faces_are_drawn_more_often(folder):
    lines = (folder / "detect.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        for face in record["faces"]:
            face["landmarks"] = [[0, 0], [10, 0], [5, 5], [1, 10], [9, 10]]  # frontal: as wide as high
    records[0]["faces"] = [
        {"box": [3, 4, 20, 30], "score": 0.9, "landmarks": [[0, 0], [5, 0], [5, 5], [0, 10], [5, 10]]}
    ]
    (folder / "detect.jsonl").write_text("\n".join(map(json.dumps, records)))
    pictures = open_detection_set(folder, "train")
    turned = pictures.read(0).image
    rng = np.random.default_rng(0)
    hits = sum(np.array_equal(pictures.draw(rng).image, turned) for _ in range(600))
    assert 250 < hits < 350  # half turned: 1 + 8 / 2 times as often as each of the five others, so in a half


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 11"),
        ('{"split": "train"}', "line 11"),
        ('{"file": "0.png", "split": "train", "faces": [{"box": [1, 2, 3], "score": 1, "landmarks": []}]}', "box of 4"),
        ('{"file": "gone.png", "split": "train", "faces": []}', "gone.png"),
    ],
)
def test_broken_labels_are_reported(folder, line, message):
    with (folder / "detect.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        open_detection_set(folder, "train")


def test_missing_data_is_reported(folder):
    with pytest.raises(DataError, match=r"detect-test\.tar"):
        open_detection_set(folder, "test")
    (folder / "detect-val.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(DataError, match="tar"):
        open_detection_set(folder, "val")


def test_a_resumed_run_ends_like_an_uninterrupted_one(folder, tmp_path, monkeypatch):
    seen: list[DetectorProgress] = []
    scores = train_detector(config(folder), tmp_path / "whole", seen.append)
    assert [progress.step for progress in seen] == [4] and scores.pictures == 4

    calls = []

    def interrupted(rng, draw, batch, side):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return make_batch(rng, draw, batch, side)

    monkeypatch.setattr(loop, "make_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_detector(config(folder), tmp_path / "parts")
    assert load_detector(tmp_path / "parts")[1].step == 2
    train_detector(config(folder), tmp_path / "parts", resume=True)
    whole, info = load_detector(tmp_path / "whole")
    parts, _ = load_detector(tmp_path / "parts" / "checkpoint")
    assert info.step == 4 and info.config.model == TINY and info.scores == scores
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, msg=name)
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 4


def test_a_run_may_begin_with_trained_weights(folder, tmp_path):
    train_detector(config(folder, steps=2), tmp_path / "first")
    train_detector(config(folder, steps=1, start=str(tmp_path / "first"), lr=0.0), tmp_path / "second")
    first, second = (load_detector(tmp_path / name)[0].state_dict() for name in ("first", "second"))
    for name, tensor in first.items():
        if name.endswith(("weight", "bias")):
            torch.testing.assert_close(second[name], tensor, msg=name)


def test_a_loss_that_is_not_finite_stops_the_run(folder, tmp_path):
    with pytest.raises(TrainingError, match=r"optimizer\.lr"):
        train_detector(config(folder, steps=20, lr=1e30, warmup_steps=1), tmp_path / "run")


def test_broken_checkpoints_are_reported(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no detector checkpoint"):
        load_detector(tmp_path)
    train_detector(config(folder, steps=1), tmp_path / "run")
    weights = tmp_path / "run" / "checkpoint" / "detector.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="broken"):
        load_detector(tmp_path / "run")
    with pytest.raises(CheckpointError):
        train_detector(config(folder), tmp_path / "run", resume=True)


@pytest.mark.parametrize("wrong", [{"side": 100}, {"side": 32}, {"steps": 0}, {"scene_share": 2.0}, {"scenes": 0}])
def test_the_configuration_is_checked(folder, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        config(folder, **wrong)


def test_a_run_is_not_resumed_with_other_settings(folder, tmp_path):
    train_detector(config(folder, steps=2), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run\.steps = 2, not 4"):
        train_detector(config(folder), tmp_path / "run", resume=True)
    train_detector(config(folder, steps=2, threads=1), tmp_path / "run", resume=True)  # decides nothing


def test_a_run_does_not_begin_with_another_shape(folder, tmp_path):
    train_detector(config(folder, steps=1), tmp_path / "first")
    with pytest.raises(ConfigError, match="another shape"):
        train_detector(config(folder, neck=24, start=str(tmp_path / "first")), tmp_path / "second")


def test_the_recipe_is_read_and_overridden(tmp_path):
    (tmp_path / "a.toml").write_text("[run]\nsteps = 12\nseed = 5\n")
    made = load_detector_config(tmp_path / "a.toml", ["run.seed=6", "model.widths=[8, 8, 8, 8, 8]"])
    assert (made.run.steps, made.run.seed, made.model.widths) == (12, 6, (8, 8, 8, 8, 8))
    assert DetectorConfig.from_dict(made.to_dict()) == made
    text = (resources.files("edgeface.training") / "recipes" / "detector.toml").read_text()
    assert all(f"# {word}:" in text for word in ("Data", "Hardware", "Time", "Reaches"))
    for wrong, message in (
        ("run.steps=many", "should be int"),
        ("steps=1", "nearest: run.steps"),
        ("model.widths=[1]", "an array of 5"),
        ("run.steps", "has no value"),
        ("loss.name=arcface", "the sections are data"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_detector_config(overrides=[wrong])
    with pytest.raises(ConfigError, match="is for --task embed"):
        load_detector_config(recipe="demo")
    with pytest.raises(ConfigError, match="is for --task detect"):
        load_config(recipe="detector")


def test_pictures_without_faces_and_faces_without_landmarks_are_trained_on(folder, tmp_path):
    records = [json.loads(line) for line in (folder / "detect.jsonl").read_text().splitlines()]
    first, second = [r for r in records if r["split"] == "train" and len(r["faces"]) >= 1][:2]
    faces = sum(len(r["faces"]) for r in records if r["split"] == "train")
    gone, bare = len(first["faces"]), len(second["faces"])
    del first["faces"]
    for face in second["faces"]:
        del face["landmarks"]
    del second["faces"][0]["score"]
    (folder / "detect.jsonl").write_text("\n".join(map(json.dumps, records)))
    census = open_detection_set(folder, "train").census
    assert (census.bare, census.taught, census.unsure) == (bare, faces - gone, 0)
    assert census.pictures == 6 and census.empty >= 1
    told: list[str] = []
    scores = train_detector(config(folder, scene_share=0.0), tmp_path / "run", tell=told.append)
    assert told == [str(census)] and f"{bare} of them without landmarks" in told[0]
    for name, tensor in load_detector(tmp_path / "run")[0].state_dict().items():
        assert torch.isfinite(tensor).all(), name
    assert scores.pictures == 4


def test_landmarks_of_small_faces_count_less():
    torch.manual_seed(0)
    levels = FaceDetector(TINY).eval()(torch.zeros(1, 3, 128, 128))
    picture = labelled([[8, 8, 12, 12], [60, 60, 44, 44]], side=128)
    losses, weights = [], []
    for row in range(2):
        alone = labelled(picture.boxes[[row]], side=128)
        losses.append(detection_loss(levels, make_targets([alone])).landmark.item())
        cells = int((make_targets([picture]).labels == row).sum())
        assert cells == int((make_targets([alone]).labels == 0).sum())
        weights.append(cells * min(1.0, picture.boxes[row, 2] / LEGIBLE_SIDE))
    both = detection_loss(levels, make_targets([picture])).landmark.item()
    assert both == pytest.approx(np.average(losses, weights=weights), rel=1e-4)


def test_faces_without_landmarks_count_in_the_other_losses_alone():
    picture = labelled([[8, 8, 40, 40], [80, 80, 40, 40]], side=128)
    both = detection_loss(FaceDetector(TINY).eval()(torch.zeros(1, 3, 128, 128)), make_targets([picture]))
    torch.manual_seed(0)
    network = FaceDetector(TINY).eval()
    picture.landmarks[1] = np.nan
    one = detection_loss(network(torch.zeros(1, 3, 128, 128)), make_targets([picture]))
    bare = labelled([[8, 8, 40, 40]], side=128)
    alone = detection_loss(network(torch.zeros(1, 3, 128, 128)), make_targets([bare]))
    torch.testing.assert_close(one.landmark, alone.landmark)
    assert torch.isfinite(one.total) and both.score > 0
    one.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_the_network_sees_as_many_cells_as_are_taught():
    for height, width in ((64, 96), (160, 32)):
        levels = FaceDetector(TINY).eval()(torch.zeros(1, 3, height, width))
        assert sum(level.scores.numel() for level in levels) == len(cell_centres((width, height))[0])
        assert all((level.boxes > 0).all() for level in levels)


def test_the_network_is_small():
    assert sum(p.numel() for p in FaceDetector().parameters()) <= 410_000


def test_the_torch_detector_leaves_pictures_of_any_size_alone():
    image = np.random.default_rng(0).integers(0, 256, (45, 71, 3), np.uint8)
    assert len(TorchDetector(FaceDetector(TINY), DetectorSettings(min_score=0.9)).detect(image)) == 0
