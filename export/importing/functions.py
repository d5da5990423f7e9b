"""Functions: those that a file defines for itself, and standard operators that onnx defines by simpler ones."""

from collections import Counter
from typing import Any, Final

import onnx
import onnx.inliner
from onnx import defs, helper

from edgeface.errors import ExportError
from edgeface.export.importing.graphs import all_graphs, attribute, constant_array, opset_of, set_attribute, used_names
from edgeface.runtime.inspecting.inspection import MAX_NODES, OPERATORS

_ROUNDS: Final = 4
"""How deep definitions of standard operators may lie in one another: Attention takes two."""


def inline_local(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which the functions of the file stand where they are called.

    Raises:
        ExportError: they call themselves, or would grow beyond what a network may hold.
    """
    if not model.functions:
        return model
    _check_growth(model)
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=False)
    except (RuntimeError, ValueError) as error:
        raise ExportError(
            f"the functions that the network defines cannot be put in place: {str(error).splitlines()[0]}; "
            "export it without functions of its own"
        ) from None


def _check_growth(model: onnx.ModelProto) -> None:
    """Count the nodes before there are any: a few functions that call each other twice make millions."""
    bodies = {(entry.domain, entry.name): entry for entry in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    for key in bodies:  # those that a call needs are counted before it, without recursion
        waiting, open_calls = [key], set()
        while waiting:
            top = waiting[-1]
            calls = Counter(_calls(bodies[top], bodies))
            missing = [call for call in calls if call not in sizes]
            if top in sizes or not missing:
                waiting.pop()
                open_calls.discard(top)
                sizes.setdefault(top, len(bodies[top].node) + sum(sizes[call] * n for call, n in calls.items()))
                continue
            open_calls.add(top)
            if loop := [call for call in missing if call in open_calls]:
                raise ExportError(f"function {loop[0][1]} of the network calls itself; export it without functions")
            waiting.extend(missing)
    total = sum(sizes.get((node.domain, node.op_type), 1) for graph in _outer(model) for node in graph.node)
    if total > MAX_NODES:
        raise ExportError(f"the network's functions make {total} nodes, more than the {MAX_NODES} that are allowed")


def _outer(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """Return the graphs that belong to no function."""
    return [graph for graph in all_graphs(model) if isinstance(graph, onnx.GraphProto)]


def _calls(body: onnx.FunctionProto, known: dict[tuple[str, str], onnx.FunctionProto]) -> list[tuple[str, str]]:
    return [(node.domain, node.op_type) for node in body.node if (node.domain, node.op_type) in known]


def decompose(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Replace standard operators that edgeface does not know by what onnx defines them as.

    Returns:
        The network, and the operators that were replaced; those without a definition stay.
    """
    replaced: list[str] = []
    for _ in range(_ROUNDS):
        wanted = sorted({node.op_type for node in model.graph.node if _can_decompose(node, opset_of(model))})
        if not wanted:
            break
        model = _as_arrays(_in_place(_with_defaults(model, wanted), wanted))
        replaced += wanted
    return model, tuple(name for name in dict.fromkeys(replaced) if name != "CastLike")


def _can_decompose(node: onnx.NodeProto, opset: int) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type in OPERATORS or not defs.has(node.op_type, ""):
        return False
    try:
        schema: Any = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _with_defaults(model: onnx.ModelProto, operators: list[str]) -> onnx.ModelProto:
    """Return a copy in which these operators state all of their attributes: onnx leaves the others out of a body."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type not in operators:
            continue
        for name, known in defs.get_schema(node.op_type, opset_of(model), "").attributes.items():
            if known.default_value.type and attribute(node, name) is None:
                stated = node.attribute.add()
                stated.CopyFrom(known.default_value)
                stated.name = name
    return copy


def _in_place(model: onnx.ModelProto, operators: list[str]) -> onnx.ModelProto:
    """Have onnx put definitions in place. Some depend on types, also of weights, which it looks up among the values."""
    typed = onnx.shape_inference.infer_shapes(model)
    present = {value.name for value in (*typed.graph.value_info, *typed.graph.input, *typed.graph.output)}
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in typed.graph.initializer
        if tensor.name not in present
    )
    try:
        inlined = onnx.inliner.inline_selected_functions(
            typed, [("", name) for name in operators], exclude=False, inline_schema_functions=True
        )
    except (RuntimeError, ValueError) as error:
        raise ExportError(
            f"operator {operators[0]} cannot be replaced by its definition in onnx: {str(error).splitlines()[0]}; "
            "export the network at an older opset"
        ) from None
    del inlined.graph.value_info[:]
    used = {name for node in inlined.graph.node for name in used_names(node)}
    used.update(value.name for value in inlined.graph.output)
    kept = [node for node in inlined.graph.node if used & set(node.output)]
    del inlined.graph.node[:]
    inlined.graph.node.extend(kept)
    return inlined


def _as_arrays(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write constants as tensors, which every reader knows, in place."""
    for node in model.graph.node:
        if node.op_type == "Constant" and attribute(node, "value") is None:
            array = constant_array(node)
            if array is not None:
                del node.attribute[:]
                set_attribute(node, "value", onnx.numpy_helper.from_array(array))
    return model
