"""Bringing somebody else's ONNX embedder into the contract of the project."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import ExportError
from edgeface.export.cleaning import clean_model
from edgeface.export.graph import with_contract
from edgeface.export.resampling import Affine
from edgeface.export.soundness import check_embedder
from edgeface.export.spreading import OutputTransform
from edgeface.export.tracing import DEFAULT_OPSET, assert_opset
from edgeface.faces import FACE_SIZE

Layout = Literal["nchw", "nhwc"]
ChannelOrder = Literal["rgb", "bgr"]

_CROP: Final = (FACE_SIZE, FACE_SIZE)
_EPSILON: Final = np.float32(1e-12)
"""Added to a squared length: nothing is divided by zero, and an embedding of zeros stays one."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a foreign network expects: (pixel - mean) * scale, with pixels in [0, 255], and what its embeddings need.

    Attributes:
        layout: `nchw` or `nhwc`.
        channel_order: `rgb` or `bgr`.
        mean: subtracted from each pixel value, one number for all channels.
        scale: multiplied after that, for example 1 / 127.5.
        affine: from the 112 x 112 crop to the network's input; None if that takes the crop as it is.
        transform: of the unit embeddings; None if they are compared as they are.
    """

    layout: Layout
    channel_order: ChannelOrder
    mean: float
    scale: float
    affine: Affine | None = None
    transform: OutputTransform | None = None

    def __post_init__(self) -> None:
        if self.layout not in ("nchw", "nhwc"):
            raise ExportError(f"--input-layout is nchw or nhwc, not {self.layout!r}")
        if self.channel_order not in ("rgb", "bgr"):
            raise ExportError(f"--channel-order is rgb or bgr, not {self.channel_order!r}")
        if not np.isfinite([self.mean, self.scale]).all() or self.scale == 0:
            raise ExportError(
                f"--mean and --scale must be finite and --scale not zero, got {self.mean} and {self.scale}"
            )

    def __str__(self) -> str:
        warped = "" if self.affine is None else f", resampled by {self.affine.straight.round(4).tolist()}"
        return f"{self.layout} {self.channel_order}{warped}, (pixel - {self.mean:g}) * {self.scale:g}"

    def apply(self, faces: npt.NDArray[np.uint8], size_wh: tuple[int, int] = _CROP) -> npt.NDArray[np.float32]:
        """Prepare (N, 112, 112, 3) uint8 RGB faces outside the graph, as a plain loop on a device would.

        Args:
            faces: aligned.
            size_wh: of the network's input; other than that of the faces only with `affine`.

        Returns:
            (N, 3, height, width) or (N, height, width, 3) float32, as `layout` says.
        """
        resampled = faces if self.affine is None else self.affine.warp(faces, size_wh)
        pixels = resampled[..., ::-1] if self.channel_order == "bgr" else resampled
        floats = (pixels.astype(np.float32) - np.float32(self.mean)) * np.float32(self.scale)
        return np.ascontiguousarray(floats.transpose(0, 3, 1, 2) if self.layout == "nchw" else floats)

    def finish(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn what the network gives, (N, T), into unit embeddings (N, D), outside the graph."""
        unit = _unit(embeddings)
        return unit if self.transform is None else _unit(self.transform.apply(unit))

    def size_wh(self, name: str, shape: Sequence[int | str | None]) -> tuple[int, int]:
        """Return the size of the picture that an input takes.

        Args:
            name: of the input.
            shape: of the input; what is not a number is free.

        Raises:
            ExportError: it does not fit the layout, or has another size than the crop, or a free one, although the
                crop is not, or is, resampled.
        """
        seen = [size if isinstance(size, int) and size > 0 else "?" for size in shape]
        places = (3, 2, 1) if self.layout == "nchw" else (2, 1, 3)
        width, height, channels = (seen[place] for place in places) if len(seen) == 4 else ("?", "?", 0)
        fits = channels in (3, "?")
        if self.affine is not None:
            if fits and isinstance(width, int) and isinstance(height, int):
                return width, height
            raise ExportError(
                f"input {name} has shape {list(shape)}, with --input-affine it needs 3 channels in {self.layout} and a "
                "height and width that are written into the network"
            )
        if fits and width in (FACE_SIZE, "?") and height in (FACE_SIZE, "?"):
            return _CROP
        asked = [3, FACE_SIZE, FACE_SIZE] if self.layout == "nchw" else [FACE_SIZE, FACE_SIZE, 3]
        raise ExportError(
            f"input {name} has shape {list(shape)}, {self.layout} needs (N, {', '.join(map(str, asked))}); "
            "check --input-layout, or say with --input-affine how the crop is resampled"
        )


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
        model: one float32 image input, of 112 x 112 unless the crop is resampled, and one (N, D) float32 output; see
            `edgeface.export.importing` for how others get there.
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
    size_wh = _checked_size(_single_input(model), preprocessing)
    dimension = _dimension(_single_output(model.graph))
    if preprocessing.transform is not None:
        preprocessing.transform.check(dimension)
        dimension = preprocessing.transform.dimension
    check_embedder(model, named=named)
    # Every name gets a prefix, so that ours cannot meet theirs.
    model = onnx.compose.add_prefix(_with_opset(model, opset), "net/")
    graph = model.graph
    image, output = _single_input(model), _single_output(graph)
    before, source = _preprocessing_nodes(preprocessing, size_wh, graph)
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


def _checked_size(image: onnx.ValueInfoProto, preprocessing: Preprocessing) -> tuple[int, int]:
    tensor = image.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise ExportError(f"input {image.name} is {kind}, only FLOAT can be adapted")
    return preprocessing.size_wh(image.name, [size.dim_value or size.dim_param or "?" for size in tensor.shape.dim])


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


def _preprocessing_nodes(
    preprocessing: Preprocessing, size_wh: tuple[int, int], graph: onnx.GraphProto
) -> tuple[list[onnx.NodeProto], str]:
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
    if preprocessing.affine is not None:
        resampling, source = preprocessing.affine.nodes(source, size_wh, graph)
        nodes += resampling
        if preprocessing.layout == "nhwc":
            nodes.append(helper.make_node("Transpose", [source], ["pre/nhwc"], name="pre/transpose", perm=[0, 2, 3, 1]))
            source = "pre/nhwc"
    elif preprocessing.layout == "nchw":
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


def _finishing_nodes(output: str, transform: OutputTransform | None, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(np.array(_EPSILON), "post/epsilon"))
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


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = vectors / np.sqrt((vectors * vectors).sum(axis=1, keepdims=True) + _EPSILON)
    return unit
