"""What old exporters wrote (MXNet, CNTK, PyTorch before 1.2), in the terms of today."""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import defs, helper

from edgeface.export.importing.graphs import (
    Array,
    add_constant,
    attribute,
    opset_of,
    set_attribute,
    stored_arrays,
    used_names,
)

OLDEST_IR = 8
"""Lowest IR version that is written: that of opset 17 and 18."""

_REMOVED = ("spatial", "is_test", "consumed_inputs", "broadcast")
"""Attributes of old opsets that later ones no longer have, and that nothing needs to be computed."""


def modernise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the forms of old files; it computes the same.

    Weights are no longer inputs (IR version 3). A BatchNormalization with `spatial=0` becomes the arithmetic that it
    is, or loses the attribute where its numbers are those of channels anyway, as MXNet wrote it. A Dropout, which does
    nothing in use, goes. Slopes of a PRelu that are one for each channel get the shape that says so.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(copy.ir_version, OLDEST_IR)
    stored = {tensor.name for tensor in copy.graph.initializer}
    inputs = [value for value in copy.graph.input if value.name not in stored]
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    arrays, opset = stored_arrays(copy), opset_of(copy)
    makers = {name: node for node in copy.graph.node for name in node.output}
    used = {name for node in copy.graph.node for name in used_names(node)}
    used.update(value.name for value in copy.graph.output)
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        if node.op_type == "BatchNormalization" and not node.domain:
            copy.graph.node.extend(_normalisation(copy, node, arrays))
        elif node.op_type == "Dropout" and not node.domain and _does_nothing(node, used):
            copy.graph.node.append(helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name))
        else:
            if node.op_type == "PRelu" and not node.domain:
                _slopes_by_channel(copy, node, arrays, makers)
            copy.graph.node.append(node)
        _drop_removed(copy.graph.node[-1], opset)
    return copy


def _normalisation(model: onnx.ModelProto, node: onnx.NodeProto, arrays: Mapping[str, Array]) -> list[onnx.NodeProto]:
    numbers = [arrays.get(name) for name in node.input[1:5]]
    flat = any(array is None or array.ndim <= 1 for array in numbers)
    if attribute(node, "spatial", 1) or flat or len(numbers) != 4:
        set_attribute(node, "spatial", None)
        return [node]
    scale, bias, mean, variance = (np.asarray(array, np.float64) for array in numbers)
    slope = scale / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))  # type: ignore[arg-type]
    kind = np.asarray(numbers[0]).dtype
    stem = node.name or node.output[0]
    by = add_constant(model, f"{stem}/slope", slope.astype(kind))
    plus = add_constant(model, f"{stem}/shift", (bias - mean * slope).astype(kind))
    scaled = f"{node.output[0]}/scaled"
    return [
        helper.make_node("Mul", [node.input[0], by], [scaled], name=f"{stem}/mul"),
        helper.make_node("Add", [scaled, plus], [node.output[0]], name=f"{stem}/add"),
    ]


def _does_nothing(node: onnx.NodeProto, used: Collection[str]) -> bool:
    """Whether a Dropout is one in use: no flag for the training, and nobody asks what it would drop."""
    return len(node.input) < 3 and not any(name in used for name in node.output[1:])


def _slopes_by_channel(
    model: onnx.ModelProto, node: onnx.NodeProto, arrays: Mapping[str, Array], makers: Mapping[str, onnx.NodeProto]
) -> None:
    """Turn slopes [C] behind a convolution of C channels into [C, 1, 1]; in place."""
    slopes = arrays.get(node.input[1])
    if slopes is None or slopes.ndim != 1 or slopes.size == 1:
        return
    name = node.input[0]
    while name in makers and makers[name].op_type in ("BatchNormalization", "Identity", "Dropout"):
        name = makers[name].input[0]
    maker = makers.get(name)
    weight = arrays.get(maker.input[1]) if maker is not None and maker.op_type == "Conv" else None
    if weight is not None and weight.ndim == 4 and len(weight) == slopes.size:
        node.input[1] = add_constant(model, f"{node.input[1]}/by_channel", slopes.reshape(-1, 1, 1))


def _drop_removed(node: onnx.NodeProto, opset: int) -> None:
    if node.domain or not defs.has(node.op_type, ""):
        return
    try:
        known = defs.get_schema(node.op_type, opset, "").attributes
    except defs.SchemaError:
        return
    for name in _REMOVED:
        if name not in known:
            set_attribute(node, name, None)
