"""Cross-layer equalisation: shifting scale between neighbouring layers, which float arithmetic does not notice."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgeface.export.layers import Graph, Layer
from edgeface.export.prelu import is_prelu_arithmetic

SWEEPS: Final = 4
"""Times that all neighbours are equalised: a layer between two others is changed by both."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two convolutions of which the second alone takes what the first makes, through an activation f at most.

    f(s * x) = s * f(x) for s > 0, which ReLU and PReLU fulfil and ReLU6 does not.
    """

    first: Layer
    second: Layer


def equalize(graph: Graph) -> Graph:
    """Return the network with equal ranges of weights on both sides of each channel between two convolutions.

    Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019,
    arXiv 1906.04721, equation 11: channel i of the first layer is divided by s_i = sqrt(r1_i * r2_i) / r2_i, and of
    the second multiplied, with r1_i and r2_i the largest weights of that channel in either. Then no channel of the
    tensor between is so small that it drowns in the steps of the largest.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model.graph.initializer}
    pairs = find_neighbours(graph)
    changed: set[str] = set()
    for _ in range(SWEEPS):
        for pair in pairs:
            changed |= _equalize(pair, weights)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return replace(graph, model=model)


def find_neighbours(graph: Graph) -> tuple[Neighbours, ...]:
    """Find the pairs of convolutions that can be equalised, in the order in which they run."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.model.graph.node:
        for name in dict.fromkeys(node.input):
            users.setdefault(name, []).append(node)
    kinds = {node.name: node.op_type for node in graph.model.graph.node}
    convolutions = {layer.name: layer for layer in graph.layers if layer.kind == "Conv"}
    shared = _shared_weights(graph)
    found = []
    for first in convolutions.values():
        if first.activation and kinds[first.activation] != "Relu":
            continue
        takers = users.get(_behind_prelu(first.output, users), [])
        second = convolutions.get(takers[0].name) if len(takers) == 1 else None
        if second and not shared.intersection((first.weight, first.bias, second.weight)):
            found.append(Neighbours(first, second))
    return tuple(found)


def _behind_prelu(tensor: str, users: dict[str, list[onnx.NodeProto]]) -> str:
    """Return the result of the PReLU, whole or rewritten, that alone takes a tensor; else the tensor."""
    takers = users.get(tensor, [])
    if len(takers) == 1 and takers[0].op_type == "PRelu":
        return str(takers[0].output[0])
    if len(takers) == 2 and all(is_prelu_arithmetic(node) for node in takers):
        line = next(node for node in takers if node.op_type == "Mul")
        return str(users[line.output[0]][0].output[0])
    return tensor


def _shared_weights(graph: Graph) -> set[str | None]:
    seen: set[str | None] = set()
    twice: set[str | None] = set()
    for layer in graph.layers:
        for name in (layer.weight, layer.bias):
            if name is not None:
                (twice if name in seen else seen).add(name)
    return twice


def _equalize(pair: Neighbours, weights: dict[str, npt.NDArray[np.float32]]) -> set[str]:
    """Equalise one pair in place; returns the names of the weights that changed."""
    assert pair.first.weight is not None and pair.second.weight is not None
    first, second = weights[pair.first.weight], weights[pair.second.weight]
    channels = len(first)
    if pair.second.depthwise and second.shape[:2] == (channels, 1):
        reach, spread = np.abs(second).max(axis=(1, 2, 3)), (-1, 1, 1, 1)
    elif not pair.second.depthwise and second.shape[1] == channels:
        reach, spread = np.abs(second).max(axis=(0, 2, 3)), (1, -1, 1, 1)
    else:
        return set()  # in groups of several channels
    own = np.abs(first).max(axis=(1, 2, 3))
    usable = (own > 0) & (reach > 0)
    scale = np.sqrt(np.where(usable, own, 1.0) / np.where(usable, reach, 1.0)).astype(np.float32)
    weights[pair.first.weight] = first / scale.reshape(-1, 1, 1, 1)
    weights[pair.second.weight] = second * scale.reshape(spread)
    if pair.first.bias is not None:
        weights[pair.first.bias] = weights[pair.first.bias] / scale
    return {name for name in (pair.first.weight, pair.second.weight, pair.first.bias) if name is not None}
