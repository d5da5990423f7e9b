"""Static int8 quantization of an embedder, in the form that the target runs fast."""

import contextlib
import io
import logging
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    TensorsData,
    create_calibrator,
    save_tensors_data,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeface.errors import ExportError, UnknownNameError
from edgeface.export.cleaning import clean_model, set_metadata
from edgeface.export.prelu import is_prelu_arithmetic
from edgeface.manifest import Quantization

CHUNK: Final = 16
"""Images held at once while ranges are collected: the histograms need every activation of a chunk in memory."""

PERCENTILE: Final = 99.99
"""Share of activation values, in percent, that the quantization range covers; the rest saturates."""

MIN_IMAGES: Final = 16
"""Fewer calibration images give ranges that a next face leaves."""

_QUANTIZED_OPS: Final = ("Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool")


@dataclass(frozen=True, slots=True)
class Target:
    """Quantization settings of a kind of processor.

    Attributes:
        activations: type of the activations.
        weights: type of the weights, symmetric, one scale per output channel.
        reduce_range: weights in 7 bits, because 8-bit products saturate the 16-bit sums of AVX2 without VNNI.
    """

    name: str
    activations: QuantType
    weights: QuantType
    reduce_range: bool


TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        Target("x86-avx2", QuantType.QUInt8, QuantType.QInt8, True),
        Target("x86-vnni", QuantType.QUInt8, QuantType.QInt8, False),
        Target("arm64", QuantType.QInt8, QuantType.QInt8, False),
    )
}
"""onnxruntime's own advice for each kind of processor (docstring of `quantize_static`)."""


def resolve_target(name: str) -> Target:
    """Return the settings of a target; `auto` is the processor of this machine.

    Raises:
        UnknownNameError: no target has that name.
    """
    if name == "auto":
        return TARGETS[_this_machine()]
    if name not in TARGETS:
        raise UnknownNameError("target", name, ["auto", *TARGETS])
    return TARGETS[name]


def delicate_nodes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Name the nodes whose quantization costs a PReLU network most of its accuracy and buys little speed.

    These are the arithmetic of the rewritten PReLUs, the depthwise convolutions, and the last three products,
    in which the embedding is formed. On a MobileFaceNet that raised the smallest cosine over 200 faces from 0.92
    to 0.99 at a lower latency (`scripts/bench_export.py`). A network without PReLU has none.
    """
    arithmetic = [node.name for node in model.graph.node if is_prelu_arithmetic(node)]
    if not arithmetic:
        return ()
    products = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    depthwise = [node.name for node in products if any(a.name == "group" and a.i > 1 for a in node.attribute)]
    return tuple(dict.fromkeys([*arithmetic, *depthwise, *(node.name for node in products[-3:])]))


def quantize_int8(
    model: onnx.ModelProto, faces: npt.NDArray[np.uint8], target: Target, float_nodes: tuple[str, ...] = ()
) -> tuple[onnx.ModelProto, Quantization]:
    """Quantize an embedder to int8 in QDQ form, one scale per output channel.

    Only the backbone's convolutions and what fuses with them become int8; preprocessing and the L2 norm stay in
    float.

    Args:
        model: an embedder that meets the contract, float32.
        faces: (N, 112, 112, 3) uint8 RGB aligned faces that fix the activation ranges, N >= 16.
        target: the processor it is for.
        float_nodes: names of nodes to leave in float.

    Raises:
        ExportError: too few faces, or nothing in the graph can be quantized.
    """
    if len(faces) < MIN_IMAGES:
        raise ExportError(f"calibration needs at least {MIN_IMAGES} aligned faces, {len(faces)} were given")
    with tempfile.TemporaryDirectory(prefix="edgeface-") as folder, _quiet():
        prepared, ranges, quantized = (Path(folder) / name for name in ("prepared.onnx", "ranges.json", "int8.onnx"))
        source = Path(folder) / "source.onnx"
        onnx.save(model, source)
        quant_pre_process(source, prepared)
        nodes = _backbone_nodes(onnx.load(prepared))
        if not nodes:
            raise ExportError("the network has no convolution or matrix product that can be quantized")
        save_tensors_data(_ranges(prepared, faces, target), ranges)
        quantize_static(
            prepared,
            quantized,
            None,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED_OPS),
            nodes_to_quantize=[name for name in nodes if name not in float_nodes],
            per_channel=True,
            reduce_range=target.reduce_range,
            activation_type=target.activations,
            weight_type=target.weights,
            calibrate_method=CalibrationMethod.Percentile,
            calibration_cache_path=ranges,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        result = clean_model(onnx.load(quantized))
    set_metadata(result, {entry.key: entry.value for entry in model.metadata_props})
    record = Quantization(
        target=target.name,
        activations=str(target.activations),
        weights=str(target.weights),
        per_channel=True,
        reduce_range=target.reduce_range,
        method=f"percentile {PERCENTILE}",
        float_nodes=float_nodes,
    )
    return result, record


def _backbone_nodes(model: onnx.ModelProto) -> list[str]:
    """Name the nodes of quantizable kinds from the first convolution to the last product."""
    nodes = list(model.graph.node)
    heavy = [index for index, node in enumerate(nodes) if node.op_type in ("Conv", "Gemm", "MatMul")]
    if not heavy:
        return []
    return [node.name for node in nodes[heavy[0] : heavy[-1] + 1] if node.op_type in _QUANTIZED_OPS]


class _Faces(CalibrationDataReader):  # type: ignore[misc]
    """Feeds faces one by one."""

    def __init__(self, faces: npt.NDArray[np.uint8]) -> None:
        self._faces = iter(faces)

    def get_next(self) -> dict[str, Any] | None:
        face = next(self._faces, None)
        return None if face is None else {"faces": face[None]}


def _ranges(model: Path, faces: npt.NDArray[np.uint8], target: Target) -> TensorsData:
    """Collect activation ranges in chunks, so that memory does not grow with the number of images."""
    calibrator = create_calibrator(
        model,
        list(_QUANTIZED_OPS),
        augmented_model_path=model.with_name("augmented.onnx"),
        calibrate_method=CalibrationMethod.Percentile,
        extra_options={"percentile": PERCENTILE, "symmetric": False},
    )
    for start in range(0, len(faces), CHUNK):
        calibrator.collect_data(_Faces(faces[start : start + CHUNK]))
    ranges: TensorsData = calibrator.compute_data()
    return ranges


def _this_machine() -> str:
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux: the settings that are right on every x86
        return "x86-avx2"
    return "x86-vnni" if "avx512_vnni" in flags or "avx_vnni" in flags else "x86-avx2"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer prints its progress, and logs advice to the root logger that we follow already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
