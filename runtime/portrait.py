"""The one face of a picture: found, turned upright if need be, aligned and measured."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import NoFaceError
from edgeface.faces import align
from edgeface.runtime.deciding.gate import Gate
from edgeface.runtime.deciding.quality import Quality
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.detection.detector import Detector

Image = npt.NDArray[np.uint8]

BYSTANDER_RATIO: Final = 1 / 3
"""In a portrait, a face narrower than this share of the largest does not count: it is far behind, or is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """The one face of a picture.

    Attributes:
        face: (112, 112, 3) uint8 RGB, aligned.
        quality: how good it is.
        source: where it came from, for example a file name.
        embedding: (D,) float32 of unit length; None if it was not needed yet.
        turned_deg: by how much the picture was turned, counterclockwise, to stand upright: 0, 90, 180 or 270.
    """

    face: Image
    quality: Quality
    source: str
    embedding: npt.NDArray[np.float32] | None = None
    turned_deg: int = 0


def portrait(image: Image, found: Detections, source: str, gate: Gate) -> Portrait:
    """Align the one face that was found in (H, W, 3) uint8 RGB, and measure it."""
    face = align(image, found.landmarks[0])
    return Portrait(face, gate.measure([face], found.boxes, found.landmarks)[0], source)


def take_portrait(image: Image, detector: Detector, gate: Gate, source: str, *, largest: bool = False) -> Portrait:
    """Find the one face of a picture.

    Where the gate has a quality network, a picture whose face hangs sideways or upside down is turned; so is one in
    which no face is found, until there is one. Without that network nobody knows which way up a face is.

    Args:
        image: (H, W, 3) uint8 RGB.
        detector: finds faces.
        gate: measures them.
        source: what to call the picture.
        largest: with several faces, take the largest.

    Raises:
        NoFaceError: there is no face, or several and not `largest`.
    """
    taken, missing = None, None
    try:
        taken = portrait(image, one_face(detector.detect(image), image, source, largest=largest), source, gate)
    except NoFaceError as error:
        missing = error
    if gate.network is None:
        turns: tuple[int, ...] = ()
    elif taken is None:
        turns = (180, 90, 270)
    else:
        fitness = taken.quality.fitness
        turns = () if fitness is None or not fitness.turn_deg else (fitness.turn_deg,)
    for turn_deg in turns:
        upright = np.ascontiguousarray(np.rot90(image, turn_deg // 90))
        found = detector.detect(upright)
        if not len(found):
            continue
        again = portrait(upright, one_face(found, upright, source, largest=largest), source, gate)
        if again.quality.fitness is not None and not again.quality.fitness.turn_deg:
            return replace(again, turned_deg=turn_deg)
    if taken is None:
        assert missing is not None
        raise missing
    return taken


def one_face(found: Detections, image: Image, name: str, *, largest: bool = False) -> Detections:
    """Return the one face that was found in a picture; those much smaller than the largest do not count.

    Raises:
        NoFaceError: there is no face, or several and not `largest`.
    """
    height, width = image.shape[:2]
    if not len(found):
        raise NoFaceError(f"no face found in {name} ({width} x {height} pixels); use a sharp picture of a whole face")
    widths = found.boxes[:, 2]
    count = int((widths >= BYSTANDER_RATIO * widths.max()).sum())
    if count > 1 and not largest:
        raise NoFaceError(f"{count} faces found in {name}; crop it to one, or take the largest with --largest")
    biggest = int(np.argmax(widths))
    return found.select(slice(biggest, biggest + 1))
