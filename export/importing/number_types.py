"""Networks that compute in float16 or float64: brought to float32, which every later step works on."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgeface.export.importing.graphs import all_graphs, attribute, set_attribute

_NAMES: Final = {TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64"}
_TYPED: Final = {"Cast": "to", "EyeLike": "dtype", "RandomNormalLike": "dtype", "RandomUniformLike": "dtype"}
"""Operators with an attribute that names a type."""


def to_float32(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str | None]:
    """Return a copy that computes in float32 what is stored for float16 or float64.

    All float16 is exact in float32. Only where the network itself is in float64, its input, output or a weight, it is
    rounded: float64 also occurs in the shape arithmetic of float32 networks, which stays.

    Returns:
        The network, and the type that it had; None if it was not changed.
    """
    kinds = [kind for kind in _NAMES if _is_of(model, kind)]
    if not kinds:
        return model, None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in all_graphs(copy):
        for node in graph.node:
            _change_node(node, kinds)
        if isinstance(graph, onnx.GraphProto):
            for tensor in graph.initializer:
                _change(tensor, kinds)
            for value in (*graph.input, *graph.output, *graph.value_info):
                if value.type.tensor_type.elem_type in kinds:
                    value.type.tensor_type.elem_type = TensorProto.FLOAT
    return copy, " and ".join(_NAMES[kind] for kind in kinds)


def _is_of(model: onnx.ModelProto, kind: int) -> bool:
    ends = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    least = 2 if kind == TensorProto.DOUBLE else 0
    weights = [tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) >= least]
    constants = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant" and node.attribute]
    return kind in ends or kind in weights or any(t.data_type == kind and len(t.dims) >= least for t in constants)


def _change_node(node: onnx.NodeProto, kinds: Sequence[int]) -> None:
    named = _TYPED.get(node.op_type)
    if named and attribute(node, named) in kinds:
        set_attribute(node, named, int(TensorProto.FLOAT))
    for entry in node.attribute:
        if entry.HasField("t"):
            _change(entry.t, kinds)


def _change(tensor: TensorProto, kinds: Sequence[int]) -> None:
    if tensor.data_type in kinds:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
