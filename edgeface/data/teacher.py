"""Stored embeddings of another network, to be imitated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import FaceSet
from edgeface.errors import DataError

SHRINK_MEAN: Final = 0.8
"""Share of the mean that a transform takes off.

The embeddings of some networks lie in a narrow cone, so that even strangers have a cosine near one and a
student that learns nothing but the axis of the cone looks good."""


def read_targets(path: Path, faces: FaceSet, transform: Path | None = None) -> npt.NDArray[np.float32]:
    """Read what a student should answer for each face.

    Args:
        path: .npz with `key` (K,) text and `embedding` (K, T).
        faces: the faces to find targets for, by key.
        transform: .npz with `mean` (T,), `basis` (T, D) and `scale` (D,); the target of e is then
            ((e - 0.8 mean) @ basis) * scale, normalised.

    Returns:
        (N, D) float32 of unit length; rows of zeros for faces that the file does not have.

    Raises:
        DataError: a file is missing or malformed, or has none of the faces.
    """
    stored = _read(path, ("key", "embedding"))
    embedding = np.asarray(stored["embedding"], np.float32)
    keys = stored["key"]
    if embedding.ndim != 2 or keys.shape != embedding.shape[:1] or keys.dtype.kind != "U":
        raise DataError(
            f"{path} should hold key (K,) as text and embedding (K, T); it has {keys.dtype} {keys.shape} "
            f"and {embedding.shape}"
        )
    if transform is not None:
        embedding = read_transform(transform)(embedding)
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    if not np.all(np.isfinite(length)) or np.any(length == 0):
        raise DataError(f"{np.sum(~(length > 0))} embeddings in {path} are zero or not finite; make them again")
    row = {key: index for index, key in enumerate(keys.tolist())}
    rows = np.array([row.get(sample.key, -1) for sample in faces.samples])
    if not np.any(rows >= 0):
        raise DataError(f"{path} has an embedding for none of the {len(faces)} faces of {faces.name}; do keys agree?")
    return np.where(rows[:, None] >= 0, (embedding / length)[rows], 0).astype(np.float32)


def read_transform(path: Path) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]:
    """Read what turns a teacher's embeddings (N, T) into targets (N, D), not normalised.

    Args:
        path: as `transform` of `read_targets`.

    Raises:
        DataError: the file is missing or malformed; the function raises it if embeddings do not fit.
    """
    parts = _read(path, ("mean", "basis", "scale"))

    def apply(embedding: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        try:
            moved: npt.NDArray[Any] = ((embedding - SHRINK_MEAN * parts["mean"]) @ parts["basis"]) * parts["scale"]
        except ValueError as error:
            raise DataError(f"{path} does not fit embeddings of length {embedding.shape[1]}: {error}") from error
        return moved

    return apply


def _read(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except FileNotFoundError:
        raise DataError(f"no file {path}; check the path") from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is not a .npz file with {', '.join(names)}: {error}") from error
