"""The parts of an embedder that can compute in int8: its products, sums and pools."""

import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx

from edgeface.errors import ExportError
from edgeface.export.prelu import is_prelu_arithmetic
from edgeface.telemetry import import_onnxruntime

PRODUCTS: Final = ("Conv", "Gemm", "MatMul")
FLOAT_ENDS: Final = ("Gemm", "MatMul")
"""Those whose integer form in onnxruntime can give float32."""

_OTHERS: Final = ("Add", "AveragePool", "GlobalAveragePool")


@dataclass(frozen=True, slots=True)
class Layer:
    """A node that can compute in int8, with the ReLU or Clip that follows it.

    Attributes:
        name: of the node.
        kind: its operator.
        inputs: tensors that it takes and that depend on the face.
        product: tensor that it makes itself.
        output: the same behind the activation.
        activation: name of that activation's node, None without one.
        weight: name of its weights, None for a sum or a pool.
        bias: name of its bias, None without one.
        channel_axis: axis of the weights that is the output channel.
        depthwise: a convolution in several groups.
        work: multiply-adds for one face.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    product: str
    output: str
    activation: str | None
    weight: str | None
    bias: str | None
    channel_axis: int
    depthwise: bool
    work: int


@dataclass(frozen=True, slots=True)
class Graph:
    """A float32 embedder, its layers in the order in which they run, and how many numbers a tensor has for one face."""

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    sizes: Mapping[str, int]

    @property
    def tensors(self) -> list[str]:
        """Names of what the layers take and make, each once, in order."""
        return list(dict.fromkeys(name for layer in self.layers for name in (*layer.inputs, layer.output)))


def find_layers(model: onnx.ModelProto) -> Graph:
    """Simplify a network and find its layers, from the first product to the last.

    The arithmetic of a rewritten PReLU is not among them: in int8 it costs a PReLU network most of its accuracy, and
    onnxruntime has no integer form of its products with a constant.

    Raises:
        ExportError: the network has no product that could be quantized.
    """
    simple = _simplified(model)
    nodes = list(simple.graph.node)
    for index, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type}.{index}"
    weights = {tensor.name: tensor for tensor in simple.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(simple).graph.value_info
    sizes = {value.name: math.prod(d.dim_value or 1 for d in value.type.tensor_type.shape.dim) for value in inferred}
    heavy = [index for index, node in enumerate(nodes) if _is_product(node, weights)]
    if not heavy:
        raise ExportError("the network has no convolution or matrix product that can be quantized")
    found = (_layer(node, nodes, weights, sizes) for node in nodes[heavy[0] : heavy[-1] + 1])
    return Graph(simple, tuple(layer for layer in found if layer is not None), sizes)


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Have onnxruntime simplify a network for quantization.

    Its symbolic shape inference ends at some of the shape arithmetic that exporters write, with an exception of any
    kind; then it is left out, and that of onnx has to do.
    """
    with tempfile.TemporaryDirectory(prefix="edgeface-") as folder:
        source, prepared = Path(folder) / "source.onnx", Path(folder) / "prepared.onnx"
        onnx.save(model, source)
        quant_pre_process = import_onnxruntime("quantization.shape_inference").quant_pre_process
        try:
            quant_pre_process(source, prepared)
        except Exception:
            try:
                quant_pre_process(source, prepared, skip_symbolic_shape=True)
            except Exception as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise ExportError(f"the network cannot be prepared for int8: {reason}; use --precision fp32") from error
        return onnx.load(prepared)


def _is_product(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    return node.op_type in PRODUCTS and node.input[0] not in weights and node.input[1] in weights


def _layer(
    node: onnx.NodeProto,
    nodes: list[onnx.NodeProto],
    weights: Mapping[str, onnx.TensorProto],
    sizes: Mapping[str, int],
) -> Layer | None:
    product = _is_product(node, weights)
    stored = [name for name in node.input if name in weights]
    if not product and (node.op_type not in _OTHERS or stored or is_prelu_arithmetic(node)):
        return None
    attributes = {attribute.name: attribute for attribute in node.attribute}
    activation = _activation(node, nodes, weights)
    made = sizes.get(node.output[0], 1)
    axis, work, groups = 0, made, 1
    if product:
        shape = weights[node.input[1]].dims
        groups = attributes["group"].i if "group" in attributes else 1
        if node.op_type != "Conv" and not ("transB" in attributes and attributes["transB"].i):
            axis = len(shape) - 1
        work = made * math.prod(shape) // shape[axis]
    return Layer(
        name=node.name,
        kind=node.op_type,
        inputs=tuple(dict.fromkeys(name for name in node.input if name and name not in weights)),
        product=node.output[0],
        output=activation.output[0] if activation else node.output[0],
        activation=activation.name if activation else None,
        weight=node.input[1] if product else None,
        bias=node.input[2] if product and len(node.input) > 2 and node.input[2] else None,
        channel_axis=axis,
        depthwise=groups > 1,
        work=work,
    )


def _activation(
    node: onnx.NodeProto, nodes: list[onnx.NodeProto], weights: Mapping[str, onnx.TensorProto]
) -> onnx.NodeProto | None:
    """Return the ReLU, or Clip from zero, that alone takes what a product or sum makes."""
    uses = Counter(name for other in nodes for name in other.input)
    if node.op_type not in (*PRODUCTS, "Add") or uses[node.output[0]] != 1:
        return None
    user = next(other for other in nodes if node.output[0] in other.input)
    if user.op_type == "Relu":
        return user
    if user.op_type == "Clip" and len(user.input) > 1 and user.input[1] in weights:
        low = onnx.numpy_helper.to_array(weights[user.input[1]])
        return user if low.size == 1 and low.item() == 0 else None
    return None
