"""What a detector is taught: which cells a face teaches, and what wrong answers cost."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.data.detection import Labelled
from edgeface.models.detector import STRIDES, FaceDetector, Level
from edgeface.training.detection.batches import make_targets
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
from tests.detector_faces import TINY, labelled

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
    assert sum(p.numel() for p in FaceDetector().parameters()) <= 400_000
