"""Networks that somebody quantized already: recognised, and in forms that edgeface's inspection knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeface.errors import ExportError
from edgeface.export.importing.graphs import attribute, opset_of, stored_arrays
from edgeface.export.importing.running import depends_on

_STATIC: Final = ("QLinearConv", "QLinearMatMul")
_DYNAMIC: Final = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_CONTRIBUTED: Final = "com.microsoft"


def quantized_form(model: onnx.ModelProto, image: str) -> str | None:
    """Say how a network is quantized, in words; None if it computes in floating point.

    Args:
        model: the network.
        image: name of its input.
    """
    kinds = {node.op_type for node in model.graph.node}
    if kinds & set(_DYNAMIC):
        return "dynamic int8 (scales are found anew in every run)"
    if kinds & set(_STATIC):
        return "static int8 (QOperator form)"
    moving = depends_on(model, [image])
    if any(node.op_type == "QuantizeLinear" and node.input[0] in moving for node in model.graph.node):
        return "static int8 (QDQ form)"
    return None


def scales_by_batch(model: onnx.ModelProto) -> bool:
    """Whether the scales of a run depend on all faces in it, so that these change one another."""
    return any(node.op_type == "DynamicQuantizeLinear" for node in model.graph.node)


def unpack_weights(model: onnx.ModelProto, image: str) -> tuple[onnx.ModelProto, int]:
    """Return a copy with stored int8 weights as the float32 numbers that they mean, and how many there were.

    That is for networks that compute in floating point and only keep their weights small.
    """
    moving = depends_on(model, [image])
    arrays = stored_arrays(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept, count = [], 0
    for node in model.graph.node:
        numbers = [arrays.get(name) for name in node.input if name]
        if node.op_type != "DequantizeLinear" or node.input[0] in moving or any(array is None for array in numbers):
            kept.append(node)
            continue
        known = [array for array in numbers if array is not None]
        weights, scale = known[0].astype(np.float32), known[1].astype(np.float32)
        zero = known[2].astype(np.float32) if len(known) > 2 else np.zeros_like(scale)
        if scale.ndim == 1 and scale.size > 1:
            axis = int(attribute(node, "axis", 1)) % weights.ndim  # type: ignore[call-overload]
            shape = [-1 if place == axis else 1 for place in range(weights.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        elif scale.ndim > 1:
            kept.append(node)  # in blocks, which float networks hardly have
            continue
        copy.graph.initializer.append(numpy_helper.from_array((weights - zero) * scale, node.output[0]))
        arrays[node.output[0]] = (weights - zero) * scale
        count += 1
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy, count


@dataclass(frozen=True, slots=True)
class _Form:
    """One of onnxruntime's own int8 operators: where its operands and its result's scale are, and what it computes.

    Attributes:
        operator: in floating point.
        operands: places of each operand, its scale and its zero point.
        result: place of the scale and the zero point of the result.
        drop: attributes that the floating-point operator does not have.
    """

    operator: str
    operands: tuple[int, ...]
    result: int
    drop: tuple[str, ...] = ()


_FORMS: Final[dict[str, _Form]] = {
    "QLinearAdd": _Form("Add", (0, 3), 6),
    "QLinearMul": _Form("Mul", (0, 3), 6),
    "QLinearSigmoid": _Form("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": _Form("LeakyRelu", (0,), 3),
    "QLinearAveragePool": _Form("AveragePool", (0,), 3, ("channels_last",)),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3, ("channels_last",)),
    "QLinearSoftmax": _Form("Softmax", (0,), 3, ("opset",)),
    "QLinearReduceMean": _Form("ReduceMean", (0,), 3),
}


def standard_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which onnxruntime's own int8 operators are standard ones between scales (QDQ).

    onnxruntime puts them together again when it opens the network.

    Raises:
        ExportError: one of them has a form that standard operators cannot express.
    """
    if not any(node.domain == _CONTRIBUTED for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    for node in model.graph.node:
        special = {"QLinearConcat": _concat, "QGemm": _gemm}.get(node.op_type)
        if node.domain != _CONTRIBUTED or not (special or node.op_type in _FORMS):
            copy.graph.node.append(node)
            continue
        make: Callable[[onnx.NodeProto, int], list[onnx.NodeProto]] = special or _between_scales
        copy.graph.node.extend(make(node, opset_of(model)))
    return copy


def _between_scales(node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    form = _FORMS[node.op_type]
    if attribute(node, "channels_last", 0):
        raise ExportError(f"{_label(node)} works on channels last, which standard operators cannot; export QDQ instead")
    if node.op_type == "QLinearSoftmax" and (opset < 13) != (int(attribute(node, "opset", 13)) < 13):  # type: ignore[call-overload]
        raise ExportError(f"{_label(node)} has the meaning of another opset than {opset}; export QDQ instead")
    before = [_to_float(node, place, index) for index, place in enumerate(form.operands)]
    kept = [entry for entry in node.attribute if entry.name not in form.drop]
    return _around(node, form.operator, before, [part.output[0] for part in before], form.result, kept)


def _concat(node: onnx.NodeProto, _: int) -> list[onnx.NodeProto]:
    before = [_to_float(node, place, index) for index, place in enumerate(range(2, len(node.input), 3))]
    return _around(node, "Concat", before, [part.output[0] for part in before], 0, list(node.attribute))


def _gemm(node: onnx.NodeProto, _: int) -> list[onnx.NodeProto]:
    """Its bias is int32 with the product of both scales as its scale."""
    if len(node.input) < 9 or not node.input[7]:
        raise ExportError(f"{_label(node)} gives floating-point numbers, which no standard operator does; export QDQ")
    before = [_to_float(node, 0, 0), _to_float(node, 3, 1)]
    operands = [part.output[0] for part in before]
    if node.input[6]:
        scale, bias = f"{node.output[0]}/bias_scale", f"{node.output[0]}/bias"
        before += [
            helper.make_node("Mul", [node.input[1], node.input[4]], [scale], name=f"{_label(node)}/bias_scale"),
            helper.make_node("Cast", [node.input[6]], [f"{bias}/float"], name=f"{_label(node)}/bias_cast", to=1),
            helper.make_node("Mul", [f"{bias}/float", scale], [bias], name=f"{_label(node)}/bias"),
        ]
        operands.append(bias)
    return _around(node, "Gemm", before, operands, 7, list(node.attribute))


def _to_float(node: onnx.NodeProto, place: int, index: int) -> onnx.NodeProto:
    taken = [name for name in node.input[place : place + 3] if name]
    return helper.make_node(
        "DequantizeLinear", taken, [f"{node.output[0]}/operand_{index}"], name=f"{_label(node)}/operand_{index}"
    )


def _around(
    node: onnx.NodeProto,
    operator: str,
    before: list[onnx.NodeProto],
    operands: list[str],
    result: int,
    attributes: list[onnx.AttributeProto],
) -> list[onnx.NodeProto]:
    made = helper.make_node(operator, operands, [f"{node.output[0]}/float"], name=f"{_label(node)}/float")
    made.attribute.extend(attributes)
    scales = [name for name in node.input[result : result + 2] if name]
    after = helper.make_node("QuantizeLinear", [made.output[0], *scales], list(node.output), name=_label(node))
    return [*before, made, after]


def _label(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type}/{node.output[0]}"
