"""The nearest people among the templates of a gallery: every template is compared, whatever does the comparing.

NumPy multiplies; above `NUMPY_TEMPLATES` templates FAISS does where it is installed. Both are exact: an approximate
search may miss the right person, and would change what a threshold promises.
"""

import importlib.util
import logging
import os
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.errors import MissingPackageError, UnknownNameError

logger = logging.getLogger(__name__)

SEARCH_VARIABLE: Final = "EDGEFACE_SEARCH"
"""Environment variable that names one of `KINDS`."""

KINDS: Final = ("auto", "numpy", "faiss")
NUMPY_TEMPLATES: Final = 500_000

_FIRST_TEMPLATES: Final = 16
"""So many templates FAISS is asked for first; more where they belong to one person, or tie."""

Floats = npt.NDArray[np.float32]
Found = tuple[int, float]
"""A person, as the position of their first template among those of everybody, and the score in [-1, 1]."""


class PeopleIndex(Protocol):
    """Compares faces with the templates of people, who are numbered from 0."""

    def two_best(self, embeddings: Floats, without: int | None = None) -> list[tuple[Found, ...]]:
        """Return for each of (N, D) float32 faces the two nearest people, or fewer if there are no more.

        A person's score is the largest inner product with one of their templates. Of equals the lower number comes
        first. `without` leaves one person out.
        """
        ...

    def score(self, embeddings: Floats, person: int) -> Floats:
        """Return the (N,) float32 scores of one person, in [-1, 1]."""
        ...


def open_index(matrix: Floats, starts: npt.NDArray[np.intp], kind: str | None = None) -> PeopleIndex:
    """Return the index for a gallery.

    Args:
        matrix: (T, D) float32, one row a template, those of each person together; T at least 1. The inner product of a
            row and a face is their score.
        starts: (P,) first row of each person, rising from 0.
        kind: one of `KINDS`; None asks the environment.

    Raises:
        UnknownNameError: there is no such kind.
        MissingPackageError: FAISS is asked for and not installed.
    """
    kind = kind or os.environ.get(SEARCH_VARIABLE) or "auto"
    if kind not in KINDS:
        raise UnknownNameError("search", kind, KINDS)
    if kind == "faiss" or (kind == "auto" and len(matrix) > NUMPY_TEMPLATES):
        if importlib.util.find_spec("faiss") is not None:
            return FaissIndex(matrix, starts)
        if kind == "faiss":
            raise MissingPackageError("faiss-cpu", "faiss")
        logger.warning("searching %d templates with NumPy; pip install 'edgeface[faiss]' makes it faster", len(matrix))
    return NumpyIndex(matrix, starts)


class NumpyIndex(PeopleIndex):
    """One matrix product. See `open_index` for the arguments."""

    def __init__(self, matrix: Floats, starts: npt.NDArray[np.intp]) -> None:
        self._matrix = matrix
        self._starts = starts
        self._ends = np.append(starts[1:], len(matrix))

    def two_best(self, embeddings: Floats, without: int | None = None) -> list[tuple[Found, ...]]:
        """See `PeopleIndex`."""
        scores = np.maximum.reduceat(embeddings @ self._matrix.T, self._starts, axis=1)  # (N, people)
        np.clip(scores, -1.0, 1.0, out=scores)  # rounding may exceed 1
        if without is not None:
            scores[:, without] = -np.inf
        return [self._two(row) for row in scores]

    def score(self, embeddings: Floats, person: int) -> Floats:
        """See `PeopleIndex`."""
        own = self._matrix[self._starts[person] : self._ends[person]]
        scores: Floats = np.clip((embeddings @ own.T).max(axis=1), -1.0, 1.0)
        return scores

    @staticmethod
    def _two(scores: Floats) -> tuple[Found, ...]:
        found: list[Found] = []
        for _ in range(2):
            best = int(scores.argmax())
            if scores[best] == -np.inf:
                break
            found.append((best, float(scores[best])))
            scores[best] = -np.inf
        return tuple(found)


class FaissIndex(PeopleIndex):
    """FAISS without an approximation (`IndexFlatIP`), which keeps its own copy. See `open_index` for the arguments."""

    def __init__(self, matrix: Floats, starts: npt.NDArray[np.intp]) -> None:
        import faiss

        self._index = faiss.IndexFlatIP(matrix.shape[1])
        self._index.add(np.ascontiguousarray(matrix))
        self._starts = starts
        self._ends = np.append(starts[1:], len(matrix))
        self._owners = np.repeat(np.arange(len(starts)), self._ends - starts)

    def two_best(self, embeddings: Floats, without: int | None = None) -> list[tuple[Found, ...]]:
        """See `PeopleIndex`."""
        return [self._two(embedding, without) for embedding in embeddings]

    def score(self, embeddings: Floats, person: int) -> Floats:
        """See `PeopleIndex`."""
        start, end = int(self._starts[person]), int(self._ends[person])
        own = self._index.reconstruct_n(start, end - start)
        scores: Floats = np.clip((embeddings @ own.T).max(axis=1), -1.0, 1.0)
        return scores

    def _two(self, embedding: Floats, without: int | None) -> tuple[Found, ...]:
        total = len(self._owners)
        count = min(_FIRST_TEMPLATES, total)
        while True:
            scores, rows = self._index.search(embedding[None], count)
            best: dict[int, float] = {}
            for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True):
                person = int(self._owners[row])
                if person != without and score > best.get(person, -np.inf):
                    best[person] = score
            ranking = sorted(best.items(), key=lambda found: (-found[1], found[0]))[:2]
            # Whoever ties with the second may be among the templates that were not asked for.
            if count == total or (len(ranking) == 2 and scores[0, -1] < ranking[1][1]):
                return tuple((person, max(-1.0, min(1.0, score))) for person, score in ranking)
            count = min(8 * count, total)
