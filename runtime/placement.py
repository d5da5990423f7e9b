"""What onnxruntime makes of an int8 network, and so why it may be no faster than in float."""

import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeface.runtime.inspecting.inspection import inspect_model
from edgeface.runtime.inspecting.onnx_reader import Node, read_model
from edgeface.telemetry import import_onnxruntime

FLOAT_LAYERS: Final = frozenset({"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
INT8_LAYERS: Final = frozenset({"QLinearConv", "QGemm", "QLinearMatMul", "MatMulInteger", "ConvInteger"})
CONVERSIONS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
DOT_PRODUCTS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Instructions, as Linux names them, that multiply 8-bit numbers faster than float ones."""
TELLING: Final = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
"""Instructions that decide how fast int8 is, and on which kernels networks run."""
SHOWN: Final = 8
NOTABLE: Final = 1.05
"""A ratio of times nearer to 1 is not called faster or slower."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Layers of a network after onnxruntime's optimisations for a CPU.

    Attributes:
        int8: convolutions and products that run in int8.
        floats: names of those that run in float.
        prelus: activations that are a PReLU, or the arithmetic that stands for one.
        conversions: places where numbers go from float to int8 or back.
    """

    int8: int
    floats: tuple[str, ...]
    prelus: int
    conversions: int


def optimised_nodes(model: bytes, name: str) -> tuple[Node, ...]:
    """Return the nodes that onnxruntime makes of a network for a CPU; those that it only rewrote keep their names.

    Raises:
        BundleError: it is not a network that edgeface accepts.
        MissingPackageError: onnxruntime is not installed.
    """
    onnxruntime = import_onnxruntime()
    inspect_model(model, name)
    options = onnxruntime.SessionOptions()
    # The level above changes the layout in memory, which hides the operators; int8 is settled at this one.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="edgeface-") as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return read_model(path.read_bytes(), f"{name}, optimised").nodes


def placement(model: bytes, name: str) -> Placement:
    """Let onnxruntime optimise a network for a CPU, and look at the result.

    Raises:
        BundleError: it is not a network that edgeface accepts.
        MissingPackageError: onnxruntime is not installed.
    """
    nodes = optimised_nodes(model, name)
    return Placement(
        int8=sum(node.op_type in INT8_LAYERS for node in nodes),
        floats=tuple(node.name for node in nodes if node.op_type in FLOAT_LAYERS),
        prelus=sum(_is_prelu(node) for node in nodes),
        conversions=sum(node.op_type in CONVERSIONS for node in nodes),
    )


def causes(found: Placement, instructions: frozenset[str]) -> tuple[str, ...]:
    """Return in words what keeps an int8 network from being faster on a CPU, the weightiest first.

    Args:
        found: the layers.
        instructions: of the processor, as Linux names them; empty where that is not known.
    """
    said = []
    if instructions and not instructions & DOT_PRODUCTS:
        said.append("this processor has no 8-bit dot product (VNNI, or Arm's dotprod), so int8 multiplies no faster")
    if found.prelus:
        said.append(
            f"{found.prelus} PReLUs run in float between the int8 layers; a network with ReLU or ReLU6 has none of them"
        )
    if found.floats:
        names = ", ".join(found.floats[:SHOWN]) + (", ..." if len(found.floats) > SHOWN else "")
        said.append(f"{len(found.floats)} of {found.int8 + len(found.floats)} layers run in float: {names}")
    if found.conversions > 2:
        said.append(f"{found.conversions} conversions between float and int8 lie on the way")
    return tuple(said)


def int8_speed(ratio: float, against: str, causes: Sequence[str] = (), where: str = "") -> str:
    """Say how fast int8 is, and if it is not faster, why.

    Args:
        ratio: time of the float network by that of int8: above 1 int8 is faster.
        against: precision of the float network.
        causes: as `causes` gives them.
        where: on what it was measured, such as `on cpu with 1 thread`.
    """
    where = f" {where}" if where else ""
    if ratio >= NOTABLE:
        return f"int8 is {ratio:.2f} times as fast as {against}{where}"
    how = f"no faster than {against}" if ratio > 1 / NOTABLE else f"slower than {against}"
    why = f": {'; '.join(causes)}" if causes else ""
    return f"int8 is {how}{where} ({ratio:.2f} of its speed){why}"


def processor() -> str:
    """Return what kind of processor this is, such as `x86_64 (avx2)`."""
    flags = processor_instructions()
    known = [name for name in TELLING if name in flags]
    return platform.machine() + (f" ({', '.join(known)})" if known else "")


def processor_instructions() -> frozenset[str]:
    """Return the names of the processor's instruction sets, as far as Linux tells; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()


def _is_prelu(node: Node) -> bool:
    # The export writes a PReLU as two products and a sum around a ReLU that keeps its name.
    return node.op_type == "PRelu" or (node.op_type == "Relu" and ".prelu." in node.name)
