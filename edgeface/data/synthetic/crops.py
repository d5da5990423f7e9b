"""Aligned synthetic faces, one at a time and by the thousand."""

import multiprocessing
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.children import deaf_children
from edgeface.data.synthetic.anatomy import pose_head
from edgeface.data.synthetic.backdrops import backdrop
from edgeface.data.synthetic.identity import Identity, nth_identity
from edgeface.data.synthetic.nuisance import Nuisance, sample_nuisance
from edgeface.data.synthetic.rendering import paint
from edgeface.data.synthetic.sensor import photograph
from edgeface.errors import ConfigError
from edgeface.faces import FACE_SIZE, TEMPLATE, similarity_transform


def aligned_crop(
    identity: Identity,
    nuisance: Nuisance,
    size: int = FACE_SIZE,
    jitter_px: float = 0.0,
    sensor: bool = True,
) -> npt.NDArray[np.uint8]:
    """Paint one face straight into its aligned crop.

    Apart from sampling and the background the result is what `edgeface.faces.align` cuts out of a larger
    picture of the same face, without the cost of painting that picture.

    Args:
        identity: who.
        nuisance: under which circumstances.
        size: side of the crop in pixels.
        jitter_px: standard deviation of the landmarks' error, in pixels of a crop of 112; a detector's
            landmarks are about 1 pixel off. Drawn from `nuisance.seed`.
        sensor: apply exposure, blur, noise and compression.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    head = pose_head(identity, nuisance)
    template = TEMPLATE * (size / FACE_SIZE)
    landmarks = head.landmarks
    if jitter_px > 0:
        rng = np.random.default_rng((nuisance.seed, 2))
        # About 40 pixels of the crop are one face unit; a rough figure will do for noise.
        landmarks = landmarks + rng.normal(0.0, jitter_px / 40.0, landmarks.shape)
    image = backdrop(np.random.default_rng((nuisance.seed, 1)), (size, size))
    paint(head, nuisance, similarity_transform(landmarks, template), (size, size)).cover(image)
    return photograph(image, nuisance) if sensor else image


def crops(
    identities: int,
    per_identity: int,
    seed: int,
    start: int = 0,
    strength: float = 1.0,
    jitter_px: float = 0.8,
    workers: int = 1,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Paint a labelled set of aligned crops.

    Person k of the set depends on `seed` and `start + k` only: sets whose ranges of `start` do not overlap
    share nobody, and a larger set contains the smaller one.

    Args:
        identities: how many people.
        per_identity: crops of each.
        seed: names the population.
        start: number of the first person in the population.
        strength: see `sample_nuisance`.
        jitter_px: see `aligned_crop`.
        workers: processes; the result does not depend on it.

    Returns:
        (N, 112, 112, 3) uint8 RGB crops, person by person, and (N,) int64 labels from 0 to `identities` - 1.

    Raises:
        ConfigError: a number that cannot be used.
    """
    if identities < 1 or per_identity < 1 or start < 0 or seed < 0 or workers < 1:
        raise ConfigError(
            "identities, per_identity and workers must be at least 1, seed and start at least 0; "
            f"got {identities}, {per_identity}, {workers}, {seed}, {start}"
        )
    one = partial(_crops_of, per_identity=per_identity, seed=seed, strength=strength, jitter_px=jitter_px)
    people = range(start, start + identities)
    images = np.empty((identities, per_identity, FACE_SIZE, FACE_SIZE, 3), np.uint8)
    if workers == 1:
        for row, person in enumerate(people):
            images[row] = one(person)
    else:
        # A forked child may inherit locks that other threads hold; a spawned one starts clean.
        with deaf_children():
            started = multiprocessing.get_context("spawn").Pool(workers, cv2.setNumThreads, (1,))
        with started as pool:
            for row, block in enumerate(pool.imap(one, people, chunksize=4)):
                images[row] = block
    labels = np.repeat(np.arange(identities, dtype=np.int64), per_identity)
    return images.reshape(-1, FACE_SIZE, FACE_SIZE, 3), labels


def _crops_of(person: int, per_identity: int, seed: int, strength: float, jitter_px: float) -> npt.NDArray[np.uint8]:
    identity = nth_identity(seed, person)
    images = np.empty((per_identity, FACE_SIZE, FACE_SIZE, 3), np.uint8)
    for number in range(per_identity):
        nuisance = sample_nuisance(np.random.default_rng((seed, person, number + 1)), strength)
        images[number] = aligned_crop(identity, nuisance, jitter_px=jitter_px)
    return images
