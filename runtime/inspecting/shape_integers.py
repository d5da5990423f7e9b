"""Sizes of results of operators that compute in whole numbers: as those of the same operators in floating point.

They come in networks that others quantized, statically (QLinearConv and its kind) or with scales found in every run
(DynamicQuantizeLinear, ConvInteger, MatMulInteger).
"""

from dataclasses import replace
from typing import Final

from edgeface.runtime.inspecting.shapes import Call, Extent, RuleError, known

_IN_FLOAT: Final[dict[str, tuple[str, int, int]]] = {
    "ConvInteger": ("Conv", 0, 1),
    "MatMulInteger": ("MatMul", 0, 1),
    "QLinearConv": ("Conv", 0, 3),
    "QLinearMatMul": ("MatMul", 0, 3),
}
"""The operator in floating point, and where the two factors stand among the inputs."""


def in_float(call: Call) -> Call:
    """Return a node as the same in floating point: scales and zero points left out. Any other stays as it is."""
    if call.node.op_type not in _IN_FLOAT:
        return call
    op_type, left, right = _IN_FLOAT[call.node.op_type]
    if max(left, right) >= len(call.inputs):
        raise RuleError("factors are missing")
    names = (call.node.inputs[left], call.node.inputs[right])
    node = replace(call.node, op_type=op_type, inputs=names)
    return Call(node, (call.inputs[left], call.inputs[right]), call.opset)


def dynamic_quantize(call: Call) -> list[Extent]:
    """Give the numbers in eight bits, their scale and their zero point."""
    return [Extent(call.input(0).shape), *known(()), *known(())][: len(call.node.outputs)]
