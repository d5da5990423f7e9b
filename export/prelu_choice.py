"""Which form of PReLU to export: whole, or in the arithmetic that onnxruntime's CPU layout has kernels for."""

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.export.cleaning import serialize
from edgeface.export.prelu import has_prelu, rewrite_prelu
from edgeface.export.quantization.targets import is_this_machine, likes_prelu_rewritten
from edgeface.export.speed import race
from edgeface.runtime.embedder import open_embedder


def with_fast_prelu(
    model: onnx.ModelProto, target: str, face: npt.NDArray[np.uint8]
) -> tuple[onnx.ModelProto, str | None]:
    """Rewrite PReLUs if that makes the network faster on its target.

    Args:
        model: an embedder that meets the contract.
        target: as `--target` takes it. Both forms are timed if this machine is one; for others, what was measured
            elsewhere counts.
        face: (1, 112, 112, 3) uint8 to time with.

    Returns:
        The network, and what was found in words; None if there was nothing to choose.
    """
    if not has_prelu(model) or not likes_prelu_rewritten(target):
        return model, None
    rewritten = rewrite_prelu(model)
    if not is_this_machine(target):
        return rewritten, "PReLUs rewritten, as it was measured to pay on x86; this machine is none"
    forms = {"whole": model, "rewritten": rewritten}
    embedders = {name: open_embedder(serialize(form), provider="cpu", threads=1) for name, form in forms.items()}
    times = race(embedders, face)
    better = min(times, key=lambda name: times[name])
    found = f"PReLUs take less time {better}: {times['whole']:.2f} ms whole, {times['rewritten']:.2f} ms rewritten"
    return forms[better], found
