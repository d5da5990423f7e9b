"""The cohort of a bundle: strangers, most of them under conditions, and what the network makes of them."""

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.cohort import COHORT_NAME, most_members, read_cohort, write_cohort
from edgeface.conditions import drawing
from edgeface.conditions.drawing import Draw
from edgeface.conditions.pixels import Image
from edgeface.data.faceset import UNKNOWN, FaceSet
from edgeface.errors import DataError, ImageError, NoFaceError
from edgeface.evaluation.verification import BATCH, FaceEmbedder
from edgeface.export.people import usable_face
from edgeface.manifest import CohortEntry
from edgeface.runtime.detection.detector import Detector
from edgeface.scoring import Scoring

LEAST: Final = 500
"""Fewer strangers are no cohort: of few, the nearest are not near."""
PLAIN_SHARE: Final = 0.1
"""So many of the faces stay as they are; the others get one condition each, in turns."""
WEAKEST: Final = 0.4
"""Least strength of a condition: a face with less of it has the cohort mean of one without."""


@dataclass(frozen=True, slots=True, eq=False)
class Strangers:
    """Aligned faces of people of whom nothing more is known.

    Attributes:
        faces: (N, 112, 112, 3) uint8 RGB; the first `plain` as they are, the others under conditions.
        plain: how many.
        source: where they come from, in words.
    """

    faces: npt.NDArray[np.uint8]
    plain: int
    source: str


@dataclass(frozen=True, slots=True)
class NewCohort:
    """A cohort as a bundle has it: what the manifest says of it, and its file."""

    entry: CohortEntry
    data: bytes
    scoring: Scoring


def draw_strangers(
    data: FaceSet, dimension: int, detector: Callable[[], Detector], *, seed: int = 0, name: str | None = None
) -> Strangers:
    """Draw faces for a cohort, the same ones for the same seed, as many as its file may hold.

    Faces without an identity come first, so that nobody is in it on whom thresholds are chosen; then one of each person
    that has a name. Most are put under conditions, other ones than those of the battery that is reported on.

    Args:
        data: crops or photographs; a picture without a usable face is passed over.
        dimension: length of the embeddings.
        detector: opens a face detector; called at the first photograph.
        seed: of all that is drawn.
        name: what to call the data.

    Raises:
        BundleError: as `detector` raises it.
        DataError: there are fewer than `LEAST` strangers.
    """
    label = name or data.name
    order = _order(data, np.random.default_rng(seed))
    if len(order) < LEAST:
        raise DataError(
            f"{label} shows {len(order)} strangers, a cohort needs {LEAST} or more; give faces of other people with "
            "--cohort, or leave the cohort out with --no-cohort"
        )
    finder = functools.cache(detector)
    faces: list[npt.NDArray[np.uint8]] = []
    keys: list[str] = []
    named = 0
    for index in order:
        if len(faces) == most_members(dimension):
            break
        try:
            faces.append(usable_face(data, index, finder))
        except (DataError, ImageError, NoFaceError):
            continue
        keys.append(data.samples[index].key)
        named += int(data.labels[index] != UNKNOWN)
    if len(faces) < LEAST:
        raise DataError(
            f"{label} shows {len(faces)} strangers in pictures that can be used, a cohort needs {LEAST} or more; give "
            "faces of other people with --cohort, or leave the cohort out with --no-cohort"
        )
    plain = round(PLAIN_SHARE * len(faces))
    for place in range(plain, len(faces)):
        rng = np.random.default_rng((seed, zlib.crc32(keys[place].encode())))
        faces[place] = _DRAWS[place % len(_DRAWS)](faces[place], rng.uniform(WEAKEST, 1), rng)
    who = "without a name" if not named else f"{named} of them with a name"
    source = f"{label}: {len(faces)} faces {who}, {plain} as they are, the others under drawn conditions, seed {seed}"
    return Strangers(np.stack(faces), plain, source)


def make_cohort(strangers: Strangers, embedder: FaceEmbedder, space: str) -> NewCohort:
    """Embed strangers, and write the cohort down.

    Raises:
        BundleError: an embedding is not of unit length.
    """
    parts = [embedder.embed(strangers.faces[start : start + BATCH]) for start in range(0, len(strangers.faces), BATCH)]
    embeddings = np.concatenate(parts)
    data = write_cohort(embeddings, space, strangers.plain)
    cohort = read_cohort(data, space, embeddings.shape[1])
    entry = CohortEntry(file=COHORT_NAME, members=len(embeddings), nearest=cohort.nearest, source=strangers.source)
    return NewCohort(entry, data, Scoring(cohort))


def _both(face: Image, strength: float, rng: np.random.Generator) -> Image:
    return drawing.draw_mask(drawing.draw_glasses(face, strength, rng), strength, rng)


_DRAWS: Final[tuple[Draw, ...]] = (
    drawing.draw_dark,
    drawing.draw_backlight,
    drawing.draw_blur,
    drawing.draw_small,
    drawing.draw_infrared,
    drawing.draw_mask,
    drawing.draw_glasses,
    _both,
)
"""All kinds alike, also the rare ones: a face is compared with those that suffer from the same."""


def _order(data: FaceSet, rng: np.random.Generator) -> list[int]:
    """Return which faces may be taken, those without an identity first, of a named person one."""
    drawn = rng.permutation(len(data))
    named = drawn[data.labels[drawn] != UNKNOWN]
    one_each = named[np.sort(np.unique(data.labels[named], return_index=True)[1])]
    order: list[int] = [*drawn[data.labels[drawn] == UNKNOWN].tolist(), *one_each.tolist()]
    return order
