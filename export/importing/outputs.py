"""Which output of a foreign network is the embedding, and in what shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgeface.errors import ExportError
from edgeface.export.importing.graphs import add_constant, cut, unused_name
from edgeface.export.soundness import MAX_DIMENSION

MAX_OUTPUTS: Final = 32
"""With more, the user has to say which."""

_PARALLEL: Final = 1 - 1e-6


@dataclass(frozen=True, slots=True)
class Output:
    """What an output gives for one face: its type and shape, without what is 1."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def is_embedding(self) -> bool:
        """Whether it can be one: a row of floating-point numbers, more than one and not too many."""
        return self.dtype.startswith("float") and len(self.shape) == 1 and 1 < self.shape[0] <= MAX_DIMENSION

    def __str__(self) -> str:
        return f"{self.name} ({self.dtype} {list(self.shape) or 'one number'})"


def of_values(name: str, values: npt.NDArray[Any], batch: int) -> Output:
    """Describe what an output gave for a batch of faces."""
    return Output(name, str(values.dtype), _without_batch(values.shape, batch))


def _without_batch(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """Return the sizes that are not 1 for one face; the batch may be merged with the first of them."""
    sizes = [size for size in shape if size != 1]
    if batch > 1 and sizes:
        place = next((index for index, size in enumerate(sizes) if size % batch == 0), None)
        if place is not None:
            sizes[place] //= batch
    return tuple(size for size in sizes if size != 1)


def choose(outputs: Mapping[str, Output], values: Mapping[str, npt.NDArray[Any]], refused: Mapping[str, str]) -> str:
    """Return the name of the output that is the embedding.

    Args:
        outputs: those that could be run.
        values: what they gave, for several faces.
        refused: why others could not be run, by name.

    Raises:
        ExportError: none can be it, or more than one; all are listed.
    """
    found = [name for name, output in outputs.items() if output.is_embedding]
    if len(found) > 1 and all(_parallel(values[found[0]], values[name]) for name in found[1:]):
        return found[0]  # the same before and after normalisation
    if len(found) == 1:
        return found[0]
    listed = [str(output) for output in outputs.values()]
    listed += [f"{name} (refused: {reason})" for name, reason in refused.items()]
    if not found:
        raise ExportError(
            f"an embedder gives a row of floating-point numbers, 2 to {MAX_DIMENSION}, for a face; this network gives "
            f"{'; '.join(listed)}; name a tensor of the graph that is one with --output NAME"
        )
    raise ExportError(
        f"an embedder has one output, and of this network {len(found)} could be it; say which with "
        f"{' or '.join(f'--output {name}' for name in found)}; there are {'; '.join(listed)}"
    )


def _parallel(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    if first.size != second.size:
        return False
    left, right = (np.asarray(array, np.float64).reshape(len(first), -1) for array in (first, second))
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return bool((lengths > 0).all() and ((left * right).sum(axis=1) >= _PARALLEL * lengths).all())


def cut_to(model: onnx.ModelProto, name: str, network: str) -> onnx.ModelProto:
    """Return a copy that ends at a tensor.

    Raises:
        ExportError: the graph makes no tensor of that name.
    """
    made = {output for node in model.graph.node for output in node.output if output}
    if name not in made:
        declared = ", ".join(value.name for value in model.graph.output)
        raise ExportError(f"--output {name}: {network} makes no such tensor; its outputs are {declared or 'none'}")
    return cut(model, [name])


def as_row(model: onnx.ModelProto, shape: tuple[int, ...], dimension: int, batch: int | None) -> onnx.ModelProto:
    """Return a copy whose only output is declared as (batch, dimension), with the node that is missing for it.

    Args:
        model: the network.
        shape: of what it gives, for the smallest batch that it takes.
        dimension: numbers for a face.
        batch: faces in a run, None if that is free.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    output = copy.graph.output[0]
    name = output.name
    rows = batch or 1
    if shape != (rows, dimension):
        wanted = np.array([batch or -1, dimension], np.int64)
        target = add_constant(copy, f"{name}/row_shape", wanted)
        row = unused_name(copy, f"{name}/row")
        copy.graph.node.append(helper.make_node("Reshape", [name, target], [row], name=row))
        name = row
    output.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch or "batch", dimension]))
    return copy
