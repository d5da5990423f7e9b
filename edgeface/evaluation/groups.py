"""Error rates of each group and condition at one threshold for all, from labels of faces."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import UNKNOWN
from edgeface.data.pairs import Pairs
from edgeface.errors import DataError
from edgeface.evaluation.items import Items
from edgeface.evaluation.listing import read_rows
from edgeface.intervals import Rate, clustered_rate, independent_rate, pairs_needed

MAX_VALUES: Final = 100
"""A column with more values (an age, a score) makes no groups; it is named and left out."""

LEAST_GENUINE: Final = 30
"""With fewer genuine pairs a group gets no FNMR: 30 without an error bound it at 10 % (rule of three)."""

EVERYBODY: Final = "everybody"
"""Column of the row that groups are compared with."""

BLOCK: Final = 1 << 23
"""Scores that are held at a time."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What a CSV file says of items.

    Attributes:
        columns: for each column, the value of each item of the set; empty where the file says nothing.
        left_out: columns that have too many values to be groups.
    """

    columns: dict[str, npt.NDArray[np.str_]]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupRates:
    """Error rates within one group: both items of every comparison belong to it.

    Attributes:
        column: what the group is by.
        value: which one.
        items: evaluated items in it.
        impostor_pairs: comparisons of two people; `genuine_pairs` those of one.
        fmr: share of the impostors that match; None if there are too few for the rate that was asked.
        fnmr: share of the genuine pairs that do not; None if there are too few.
        why: what is missing, in words; empty if nothing is.
    """

    column: str
    value: str
    items: int
    impostor_pairs: int
    genuine_pairs: int
    fmr: Rate | None
    fnmr: Rate | None
    why: str


def read_labels(path: Path, items: Items) -> Labels:
    """Read a CSV file with the column `key` and others, each of which makes groups. Keys not in the set are ignored.

    Raises:
        DataError: the file cannot be used, has no other column, lists a key twice, or fits none of the items.
    """
    rows = read_rows(path, ("key",))
    columns = [name for name in rows[0] if name != "key"]
    if not columns:
        raise DataError(f"{path} has the column key and no other; add one with the group of each key")
    places = items.places()
    found = [(places[row["key"]], row) for row in rows if row["key"] in places]
    if not found:
        raise DataError(
            f"none of the {len(rows)} keys in {path} is one of the {len(items.names)} {items.kind}; the first: "
            f"{rows[0]['key']!r}; a name that is there: {items.names[0]!r}"
        )
    repeated = [items.names[place] for place, count in Counter(place for place, _ in found).items() if count > 1]
    if repeated:
        raise DataError(f"{path} lists {repeated[0]!r} twice; keep one row for each key")
    values = {}
    for column in columns:
        cells = np.full(len(items.names), "", dtype=object)
        for place, row in found:
            cells[place] = row[column]
        values[column] = cells.astype(np.str_)
    many = tuple(column for column in columns if len(np.unique(values[column])) > MAX_VALUES + 1)
    return Labels({column: cells for column, cells in values.items() if column not in many}, many)


def measure_groups(
    labels: Labels,
    sides: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    used: npt.NDArray[np.int64],
    people: npt.NDArray[np.int64],
    pairs: Pairs,
    scores: npt.NDArray[np.float64],
    threshold: float,
    fmr: float,
) -> tuple[GroupRates, ...]:
    """Measure everybody and each group.

    Where all people are known, all comparisons within a group are made, not only those of the list, because a list
    has few within a small group; intervals allow for people who occur in many. Else the pairs of the list are taken
    as they are, and counted as independent.

    Args:
        labels: groups of all items of the set.
        sides: (N, D) of the items in `used`, as faces and as templates: their inner products are the scores.
        used: (N,) sorted indices of items.
        people: (N,) labels of their identities.
        pairs: between indices of items, with their `scores`.
        scores: (P,) of the pairs.
        threshold: the score from which a pair matches, the same for all.
        fmr: the rate that it was chosen for; a group needs 3 / fmr impostor pairs.
    """
    first, second = np.searchsorted(used, pairs.first), np.searchsorted(used, pairs.second)

    def rates(column: str, value: str, member: npt.NDArray[np.bool_]) -> GroupRates:
        if np.all(people != UNKNOWN):
            own_sides = sides[0][member], sides[1][member]
            impostors, genuine = _all_comparisons(own_sides, people[member], threshold)
        else:
            within = member[first] & member[second]
            accepted = scores[within] >= threshold
            same = pairs.same[within]
            impostors, genuine = _counted(accepted[~same]), _counted(~accepted[same])
        return _group(column, value, int(member.sum()), impostors, genuine, fmr)

    results = [rates(EVERYBODY, "", np.ones(len(used), bool))]
    for column, cells in labels.columns.items():
        own = cells[used]
        results += [rates(column, str(value), own == value) for value in np.unique(own) if value]
    return tuple(results)


def _group(column: str, value: str, items: int, impostors: Rate | None, genuine: Rate | None, fmr: float) -> GroupRates:
    impostor_pairs = impostors.trials if impostors else 0
    genuine_pairs = genuine.trials if genuine else 0
    why = []
    if impostor_pairs < pairs_needed(fmr):
        why.append(f"FMR {fmr:g} needs {pairs_needed(fmr):,} impostor pairs, here are {impostor_pairs:,}")
        impostors = None
    if genuine_pairs < LEAST_GENUINE:
        why.append(f"FNMR needs {LEAST_GENUINE} genuine pairs, here are {genuine_pairs}")
        genuine = None
    return GroupRates(column, value, items, impostor_pairs, genuine_pairs, impostors, genuine, "; ".join(why))


def _counted(errors: npt.NDArray[np.bool_]) -> Rate | None:
    return independent_rate(int(errors.sum()), len(errors)) if len(errors) else None


def _all_comparisons(
    sides: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], people: npt.NDArray[np.int64], threshold: float
) -> tuple[Rate | None, Rate | None]:
    """Compare every two items once, in blocks; returns the rates of false matches and of false non-matches."""
    names, person = np.unique(people, return_inverse=True)
    sizes = np.bincount(person, minlength=len(names))
    false_matches, false_non_matches = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    step = max(1, BLOCK // max(1, len(person)))
    for start in range(0, len(person), step):
        rows = np.arange(start, min(start + step, len(person)))
        accepted = sides[0][rows] @ sides[1][start:].T >= threshold
        same = person[rows, None] == person[None, start:]
        later = np.arange(start, len(person)) > rows[:, None]
        a, b = np.nonzero(accepted & ~same & later)
        for side in (person[rows[a]], person[start + b]):
            false_matches += np.bincount(side, minlength=len(names))
        a, _ = np.nonzero(~accepted & same & later)
        false_non_matches += np.bincount(person[rows[a]], minlength=len(names))
    impostors, genuine = sizes * (len(person) - sizes), sizes * (sizes - 1) // 2
    return (
        clustered_rate(false_matches, impostors, people_a_trial=2) if impostors.any() else None,
        clustered_rate(false_non_matches, genuine) if genuine.any() else None,
    )
