"""What is wrong with a data set, before it costs a training run or makes a test too easy."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.data.duplicates import Fingerprints, fingerprint, same_pictures
from edgeface.data.faceset import FaceSet, Skipped, left_out
from edgeface.data.finder import FaceFinder
from edgeface.data.parallel import in_order
from edgeface.errors import DataError, EdgefaceError
from edgeface.faces import FACE_SIZE, TEMPLATE

MARGIN: Final = 56
"""Pixels added around a crop before a detector sees it: it was trained on faces with something around them."""

MAX_DISTANCE_PX: Final = 6.0
"""Mean distance of a face's landmarks from the template up to which a crop counts as aligned."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Copies:
    """Pictures that are the same: their keys, and whose they are said to be."""

    keys: tuple[str, ...]
    identities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a set shares with a test set.

    Attributes:
        name: of the test set.
        identities: names of identities that are in both; class numbers are no names and do not count.
        pictures: keys of the same picture, here and there.
        unreadable: pictures of the test set that cannot be read, of which nobody knows.
    """

    name: str
    identities: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]
    unreadable: int


@dataclass(frozen=True, slots=True)
class Alignment:
    """How far a detector's landmarks lie from the template, in pixels of the crop.

    Attributes:
        crops: number of crops that were looked at.
        faces: of these, how many had a face that the detector found.
        distance_px: median over the crops of the mean distance of the five landmarks.
        far: crops farther than `MAX_DISTANCE_PX`.
        offset_px: median offset (x, y) of the landmarks' centre; the same shift in all crops shows here.
    """

    crops: int
    faces: int
    distance_px: float
    far: tuple[str, ...]
    offset_px: tuple[float, float]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found in a set.

    Attributes:
        name: of the set.
        pictures: number of pictures that can be read.
        identities: number of identities.
        unlabelled: pictures without identity.
        unreadable: pictures that cannot be read, and those that are listed and not there.
        duplicates: groups of pictures that are the same.
        single: identities with one readable picture.
        empty: identities whose every picture is unreadable.
        sizes: number of pictures of each size, `WIDTHxHEIGHT`.
        overlap: with the test set, None if none was given.
        alignment: None without a detector, or when no picture has the size of a crop.
    """

    name: str
    pictures: int
    identities: int
    unlabelled: int
    unreadable: tuple[Skipped, ...]
    duplicates: tuple[Copies, ...]
    single: tuple[str, ...]
    empty: tuple[str, ...]
    sizes: dict[str, int]
    overlap: Overlap | None
    alignment: Alignment | None

    @property
    def unaligned(self) -> int:
        """Pictures that are no crops by their size."""
        return self.pictures - self.sizes.get(f"{FACE_SIZE}x{FACE_SIZE}", 0)

    @property
    def mislabelled(self) -> tuple[Copies, ...]:
        """The same picture under two names: at least one is wrong."""
        return tuple(copies for copies in self.duplicates if len(copies.identities) > 1)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**asdict(self), "unaligned": self.unaligned, "mislabelled": len(self.mislabelled)}


def check_faces(
    faces: FaceSet,
    against: FaceSet | None = None,
    detector: FaceFinder | None = None,
    *,
    crops: int = 1000,
    workers: int = 0,
    progress: Progress | None = None,
) -> CheckReport:
    """Look at every picture of a set once. A millisecond a picture and core, memory of about 300 bytes a picture.

    Args:
        faces: the set.
        against: a test set that should share nothing with it.
        detector: tells whether crops are aligned; safe to use from several threads.
        crops: how many crops the detector sees, spread over the set.
        workers: threads; 0 is one a core.
        progress: told how many of how many pictures were read.

    Raises:
        DataError: no picture of the set can be read.
    """
    total = len(faces) + (len(against) if against else 0)

    def told(done: int) -> None:
        if progress:
            progress(done, total)

    shapes, prints, unreadable = _read_all(faces, workers, told)
    good = [index for index, shape in enumerate(shapes) if shape is not None]
    if not good:
        raise DataError(f"none of the {len(faces)} pictures in {faces.name} can be read: {left_out(unreadable)}")
    overlap = None
    if against is not None:
        overlap = _overlap(faces, prints, good, against, workers, lambda done: told(len(faces) + done))
    counts = Counter(faces.labels[good].tolist())
    aligned = [index for index in good if shapes[index] == (FACE_SIZE, FACE_SIZE)]
    sample = [aligned[i] for i in np.linspace(0, len(aligned) - 1, min(crops, len(aligned))).round().astype(int)]
    return CheckReport(
        name=faces.name,
        pictures=len(good),
        identities=len(faces.identities),
        unlabelled=counts[-1],
        unreadable=(*faces.skipped, *unreadable),
        duplicates=tuple(_copies(faces, [good[i] for i in group]) for group in same_pictures(prints)),
        single=tuple(name for label, name in enumerate(faces.identities) if counts[label] == 1),
        empty=tuple(name for label, name in enumerate(faces.identities) if counts[label] == 0),
        sizes={f"{w}x{h}": n for (w, h), n in Counter(s for s in shapes if s is not None).most_common()},
        overlap=overlap,
        alignment=measure_alignment(faces, sample, detector, workers) if detector and sample else None,
    )


def _read_all(
    faces: FaceSet, workers: int, told: Callable[[int], None]
) -> tuple[list[tuple[int, int] | None], Fingerprints, list[Skipped]]:
    """Return the (width, height) of each picture, the fingerprints of those that can be read, and the others."""

    def look(index: int) -> tuple[tuple[int, int], tuple[np.uint64, npt.NDArray[np.uint8]]] | Skipped:
        try:
            photograph = faces.photograph(index)
        except EdgefaceError as error:
            return Skipped(faces.samples[index].key, str(error), error.kind)
        return photograph.size_wh, fingerprint(photograph.image)

    shapes: list[tuple[int, int] | None] = []
    prints = []
    bad = []
    for index, seen in enumerate(in_order(look, len(faces), workers)):
        if isinstance(seen, Skipped):
            shapes.append(None)
            bad.append(seen)
        else:
            shapes.append(seen[0])
            prints.append(seen[1])
        told(index + 1)
    return shapes, Fingerprints.collect(prints), bad


def _copies(faces: FaceSet, group: list[int]) -> Copies:
    names = {faces.samples[i].identity for i in group}
    return Copies(tuple(faces.samples[i].key for i in group), tuple(sorted(n for n in names if n is not None)))


def _overlap(
    faces: FaceSet, prints: Fingerprints, good: list[int], test: FaceSet, workers: int, told: Callable[[int], None]
) -> Overlap:
    _, other, bad = _read_all(test, workers, told)
    pictures = []
    for group in same_pictures(prints.joined(other)):
        here = [faces.samples[good[i]].key for i in group if i < len(prints)]
        there = [test.samples[i - len(prints)].key for i in group if i >= len(prints)]
        pictures += [(key, there[0]) for key in here if there]
    names = {_plain(name) for name in test.identities} - {""}
    return Overlap(test.name, tuple(n for n in faces.identities if _plain(n) in names), tuple(pictures), len(bad))


def _plain(name: str) -> str:
    """Return a name without what spelling changes: case, and what stands between its parts; empty for a number."""
    letters = "".join(letter for letter in name.casefold() if letter.isalnum())
    return "" if letters.isdigit() else letters


def landmark_offsets(crop: npt.NDArray[np.uint8], detector: FaceFinder) -> npt.NDArray[np.float64] | None:
    """Return by how much landmarks in a crop are off the template, (5, 2) px; None if no face is seen."""
    wider = cv2.copyMakeBorder(crop, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REPLICATE)
    found = detector.detect(np.asarray(wider, np.uint8))
    if not len(found.scores):
        return None
    points = np.asarray(found.landmarks, np.float64) - MARGIN
    # Of several faces, the one in the place of the template.
    nearest = np.linalg.norm(points - TEMPLATE, axis=2).mean(axis=1).argmin()
    return np.asarray(points[nearest] - TEMPLATE, np.float64)


def measure_alignment(faces: FaceSet, indices: list[int], detector: FaceFinder, workers: int = 0) -> Alignment:
    """Compare where a detector sees the landmarks of crops with where the template has them."""

    def look(number: int) -> npt.NDArray[np.float64] | None:
        return landmark_offsets(faces.picture(indices[number]), detector)

    seen = list(in_order(look, len(indices), workers))
    offsets = np.array([offset for offset in seen if offset is not None]).reshape(-1, 5, 2)
    keys = [faces.samples[i].key for i, offset in zip(indices, seen, strict=True) if offset is not None]
    distances = np.linalg.norm(offsets, axis=2).mean(axis=1)
    if not len(offsets):
        return Alignment(len(indices), 0, float("nan"), (), (float("nan"), float("nan")))
    shift = np.median(offsets.mean(axis=1), axis=0)
    far = tuple(key for key, distance in zip(keys, distances, strict=True) if distance > MAX_DISTANCE_PX)
    return Alignment(len(indices), len(offsets), float(np.median(distances)), far, (float(shift[0]), float(shift[1])))
