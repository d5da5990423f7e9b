"""Is int8 faster here? Measured, and if not, why."""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.export.layers import PRODUCTS
from edgeface.export.prelu import is_prelu_arithmetic
from edgeface.export.targets import Target, has_vnni, runs_here
from edgeface.runtime.embedder import Embedder
from edgeface.runtime.session import import_onnxruntime

ROUNDS: Final = 40
WARM_UP: Final = 6

_INTEGER_KINDS: Final = ("QLinear", "QGemm", "QAttention")
_NAMED: Final = 6


def race(embedders: Mapping[str, Embedder], face: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return the median time for one face (1, 112, 112, 3) of each network in ms.

    They take turns, so that what else the machine does meets them all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in embedders}
    for turn in range(ROUNDS + WARM_UP):
        for name, embedder in embedders.items():
            start = perf_counter()
            embedder.embed(face)
            if turn >= WARM_UP:
                times[name].append(perf_counter() - start)
    return {name: float(np.median(measured) * 1e3) for name, measured in times.items()}


def unfused_layers(data: bytes) -> tuple[str, ...]:
    """Name the layers of a quantized network that onnxruntime computes in float on this CPU all the same.

    They are those whose weights are dequantized in the file and which are of no integer kind in the optimised graph.
    """
    model = onnx.load_model_from_string(data)
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    products = (node for node in model.graph.node if node.op_type in PRODUCTS)
    layers = [node.name for node in products if dequantized.issuperset(node.input[:2])]
    with tempfile.TemporaryDirectory(prefix="edgeface-") as folder:
        path = Path(folder) / "optimized.onnx"
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3  # it warns that this file is for this machine, where it stays
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        nodes = {node.name: node for node in onnx.load(path).graph.node}
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
