"""Sizes of results of operators that compute in whole numbers: as those of the same operators in floating point.

They come in networks that others quantized, statically (QLinearConv and its kind) or with scales found in every run
(DynamicQuantizeLinear, ConvInteger, MatMulInteger).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from edgeface.runtime.inspecting import shape_layers as layers
from edgeface.runtime.inspecting.shapes import Call, Extent, RuleError

_FACTORS: Final = {"ConvInteger": (0, 1), "MatMulInteger": (0, 1), "QLinearConv": (0, 3), "QLinearMatMul": (0, 3)}
"""Where the two factors stand among the inputs."""

_SINGLE: Final = ((), (1,))


def in_float(call: Call) -> Call:
    """Return a node as the same in floating point: scales, zero points and bias left out."""
    left, right = _FACTORS[call.node.op_type]
    node = replace(call.node, inputs=(call.node.inputs[left], call.node.inputs[right]))
    return Call(node, (call.input(left), call.input(right)), call.opset)


def convolved(call: Call) -> list[Extent]:
    """A convolution."""
    results = layers.conv(in_float(call))
    channels = results[0].shape[1:2]
    if call.node.op_type == "ConvInteger":
        _check(call, (2,), ())
        _check(call, (3,), channels)
    else:
        _check(call, (1, 2, 6, 7), ())
        _check(call, (4, 5), channels)
        if (bias := call.optional(8)) is not None and bias.shape != channels:
            raise RuleError(f"its bias has the shape {list(bias.shape)} for {channels[0]} channels")
    return results


def multiplied(call: Call) -> list[Extent]:
    """The products of stacks of matrices."""
    results = layers.matmul(in_float(call))
    rows, columns = call.input(_FACTORS[call.node.op_type][0]).shape[-2:-1], results[0].shape[-1:]
    if call.node.op_type == "MatMulInteger":
        _check(call, (2,), rows)
        _check(call, (3,), columns)
    else:
        _check(call, (1, 2, 4, 5, 6, 7), ())
    return results


def _check(call: Call, indices: Sequence[int], each: tuple[int, ...]) -> None:
    """Check scales and zero points: single numbers, or one for each of `each`."""
    for index in indices:
        if (extent := call.optional(index)) is not None and extent.shape not in (*_SINGLE, each):
            raise RuleError(f"input {index} has the shape {list(extent.shape)}; it is a single number or {list(each)}")


def dynamically_quantized(call: Call) -> list[Extent]:
    """The numbers in eight bits, their scale and their zero point."""
    shape = call.input(0).shape
    return [Extent(shape, None, 2), Extent((), None, 1), Extent((), None, 2)][: len(call.node.outputs)]


def conv_work(call: Call, results: Sequence[Extent]) -> int:
    """Count the multiply-adds of a convolution."""
    return layers.conv_work(in_float(call), results)


def unrolled(call: Call, results: Sequence[Extent]) -> int:
    """Count what the windows of one image hold, laid out one by one."""
    return layers.unrolled(in_float(call), results)


def matmul_work(call: Call, results: Sequence[Extent]) -> int:
    """Count the multiply-adds of products of matrices."""
    return layers.matmul_work(in_float(call), results)
