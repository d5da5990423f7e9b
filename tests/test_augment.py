"""Augmentation and the order of batches."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from edgeface.data import InMemoryFaces
from edgeface.data.augment import AugmentConfig, augment, change_colour, jitter
from edgeface.data.loader import AugmentedFaces, EpochBatches, open_loader

NAMES = ("flip", "jitter", "colour", "grey", "blur", "downscale", "jpeg", "noise", "cutout")
OFF: dict[str, Any] = dict.fromkeys(NAMES, 0.0)


@pytest.fixture
def face() -> np.ndarray:
    """Coarse random patches, so that every change shows."""
    patches = np.random.default_rng(0).integers(40, 216, (14, 14, 3), np.uint8)
    return patches.repeat(8, axis=0).repeat(8, axis=1)


@pytest.mark.parametrize("name", NAMES)
def test_each_change_changes_and_leaves_its_input_alone(face: np.ndarray, name: str) -> None:
    before = face.copy()
    config = AugmentConfig(**OFF | {name: 1.0})
    for seed in range(20):
        changed = augment(face, config, np.random.default_rng(seed))
        assert changed.shape == face.shape
        assert changed.dtype == np.uint8
        assert not np.array_equal(changed, face)
        assert np.array_equal(changed, augment(face, config, np.random.default_rng(seed)))
        # Recognisable still: no change moves the mean of the picture far.
        assert abs(changed.mean() - face.mean()) < 50
    assert np.array_equal(face, before)


def test_no_change(face: np.ndarray) -> None:
    assert np.array_equal(augment(face, AugmentConfig(**OFF), np.random.default_rng(0)), face)


def test_flip_is_the_mirror(face: np.ndarray) -> None:
    config = AugmentConfig(**OFF | {"flip": 1.0})
    assert np.array_equal(augment(face, config, np.random.default_rng(0)), face[:, ::-1])


def test_probabilities(face: np.ndarray) -> None:
    config = AugmentConfig(**OFF | {"flip": 0.3})
    flipped = sum(not np.array_equal(augment(face, config, np.random.default_rng(s)), face) for s in range(1000))
    assert 250 < flipped < 350


def test_jitter_stays_small() -> None:
    """A dot moves by at most the shift, plus what turn and scale do at its distance from the centre."""
    for seed in range(50):
        dot = np.zeros((112, 112, 3), np.uint8)
        dot[36:40, 66:70] = 255  # centre (67.5, 37.5), 21.8 pixels from the middle
        moved = jitter(dot, np.random.default_rng(seed))[:, :, 0].astype(float)
        centre = [(moved.sum(axis) * np.arange(112)).sum() / moved.sum() for axis in (0, 1)]
        assert np.hypot(centre[0] - 67.5, centre[1] - 37.5) < 5 * np.sqrt(2) + 21.8 * (np.deg2rad(8) + 0.09)


def test_colour_keeps_grey_grey_apart_from_tint_and_is_one_map() -> None:
    """Two pixels of one colour stay of one colour."""
    face = np.zeros((112, 112, 3), np.uint8)
    face[:56], face[56:] = (200, 120, 80), (60, 60, 60)
    for seed in range(20):
        changed = change_colour(face, np.random.default_rng(seed))
        assert len(np.unique(changed[:56].reshape(-1, 3), axis=0)) == 1
        assert len(np.unique(changed[56:].reshape(-1, 3), axis=0)) == 1


class TestEpochBatches:
    def test_each_face_at_most_once_an_epoch_and_epochs_differ(self) -> None:
        batches = list(EpochBatches(10, 3, 4, seed=1))
        assert len(batches) == 4 * 3 == len(EpochBatches(10, 3, 4, seed=1))
        orders = []
        for epoch in range(4):
            places = [place for batch in batches[epoch * 3 : epoch * 3 + 3] for place in batch]
            assert {e for e, _ in places} == {epoch}
            assert max(Counter(index for _, index in places).values()) == 1
            orders.append([index for _, index in places])
        assert len({tuple(order) for order in orders}) == 4

    @pytest.mark.parametrize("done", range(13))
    def test_resuming_at_any_step_gives_the_rest(self, done: int) -> None:
        rest = EpochBatches(10, 3, 4, seed=1, first_step=done)
        assert list(rest) == list(EpochBatches(10, 3, 4, seed=1))[done:]
        assert len(rest) == 12 - done


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_same_faces_with_and_without_processes(workers: int) -> None:
    rng = np.random.default_rng(0)
    faces = InMemoryFaces(rng.integers(0, 256, (7, 112, 112, 3), np.uint8), np.array([0, 1, 0, 1, 2, 2, -1]))
    config = AugmentConfig()
    loader = open_loader(AugmentedFaces(faces, config, seed=5), EpochBatches(7, 3, 2, seed=9), workers=workers)
    seen = list(loader)
    assert len(seen) == 4
    for batch, places in zip(seen, EpochBatches(7, 3, 2, seed=9), strict=True):
        for row, (epoch, index) in enumerate(places):
            expected = augment(faces.read(index), config, np.random.default_rng((5, epoch, index)))
            assert torch.equal(batch.faces[row], torch.from_numpy(np.ascontiguousarray(expected)))
            assert batch.labels[row] == faces.labels[index]
            assert batch.indices[row] == index
