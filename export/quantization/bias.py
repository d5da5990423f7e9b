"""Bias correction: rounding weights shifts the mean of what a layer makes, and its bias can shift it back."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx import helper, numpy_helper

from edgeface.export.quantization.layers import Graph, Layer
from edgeface.export.quantization.weights import Rounded


def corrected_biases(
    graph: Graph, means: Mapping[str, npt.NDArray[np.float64]], rounded: Mapping[str, Rounded]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return biases with which the mean output of each layer over the calibration faces is that of its float form.

    Nagel et al., 2019, arXiv 1906.04721, section 4.2: with weights off by e, the output is off by e * x, in the mean
    by e * E[x]. A product is linear, so the mean input over the faces tells the mean error exactly, and one run of the
    layer on it does.

    Args:
        graph: the float32 network.
        means: mean over the faces of the tensors that layers take, (C, H, W) or (C,).
        rounded: the weights as the network will hold them, by the name of the layer.
    """
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model.graph.initializer}
    nodes = {node.name: node for node in graph.model.graph.node}
    biases = {}
    for layer in _with_bias(graph.layers, rounded):
        assert layer.weight is not None and layer.bias is not None
        error = rounded[layer.name].floats.astype(np.float64) - stored[layer.weight]
        attributes = {a.name: helper.get_attribute_value(a) for a in nodes[layer.name].attribute}
        shift = _mean_output(layer, error, means[layer.inputs[0]], attributes)
        biases[layer.name] = (stored[layer.bias] - shift).astype(np.float32)
    return biases


def _with_bias(layers: Collection[Layer], rounded: Mapping[str, Rounded]) -> list[Layer]:
    return [layer for layer in layers if layer.name in rounded and layer.bias and layer.kind in ("Conv", "Gemm")]


def _mean_output(
    layer: Layer,
    weight: npt.NDArray[np.float64],
    mean_input: npt.NDArray[np.float64],
    attributes: Mapping[str, Any],
) -> npt.NDArray[np.float64]:
    """Return what the layer makes of the mean input, averaged over the picture: (C,)."""
    if layer.kind == "Gemm":
        return np.moveaxis(weight, layer.channel_axis, 0) @ mean_input
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    padded = np.pad(mean_input, ((0, 0), (top, bottom), (left, right)))
    made = torch.nn.functional.conv2d(
        torch.from_numpy(padded)[None],
        torch.from_numpy(weight),
        stride=attributes.get("strides", 1),
        dilation=attributes.get("dilations", 1),
        groups=attributes.get("group", 1),
    )
    result: npt.NDArray[np.float64] = made[0].mean(dim=(1, 2)).numpy()
    return result
