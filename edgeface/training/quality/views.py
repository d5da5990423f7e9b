"""Pictures of faces as a door sees them, what is wrong with each, and how near each stays to the face as it was."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.conditions.drawing import MISPLACED, SURROUNDINGS, WORN
from edgeface.conditions.framing import turned
from edgeface.data.augment import jitter
from edgeface.data.faceset import FaceSet
from edgeface.fitness import FAULTS

Image = npt.NDArray[np.uint8]
UNSAID: Final = -1.0
"""Of a fault that is neither there nor away: too little of it to teach either."""

BATCH: Final = 64

_PLACE: Final[dict[str, float]] = {"dark": 3, "blur": 3, "infrared": 2, "small": 1.5, "jpeg": 1, "backlight": 1}
_OF_FAULT: Final = {
    "glasses": ("eyes_covered", 0.4),
    "mask": ("mouth_covered", 0.0),
    "cut": ("cut", 0.5),
    "dark": ("dark", 0.6),
    "backlight": ("dark", 0.6),
    "blur": ("blurred", 0.5),
    "small": ("blurred", 0.6),
}
"""Which fault a condition is, and from which strength on; a weaker one is left unsaid."""


class FaceEmbedder(Protocol):
    """Turns aligned faces into embeddings."""

    def embed(self, faces: Image) -> npt.NDArray[np.float32]:
        """Return (N, D) float32 of unit length for (N, 112, 112, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What a quality network learns from.

    Attributes:
        pictures: (N, 112, 112, 3) uint8 RGB.
        fitness: (N,) float32: how near the embedding stays to that of the face as it was; 1 is the same, 0 no nearer
            than another person.
        turns: (N,) int64 quarters of a circle by which the face is turned, clockwise.
        faults: (N, 5) float32 in the order of `FAULTS`: 1 is there, 0 is not, `UNSAID`.
        faces: (N,) int64, the face in its set.
    """

    pictures: Image
    fitness: npt.NDArray[np.float32]
    turns: npt.NDArray[np.int64]
    faults: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int64]


def make_views(
    faces: FaceSet,
    embedders: Sequence[FaceEmbedder],
    count: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Views:
    """Draw views of faces and ask embedders about them.

    A quarter of the views is as it was but for a small jitter. Each view depends on seed and number alone.

    Args:
        faces: aligned.
        embedders: fitness is the mean over them.
        count: of the views.
        seed: of which faces and what happens to them.
        progress: told how many of how many views are done.
    """
    chosen = np.sort(np.random.default_rng(seed).integers(len(faces), size=count))
    pictures = np.empty((count, 112, 112, 3), np.uint8)
    turns, faults = np.zeros(count, np.int64), np.zeros((count, len(FAULTS)), np.float32)
    near = np.zeros((len(embedders), count), np.float32)
    between = np.zeros(len(embedders))
    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        clean = faces.read_many(chosen[start:stop].tolist())
        for place in range(start, stop):
            rng = np.random.default_rng((seed, place))
            pictures[place], turns[place], faults[place] = draw_view(clean[place - start], rng)
        for row, embedder in enumerate(embedders):
            before, after = embedder.embed(clean), embedder.embed(pictures[start:stop])
            near[row, start:stop] = (before * after).sum(axis=1)
            # Chosen faces come in the order of the set, so neighbours are of the same person more often than not.
            between[row] += (before[: len(before) // 2] * before[-(len(before) // 2) :]).sum() if len(before) > 1 else 0
        progress(stop, count)
    strangers = between / max(1, sum(len(range(s, min(s + BATCH, count))) // 2 for s in range(0, count, BATCH)))
    fitness = np.clip((near - strangers[:, None]) / (1 - strangers[:, None]), 0, 1).mean(axis=0)
    return Views(pictures, fitness.astype(np.float32), turns, faults, chosen)


def draw_view(face: Image, rng: np.random.Generator) -> tuple[Image, int, npt.NDArray[np.float32]]:
    """Put a face under what a door may do to it.

    Returns:
        (112, 112, 3) uint8 RGB, the quarters by which it is turned, and its faults as in `Views`.
    """
    quarters, faults = 0, np.zeros(len(FAULTS), np.float32)
    if rng.random() < 0.5:
        face = np.ascontiguousarray(face[:, ::-1])
    for name in _happens(rng):
        strength = float(rng.random())
        if name == "turned":
            quarters = int(rng.integers(1, 4))
            face = turned(face, quarters, rng)
            continue
        face = {**SURROUNDINGS, **WORN, **MISPLACED}[name](face, strength, rng)
        if name in _OF_FAULT:
            fault, least = _OF_FAULT[name]
            place = FAULTS.index(fault)
            faults[place] = 1 if strength >= least or faults[place] == 1 else UNSAID
    if rng.random() < 0.6:
        face = jitter(face, rng)
    return face, quarters, faults


def _happens(rng: np.random.Generator) -> Iterator[str]:
    """Draw what happens to a face, in order: what is worn, what the place does, how it lies in the picture."""
    kind = rng.random()
    worn, light = list(WORN), list(_PLACE)
    weights = np.array(list(_PLACE.values())) / sum(_PLACE.values())
    if kind < 0.25:
        return
    if kind < 0.40 or 0.62 <= kind < 0.74:  # worn, alone or with something else
        yield str(rng.choice(worn))
    if 0.62 <= kind < 0.66:
        yield from worn
    elif 0.40 <= kind < 0.62 or 0.66 <= kind < 0.80:
        yield str(rng.choice(light, p=weights))
    if 0.74 <= kind < 0.80:
        yield str(rng.choice(light, p=weights))
    if kind >= 0.80:
        if rng.random() < 0.3:
            yield str(rng.choice(light, p=weights))
        yield "cut" if kind < 0.9 else "turned"
