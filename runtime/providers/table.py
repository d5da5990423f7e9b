"""The providers of onnxruntime that edgeface knows: one row of a table for each."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Setup:
    """What a provider's options depend on.

    Attributes:
        device: number of the GPU or other device, None for the provider's first.
        memory_limit: for the provider's arena, in bytes; None for no limit.
        threads: of the CPU, 0 for one a core.
        precision: of the network as its bundle calls it; a compiler may compute in no lower one.
        fixed: every input has one size only.
        cuda_graph: record the launches once and replay them.
        profile: TensorRT's least, usual and largest shapes, by option; empty where all sizes are fixed.
        engines: where TensorRT keeps engines, None to keep none.
    """

    device: int | None = None
    memory_limit: int | None = None
    threads: int = 1
    precision: str = ""
    fixed: bool = False
    cuda_graph: bool = False
    profile: Mapping[str, str] = field(default_factory=dict)
    engines: Path | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """One row of the table.

    Attributes:
        name: short, as `--provider` takes it.
        ort_name: as onnxruntime calls it.
        wheel: the package that brings it, in words.
        install: what to do to get it.
        options: makes onnxruntime's options for it.
        precisions: which of a bundle's precisions `auto` takes on it, the best first; empty for the one that was
            measured to be the fastest.
        refused: precisions that it does not run well, with the reason.
        library: stem of the library that onnxruntime loads for it; empty if it is built in.
        backups: onnxruntime's names of providers that take what it does not, before the CPU.
        device_type: where buffers for its inputs and outputs lie, as onnxruntime calls it; empty for the CPU.
        max_batch: most faces in one run; None for as many as fit.
        fixed_sizes: it takes no free sizes, so that a free batch is made 1.
        keeps_engines: it compiles networks for minutes, and keeps the result.
        automatic: `auto` tries it.
    """

    name: str
    ort_name: str
    wheel: str
    install: str
    options: Callable[[Setup], dict[str, str]]
    precisions: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    library: str = ""
    backups: tuple[str, ...] = ()
    device_type: str = ""
    max_batch: int | None = None
    fixed_sizes: bool = False
    keeps_engines: bool = False
    automatic: bool = True


def _cuda(setup: Setup) -> dict[str, str]:
    """Documented at onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html."""
    options = {
        "device_id": str(setup.device or 0),
        # The other strategy doubles the arena each time, which a small board cannot spare.
        "arena_extend_strategy": "kSameAsRequested",
        # An exhaustive search is made again for each new size of the inputs: only where there is one.
        "cudnn_conv_algo_search": "EXHAUSTIVE" if setup.fixed else "HEURISTIC",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",  # thresholds were measured in whole float32
    }
    if setup.memory_limit is not None:
        options["gpu_mem_limit"] = str(setup.memory_limit)
    if setup.cuda_graph:
        options["enable_cuda_graph"] = "1"
    return options


def _tensorrt(setup: Setup) -> dict[str, str]:
    """Documented at onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html."""
    options = {"device_id": str(setup.device or 0), **setup.profile}
    options["trt_fp16_enable"] = str(int(setup.precision == "fp16"))
    options["trt_int8_enable"] = str(int(setup.precision == "int8"))
    if setup.memory_limit is not None:
        options["trt_max_workspace_size"] = str(setup.memory_limit)
    if setup.engines is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(setup.engines),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(setup.engines),
        }
    return options


def _openvino(setup: Setup) -> dict[str, str]:
    """Documented at onnxruntime.ai/docs/execution-providers/OpenVINO-ExecutionProvider.html."""
    if setup.device is not None:
        return {"device_type": f"GPU.{setup.device}", "precision": "ACCURACY"}
    options = {"device_type": "CPU", "precision": "FP32"}
    if setup.threads:
        options["num_of_threads"] = str(setup.threads)
    return options


def _coreml(setup: Setup) -> dict[str, str]:
    """Documented at onnxruntime.ai/docs/execution-providers/CoreML-ExecutionProvider.html."""
    return {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL", "RequireStaticInputShapes": "1"}


def _qnn(setup: Setup) -> dict[str, str]:
    """Documented at onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html."""
    library = "QnnHtp.dll" if sys.platform == "win32" else "libQnnHtp.so"
    return {"backend_path": library, "htp_performance_mode": "sustained_high_performance"}


def _xnnpack(setup: Setup) -> dict[str, str]:
    """Documented at onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html."""
    return {"intra_op_num_threads": str(setup.threads)} if setup.threads else {}


def no_options(setup: Setup) -> dict[str, str]:
    """Return none, for a provider that edgeface knows no options of."""
    return {}


CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_GPU_WHEEL: Final = "uninstall it, then: pip install 'edgeface[cuda]' (on a Jetson: NVIDIA's own onnxruntime wheel)"

PROVIDERS: Final[dict[str, Provider]] = {
    row.name: row
    for row in (
        Provider(
            "tensorrt",
            "TensorrtExecutionProvider",
            "onnxruntime-gpu",
            _GPU_WHEEL,
            _tensorrt,
            precisions=("fp16", "fp32"),
            library="onnxruntime_providers_tensorrt",
            backups=(_CUDA,),
            device_type="cuda",
            max_batch=8,
            keeps_engines=True,
        ),
        Provider(
            "cuda",
            _CUDA,
            "onnxruntime-gpu",
            _GPU_WHEEL,
            _cuda,
            precisions=("fp16", "fp32"),
            refused={
                "int8": "it has no quantized convolutions and would be several times slower; use --precision fp16 or "
                "fp32 there, or --provider cpu"
            },
            library="onnxruntime_providers_cuda",
            device_type="cuda",
        ),
        Provider(
            "qnn",
            "QNNExecutionProvider",
            "onnxruntime-qnn",
            "uninstall it, then: pip install onnxruntime-qnn (Qualcomm processors only)",
            _qnn,
            precisions=("int8", "fp16"),
            fixed_sizes=True,
        ),
        Provider(
            "coreml",
            "CoreMLExecutionProvider",
            "the onnxruntime of macOS",
            "it comes with the onnxruntime of macOS, and with no other",
            _coreml,
            precisions=("fp16", "fp32"),
            fixed_sizes=True,
        ),
        Provider(
            "openvino",
            "OpenVINOExecutionProvider",
            "onnxruntime-openvino",
            "uninstall it, then: pip install onnxruntime-openvino (Intel processors)",
            _openvino,
            precisions=("fp32", "int8"),
            library="onnxruntime_providers_openvino",
            max_batch=1,  # it compiles again for each new one: 40 to 70 ms in the middle of the loop, measured
        ),
        Provider(
            "xnnpack",
            "XnnpackExecutionProvider",
            "an own build of onnxruntime",
            "no wheel has it: build onnxruntime with --use_xnnpack",
            _xnnpack,
            precisions=("fp32", "int8"),
            automatic=False,  # onnxruntime's own kernels for the CPU are not known to be slower
        ),
        Provider("cpu", CPU, "onnxruntime", "pip install 'edgeface[cpu]'", no_options),
    )
}
"""Short name to row, the fastest first: the order in which `auto` tries them."""


def short_name(ort_name: str) -> str:
    """Return the short name of one of onnxruntime's providers, its own name if it has none."""
    return next((row.name for row in PROVIDERS.values() if row.ort_name == ort_name), ort_name)
