"""Who is trained on, and who is measured: never the same people."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeface.data import UNKNOWN, FaceSet, InMemoryFaces, Pairs, make_pairs, open_faces
from edgeface.data.synthetic import crops
from edgeface.errors import DataError
from edgeface.training.config import DataConfig

# Identity k of the generator depends on (seed, k) only: ranges that do not overlap never share a person.
TRAIN_PEOPLE: Final = range(0, 150)
TEST_PEOPLE: Final = range(20_000, 20_070)
FACES_EACH: Final = 12
SEED: Final = 0
"""Of the people and of the pairs, which are the same whatever the seed of a run."""


@dataclass(frozen=True, slots=True)
class People:
    """Faces of people to train on, and pairs of faces of others.

    Attributes:
        training: faces that have an identity with at least two of them, so that every loss can use each.
        test: faces of other people, also with at least two each.
        pairs: of `test`.
        name: what to call them in titles.
    """

    training: FaceSet
    test: FaceSet
    pairs: Pairs
    name: str

    @property
    def fingerprint(self) -> str:
        """A short text that differs where the faces by name, their people or the pairs differ."""
        digest = hashlib.sha256()
        for faces in (self.training, self.test):
            digest.update(repr([faces.name, [(s.key, s.identity) for s in faces.samples]]).encode())
        for column in (self.pairs.first, self.pairs.second):
            digest.update(column.tobytes())
        return digest.hexdigest()[:16]


def drawn_people(pairs: int, workers: int = 1) -> People:
    """Paint people to train on and others to measure on.

    Args:
        pairs: how many to draw.
        workers: processes that paint.
    """
    training, test = (_painted(numbers, workers) for numbers in (TRAIN_PEOPLE, TEST_PEOPLE))
    return People(training, test, make_pairs(test, pairs, SEED), f"{len(TEST_PEOPLE)} drawn people")


def opened_people(path: str, data: DataConfig, pairs: int) -> People:
    """Open faces and divide them by their splits, or else hold a share of the people out.

    Args:
        path: as `edgeface.data.open_faces`.
        data: which splits, or which share of the people.
        pairs: how many to draw.

    Raises:
        DataError: the faces are missing, or too few; or a split is missing, or both have the same people.
    """
    return divided(open_faces(path).checked(), data, pairs)


def divided(faces: FaceSet, data: DataConfig, pairs: int) -> People:
    """Divide faces that can all be read; arguments and errors as `opened_people`."""
    faces = faces.select(np.flatnonzero(faces.labels != UNKNOWN).tolist())
    if faces.splits:
        training, test = faces.split(data.split), faces.split(data.val_split)
        shared = sorted(set(training.identities) & set(test.identities))
        if shared:
            raise DataError(
                f"{len(shared)} people are in both splits of {faces.name}, {data.split!r} and {data.val_split!r}; the "
                f"first: {shared[0]}; people to measure on must be others than those to train on"
            )
    else:
        people = len(faces.identities)
        held_out = np.random.default_rng(SEED).permutation(people)[: round(people * data.val_identities)]
        out = np.isin(faces.labels, held_out)
        training, test = (faces.select(np.flatnonzero(part).tolist()) for part in (~out, out))
    training, test = _with_pairs(training), _with_pairs(test)
    if len(training.identities) < 2:
        raise DataError(
            f"{faces.name} has {len(training.identities)} people with two or more faces to train on; losses over pairs "
            "need at least 2"
        )
    return People(training, test, make_pairs(test, pairs, SEED), f"{len(test.identities)} people of {faces.name}")


def _painted(numbers: range, workers: int) -> InMemoryFaces:
    images, labels = crops(len(numbers), FACES_EACH, SEED, start=numbers.start, workers=workers)
    return InMemoryFaces(images, labels, name=f"drawn people {numbers.start} to {numbers.stop - 1}")


def _with_pairs(faces: FaceSet) -> FaceSet:
    """Leave out people with one face: they offer no pair, and every loss shall see the same faces."""
    counts = faces.label_counts()
    return faces.select([index for index, label in enumerate(faces.labels.tolist()) if counts[label] >= 2])
