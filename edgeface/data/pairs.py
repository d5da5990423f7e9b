"""Pairs of faces to verify on: the list of LFW, or drawn from labelled faces."""

import unicodedata
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import UNKNOWN, FaceSet
from edgeface.errors import DataError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """P comparisons between faces of one set.

    Attributes:
        first: (P,) int64, index into the set.
        second: (P,) int64.
        same: (P,) bool, whether both are one person.
        folds: (P,) int64, number of the fold of each pair, from 0.
    """

    first: Indices
    second: Indices
    same: npt.NDArray[np.bool_]
    folds: Indices

    def __len__(self) -> int:
        return len(self.first)

    @property
    def used(self) -> Indices:
        """The faces that occur in a pair, sorted, each once."""
        return np.unique(np.concatenate([self.first, self.second]))

    def select(self, places: Indices) -> "Pairs":
        """Return the pairs at these places."""
        return Pairs(self.first[places], self.second[places], self.same[places], self.folds[places])


def read_lfw_pairs(path: Path, faces: FaceSet) -> Pairs:
    """Read `pairs.txt` of Labeled Faces in the Wild (View 2).

    The first line says folds and pairs (`10 300`: for each fold, 300 genuine and then 300 impostor pairs).
    Lines are `NAME i j` or `NAME1 i NAME2 j`; picture i of NAME has the key `NAME/NAME_000i`, or `NAME_000i`.

    Raises:
        DataError: the file is missing or malformed, or pictures that it names are not in `faces`.
    """
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8"))
        lines = [line.split() for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the pairs in {path}: {error}") from error
    try:
        folds, half = (int(field) for field in lines[0])
        if folds < 2 or half < 1:
            raise ValueError
    except (IndexError, ValueError):
        raise DataError(
            f"the first line of {path} should say folds and pairs, as '10 300'; is it the list of View 2?"
        ) from None
    if len(lines) - 1 != folds * half * 2:
        raise DataError(f"{path} promises {folds} x 2 x {half} pairs and has {len(lines) - 1}; copy it again")
    place = _places(faces)
    first, second, same, missing = [], [], [], dict[str, None]()
    for number, fields in enumerate(lines[1:]):
        genuine = number // half % 2 == 0
        try:
            names = (fields[0], fields[0] if genuine else fields[2])
            numbers = (int(fields[1]), int(fields[2 if genuine else 3]))
            if len(fields) != (3 if genuine else 4):
                raise ValueError
        except (IndexError, ValueError):
            raise DataError(f"{path}, pair {number + 1}: cannot read {' '.join(fields)!r}") from None
        keys = [f"{name}_{i:04d}" for name, i in zip(names, numbers, strict=True)]
        missing.update((key, None) for key in keys if key not in place)
        first.append(place.get(keys[0], -1))
        second.append(place.get(keys[1], -1))
        same.append(genuine)
    if missing:
        raise DataError(
            f"{len(missing)} pictures that {path} names are not in {faces.name}; the first: "
            f"{next(iter(missing))}; pairs and faces must be of one data set"
        )
    return Pairs(
        np.array(first, np.int64),
        np.array(second, np.int64),
        np.array(same),
        np.arange(len(same)) // (2 * half),
    )


def _places(faces: FaceSet) -> dict[str, int]:
    """Map the last part of each key to its index: names of LFW hold their person already."""
    return {
        unicodedata.normalize("NFC", sample.key.rpartition("/")[2]): index for index, sample in enumerate(faces.samples)
    }


def make_pairs(faces: FaceSet, count: int = 3000, seed: int = 0, folds: int = 10) -> Pairs:
    """Draw distinct pairs from labelled faces, half genuine and half impostor.

    Identities are dealt to the folds first, and both faces of a pair are of one fold, so that a threshold is
    never tested on people it was chosen on. With few identities there are fewer folds, and with few faces
    fewer pairs.

    Args:
        faces: labelled faces; those without identity are not used.
        count: number of pairs wanted.
        seed: of the draw.
        folds: number of folds wanted; each gets at least two identities with two faces each.

    Raises:
        DataError: there are fewer than four identities with at least two faces.
    """
    rng = np.random.default_rng(seed)
    counts = sorted(faces.label_counts().items())
    groups = [np.flatnonzero(faces.labels == label) for label, n in counts if n >= 2 and label != UNKNOWN]
    if len(groups) < 4:
        raise DataError(
            f"{faces.name} has {len(groups)} identities with two or more faces; pairs need at least 4, so that "
            "thresholds are tested on other people than they are chosen on"
        )
    folds = min(folds, len(groups) // 2)
    order = rng.permutation(len(groups))
    first, second, same, numbers = [], [], [], []
    for fold in range(folds):
        dealt = [groups[g] for g in order[fold::folds]]
        wanted = (count * (fold + 1)) // folds // 2 - (count * fold) // folds // 2
        for genuine, pairs in ((True, _genuine(dealt, wanted, rng)), (False, _impostor(dealt, wanted, rng))):
            first += [pair[0] for pair in pairs]
            second += [pair[1] for pair in pairs]
            same += [genuine] * len(pairs)
            numbers += [fold] * len(pairs)
    indices = [np.array(column, np.int64) for column in (first, second, numbers)]
    return Pairs(indices[0], indices[1], np.array(same), indices[2])


def _genuine(groups: list[Indices], wanted: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw distinct pairs of faces of one identity; every identity is as likely, whatever its faces."""
    waiting = []
    for group in groups:
        faces = rng.permutation(group)[:40].tolist()  # 780 pairs: enough, and bounded
        pairs = list(combinations(faces, 2))
        waiting.append([pairs[i] for i in rng.permutation(len(pairs))])
    chosen: list[tuple[int, int]] = []
    while len(chosen) < wanted and waiting:
        waiting = [pairs for pairs in waiting if pairs]
        chosen += [pairs.pop() for pairs in waiting]
    return chosen[:wanted]


def _impostor(groups: list[Indices], wanted: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw distinct pairs of faces of two identities."""
    total = sum(len(a) * len(b) for a, b in combinations(groups, 2))
    chosen: dict[tuple[int, int], None] = {}
    # Drawing again at a repeat is fast while at most half of all pairs are wanted.
    while len(chosen) < min(wanted, (total + 1) // 2):
        a, b = sorted(rng.choice(len(groups), 2, replace=False).tolist())
        chosen[int(rng.choice(groups[a])), int(rng.choice(groups[b]))] = None
    return list(chosen)
