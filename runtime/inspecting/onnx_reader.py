"""ONNX files, read without the onnx package: as much of a graph as it takes to judge it.

Weights in other files, functions, training graphs, subgraphs (If, Loop, Scan), sparse tensors and text tensors are
refused, and so is every field that is not known; see `edgeface.runtime.inspecting.wire` for why this is stricter than
protobuf. Weights are not copied.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgeface.errors import BundleError
from edgeface.runtime.inspecting import onnx_messages as onnx
from edgeface.runtime.inspecting.onnx_messages import Message, Values, read_message
from edgeface.runtime.inspecting.wire import WireError, WireReader

MAX_RANK: Final = 16
MAX_VALUES: Final = 4096
"""The numbers of a tensor are kept up to so many: shapes, axes and scales are smaller, weights are of no interest."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in the file: shape, bytes, its numbers where they are few (else None), and its type's number in ONNX."""

    name: str
    shape: tuple[int, ...]
    size_bytes: int
    values: Values | None
    kind: int = 0


Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | StoredTensor


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. An input or output that is left out has an empty name."""

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input of the graph: its shape, with None where a size is free, and its type's number in ONNX."""

    name: str
    shape: tuple[int | None, ...]
    kind: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """A network as far as it matters here. `inputs` are those that must be fed, `replaceable` weights that may be."""

    ir_version: int
    opset: int
    nodes: tuple[Node, ...]
    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]
    stored: tuple[StoredTensor, ...]
    replaceable: tuple[str, ...] = ()


_TYPES: Final[dict[int, tuple[str, str]]] = {
    1: ("<f4", "float_data"),
    2: ("u1", "int32_data"),
    3: ("i1", "int32_data"),
    4: ("<u2", "int32_data"),
    5: ("<i2", "int32_data"),
    6: ("<i4", "int32_data"),
    7: ("<i8", "int64_data"),
    9: ("?", "int32_data"),
    10: ("<f2", "int32_data"),
    11: ("<f8", "double_data"),
    12: ("<u4", "uint64_data"),
    13: ("<u8", "uint64_data"),
}
"""TensorProto.DataType: NumPy's type of the raw data, and the field that may hold the numbers instead."""

BFLOAT16: Final = 16
ITEM_BYTES: Final = {kind: np.dtype(dtype).itemsize for kind, (dtype, _) in _TYPES.items()} | {BFLOAT16: 2}
"""Bytes of one number, for the types that tensors of a network may have."""

_FLOATS: Final = {"float_data": "<f4", "double_data": "<f8"}
_DATA_FIELDS: Final = ("raw_data", *_FLOATS, "int32_data", "int64_data", "uint64_data")
_ORT_MAGIC: Final = b"ORTM"
"""By these bytes onnxruntime tells its own format from ONNX. A file can be both, and then holds two networks."""

_INT64: Final = (-(1 << 63), (1 << 63) - 1)


def read_model(data: bytes, name: str = "model") -> Model:
    """Read an ONNX file.

    Raises:
        BundleError: the bytes are not ONNX, are truncated or malformed, or hold something that is refused.
    """
    if data[4:8] == _ORT_MAGIC:
        raise BundleError(f"{name} is not a network that edgeface accepts: it is marked as ORT format; give ONNX")
    try:
        return _model(WireReader(), memoryview(data))
    except WireError as error:
        raise BundleError(f"{name} is not a network that edgeface accepts: {error}; get or export it again") from None


def _model(reader: WireReader, view: memoryview) -> Model:
    model = read_message(reader, view, onnx.MODEL)
    graph_view = model.view("graph")
    if graph_view is None:
        raise WireError("it has no graph")
    graph = read_message(reader, graph_view, onnx.GRAPH)
    stored = tuple(_tensor(reader, tensor) for tensor in graph.views("initializer"))
    names = {tensor.name for tensor in stored}
    values = [read_message(reader, value, onnx.VALUE) for value in graph.views("input")]
    return Model(
        ir_version=model.number("ir_version"),
        opset=_opset(reader, model),
        nodes=tuple(_node(reader, node) for node in graph.views("node")),
        inputs=tuple(_graph_input(reader, value) for value in values if value.text("name") not in names),
        outputs=tuple(read_message(reader, v, onnx.VALUE).text("name") for v in graph.views("output")),
        stored=stored,
        replaceable=tuple(name for value in values if (name := value.text("name")) in names),
    )


def _opset(reader: WireReader, model: Message) -> int:
    """Return the version of the standard operators; other imports mean nothing while no node uses them."""
    found = []
    for view in model.views("opset_import"):
        entry = read_message(reader, view, onnx.OPSET)
        if entry.text("domain") in ("", "ai.onnx"):
            found.append(entry.number("version"))
    if len(found) != 1:
        raise WireError(f"it imports the standard operators {len(found)} times")
    return found[0]


def _node(reader: WireReader, view: memoryview) -> Node:
    node = read_message(reader, view, onnx.NODE)
    attributes: dict[str, Attribute] = {}
    for part in node.views("attribute"):
        name, value = _attribute(reader, part)
        if name in attributes:
            raise WireError(f"attribute {name} occurs twice")
        attributes[name] = value
    return Node(
        node.text("op_type"),
        node.text("domain"),
        node.text("name"),
        node.texts("input"),
        node.texts("output"),
        attributes,
    )


def _attribute(reader: WireReader, view: memoryview) -> tuple[str, Attribute]:
    """Read an attribute by the type that it states: a value of another type would be ignored at run time."""
    part = read_message(reader, view, onnx.ATTRIBUTE)
    name, kind = part.text("name"), part.number("type")
    fields = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}
    if kind not in fields:
        raise WireError(f"attribute {name} has the type {kind}")
    if others := {"f", "i", "s", "t", "floats", "ints"} & set(part.fields) - {fields[kind]}:
        raise WireError(f"attribute {name} has values of two types ({', '.join(sorted(others | {fields[kind]}))})")
    if kind == 1:
        found = part.floats("f", "<f4")
        return name, float(found[0]) if len(found) else 0.0
    if kind == 2:
        return name, part.number("i", *_INT64)
    if kind == 3:
        return name, part.text("s")
    if kind == 4:
        tensor = part.view("t")
        if tensor is None:
            raise WireError(f"attribute {name} has no tensor")
        return name, _tensor(reader, tensor)
    if kind == 6:
        return name, tuple(map(float, part.floats("floats", "<f4")))
    return name, part.numbers("ints")


def _tensor(reader: WireReader, view: memoryview) -> StoredTensor:
    tensor = read_message(reader, view, onnx.TENSOR)
    name = tensor.text("name")
    if tensor.number("data_location") or tensor.views("external_data"):
        raise WireError(f"weight {name} lies in another file; store the network in one file")
    kind, shape = tensor.number("data_type"), tensor.numbers("dims")
    if kind not in _TYPES:
        raise WireError(f"weight {name} has the data type {kind}")
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise WireError(f"weight {name} has the shape {list(shape[: MAX_RANK + 1])}")
    dtype, typed = _TYPES[kind]
    count, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    used = [field for field in _DATA_FIELDS if tensor.holds(field)]
    if used not in ([], ["raw_data"], [typed]):
        raise WireError(f"weight {name} keeps its numbers in {' and '.join(used)}")
    raw = tensor.view("raw_data")
    held = len(raw) if raw else _typed_count(tensor, typed) * itemsize
    if held != count * itemsize:
        raise WireError(
            f"weight {name} has the shape {list(shape)}, that is {count * itemsize} bytes, and holds {held}"
        )
    if count > MAX_VALUES:
        return StoredTensor(name, shape, held, None, kind)
    return StoredTensor(name, shape, held, _values(tensor, raw, dtype, typed).reshape(shape), kind)


def dtype_of(kind: int) -> "np.dtype[Any] | None":
    """Return NumPy's type of an ONNX type, None where it has none."""
    return np.dtype(_TYPES[kind][0]) if kind in _TYPES else None


def _typed_count(tensor: Message, typed: str) -> int:
    if typed in _FLOATS:
        return len(tensor.floats(typed, _FLOATS[typed]))
    return tensor.count(typed)


def _values(tensor: Message, raw: memoryview | None, dtype: str, typed: str) -> Values:
    if raw:
        return np.frombuffer(raw, dtype).copy()  # a view would keep the whole file in memory
    if typed in _FLOATS:
        return tensor.floats(typed, dtype)
    numbers = np.array(tensor.numbers(typed), np.int64)
    if dtype == "<f2":  # the bits of each number
        return numbers.astype(np.uint16).view(np.float16)
    return numbers.astype(dtype)


def _graph_input(reader: WireReader, value: Message) -> GraphInput:
    name, kind = value.text("name"), value.view("type")
    tensor = None if kind is None else read_message(reader, kind, onnx.TYPE).view("tensor_type")
    if tensor is None:
        raise WireError(f"input {name} is not a tensor")
    described = read_message(reader, tensor, onnx.TENSOR_TYPE)
    item, shape = described.number("elem_type"), described.view("shape")
    if item not in ITEM_BYTES:
        raise WireError(f"input {name} has the type {item}")
    if shape is None:
        raise WireError(f"input {name} has no shape")
    sizes: list[int | None] = []
    for part in read_message(reader, shape, onnx.SHAPE).views("dim"):
        dimension = read_message(reader, part, onnx.DIMENSION)
        size = dimension.number("dim_value", *_INT64)
        if size and "dim_param" in dimension.fields:
            raise WireError(f"input {name} has a size that is both {size} and free")
        sizes.append(size if size > 0 else None)  # some exporters write 0 or -1 for a free size
    if len(sizes) > MAX_RANK:
        raise WireError(f"input {name} has {len(sizes)} dimensions")
    return GraphInput(name, tuple(sizes), item)
