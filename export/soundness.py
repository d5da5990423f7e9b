"""What is wrong with somebody else's network, before it costs an export: a loss head, train mode, broken weights."""

from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeface.errors import ExportError

MAX_DIMENSION: Final = 4096
"""Longest embedding; what gives more numbers for a face gives class scores."""

_CLASS_SCORES: Final = ("Softmax", "LogSoftmax", "ArgMax", "Hardmax", "TopK")
_PASSING: Final = (
    "Identity",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Mul",
    "Div",
    "Add",
    "Sub",
    "Clip",
    "BatchNormalization",
)
"""What may stand between two products without changing how many numbers there are for a face."""


def check_embedder(model: onnx.ModelProto) -> None:
    """Check that a network can be an embedder as it is.

    Raises:
        ExportError: a weight is not finite, a node is in train mode, or the graph ends in class scores.
    """
    check_weights(model)
    _check_mode(model)
    _check_head(model)


def check_weights(model: onnx.ModelProto) -> None:
    """Check that every weight is a number.

    Raises:
        ExportError: one is not finite.
    """
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if not np.issubdtype(values.dtype, np.floating):
            continue
        broken = int(values.size - np.isfinite(values).sum())
        if broken:
            raise ExportError(
                f"weight {tensor.name} {list(values.shape)} has {broken} values that are not finite: the training went "
                "wrong; take an earlier checkpoint"
            )


def _check_mode(model: onnx.ModelProto) -> None:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        training = node.op_type == "BatchNormalization" and _attribute(node, "training_mode") == 1
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            flag = constants.get(node.input[2])
            training = flag is None or bool(numpy_helper.to_array(flag).any())
        if training:
            raise ExportError(
                f"node {node.name or node.output[0]} ({node.op_type}) is in train mode: its result depends on chance, "
                "or on the other faces of a batch; call model.eval() before the export to ONNX"
            )


def _check_head(model: onnx.ModelProto) -> None:
    graph = _Graph(model)
    last = graph.product_before(model.graph.output[0].name)
    cut = "cut it off with onnx.utils.extract_model, so that the graph ends at the embedding"
    if isinstance(last, str):
        raise ExportError(f"the network ends in {last}, which gives class scores and no embedding; {cut}")
    if last is None:
        return
    taken, made = graph.widths.get(last.input[0], 0), graph.widths.get(last.output[0], 0)
    before = graph.product_before(last.input[0])
    widens = isinstance(before, onnx.NodeProto) and made > taken == graph.widths.get(before.output[0], 0)
    if made > MAX_DIMENSION or widens:
        raise ExportError(
            f"the network ends in {last.name or last.op_type}, which makes {made} numbers of {taken}: that is a loss "
            f"head for {made} classes and no embedding; {cut}, such as {last.input[0]!r}"
        )


class _Graph:
    """Who makes a tensor, and how many numbers it has for a face.

    Args:
        model: with shapes that can be inferred.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model).graph
        values = [*inferred.value_info, *inferred.output]
        self.widths = {
            value.name: value.type.tensor_type.shape.dim[-1].dim_value
            for value in values
            if value.type.tensor_type.shape.dim
        }
        self._makers: dict[str, onnx.NodeProto] = {name: node for node in model.graph.node for name in node.output}
        self._stored = {tensor.name for tensor in model.graph.initializer}
        for node in model.graph.node:  # in the order in which they run
            if all(name in self._stored for name in node.input if name):
                self._stored.update(node.output)

    def product_before(self, name: str) -> onnx.NodeProto | str | None:
        """Return the product with stored weights that makes a tensor, nothing but passing operators between.

        The name of an operator that gives class scores, if one is there; None if anything else is.
        """
        while name in self._makers:
            node = self._makers[name]
            if node.op_type in _CLASS_SCORES:
                return str(node.op_type)
            moving = [source for source in node.input if source and source not in self._stored]
            if node.op_type in ("Gemm", "MatMul") and moving == [node.input[0]]:
                return node
            # What is divided by its own length stays as long.
            if node.op_type not in _PASSING or (len(moving) != 1 and node.op_type != "Div"):
                return None
            name = moving[0]
        return None


def _attribute(node: onnx.NodeProto, name: str) -> object:
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), None)
