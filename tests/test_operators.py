"""Of each admitted operator only what face networks do with it passes; odd inputs and attributes are named."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper, numpy_helper

from edgeface.errors import BundleError
from edgeface.runtime.inspecting.inspection import OPERATORS, inspect_model
from edgeface.runtime.inspecting.schemas import Needed, Pattern, Real, Reals, Stored, Text, Whole, Wholes
from tests.test_inspection import bomb, network, of, zeros

ROOT = Path(__file__).resolve().parents[1]
I64 = np.int64
IMAGE = (1, 4, 8, 8)
MANY = 2**31


def conv(**attributes):
    return bomb(of("Conv", ["x", "w"], **attributes), constants={"w": zeros(4, 4, 3, 3)}, shape=IMAGE)


def pool(op_type="MaxPool", **attributes):
    return bomb(of(op_type, ["x"], **{"kernel_shape": [2, 2]} | attributes), shape=IMAGE)


def sliced(start, end, step, **options):
    constants = {"s": [start], "e": [end], "a": [1], "t": [step]}
    return bomb(of("Slice", ["x", "s", "e", "a", "t"]), constants=constants, **options)


def whole(op_type, divisor, constants=()):
    """Division of whole numbers that only a run knows."""
    return network([of("Cast", ["x"], "a", to=7), divisor, of(op_type, ["a", "b"])], {"x": (2, 3)}, ("y",), constants)


LAYER = {"scale": zeros(3), "bias": zeros(3)}
REFUSED = {
    "an empty bias": (bomb(of("LayerNormalization", ["x", "scale", ""]), constants=LAYER), "input 2 (B) has no name"),
    "an empty scale": (
        bomb(of("LayerNormalization", ["x", "", "bias"]), constants=LAYER),
        "input 1 (scale) has no name",
    ),
    "an empty first input": (bomb(of("Relu", [""])), "input 0 (X) has no name"),
    "too few inputs": (bomb(of("Conv", ["x"]), shape=IMAGE), "it has 1 inputs; 2 to 3 are allowed"),
    "too many inputs": (bomb(of("Relu", ["x", "x"])), "it has 2 inputs; 1 to 1 are allowed"),
    "an empty input among many": (bomb(of("Concat", ["x", "", "x"], axis=0)), "input 1 (X) has no name"),
    "an output without a name": (bomb(helper.make_node("Relu", ["x"], [""])), "its outputs are ['']"),
    "no output": (bomb(helper.make_node("Relu", ["x"], [])), "its outputs are []"),
    "too many outputs": (bomb(helper.make_node("Relu", ["x"], ["y", "z"])), "it has 1 to 1, with names"),
    "training": (bomb(helper.make_node("BatchNormalization", ["x"] * 5, ["y", "z"])), "it has 1 to 1, with names"),
    "pieces without number": (bomb(of("Split", ["x", ""], num_outputs=MANY)), f"attribute num_outputs is {MANY}; 1 to"),
    "more pieces than outputs": (bomb(of("Split", ["x"], num_outputs=3, axis=1)), "has 1 outputs and says 3"),
    "a piece of negative size": (
        bomb(helper.make_node("Split", ["x", "s"], ["y", "z"], axis=1), constants={"s": [-1, 4]}),
        "it splits 3 into [-1, 4]",
    ),
    "no groups": (conv(group=0), "attribute group is 0; 1 to"),
    "groups without end": (conv(group=2**62), f"attribute group is {2**62}; 1 to"),
    "a stride of 0": (conv(strides=[0, 1]), "attribute strides holds 0; 1 to"),
    "a stride without end": (conv(strides=[2**40, 1]), f"attribute strides holds {2**40}"),
    "a dilation of 0": (conv(dilations=[0, 1]), "attribute dilations holds 0"),
    "a dilation without end": (conv(dilations=[2**62, 1]), "attribute dilations holds"),
    "margins below zero": (conv(pads=[-1, 0, 0, 0]), "attribute pads holds -1; 0 to"),
    "a window that is not that of the weights": (conv(kernel_shape=[5, 5]), "it says its window is [5, 5]"),
    "a window of nothing": (pool(kernel_shape=[0, 2]), "attribute kernel_shape holds 0"),
    "a window of one axis": (pool(kernel_shape=[2]), "a window of [2] slides over [8, 8]"),
    "padding in two ways": (
        pool(auto_pad="SAME_UPPER", dilations=[2, 2]),
        "it pads by SAME_UPPER with dilations [2, 2]",
    ),
    "a pool without a window": (bomb(of("MaxPool", ["x"]), shape=IMAGE), "attribute kernel_shape is missing"),
    "rounding of another kind": (pool(ceil_mode=17), "attribute ceil_mode is 17; 0 to 1 are allowed"),
    "words that nobody knows": (conv(auto_pad="ALL"), "attribute auto_pad is 'ALL'; it may be NOTSET,"),
    "a bias for other channels": (
        bomb(of("Conv", ["x", "w", "b"]), constants={"w": zeros(4, 4, 3, 3), "b": zeros(3)}, shape=IMAGE),
        "its bias has the shape [3] for 4 channels",
    ),
    "weights without numbers": (
        bomb(of("Conv", ["x", "w"]), constants={"w": zeros(0, 4, 3, 3)}, shape=IMAGE),
        "empty tensor of shape [0, 4, 3, 3]",
    ),
    "a picture that is scaled to nothing": (
        bomb(of("Resize", ["x", "", "s"]), constants={"s": np.array([1, 1, 0.1, 1], np.float32)}, shape=IMAGE),
        "empty tensor of shape [1, 4, 0, 8]",
    ),
    "a scale that is no number": (
        bomb(of("Resize", ["x", "", "s"]), constants={"s": np.array([1, 1, np.nan, 1], np.float32)}, shape=IMAGE),
        "they are positive numbers",
    ),
    "a scale below zero": (
        bomb(of("Resize", ["x", "", "s"]), constants={"s": np.array([1, 1, -2, 1], np.float32)}, shape=IMAGE),
        "they are positive numbers",
    ),
    "a number of more dimensions than the tensor it meets": (
        bomb(of("Pow", ["x", "a"]), constants={"a": zeros(1, 1, 1)}),
        "a single number of 3 dimensions meets a tensor of 2",
    ),
    "an attribute of another kind": (bomb(of("Softmax", ["x"], axis=1.5)), "attribute axis is no whole number"),
    "an attribute of another operator": (bomb(of("Relu", ["x"], axis=1)), "attribute axis is not one that is known"),
    "an axis beyond all": (bomb(of("Softmax", ["x"], axis=-(2**63))), "attribute axis is -"),
    "an axis beyond this one": (bomb(of("Softmax", ["x"], axis=2)), "axis 2 is outside a tensor of 2 dimensions"),
    "an alpha that is no number": (bomb(of("LeakyRelu", ["x"], alpha=float("nan"))), "attribute alpha is nan"),
    "an endless alpha": (bomb(of("Elu", ["x"], alpha=float("inf"))), "attribute alpha is inf"),
    "axes that repeat": (bomb(of("ReduceMean", ["x", "a"]), constants={"a": [1, 1]}), "axes [1, 1] repeat"),
    "flags of many values": (bomb(of("ReduceMax", ["x"], keepdims=2)), "attribute keepdims is 2"),
    "sizes that are no row": (bomb(of("Reshape", ["x", "s"]), constants={"s": [[1], [3]]}), "is not a row of whole"),
    "sizes that are no whole numbers": (
        bomb(of("Reshape", ["x", "s"]), constants={"s": np.array([1.0, 3.0], np.float32)}),
        "is not a row of whole numbers",
    ),
    "a cut in steps of 0": (sliced(0, 2, 0), "it goes on in steps of 0"),
    "a backward cut to a far end": (sliced(2, 2**63 - 1, -1), "backwards to a far end"),
    "a cut that leaves nothing": (sliced(2, 1, 1), "empty tensor"),
    "a piece without numbers that is used": (
        network(
            [
                helper.make_node("Split", ["x", "s"], ["a", "b"], axis=1),
                of("Relu", ["b"], "c"),
                of("Concat", ["a", "c"], axis=1),
            ],
            {"x": (2, 3)},
            ("y",),
            {"s": np.array([3, 0], I64)},
        ).SerializeToString(),
        "empty tensor of shape [2, 0]",
    ),
    "endless counting": (
        bomb(
            of("Range", ["a", "b", "c"]),
            constants={k: np.float32(v) for k, v in zip("abc", (0, np.inf, 1), strict=True)},
        ),
        "it counts from 0.0 to inf",
    ),
    "a number of two": (
        bomb(of("Range", ["a", "a", "a"]), constants={"a": [1, 2]}),
        "start, limit and step are not single numbers",
    ),
    "a bound of two": (bomb(of("Clip", ["x", "a"]), constants={"a": zeros(2)}), "input 1 has the shape [2]"),
    "a type of text": (bomb(of("Cast", ["x"], to=8)), "attribute to is 8; it may be 1, 2"),
    "no type": (bomb(of("Cast", ["x"])), "attribute to is missing"),
    "two constants": (bomb(of("Constant", [], value_int=1, value_float=1.0)), "it is not one constant of numbers"),
    "filled with many numbers": (
        bomb(of("ConstantOfShape", ["s"], value=numpy_helper.from_array(zeros(2))), constants={"s": [2]}),
        "attribute value has the shape [2]",
    ),
    "groups that do not divide": (
        bomb(of("GroupNormalization", ["x", "s", "s"], num_groups=3), constants={"s": zeros(3)}, shape=IMAGE),
        "[1, 4, 8, 8] has no 3 groups of channels",
    ),
    "an even window of channels": (bomb(of("LRN", ["x"], size=2), shape=IMAGE), "it takes pictures and an odd size"),
    "a scale for other channels": (
        bomb(of("InstanceNormalization", ["x", "s", "s"]), constants={"s": zeros(3)}, shape=IMAGE),
        "input 1 has the shape [3] for 4 channels",
    ),
    "scales of other places": (
        bomb(of("QuantizeLinear", ["x", "s"], axis=1), constants={"s": zeros(5)}, shape=IMAGE),
        "scales [5] do not fit [1, 4, 8, 8] on axis 1",
    ),
    "whole numbers divided by zeros": (
        whole("Div", of("Sub", ["a", "a"], "b")).SerializeToString(),
        "divides whole numbers by such as only the data tells",
    ),
    "what whole numbers leave": (
        whole("Mod", of("Identity", ["a"], "b")).SerializeToString(),
        "divides whole numbers by such as only the data tells",
    ),
    "the lowest number divided by -1": (
        whole("Div", of("Identity", ["c"], "b"), {"c": [-1]}).SerializeToString(),
        "divides whole numbers by -1",
    ),
    "constants without end": (
        bomb(*(of("ConstantOfShape", ["s"], f"t{i}") for i in range(20)), of("Relu", ["x"]), constants={"s": [2**25]}),
        "numbers that depend on no input",
    ),
    "an output twice": (
        network([of("Relu", ["x"])], {"x": (1,)}, ("y", "y")).SerializeToString(),
        "outputs of one name",
    ),
}


WORDS = (
    *("attribute", "input 0", "input 1 (", "input 2", "it has", "its outputs", "has 1 outputs", "it goes", "backwards"),
    *("divides", "it counts", "start,", "it is not one", "they are positive", "is not a row", "numbers that depend"),
)


def said(data):
    with pytest.raises(BundleError) as error:
        inspect_model(data)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("what", REFUSED)
def test_odd_nodes_are_refused_by_name(what):
    data, message = REFUSED[what]
    assert message in said(data)


@pytest.mark.parametrize("what", [what for what, (_, message) in REFUSED.items() if message.startswith(WORDS)])
def test_free_sizes_hide_nothing_that_is_wrong_at_any(what):
    """A node that does not fit sizes that are only guessed is looked at again in a run; these never are so lucky."""
    data, message = REFUSED[what]
    model = onnx.load_from_string(data)
    for entry in model.graph.input:
        for number, dim in enumerate(entry.type.tensor_type.shape.dim):
            dim.dim_param = f"free{number}"
    assert message in said(model.SerializeToString())


def test_a_file_that_names_things_twice(tmp_path):
    model = network([of("Relu", ["x"])], {"x": (1,)})
    model.graph.input.append(model.graph.input[0])
    assert "inputs of one name" in said(model.SerializeToString())


def test_names_do_not_reach_the_screen_as_they_are():
    data = bomb(helper.make_node("Relu", ["x"], ["y"], name="a\n\x1b[2Jb", axis=1))
    assert said(data) == "node a\\n\\x1b[2Jb (Relu) of model is refused: attribute axis is not one that is known"
    data = bomb(helper.make_node("Relu", ["x"], ["y"], name="long" * 1000, axis=1))
    assert len(said(data)) < 410


def test_inputs_of_odd_types():
    model = network([of("Relu", ["x"])], {"x": (1,)})
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    assert "input x has the type 8" in said(model.SerializeToString())


def zeroed(zero, **options):
    nodes = [of("Cast", ["x"], "b", to=2), zero, of("DequantizeLinear", ["b", "s", "z"])]
    return network(nodes, {"x": (2, 3)}, ("y",), {"s": np.float32(1), "c": np.uint8(0)}, **options)


def test_zero_points_are_constants():
    """onnxruntime puts a Where between quantized tensors together without looking whether they are: it crashes."""
    inspect_model(zeroed(of("Identity", ["c"], "z")).SerializeToString())
    for loose in (of("Cast", ["x"], "z", to=2), of("ReduceMax", ["b"], "z", keepdims=0)):
        model = zeroed(loose)
        assert "input 2 depends on what is fed" in said(model.SerializeToString())
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "free"
        assert "input 2 depends on what is fed" in said(model.SerializeToString())


def test_weights_that_can_be_fed_are_none():
    model = network([of("Add", ["x", "w"])], {"x": (2, 3)}, ("y",), {"w": zeros(3)})
    model.graph.input.append(helper.make_tensor_value_info("w", 1, (3,)))
    assert "lets its weight w be fed, too" in said(model.SerializeToString())
    model.ir_version = 3  # when every weight was listed
    inspect_model(model.SerializeToString())


def test_an_empty_batch_is_not_run():
    inspected = inspect_model(bomb(of("Relu", ["x"])))
    inspected.check_sizes({"x": (2, 3)})
    with pytest.raises(BundleError, match=r"empty tensor of shape \[0, 3\]"):
        inspected.check_sizes({"x": (0, 3)})


def test_a_piece_without_numbers_may_be_put_back():
    nodes = [helper.make_node("Split", ["x", "s"], ["a", "b"], axis=1), of("Concat", ["b", "a"], axis=1)]
    model = network(nodes, {"x": (2, 3)}, ("y",), {"s": np.array([3, 0], I64)})
    assert inspect_model(model.SerializeToString()).foretell({"x": (2, 3)}).outputs == {"y": (2, 3)}


def test_values_are_followed_in_the_types_that_onnxruntime_computes_with():
    """300 as a byte is 44: a shape computed with it must be that, or a bomb would look harmless."""
    nodes = [of("Cast", ["n"], "b", to=2), of("Cast", ["b"], "s", to=7), of("ConstantOfShape", ["s"])]
    model = network(nodes, {}, ("y",), {"n": np.array([300], I64)})
    assert inspect_model(model.SerializeToString()).foretell({}).outputs == {"y": (44,)}
    nodes = [of("Cast", ["n"], "s", to=7), of("ConstantOfShape", ["s"])]
    for far in (1e30, -1e30, float("nan")):  # no processor need agree with another
        model = network(nodes, {}, ("y",), {"n": np.array([far], np.float32)})
        assert "depends on data" in said(model.SerializeToString())


def test_memory_is_counted_in_bytes():
    """Twice as much for doubles, a quarter for bytes."""
    for kind, numbers in ((1, 600), (11, 900), (3, 375), (10, 450)):
        data = bomb(of("Cast", ["x"], to=kind), shape=(100, 3))
        assert inspect_model(data).foretell({"x": (100, 3)}).numbers == numbers


EXAMPLES: dict[Any, tuple[list[Any], list[Any]]] = {
    Whole(0, 3): ([0, 3], [-1, 4, 1.0, "1", (1,)]),
    Whole(choices=(1, 7)): ([1, 7], [2, 0]),
    Wholes(0, 3): ([(), (0, 3)], [(4,), 3, (1.0,), (1,) * 33]),
    Real(): ([0.5, -1.0], [1, float("nan"), float("inf"), "x"]),
    Real(infinite=True): ([float("inf")], [float("nan")]),
    Reals(): ([(), (0.5,)], [(1,), 0.5, (float("inf"),)]),
    Text(("a", "b")): (["a"], ["c", 1]),
    Pattern("a+"): (["a", "aa"], ["b", "ab", 1]),
    Stored(): ([], [1, "x"]),
    Needed(Whole(0, 1)): ([0], [2]),
}


@pytest.mark.parametrize("kind", EXAMPLES, ids=str)
def test_kinds_of_attributes(kind):
    good, bad = EXAMPLES[kind]
    assert all(kind.complaint(value) is None for value in good)
    assert all(kind.complaint(value) for value in bad)


_ATTRIBUTES = {
    **{
        Whole: AttributeProto.INT,
        Wholes: AttributeProto.INTS,
        Real: AttributeProto.FLOAT,
        Reals: AttributeProto.FLOATS,
    },
    **{Text: AttributeProto.STRING, Pattern: AttributeProto.STRING, Stored: AttributeProto.TENSOR},
}


@pytest.mark.parametrize("name", [name for name in sorted(OPERATORS) if "." not in name])
def test_the_table_agrees_with_the_standard(name):
    """Each attribute is one of ONNX and of its kind; what the standard needs the table needs, and no input is lost."""
    versions = [s for s in onnx.defs.get_all_schemas_with_history() if s.name == name and not s.domain]
    operator = OPERATORS[name]
    marks = operator.inputs.split()
    known: dict[str, Any] = {
        attribute.name: attribute for schema in versions for attribute in schema.attributes.values()
    }
    for attribute, kind in operator.attributes.items():
        inner = kind.kind if isinstance(kind, Needed) else kind
        assert str(known[attribute].type).rpartition(".")[2] == AttributeProto.AttributeType.Name(
            _ATTRIBUTES[type(inner)]
        ), attribute
    for schema in (s for s in versions if s.since_version >= 7):
        needed = sum(not mark.endswith(("?", "-")) for mark in marks)
        assert needed <= schema.min_input
        several = marks and marks[-1].endswith("*")
        assert several or name == "Einsum" or len(marks) >= schema.max_input  # of Einsum, products of two tensors alone


@pytest.mark.parametrize(("name", "says"), [("layernorm-nobias", "input 2 (B) has no name"), ("split", "num_outputs")])
def test_networks_that_harmed(shared, name, says):
    assert says in said((shared.parent / "cases" / "onnx" / f"{name}.onnx").read_bytes())


def test_a_short_search_finds_nothing():
    """See the script: random networks, most of them with faults, opened and run in a process of their own."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "search_networks.py"), "--count", "400", "--seed", "7"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    sound = next(int(line.split()[0]) for line in result.stdout.splitlines() if line.endswith(" sound"))
    assert sound > 100
