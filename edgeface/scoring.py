"""How two faces are compared: by the cosine of their embeddings, or with a cohort by the normalised score.

The normalised score is the cosine less an allowance of either face, which says how near that is to strangers (see
`edgeface.cohort`): about 0 where two faces are no nearer to each other than to those, lower for faces that resemble
everybody, such as two dark ones.

Where the bundle asks for it, the allowance of a face grows with the fitness that it lacks: a little blur moves all
embeddings the same way, which the strangers do not show. A face that is fit to be a template loses nothing by that.

It is an inner product of two longer vectors, [t, 1, -a(t)] of a template and [q, -a(q), 1] of a face, so that whatever
searches by inner product finds the nearest people by it, exactly.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.cohort import Cohort
from edgeface.fitness import FitnessAllowance
from edgeface.manifest import Kind
from edgeface.metrics import cosine_scores

Floats = npt.NDArray[np.float32]

WORDS: Final[dict[Kind, str]] = {"cosine": "cosine", "normalised": "normalised score"}
"""What a score of each kind is called wherever somebody reads of it."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What is made of two embeddings.

    Attributes:
        cohort: of the bundle that made them; None compares by cosine.
        fitness: what unfit faces lose besides; needs a cohort. None for nothing.
    """

    cohort: Cohort | None = None
    fitness: FitnessAllowance | None = None

    @property
    def kind(self) -> Kind:
        """What a score is."""
        return "cosine" if self.cohort is None else "normalised"

    @property
    def word(self) -> str:
        """What a score is called."""
        return WORDS[self.kind]

    @property
    def extra(self) -> int:
        """So many numbers each side of a comparison is longer than an embedding."""
        return 0 if self.cohort is None else 2

    def templates(self, embeddings: Floats, means: Floats | None = None, fitness: Floats | None = None) -> Floats:
        """Return the side of the templates, whose inner products with `probes` are the scores.

        Args:
            embeddings: (T, D) float32 of unit length.
            means: (T,) their cohort means, where they are known.
            fitness: (T,) of the faces, in [0, 1], NaN where it is not known; None where none is.

        Returns:
            (T, D + `extra`) float32; without a cohort the embeddings themselves.
        """
        if self.cohort is None:
            return embeddings
        known = self.cohort.means(embeddings) if means is None else means
        allowances = self._allowances(self.cohort, known, fitness)[:, None]
        return np.concatenate([embeddings, np.ones_like(allowances), -allowances], axis=1)

    def probes(self, embeddings: Floats, fitness: Floats | None = None) -> Floats:
        """Return the side of the faces that are held against templates, (N, D + `extra`) float32; see `templates`."""
        if self.cohort is None:
            return embeddings
        allowances = self._allowances(self.cohort, self.cohort.means(embeddings), fitness)[:, None]
        return np.concatenate([embeddings, -allowances, np.ones_like(allowances)], axis=1)

    def pairs(
        self,
        first: npt.NDArray[np.floating],
        second: npt.NDArray[np.floating],
        fitness: tuple[Floats | None, Floats | None] = (None, None),
    ) -> npt.NDArray[np.float64]:
        """Return the score of each row of `first` with the same row of `second`.

        Args:
            first: (N, D) embeddings, of any length above zero.
            second: (N, D).
            fitness: (N,) of the faces of both, as in `templates`.

        Returns:
            (N,) float64 in [-1, 1].

        Raises:
            DataError: an embedding is zero or not finite, so it has no direction.
        """
        scores = cosine_scores(first, second)
        if self.cohort is None:
            return scores
        for side, known in zip((first, second), fitness, strict=True):
            unit = (side / np.linalg.norm(side, axis=1, keepdims=True)).astype(np.float32)
            scores -= self._allowances(self.cohort, self.cohort.means(unit), known)
        np.maximum(scores, -1.0, out=scores)
        return scores

    def _allowances(self, cohort: Cohort, means: Floats, fitness: Floats | None) -> Floats:
        allowances = cohort.allowances(means)
        return allowances if self.fitness is None or fitness is None else allowances + self.fitness.of(fitness)


COSINE: Final = Scoring()
"""Without a cohort."""
