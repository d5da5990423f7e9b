"""The processors that an int8 network can be made for, and the form that each of them runs fast."""

import platform
from dataclasses import dataclass
from typing import Final

from edgeface.errors import ExportError, UnknownNameError
from edgeface.runtime.placement import processor_instructions


@dataclass(frozen=True, slots=True)
class Target:
    """Quantization settings of a kind of processor. Weights are symmetric int8, one scale per output channel.

    Attributes:
        name: as `--target` takes it.
        signed: activations are int8; otherwise uint8.
        symmetric: activations have zero in the middle of their range.
        reduce_range: weights in 7 bits, because 8-bit products saturate the 16-bit sums of AVX2 without VNNI.
        bias: biases are int32; otherwise they stay float.
        dedicated: each consumer of a tensor gets a Q/DQ pair of its own.
        costs_known: what layers in float cost was measured on such a processor, or one near to it; see
            `export.quantization.cost`.
    """

    name: str
    signed: bool = False
    symmetric: bool = False
    reduce_range: bool = False
    bias: bool = True
    dedicated: bool = False
    costs_known: bool = True

    @property
    def activations(self) -> str:
        """Type of the activations, in words."""
        return f"{'' if self.signed else 'u'}int8 {'symmetric' if self.symmetric else 'asymmetric'}"

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest number that an activation can be stored as."""
        if self.symmetric:
            return -127, 127
        return (-128, 127) if self.signed else (0, 255)

    @property
    def largest_weight(self) -> int:
        """Largest number that a weight is stored as; the smallest is its negative."""
        return 64 if self.reduce_range else 127


TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        Target("x86-avx2", reduce_range=True),
        Target("x86-vnni"),
        Target("arm64", signed=True),
        Target("tensorrt", signed=True, symmetric=True, bias=False, dedicated=True, costs_known=False),
    )
}
"""The CPUs: onnxruntime's own advice (docstring of `quantize_static`). TensorRT takes symmetric pairs only, rejects
int32 biases, and wants a pair for each consumer (onnxruntime issues 10743 and 14229, pull request 9720)."""

NAMES: Final = ("auto", "cuda", *TARGETS)


def resolve_target(name: str) -> Target:
    """Return the settings of a target; `auto` is the processor of this machine.

    Raises:
        ExportError: int8 is asked for CUDA.
        UnknownNameError: no target has that name.
    """
    if name == "cuda":
        raise ExportError(
            "int8 is not made for cuda: onnxruntime's CUDA provider has no quantized convolutions and runs them "
            "several times slower than float; use --precision fp32,fp16 with --target cuda, "
            "or --target tensorrt for int8 on the GPU"
        )
    if name == "auto":
        return TARGETS[_this_machine()]
    if name not in TARGETS:
        raise UnknownNameError("target", name, NAMES)
    return TARGETS[name]


def check_target(name: str, integer: bool) -> None:
    """Refuse a target that does not exist, or that cannot run int8 when that is asked.

    Raises:
        ExportError, UnknownNameError: as `resolve_target`.
    """
    if integer or name not in NAMES:
        resolve_target(name)


def likes_prelu_rewritten(name: str) -> bool:
    """Whether rewriting PReLU pays on targets of this kind: on x86, by a factor of 2 (`scripts/bench_export.py`).

    GPUs have a kernel for it, and on ARM nobody has measured.
    """
    return (_this_machine() if name == "auto" else name).startswith("x86")


def runs_here(target: Target) -> bool:
    """Whether latencies measured on this machine say something about the target."""
    return target.name == _this_machine()


def is_this_machine(name: str) -> bool:
    """The same for a target as `--target` takes it, with the float networks in mind: they tell no x86 from another."""
    return name == "auto" or name[:3] == _this_machine()[:3]


def has_vnni() -> bool:
    """Whether this processor multiplies bytes in one instruction. Where Linux does not say it, False."""
    return bool(processor_instructions() & {"avx512_vnni", "avx_vnni"})


def _this_machine() -> str:
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    return "x86-vnni" if has_vnni() else "x86-avx2"  # the latter's settings are right on every x86
