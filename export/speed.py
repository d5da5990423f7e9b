"""Is int8 faster here? Measured, and if not, why."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.export.layers import PRODUCTS
from edgeface.export.prelu import is_prelu_arithmetic
from edgeface.export.targets import Target, has_vnni, runs_here
from edgeface.runtime.embedder import Embedder
from edgeface.runtime.placement import optimised_nodes
from edgeface.runtime.timing import take_turns

ROUNDS: Final = 40
WARM_UP: Final = 6

_INTEGER_KINDS: Final = ("QLinear", "QGemm", "QAttention")
_NAMED: Final = 6


def race(embedders: Mapping[str, Embedder], face: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return the median time for one face (1, 112, 112, 3) of each network in ms.

    They take turns, so that what else the machine does meets them all alike.
    """
    works = [partial(embedder.embed, face) for embedder in embedders.values()]
    times = take_turns(works, ROUNDS, WARM_UP)
    return {name: float(np.median(measured)) for name, measured in zip(embedders, times, strict=True)}


def unfused_layers(data: bytes) -> tuple[str, ...]:
    """Name the layers of a quantized network that onnxruntime computes in float on this CPU all the same.

    They are those whose weights are dequantized in the file and which are of no integer kind in the optimised graph.
    """
    model = onnx.load_model_from_string(data)
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    products = (node for node in model.graph.node if node.op_type in PRODUCTS)
    layers = [node.name for node in products if dequantized.issuperset(node.input[:2])]
    nodes = {node.name: node for node in optimised_nodes(data, "the int8 network")}
    return tuple(name for name in layers if name in nodes and not nodes[name].op_type.startswith(_INTEGER_KINDS))


def explain_speed(fp32_ms: float, int8_ms: float, data: bytes, target: Target, unfused: Collection[str]) -> str:
    """Say whether int8 is faster than fp32 here, and if not, what it is that keeps it from it.

    Args:
        fp32_ms: median for one face.
        int8_ms: the same.
        data: the int8 network.
        target: that it was made for.
        unfused: names of layers that run in float although they were quantized.
    """
    ratio = fp32_ms / int8_ms
    measured = f"int8 takes {int8_ms:.2f} ms, fp32 {fp32_ms:.2f} ms"
    if not runs_here(target):
        return f"{measured} on this machine, which is no {target.name}: measure there with edgeface bench"
    if ratio > 1:
        return f"{measured}: {ratio:.2f} times as fast"
    causes = []
    if target.name == "x86-avx2" and not has_vnni():
        causes.append("this processor has no VNNI, so that int8 products are no faster than those of floats")
    model = onnx.load_model_from_string(data)
    rewritten = sum(is_prelu_arithmetic(node) and node.op_type == "Add" for node in model.graph.node)
    whole = sum(node.op_type == "PRelu" for node in model.graph.node)
    if rewritten or whole:
        causes.append(f"{rewritten + whole} PReLUs have no integer form, and each costs two changes of layout")
    if unfused:
        more = f" and {len(unfused) - _NAMED} more" if len(unfused) > _NAMED else ""
        causes.append(f"not fused into integer arithmetic: {', '.join(list(unfused)[:_NAMED])}{more}")
    return f"{measured}: not faster, because {'; '.join(causes) or 'this network is too small for it to pay'}"
