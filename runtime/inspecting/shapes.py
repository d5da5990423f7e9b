"""What is known of a tensor without computing it, and the tools of the rules that follow it through a graph.

A rule gets the shapes of a node's inputs and returns those of its outputs. Small tensors of whole numbers and scales
carry their values along, so shapes that a graph computes for itself (Shape, Gather, Concat, Reshape) are known, too.
Nothing else is ever computed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeface.runtime.inspecting.onnx_messages import Values
from edgeface.runtime.inspecting.onnx_reader import ITEM_BYTES, MAX_RANK, MAX_VALUES, Attribute, Node

Shape = tuple[int, ...]


class RuleError(ValueError):
    """A node that does not fit its inputs."""


class BrokenNodeError(RuleError):
    """A node that is wrong whatever the sizes of the network's inputs are."""


class UnboundedError(BrokenNodeError):
    """A node whose result has a size that cannot be told before it runs."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A tensor as far as it is known.

    Attributes:
        shape: its sizes.
        values: where they are few and known.
        kind: number of its type in ONNX, 0 where that is not known.
        fixed: it does not depend on what is fed, so onnxruntime may make it when it opens the network.
    """

    shape: Shape
    values: Values | None = None
    kind: int = 0
    fixed: bool = False

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def floats(self) -> int:
        """Its size in memory, as numbers of float32."""
        return -(-self.count * ITEM_BYTES.get(self.kind, 4) // 4)


@dataclass(frozen=True, slots=True)
class Call:
    """A node with what is known of its inputs; None for an input that is left out."""

    node: Node
    inputs: tuple[Extent | None, ...]
    opset: int

    def input(self, index: int) -> Extent:
        """Return an input that must be there."""
        extent = self.inputs[index] if index < len(self.inputs) else None
        if extent is None:
            raise RuleError(f"input {index} is missing")
        return extent

    def optional(self, index: int) -> Extent | None:
        """Return an input, or None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def kind(self, index: int) -> int:
        """Return the type of an input, 0 if it is left out or not known."""
        extent = self.optional(index)
        return 0 if extent is None else extent.kind

    def values(self, index: int) -> Values:
        """Return the values of an input, which decide how large the result is."""
        values = self.input(index).values
        if values is None:
            raise UnboundedError(f"the size of its result depends on data (input {self.node.inputs[index]})")
        return values

    def whole(self, index: int) -> list[int]:
        """Return the values of an input as whole numbers; they are a row, or a single one."""
        values = self.values(index)
        if values.ndim > 1 or values.dtype.kind not in "iu":
            raise BrokenNodeError(f"input {self.node.inputs[index]} is not a row of whole numbers")
        return [int(value) for value in values.reshape(-1)]

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is a whole number."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise RuleError(f"attribute {name} is not a whole number")
        return value

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is text."""
        return str(self.node.attributes.get(name, default))

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """Return an attribute that is a row of whole numbers."""
        value: Attribute | Sequence[int] | None = self.node.attributes.get(name, default)
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise RuleError(f"attribute {name} is missing")
        return [int(item) for item in value]

    def axes(self, index: int, default: Sequence[int] | None = None) -> list[int]:
        """Return axes, which are an attribute in old opsets and an input in new ones."""
        if self.optional(index) is not None:
            return self.whole(index)
        return self.integers("axes", default)


Rule = Callable[[Call], list[Extent]]
Effort = Callable[[Call, Sequence[Extent]], int]

_POINTWISE: Final = 32


def pointwise(call: Call, results: Sequence[Extent]) -> int:
    """Count an operator that looks at each number once: it takes as long as so many multiply-adds of a product."""
    return _POINTWISE * sum(extent.count for extent in (*results, *call.inputs) if extent is not None)


def slow(times: int) -> Effort:
    """Return how to count an operator that takes so many times as long for each number."""
    return lambda call, results: times * pointwise(call, results)


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Return the shape that tensors of these shapes broadcast to."""
    rank = max(map(len, shapes))
    result = []
    for sizes in zip(*((1,) * (rank - len(shape)) + tuple(shape) for shape in shapes), strict=True):
        larger = set(sizes) - {1}
        if len(larger) > 1:
            raise RuleError(f"shapes {', '.join(str(list(shape)) for shape in shapes)} do not fit together")
        result.append(larger.pop() if larger else 1)
    return tuple(result)


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from the front."""
    if not -rank <= axis < rank:
        raise RuleError(f"axis {axis} is outside a tensor of {rank} dimensions")
    return axis % rank


def known(shape: Sequence[int], compute: Callable[[], Values] | None = None) -> list[Extent]:
    """Return one result of a shape; `compute` is only called if it is small enough to be carried along."""
    sizes = tuple(int(size) for size in shape)
    if len(sizes) > MAX_RANK or any(size < 0 for size in sizes):
        raise RuleError(f"its result would have the shape {list(sizes)}")
    if compute is None or math.prod(sizes) > MAX_VALUES:
        return [Extent(sizes)]
    with np.errstate(all="ignore"):
        return [Extent(sizes, np.asarray(compute()).reshape(sizes))]
