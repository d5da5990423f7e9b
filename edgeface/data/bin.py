"""Verification files of insightface (`lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`, ...): faces and pairs in one pickle.

The pickle is (pictures, same): 2 P encoded pictures, of which two neighbours are a pair, and P booleans. It is
read without running anything that it may hold; see `edgeface.data.pickled`.
"""

from pathlib import Path
from typing import Final

import numpy as np

from edgeface.data.faceset import Blob, Sample, StoredFaces
from edgeface.data.pairs import Pairs
from edgeface.data.pickled import read_pickle
from edgeface.errors import DataError

MAX_BYTES: Final = 4 << 30
"""A larger file is refused: it is read into memory. The usual ones have 30 to 150 MB."""

FOLDS: Final = 10
"""The protocol cuts the pairs into this many folds of neighbours, as the files' own evaluation does."""


def open_bin(path: Path) -> tuple[StoredFaces, Pairs]:
    """Read a verification file: its faces, without identities, and its pairs in ten folds of their order.

    Raises:
        DataError: the file is missing, larger than 4 GB, holds code or anything else but pictures and
            booleans, or their numbers do not fit.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path} has {size:,} bytes, more than {MAX_BYTES:,}; is it a verification file?")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    value = read_pickle(data, str(path))
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(v, list | tuple) for v in value):
        raise DataError(f"{path} is no verification file: it should hold a list of pictures and a list of booleans")
    pictures, same = value
    if not same or len(pictures) != 2 * len(same):
        raise DataError(
            f"{path} has {len(pictures)} pictures for {len(same)} pairs; it should have two for each, and at least one"
        )
    odd = next((v for v in pictures if not isinstance(v, bytes | bytearray)), None)
    if odd is None:
        odd = next((v for v in same if not isinstance(v, int) or v not in (0, 1)), None)
    if odd is not None:
        raise DataError(f"{path} is no verification file: a {type(odd).__name__} is where a picture or boolean belongs")
    width = len(str(len(pictures) - 1))
    faces = StoredFaces(
        str(path), [Sample(f"{index:0{width}}") for index in range(len(pictures))], [Blob(v) for v in pictures]
    )
    return faces, _neighbours(np.array(same, bool))


def _neighbours(same: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Pairs:
    """Pair each even face with the next; folds differ by at most one pair, the first ones are the larger."""
    first = np.arange(len(same), dtype=np.int64) * 2
    parts = np.array_split(np.arange(len(same)), min(FOLDS, len(same)))
    folds = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Pairs(first, first + 1, same, folds.astype(np.int64))
