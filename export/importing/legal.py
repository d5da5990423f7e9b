"""From what exporters write to operators that edgeface's inspection knows; nothing of it changes what is computed."""

import onnx

from edgeface.export.importing.functions import decompose
from edgeface.export.importing.number_types import to_float32
from edgeface.export.importing.old_opsets import modernise
from edgeface.export.importing.quantized import standard_operators


def legalised(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return a copy in known operators, and what a user should be told of it.

    Raises:
        ExportError: an operator has a form that cannot be written in others.
    """
    model, stored_as = to_float32(modernise(model))
    model, replaced = decompose(standard_operators(model))
    said = []
    if stored_as:
        said.append(f"the network is stored in {stored_as} and computes in float32 from here on")
    if replaced:
        said.append(f"{', '.join(replaced)} written out in the operators that ONNX defines them by")
    return model, tuple(said)
