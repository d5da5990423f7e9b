"""Sizes and values of results of operators that make numbers, work on each number, or reduce."""

import functools
import math
from collections.abc import Callable
from typing import Final

import numpy as np

from edgeface.runtime.inspecting.onnx_messages import Values
from edgeface.runtime.inspecting.onnx_reader import StoredTensor
from edgeface.runtime.inspecting.shapes import Call, Extent, Rule, RuleError, axis_of, broadcast, known


def _same(call: Call) -> list[Extent]:
    """One result of the shape of the first input, any further ones as well."""
    return [Extent(call.input(0).shape) for _ in call.node.outputs]


def _through(call: Call) -> list[Extent]:
    return [call.input(0)]


def _elementwise(compute: Callable[..., Values] | None = None) -> Rule:
    def rule(call: Call) -> list[Extent]:
        inputs = [call.input(index) for index in range(len(call.inputs))]
        values = [extent.values for extent in inputs if extent.values is not None]
        usable = compute is not None and len(values) == len(inputs)
        return known(broadcast([extent.shape for extent in inputs]), (lambda: compute(*values)) if usable else None)  # type: ignore[misc]

    return rule


def _divide(left: Values, right: Values) -> Values:
    """Divide as ONNX does: whole numbers are cut towards zero."""
    if left.dtype.kind not in "iu":
        return np.asarray(left / right)
    if not np.all(right):
        raise RuleError("it divides by zero")
    return np.asarray(np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right)))


def _modulo(call: Call) -> list[Extent]:
    """Take the rest of a division of whole numbers, as Python does, or with the sign of the dividend (`fmod`)."""
    left, right = call.input(0).values, call.input(1).values
    whole = left is not None and right is not None and left.dtype.kind == right.dtype.kind == "i"
    if not whole or (right is not None and not np.all(right)):
        return _elementwise()(call)
    return _elementwise(np.fmod if call.integer("fmod", 0) else np.mod)(call)


def _cast(call: Call) -> list[Extent]:
    extent, kind = call.input(0), call.integer("to", 0)
    whole, values = kind in (2, 3, 4, 5, 6, 7, 12, 13), extent.values
    if values is None or kind == 9:
        return [Extent(extent.shape)]
    return known(extent.shape, lambda: values.astype(np.int64 if whole else np.float64))


def _constant(call: Call) -> list[Extent]:
    (name, value), *others = call.node.attributes.items()
    if others or name == "value_string":
        raise RuleError("it is not one constant of numbers")
    if isinstance(value, StoredTensor):
        return [Extent(value.shape, value.values)]
    return known(np.shape(value), lambda: np.array(value))


def _constant_of_shape(call: Call) -> list[Extent]:
    fill = call.node.attributes.get("value")
    shape = call.whole(0)
    if not isinstance(fill, StoredTensor) or fill.values is None:
        return known(shape, lambda: np.zeros(shape, np.float32))
    value = fill.values.reshape(-1)
    return known(shape, lambda: np.full(shape, value[0]))


def _range(call: Call) -> list[Extent]:
    start, limit, step = (call.values(index).reshape(-1)[0].item() for index in range(3))
    if not step:
        raise RuleError("its step is zero")
    count = max(0, math.ceil((limit - start) / step))
    return known((count,), lambda: start + step * np.arange(count))


def _reduce(call: Call) -> list[Extent]:
    shape, rank = call.input(0).shape, len(call.input(0).shape)
    axes = call.axes(1, [])
    if not axes and call.integer("noop_with_empty_axes", 0):
        return [Extent(shape)]
    gone = {axis_of(axis, rank) for axis in axes} or set(range(rank))
    if call.integer("keepdims", 1):
        return known([1 if axis in gone else size for axis, size in enumerate(shape)])
    return known([size for axis, size in enumerate(shape) if axis not in gone])


def _shape(call: Call) -> list[Extent]:
    shape = call.input(0).shape
    start, end = call.integer("start", 0), call.integer("end", len(shape))
    return known((len(shape[start:end]),), lambda: np.array(shape[start:end], np.int64))


ELEMENTWISE: Final[dict[str, Rule]] = {
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(_divide),
    "Mod": _modulo,
    "Pow": _elementwise(),
    "PRelu": _elementwise(),  # onnxruntime lets the slope widen its result, against the specification
    "Min": _elementwise(lambda *values: functools.reduce(np.minimum, values)),
    "Max": _elementwise(lambda *values: functools.reduce(np.maximum, values)),
    "Sum": _elementwise(),
    "Mean": _elementwise(),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Equal": _elementwise(np.equal),
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Where": _elementwise(np.where),
    "Ceil": _elementwise(np.ceil),
    "Floor": _elementwise(np.floor),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not),
}
"""Operators on each number of tensors that are broadcast to one shape."""

_SAME_SHAPE: Final = (
    "Abs BatchNormalization Celu Clip Cos DequantizeLinear Dropout Elu Erf Exp Gelu GroupNormalization "
    "HardSigmoid HardSwish InstanceNormalization LRN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization Mish "
    "QuantizeLinear Reciprocal Relu Round Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Tanh "
    "ThresholdedRelu"
)
"""Operators whose result has the shape of the first input."""

_REDUCTIONS: Final = (
    "ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)

CREATING: Final[dict[str, Rule]] = {
    "Identity": _through,
    "Cast": _cast,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Shape": _shape,
    "Size": lambda call: known((), lambda: np.array(call.input(0).count)),
    **dict.fromkeys(_SAME_SHAPE.split(), _same),
    **dict.fromkeys(_REDUCTIONS.split(), _reduce),
}
"""Operators that make values, keep shapes, or reduce."""
