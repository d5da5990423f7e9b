"""The cohort of a bundle: embeddings of strangers, to whom the two faces of a comparison are held as well.

A blurred, dark or covered face resembles every other such face, so that its cosines rise with whomever. How far they
rise shows in the strangers it is nearest to: the mean of its cosines with the nearest members of a cohort is its cohort
mean. Half of it is taken off each score of the face (adaptive symmetric score normalisation, as speaker verification
has it: Matejka et al., "Analysis of Score Normalization in Multilingual Speaker Recognition", Interspeech 2017; without
its division by a spread). A face that is nearer to strangers than faces in good light usually are loses a surcharge on
top. What is left of the cosine of two faces is their normalised score; see `edgeface.scoring`.

The file is a line of JSON and the numbers behind it, row by row as int8: no pictures, no names.

    {"format": "edgeface cohort 1", "space": ID, "members": N, "dimension": D, "scale": NUMBER, "nearest": K,
     "usual": NUMBER, "surcharge": NUMBER}

A member is its row times `scale`, brought to unit length.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeface.errors import BundleError
from edgeface.manifest import Sha256

COHORT_NAME: Final = "cohort.bin"
MAX_COHORT_BYTES: Final = 300_000
NEAREST: Final = 20
"""So many members make a cohort mean."""
SURCHARGE: Final = 0.5
"""Of what a cohort mean is above the usual one."""
MIN_MEMBERS: Final = 100
"""Fewer strangers hold nobody who is near."""

_MAX_HEADER_BYTES: Final = 300
_BLOCK: Final = 1 << 22
"""Cosines that are held at a time."""

Floats = npt.NDArray[np.float32]


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal["edgeface cohort 1"] = "edgeface cohort 1"
    space: Sha256
    members: int = Field(ge=MIN_MEMBERS, le=MAX_COHORT_BYTES)
    dimension: int = Field(ge=1, le=65536)
    scale: float = Field(gt=0, le=1)
    nearest: int = Field(ge=1, le=MAX_COHORT_BYTES)
    usual: float = Field(ge=0, le=1)
    surcharge: float = Field(ge=0, le=10)


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Strangers, as embeddings.

    Attributes:
        space: embedding space that they belong to.
        members: (N, D) float32, rows of unit length.
        nearest: so many of them make a cohort mean, 1 to N.
        usual: the cohort mean that every second face in good light stays below, in [0, 1].
        surcharge: share of what is above it that a face loses on top.
        id: 16 hexadecimal digits that tell this cohort from any other.
    """

    space: str
    members: Floats
    nearest: int
    usual: float
    surcharge: float
    id: str

    def means(self, embeddings: Floats) -> Floats:
        """Return the cohort mean of faces: the mean of their cosines with the nearest members, 0 at least.

        Args:
            embeddings: (M, D) float32 of unit length, of the cohort's space.

        Returns:
            (M,) float32 in [0, 1].
        """
        means = np.empty(len(embeddings), np.float32)
        step = max(1, _BLOCK // len(self.members))
        for start in range(0, len(embeddings), step):
            cosines = embeddings[start : start + step] @ self.members.T
            cut = len(self.members) - self.nearest
            means[start : start + step] = np.partition(cosines, cut, axis=1)[:, cut:].mean(axis=1)
        np.clip(means, 0.0, 1.0, out=means)
        return means

    def allowances(self, means: Floats) -> Floats:
        """Return what is taken off every score of faces with these (M,) cohort means, (M,) float32, 0 or more."""
        above = np.maximum(means - np.float32(self.usual), 0)
        allowances: Floats = (means / 2 + np.float32(self.surcharge) * above).astype(np.float32)
        return allowances


def most_members(dimension: int) -> int:
    """Return how many members of so many numbers each a file may hold."""
    return (MAX_COHORT_BYTES - _MAX_HEADER_BYTES) // dimension


def write_cohort(
    embeddings: npt.NDArray[np.floating], space: str, plain: int, nearest: int = NEAREST, surcharge: float = SURCHARGE
) -> bytes:
    """Return the file of a cohort.

    Args:
        embeddings: (N, D) of unit length; N from `MIN_MEMBERS` to `most_members`.
        space: embedding space that they belong to.
        plain: so many of them, the first ones, are faces in good light, 1 to N; they say what is usual.
        nearest: so many of them make a cohort mean, 1 to N - 1.
        surcharge: see `Cohort`.

    Raises:
        BundleError: there are too few or too many, or one is not of unit length.
    """
    count, dimension = embeddings.shape
    if not MIN_MEMBERS <= count <= most_members(dimension) or not 1 <= nearest < count or not 1 <= plain <= count:
        raise BundleError(
            f"a cohort has {MIN_MEMBERS} to {most_members(dimension)} members of {dimension} numbers, of which 1 or "
            f"more make a mean; got {count}, of which {nearest}"
        )
    if not np.all(np.abs(np.linalg.norm(embeddings, axis=1) - 1) < 1e-2):  # also true for what is not finite
        raise BundleError("a member of the cohort is not of unit length; is the network broken?")
    scale = float(np.abs(embeddings).max()) / 127
    numbers: npt.NDArray[np.int8] = np.rint(embeddings / scale).astype(np.int8)
    header = _Header(
        space=space,
        members=count,
        dimension=dimension,
        scale=scale,
        nearest=nearest,
        usual=round(_usual(embeddings, plain, nearest), 6),
        surcharge=surcharge,
    )
    return header.model_dump_json().encode() + b"\n" + numbers.tobytes()


def read_cohort(data: bytes, space: str, dimension: int, name: str = COHORT_NAME) -> Cohort:
    """Read a cohort from a file, which may be hostile.

    Args:
        data: the file.
        space: embedding space that the cohort must belong to.
        dimension: length of its embeddings.
        name: what to call the file in an error.

    Raises:
        BundleError: it is not what `write_cohort` writes, or belongs to another space.
    """
    if len(data) > MAX_COHORT_BYTES:
        raise BundleError(f"{name} has {len(data)} bytes, a cohort has at most {MAX_COHORT_BYTES}; export it again")
    first, end, numbers = data[: _MAX_HEADER_BYTES + 1].partition(b"\n")
    if not end:
        raise BundleError(f"{name} is not a cohort: its first line does not end; export it again")
    try:
        header = _Header.model_validate_json(first)
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in what["loc"])[:60] or "the first line"
        raise BundleError(f"{name} is not a valid cohort: {place}: {what['msg']}; export it again") from None
    if (header.space, header.dimension) != (space, dimension):
        raise BundleError(
            f"{name} holds faces of embedding space {header.space[:12]} ({header.dimension} numbers), the bundle is of "
            f"{space[:12]} ({dimension}): they cannot be compared; make a cohort with the bundle's own network"
        )
    numbers = data[len(first) + 1 :]
    if len(numbers) != header.members * dimension or header.nearest > header.members:
        raise BundleError(
            f"{name} is not a valid cohort: {len(numbers)} bytes do not make {header.members} members of {dimension} "
            f"numbers, of which {header.nearest} make a mean; export it again"
        )
    rows = np.frombuffer(numbers, np.int8).reshape(header.members, dimension).astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise BundleError(f"{name} is not a valid cohort: a member is zero; export it again")
    nearest, usual, surcharge = header.nearest, header.usual, header.surcharge
    return Cohort(space, rows / lengths, nearest, usual, surcharge, hashlib.sha256(data).hexdigest()[:16])


def _usual(embeddings: npt.NDArray[np.floating], plain: int, nearest: int) -> float:
    """Return the median of the cohort means of the first members, each held against the others."""
    cosines = embeddings[:plain] @ embeddings.T
    np.fill_diagonal(cosines, -np.inf)
    cut = len(embeddings) - nearest
    return float(np.clip(np.median(np.partition(cosines, cut, axis=1)[:, cut:].mean(axis=1)), 0, 1))
