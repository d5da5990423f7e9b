"""What layers in float cost in time, by a model: the same network then gets the same plan on every machine and day."""

from collections.abc import Collection
from typing import Final

import networkx

from edgeface.export.quantization.layers import FLOAT_ENDS, Graph, Layer

CONVERSION: Final = 50
"""Multiply-adds that int8 saves in the time that it takes to turn one number from float to int8 or back.

Measured on a MobileFaceNet (`scripts/bench_front.py`, x86 with VNNI): a convolution between two PReLUs, which compute
in float, is as fast in float as in int8 with 64 multiply-adds a number that is converted, and faster with 23.
"""

FEWEST_INPUTS: Final = 64
"""Products that an int8 convolution sums from which on it is faster than a float one.

A 3 x 3 convolution of a picture sums 27: it takes 175 us in int8 and 116 in float, a depthwise one, which sums 9, 47
and 32, while one of 128 channels takes 41 and 118.
"""

_INT8: Final = "in int8"
_FLOAT: Final = "in float"


class CostModel:
    """Estimates what a plan takes more than arithmetic in int8 alone would, in multiply-adds that int8 saves.

    Args:
        graph: the network.
    """

    def __init__(self, graph: Graph) -> None:
        self._saving = {layer.name: _saving(graph, layer) for layer in graph.layers}
        makers = {layer.output: layer.name for layer in graph.layers}
        self._float_ends = {layer.name for layer in graph.layers if layer.kind in FLOAT_ENDS}
        takers = {name: [layer.name for layer in graph.layers if name in layer.inputs] for name in graph.tensors}
        of_layers = {layer.name for layer in graph.layers} | {layer.activation for layer in graph.layers}
        outside = {name for node in graph.model.graph.node if node.name not in of_layers for name in node.input}
        outside |= {value.name for value in graph.model.graph.output}
        self._tensors = [
            (graph.sizes.get(name, 1), makers.get(name), takers[name], name in outside) for name in graph.tensors
        ]

    def cost(self, float_layers: Collection[str]) -> int:
        """Estimate a plan by the names of its layers in float."""
        total = sum(self._saving[name] for name in float_layers)
        for size, maker, takers, outside in self._tensors:
            made_in_int8 = maker is not None and maker not in float_layers
            for_float = outside or any(name in float_layers for name in takers)
            for_int8 = any(name not in float_layers for name in takers)
            if maker in self._float_ends and made_in_int8:
                continue
            total += CONVERSION * size * (for_float if made_in_int8 else for_int8)
        return total

    def change(self, float_layers: Collection[str], name: str) -> int:
        """Estimate what a plan costs more when one more layer is in float, or less: then below zero."""
        return self.cost({*float_layers, name}) - self.cost(set(float_layers))

    def cheapest(self) -> tuple[str, ...]:
        """Name the layers that are no slower in float: those of the plan with the least cost of all.

        Every layer is on one of two sides, and what costs is where numbers change sides: a minimum cut (Greig et al.,
        "Exact maximum a posteriori estimation for binary images", 1989). Of equals, the plan with the least in float.
        """
        cut = networkx.DiGraph()
        for name, saving in self._saving.items():
            cut.add_edge(_INT8, name, capacity=saving)
        for index, (size, maker, takers, outside) in enumerate(self._tensors):
            price = CONVERSION * size
            quantize, dequantize = ("Q", index), ("DQ", index)
            # No capacity is an infinite one: such an edge lets nothing be on the wrong side of it.
            cut.add_edge(quantize, maker or _FLOAT, capacity=price)
            cut.add_edges_from((taker, quantize) for taker in takers)
            if maker is not None and maker not in self._float_ends:
                cut.add_edge(maker, dequantize, capacity=price)
                cut.add_edges_from((dequantize, taker) for taker in takers)
                if outside:
                    cut.add_edge(dequantize, _FLOAT)
        _, (_, in_float) = networkx.minimum_cut(cut, _INT8, _FLOAT)
        return tuple(name for name in self._saving if name in in_float)


def _saving(graph: Graph, layer: Layer) -> int:
    """Multiply-adds that a layer does faster in int8."""
    if layer.weight is None or layer.depthwise:
        return 0
    made = graph.sizes.get(layer.product, 1)
    return layer.work if layer.work >= FEWEST_INPUTS * made else 0
