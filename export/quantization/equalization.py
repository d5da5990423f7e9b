"""Cross-layer equalisation: shifting scale between channels of neighbouring layers, which floats do not notice."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgeface.export.prelu import is_prelu_arithmetic
from edgeface.export.quantization.layers import Graph, Layer

SHARE: Final = 0.75
"""Of a difference between channels, how much activations are relieved of; the rest is left to them, not to weights.

On a MobileFaceNet the mean of 1 - cosine in int8 is 0.0037 with 0.5 and with 0.75, 0.0039 with 1, and 0.0052 where the
weights alone are looked at.
"""

_LEAST: Final = 0.01
"""Share of the largest channel that every channel is taken to reach: what the faces hardly show may reach further."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two convolutions of which the second alone takes what the first makes, through an activation f at most.

    f(s * x) = s * f(x) for s > 0, which ReLU and PReLU fulfil and ReLU6 does not.
    """

    first: Layer
    second: Layer


def equalize(graph: Graph, reaches: dict[str, npt.NDArray[np.float32]]) -> Graph:
    """Return the network with more equal channels of the tensors between two convolutions.

    Channel i of the first layer is divided by s_i and of the second multiplied, which float arithmetic does not notice
    (Nagel et al., ICCV 2019, arXiv 1906.04721, section 4.1). Weights have a step for each output channel but a tensor
    has one for all, so it is the tensor's channels that should reach equally far: s_i is its reach where the second is
    depthwise and takes no harm, and reach^a / weight^(1 - a) with the largest weight on that channel elsewhere (Xiao et
    al., "SmoothQuant", ICML 2023, arXiv 2211.10438, equation 4).

    Args:
        graph: the float32 network.
        reaches: largest magnitude in each channel of what layers make, (C,), by the name of the tensor.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model.graph.initializer}
    changed: set[str] = set()
    for pair in find_neighbours(graph):
        changed |= _equalize(pair, reaches[pair.first.output], weights)
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


def _equalize(
    pair: Neighbours, reach: npt.NDArray[np.floating], weights: dict[str, npt.NDArray[np.float32]]
) -> set[str]:
    """Equalise one pair in place; returns the names of the weights that changed."""
    assert pair.first.weight is not None and pair.second.weight is not None
    first, second = weights[pair.first.weight], weights[pair.second.weight]
    channels = len(first)
    if pair.second.depthwise and second.shape[:2] == (channels, 1):
        largest, spread, share = np.ones(channels, np.float32), (-1, 1, 1, 1), 1.0
    elif not pair.second.depthwise and second.shape[1] == channels:
        largest, spread, share = np.abs(second).max(axis=(0, 2, 3)), (1, -1, 1, 1), SHARE
    else:
        return set()  # in groups of several channels
    usable = (reach.max() > 0) & (largest > 0)
    reached = np.where(usable, np.maximum(reach, _LEAST * reach.max()), 1.0)
    scale = (reached**share / np.where(usable, largest, 1.0) ** (1 - share)).astype(np.float32)
    weights[pair.first.weight] = first / scale.reshape(-1, 1, 1, 1)
    weights[pair.second.weight] = second * scale.reshape(spread)
    if pair.first.bias is not None:
        weights[pair.first.bias] = weights[pair.first.bias] / scale
    return {name for name in (pair.first.weight, pair.second.weight, pair.first.bias) if name is not None}
