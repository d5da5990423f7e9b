"""Faces of one frame against everybody in the gallery."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import EdgefaceError, GalleryError
from edgeface.runtime.gallery.matching import Match
from edgeface.runtime.gallery.search import Found, open_index
from edgeface.scoring import COSINE, Scoring


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
        matrix: (T, D + `scoring.extra`) float32, what `scoring.templates` makes of embeddings.
        search: what searches, as `edgeface.runtime.gallery.search.open_index` takes it.
        scoring: how a face is compared with a template.

    Raises:
        UnknownNameError, MissingPackageError: as `open_index`.
    """

    def __init__(
        self,
        names: Sequence[str],
        matrix: npt.NDArray[np.float32],
        search: str | None = None,
        scoring: Scoring = COSINE,
    ) -> None:
        if len(names) != len(matrix):
            raise ValueError(f"{len(names)} names for {len(matrix)} templates")
        self.templates = len(names)
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            rows.setdefault(name, []).append(row)
        self.names: tuple[str, ...] = tuple(rows)
        """Each person once, in the order of their first templates."""
        self._columns = {name: column for column, name in enumerate(self.names)}
        self._scoring = scoring
        self._dimension = matrix.shape[1] - scoring.extra
        order = [row for own in rows.values() for row in own]
        if order != list(range(len(order))):  # else there is no need for a second copy of a large gallery
            matrix = matrix[order]
        starts = np.cumsum([0, *(len(own) for own in rows.values())])[:-1]
        self._index = open_index(matrix, starts, search) if names else None

    def compare(
        self,
        embeddings: npt.NDArray[np.float32],
        claim: str | None = None,
        fitness: npt.NDArray[np.float32] | None = None,
    ) -> tuple[Comparison, ...]:
        """Compare faces with everybody; a person's score is that of the nearest of their templates.

        Args:
            embeddings: (N, D) float32 of unit length.
            claim: compare with this person, and take the nearest other one for the runner-up.
            fitness: (N,) of the faces, see `edgeface.scoring.Scoring`.

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
        if self._index is None:
            return (Comparison(None),) * len(embeddings)
        if embeddings.shape[1] != self._dimension:
            raise GalleryError(
                f"the embedder gives {embeddings.shape[1]} numbers a face, the gallery holds {self._dimension}; "
                "use the bundle that the people were enrolled with, or enrol them again"
            )
        embeddings = self._scoring.probes(embeddings, fitness)
        if claim is None:
            return tuple(Comparison(*map(self._match, found)) for found in self._index.two_best(embeddings))
        claimed = self._columns.get(claim)
        others = [self._match(found[0]) if found else None for found in self._index.two_best(embeddings, claimed)]
        if claimed is None:
            return tuple(Comparison(None, other) for other in others)
        own = self._index.score(embeddings, claimed)
        return tuple(Comparison(Match(claim, float(score)), other) for score, other in zip(own, others, strict=True))

    def _match(self, found: Found) -> Match:
        return Match(self.names[found[0]], found[1])
