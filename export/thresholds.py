"""Scores of labelled faces for every pair of precisions, and the thresholds that they support."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import UNKNOWN, FaceSet
from edgeface.data.pairs import Pairs
from edgeface.evaluation.verification import BATCH, FaceEmbedder, VerificationReport, score_embeddings
from edgeface.manifest import Kind, Threshold, ThresholdData
from edgeface.operating_points import ScoreTable
from edgeface.scoring import COSINE, Scoring

PrecisionPair = tuple[str, str]
"""Precision of the templates, and of the faces that are held against them."""


@dataclass(frozen=True, slots=True, eq=False)
class PairScores:
    """All scores of one pair of precisions: `impostor` (N,) and `genuine` (M,), float32 in [-1, 1]."""

    impostor: npt.NDArray[np.float32]
    genuine: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Labelled faces that were scored.

    Attributes:
        scores: for each pair of precisions.
        tables: the same, shortened for a bundle.
        data: what they were scored on.
        disjoint: genuine pairs that count as independent of one another.
        scoring: what a score is.
        reports: what each precision scores by the protocol; empty where there was none.
    """

    scores: Mapping[PrecisionPair, PairScores]
    tables: tuple[ScoreTable, ...]
    data: ThresholdData
    disjoint: int
    scoring: Kind = "cosine"
    reports: Mapping[str, VerificationReport] = field(default_factory=dict)


def score_protocol(
    embedders: Mapping[str, FaceEmbedder],
    faces: FaceSet,
    pairs: Pairs,
    name: str,
    rates: Sequence[float],
    scoring: Scoring = COSINE,
) -> Scored:
    """Score the pairs of a protocol: of each, the first face is the template and the second the one held against it.

    Every face is read once, and embedded once with each precision.

    Args:
        embedders: one for each precision.
        faces: labelled faces.
        pairs: of these faces.
        name: what to call them.
        rates: false match rates that thresholds will be chosen for.
        scoring: how two faces are compared.

    Raises:
        DataError: a picture of a pair cannot be read, or there are too few pairs for any threshold.
    """
    used = pairs.used
    first, second = np.searchsorted(used, pairs.first), np.searchsorted(used, pairs.second)
    embeddings: dict[str, list[npt.NDArray[np.float32]]] = {precision: [] for precision in embedders}
    digest = hashlib.sha256()
    for start in range(0, len(used), BATCH):
        batch = faces.read_many(used[start : start + BATCH])
        digest.update(batch.tobytes())
        for precision, embedder in embedders.items():
            embeddings[precision].append(embedder.embed(batch))
    whole = {precision: np.concatenate(parts) for precision, parts in embeddings.items()}
    scores = {}
    for pair in precision_pairs(embedders):
        found = scoring.pairs(whole[pair[0]][first], whole[pair[1]][second]).astype(np.float32)
        scores[pair] = PairScores(found[~pairs.same], found[pairs.same])
    labels = faces.labels[used]
    data = ThresholdData(
        name=name,
        sha256=digest.hexdigest(),
        people=None if np.any(labels == UNKNOWN) else len(np.unique(labels)),
        faces=len(used),
        genuine=int(pairs.same.sum()),
        impostors=int((~pairs.same).sum()),
        independent=int((~pairs.same).sum()),
    )
    reports = {precision: score_embeddings(own, used, pairs, scoring) for precision, own in whole.items()}
    return replace(tabulate(scores, data, rates, scoring=scoring.kind), reports=reports)


def tabulate(
    scores: Mapping[PrecisionPair, PairScores],
    data: ThresholdData,
    rates: Sequence[float],
    *,
    disjoint: int | None = None,
    scoring: Kind = "cosine",
) -> Scored:
    """Shorten scores to the tables of a bundle, exact for `rates`.

    Args:
        scores: for each pair of precisions.
        data: what they were scored on.
        rates: false match rates.
        disjoint: genuine pairs that count as independent; all by default, as those of a protocol do.
        scoring: what a score is.

    Raises:
        DataError: there are too few scores.
    """
    tables = tuple(
        ScoreTable.of(pair, own.impostor, own.genuine, independent=data.independent, rates=rates)
        for pair, own in scores.items()
    )
    return Scored(scores, tables, data, data.genuine if disjoint is None else disjoint, scoring)


def choose_thresholds(scored: Scored, rates: Sequence[float]) -> tuple[Threshold, ...]:
    """Choose a threshold for each pair of precisions and rate, on the scores of that pair."""
    chosen = []
    for table in scored.tables:
        genuine = scored.scores[table.gallery, table.probe].genuine
        for rate in rates:
            point = table.operating_point(rate)
            chosen.append(
                Threshold(
                    asked_fmr=rate,
                    fmr=point.fmr,
                    cosine=point.threshold,
                    interval=point.interval,
                    gallery=table.gallery,
                    precision=table.probe,
                    pairs=point.pairs,
                    tar=float(np.mean(genuine >= point.threshold)),
                    data=scored.data.name,
                    scoring=scored.scoring,
                )
            )
    return tuple(chosen)


def precision_pairs(precisions: Mapping[str, object]) -> Iterator[PrecisionPair]:
    """Return every pair of precisions (gallery, probe), those of equal ones first."""
    yield from ((name, name) for name in precisions)
    yield from ((gallery, probe) for gallery in precisions for probe in precisions if gallery != probe)
