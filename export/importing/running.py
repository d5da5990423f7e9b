"""Running a network, or a part of it, on made-up pictures: what cannot be told from the file is seen there."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.export.importing.graphs import cut, needed_for, used_names
from edgeface.runtime.providers.session import Session, open_session

Values = npt.NDArray[Any]

PROBES: Final = 5
"""Pictures that forms of a network are compared on."""

_ONLY_SIZES: Final = ("Shape", "Size")
"""Operators whose result does not depend on the numbers that they are given."""


def probe_faces(count: int = PROBES) -> npt.NDArray[np.uint8]:
    """Draw smooth pictures, (N, 112, 112, 3) uint8, always the same ones: unlike noise, they differ in all layers."""
    rng = np.random.default_rng(0)
    small = rng.uniform(0, 255, (count, 7, 7, 3))
    large = small.repeat(16, axis=1).repeat(16, axis=2)
    mixed = 0.8 * large + 0.2 * rng.uniform(0, 255, large.shape)
    return np.asarray(mixed.round(), np.uint8)


def depends_on(model: onnx.ModelProto, inputs: Sequence[str]) -> set[str]:
    """Return the tensors whose numbers depend on those of some inputs, and not on their shapes alone."""
    found = set(inputs)
    for node in model.graph.node:
        if node.op_type not in _ONLY_SIZES and found & used_names(node):
            found.update(name for name in node.output if name)
    return found


def open_plain(model: onnx.ModelProto, name: str) -> Session:
    """Inspect a network and open it on the CPU.

    Raises:
        BundleError: inspection refuses it, or onnxruntime cannot load it.
    """
    return open_session(model.SerializeToString(), provider="cpu", threads=0, name=name)


def run_for(
    model: onnx.ModelProto, tensors: Sequence[str], feeds: Mapping[str, Values], name: str
) -> dict[str, Values]:
    """Run a network and return some of its tensors; what they do not need is not run.

    Raises:
        BundleError: inspection refuses it, or onnxruntime cannot load it.
        ProviderError: it fails in the run.
    """
    produced = {output for node in needed_for(model, tensors) for output in node.output}
    wanted = [tensor for tensor in dict.fromkeys(tensors) if tensor in produced]
    if not wanted:
        return {}
    session = open_plain(cut(model, wanted), name)
    taken = {entry.name for entry in session.inputs}
    results = session.run({key: value for key, value in feeds.items() if key in taken})
    return dict(zip((output.name for output in session.outputs), results, strict=True))
