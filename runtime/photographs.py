"""Trying a bundle on photographs of people nobody named: does it know everybody again in a changed copy?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.faces import align
from edgeface.files import make_private_folder
from edgeface.images import write_image
from edgeface.runtime.cameras.sources import ImageFolder
from edgeface.runtime.deciding.decision import Decision
from edgeface.runtime.recognizer import Recognizer
from edgeface.runtime.showing.draw import FaceView, Overlay

COPY_SCALE: Final = 0.75
COPY_LIGHT: Final = 0.7
"""The copy is mirrored, smaller and darker: other pixels for the detector and for the embedder."""

SAME_PLACE: Final = 0.4
"""A face of the copy belongs to one of the photograph if their boxes overlap by this, intersection over union."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The faces of a picture that are good enough to be compared.

    Attributes:
        boxes: (N, 4) x, y, width, height in pixels.
        landmarks: (N, 5, 2).
        embeddings: (N, D) of unit length.
    """

    boxes: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one photograph.

    Attributes:
        name: of the file.
        faces: in the photograph that can be compared.
        known: of these, those that were known again in the copy.
        unknown: those that the copy shows too, and that were taken for nobody.
        mistaken: those that were taken for somebody else in the photograph.
        threshold: score from which on somebody counts as known.
        picture: the photograph with what was said, numbered.
    """

    name: str
    faces: int
    known: int
    unknown: int
    mistaken: int
    threshold: float
    picture: Path


def try_photographs(recognizer: Recognizer, folder: Path, out: Path) -> tuple[Trial, ...]:
    """Look at every photograph of a folder, and look for its people in a mirrored, smaller and darker copy.

    Who is who follows from the place in the picture, so nobody needs a name.

    Args:
        recognizer: opened bundle.
        folder: with photographs, which is there; other files are passed over.
        out: folder for the pictures.

    Raises:
        SourceError: it holds no picture that can be read.
        BundleError: the bundle has no threshold.
    """
    make_private_folder(out)
    trials = []
    with ImageFolder(folder) as source:
        while (frame := source.read()) is not None:
            trials.append(_try(recognizer, frame.image, frame.name, out / f"{Path(frame.name).stem}.png"))
    return tuple(trials)


def look(recognizer: Recognizer, image: npt.NDArray[np.uint8]) -> Seen:
    """Find, measure and embed the faces of a picture (H, W, 3) uint8 RGB, as the camera loop does."""
    found = recognizer.detector.detect(image)
    faces = [align(image, landmarks) for landmarks in found.landmarks]
    qualities = recognizer.gate.measure(faces, found.boxes, found.landmarks)
    rows = [row for row, quality in enumerate(qualities) if recognizer.gate.refuses(quality) is None]
    faces = [faces[row] for row in rows]
    size = recognizer.embedder.contract.size
    stacked = np.stack(faces) if faces else np.zeros((0, size, size, 3), np.uint8)
    return Seen(found.boxes[rows], found.landmarks[rows], recognizer.embedder.embed(stacked))


def changed_copy(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a mirrored, smaller and darker copy."""
    small = cv2.resize(image, None, fx=COPY_SCALE, fy=COPY_SCALE, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.rint(small[:, ::-1] * COPY_LIGHT).astype(np.uint8))


def original_boxes(boxes: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    """Return where boxes (N, 4) of a changed copy lie in a photograph of this width."""
    placed = boxes / COPY_SCALE
    placed[:, 0] = width - placed[:, 0] - placed[:, 2]
    return placed.astype(np.float32)


def _try(recognizer: Recognizer, image: npt.NDArray[np.uint8], name: str, out: Path) -> Trial:
    here, there = look(recognizer, image), look(recognizer, changed_copy(image))
    threshold = recognizer.limits.search({recognizer.precision: max(1, len(here.boxes))}).cosine
    partners = _partners(here.boxes, original_boxes(there.boxes, image.shape[1]))
    templates, probes = recognizer.scoring.templates(here.embeddings), recognizer.scoring.probes(there.embeddings)
    answers = []
    for row, partner in enumerate(partners):
        scores = templates @ probes[partner] if partner is not None else np.zeros(0, np.float32)
        best = int(scores.argmax()) if len(scores) else None
        said = best if best is not None and scores[best] >= threshold else None
        answers.append((said, None if best is None else float(scores[best]), row, partner))
    drawn = image.copy()
    Overlay().draw(
        drawn,
        [
            FaceView(row + 1, here.boxes[row], here.landmarks[row], _decision(said, score, threshold))
            for said, score, row, _ in answers
        ],
    )
    write_image(out, drawn)
    return Trial(
        name,
        faces=len(here.boxes),
        known=sum(said == row for said, _, row, _ in answers),
        unknown=sum(said is None and partner is not None for said, _, _, partner in answers),
        mistaken=sum(said is not None and said != row for said, _, row, _ in answers),
        threshold=threshold,
        picture=out,
    )


def _partners(here: npt.NDArray[np.float32], there: npt.NDArray[np.float32]) -> Sequence[int | None]:
    """Return for each box the one of the copy in the same place, None where the copy shows none."""
    partners: list[int | None] = []
    for box in here:
        top_left = np.maximum(box[:2], there[:, :2])
        bottom_right = np.minimum(box[:2] + box[2:], there[:, :2] + there[:, 2:])
        both = np.prod(np.clip(bottom_right - top_left, 0, None), axis=1)
        overlap = both / (np.prod(box[2:]) + np.prod(there[:, 2:], axis=1) - both)
        nearest = int(overlap.argmax()) if len(overlap) else None
        partners.append(nearest if nearest is not None and overlap[nearest] >= SAME_PLACE else None)
    return partners


def _decision(said: int | None, score: float | None, threshold: float) -> Decision:
    return Decision(
        state="match" if said is not None else "unknown",
        identity=None if said is None else f"face {said + 1}",
        score=score,
        threshold=threshold,
        runner_up=None,
        margin=None,
        votes=1,
        frames=1,
        why=None if said is not None else "not known again in the copy",
    )
