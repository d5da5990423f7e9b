"""Faces of one frame against everybody in the gallery, in one multiplication."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import EdgefaceError, GalleryError
from edgeface.runtime.matching import Match


@dataclass(frozen=True, slots=True)
class Comparison:
    """One look at a face: whom it fits best, or how well it fits the claimed person.

    Attributes:
        best: the nearest person, with a claim the claimed one; None if there is nobody to compare with.
        runner_up: the nearest of the others; None if there are none.
    """

    best: Match | None
    runner_up: Match | None = None

    @property
    def margin(self) -> float | None:
        """How much better the best fits than the runner-up; negative if somebody else is nearer than the claim."""
        return self.best.score - self.runner_up.score if self.best and self.runner_up else None


class People:
    """The templates of a gallery, sorted by person for the search. They are never changed: a change makes a new one.

    Args:
        names: T names, one a template; a person with several templates comes several times.
        matrix: (T, D) float32, rows of unit length.
    """

    def __init__(self, names: Sequence[str], matrix: npt.NDArray[np.float32]) -> None:
        if len(names) != len(matrix):
            raise ValueError(f"{len(names)} names for {len(matrix)} templates")
        self.templates = len(names)
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            rows.setdefault(name, []).append(row)
        self.names: tuple[str, ...] = tuple(rows)
        """Each person once, in the order of their first templates."""
        self._columns = {name: column for column, name in enumerate(self.names)}
        self._matrix = matrix[[row for own in rows.values() for row in own]]
        self._starts = np.cumsum([0, *(len(own) for own in rows.values())])[:-1]

    def compare(self, embeddings: npt.NDArray[np.float32], claim: str | None = None) -> tuple[Comparison, ...]:
        """Compare faces with everybody; a person's score is the cosine to the nearest of their templates.

        Args:
            embeddings: (N, D) float32 of unit length.
            claim: compare with this person, and take the nearest other one for the runner-up.

        Returns:
            One comparison a face. Of people with equal scores the one enrolled first is named.

        Raises:
            GalleryError: the embeddings have another length than the templates.
            EdgefaceError: an embedding is not finite.
        """
        if not np.isfinite(embeddings).all():
            raise EdgefaceError(
                "the embedder gave numbers that are not finite; export the bundle again, or run it in fp32"
            )
        if not self.names:
            return (Comparison(None),) * len(embeddings)
        if embeddings.shape[1] != self._matrix.shape[1]:
            raise GalleryError(
                f"the embedder gives {embeddings.shape[1]} numbers a face, the gallery holds {self._matrix.shape[1]}; "
                "use the bundle that the people were enrolled with, or enrol them again"
            )
        scores = np.maximum.reduceat(embeddings @ self._matrix.T, self._starts, axis=1)  # (N, people)
        np.clip(scores, -1.0, 1.0, out=scores)  # rounding may exceed 1
        return tuple(self._comparison(row, claim) for row in scores)

    def _comparison(self, scores: npt.NDArray[np.float32], claim: str | None) -> Comparison:
        best = int(scores.argmax()) if claim is None else self._columns.get(claim)
        match = None if best is None else Match(self.names[best], float(scores[best]))
        if best is not None:
            scores[best] = -np.inf
        second = int(scores.argmax())
        if scores[second] == -np.inf:
            return Comparison(match)
        return Comparison(match, Match(self.names[second], float(scores[second])))
