"""Are two pictures of one person? Yes, no, or it cannot be said."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.runtime.deciding.quality import fitness_of
from edgeface.runtime.portrait import Portrait
from edgeface.runtime.recognizer import Recognizer


@dataclass(frozen=True, slots=True)
class Verification:
    """What is known about two pictures.

    Attributes:
        same: whether they show one person; None if it cannot be said.
        score: how alike they are; also where nothing can be said, then only to be looked at.
        threshold: from which score on they count as one person.
        fmr: how often two people reach it; None for a threshold that the user gave.
        why: why not `same`; None where it is.
    """

    same: bool | None
    score: float
    threshold: float
    fmr: float | None
    why: str | None


def verify(
    recognizer: Recognizer,
    first: npt.NDArray[np.uint8],
    second: npt.NDArray[np.uint8],
    names: tuple[str, str] = ("the first picture", "the second picture"),
    *,
    largest: bool = False,
) -> Verification:
    """Compare the one face of a picture with that of another.

    A face that the gate refuses gives no answer: two dark or two masked faces look alike whoever they are.

    Args:
        recognizer: finds, measures and embeds them.
        first: (H, W, 3) uint8 RGB.
        second: likewise.
        names: what to call them.
        largest: with several faces in a picture, take the largest.

    Raises:
        NoFaceError: in one of them is no face, or several and not `largest`.
        BundleError: the bundle has no threshold.
    """
    portraits = [
        recognizer.take(image, name, largest=largest) for image, name in zip((first, second), names, strict=True)
    ]
    one, two = (recognizer.embed_face(taken.face)[None] for taken in portraits)
    fitness = fitness_of(taken.quality for taken in portraits)
    score = float(recognizer.scoring.pairs(one, two, (fitness[:1], fitness[1:]))[0])
    limit = recognizer.threshold
    doubt = _doubt(recognizer, portraits)
    if doubt is not None:
        return Verification(None, score, limit.cosine, limit.fmr, doubt)
    same = score >= limit.cosine
    why = None if same else f"{recognizer.scoring.word} {score:.4f} is below the threshold {limit.cosine:.4f}"
    return Verification(same, score, limit.cosine, limit.fmr, why)


def _doubt(recognizer: Recognizer, portraits: list[Portrait]) -> str | None:
    """Say which of the faces the gate refuses, and why; None if none."""
    reasons = [(taken.source, recognizer.gate.refuses(taken.quality)) for taken in portraits]
    said = [f"the face in {name} is not fit to be compared: {reason}" for name, reason in reasons if reason]
    return "; ".join(said) or None
