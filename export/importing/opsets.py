"""The opset that a foreign network is exported at: the one asked for, or else the nearest that it can be had at."""

from collections.abc import Callable
from typing import Final

import onnx
import onnx.version_converter
from onnx import defs, helper

from edgeface.errors import ExportError
from edgeface.export.cleaning import clean_model
from edgeface.export.importing.graphs import opset_of, set_attribute

LOWEST: Final = 13
"""What is put before and behind a network needs at least this: axes are inputs from there on."""

Check = Callable[[onnx.ModelProto], bool]


def at_opset(model: onnx.ModelProto, asked: int, same: Check) -> tuple[onnx.ModelProto, str | None]:
    """Return a network at an opset, or as near to it as onnx can convert it.

    Args:
        model: the network.
        asked: the opset.
        same: whether a converted network still computes the same.

    Returns:
        The network, and what a user should be told where it has another opset than was asked.

    Raises:
        ExportError: its opset is below 13, and it can be converted to none from there on.
    """
    own = opset_of(model)
    nearest = range(asked, LOWEST - 1, -1) if own < asked else range(asked, own + 1)
    reason = ""
    for wanted in nearest:
        if wanted == own:
            break
        converted, why = _converted(model, wanted)
        reason = reason or why
        if converted is not None and same(converted):
            return converted, _told(own, wanted, asked, reason)
        reason = reason or "what the converter of onnx makes of it computes something else"
    if own < LOWEST:
        raise ExportError(
            f"the network has opset {own} and cannot be converted to {LOWEST} or later: {reason}; export it at a newer "
            "opset"
        )
    return model, _told(own, own, asked, reason)


def _told(own: int, taken: int, asked: int, reason: str) -> str | None:
    if taken == asked:
        return None
    kept = f"opset {taken}, which it has," if taken == own else f"opset {taken}"
    return f"the network goes out at {kept} instead of {asked}: {reason}"


def _converted(model: onnx.ModelProto, wanted: int) -> tuple[onnx.ModelProto | None, str]:
    newer = sorted({node.op_type for node in model.graph.node if not _exists(node, wanted)})
    if newer:
        return None, f"opset {wanted} has no {', '.join(newer)}"
    try:
        converted = clean_model(onnx.version_converter.convert_version(_without_defaults(model, wanted), wanted))
    except RuntimeError as error:  # the converter's only exception
        return None, str(error).strip().splitlines()[-1].rpartition("failed: ")[2].strip()
    if opset_of(converted) != wanted:
        return None, f"the converter of onnx wrote opset {opset_of(converted)}"
    return converted, ""


def _without_defaults(model: onnx.ModelProto, wanted: int) -> onnx.ModelProto:
    """Return a copy without attributes that an opset does not have, where they say what is so anyway."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        own = defs.get_schema(node.op_type, opset_of(model), "").attributes
        known = defs.get_schema(node.op_type, wanted, "").attributes
        for entry in list(node.attribute):
            usual = own[entry.name].default_value if entry.name in own else None
            if entry.name not in known and usual is not None and _same_value(entry, usual):
                set_attribute(node, entry.name, None)
    return copy


def _same_value(entry: onnx.AttributeProto, usual: onnx.AttributeProto) -> bool:
    return bool(usual.type and helper.get_attribute_value(entry) == helper.get_attribute_value(usual))


def _exists(node: onnx.NodeProto, opset: int) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return True
    try:
        defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return False
    return True
