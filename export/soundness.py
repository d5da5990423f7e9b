"""What is wrong with somebody else's network, before it costs an export: a loss head, train mode, broken weights."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
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
    "Cast",
    "Dropout",
    "BatchNormalization",
)
"""What may stand between two products without changing how many numbers there are for a face."""

_RESHAPING: Final = ("Identity", "Cast", "Dropout", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_OF_A_LENGTH: Final = (
    *("ReduceL2", "ReduceSum", "ReduceSumSquare", "Sqrt", "Reciprocal", "Div", "Pow", "Mul", "Abs"),
    *("Clip", "Max", "Add", "Where", "Expand", "Cast", "Identity", "Unsqueeze"),
)
"""Operators between a tensor and its length."""

_NEARBY: Final = 32
"""Tensors that are looked at for that."""

_UNIT: Final = 1e-3
"""By how much directions of unit length may miss it."""

_SCORES: Final = re.compile(r"(^|[^a-z])(logits?|softmax|probs?|probabilit(y|ies)|class_?scores?|scores)([^a-z]|$)")


def check_embedder(model: onnx.ModelProto, *, named: bool = False) -> None:
    """Check that a network can be an embedder as it is.

    Args:
        model: the network.
        named: the user named its output as the embedding, so it is no loss head, whatever it looks like.

    Raises:
        ExportError: a weight is not finite, a node is in train mode, or the graph ends in class scores.
    """
    check_weights(model)
    check_mode(model)
    if not named:
        check_head(model)


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


def check_mode(model: onnx.ModelProto) -> None:
    """Check that no node is in train mode.

    Raises:
        ExportError: one is.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        # Before opset 14 a norm was in train mode if it gave its statistics, too.
        training = node.op_type == "BatchNormalization" and (
            _attribute(node, "training_mode") == 1 or (opset < 14 and any(node.output[1:]))
        )
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            flag = constants.get(node.input[2])
            training = flag is None or bool(numpy_helper.to_array(flag).any())
        if training:
            raise ExportError(
                f"node {node.name or node.output[0]} ({node.op_type}) is in train mode: its result depends on chance, "
                "or on the other faces of a batch; call model.eval() before the export to ONNX"
            )


def check_head(model: onnx.ModelProto) -> None:
    """Refuse a network that ends in a loss head. What tells one:

    - a softmax, or a search for the largest score;
    - more numbers than an embedding has;
    - cosines to stored directions of unit length, which is what margin heads compute, however few classes there are;
    - a product right behind the product that makes the embedding: nothing but linear steps between them, so for an
      embedding the second would be of no use. It is one all the same if a batch norm follows, if its directions stand
      at right angles, as main axes do, or if the first product has no bias: then both are one product of low rank.

    Raises:
        ExportError: it does; the message names the tensor before the head.
    """
    graph = _Graph(model)
    output = model.graph.output[0].name
    ending = graph.ending(output)
    if ending.scores is not None:
        raise ExportError(
            f"the network ends in {ending.scores}, which gives class scores and no embedding; cut it off with --output "
            "and the name of the tensor that is the embedding"
        )
    if _SCORES.search(output.lower()):
        raise ExportError(
            f"the output {output!r} is named as class scores are; say with --output which tensor is the embedding: "
            "that one, if it is, or one before a loss head"
        )
    last = ending.product
    if last is None:
        return
    taken, made = graph.widths.get(last.input[0], 0), graph.widths.get(last.output[0], 0)
    before = graph.ending(last.input[0])
    linear = (
        before.product is not None
        and not ending.normalised
        and not before.is_factor
        and made != taken == graph.widths.get(before.product.output[0], 0)
    )
    if made > MAX_DIMENSION or ((linear or graph.is_cosine(last)) and not graph.is_projection(last)):
        raise ExportError(
            f"the network ends in {last.name or last.op_type}, which makes {made} numbers of {taken}: that is a loss "
            f"head for {made} classes and no embedding; cut it off with --output {last.input[0]} (if the {made} "
            f"numbers are the embedding, say so with --output {output})"
        )


@dataclass(frozen=True, slots=True)
class _Ending:
    """What a tensor was made by, nothing but passing operators between.

    Attributes:
        product: with stored weights; None if anything else is there.
        scores: the operator that gives class scores, if one is there.
        normalised: a batch norm stands between.
        plain: nothing stands between but what moves numbers.
    """

    product: onnx.NodeProto | None = None
    scores: str | None = None
    normalised: bool = False
    plain: bool = True

    @property
    def is_factor(self) -> bool:
        """Whether nothing is added to the product: what multiplies it again could be multiplied with its weights."""
        return self.product is not None and self.plain and not any(self.product.input[2:])


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
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._stored = set(self._weights)
        for node in model.graph.node:  # in the order in which they run
            if all(name in self._stored for name in node.input if name):
                self._stored.update(node.output)

    def ending(self, name: str) -> _Ending:
        """Go back from a tensor to what made it."""
        normalised, plain = False, True
        while name in self._makers:
            node = self._makers[name]
            if node.op_type in _CLASS_SCORES:
                return _Ending(scores=str(node.op_type))
            moving = [source for source in node.input if source and source not in self._stored]
            if node.op_type in ("Gemm", "MatMul") and moving == [node.input[0]]:
                return _Ending(node, None, normalised, plain)
            # What is divided by its own length, or multiplied by it, stays as long.
            wide = [source for source in moving if self.widths.get(source, 0) != 1]
            if node.op_type not in _PASSING or (len(wide) != 1 and node.op_type != "Div"):
                break
            normalised = normalised or node.op_type == "BatchNormalization"
            plain = plain and node.op_type in _RESHAPING
            name = wide[0] if wide else moving[0]
        return _Ending()

    def is_cosine(self, product: onnx.NodeProto) -> bool:
        """Whether both sides of a product have unit length, as in the heads of ArcFace and its kind."""
        return self._is_unit(product.input[0]) and self._has_unit_directions(product)

    def _is_unit(self, name: str) -> bool:
        """Whether a tensor is divided by its own length."""
        while name in self._makers:
            node = self._makers[name]
            if node.op_type == "LpNormalization":
                return True
            if node.op_type in ("Div", "Mul"):
                pairs = ((node.input[0], node.input[1]), (node.input[1], node.input[0]))
                return any(self._is_length(length, of) for of, length in pairs[: 1 if node.op_type == "Div" else 2])
            if node.op_type not in _RESHAPING:
                return False
            name = node.input[0]
        return False

    def _is_length(self, name: str, of: str) -> bool:
        """Whether a number comes from a sum over the squares of another tensor, or its inverse."""
        waiting, seen, reduced = [name], {name}, False
        while waiting and len(seen) < _NEARBY:
            node = self._makers.get(waiting.pop())
            if node is None or node.op_type not in _OF_A_LENGTH:
                continue
            reduced = reduced or node.op_type.startswith("Reduce")
            if reduced and of in node.input:
                return True
            new = [source for source in node.input if source and source not in seen]
            seen.update(new)
            waiting += new
        return False

    def _has_unit_directions(self, product: onnx.NodeProto) -> bool:
        directions = self._directions(product)
        if directions is None:
            return self._is_unit(product.input[1])
        return bool(np.abs(np.linalg.norm(directions, axis=1) - 1).max() <= _UNIT)

    def is_projection(self, product: onnx.NodeProto) -> bool:
        """Whether the directions of a product stand at right angles, as main axes do, and those of classes do not."""
        directions = self._directions(product)
        if directions is None or len(directions) > directions.shape[1]:
            return False
        unit = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
        return bool(np.abs(unit @ unit.T - np.eye(len(unit))).max() <= _UNIT)

    def _directions(self, product: onnx.NodeProto) -> npt.NDArray[np.float64] | None:
        """Return the stored weights of a product, a row for each number that it makes; None if they are computed."""
        stored = self._weights.get(product.input[1])
        if stored is None or len(stored.dims) != 2:
            return None
        weights = np.asarray(numpy_helper.to_array(stored), np.float64)
        return weights if product.op_type == "Gemm" and _attribute(product, "transB") == 1 else weights.T


def _attribute(node: onnx.NodeProto, name: str) -> object:
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), None)
