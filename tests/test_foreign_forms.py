"""Networks in the forms that exporters of ten years have written."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeface.errors import BundleError, EdgefaceError, ExportError
from edgeface.export.importing.foreign_model import Choices
from edgeface.export.importing.functions import decompose, inline_local
from edgeface.export.importing.old_opsets import modernise
from tests.foreign_networks import (
    CHANNELS,
    DIMENSION,
    NHWC,
    PIXELS,
    assert_comes_in,
    between,
    brought_in,
    end,
    expected,
    make,
    node,
    original,
    stem,
    weights,
)

FLAT = node("Flatten", ["maps"], "flat")


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def as_ir3(model):
    """Weights are inputs, too."""
    model.ir_version = 3
    model.graph.input.extend(value(t.name, list(t.dims), t.data_type) for t in model.graph.initializer)
    return model


def norm(source, result, shape, **attributes):
    names = ["gain", "shift", "mean", "variance"]
    stored = dict(zip(names, (weights(shape, seed, 0.4) for seed in range(4)), strict=True))
    stored["variance"] = np.abs(stored["variance"]) + 0.5
    return node("BatchNormalization", [source, *names], result, **attributes), stored


class TestOldOpsets:
    """MXNet, CNTK, the ONNX zoo, PyTorch before 1.2."""

    def test_weights_that_are_inputs(self, tmp_path):
        assert_comes_in(as_ir3(between([FLAT], opset=8)), tmp_path)

    @pytest.mark.parametrize("shape", [(CHANNELS,), (CHANNELS, 7, 7)])
    @pytest.mark.parametrize("opset", [7, 8])
    def test_norms_with_spatial(self, tmp_path, shape, opset):
        """MXNet wrote spatial=0 with numbers by channel; the specification means a number for each place."""
        layer, stored = norm("maps", "normed", shape, spatial=0, epsilon=1e-3)
        model = as_ir3(between([layer, node("Flatten", ["normed"], "flat")], stored, opset=opset))
        if len(shape) == 3:
            assert_comes_in(model, tmp_path)
            return
        _, made = brought_in(model, tmp_path)
        layer.ClearField("attribute")
        layer.attribute.append(helper.make_attribute("epsilon", 1e-3))
        same = between([layer, node("Flatten", ["normed"], "flat")], stored, opset=9)
        np.testing.assert_allclose(made, expected(same), atol=2e-5)

    def test_train_mode_as_it_was_written_then(self, tmp_path):
        """onnxruntime normalises with the statistics of the picture itself, where a norm gives them."""
        layer, stored = norm("maps", ["normed", "a", "b", "c", "d"], (CHANNELS,))
        with pytest.raises(ExportError, match=r"\(BatchNormalization\) is in train mode"):
            brought_in(between([layer, node("Flatten", ["normed"], "flat")], stored, opset=9), tmp_path)

    def test_slopes_by_channel(self, tmp_path):
        """[C] instead of [C, 1, 1] runs nowhere, but what is meant is plain."""
        nodes = [node("PRelu", ["made", "slopes"], "bent"), node("Flatten", ["bent"], "flat")]
        slopes = weights((CHANNELS,), 4, 0.3)
        _, made = brought_in(between(nodes, {"slopes": slopes}, opset=7), tmp_path)
        right = between(nodes, {"slopes": slopes.reshape(-1, 1, 1)}, opset=7)
        np.testing.assert_allclose(made, expected(right), atol=2e-5)

    def test_dropout_does_nothing(self, tmp_path):
        nodes = [node("Dropout", ["maps"], ["kept", "mask"], ratio=0.4), node("Flatten", ["kept"], "flat")]
        network = assert_comes_in(between(nodes, opset=9), tmp_path)
        assert "Dropout" not in {part.op_type for part in network.model.graph.node}

    def test_attributes_that_are_gone(self):
        layer, stored = norm("maps", "normed", (CHANNELS,), spatial=1, is_test=1)
        model = modernise(between([layer], stored, source="normed", opset=9))
        onnx.checker.check_model(model)

    @pytest.mark.parametrize("opset", [7, 9, 11, 13])
    def test_operators_that_changed_since(self, tmp_path, opset):
        """Axes, scales, bounds and pads were attributes."""
        nodes = [node("Upsample" if opset < 10 else "Resize", ["maps", "scales"], "large", mode="nearest")]
        stored = {"scales": np.array([1, 1, 2, 2], np.float32)}
        if opset == 7:
            nodes, stored = [node("Upsample", ["maps"], "large", mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])], {}
        if opset >= 11:
            nodes = [node("Resize", ["maps", "region", "scales"], "large", mode="nearest")]
            stored["region"] = np.zeros(0, np.float32)
        if opset < 11:
            nodes += [
                node("Clip", ["large"], "cut", min=0.0, max=2.0),
                node("Pad", ["cut"], "wide", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
                node("Unsqueeze", ["wide"], "more", axes=[1]),
                node("Squeeze", ["more"], "less", axes=[1]),
                node("ReduceSum", ["less"], "sums", axes=[3], keepdims=0),
            ]
        else:
            nodes.append(node("ReduceMean", ["large"], "sums", axes=[3], keepdims=0))
        nodes += [node("Flatten", ["sums"], "rows"), node("Softmax", ["rows"], "shares", axis=1)]
        nodes.append(node("Add", ["rows", "shares"], "flat"))
        width = CHANNELS * (16 if opset < 11 else 14)
        assert_comes_in(between(nodes, stored, width=width, opset=opset), tmp_path)

    def test_older_than_onnxruntime_runs(self, tmp_path):
        with pytest.raises(BundleError, match="has opset version 6, this edgeface knows 7 to"):
            brought_in(between([FLAT], opset=6), tmp_path)


class TestOutputs:
    """Two or more, in other shapes, named or not."""

    @pytest.mark.parametrize("batch", [1, "n"])
    @pytest.mark.parametrize(
        ("nodes", "stored", "shape"),
        [
            (
                [node("Unsqueeze", ["row", "axes"], "y")],
                {"axes": np.array([2, 3], np.int64)},
                ["N", DIMENSION, 1, 1],
            ),
            ([node("Unsqueeze", ["row", "axes"], "y")], {"axes": np.array([1], np.int64)}, ["N", 1, DIMENSION]),
            ([node("Squeeze", ["row"], "y")], {}, None),
            ([node("Cast", ["row"], "half", to=TensorProto.FLOAT16), node("Identity", ["half"], "y")], {}, "half"),
        ],
    )
    def test_shapes(self, tmp_path, nodes, stored, shape, batch):
        first, own = stem()
        last, more = end(output="row")
        declared = onnx.ValueInfoProto(name="y")
        if isinstance(shape, list):
            declared = value("y", [batch if size == "N" else size for size in shape])
        elif shape == "half":
            declared = value("y", [batch, DIMENSION], TensorProto.FLOAT16)
        model = make([*first, FLAT, *last, *nodes], own | more | stored, outputs=[declared], batch=batch)
        network = assert_comes_in(model, tmp_path, tolerance=1e-3 if shape == "half" else 2e-5)
        made = [size.dim_value for size in network.model.graph.output[0].type.tensor_type.shape.dim]
        assert made[1:] == [DIMENSION]

    def test_a_last_normalisation_whose_size_is_not_declared(self, tmp_path):
        """As torch's exporter writes F.normalize."""
        first, own = stem()
        last, more = end(output="row")
        nodes = [
            *(node("ReduceL2", ["row"], "length", axes=[-1], keepdims=1), node("Shape", ["row"], "sizes")),
            *(node("Clip", ["length", "least"], "safe"), node("Expand", ["safe", "sizes"], "lengths")),
            node("Div", ["row", "lengths"], "y"),
        ]
        stored = own | more | {"least": np.array(1e-12, np.float32)}
        model = make([*first, FLAT, *last, *nodes], stored, outputs=[("y", ["n", "Divy_dim_1"])], batch="n")
        assert_comes_in(model, tmp_path)

    @staticmethod
    def with_norm(**names):
        first, own = stem()
        last, more = end(output="feature")
        nodes = [node("ReduceL2", ["feature"], "norm", axes=[1], keepdims=1), node("Div", ["feature", "norm"], "unit")]
        outputs = [(names.get(name, name), ["n", width]) for name, width in (("unit", DIMENSION), ("norm", 1))]
        return make([*first, FLAT, *last, *nodes], own | more, outputs=outputs, batch="n")

    def test_an_embedding_and_its_norm(self, tmp_path):
        network = assert_comes_in(self.with_norm(), tmp_path, output="unit")
        assert "output unit is the embedding; left out: norm" in network.remarks

    def test_the_same_before_and_after_normalisation(self, tmp_path):
        model = self.with_norm()
        model.graph.output.insert(0, value("feature", ["n", DIMENSION]))
        assert_comes_in(model, tmp_path, output="unit")

    def test_in_doubt_all_are_listed(self, tmp_path):
        model = self.with_norm()
        model.graph.node.append(node("MatMul", ["unit", "other"], "scores_of_age"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights((DIMENSION, 5), 7), "other"))
        model.graph.output.append(value("scores_of_age", ["n", 5]))
        with pytest.raises(ExportError) as error:
            brought_in(model, tmp_path)
        for part in ("--output unit or --output scores_of_age", "unit (float32 [16])", "norm (float32 one number)"):
            assert part in str(error.value)
        assert "\n" not in str(error.value)
        assert_comes_in(model, tmp_path, output="unit", choices=Choices(output="unit"))
        inner, made = brought_in(model, tmp_path, choices=Choices(output="feature"))  # no output that is declared
        np.testing.assert_allclose(made, expected(model, output="unit"), atol=2e-5)
        assert inner.origin["output"] == "feature"
        with pytest.raises(ExportError, match="makes no such tensor; its outputs are unit, norm, scores_of_age"):
            brought_in(model, tmp_path, choices=Choices(output="z"))

    def test_none_that_is_one(self, tmp_path):
        first, own = stem()
        with pytest.raises(ExportError, match=r"this network gives maps \(float32 \[8, 7, 7\]\); name a tensor"):
            brought_in(make(first, own, outputs=[("maps", [1, CHANNELS, 7, 7])]), tmp_path)
        last, more = end(output="row")
        nodes = [*first, FLAT, *last, node("ArgMax", ["row"], "y", axis=1)]
        with pytest.raises(EdgefaceError, match=r"ArgMax|int64"):
            brought_in(make(nodes, own | more, outputs=[value("y", [1, 1], TensorProto.INT64)]), tmp_path)

    def test_operators_that_are_not_admitted_only_count_where_they_are_needed(self, tmp_path):
        model = self.with_norm()
        model.graph.node.append(node("NonZero", ["maps"], "places"))
        model.graph.output.append(onnx.ValueInfoProto(name="places"))
        assert_comes_in(model, tmp_path, output="unit")


class TestInputs:
    """Other types, others that nothing uses, no shape."""

    def test_half(self, tmp_path):
        """A network in float16 computes the same in float32, but finer."""
        model = between([FLAT], batch="n")
        for tensor in model.graph.initializer:
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
            )
        for entry in (*model.graph.input, *model.graph.output):
            entry.type.tensor_type.elem_type = TensorProto.FLOAT16
        network = assert_comes_in(model, tmp_path, dtype=np.float16, tolerance=5e-3)
        assert {t.data_type for t in network.model.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
        assert any("float16" in remark for remark in network.remarks)

    def test_half_at_the_door_only(self, tmp_path):
        first, own = stem()
        last, more = end()
        nodes = [node("Cast", ["x"], "wide", to=TensorProto.FLOAT), *first, FLAT, *last]
        nodes[1].input[0] = "wide"
        taken = [value("x", ["n", 3, 112, 112], TensorProto.FLOAT16)]
        assert_comes_in(make(nodes, own | more, inputs=taken), tmp_path, dtype=np.float16, tolerance=5e-3)

    def test_double(self, tmp_path):
        nodes = [
            node("Flatten", ["x"], "pixels"),
            node("MatMul", ["pixels", "w"], "y"),
        ]
        model = make(
            nodes,
            {"w": weights((3 * 112 * 112, DIMENSION), 3, 0.01, np.float64)},
            inputs=[value("x", ["n", 3, 112, 112], TensorProto.DOUBLE)],
            outputs=[value("y", ["n", DIMENSION], TensorProto.DOUBLE)],
        )
        assert_comes_in(model, tmp_path, dtype=np.float64)

    @pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT32])
    def test_whole_numbers(self, tmp_path, kind):
        first, own = stem()
        last, more = end()
        nodes = [node("Cast", ["x"], "wide", to=TensorProto.FLOAT), *first, FLAT, *last]
        nodes[1].input[0] = "wide"
        model = make(nodes, own | more, inputs=[value("x", [1, 3, 112, 112], kind)])
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        assert_comes_in(model, tmp_path, dtype=dtype, preprocessing=PIXELS)
        with pytest.raises(ExportError, match="a network that takes pixels prepares them itself: --mean 0 --scale 1"):
            brought_in(model, tmp_path)

    def test_one_that_nothing_uses(self, tmp_path):
        model = between([FLAT])
        model.graph.input.append(value("label", [1], TensorProto.INT64))
        network, made = brought_in(model, tmp_path)
        assert "left out: input label, which the embedding does not depend on" in network.remarks
        np.testing.assert_allclose(made, expected(model, extra={"label": np.zeros(1, np.int64)}), atol=2e-5)

    def test_one_that_is_needed(self, tmp_path):
        first, own = stem()
        model = make(
            [*first, node("Mul", ["maps", "gain"], "more"), node("Flatten", ["more"], "flat"), *end()[0]],
            own | end()[1],
            inputs=[value("gain", [1]), value("x", [1, 3, 112, 112])],
        )
        with pytest.raises(ExportError, match=r"needs the inputs gain \(float \[1\]\) besides the picture x.*gain=0"):
            brought_in(model, tmp_path)
        network, made = brought_in(model, tmp_path, choices=Choices(set_inputs={"gain": 0.5}))
        np.testing.assert_allclose(made, expected(model, extra={"gain": np.full(1, 0.5, np.float32)}), atol=2e-5)
        assert network.origin["inputs set"] == "gain=0.5"
        with pytest.raises(ExportError, match="has no such input, it has gain, x"):
            brought_in(model, tmp_path, choices=Choices(set_inputs={"z": 0}))

    @pytest.mark.parametrize("preprocessing", [NHWC, PIXELS])
    def test_no_rank_is_declared(self, tmp_path, preprocessing):
        first, own = stem()
        nodes = [*first, FLAT, *end()[0]]
        if preprocessing is NHWC:
            nodes.insert(0, node("Transpose", ["x"], "planes", perm=[0, 3, 1, 2]))
            nodes[1].input[0] = "planes"
        untyped = onnx.ValueInfoProto(name="x")
        untyped.type.tensor_type.elem_type = TensorProto.FLOAT
        model = make(nodes, own | end()[1], inputs=[untyped], outputs=[onnx.ValueInfoProto(name="y")])
        assert_comes_in(model, tmp_path, preprocessing=preprocessing)

    def test_no_picture_at_all(self, tmp_path):
        model = make([node("Identity", ["w"], "y")], {"w": weights((1, DIMENSION))})
        with pytest.raises(ExportError, match="depends on no input"):
            brought_in(model, tmp_path)
        model = between([FLAT])
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
        with pytest.raises(EdgefaceError):
            brought_in(model, tmp_path)


class TestBranches:
    """If nodes, as scripted modules have them."""

    @staticmethod
    def branch(nodes, output, stored=None):
        arrays = [onnx.numpy_helper.from_array(array, name) for name, array in (stored or {}).items()]
        return helper.make_graph(nodes, "branch", [], [onnx.ValueInfoProto(name=output)], arrays)

    def network(self, condition, before=(), stored=None, batch="n", nested=False):
        """One branch flattens and adds, the other has another result; both use names of their own that are equal."""
        taken = self.branch(
            [node("Flatten", ["maps"], "inner"), node("Add", ["inner", "plus"], "result")],
            "result",
            {"plus": weights((1, CHANNELS * 49), 8)},
        )
        if nested:
            inner = node("If", ["always"], "result", then_branch=taken, else_branch=taken)
            taken = self.branch([node("Constant", [], "always", value=_tensor(True)), inner], "result")
        other = self.branch(
            [node("Flatten", ["maps"], "inner"), node("Sub", ["inner", "plus"], "result")],
            "result",
            {"plus": weights((1, CHANNELS * 49), 9)},
        )
        return between(
            [*before, node("If", [condition], "flat", then_branch=taken, else_branch=other)], stored, batch=batch
        )

    @pytest.mark.parametrize("which", [True, False])
    @pytest.mark.parametrize("nested", [False, True])
    def test_a_stored_condition(self, tmp_path, which, nested):
        model = self.network("c", stored={"c": np.array(which)}, nested=nested)
        network = assert_comes_in(model, tmp_path)
        assert "If" not in {part.op_type for part in network.model.graph.node}
        assert any("branches (If) with a constant condition are decided" in remark for remark in network.remarks)

    @pytest.mark.parametrize("rank", [4, 3])
    def test_a_condition_on_the_rank(self, tmp_path, rank):
        before = [
            *(node("Shape", ["maps"], "sizes"), node("Size", ["sizes"], "rank")),
            node("Equal", ["rank", "asked"], "c"),
        ]
        assert_comes_in(self.network("c", before, {"asked": np.array(rank, np.int64)}), tmp_path)

    def test_a_condition_on_the_number_of_faces(self, tmp_path):
        """The branch of a single face is taken, and what follows from it is followed."""
        before = [
            node("Shape", ["maps"], "sizes"),
            node("Gather", ["sizes", "zero"], "count", axis=0),
            node("Equal", ["count", "one"], "c"),
        ]
        stored = {"zero": np.array(0, np.int64), "one": np.array(1, np.int64)}
        network = assert_comes_in(self.network("c", before, stored), tmp_path, batch=1)
        assert "depends on the number of faces" in network.origin["faces in a run"]

    def test_a_condition_on_the_picture(self, tmp_path):
        before = [node("ReduceMax", ["maps"], "most", keepdims=0), node("Greater", ["most", "limit"], "c")]
        with pytest.raises(ExportError, match=r"node flat \(If\) of .* chooses a branch by the picture"):
            brought_in(self.network("c", before, {"limit": np.array(0.5, np.float32)}), tmp_path)

    def test_a_training_flag(self, tmp_path):
        model = self.network("training")
        model.graph.input.append(value("training", [], TensorProto.BOOL))
        with pytest.raises(ExportError, match="--set-input training=0"):
            brought_in(model, tmp_path)
        _, made = brought_in(model, tmp_path, choices=Choices(set_inputs={"training": 0}))
        np.testing.assert_allclose(made, expected(model, extra={"training": np.array(False)}), atol=2e-5)

    def test_loops_are_refused(self, tmp_path):
        body = helper.make_graph(
            [node("Identity", ["go"], "on"), node("Add", ["v", "v"], "w")],
            "body",
            [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("v", None)],
            [value("on", [], TensorProto.BOOL), value("w", None)],
        )
        nodes = [node("Flatten", ["maps"], "start"), node("Loop", ["n", "", "start"], "flat", body=body)]
        with pytest.raises(BundleError, match="subgraph"):
            brought_in(between(nodes, {"n": np.array(2, np.int64)}), tmp_path)


def _tensor(array):
    return onnx.numpy_helper.from_array(np.array(array))


def function(name, nodes, inputs=("a",), outputs=("b",), attributes=()):
    return helper.make_function(
        "theirs", name, inputs, outputs, nodes, [helper.make_opsetid("", 17), LOCAL], attributes
    )


LOCAL = helper.make_opsetid("theirs", 1)


class TestFunctions:
    """Those of the file, and operators that ONNX defines by others."""

    def test_functions_of_the_file(self, tmp_path):
        inner = function("Twice", [node("Add", ["a", "a"], "b")])
        call = node("Twice", ["a"], "t", domain="theirs")
        outer = function("Flat", [call, node("Flatten", ["t"], "b")])
        nodes = [node("Flat", ["maps"], "flat", domain="theirs")]
        assert_comes_in(between(nodes, functions=[inner, outer], imports=[LOCAL]), tmp_path)

    def test_functions_that_call_themselves_or_grow(self):
        again = function("Again", [node("Again", ["a"], "b", domain="theirs")])
        use = [node("Again", ["maps"], "flat", domain="theirs")]
        with pytest.raises(ExportError, match="function Again of the network calls itself"):
            inline_local(between(use, functions=[again], imports=[LOCAL]))
        ping = function("Ping", [node("Pong", ["a"], "b", domain="theirs")])
        pong = function("Pong", [node("Ping", ["a"], "b", domain="theirs")])
        with pytest.raises(ExportError, match="calls itself"):
            inline_local(between([node("Ping", ["maps"], "flat", domain="theirs")], functions=[ping, pong]))
        # 2 to the power of 40 nodes in a file of some kilobytes.
        doubling = [function("F0", [node("Relu", ["a"], "b")])]
        for level in range(1, 41):
            calls = [
                node(f"F{level - 1}", ["a"], "t", domain="theirs"),
                node(f"F{level - 1}", ["t"], "b", domain="theirs"),
            ]
            doubling.append(function(f"F{level}", calls))
        with pytest.raises(ExportError, match=r"make [0-9]{13} nodes, more than"):
            inline_local(between([node("F40", ["maps"], "flat", domain="theirs")], functions=doubling))

    @staticmethod
    def tokens(nodes, stored=None, opset=23):
        before = [
            node("Reshape", ["maps", "to_row"], "row"),
            node("Transpose", ["row"], "t", perm=[0, 2, 1]),
        ]
        after = [node("ReduceMean", ["u", "first"], "flat", keepdims=0)]
        stored = {"to_row": np.array([0, CHANNELS, 49], np.int64), "first": np.array([1], np.int64)} | (stored or {})
        return between([*before, *nodes, *after], stored, width=CHANNELS, opset=opset, ir=11, batch="n")

    @pytest.mark.parametrize(
        ("name", "nodes", "opset"),
        [
            ("Attention", [node("Attention", ["t", "t", "t"], "u", q_num_heads=2, kv_num_heads=2)], 23),
            ("Attention", [node("Attention", ["t", "t", "t"], "u", q_num_heads=4, kv_num_heads=4)], 24),
            ("RMSNormalization", [node("RMSNormalization", ["t", "gain"], "u", axis=-1)], 23),
            ("Swish", [node("Swish", ["t"], "u", alpha=1.5)], 24),
            ("Swish", [node("Swish", ["t"], "u")], 24),
            (
                "RotaryEmbedding",
                [node("RotaryEmbedding", ["t", "cos", "sin", "ids"], "u", num_heads=2)],
                23,
            ),
        ],
    )
    def test_operators_of_late_opsets(self, tmp_path, name, nodes, opset):
        stored = {
            "gain": weights((CHANNELS,), 3, 1.0),
            "cos": weights((49, CHANNELS // 4), 4, 1.0),
            "sin": weights((49, CHANNELS // 4), 5, 1.0),
            "ids": np.arange(49)[None],
        }
        used = {key: array for key, array in stored.items() if any(key in part.input for part in nodes)}
        if name == "RotaryEmbedding":  # its places are those of one face
            model = self.tokens(nodes, used)
            for entry in (*model.graph.input, *model.graph.output):
                entry.type.tensor_type.shape.dim[0].dim_value = 1
        else:
            model = self.tokens(nodes, used, opset)
        network, made = brought_in(model, tmp_path)
        np.testing.assert_allclose(made, expected(model), atol=3e-5)
        assert any(f"{name} written out" in remark for remark in network.remarks)
        assert name not in {part.op_type for part in network.model.graph.node}

    def test_nothing_is_decomposed_that_is_known(self):
        model = between([FLAT])
        assert decompose(model) == (model, ())

    def test_an_operator_that_the_asked_opset_lacks(self, tmp_path):
        nodes = [node("Gelu", ["maps"], "bent", approximate="tanh"), node("Flatten", ["bent"], "flat")]
        network = assert_comes_in(between(nodes, opset=20, ir=9), tmp_path)
        said = [remark for remark in network.remarks if "opset" in remark]
        assert said == ["the network goes out at opset 20, which it has, instead of 18: opset 18 has no Gelu"]
        assert network.model.opset_import[0].version == 20

    @pytest.mark.parametrize("opset", [19, 21, 22, 24, 25])
    def test_late_opsets_come_down(self, tmp_path, opset):
        network = assert_comes_in(between([FLAT], opset=opset, ir=11), tmp_path)
        assert network.model.opset_import[0].version == 18 or any("goes out at" in r for r in network.remarks)

    def test_what_no_definition_is_known_of(self, tmp_path):
        nodes = [node("Det", ["maps"], "d"), node("Flatten", ["d"], "flat")]
        with pytest.raises(BundleError, match="uses the operator Det"):
            brought_in(between(nodes, width=CHANNELS), tmp_path)


def test_the_reference_is_the_file_itself(tmp_path):
    """What the export is compared with gives what onnxruntime gives on the file."""
    model = between([FLAT])
    network, _ = brought_in(model, tmp_path)
    from edgeface.export.importing.running import probe_faces

    np.testing.assert_allclose(network.reference(probe_faces()), expected(model), atol=1e-6)
    assert original(model, {"x": np.zeros((1, 3, 112, 112), np.float32)}).shape == (1, DIMENSION)
    assert re.fullmatch("[0-9a-f]{64}", str(network.origin["sha256"]))
