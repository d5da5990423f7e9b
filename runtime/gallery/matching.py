"""Exact search among templates: every one is compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Match:
    """How well a face fits a person: the score with the nearest of that person's templates, in [-1, 1]."""

    name: str
    score: float


def similarities(matrix: npt.NDArray[np.float32], embedding: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the score of one face with each template.

    Args:
        matrix: (T, D) float32, the side of the templates; see `edgeface.scoring.Scoring`.
        embedding: (D,) float32, the side of the face.

    Returns:
        (T,) float32 in [-1, 1].
    """
    scores: npt.NDArray[np.float32] = np.clip(matrix @ embedding, -1.0, 1.0)  # rounding may exceed 1
    return scores


def best_per_person(
    names: Sequence[str], scores: npt.NDArray[np.float32], limit: int | None = None
) -> tuple[Match, ...]:
    """Return the best score of each person, best first; of equals, who comes first in `names`.

    Args:
        names: T names, one a template; a person with several templates comes several times.
        scores: (T,) the templates' scores.
        limit: how many people to return, for example 2 for the best and the runner-up; None for all.
    """
    if len(names) != len(scores):
        raise ValueError(f"{len(names)} names for {len(scores)} scores")
    best: dict[str, float] = {}
    for row in np.argsort(-scores, kind="stable").tolist():
        if limit is not None and len(best) >= limit:
            break
        best.setdefault(names[row], float(scores[row]))
    return tuple(Match(name, score) for name, score in best.items())
