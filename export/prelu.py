"""PReLU in a form that onnxruntime's CPU provider runs fast."""

from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

_MARK: Final = "prelu"


def is_prelu_arithmetic(node: onnx.NodeProto) -> bool:
    """Whether `rewrite_prelu` made this node."""
    return f".{_MARK}." in node.name


def has_prelu(model: onnx.ModelProto) -> bool:
    """Whether a graph has PReLU nodes."""
    return any(node.op_type == "PRelu" for node in model.graph.node)


def rewrite_prelu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which each PReLU of a feature map is `a * x + (1 - a) * relu(x)`, which equals it exactly.

    onnxruntime keeps convolutional networks in a blocked layout for which it has no PReLU kernel, so each PReLU
    costs two reorderings. The Mul by a constant per channel becomes a depthwise convolution in that layout.
    `scripts/bench_export.py` measures what it saves.

    Only slopes stored in the file and constant over the picture, [C, 1, 1], are rewritten; others stay.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    slopes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    rewritten: set[str] = set()
    for node in nodes:
        slope = slopes.get(node.input[1]) if node.op_type == "PRelu" else None
        if slope is None or slope.ndim < 3 or slope.size != slope.shape[-3]:
            graph.node.append(node)
            continue
        source, slope_name, output = node.input[0], node.input[1], node.output[0]
        stem = f"{node.name or output}.{_MARK}"
        weight = slope.reshape(1, -1, 1, 1).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(weight, f"{stem}.slope"))
        graph.initializer.append(numpy_helper.from_array(1 - weight, f"{stem}.rest"))
        graph.node.extend(
            [
                helper.make_node("Relu", [source], [f"{stem}.positive"], name=f"{stem}.relu"),
                helper.make_node("Mul", [source, f"{stem}.slope"], [f"{stem}.line"], name=f"{stem}.mul"),
                helper.make_node("Mul", [f"{stem}.positive", f"{stem}.rest"], [f"{stem}.bend"], name=f"{stem}.mul2"),
                helper.make_node("Add", [f"{stem}.line", f"{stem}.bend"], [output], name=f"{stem}.add"),
            ]
        )
        rewritten.add(slope_name)
    still_used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in rewritten or tensor.name in still_used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return copy
