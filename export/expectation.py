"""Embeddings that a network's own code made, and whether the network that was brought in makes the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ExportError
from edgeface.export.pipeline import Network
from edgeface.export.preprocessing import unit_length
from edgeface.faces import FACE_SIZE

MIN_COSINE: Final = 0.999
"""Between the embedding of a face here and there; less, and something is taken for what it is not."""

MAX_FACES: Final = 10_000


def assert_expected(network: Network, faces: Path, embeddings: Path) -> Network:
    """Compare a network with what its own code answers.

    Args:
        network: to check.
        faces: .npy of (N, 112, 112, 3) uint8, RGB, aligned as every crop of the project.
        embeddings: .npy of (N, D) numbers, of any length; they are normalised here.

    Returns:
        The network, which says in its origin how well it agrees.

    Raises:
        ExportError: a file cannot be read, the two do not go together, or the smallest cosine is below `MIN_COSINE`.
    """
    given = _read(faces)
    if given.dtype != np.uint8 or given.shape[1:] != (FACE_SIZE, FACE_SIZE, 3) or not len(given):
        raise ExportError(
            f"{faces} is {given.shape} {given.dtype}; the faces of --expect are (N, {FACE_SIZE}, {FACE_SIZE}, 3) uint8 "
            "RGB"
        )
    if len(given) > MAX_FACES:
        raise ExportError(f"{faces} has {len(given)} faces; at most {MAX_FACES} are compared")
    wanted = _read(embeddings)
    made = network.reference(given)
    if wanted.shape != made.shape or wanted.dtype.kind not in "fiu":
        raise ExportError(
            f"{embeddings} is {wanted.shape} {wanted.dtype}; for {faces.name} this network makes {made.shape} numbers"
        )
    lengths = np.linalg.norm(wanted.astype(np.float64), axis=1)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ExportError(f"{embeddings} has embeddings without a length, or that are not finite; make it again")
    cosines = np.sum(unit_length(wanted.astype(np.float64)) * made, axis=1)
    worst = int(cosines.argmin())
    if not cosines[worst] >= MIN_COSINE:
        raise ExportError(
            f"the network does not answer as expected: cosine {cosines[worst]:.4f} to {embeddings.name} for face "
            f"{worst} of {len(given)}, {np.median(cosines):.4f} in the middle, at least {MIN_COSINE} is needed; is the "
            "preprocessing another one, such as --channel-order?"
        )
    agrees = f"smallest cosine {cosines[worst]:.6f} to the embeddings of {len(given)} faces in {embeddings.name}"
    return replace(
        network,
        origin=network.origin | {"agrees with its own code": agrees},
        remarks=(*network.remarks, f"the network answers as expected: {agrees}"),
    )


def _read(path: Path) -> npt.NDArray[Any]:
    """Map an array of a .npy file; nothing in it is run."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ExportError(f"--expect: {path} not found") from None
    except OSError as error:
        raise ExportError(f"--expect: {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, OverflowError, SyntaxError) as error:
        raise ExportError(f"--expect: {path} is not a .npy file of numbers: {str(error).splitlines()[0]}") from None
    if not isinstance(array, np.ndarray) or array.ndim < 2:
        raise ExportError(f"--expect: {path} is not a .npy file of several faces or embeddings")
    return array
