"""Pairs of which some pictures cannot be read: those are left out and counted, unless they are too many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeface.data.faceset import FaceSet, Skipped, left_out
from edgeface.data.pairs import Pairs
from edgeface.errors import DataError

MAX_BROKEN: Final = 0.05
"""Share of the pictures that may be left out; one always may. Beyond it, what is measured is not what was asked."""


@dataclass(frozen=True, slots=True)
class UsablePairs:
    """Pairs of pictures that can be read.

    Attributes:
        pairs: those that are left.
        broken: pictures that cannot be read.
        lost: pairs that needed one of them.
    """

    pairs: Pairs
    broken: tuple[Skipped, ...] = ()
    lost: int = 0

    def __str__(self) -> str:
        return f"{self.lost} pairs left out, for {len(self.broken)} pictures cannot be used: {left_out(self.broken)}"


def check_share(broken: Sequence[Skipped], of: int, name: str) -> None:
    """Refuse to go on where too many pictures are broken.

    Raises:
        DataError: they are more than one, and more than `MAX_BROKEN` of the `of` pictures that were looked at; or all.
    """
    if len(broken) > max(1.0, MAX_BROKEN * of) or (broken and len(broken) == of):
        raise DataError(
            f"{len(broken)} of {of} pictures of {name} cannot be used, more than {MAX_BROKEN:.0%}: {left_out(broken)}"
        )


def usable_pairs(faces: FaceSet, pairs: Pairs) -> UsablePairs:
    """Decode every picture of the pairs once, and leave out the pairs that need one that cannot be read.

    Raises:
        DataError: too many cannot be read (`check_share`), or no pair of one person or of two people is left.
    """
    broken = faces.faults(pairs.used)
    if not broken:
        return UsablePairs(pairs)
    check_share(tuple(broken.values()), len(pairs.used), faces.name)
    gone = np.array(sorted(broken), np.int64)
    left = without(pairs, gone, f"{faces.name}: {left_out(broken.values())}")
    return UsablePairs(left, tuple(broken.values()), len(pairs) - len(left))


def without(pairs: Pairs, gone: np.ndarray[tuple[int], np.dtype[np.int64]], why: str) -> Pairs:
    """Return the pairs that need none of the items `gone`.

    Raises:
        DataError: no pair of one person or of two people is left.
    """
    left = pairs.select(np.flatnonzero(~(np.isin(pairs.first, gone) | np.isin(pairs.second, gone))))
    if not (left.same.any() and (~left.same).any()):
        raise DataError(f"no pairs of both kinds are left without the pictures that cannot be used; {why}")
    return left
