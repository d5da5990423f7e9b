"""Bringing somebody else's ONNX embedder into the contract of the project."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import ExportError
from edgeface.export.cleaning import clean_model
from edgeface.export.graph import with_contract
from edgeface.export.soundness import check_embedder
from edgeface.export.tracing import DEFAULT_OPSET, assert_opset
from edgeface.faces import FACE_SIZE

Layout = Literal["nchw", "nhwc"]
ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a foreign network expects: (pixel - mean) * scale, with pixels in [0, 255].

    Attributes:
        layout: `nchw` or `nhwc`.
        channel_order: `rgb` or `bgr`.
        mean: subtracted from each pixel value, one number for all channels.
        scale: multiplied after that, for example 1 / 127.5.
    """

    layout: Layout
    channel_order: ChannelOrder
    mean: float
    scale: float

    def __post_init__(self) -> None:
        if self.layout not in ("nchw", "nhwc"):
            raise ExportError(f"--input-layout is nchw or nhwc, not {self.layout!r}")
        if self.channel_order not in ("rgb", "bgr"):
            raise ExportError(f"--channel-order is rgb or bgr, not {self.channel_order!r}")
        if not np.isfinite([self.mean, self.scale]).all() or self.scale == 0:
            raise ExportError(
                f"--mean and --scale must be finite and --scale not zero, got {self.mean} and {self.scale}"
            )

    def apply(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Prepare (N, 112, 112, 3) uint8 RGB faces outside the graph, as a plain loop on a device would."""
        pixels = faces[..., ::-1] if self.channel_order == "bgr" else faces
        floats = (pixels.astype(np.float32) - np.float32(self.mean)) * np.float32(self.scale)
        return np.ascontiguousarray(floats.transpose(0, 3, 1, 2) if self.layout == "nchw" else floats)


def adapt(model: onnx.ModelProto, preprocessing: Preprocessing, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """Put the preprocessing and the L2 norm into a foreign embedder's graph.

    Args:
        model: one float32 image input of 112 x 112 and one (N, D) float32 output; a fixed batch size is made free.
        preprocessing: what the network was trained with; nothing is guessed.
        opset: of the result; an older network is converted.

    Returns:
        A graph that takes `faces` (N, 112, 112, 3) uint8 RGB and gives unit `embeddings`, with the contract in
        its metadata.

    Raises:
        ExportError: several inputs or outputs, another input type or size, operators that cannot be converted to the
            opset, or a network that is no embedder as it is: see `edgeface.export.soundness`.
    """
    model = clean_model(model)
    _check_input(_single_input(model), preprocessing)
    _single_output(model.graph)
    check_embedder(model)
    # Every name gets a prefix, so that ours cannot meet theirs.
    model = onnx.compose.add_prefix(_with_opset(model, opset), "net/")
    graph = model.graph
    image, output = _single_input(model), _single_output(graph)
    before, source = _preprocessing_nodes(preprocessing, graph)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == image.name:
                node.input[index] = source
    after = _normalisation_nodes(output.name, graph)
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    dimension = _dimension(output)
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info("faces", TensorProto.UINT8, ["batch", FACE_SIZE, FACE_SIZE, 3]))
    graph.output.append(helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", dimension]))
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


def _check_input(image: onnx.ValueInfoProto, preprocessing: Preprocessing) -> None:
    tensor = image.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise ExportError(f"input {image.name} is {kind}, only FLOAT can be adapted")
    shape = [size.dim_value or size.dim_param or "?" for size in tensor.shape.dim]
    asked = [3, FACE_SIZE, FACE_SIZE] if preprocessing.layout == "nchw" else [FACE_SIZE, FACE_SIZE, 3]
    fits = len(shape) == 4 and all(
        seen == want or not isinstance(seen, int) for seen, want in zip(shape[1:], asked, strict=True)
    )
    if not fits:
        raise ExportError(
            f"input {image.name} has shape {shape}, {preprocessing.layout} needs (N, {', '.join(map(str, asked))}); "
            "check --input-layout, or use a network for 112 x 112 faces"
        )


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


def _preprocessing_nodes(preprocessing: Preprocessing, graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], str]:
    nodes = [helper.make_node("Cast", ["faces"], ["pixels"], name="pre/cast", to=TensorProto.FLOAT)]
    source = "pixels"
    if preprocessing.channel_order == "bgr":
        for name, value in (("pre/start", -1), ("pre/end", -4), ("pre/axis", 3), ("pre/step", -1)):
            graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
        nodes.append(
            helper.make_node(
                "Slice", [source, "pre/start", "pre/end", "pre/axis", "pre/step"], ["pre/bgr"], name="pre/reverse"
            )
        )
        source = "pre/bgr"
    if preprocessing.layout == "nchw":
        nodes.append(helper.make_node("Transpose", [source], ["pre/nchw"], name="pre/transpose", perm=[0, 3, 1, 2]))
        source = "pre/nchw"
    for op_type, number, neutral in (("Sub", preprocessing.mean, 0.0), ("Mul", preprocessing.scale, 1.0)):
        if number != neutral:
            constant = f"pre/{op_type.lower()}_value"
            graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), constant))
            nodes.append(
                helper.make_node(op_type, [source, constant], [f"pre/{op_type.lower()}"], name=f"pre/{op_type}")
            )
            source = f"pre/{op_type.lower()}"
    return nodes, source


def _normalisation_nodes(output: str, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(np.array(1e-12, np.float32), "post/epsilon"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "post/axes"))
    return [
        helper.make_node("Mul", [output, output], ["post/square"], name="post/mul"),
        helper.make_node("ReduceSum", ["post/square", "post/axes"], ["post/sum"], name="post/total", keepdims=1),
        helper.make_node("Add", ["post/sum", "post/epsilon"], ["post/safe"], name="post/add"),
        helper.make_node("Sqrt", ["post/safe"], ["post/length"], name="post/sqrt"),
        helper.make_node("Div", [output, "post/length"], ["embeddings"], name="post/div"),
    ]
