"""Sizes and values of results of operators that make numbers, work on each number, or reduce."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from edgeface.runtime.inspecting.onnx_messages import Values
from edgeface.runtime.inspecting.onnx_reader import StoredTensor, dtype_of
from edgeface.runtime.inspecting.shapes import BrokenNodeError, Call, Extent, Rule, RuleError, axis_of, broadcast, known

Compute = Callable[..., Values]

WHOLE_KINDS: Final = (2, 3, 4, 5, 6, 7, 12, 13)
"""ONNX's numbers of the types of whole numbers."""


def same(call: Call) -> list[Extent]:
    """One result of the shape of the first input."""
    return [Extent(call.input(0).shape)]


def same_along_axis(call: Call) -> list[Extent]:
    """One result of the shape of the first input, of which an attribute names an axis."""
    shape = call.input(0).shape
    axis_of(call.integer("axis", -1 if call.opset >= 13 or call.node.op_type == "LpNormalization" else 1), len(shape))
    return [Extent(shape)]


def clip(call: Call) -> list[Extent]:
    """The first input within bounds, each a single number."""
    _single(call, 1, 2)
    return [Extent(call.input(0).shape)]


def dropout(call: Call) -> list[Extent]:
    """The result, and which numbers were kept."""
    _single(call, 1, 2)
    shape = call.input(0).shape
    return [Extent(shape), Extent(shape, None, 9)][: len(call.node.outputs)]


def _single(call: Call, *indices: int) -> None:
    for index in indices:
        if (extent := call.optional(index)) is not None and extent.shape not in ((), (1,)):
            raise RuleError(f"input {index} has the shape {list(extent.shape)}, it is a single number")


def through(call: Call) -> list[Extent]:
    """The first input as it is."""
    return [call.input(0)]


def elementwise(compute: Compute | None = None) -> Rule:
    """Return the rule of an operator on each number of tensors that are broadcast to one shape."""

    def rule(call: Call) -> list[Extent]:
        inputs = [call.input(index) for index in range(len(call.inputs))]
        _refuse_widening(inputs)
        values = [extent.values for extent in inputs if extent.values is not None]
        usable = compute is not None and len(values) == len(inputs)
        return known(broadcast([extent.shape for extent in inputs]), (lambda: compute(*values)) if usable else None)  # type: ignore[misc]

    return rule


def _refuse_widening(inputs: Sequence[Extent]) -> None:
    """Refuse a constant of one number but many dimensions: where onnxruntime fuses nodes, it forgets them."""
    widest = max(len(extent.shape) for extent in inputs)
    others = max((len(extent.shape) for extent in inputs if not _is_number(extent)), default=widest)
    if widest > others:
        raise RuleError(f"a single number of {widest} dimensions meets a tensor of {others}")


def _is_number(extent: Extent) -> bool:
    return extent.fixed and extent.count == 1 and len(extent.shape) > 1


def _divide(left: Values, right: Values) -> Values:
    """Divide as ONNX does: whole numbers are cut towards zero."""
    if left.dtype.kind not in "iu":
        return np.asarray(left / right)
    return np.asarray(np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right)))


def divided(call: Call) -> list[Extent]:
    """The quotients of two tensors."""
    _refuse_traps(call)
    return _quotients(call)


_quotients: Final = elementwise(_divide)


def remainder(call: Call) -> list[Extent]:
    """What a division of two tensors leaves: as in Python, or with the sign of the dividend (`fmod`)."""
    _refuse_traps(call)
    return elementwise(np.fmod if call.integer("fmod", 0) else np.mod)(call)


def _refuse_traps(call: Call) -> None:
    """A processor ends the process that divides a whole number by zero, or the lowest by -1."""
    divisor = call.input(1)
    if not (call.kind(0) in WHOLE_KINDS or call.kind(1) in WHOLE_KINDS):
        if divisor.values is None or divisor.values.dtype.kind not in "iu":
            return
    elif divisor.values is None:
        raise BrokenNodeError("it divides whole numbers by such as only the data tells")
    if not np.all(divisor.values):
        raise BrokenNodeError("it divides by zero")
    if np.any(divisor.values.astype(np.float64) == -1):
        raise BrokenNodeError("it divides whole numbers by -1, which the lowest does not survive")


def cast(call: Call) -> list[Extent]:
    """The first input as another type."""
    extent, dtype = call.input(0), dtype_of(call.integer("to", 0))
    values = extent.values
    if values is None or dtype is None or dtype.kind == "b":
        return [Extent(extent.shape)]
    if dtype.kind in "iu" and values.dtype.kind == "f":
        whole, bounds = np.trunc(values.astype(np.float64)), np.iinfo(dtype)
        if not np.all((whole >= bounds.min) & (whole < float(bounds.max) + 1)):  # each processor does as it likes
            return [Extent(extent.shape)]
    return known(extent.shape, lambda: values.astype(dtype))


def constant(call: Call) -> list[Extent]:
    """What the attribute says."""
    if len(call.node.attributes) != 1:
        raise BrokenNodeError("it is not one constant of numbers")
    (value,) = call.node.attributes.values()
    if isinstance(value, StoredTensor):
        return [Extent(value.shape, value.values)]
    dtype = dtype_of(constant_kind(call))
    return known(np.shape(value), lambda: np.array(value, dtype))


def constant_kind(call: Call) -> int:
    """Return the type of a constant, or of what a shape is filled with."""
    value = next(iter(call.node.attributes.values()), None)
    if isinstance(value, StoredTensor):
        return value.kind
    whole = isinstance(value, int) or (isinstance(value, tuple) and value[:1] and isinstance(value[0], int))
    return 7 if whole else 1


def constant_of_shape(call: Call) -> list[Extent]:
    """A tensor of a shape, filled with one number."""
    fill = call.node.attributes.get("value")
    shape = call.whole(0)
    if not isinstance(fill, StoredTensor) or fill.values is None:
        return known(shape, lambda: np.zeros(shape, np.float32))
    value = fill.values.reshape(-1)
    return known(shape, lambda: np.full(shape, value[0]))


def ranged(call: Call) -> list[Extent]:
    """The numbers from one to another."""
    parts = [call.values(index) for index in range(3)]
    if any(part.size != 1 for part in parts):
        raise BrokenNodeError("start, limit and step are not single numbers")
    start, limit, step = (part.reshape(-1)[0].item() for part in parts)
    if not step or not all(map(math.isfinite, (start, limit, step))):
        raise BrokenNodeError(f"it counts from {start} to {limit} in steps of {step}")
    count = max(0, math.ceil((limit - start) / step))
    return known((count,), lambda: (start + step * np.arange(count)).astype(parts[0].dtype))


def reduced(call: Call) -> list[Extent]:
    """One number for all along some axes."""
    shape, rank = call.input(0).shape, len(call.input(0).shape)
    axes = call.axes(1, [])
    if len({axis % max(rank, 1) for axis in axes}) != len(axes):
        raise RuleError(f"axes {axes} repeat")
    if not axes and call.integer("noop_with_empty_axes", 0):
        return [Extent(shape)]
    gone = {axis_of(axis, rank) for axis in axes} or set(range(rank))
    if call.integer("keepdims", 1):
        return known([1 if axis in gone else size for axis, size in enumerate(shape)])
    return known([size for axis, size in enumerate(shape) if axis not in gone])


def size_of(call: Call) -> list[Extent]:
    """How many numbers the first input holds."""
    count = call.input(0).count
    return known((), lambda: np.array(count, np.int64))


def shape_of(call: Call) -> list[Extent]:
    """The shape of the first input, as values."""
    shape = call.input(0).shape
    start, end = call.integer("start", 0), call.integer("end", len(shape))
    return known((len(shape[start:end]),), lambda: np.array(shape[start:end], np.int64))
