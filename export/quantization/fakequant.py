"""A written QDQ network in torch, with its weights as parameters: what is trained is what is exported."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from edgeface.export.quantization.layers import Graph, Layer
from edgeface.export.quantization.operators import check_operators, run_operator
from edgeface.export.quantization.qdq import Tuned
from edgeface.export.quantization.targets import Target
from edgeface.export.quantization.weights import Rounded

_MOST: Final = 2.0**31 - 128
"""Largest bias in 32 bits that float32 can hold too."""


class Grid(torch.autograd.Function):
    """Rounding to whole steps, half to even, and back, as QuantizeLinear and DequantizeLinear do together.

    Gradients pass straight through where a value is within the range, and not where it saturates.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        """Round `values` to multiples of `scale` (of a shape that broadcasts), from `low` to `high` of them."""
        whole = torch.round(values / scale)
        held = torch.clamp(whole, low, high)
        ctx.save_for_backward(held != whole)
        return held * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Stop the gradients of what saturated."""
        (saturated,) = ctx.saved_tensors
        return gradient.masked_fill(saturated, 0.0), None, None, None


def _on_grid(values: Tensor | None, scale: Tensor | None, low: int, high: int) -> Tensor:
    made: Tensor = Grid.apply(values, scale, low, high)  # type: ignore[no-untyped-call]
    return made


def _unit(bias: Tensor) -> Tensor:
    """Return what to count a bias in where its layer makes floats, which have no step."""
    return torch.clamp(bias.abs().max() / 127, min=1e-6)


class FakeQuantized:
    """Runs a network that `QdqWriter` wrote, and lets gradients through; what is in float there stays as it is.

    Args:
        model: the written network.
        graph: the float32 network that it was written from.
        target: the processor it is for.
        biases: in float as the writer got them, (C,) by the name of the layer.
        float_layers: names of the layers that were written in float.

    Raises:
        ExportError: the network has an operator that `export.quantization.operators` does not know.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        graph: Graph,
        target: Target,
        biases: Mapping[str, npt.NDArray[np.float32]],
        float_layers: Collection[str] = (),
    ) -> None:
        check_operators({node.op_type for node in model.graph.node} - {"QuantizeLinear", "DequantizeLinear"})
        self._nodes = [
            (node, {a.name: helper.get_attribute_value(a) for a in node.attribute}) for node in model.graph.node
        ]
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._constants = {name: torch.from_numpy(values.copy()) for name, values in stored.items()}
        self._limits = target.limits
        self._top = target.largest_weight
        self._whole_biases = target.bias
        floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model.graph.initializer}
        in_int8 = (layer for layer in graph.layers if layer.name not in float_layers)
        self._products = [layer for layer in in_int8 if layer.weight is not None]
        self._steps: dict[str, Tensor] = {}
        self._units: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}
        """By the name of the layer, float32 in steps of its grid, so that one learning rate fits all layers."""
        self.biases: dict[str, Tensor] = {}
        """By the name of the layer, (C,) float32 in steps of what the layer makes, for the same reason."""
        for layer in self._products:
            assert layer.weight is not None
            shape = [1] * floats[layer.weight].ndim
            shape[layer.channel_axis] = -1
            self._steps[layer.name] = self._constants[f"{layer.name}.ws"].reshape(shape)
            weight = torch.from_numpy(floats[layer.weight].copy()) / self._steps[layer.name]
            self.weights[layer.name] = weight.requires_grad_()
            if layer.name in biases:
                bias = torch.from_numpy(biases[layer.name].copy())
                self._units[layer.name] = self._constants.get(f"{layer.output}.scale", _unit(bias))
                self.biases[layer.name] = (bias / self._units[layer.name]).requires_grad_()
        self._weights = {f"{layer.name}.w8": layer for layer in self._products}
        kind = "b32" if target.bias else "bias"
        self._biases = {f"{layer.name}.{kind}": layer for layer in self._products if layer.name in self.biases}

    def embed(self, faces: Tensor) -> Tensor:
        """Embed (N, 112, 112, 3) uint8 RGB faces; returns (N, D) float32 of unit length."""
        values = self._constants | {self._input: faces}
        if not self._whole_biases:
            values |= {name: self._bias(layer) for name, layer in self._biases.items()}
        for node, attributes in self._nodes:
            taken = [values[name] if name else None for name in node.input]
            if node.op_type == "QuantizeLinear":
                low, high = (limit - int(values[node.input[2]]) for limit in self._limits)
                results: tuple[Tensor, ...] = (_on_grid(taken[0], taken[1], low, high),)
            elif node.op_type == "DequantizeLinear":
                results = (self._dequantized(node.input[0], values),)
            else:
                results = run_operator(node.op_type, taken, attributes)
            values.update(zip(node.output, results, strict=False))
        return values[self._output]

    def tuned(self) -> Tuned:
        """Return the weights and biases as they are now, as the writer takes them."""
        with torch.no_grad():
            weights = {}
            for layer in self._products:
                whole = torch.clamp(torch.round(self._floats(layer) / self._steps[layer.name]), -self._top, self._top)
                scales = self._steps[layer.name].reshape(-1).numpy().copy()
                weights[layer.name] = Rounded(whole.to(torch.int8).numpy(), scales, layer.channel_axis)
            return Tuned(weights, {layer.name: self._bias(layer).numpy().copy() for layer in self._biases.values()})

    def _dequantized(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        if name in self._weights:
            layer = self._weights[name]
            return _on_grid(self._floats(layer), self._steps[layer.name], -self._top, self._top)
        return self._bias(self._biases[name]) if name in self._biases else values[name]  # Grid went there and back

    def _floats(self, layer: Layer) -> Tensor:
        return self.weights[layer.name] * self._steps[layer.name]

    def _bias(self, layer: Layer) -> Tensor:
        bias = self.biases[layer.name] * self._units[layer.name]
        if not self._whole_biases:
            return bias
        unit = self._constants[f"{layer.inputs[0]}.scale"] * self._steps[layer.name].reshape(-1)
        with torch.no_grad():
            whole = torch.clamp(torch.round(bias / unit), -_MOST, _MOST) * unit
        return bias + (whole - bias).detach()
