"""Choosing the faces that fix the quantization ranges."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.data.check import MAX_DISTANCE_PX, measure_alignment
from edgeface.data.duplicates import MIN_CORRELATION, THUMBNAIL, fingerprint
from edgeface.data.faceset import UNKNOWN, FaceSet, InMemoryFaces, Skipped
from edgeface.data.finder import FaceFinder
from edgeface.data.usable import check_share
from edgeface.errors import EdgefaceError, ExportError
from edgeface.export.quantization.ranges import MIN_IMAGES
from edgeface.image_kinds import describe_kinds

MIN_CONTRAST: Final = 8.0
"""Standard deviation of the grey values, of 255, below which a picture is flat: no face shows less."""

MIN_SHARPNESS: Final = 0.05
"""As `edgeface.runtime.deciding.quality.QualitySettings.min_sharpness`: a camera loop embeds no face below it."""

HELD_OUT: Final = 4
"""Every so manyth face fixes no range: bounds are measured on those."""

LOOKED_AT: Final = 200
"""Pictures in which `check_aligned` looks for faces: half a second."""

_FEW_FACES: Final = 64
"""With fewer faces than this, all of them fix ranges and bounds are measured on the same."""

Chosen = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sample:
    """Faces drawn for calibration, and what was passed over on the way.

    Attributes:
        images: (N, 112, 112, 3) uint8 RGB.
        named: how many of them have a known identity.
        people: number of those identities.
        broken: pictures that cannot be used at all.
        flat: pictures without contrast.
        blurred: pictures without detail.
        repeated: pictures that are in the sample already.
        kinds: what the broken ones are, in words.
    """

    images: npt.NDArray[np.uint8]
    named: int
    people: int
    broken: int
    flat: int
    blurred: int
    repeated: int
    kinds: str = ""

    def __str__(self) -> str:
        of_them = f", {self.named} of them" if self.named < len(self.images) else ""
        people = f"{of_them} of {self.people} people" if self.people else ""
        broken = f"broken ({self.kinds})" if self.kinds else "broken"
        counts = {broken: self.broken, "flat": self.flat, "blurred": self.blurred, "repeated": self.repeated}
        passed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"{len(self.images)} faces{people}" + (f"; passed over: {passed}" if passed else "")


def draw_faces(faces: FaceSet, count: int, seed: int = 0) -> Sample:
    """Draw faces that show what a device will see, the same ones for the same seed.

    People take turns, so that nobody with many pictures outweighs the others; a face without an identity counts as a
    person of its own. Pictures that are broken, flat, blurred or there already are passed over.

    Args:
        faces: where from.
        count: how many, fewer if there are no more.
        seed: of the order of people and of their pictures.

    Raises:
        ExportError: fewer than 16 are usable.
        DataError: too many of those that were looked at are broken (`edgeface.data.usable.check_share`).
    """
    drawn: list[npt.NDArray[np.uint8]] = []
    looks = np.zeros((0, THUMBNAIL**2), np.float32)
    labels: list[int] = []
    passed = {"flat": 0, "blurred": 0, "repeated": 0}
    broken: list[Skipped] = []
    for index in _turns(faces, np.random.default_rng(seed)):
        if len(drawn) == count:
            break
        try:
            face = faces.read(index)
        except EdgefaceError as error:
            broken.append(Skipped(faces.samples[index].key, str(error), error.kind))
            continue
        if fault := _fault(face):
            passed[fault] += 1
            continue
        look = _look(face)
        if len(looks) and (looks @ look).max() > MIN_CORRELATION:
            passed["repeated"] += 1
            continue
        looks = np.vstack([looks, look])
        drawn.append(face)
        labels.append(int(faces.labels[index]))
    if len(drawn) < MIN_IMAGES:
        counts = ", ".join(f"{number} {what}" for what, number in {"broken": len(broken), **passed}.items() if number)
        first_fault = f"; the first that cannot be used: {broken[0].reason}" if broken else ""
        raise ExportError(
            f"calibration needs at least {MIN_IMAGES} usable aligned faces, {faces.name} gives {len(drawn)}"
            f"{f' (passed over: {counts})' if counts else ''}{first_fault}"
        )
    check_share(broken, len(broken) + len(drawn) + sum(passed.values()), faces.name)
    named = [label for label in labels if label != UNKNOWN]
    kinds = describe_kinds(one.kind for one in broken)
    return Sample(np.stack(drawn), named=len(named), people=len(set(named)), broken=len(broken), kinds=kinds, **passed)


def check_aligned(sample: Sample, detector: FaceFinder, source: str) -> None:
    """Check that pictures show aligned faces: what is not a face fixes ranges that no face has.

    Args:
        sample: what was drawn.
        detector: looks for faces in up to `LOOKED_AT` of the pictures.
        source: where they come from, in words.

    Raises:
        ExportError: fewer than half of the pictures show a face, or half of those are not where the template has them.
    """
    images = sample.images[:LOOKED_AT]
    crops = InMemoryFaces(images, np.full(len(images), UNKNOWN), name=source)
    seen = measure_alignment(crops, list(range(len(images))), detector)
    if 2 * seen.faces < seen.crops:
        raise ExportError(
            f"calibration needs faces: in {seen.faces} of {seen.crops} pictures of {source} the detector finds one; "
            "give aligned crops, as edgeface data align makes them"
        )
    if seen.distance_px > MAX_DISTANCE_PX:
        raise ExportError(
            f"the faces of {source} are not aligned: their landmarks lie {seen.distance_px:.0f} px from the template, "
            f"shifted by ({seen.offset_px[0]:+.0f}, {seen.offset_px[1]:+.0f}) px in the middle; align them with: "
            "edgeface data align"
        )


def held_out(count: int) -> tuple[Chosen, Chosen, str]:
    """Share faces out: which fix ranges, which bounds are measured on, both (count,) bool, and the latter's name."""
    held = np.zeros(count, bool)
    if count < _FEW_FACES:
        return ~held, ~held, "calibration faces"
    held[::HELD_OUT] = True
    return ~held, held, "held-out faces"


def _turns(faces: FaceSet, rng: np.random.Generator) -> Iterator[int]:
    """Give every index once: first one picture of each person, then a second of each that has one, and so on."""
    order = rng.permutation(len(faces))
    labels = faces.labels[order]
    turn = np.zeros(len(order), np.int64)
    for label in np.unique(labels[labels != UNKNOWN]):
        own = np.flatnonzero(labels == label)
        turn[own] = np.arange(len(own))
    yield from order[np.argsort(turn, kind="stable")].tolist()


def _fault(face: npt.NDArray[np.uint8]) -> str | None:
    """Say what makes a face useless for calibration, `flat` or `blurred`; None if nothing does."""
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    contrast = float(cv2.meanStdDev(grey)[1][0, 0])
    if contrast < MIN_CONTRAST:
        return "flat"
    detail = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0])
    return "blurred" if detail < MIN_SHARPNESS * contrast else None


def _look(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the thumbnail of a face, (256,), so that the dot product of two is their correlation."""
    thumbnail = fingerprint(face)[1].astype(np.float32)
    thumbnail -= thumbnail.mean()
    unit: npt.NDArray[np.float32] = thumbnail / max(float(np.linalg.norm(thumbnail)), 1e-6)
    return unit
