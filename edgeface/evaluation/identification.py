"""One-to-many search: is a probe found in a gallery, and is a stranger found to be nobody?

Terms are those of ISO/IEC 19795-1: a mated probe is of somebody enrolled, a non-mated one of a stranger. FPIR is the
share of non-mated probes that find anybody at the threshold; FNIR the share of mated ones that do not find their mate
in the first place at the threshold or above.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import UNKNOWN
from edgeface.data.pairs import Indices
from edgeface.errors import DataError
from edgeface.evaluation.items import Items
from edgeface.evaluation.listing import look_up, read_rows
from edgeface.evaluation.verification import rate_name
from edgeface.intervals import Rate, clustered_rate, pairs_needed
from edgeface.metrics import threshold_at_fmr

NOBODY: Final = -1
"""Mate of a non-mated probe."""

RANKS: Final = (1, 5, 10)
FPIRS: Final = (1e-1, 1e-2, 1e-3)
CMC_RANKS: Final = 50
"""How far the cumulative match characteristic goes."""

PROBES_OF_ONE: Final = 10
"""A drawn search has at most so many probes of one person, so that the much photographed do not decide it."""

WORST: Final = 16
"""Non-mated probes that are named."""

BLOCK: Final = 1 << 22
"""Scores that are held at a time."""


@dataclass(frozen=True, slots=True)
class Search:
    """G people enrolled with one item each, and Q probes.

    Attributes:
        gallery: (G,) int64, indices of items.
        probes: (Q,) int64, indices of items.
        mate: (Q,) int64, place of the probe's person in `gallery`; `NOBODY` for a stranger.
        person: (Q,) int64, number of the probe's person; probes of one person are not independent.
    """

    gallery: Indices
    probes: Indices
    mate: Indices
    person: Indices

    def without(self, gone: Indices) -> "Search":
        """Return the search without some items; the probes of somebody who is not enrolled any more go as well.

        Raises:
            DataError: no mated probe is left.
        """
        kept = ~np.isin(self.gallery, gone)
        place = np.where(kept, np.cumsum(kept) - 1, NOBODY)
        mated = self.mate != NOBODY
        # To count them as strangers would change what is asked.
        stay = ~np.isin(self.probes, gone) & (~mated | kept[self.mate])
        mate = np.where(mated, place[self.mate], NOBODY)[stay]
        if not np.any(mate != NOBODY):
            raise DataError("no probe of an enrolled person is left without the pictures that cannot be used")
        return Search(self.gallery[kept], self.probes[stay], mate, self.person[stay])


@dataclass(frozen=True, slots=True)
class OpenSetPoint:
    """FNIR at the threshold that lets through the share `fpir` of the strangers."""

    fpir: float
    threshold: float
    fnir: Rate


@dataclass(frozen=True, slots=True)
class Nearest:
    """A non-mated probe and the enrolled item that it is most like; both are indices of items."""

    probe: int
    enrolled: int
    score: float


@dataclass(frozen=True, slots=True)
class IdentificationReport:
    """What a search found.

    Attributes:
        gallery: people enrolled.
        mated: number of mated probes.
        non_mated: number of non-mated probes.
        ranks: share of the mated probes whose mate is among the first 1, 5 and 10.
        cmc: (K,) float64, that share for the first 1, 2, ... K.
        open_set: FNIR at each FPIR that the non-mated probes support.
        unsupported: for each FPIR that they do not support, how many it needs at least.
        nearest: the non-mated probes that are most like somebody, the worst first. One person under two names is
            often among them, and spoils FNIR at a small FPIR.
    """

    gallery: int
    mated: int
    non_mated: int
    ranks: dict[int, Rate]
    cmc: npt.NDArray[np.float64]
    open_set: tuple[OpenSetPoint, ...]
    unsupported: dict[str, int]
    nearest: tuple[Nearest, ...]


def read_search(path: Path, items: Items) -> Search:
    """Read a CSV file with the columns `key`, `identity` and `role` (gallery or probe).

    Raises:
        DataError: the file cannot be used, names something that is not there, lists a key twice or an identity
            twice in the gallery, or has no gallery or no mated probe.
    """
    rows = read_rows(path, ("key", "identity", "role"))
    places = look_up((row["key"] for row in rows), items.places(), path, items.kind)
    repeated = [items.names[place] for place, count in Counter(places).items() if count > 1]
    if repeated:
        raise DataError(f"{path} lists {repeated[0]!r} twice; each key is in the gallery or a probe, once")
    wrong = next((row["role"] for row in rows if row["role"] not in ("gallery", "probe")), None)
    if wrong is not None:
        raise DataError(f"{path}: the role {wrong!r} is not gallery or probe")
    enrolled: dict[str, int] = {}
    gallery: list[int] = []
    probes: list[int] = []
    names: list[str] = []
    for row, place in zip(rows, places, strict=True):
        if row["role"] == "probe":
            probes.append(place)
            names.append(row["identity"])
        elif row["identity"] in enrolled:
            raise DataError(
                f"{path} has {row['identity']!r} in the gallery twice; keep one, or make a template of both"
            )
        else:
            enrolled[row["identity"]] = len(gallery)
            gallery.append(place)
    mate = np.array([enrolled.get(name, NOBODY) for name in names], np.int64)
    if not np.any(mate != NOBODY):
        raise DataError(
            f"{path} has {len(gallery)} people in the gallery and {len(probes)} probes, none of them of a person in "
            "the gallery; a search needs at least one"
        )
    person = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return Search(np.array(gallery, np.int64), np.array(probes, np.int64), mate, person)


def draw_search(items: Items, seed: int = 0) -> Search:
    """Enrol half of the people with one item each, drawn; the rest of theirs and all of the others' are probes.

    Raises:
        DataError: fewer than two people have several items.
    """
    rng = np.random.default_rng(seed)
    labels, counts = np.unique(items.labels[items.labels != UNKNOWN], return_counts=True)
    several = rng.permutation(labels[counts > 1])
    if len(several) < 2:
        raise DataError(
            f"{items.faces.name} has {len(several)} people with two or more {items.kind}; drawing a search needs 2"
        )
    single = rng.permutation(labels[counts == 1])
    enrolled = {*several[: (len(several) + 1) // 2].tolist(), *single[: len(single) // 2].tolist()}
    gallery: list[int] = []
    probes: list[int] = []
    mate: list[int] = []
    person: list[int] = []
    order = np.argsort(items.labels, kind="stable")
    starts = np.searchsorted(items.labels[order], labels)
    for label, start, count in zip(labels.tolist(), starts, counts, strict=True):
        own = rng.permutation(order[start : start + count]).tolist()
        place = NOBODY
        if label in enrolled:
            place = len(gallery)
            gallery.append(own.pop())
        own = own[:PROBES_OF_ONE]
        probes += own
        mate += [place] * len(own)
        person += [label] * len(own)
    return Search(*(np.array(column, np.int64) for column in (gallery, probes, mate, person)))


def identify(gallery: npt.NDArray[np.float32], probes: npt.NDArray[np.float32], search: Search) -> IdentificationReport:
    """Compare every probe with everybody, in blocks: exact, and in little memory.

    The rank of a mate counts everybody who scores as much or more, so ties count against the network.

    Args:
        gallery: (G, D) embeddings; D is larger with a cohort, see `edgeface.scoring`.
        probes: (Q, D); their inner products with the gallery are the scores.
        search: who is who.
    """
    score = np.empty(len(probes), np.float64)
    rank, nearest = np.empty(len(probes), np.int64), np.empty(len(probes), np.int64)
    step = max(1, BLOCK // len(gallery))
    for start in range(0, len(probes), step):
        block = slice(start, start + step)
        scores = probes[block] @ gallery.T
        mate = search.mate[block]
        mated = mate != NOBODY
        own = scores[np.arange(len(mate)), mate]
        score[block] = np.where(mated, own, scores.max(axis=1))
        rank[block] = np.count_nonzero(scores >= own[:, None], axis=1)
        nearest[block] = scores.argmax(axis=1)
    mated = search.mate != NOBODY
    found, strangers = rank[mated], score[~mated]

    def rate(errors: npt.NDArray[np.bool_]) -> Rate:
        numbers = np.unique(search.person[mated], return_inverse=True)[1]
        return clustered_rate(np.bincount(numbers, weights=errors).astype(np.int64), np.bincount(numbers))

    points = []
    for fpir in FPIRS:
        if len(strangers) >= pairs_needed(fpir):
            threshold = threshold_at_fmr(strangers, fpir).threshold
            points.append(OpenSetPoint(fpir, threshold, rate((found > 1) | (score[mated] < threshold))))
    worst = np.flatnonzero(~mated)[np.argsort(-strangers, kind="stable")[:WORST]]
    ranks = np.arange(1, min(CMC_RANKS, len(gallery)) + 1)
    return IdentificationReport(
        gallery=len(gallery),
        mated=len(found),
        non_mated=len(strangers),
        ranks={k: rate(found <= k) for k in RANKS if k <= len(gallery)},
        cmc=np.mean(found[:, None] <= ranks, axis=0),
        open_set=tuple(points),
        unsupported={rate_name(f): pairs_needed(f) for f in FPIRS if len(strangers) < pairs_needed(f)},
        nearest=tuple(
            Nearest(int(search.probes[probe]), int(search.gallery[nearest[probe]]), float(score[probe]))
            for probe in worst
        ),
    )
