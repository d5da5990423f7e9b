"""Writing quantization into a graph, as pairs of QuantizeLinear and DequantizeLinear (QDQ)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeface.errors import ExportError
from edgeface.export.quantization.layers import FLOAT_ENDS, Graph, Layer
from edgeface.export.quantization.ranges import Range
from edgeface.export.quantization.targets import Target
from edgeface.export.quantization.weights import Rounded, round_weight

STORED_FROM: Final = 512
"""Numbers in a weight from which on a float layer keeps it in int8: below, the scales outweigh what it saves."""

_LARGEST_BIAS: Final = 2.0**30


@dataclass(frozen=True, slots=True)
class Tuned:
    """What fine-tuning found for the layers of a network in int8.

    Attributes:
        weights: by the name of the layer.
        biases: (C,) float32, by the name of the layer.
    """

    weights: Mapping[str, Rounded]
    biases: Mapping[str, npt.NDArray[np.float32]]


class QdqWriter:
    """Writes one network with some of its layers in int8.

    A tensor is quantized if a layer in int8 makes it or takes it. What computes in float takes the float32 tensor
    where it was made in float: a residual sum in float keeps its trunk exact beside convolutions in int8. A matrix
    product that nothing in int8 follows gives the float32 sums of its integers, so the embedding is not rounded again.

    Args:
        graph: the float32 network.
        ranges: of the tensors that its layers take and make.
        target: the processor it is for.
        tuned: weights of layers in int8, instead of the network's own.
    """

    def __init__(self, graph: Graph, ranges: Mapping[str, Range], target: Target, tuned: Tuned | None = None) -> None:
        self._graph = graph
        self._target = target
        self._weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model.graph.initializer}
        self._scales = {name: _scale(values, target) for name, values in ranges.items()}
        self._cache: dict[tuple[str, bool], Rounded] = {}
        if tuned is not None:
            self._cache = {(name, True): rounded for name, rounded in tuned.weights.items()}

    def write(
        self,
        float_layers: Collection[str] = (),
        *,
        float_weights: bool = False,
        biases: Mapping[str, npt.NDArray[np.float32]] | None = None,
    ) -> onnx.ModelProto:
        """Return the network with every layer in int8 but the named ones.

        Args:
            float_layers: names of layers that compute in float. Their larger weights are stored in int8 all the same:
                that makes the file small and costs no time, for onnxruntime expands them when it loads the network.
            float_weights: store those weights in float32.
            biases: instead of the network's own, (C,) by the name of the layer.

        Raises:
            ExportError: there is no layer of that name.
        """
        if unknown := set(float_layers) - {layer.name for layer in self._graph.layers}:
            raise ExportError(f"the network has no layer {min(unknown)!r} that could be left in float")
        draft = _Draft(self._graph.model)
        integer = {layer.name: layer for layer in self._graph.layers if layer.name not in float_layers}
        taken = {name for layer in integer.values() for name in layer.inputs}
        made = {layer.output for layer in integer.values() if layer.output in taken or layer.kind not in FLOAT_ENDS}
        takers: dict[str, list[str]] = {name: [] for name in sorted(made)}
        for layer in integer.values():
            for name in layer.inputs:
                takers.setdefault(name, []).append(layer.name)
        layers = {layer.name: layer for layer in self._graph.layers}
        saturated = [layer for layer in integer.values() if layer.output in made and not self._target.symmetric]
        dropped = {layer.activation: layer for layer in saturated}
        for node in self._graph.model.graph.node:
            if node.name in dropped:
                continue  # its range starts at zero, so saturation does the same
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for index, name in enumerate(node.input):
                if name in takers and node.name in integer:
                    copy.input[index] = self._dequantized(name, node.name)
                elif name in made:
                    copy.input[index] = self._dequantized(name, "")
            if node.name in layers:
                layer = layers[node.name]
                if layer.activation in dropped:
                    copy.output[0] = layer.output
                if layer.weight is not None:
                    self._weigh(draft, copy, layer, layer.name in integer, float_weights, biases or {})
            draft.nodes.append(copy)
            for name in copy.output:
                if name in takers:
                    self._pairs(draft, name, takers[name], name in made)
        return draft.finish()

    def rounded(self, float_layers: Collection[str] = ()) -> dict[str, Rounded]:
        """Return the weights that a network holds in int8, by the name of the layer."""
        return {
            layer.name: self._round(layer, layer.name not in float_layers)
            for layer in self._graph.layers
            if layer.weight is not None and (layer.name not in float_layers or self._is_stored(layer.weight))
        }

    def _is_stored(self, weight: str) -> bool:
        return self._weights[weight].size >= STORED_FROM

    def _round(self, layer: Layer, integer: bool) -> Rounded:
        key = (layer.name, integer)
        if key not in self._cache:
            assert layer.weight is not None
            least = None
            if integer and self._target.bias and layer.bias is not None:
                # A bias is stored in units of both scales, and must fit into 32 bits.
                least = np.abs(self._weights[layer.bias]) / (self._scales[layer.inputs[0]][0] * _LARGEST_BIAS)
            top = self._target.largest_weight if integer else 127
            self._cache[key] = round_weight(self._weights[layer.weight], layer.channel_axis, top, least)
        return self._cache[key]

    def _weigh(
        self,
        draft: "_Draft",
        node: onnx.NodeProto,
        layer: Layer,
        integer: bool,
        float_weights: bool,
        biases: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        """Store weights and bias of a product, and connect its node with them."""
        assert layer.weight is not None
        bias = biases.get(layer.name, self._weights[layer.bias] if layer.bias else None)
        if integer:
            rounded = self._round(layer, True)
            names = [draft.store(f"{layer.name}.w8", rounded.values), draft.store(f"{layer.name}.ws", rounded.scales)]
            if layer.kind in FLOAT_ENDS:  # without zero points onnxruntime fails (1.22 to 1.26), or takes floats (1.32)
                names.append(draft.store(f"{layer.name}.wz", np.zeros(len(rounded.scales), np.int8)))
            node.input[1] = draft.node("DequantizeLinear", names, f"{layer.name}.weight", axis=layer.channel_axis)
        elif not float_weights and self._is_stored(layer.weight):
            rounded = self._round(layer, False)
            shape = [1] * rounded.values.ndim
            shape[layer.channel_axis] = -1
            floats = draft.node(
                "Cast", [draft.store(f"{layer.name}.w8", rounded.values)], f"{layer.name}.wf", to=onnx.TensorProto.FLOAT
            )
            scales = draft.store(f"{layer.name}.ws", rounded.scales.reshape(shape))
            node.input[1] = draft.node("Mul", [floats, scales], f"{layer.name}.weight")
        if bias is None:
            return
        del node.input[2:]
        if integer and self._target.bias:
            scale = (self._scales[layer.inputs[0]][0] * self._round(layer, True).scales).astype(np.float32)
            whole = np.round(bias / scale.astype(np.float64)).astype(np.int32)
            names = [draft.store(f"{layer.name}.b32", whole), draft.store(f"{layer.name}.bs", scale)]
            node.input.append(draft.node("DequantizeLinear", names, f"{layer.name}.bias", axis=0))
        else:
            node.input.append(draft.store(f"{layer.name}.bias", bias.astype(np.float32)))

    def _dequantized(self, name: str, taker: str) -> str:
        return f"{name}.dq.{taker}" if self._target.dedicated and taker else f"{name}.dq"

    def _pairs(self, draft: "_Draft", name: str, takers: list[str], made: bool) -> None:
        """Quantize a tensor: once for all, or once for each layer that takes it where the target wants that."""
        scale, zero = self._scales[name]
        kind = np.int8 if self._target.signed else np.uint8
        parameters = [draft.store(f"{name}.scale", np.float32(scale)), draft.store(f"{name}.zero", kind(zero))]
        ends = dict.fromkeys(self._dequantized(name, taker) for taker in takers)
        if made:
            ends[self._dequantized(name, "")] = None
        for end in ends:
            stored = draft.node("QuantizeLinear", [name, *parameters], end.replace(".dq", ".q"))
            draft.node("DequantizeLinear", [stored, *parameters], end)


class _Draft:
    """A network in the making."""

    def __init__(self, source: onnx.ModelProto) -> None:
        self._source = source
        self.nodes: list[onnx.NodeProto] = []
        self._stored: dict[str, npt.NDArray[Any]] = {}

    def store(self, name: str, values: npt.NDArray[Any] | np.generic) -> str:
        self._stored[name] = np.asarray(values)
        return name

    def node(self, kind: str, inputs: Collection[str], output: str, **attributes: int) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, None, None, None, **attributes))
        return output

    def finish(self) -> onnx.ModelProto:
        """Put it together, without what nothing uses."""
        model = onnx.ModelProto()
        model.CopyFrom(self._source)
        graph = model.graph
        wanted = {value.name for value in graph.output}
        kept = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        old = [tensor for tensor in graph.initializer if tensor.name in wanted]
        new = [numpy_helper.from_array(values, name) for name, values in self._stored.items() if name in wanted]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(reversed(kept))
        graph.initializer.extend([*old, *new])
        return model


def _scale(values: Range, target: Target) -> tuple[float, int]:
    """Return scale and zero point of a range, which is widened to contain zero."""
    low, high = min(values[0], 0.0), max(values[1], 0.0)
    least, most = target.limits
    if target.symmetric:
        return max(-low, high) / most or 1.0, 0
    scale = (high - low) / (most - least) or 1.0
    return scale, int(np.clip(round(least - low / scale), least, most))
