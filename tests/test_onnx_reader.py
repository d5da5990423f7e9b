"""The reader of ONNX files sees what the onnx package sees, and on anything else it raises one kind of error."""

import time

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import BundleError
from edgeface.runtime.bundle import BUILT_IN_DETECTOR
from edgeface.runtime.inspecting.inspection import inspect_model
from edgeface.runtime.inspecting.onnx_reader import MAX_VALUES, StoredTensor, read_model
from edgeface.runtime.inspecting.wire import MAX_FIELDS, WireError, WireReader, count_varints, read_varint

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32, allow_nan=False)
DTYPES = ("f4", "f8", "f2", "u1", "i1", "u2", "i2", "i4", "i8", "u4", "u8", "?")


@st.composite
def tensors(draw):
    """A tensor of any type that is known, its numbers as raw bytes or in the field of their type."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    count = int(np.prod(shape))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    size = dtype.itemsize * count
    raw = draw(st.binary(min_size=size, max_size=size))
    if dtype == np.bool_:
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, dtype).reshape(shape)
    if draw(st.booleans()) or not count:
        return numpy_helper.from_array(array, draw(NAMES))
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor(draw(NAMES), kind, shape, array.reshape(-1).tolist())


ATTRIBUTES = st.one_of(
    INT64, FLOAT32, NAMES, st.lists(INT64, min_size=1, max_size=5), st.lists(FLOAT32, min_size=1, max_size=5), tensors()
)


@st.composite
def nodes(draw):
    node = helper.make_node(
        draw(NAMES),
        draw(st.lists(NAMES, max_size=3)),
        draw(st.lists(NAMES, max_size=3)),
        name=draw(NAMES),
        domain=draw(NAMES),
        doc_string=draw(NAMES),
    )
    for name, value in draw(st.dictionaries(NAMES, ATTRIBUTES, max_size=4)).items():
        node.attribute.append(helper.make_attribute(name, value))
    return node


@st.composite
def models(draw):
    sizes = st.lists(st.one_of(st.integers(1, 2**31 - 1), NAMES.filter(bool)), max_size=4)
    names = ("in0", "in1")[: draw(st.integers(0, 2))]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, draw(sizes)) for name in names]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, draw(sizes))]
    stored = draw(st.lists(tensors(), max_size=3))
    graph = helper.make_graph(draw(st.lists(nodes(), max_size=4)), "g", inputs, outputs, stored, doc_string=draw(NAMES))
    imports = [helper.make_opsetid("", draw(st.integers(1, 99))), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=draw(st.integers(1, 99)))
    model.metadata_props.add(key="k", value=draw(NAMES))
    return model


def same_tensor(got, want):
    array = numpy_helper.to_array(want)
    assert (got.name, got.shape, got.size_bytes) == (want.name, array.shape, array.nbytes)
    if array.size <= MAX_VALUES:
        assert got.values is not None and got.values.tobytes() == array.tobytes()
    else:
        assert got.values is None


def same_model(data, model):
    """Compare field by field what the reader and the onnx package make of the same bytes."""
    got, graph = read_model(data), model.graph
    assert got.ir_version == model.ir_version
    assert got.opset == next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    names = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in names]
    assert [entry.name for entry in got.inputs] == [value.name for value in inputs]
    for entry, value in zip(got.inputs, inputs, strict=True):
        sizes = [size.dim_value if size.dim_value > 0 else None for size in value.type.tensor_type.shape.dim]
        assert list(entry.shape) == sizes
    assert list(got.outputs) == [value.name for value in graph.output]
    for tensor, want in zip(got.stored, graph.initializer, strict=True):
        same_tensor(tensor, want)
    for node, proto in zip(got.nodes, graph.node, strict=True):
        assert (node.op_type, node.domain, node.name) == (proto.op_type, proto.domain, proto.name)
        assert (list(node.inputs), list(node.outputs)) == (list(proto.input), list(proto.output))
        assert list(node.attributes) == [attribute.name for attribute in proto.attribute]
        for attribute in proto.attribute:
            value, want = node.attributes[attribute.name], helper.get_attribute_value(attribute)
            if isinstance(value, StoredTensor):
                same_tensor(value, want)
            elif isinstance(value, tuple):
                np.testing.assert_array_equal(value, want)
            else:
                assert value == (want.decode() if isinstance(want, bytes) else want)


@given(models())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_it_reads_what_the_onnx_package_wrote(model):
    same_model(model.SerializeToString(), model)


def valid_model():
    """A small network in which every kind of field occurs."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1], auto_pad="NOTSET", group=1),
            helper.make_node("LeakyRelu", ["c"], ["r"], alpha=0.5),
            helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(np.array([0, -1], np.int64))),
            helper.make_node("Reshape", ["r", "s"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 18])],
        [helper.make_tensor("w", TensorProto.FLOAT, [2, 2, 1, 1], [1.0, 2.0, 3.0, 4.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("end", range(0, len(valid_model())))
def test_every_truncation_is_refused(end):
    with pytest.raises(BundleError, match="not a network"):
        inspect_model(valid_model()[:end])


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=400, deadline=None)
def test_changed_bytes_are_read_as_the_onnx_package_reads_them_or_refused(changes):
    data = bytearray(valid_model())
    for place, value in changes:
        data[place % len(data)] = value
    try:
        read_model(bytes(data))
    except BundleError:
        return
    try:
        parsed = onnx.load_model_from_string(bytes(data))
    except DecodeError:  # in a part that the reader passes over, such as the type of an output
        return
    same_model(bytes(data), parsed)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_bundle_error(data):
    with pytest.raises(BundleError):  # nothing so short and random is a network with an opset
        inspect_model(data)


def test_real_networks_are_read_as_the_onnx_package_reads_them(shared):
    files = [BUILT_IN_DETECTOR, *sorted((shared / "peers").glob("*.onnx"))]
    assert len(files) >= 4
    for path in files:
        same_model(path.read_bytes(), onnx.load(path))


def field(number, wire, payload):
    tag = number << 3 | wire
    size = b"" if wire != 2 else varint(len(payload))
    return varint(tag) + size + payload


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def model_with_tensor(tensor):
    opset = field(8, 2, field(2, 0, varint(18)))
    return field(1, 0, varint(8)) + field(7, 2, field(5, 2, tensor)) + opset


# What protobuf would forgive or cut, byte by byte.
SMUGGLED = {
    "two graphs, which protobuf merges": (valid_model() + field(7, 2, b""), "occurs twice"),
    "an unknown field": (valid_model() + field(99, 0, b"\x01"), "field 99 of the model is not known"),
    "functions": (valid_model() + field(25, 2, b""), "functions"),
    "a training graph": (valid_model() + field(20, 2, b""), "training graph"),
    "a second opset": (valid_model() + field(8, 2, field(2, 0, varint(11))), "2 times"),
    "a group": (valid_model() + varint(3 << 3 | 3), "wire type 3"),
    "field number 0": (valid_model() + b"\x00\x00", "number 0"),
    "a number of 11 bytes": (valid_model() + b"\x28" + b"\xff" * 10 + b"\x01", "64 bits"),
    "a number of 65 bits": (valid_model() + b"\x28" + b"\xff" * 9 + b"\x02", "64 bits"),
    "a length beyond the end": (valid_model() + b"\x32\xff\xff\xff\xff\x0f", "truncated"),
    "external data": (model_with_tensor(field(14, 0, b"\x01")), "another file"),
    "external data without saying so": (model_with_tensor(field(13, 2, field(1, 2, b"location"))), "another file"),
    "a type number that protobuf cuts to 1": (model_with_tensor(field(2, 0, varint(2**32 + 1))), "data_type is"),
    "a huge shape without data": (
        model_with_tensor(field(1, 0, varint(2**40)) * 3 + field(2, 0, b"\x01")),
        "and holds 0",
    ),
    "a negative size": (model_with_tensor(field(1, 0, varint(2**64 - 1)) + field(2, 0, b"\x01")), r"shape \[-1\]"),
    "numbers twice": (
        model_with_tensor(field(2, 0, b"\x01") + field(9, 2, b"\x00" * 4) + field(4, 2, b"\x00" * 4)),
        "raw_data and float_data",
    ),
    "too little data": (
        model_with_tensor(field(1, 0, b"\x04") + field(2, 0, b"\x01") + field(9, 2, b"\x00" * 15)),
        "16 bytes, and holds 15",
    ),
    "text": (model_with_tensor(field(2, 0, b"\x08")), "data type 8"),
    "sparse weights": (field(1, 0, b"\x08") + field(7, 2, field(15, 2, b"")), "sparse"),
    "a file in two formats": (field(2, 2, b"xxORTM") + valid_model(), "ORT format"),
    "a name of a megabyte": (model_with_tensor(field(8, 2, bytes(1 << 20))), "name is longer than 4096 bytes"),
    "no graph": (field(1, 0, b"\x08"), "no graph"),
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_what_could_be_read_in_two_ways_is_refused(what):
    data, message = SMUGGLED[what]
    with pytest.raises(BundleError, match=message):
        read_model(data)


@pytest.mark.parametrize("kind", ["graph", "graphs", "type_proto", "sparse"])
def test_attributes_that_hold_graphs_are_refused(kind):
    model = onnx.load_model_from_string(valid_model())
    attribute = model.graph.node[1].attribute[0]
    if kind == "graph":
        attribute.CopyFrom(helper.make_attribute("body", model.graph))
    elif kind == "graphs":
        attribute.CopyFrom(helper.make_attribute("bodies", [model.graph]))
    elif kind == "type_proto":
        attribute.CopyFrom(helper.make_attribute("t", helper.make_tensor_type_proto(TensorProto.FLOAT, [1])))
    else:
        attribute.type = onnx.AttributeProto.SPARSE_TENSOR
    with pytest.raises(BundleError, match=r"subgraph|not known|the type 11"):
        read_model(model.SerializeToString())


def test_the_number_of_fields_is_limited():
    data = b"\x28\x01" * (MAX_FIELDS + 1)  # model_version, over and over
    with pytest.raises(WireError, match="too many fields"):
        list(WireReader().fields(memoryview(data)))
    ints = field(1, 2, b"ints") + field(20, 0, b"\x07") + field(8, 2, b"\x01" * (MAX_FIELDS + 1))
    start = time.perf_counter()
    with pytest.raises(BundleError, match="too many fields"):
        read_model(field(7, 2, field(1, 2, field(5, 2, ints))) + field(8, 2, field(2, 0, varint(18))))
    assert time.perf_counter() - start < 5


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_numbers_of_variable_length(numbers):
    packed = memoryview(b"".join(map(varint, numbers)))
    assert count_varints(packed) == len(numbers)
    assert WireReader().packed_varints(packed) == numbers
    position, found = 0, []
    while position < len(packed):
        number, position = read_varint(packed, position)
        found.append(number)
    assert found == numbers
