"""A linear map behind a foreign network: it spreads embeddings that lie in a narrow cone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeface.data.teacher import TransformArrays, read_transform_arrays
from edgeface.errors import DataError, ExportError
from edgeface.files import readable_name, sha256


@dataclass(frozen=True, slots=True, eq=False)
class OutputTransform:
    """Turns a unit embedding e (T,) into ((e - share * mean) @ basis) * scale, which is then normalised.

    The file is the one that `teacher.transform` names in training, so a network that is brought in with it speaks the
    language of students that were taught with it.

    Attributes:
        arrays: mean, share of it, basis and scale.
        name: file name.
        sha256: hash of the numbers.
    """

    arrays: TransformArrays
    name: str
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a transform from a .npz file, see `edgeface.data.teacher.read_transform_arrays`.

        Raises:
            ExportError: the file is missing or malformed.
        """
        try:
            arrays = read_transform_arrays(path)
        except DataError as error:
            raise ExportError(str(error)) from error
        numbers = (arrays.mean, np.array([arrays.share]), arrays.basis, arrays.scale)
        digest = sha256(b"".join(part.astype(np.float64).tobytes() for part in numbers))
        return cls(arrays, readable_name(path.name), digest)

    def __str__(self) -> str:
        inner, outer = self.arrays.basis.shape
        return (
            f"{self.name}: unit length, minus {self.arrays.share:g} of a mean, times a {inner} x {outer} matrix, "
            f"SHA-256 of the numbers {self.sha256}"
        )

    @property
    def dimension(self) -> int:
        """Length of what it gives."""
        return int(self.arrays.basis.shape[1])

    def check(self, dimension: int) -> None:
        """Refuse a network whose embeddings are of another length.

        Raises:
            ExportError: they are.
        """
        if dimension != len(self.arrays.mean):
            raise ExportError(
                f"{self.name} is for embeddings of {len(self.arrays.mean)} numbers, this network gives {dimension}"
            )

    def apply(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Transform unit embeddings (N, T) outside the graph; returns (N, D) float32, not normalised.

        Raises:
            ExportError: embeddings of another length.
        """
        self.check(embeddings.shape[1])
        return self.arrays.apply(embeddings).astype(np.float32)

    def nodes(self, source: str, graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], str]:
        """Transform in a graph. The constant stands on the left, as in `edgeface.export.resampling`.

        Args:
            source: name of unit embeddings, float32 (N, T).
            graph: gets the constants.

        Returns:
            The nodes, and the name of what they make: float32 (N, D), not normalised.
        """
        arrays = self.arrays
        constants: dict[str, npt.NDArray[np.float32 | np.int64]] = {
            "post/mean": (arrays.share * arrays.mean).astype(np.float32),
            "post/basis": np.ascontiguousarray((arrays.basis * arrays.scale).T, np.float32),
            "post/last": np.array([2], np.int64),
        }
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        return [
            helper.make_node("Sub", [source, "post/mean"], ["post/centred"], name="post/centre"),
            helper.make_node("Unsqueeze", ["post/centred", "post/last"], ["post/column"], name="post/stand"),
            helper.make_node("MatMul", ["post/basis", "post/column"], ["post/spread"], name="post/transform"),
            helper.make_node("Squeeze", ["post/spread", "post/last"], ["post/transformed"], name="post/lie"),
        ], "post/transformed"
