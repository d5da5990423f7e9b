"""Putting a person into the gallery: every picture is looked at before the first template is stored."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ImageError, NoFaceError
from edgeface.faces import align
from edgeface.images import read_image
from edgeface.runtime.capture import open_frames
from edgeface.runtime.detections import Detections
from edgeface.runtime.frames import FrameSource
from edgeface.runtime.gallery import Gallery, Template, clean_name
from edgeface.runtime.live_settings import LiveSettings
from edgeface.runtime.quality import Quality, QualitySettings, measure, problem
from edgeface.runtime.recognizer import Recognizer, one_face

logger = logging.getLogger(__name__)

SHOT_INTERVAL_S: Final = 0.5
"""Between two pictures of a camera, so that they differ."""

CAMERA_PATIENCE_S: Final = 60.0
"""How long to wait for a face before giving up."""

ENROLMENT_QUALITY: Final = QualitySettings(max_yaw_deg=45.0, max_roll_deg=45.0)
"""Stricter than the camera loop: what is enrolled is compared with everything that comes after."""


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """The one face of a picture.

    Attributes:
        face: (112, 112, 3) uint8 RGB, aligned.
        quality: how good it is.
        source: where it came from, for example a file name.
    """

    face: npt.NDArray[np.uint8]
    quality: Quality
    source: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who was enrolled with how many templates, and how many people the gallery has now."""

    name: str
    templates: int
    people: int


def portrait(image: npt.NDArray[np.uint8], found: Detections, source: str) -> Portrait:
    """Align the one face that was found in (H, W, 3) uint8 RGB, and measure it."""
    face = align(image, found.landmarks[0])
    return Portrait(face, measure(face, found.boxes[0], found.landmarks[0]), source)


def file_portraits(recognizer: Recognizer, paths: Sequence[Path], *, largest: bool = False) -> Iterator[Portrait]:
    """Read picture files and find the one face in each.

    Raises:
        ImageError: a file cannot be read, or its face is too poor to be recognised by.
        NoFaceError: no face, or several and not `largest`.
    """
    for path in paths:
        image = read_image(path)
        found = one_face(recognizer.detector.detect(image), image, str(path), largest=largest)
        taken = portrait(image, found, path.name)
        if reason := problem(taken.quality, ENROLMENT_QUALITY):
            raise ImageError(f"the face in {path} cannot be enrolled, it is {reason}; use a better picture")
        yield taken


def camera_portraits(recognizer: Recognizer, camera: int, shots: int) -> Iterator[Portrait]:
    """Take pictures from a camera whenever exactly one good face is in sight.

    Raises:
        SourceError: the camera cannot be opened or is lost.
        NoFaceError: not enough such frames within `CAMERA_PATIENCE_S`.
    """
    with open_frames(f"camera:{camera}", live=LiveSettings(reconnect=False)) as source:
        yield from shots_from(recognizer, source, shots, time.monotonic)


def shots_from(
    recognizer: Recognizer, source: FrameSource, shots: int, clock: Callable[[], float]
) -> Iterator[Portrait]:
    """Take `shots` good pictures from a source, at least `SHOT_INTERVAL_S` apart; `clock` gives seconds."""
    start, last, taken = clock(), -np.inf, 0
    reason: str | None = None
    while taken < shots:
        frame = source.read()
        now = clock()
        if frame is None or now - start > CAMERA_PATIENCE_S:
            last_seen = f" (the last one was {reason})" if reason else ""
            raise NoFaceError(
                f"only {taken} of {shots} good pictures of a single face came from {source.name} in "
                f"{now - start:.0f} s{last_seen}; stand alone in front of the camera, in good light"
            )
        if now - last < SHOT_INTERVAL_S:
            continue
        found = recognizer.detector.detect(frame.image)
        if len(found) != 1:
            continue
        seen = portrait(frame.image, found, f"{source.name} picture {taken + 1}")
        reason = problem(seen.quality, ENROLMENT_QUALITY)
        if reason is None:
            taken, last = taken + 1, now
            logger.info("picture %d of %d", taken, shots)
            yield seen


def enroll(recognizer: Recognizer, gallery: Path, name: str, portraits: Iterable[Portrait]) -> Enrolment:
    """Embed portraits and add them to a person in the gallery, which is made if there is none.

    Raises:
        ConfigError: the name cannot be used.
        GalleryError: the gallery cannot be opened or belongs to another space.
        ImageError, NoFaceError, SourceError: as the portraits raise them; then nothing is stored.
    """
    name = clean_name(name)
    templates = [
        Template(recognizer.embed_face(taken.face), taken.quality.sharpness, taken.source, recognizer.precision)
        for taken in portraits
    ]
    embedder = recognizer.embedder
    with Gallery(gallery, embedder.space, embedder.dimension, create=True) as opened:
        opened.enroll(name, templates)
        return Enrolment(name, len(templates), len(opened.list()))
