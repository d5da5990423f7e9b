"""From the aligned crop to the larger, smaller or shifted picture that a foreign network expects."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeface.errors import ExportError
from edgeface.faces import FACE_SIZE
from edgeface.files import sha256

MAX_TILT_PX: Final = 0.5
"""Rotation and shear are left out, because rows and columns are resampled apart. What that moves by more than this, in
pixels of the crop along either axis, is refused."""

MAX_FILE_BYTES: Final = 4096
"""Of a stored matrix: six numbers and a header."""

_CENTRE: Final = (FACE_SIZE - 1) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """Maps pixels of the 112 x 112 crop to those of a network's input, centres at whole numbers.

    Rotation and shear must be negligible, see `MAX_TILT_PX`; the crop's centre goes where the whole matrix takes it.

    Attributes:
        matrix: (2, 3), as cv2.warpAffine takes it.
        name: where it comes from, in words.

    Raises:
        ExportError: another shape, values that are not finite, a mirror or a rotation.
    """

    matrix: npt.NDArray[np.float64]
    name: str = "the matrix"
    straight: npt.NDArray[np.float64] = field(init=False)
    """The matrix without rotation and shear, (2, 3)."""

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix)
        if matrix.shape != (2, 3) or matrix.dtype.kind not in "fiu":
            raise ExportError(f"{self.name} should be a 2 x 3 matrix of numbers, it is {matrix.shape} {matrix.dtype}")
        matrix = matrix.astype(np.float64)
        if not np.isfinite(matrix).all():
            raise ExportError(f"{self.name} has values that are not finite; make it again")
        scale, tilt = np.diagonal(matrix[:, :2]), np.array([matrix[0, 1], matrix[1, 0]])
        if not (scale > 0).all():
            raise ExportError(
                f"{self.name} has the scales {scale[0]:g} and {scale[1]:g}, which mirror or turn a face; both must be "
                "above 0"
            )
        moved = float(np.max(np.abs(tilt) * _CENTRE / scale))
        if not moved <= MAX_TILT_PX:
            raise ExportError(
                f"{self.name} turns or shears the crop by up to {moved:.2f} px, at most {MAX_TILT_PX} is negligible; "
                "fit scale and shift alone"
            )
        straight = np.zeros((2, 3))
        np.fill_diagonal(straight[:, :2], scale)
        straight[:, 2] = matrix[:, 2] + tilt * _CENTRE
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "straight", straight)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a matrix from a .npy file.

        Raises:
            ExportError: it is missing, not such a file, or not such a matrix.
        """
        try:
            with path.open("rb") as file:
                if file.seek(0, 2) > MAX_FILE_BYTES:
                    raise ExportError(f"{path} is larger than the {MAX_FILE_BYTES} bytes that a 2 x 3 matrix may have")
                file.seek(0)
                matrix = np.lib.format.read_array(file, allow_pickle=False)
        except ExportError:
            raise
        except FileNotFoundError:
            raise ExportError(f"matrix not found: {path}") from None
        except OSError as error:
            raise ExportError(f"matrix {path} cannot be read: {error.strerror}") from error
        except Exception as error:  # NumPy reads the header with Python's own parser, which raises what it likes
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ExportError(f"{path} is not a .npy file of a 2 x 3 matrix: {reason}") from None
        return cls(matrix, str(path))

    @classmethod
    def resize(cls, size_wh: tuple[int, int]) -> Self:
        """Return the map of the whole crop onto a picture of another size, as cv2.resize makes it: edges on edges."""
        scale = np.array(size_wh) / FACE_SIZE
        return cls(np.column_stack([np.diag(scale), (scale - 1) / 2]), f"the size {size_wh[1]} x {size_wh[0]}")

    @property
    def sha256(self) -> str:
        """The hash of the six numbers as float64."""
        return sha256(self.matrix.tobytes())

    def warp(self, faces: npt.NDArray[np.uint8], size_wh: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Resample (N, 112, 112, 3) faces with OpenCV; returns (N, height, width, 3) float32 in [0, 255]."""
        warped = [
            cv2.warpAffine(
                face.astype(np.float32), self.straight, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for face in faces
        ]
        return np.stack(warped) if warped else np.zeros((0, size_wh[1], size_wh[0], 3), np.float32)

    def nodes(self, source: str, size_wh: tuple[int, int], graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], str]:
        """Resample in a graph: two products with constant matrices, which bilinear interpolation along an axis is.

        The constants stand on the left, so that quantization does not take them for weights of a layer.

        Args:
            source: name of the pixels, float32 (N, 112, 112, 3).
            size_wh: of the network's input.
            graph: gets the constants.

        Returns:
            The nodes, and the name of what they make: float32 (N, 3, height, width).
        """
        for name, axis in (("pre/columns", 0), ("pre/rows", 1)):
            weights = interpolation(size_wh[axis], self.straight[axis, axis], self.straight[axis, 2])
            graph.initializer.append(numpy_helper.from_array(weights, name))
        return [
            helper.make_node("Transpose", [source], ["pre/upright"], name="pre/stand", perm=[0, 3, 2, 1]),
            helper.make_node("MatMul", ["pre/columns", "pre/upright"], ["pre/wide"], name="pre/resample_columns"),
            helper.make_node("Transpose", ["pre/wide"], ["pre/lying"], name="pre/lie", perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["pre/rows", "pre/lying"], ["pre/resampled"], name="pre/resample_rows"),
        ], "pre/resampled"


def interpolation(count: int, scale: float, shift: float) -> npt.NDArray[np.float32]:
    """Return the (count, 112) matrix that samples a row of the crop at (i - shift) / scale, bilinear.

    What lies beyond the crop repeats its border.
    """
    places = np.clip((np.arange(count) - shift) / scale, 0, FACE_SIZE - 1)
    left = np.minimum(places.astype(np.intp), FACE_SIZE - 2)
    weights = np.zeros((count, FACE_SIZE))
    rows = np.arange(count)
    weights[rows, left] = 1 - (places - left)
    weights[rows, left + 1] = places - left
    return weights.astype(np.float32)
