"""Stored embeddings of another network, to be imitated."""

from collections.abc import Callable
from dataclasses import dataclass
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
        transform: .npz as `read_transform_arrays`; the target of e is then ((e - share * mean) @ basis) * scale,
            normalised.

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


@dataclass(frozen=True, slots=True, eq=False)
class TransformArrays:
    """The numbers of a transform, float64.

    Attributes:
        mean: (T,).
        share: of the mean that is taken off.
        basis: (T, D).
        scale: (D,).
    """

    mean: npt.NDArray[np.float64]
    share: float
    basis: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    def apply(self, embedding: npt.NDArray[np.floating]) -> npt.NDArray[Any]:
        """Turn embeddings (N, T) into (N, D), not normalised."""
        moved: npt.NDArray[Any] = ((embedding - self.share * self.mean) @ self.basis) * self.scale
        return moved


def read_transform_arrays(path: Path) -> TransformArrays:
    """Read a transform.

    Args:
        path: .npz with `mean` (T,), `basis` (T, D), `scale` (D,), and perhaps `share`, one number: how much of the mean
            is taken off, `SHRINK_MEAN` where it is not there.

    Raises:
        DataError: the file is missing or malformed.
    """
    parts = {"share": np.array(SHRINK_MEAN)} | _read(path, ("mean", "basis", "scale"), ("share",))
    if any(part.dtype.kind not in "fiu" for part in parts.values()):
        raise DataError(f"{path} should hold numbers alone, as mean, basis, scale and share")
    mean, basis, scale, share = (np.asarray(parts[name], np.float64) for name in ("mean", "basis", "scale", "share"))
    if mean.ndim != 1 or basis.ndim != 2 or basis.shape != (len(mean), scale.size) or scale.ndim != 1 or not basis.size:
        raise DataError(
            f"{path} should hold mean (T,), basis (T, D) and scale (D,); it has {mean.shape}, {basis.shape} and "
            f"{scale.shape}"
        )
    if share.ndim != 0 or not all(np.isfinite(part).all() for part in (mean, basis, scale, share)):
        raise DataError(f"{path} should hold finite numbers and one share of the mean; make it again")
    return TransformArrays(mean, float(share), basis, scale)


def read_transform(path: Path) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]:
    """Read what turns a teacher's embeddings (N, T) into targets (N, D), not normalised.

    Args:
        path: as `read_transform_arrays`.

    Raises:
        DataError: the file is missing or malformed; the function raises it if embeddings do not fit.
    """
    arrays = read_transform_arrays(path)

    def apply(embedding: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        if embedding.shape[1:] != arrays.mean.shape:
            raise DataError(
                f"{path} does not fit embeddings of length {embedding.shape[1]}: it is for {len(arrays.mean)}"
            )
        return arrays.apply(embedding)

    return apply


def _read(path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in (*names, *(name for name in optional if name in archive))}
    except FileNotFoundError:
        raise DataError(f"no file {path}; check the path") from None
    except Exception as error:  # NumPy reads headers with Python's own parser, which raises what it likes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} is not a .npz file with {', '.join(names)}: {reason}") from error
