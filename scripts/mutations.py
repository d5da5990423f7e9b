"""Faults that are put into a sound network, and whole networks made of both."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from network_patterns import add_pattern
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from random_networks import (
    ATTRIBUTE_NAMES,
    BOOL,
    FLOAT,
    INT64,
    KINDS,
    ODD_FLOATS,
    ODD_INTEGERS,
    ODD_TEXTS,
    OPSETS,
    Sketch,
    Tensor,
    recipe,
    tensor_dtype,
)

from edgeface.runtime.inspecting.inspection import OPERATORS
from edgeface.runtime.inspecting.onnx_reader import Node, StoredTensor
from edgeface.runtime.inspecting.shapes import Call, Extent

NAMES = sorted(name for name in OPERATORS if "." not in name)
SINCE = {name: 99 for name in NAMES} | {
    schema.name: min(s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == schema.name)
    for schema in onnx.defs.get_all_schemas()
    if schema.name in OPERATORS and not schema.domain
}


def random_network(seed: int, names: Sequence[str] = NAMES) -> onnx.ModelProto:
    """Return the network of a number: of these operators, sound or with faults."""
    rng = random.Random(seed)
    model = sound_network(rng, names)
    if rng.random() < 0.8:
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
            try:
                rng.choice(_MUTATIONS)(rng, model)
            except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
                continue  # this one does not fit here
    return model


def sound_network(rng: random.Random, names: Sequence[str] = NAMES) -> onnx.ModelProto:
    """Return a network of some of these operators, as an exporter might write it."""
    opset = rng.choice((*OPSETS, 18, 18, 18, 17, 13, 11))
    sketch = Sketch(rng, opset)
    inputs = []
    for index in range(rng.choice((1, 1, 1, 2))):
        rank = rng.choice((4, 4, 4, 3, 2, 2, 1, 5, 0))
        tensor = Tensor(f"x{index}", FLOAT if rng.random() < 0.9 else rng.choice(KINDS), ())
        tensor.shape = tuple(rng.choice((1, 1, 2, 3, 4, 6, 8, 9)) for _ in range(rank))
        inputs.append(tensor)
        sketch.tensors.append(tensor)
    if names is NAMES and rng.random() < 0.35:
        inputs[0].kind, inputs[0].shape = FLOAT, (rng.choice((1, 1, 2)), rng.choice((1, 3, 4)), 6, 8)
        sketch.tensors[0] = inputs[0]
        add_pattern(sketch)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4)) if not sketch.nodes else rng.choice((0, 0, 1))):
        _add_node(sketch, rng.choice([name for name in names if SINCE[name] <= opset] or ["Relu"]))
    made = [name for node in sketch.nodes for name in node.output]
    outputs = made if rng.random() < 0.5 else made[-1:]
    values = []
    for tensor in inputs:
        shape: list[int | str] = list(tensor.shape)
        if shape and rng.random() < 0.3:
            shape[0] = "batch"
        if rng.random() < 0.1:
            shape = [f"free{axis}" if rng.random() < 0.5 else size for axis, size in enumerate(shape)]
        values.append(helper.make_tensor_value_info(tensor.name, tensor.kind, shape))
    graph = helper.make_graph(
        sketch.nodes, "g", values, [onnx.ValueInfoProto(name=name) for name in outputs], sketch.weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _add_node(sketch: Sketch, op_type: str) -> None:
    found, attributes = recipe(op_type)(sketch)
    names = [tensor.name if tensor else "" for tensor in found]
    number = len(sketch.nodes)
    count = 1
    if op_type == "Split":
        sizes = attributes.get("split") or (attributes.get("num_outputs", 0) * [1]) or [1, 1]
        count = len(sizes)
    elif op_type == "DynamicQuantizeLinear":
        count = 3
    elif op_type in ("Dropout", "LayerNormalization", "MaxPool") and sketch.rng.random() < 0.1:
        count = 2
    node = helper.make_node(op_type, names, [f"t{number}_{place}" for place in range(count)], **attributes)
    sketch.nodes.append(node)
    for tensor in _results(sketch, node, found):
        sketch.tensors.append(tensor)


def _results(sketch: Sketch, node: onnx.NodeProto, found: list[Tensor | None]) -> list[Tensor]:
    """Return what a node makes, nothing where our rules do not know."""
    values = {weight.name: numpy_helper.to_array(weight) for weight in sketch.weights}
    inputs = tuple(None if tensor is None else Extent(tensor.shape, values.get(tensor.name)) for tensor in found)
    attributes = {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute}
    read = Node(node.op_type, "", "", tuple(node.input), tuple(node.output), attributes)
    try:
        extents = OPERATORS[node.op_type](Call(read, inputs, sketch.opset))
    except (ValueError, TypeError, LookupError, ArithmeticError):
        return []
    kind = _kind(node, found)
    made = [Tensor(name, kind, extent.shape) for name, extent in zip(node.output, extents, strict=False)]
    return [tensor for tensor in made if 0 not in tensor.shape][:2]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, TensorProto):
        array = numpy_helper.to_array(value)
        return StoredTensor("", array.shape, array.nbytes, array)
    return tuple(value) if isinstance(value, list) else value


def _kind(node: onnx.NodeProto, found: list[Tensor | None]) -> int:
    match node.op_type:
        case "Shape" | "Size":
            return INT64
        case "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Not":
            return BOOL
        case "Cast":
            return int(node.attribute[0].i)
        case "DequantizeLinear" | "Constant" | "ConstantOfShape":
            return FLOAT
        case "ConvInteger" | "MatMulInteger":
            return TensorProto.INT32
        case "DynamicQuantizeLinear":
            return TensorProto.UINT8
        case "QLinearConv" | "QLinearMatMul":
            return found[7].kind if found[7] else TensorProto.UINT8
        case "QuantizeLinear":
            return found[2].kind if found[2] else FLOAT
        case "Where":
            return found[1].kind if found[1] else FLOAT
    return found[0].kind if found and found[0] else FLOAT


def _node(rng: random.Random, model: onnx.ModelProto) -> onnx.NodeProto:
    return rng.choice(model.graph.node)


def _names(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    made = [name for node in graph.node for name in node.output]
    return [*(value.name for value in graph.input), *(weight.name for weight in graph.initializer), *made, ""]


def _change_input(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    match rng.randrange(6):
        case 0:
            node.input[rng.randrange(len(node.input))] = ""
        case 1:
            del node.input[rng.randrange(len(node.input))]
        case 2:
            node.input.append(rng.choice(_names(model)))
        case 3:
            node.input[rng.randrange(len(node.input))] = rng.choice(_names(model))
        case 4:
            node.input.extend([""] * rng.randint(1, 3))
        case 5:
            node.input.insert(rng.randrange(len(node.input)), "")


def _change_output(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    match rng.randrange(5):
        case 0:
            node.output.append(f"more{rng.randrange(99)}")
        case 1:
            node.output[rng.randrange(len(node.output))] = ""
        case 2:
            node.output.append("")
        case 3:
            del node.output[rng.randrange(len(node.output))]
        case 4:
            node.output.insert(0, "")


def _odd_value(rng: random.Random, name: str) -> AttributeProto:
    values: list[Any] = [
        rng.choice(ODD_INTEGERS),
        rng.choice(ODD_FLOATS),
        rng.choice(ODD_TEXTS),
        [rng.choice(ODD_INTEGERS) for _ in range(rng.randint(1, 8))],
        [rng.choice(ODD_FLOATS) for _ in range(rng.randint(1, 8))],
        numpy_helper.from_array(np.array([rng.choice(ODD_INTEGERS)], np.int64)),
        numpy_helper.from_array(np.zeros(rng.choice([(), (0,), (2, 2)]), np.float32)),
    ]
    return helper.make_attribute(name, rng.choice(values))


def _change_attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    place = rng.randrange(len(node.attribute))
    attribute = node.attribute[place]
    match rng.randrange(4):
        case 0:
            del node.attribute[place]
        case 1:
            node.attribute[place].CopyFrom(_odd_value(rng, attribute.name))
        case _:
            _odd_same_kind(rng, attribute)


def _odd_same_kind(rng: random.Random, attribute: AttributeProto) -> None:
    match attribute.type:
        case AttributeProto.INT:
            attribute.i = rng.choice(ODD_INTEGERS)
        case AttributeProto.FLOAT:
            attribute.f = rng.choice(ODD_FLOATS)
        case AttributeProto.STRING:
            attribute.s = rng.choice(ODD_TEXTS).encode()
        case AttributeProto.INTS:
            if rng.random() < 0.3:
                attribute.ints.append(rng.choice(ODD_INTEGERS))
            elif rng.random() < 0.3:
                del attribute.ints[-1]
            else:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(ODD_INTEGERS)
        case AttributeProto.FLOATS:
            attribute.floats[rng.randrange(len(attribute.floats))] = rng.choice(ODD_FLOATS)
        case AttributeProto.TENSOR:
            _odd_weight(rng, attribute.t)


def _add_attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    if SINCE.get(node.op_type, 99) > model.opset_import[0].version:
        return
    schema = onnx.defs.get_schema(node.op_type, model.opset_import[0].version)
    known = sorted(schema.attributes)
    name = rng.choice(known) if known and rng.random() < 0.9 else rng.choice(ATTRIBUTE_NAMES)
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)
    kind = int(schema.attributes[name].type) if name in schema.attributes else rng.choice((1, 2, 3, 6, 7))
    attribute = AttributeProto(name=name, type=kind)
    match kind:
        case AttributeProto.INTS:
            attribute.ints.extend(rng.choice((*ODD_INTEGERS, 1, 1, 2, 0)) for _ in range(rng.randint(1, 8)))
        case AttributeProto.FLOATS:
            attribute.floats.extend(rng.choice(ODD_FLOATS) for _ in range(rng.randint(1, 5)))
        case AttributeProto.TENSOR:
            attribute.t.CopyFrom(numpy_helper.from_array(np.zeros(rng.choice([(), (0,), (1,), (3,)]), np.float32)))
        case _:
            _odd_same_kind(rng, attribute)
    node.attribute.append(attribute)


def _odd_weight(rng: random.Random, weight: TensorProto) -> None:
    array = numpy_helper.to_array(weight).copy()
    match rng.randrange(8):
        case 0:
            with np.errstate(all="ignore"):
                array = array.astype(tensor_dtype(rng.choice(KINDS[:-1])))
        case 1:
            array = array.reshape(rng.choice([(-1,), (1, -1), (-1, 1), (*array.shape, 1), (1, *array.shape)]))
        case 2:
            array = array.reshape(-1)[: rng.randint(0, 2)]
        case 3:
            array = np.zeros(rng.choice([(0,), (), (0, 5), (1, 0), (1,), (2,), (64,), (1,) * 9]), array.dtype)
        case 4:
            array = np.concatenate([array.reshape(-1), array.reshape(-1)[:1]])
        case _:
            flat = array.reshape(-1)
            odd = ODD_FLOATS if array.dtype.kind == "f" else ODD_INTEGERS
            with np.errstate(all="ignore"):
                for _ in range(rng.choice((1, 1, 2, 4))):
                    flat[rng.randrange(len(flat))] = np.array(rng.choice(odd)).astype(array.dtype)
    name = weight.name
    weight.CopyFrom(numpy_helper.from_array(array, name))


def _change_weight(rng: random.Random, model: onnx.ModelProto) -> None:
    _odd_weight(rng, rng.choice(model.graph.initializer))


def _change_size(rng: random.Random, model: onnx.ModelProto) -> None:
    dims = rng.choice(model.graph.input).type.tensor_type.shape.dim
    match rng.randrange(5):
        case 0:
            del dims[rng.randrange(len(dims))]
        case 1:
            dims.add().dim_value = rng.choice((1, 2, 3, 5, 17, 300))
        case 2:
            dims[rng.randrange(len(dims))].dim_param = rng.choice(("a", "b", "batch"))
        case 3:
            dims[rng.randrange(len(dims))].dim_value = rng.choice((0, 1, 2, 7, 33, 128, 1000, 4096, 2**20))
        case 4:
            model.graph.input[0].type.tensor_type.elem_type = rng.choice(KINDS)


def _declare(rng: random.Random, model: onnx.ModelProto) -> None:
    """Say of a tensor what is not so: outputs, weights that are also inputs, types of what lies between."""
    graph = model.graph
    shape = [rng.choice((1, 2, 3, 5, 0, 4096, -1)) for _ in range(rng.randint(0, 5))]
    kind = rng.choice((FLOAT, FLOAT, FLOAT, *KINDS))
    match rng.randrange(6):
        case 0:
            name = rng.choice(graph.output).name
            graph.output[0].CopyFrom(helper.make_tensor_value_info(name, kind, shape))
        case 1:
            graph.input.append(helper.make_tensor_value_info(rng.choice(graph.initializer).name, kind, shape))
        case 2:
            graph.value_info.append(helper.make_tensor_value_info(rng.choice(_names(model)), kind, shape))
        case 3:
            graph.output.append(onnx.ValueInfoProto(name=rng.choice(_names(model))))
        case 4:
            graph.input.append(rng.choice(graph.input))
        case 5:
            weight = rng.choice(graph.initializer)
            graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims)))


def _change_graph(rng: random.Random, model: onnx.ModelProto) -> None:
    nodes = model.graph.node
    match rng.randrange(7):
        case 0:
            _node(rng, model).op_type = rng.choice(NAMES)
        case 1:
            model.opset_import[0].version = rng.choice((*OPSETS, 26))
        case 2:
            model.ir_version = rng.choice((3, 4, 7, 9, 10, 11, 12, 13))
        case 3:
            copy = onnx.NodeProto()
            copy.CopyFrom(_node(rng, model))
            copy.output[:] = [f"{name}_again" for name in copy.output]
            nodes.append(copy)
            model.graph.output.append(onnx.ValueInfoProto(name=copy.output[0]))
        case 4:
            _node(rng, model).domain = "ai.onnx"
        case 5:
            for node in nodes:
                node.name = "same"
        case 6:  # a weight where data is expected
            model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), "w_data"))
            nodes[0].input[0] = "w_data"


def _chain(rng: random.Random, model: onnx.ModelProto) -> None:
    """Repeat the last node on its own result."""
    last = model.graph.node[-1]
    for index in range(rng.choice((2, 5, 20))):
        again = onnx.NodeProto()
        again.CopyFrom(last)
        again.input[0], again.output[0] = model.graph.node[-1].output[0], f"chain{index}"
        model.graph.node.append(again)
    model.graph.output[0].CopyFrom(onnx.ValueInfoProto(name=model.graph.node[-1].output[0]))


_MUTATIONS = (
    *(_change_input, _change_input, _change_output, _change_attribute, _change_attribute, _add_attribute),
    *(_add_attribute, _change_weight, _change_weight, _change_weight, _change_size, _declare, _change_graph, _chain),
)
