"""One-to-one verification on pairs of aligned faces."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import FaceSet
from edgeface.data.pairs import Pairs
from edgeface.intervals import pairs_needed
from edgeface.manifest import Kind
from edgeface.metrics import Roc, d_prime, roc, ten_fold
from edgeface.scoring import COSINE, Scoring

OPERATING_POINTS: Final = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""False accept rates that are reported, as far as the impostor pairs support them."""

BATCH: Final = 32

Progress = Callable[[int, int], None]
"""Called with (faces done, faces in all)."""


class FaceEmbedder(Protocol):
    """Anything that turns (N, 112, 112, 3) uint8 RGB faces into (N, D) float32 unit embeddings."""

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch."""
        ...


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What a model scored on pairs.

    Attributes:
        pairs: number of pairs.
        accuracy: mean over the folds, in [0, 1]; `accuracy_se` is its standard error.
        eer: equal error rate, in [0, 1].
        auc: area under the ROC, in [0, 1].
        d_prime: distance of the means of both kinds of scores over their common spread.
        tar: true accept rate at each false accept rate that the impostor pairs support.
        unsupported: for each rate that they do not support, how many impostor pairs it needs at least.
        scores: (P,) float64, cosines or normalised scores as `scoring` says.
        same: (P,) bool, true for genuine pairs.
        correct: (P,) bool, whether each pair was decided rightly at the threshold of its fold.
        roc: the whole curve.
        scoring: what a score is.
    """

    pairs: int
    accuracy: float
    accuracy_se: float
    eer: float
    auc: float
    d_prime: float
    tar: dict[str, float]
    unsupported: dict[str, int]
    scores: npt.NDArray[np.float64]
    same: npt.NDArray[np.bool_]
    correct: npt.NDArray[np.bool_]
    roc: Roc
    scoring: Kind = "cosine"


def verify_pairs(
    embedder: FaceEmbedder, faces: FaceSet, pairs: Pairs, progress: Progress | None = None
) -> VerificationReport:
    """Embed every face that occurs in the pairs once, and score the pairs.

    Raises:
        DataError: a picture of a pair cannot be read, or the pairs are all genuine or all impostors.
    """
    return score_embeddings(embed_faces(embedder, faces, pairs.used, progress), pairs.used, pairs)


def score_embeddings(
    embeddings: npt.NDArray[np.float32],
    used: npt.NDArray[np.integer],
    pairs: Pairs,
    scoring: Scoring = COSINE,
    fitness: npt.NDArray[np.float32] | None = None,
) -> VerificationReport:
    """Score the pairs by the embeddings (N, D) of the faces `used` (N,), sorted, among which are all of the pairs.

    `scoring` says how two faces are compared, `fitness` (N,) how fit they are.

    Raises:
        DataError: the pairs are all genuine or all impostors, or an embedding has no direction.
    """
    first, second = np.searchsorted(used, pairs.first), np.searchsorted(used, pairs.second)
    known = (None, None) if fitness is None else (fitness[first], fitness[second])
    return score_pairs(scoring.pairs(embeddings[first], embeddings[second], known), pairs, scoring.kind)


def score_pairs(scores: npt.NDArray[np.float64], pairs: Pairs, scoring: Kind = "cosine") -> VerificationReport:
    """Turn the scores of pairs, (P,), into a report; `scoring` says what they are."""
    curve = roc(scores, pairs.same)
    folds = ten_fold(scores, pairs.same, pairs.folds)
    needed = {far: pairs_needed(far) for far in OPERATING_POINTS}
    impostors = int((~pairs.same).sum())
    return VerificationReport(
        pairs=len(scores),
        accuracy=folds.accuracy,
        accuracy_se=folds.standard_error,
        eer=curve.eer,
        auc=curve.auc,
        d_prime=d_prime(scores, pairs.same),
        tar={rate_name(far): curve.at_fmr(far)[0] for far, least in needed.items() if impostors >= least},
        unsupported={rate_name(far): least for far, least in needed.items() if impostors < least},
        scores=scores,
        same=pairs.same,
        correct=folds.correct,
        roc=curve,
        scoring=scoring,
    )


def embed_faces(
    embedder: FaceEmbedder, faces: FaceSet, indices: npt.NDArray[np.integer], progress: Progress | None = None
) -> npt.NDArray[np.float32]:
    """Embed the faces with the given indices, in batches; returns (len(indices), D) float32."""
    results = []
    for start in range(0, len(indices), BATCH):
        results.append(embedder.embed(faces.read_many(indices[start : start + BATCH])))
        if progress:
            progress(min(start + BATCH, len(indices)), len(indices))
    return np.concatenate(results)


def rate_name(rate: float) -> str:
    """Write a rate as in tables of the field: 0.001 becomes `1e-3`."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
