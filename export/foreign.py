"""Bringing somebody else's ONNX embedder into the contract of the project."""

import numpy as np
import onnx
import onnx.compose
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import ExportError
from edgeface.export.cleaning import clean_model
from edgeface.export.graph import with_contract
from edgeface.export.preprocessing import EPSILON, Preprocessing
from edgeface.export.soundness import check_embedder
from edgeface.export.spreading import OutputTransform
from edgeface.export.tracing import DEFAULT_OPSET, assert_opset
from edgeface.faces import FACE_SIZE


def adapt(
    model: onnx.ModelProto,
    preprocessing: Preprocessing,
    opset: int = DEFAULT_OPSET,
    *,
    batch: int | None = None,
    named: bool = False,
) -> onnx.ModelProto:
    """Put the preprocessing and the L2 norm into a foreign embedder's graph.

    Args:
        model: one float32 image input and one (N, D) float32 output; see `edgeface.export.importing` for how others get
            there.
        preprocessing: what the network was trained with, and what its embeddings need; nothing is guessed.
        opset: of the result; an older network is converted.
        batch: faces that the result takes in every run; None declares any number, whatever the model declares.
        named: the user named the output, so it is no loss head, whatever it looks like.

    Returns:
        A graph that takes `faces` (N, 112, 112, 3) uint8 RGB and gives unit `embeddings`, with the contract in
        its metadata.

    Raises:
        ExportError: several inputs or outputs, another input type or size, operators that cannot be converted to the
            opset, or a network that is no embedder as it is: see `edgeface.export.soundness`.
    """
    model = clean_model(model)
    preprocessing = _fitted(_single_input(model), preprocessing)
    dimension = _dimension(_single_output(model.graph))
    if preprocessing.transform is not None:
        preprocessing.transform.check(dimension)
        dimension = preprocessing.transform.dimension
    check_embedder(model, named=named)
    # Every name gets a prefix, so that ours cannot meet theirs.
    model = onnx.compose.add_prefix(_with_opset(model, opset), "net/")
    graph = model.graph
    image, output = _single_input(model), _single_output(graph)
    before, source = preprocessing.nodes(graph)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == image.name:
                node.input[index] = source
    after = _finishing_nodes(output.name, preprocessing.transform, graph)
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.input[:], graph.output[:], graph.value_info[:]
    rows: int | str = batch or "batch"
    graph.input.append(helper.make_tensor_value_info("faces", TensorProto.UINT8, [rows, FACE_SIZE, FACE_SIZE, 3]))
    graph.output.append(helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [rows, dimension]))
    return with_contract(model, dimension)


def _single_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise ExportError(f"an embedder has one input, this network has {[value.name for value in inputs]}")
    return inputs[0]


def _single_output(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    if len(graph.output) != 1:
        raise ExportError(f"an embedder has one output, this network has {[value.name for value in graph.output]}")
    output: onnx.ValueInfoProto = graph.output[0]
    return output


def _fitted(image: onnx.ValueInfoProto, preprocessing: Preprocessing) -> Preprocessing:
    tensor = image.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise ExportError(f"input {image.name} is {kind}, only FLOAT can be adapted")
    return preprocessing.fitted(image.name, [size.dim_value or size.dim_param or "?" for size in tensor.shape.dim])


def _dimension(output: onnx.ValueInfoProto) -> int:
    sizes = [size.dim_value for size in output.type.tensor_type.shape.dim]
    if len(sizes) != 2 or sizes[1] < 1:
        raise ExportError(f"output {output.name} has shape {sizes}, an embedder gives (batch, dimension)")
    return int(sizes[1])


def _with_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    written = next((entry.version for entry in model.opset_import if entry.domain == ""), 0)
    if written != opset:
        try:
            model = clean_model(onnx.version_converter.convert_version(model, opset))
        except RuntimeError as error:  # the converter's only exception
            reason = str(error).strip().splitlines()[0]
            raise ExportError(
                f"the network has opset {written} and cannot be converted to {opset}: {reason}"
            ) from error
    assert_opset(model, opset)
    return model


def _finishing_nodes(output: str, transform: OutputTransform | None, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(np.array(EPSILON), "post/epsilon"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "post/axes"))
    if transform is None:
        return _normalisation_nodes(output, "post/", "embeddings")
    before = _normalisation_nodes(output, "post/raw/", "post/unit")
    moved, source = transform.nodes("post/unit", graph)
    return [*before, *moved, *_normalisation_nodes(source, "post/", "embeddings")]


def _normalisation_nodes(source: str, prefix: str, result: str) -> list[onnx.NodeProto]:
    square, total, safe, length = (prefix + name for name in ("square", "sum", "safe", "length"))
    return [
        helper.make_node("Mul", [source, source], [square], name=prefix + "mul"),
        helper.make_node("ReduceSum", [square, "post/axes"], [total], name=prefix + "total", keepdims=1),
        helper.make_node("Add", [total, "post/epsilon"], [safe], name=prefix + "add"),
        helper.make_node("Sqrt", [safe], [length], name=prefix + "sqrt"),
        helper.make_node("Div", [source, length], [result], name=prefix + "div"),
    ]
