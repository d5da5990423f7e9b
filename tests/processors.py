"""What this processor computes otherwise than the one that an int8 network is made for."""

import platform

import pytest

from edgeface.export.quantization.targets import TARGETS
from edgeface.runtime.placement import processor_instructions


def needs_sums_of(target: str) -> None:
    """Skip a test that runs a network of a target whose sums of 8-bit products this processor cuts off.

    x86 processors without VNNI add two products in 16 bits, which is why networks for them have weights of 7 bits.
    """
    old = platform.machine() in ("x86_64", "AMD64") and not processor_instructions() & {"avx512_vnni", "avx_vnni"}
    if old and not TARGETS[target].reduce_range:
        pytest.skip(f"this processor cuts off sums that a network for {target} makes")
