"""The people of a data set: aligned faces with names, from crops or from photographs."""

import functools
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.data.check import MAX_DISTANCE_PX, landmark_offsets
from edgeface.data.faceset import UNKNOWN, FaceSet, Skipped
from edgeface.data.usable import check_share
from edgeface.errors import DataError, ImageError, NoFaceError
from edgeface.faces import FACE_SIZE
from edgeface.runtime.deciding.gate import OPEN, Gate, fitness_scores
from edgeface.runtime.deciding.quality import unfit
from edgeface.runtime.detection.detector import Detector
from edgeface.runtime.portrait import take_portrait

MAX_FACES: Final = 2000
"""More faces than this are not taken: all are compared with all, which then are two million pairs."""
MAX_EACH: Final = 40
"""Nor more of one person, who would weigh too much."""

POOR: Final = "poor face"
ELSEWHERE: Final = "face out of place"
FACELESS: Final = frozenset({NoFaceError.kind, POOR, ELSEWHERE})
"""Kinds of pictures that are whole, and show no face that is of use."""

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Aligned faces of known people.

    Attributes:
        faces: (N, 112, 112, 3) uint8 RGB.
        labels: (N,) int64, an index into `names`.
        names: of the people that have a face here.
        skipped: pictures without a face that can be used.
        fitness: (N,) float32 in [0, 1], what a quality network says of the faces; None where there is none.
    """

    faces: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    fitness: npt.NDArray[np.float32] | None = None

    @property
    def sha256(self) -> str:
        """The hash of the pixels, in order."""
        return hashlib.sha256(self.faces.tobytes()).hexdigest()


def gather_people(
    data: FaceSet,
    detector: Callable[[], Detector],
    gate: Gate = OPEN,
    *,
    largest: bool = False,
    each: int = MAX_EACH,
    check_crops: bool = False,
    without: Collection[str] = (),
    seed: int = 0,
    progress: Progress,
) -> People:
    """Read the labelled faces of a data set, at most `MAX_FACES` of people drawn at random.

    A picture of 112 x 112 is taken for an aligned crop. In any other the face is found and aligned as by the camera
    loop. What the gate would not let through is left out. So is, where crops are checked, one in which the detector
    sees no face in the place of the template.

    Args:
        data: crops or photographs.
        detector: opens a face detector; called at the first photograph, or crop that is checked.
        gate: says which faces are good enough to be compared.
        largest: of several faces in a photograph take the largest, instead of leaving it out.
        each: of one person at most so many: fewer leave room for more people.
        check_crops: check crops as well.
        without: people to leave out, for example because they are known by another name too.
        seed: of the draw.
        progress: told how many of how many pictures are done.

    Raises:
        BundleError: as `detector` raises it.
        DataError: somebody who is to be left out is not there, or too many pictures cannot be read
            (`edgeface.data.usable.check_share`).
    """
    finder = functools.cache(detector)
    if missing := sorted(set(without) - set(data.identities)):
        raise DataError(f"nobody in {data.name} is called {missing[0]!r}, who was to be left out; check the name")
    barred = {data.identities.index(name) for name in without}
    chosen = _draw(data, each, barred, seed)
    faces, names, skipped = [], [], list(data.skipped)
    for done, index in enumerate(chosen):
        sample = data.samples[index]
        try:
            faces.append(usable_face(data, index, finder, gate, largest=largest, check_crops=check_crops))
            names.append(sample.identity or "")
        except (DataError, ImageError, NoFaceError) as error:
            skipped.append(Skipped(sample.key, str(error), error.kind))
        progress(done + 1, len(chosen))
    check_share([one for one in skipped[len(data.skipped) :] if one.kind not in FACELESS], len(chosen), data.name)
    people = tuple(sorted(set(names)))
    number = {name: label for label, name in enumerate(people)}
    stacked = np.stack(faces) if faces else np.zeros((0, FACE_SIZE, FACE_SIZE, 3), np.uint8)
    fitness = None if gate.network is None else fitness_scores(gate.network, stacked)
    return People(stacked, np.array([number[name] for name in names], np.int64), people, tuple(skipped), fitness)


def usable_face(
    data: FaceSet,
    index: int,
    finder: Callable[[], Detector],
    gate: Gate = OPEN,
    *,
    largest: bool = False,
    check_crops: bool = False,
) -> npt.NDArray[np.uint8]:
    """Return one face of a data set, (112, 112, 3) uint8 RGB aligned; arguments as `gather_people`.

    Raises:
        BundleError: as `finder` raises it.
        DataError, ImageError, NoFaceError: the picture has no face that can be used.
    """
    picture, key = data.photograph(index).image, data.samples[index].key
    if picture.shape == (FACE_SIZE, FACE_SIZE, 3):
        if check_crops:
            _check_crop(picture, finder(), key)
        # Of a crop nobody knows how large the face was, nor where its landmarks were.
        fitness = None if gate.network is None else gate.network.judge(picture[None])[0]
        reason = None if fitness is None else unfit(fitness, gate.compare)
        taken = picture
    else:
        seen = take_portrait(picture, finder(), gate, key, largest=largest)
        reason, taken = gate.refuses(seen.quality), seen.face
    if reason is not None:
        raise ImageError(f"the face in {key} is {reason}", POOR)
    return taken


def _check_crop(crop: npt.NDArray[np.uint8], detector: Detector, key: str) -> None:
    offsets = landmark_offsets(crop, detector)
    if offsets is None:
        raise NoFaceError(f"no face is seen in the crop {key}")
    distance = float(np.linalg.norm(offsets, axis=1).mean())
    if distance > MAX_DISTANCE_PX:
        raise ImageError(f"the face in the crop {key} lies {distance:.0f} px from the template", ELSEWHERE)


def _draw(data: FaceSet, each: int, barred: Collection[int], seed: int) -> list[int]:
    """Return the pictures to use, in order."""
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    labels = np.unique(data.labels[data.labels != UNKNOWN])
    for label in rng.permutation(labels):
        if int(label) in barred:
            continue
        own = np.flatnonzero(data.labels == label)
        own = np.sort(rng.permutation(own)[:each])
        if len(chosen) + len(own) <= MAX_FACES:
            chosen += own.tolist()
    return sorted(chosen)
