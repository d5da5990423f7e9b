"""Small tools for taking graphs apart and putting them together again."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[np.generic]


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield the graph, its functions, and all graphs within them."""
    graphs: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        yield graph
        for node in graph.node:
            graphs.extend(subgraphs(node))


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs that a node holds: the branches of an If, the body of a Loop."""
    held = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*held, *(graph for attribute in node.attribute for graph in attribute.graphs)]


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Return an attribute of a node."""
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Set an attribute of a node in place; None takes it away."""
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators, 0 if none is stated."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def used_names(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node takes from outside, those within its graphs included."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        inner: set[str] = {value.name for value in graph.output}
        for part in graph.node:
            inner |= used_names(part)
            own.update(part.output)
        names |= inner - own
    return names


def stored_arrays(model: onnx.ModelProto) -> dict[str, Array]:
    """Return the numbers that are stored, by name: weights, and what Constant nodes make."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and (value := constant_array(node)) is not None:
            arrays[node.output[0]] = value
    return arrays


def constant_array(node: onnx.NodeProto) -> Array | None:
    """Return what a Constant node makes, None for text and the like."""
    if len(node.attribute) != 1:
        return None
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    entry = node.attribute[0]
    if entry.name == "value":
        return numpy_helper.to_array(entry.t)
    return np.array(helper.get_attribute_value(entry), kinds[entry.name]) if entry.name in kinds else None


def needed_for(model: onnx.ModelProto, outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes that take part in making some tensors, in the order of the graph."""
    makers = {name: index for index, node in enumerate(model.graph.node) for name in node.output if name}
    waiting, kept = list(outputs), set()
    while waiting:
        index = makers.get(waiting.pop())
        if index is not None and index not in kept:
            kept.add(index)
            waiting.extend(used_names(model.graph.node[index]))
    return [node for index, node in enumerate(model.graph.node) if index in kept]


def cut(model: onnx.ModelProto, outputs: Iterable[str]) -> onnx.ModelProto:
    """Return a copy that makes nothing but these tensors, in this order; what they do not need is left out.

    An output that the graph does not declare has neither type nor shape.
    """
    wanted = list(outputs)
    declared = {value.name: value for value in model.graph.output}
    nodes = needed_for(model, wanted)
    used = set(wanted).union(*(used_names(node) for node in nodes))
    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(nodes)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    graph.input.extend(value for value in model.graph.input if value.name in used)
    graph.output.extend(declared.get(name, onnx.ValueInfoProto(name=name)) for name in wanted)
    return with_graph(model, graph)


def with_graph(model: onnx.ModelProto, graph: onnx.GraphProto) -> onnx.ModelProto:
    """Return a copy of a model with another graph in it."""
    copy = onnx.ModelProto()
    for entry in model.DESCRIPTOR.fields:
        if entry.name != "graph" and (entry.is_repeated or model.HasField(entry.name)):
            if entry.is_repeated:
                getattr(copy, entry.name).extend(getattr(model, entry.name))
            else:
                setattr(copy, entry.name, getattr(model, entry.name))
    copy.graph.CopyFrom(graph)
    return copy


def rename_inputs(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Have nodes, and the graphs within them, take other tensors; in place.

    A graph that declares one of these names for itself keeps its own.
    """
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in names:
                node.input[index] = names[name]
        for graph in subgraphs(node):
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own.update(name for part in graph.node for name in part.output)
            outer = {old: new for old, new in names.items() if old not in own}
            rename_inputs(graph.node, outer)
            for value in graph.output:
                value.name = outer.get(value.name, value.name)


def unused_name(model: onnx.ModelProto, stem: str) -> str:
    """Return a name that no tensor of a graph has."""
    taken = {name for graph in all_graphs(model) for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*model.graph.input, *model.graph.output)}
    taken |= {tensor.name for tensor in model.graph.initializer}
    name, count = stem, 0
    while name in taken:
        count += 1
        name = f"{stem}.{count}"
    return name


def add_constant(model: onnx.ModelProto, stem: str, value: Array) -> str:
    """Store an array in a graph; returns the name that it got."""
    name = unused_name(model, stem)
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name
