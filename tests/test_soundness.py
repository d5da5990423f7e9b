"""Networks and pictures that must not become a bundle are refused in one line, and good ones are not."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeface.data import InMemoryFaces
from edgeface.data.synthetic import crops
from edgeface.errors import ExportError
from edgeface.export.graph import export_backbone
from edgeface.export.quantization.calibration import check_aligned, draw_faces
from edgeface.export.soundness import check_embedder
from edgeface.export.tracing import to_onnx
from edgeface.models import build_model
from edgeface.runtime.bundle import BUILT_IN_DETECTOR
from edgeface.runtime.detection.detector import open_detector


class WithHead(nn.Module):
    """A small embedder, and behind it what the tests add."""

    def __init__(self, head):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 16, 16)
        self.linear = nn.Linear(196, 8)
        self.head = head

    def forward(self, faces):
        return self.head(self.linear(torch.relu(self.conv(faces)).flatten(1)))


class CosineHead(nn.Module):
    """As ArcFace's: both sides of unit length."""

    def __init__(self, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 8))

    def forward(self, embeddings):
        return 64 * nn.functional.normalize(embeddings) @ nn.functional.normalize(self.weight).T


def traced(module):
    return to_onnx(module.eval(), torch.zeros(2, 3, 112, 112), inputs=["x"], outputs=["y"], dynamic={0: "batch"})


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 30)),
            "makes 30 numbers of 8: that is a loss head for 30 classes",
        ),
        (CosineHead(30), "makes 30 numbers of 8"),
        (nn.Sequential(nn.Linear(8, 5), nn.Softmax(1)), "ends in Softmax, which gives class scores"),
        (nn.Sequential(nn.ReLU(), nn.Linear(8, 5000)), "5000 classes"),
    ],
)
def test_a_loss_head_is_found(head, message):
    with pytest.raises(ExportError, match=message):
        check_embedder(traced(WithHead(head)))


@pytest.mark.parametrize("head", [nn.Identity(), nn.BatchNorm1d(8), nn.Sequential(nn.ReLU(), nn.Linear(8, 16))])
def test_embedders_pass(head):
    check_embedder(traced(WithHead(head)))


def heads(nodes, **stored):
    """A small embedder in ONNX, x -> e (N, 8), and nodes behind it that give y."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(8, 3 * 112 * 112)), "b": rng.normal(size=8), **stored}
    before = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"] if "nobias" not in stored else ["f", "w"], ["e"], transB=1),
    ]
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 112, 112]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "D"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph([*before, *nodes], "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def unit_rows(rows, width=8, seed=1):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(rows, width))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


LENGTH = [
    helper.make_node("ReduceL2", ["e"], ["l"], axes=[1], keepdims=1),
    helper.make_node("Div", ["e", "l"], ["u"]),
]
LONG_WAY = [
    helper.make_node("Pow", ["e", "two"], ["s"]),
    helper.make_node("ReduceSum", ["s", "one"], ["t"], keepdims=1),
    helper.make_node("Sqrt", ["t"], ["r"]),
    helper.make_node("Clip", ["r", "least"], ["c"]),
    helper.make_node("Reciprocal", ["c"], ["i"]),
    helper.make_node("Mul", ["e", "i"], ["u"]),
]


@pytest.mark.parametrize("length", [LENGTH, LONG_WAY, [helper.make_node("LpNormalization", ["e"], ["u"], axis=1)]])
@pytest.mark.parametrize("classes", [3, 7, 30])
def test_a_margin_head_of_few_classes_is_found(length, classes):
    """ArcFace and its kind end in cosines; what follows, a scale or the length of the embedding, hides nothing."""
    numbers = {"two": 2.0, "least": 1e-6}
    product = helper.make_node("MatMul", ["u", "h"], ["cosines"])
    scaled = helper.make_node("Mul", ["cosines", "two"], ["y"])
    model = heads([*length, product, scaled], h=unit_rows(classes).T, **numbers)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    with pytest.raises(ExportError, match=rf"makes {classes} numbers of 8: .*head for {classes} classes.*--output u "):
        check_embedder(model)
    check_embedder(model, named=True)


@pytest.mark.parametrize(
    ("nodes", "stored", "classes"),
    [
        # Directions that are divided by their length in the graph.
        (
            [
                *LENGTH,
                helper.make_node("ReduceL2", ["h"], ["hl"], axes=[1], keepdims=1),
                helper.make_node("Div", ["h", "hl"], ["hu"]),
                helper.make_node("Transpose", ["hu"], ["ht"]),
                helper.make_node("MatMul", ["u", "ht"], ["y"]),
            ],
            {"h": np.random.default_rng(3).normal(size=(5, 8))},
            5,
        ),
        # As MagFace and SphereFace scale: by the length of the embedding.
        (
            [*LENGTH, helper.make_node("MatMul", ["u", "h"], ["c"]), helper.make_node("Mul", ["c", "l"], ["y"])],
            {"h": unit_rows(5).T},
            5,
        ),
        # A linear classifier of fewer classes than dimensions.
        ([helper.make_node("Gemm", ["e", "h"], ["y"], transB=1)], {"h": np.ones((5, 8))}, 5),
    ],
)
def test_other_heads_of_few_classes(nodes, stored, classes):
    with pytest.raises(ExportError, match=f"loss head for {classes} classes"):
        check_embedder(heads(nodes, **stored))


NORM = helper.make_node("BatchNormalization", ["n", "g", "g0", "g0", "g"], ["y"])


@pytest.mark.parametrize(
    ("nodes", "stored"),
    [
        # insightface's vision transformers: product, norm, product, norm.
        (
            [helper.make_node("Gemm", ["e", "h"], ["n"], transB=1), NORM],
            {"h": np.ones((16, 8)), "g": np.ones(16), "g0": np.zeros(16)},
        ),
        # EdgeFace: one product as two of low rank.
        ([helper.make_node("Gemm", ["e", "h"], ["y"], transB=1)], {"h": np.ones((16, 8)), "nobias": 0}),
        ([helper.make_node("Gemm", ["e", "h"], ["y"], transB=1)], {"h": np.ones((4, 8)), "nobias": 0}),
        # A projection on main axes.
        ([*LENGTH, helper.make_node("MatMul", ["u", "h"], ["y"])], {"h": np.eye(8)[:, :4], "nobias": 0}),
    ],
)
def test_what_looks_like_a_head_and_is_none(nodes, stored):
    check_embedder(heads(nodes, **stored))


@pytest.mark.parametrize("name", ["logits", "output.scores", "class_scores", "net/prob", "softmax_out"])
def test_an_output_that_is_named_as_scores(name):
    model = heads([helper.make_node("Relu", ["e"], [name])])
    model.graph.output[0].name = name
    with pytest.raises(ExportError, match="is named as class scores are"):
        check_embedder(model)
    check_embedder(model, named=True)


@pytest.mark.parametrize("name", ["edgeface-xs", "mobilefacenet", "resnet-nano"])
def test_no_backbone_looks_like_a_head(name):
    check_embedder(export_backbone(build_model(name, 64).eval()))


def graph_of(nodes, stored=()):
    shape: list[str | int | None] = ["N", 3, 112, 112]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], list(stored))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_train_mode_of_old_opsets_is_found():
    """A norm that gives its statistics, too, was in train mode before opset 14."""
    stored = [numpy_helper.from_array(np.ones(3, np.float32), name) for name in ("s", "b", "m", "v")]
    for outputs, wrong in ((["y", "m2", "v2", "m3", "v3"], True), (["y"], False), (["y", "", ""], False)):
        model = graph_of([helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], outputs)], stored)
        model.opset_import[0].version = 9
        if wrong:
            with pytest.raises(ExportError, match="train mode"):
                check_embedder(model)
        else:
            check_embedder(model)


def test_train_mode_is_found():
    stored = [numpy_helper.from_array(np.ones(3, np.float32), name) for name in ("s", "b", "m", "v")]
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "m2", "v2"], "norm", training_mode=1)
    with pytest.raises(ExportError, match=r"node norm \(BatchNormalization\) is in train mode"):
        check_embedder(graph_of([node], stored))
    flags = [numpy_helper.from_array(np.array(flag), name) for name, flag in (("on", True), ("off", False))]
    ratio = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    for flag in ("on", "unknown"):
        with pytest.raises(ExportError, match="Dropout"):
            check_embedder(graph_of([helper.make_node("Dropout", ["x", "half", flag], ["y"])], [*flags, ratio]))
    check_embedder(graph_of([helper.make_node("Dropout", ["x", "half", "off"], ["y"])], [*flags, ratio]))
    check_embedder(graph_of([helper.make_node("Dropout", ["x"], ["y"])]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_found(value):
    weight = np.ones((1, 3, 1, 1), np.float32)
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    check_embedder(graph_of([node], [numpy_helper.from_array(weight, "w")]))
    weight[0, 1] = value
    with pytest.raises(ExportError, match=r"weight w \[1, 3, 1, 1\] has 1 values that are not finite"):
        check_embedder(graph_of([node], [numpy_helper.from_array(weight, "w")]))


@pytest.fixture(scope="module")
def detector():
    return open_detector(BUILT_IN_DETECTOR.read_bytes(), provider="cpu")


def test_pictures_without_faces_do_not_calibrate(detector):
    people = InMemoryFaces(*crops(20, 1, seed=3))
    check_aligned(draw_faces(people, 20), detector, "drawn")
    rng = np.random.default_rng(0)
    noise = InMemoryFaces(rng.integers(0, 256, (20, 112, 112, 3), np.uint8), np.arange(20))
    with pytest.raises(ExportError, match="calibration needs faces: in 0 of 20 pictures of noise"):
        check_aligned(draw_faces(noise, 20), detector, "noise")


def test_faces_in_another_place_do_not_calibrate(detector):
    images, labels = crops(20, 1, seed=3)
    moved = np.pad(images, ((0, 0), (12, 0), (12, 0), (0, 0)), "edge")[:, :112, :112]
    with pytest.raises(ExportError, match=r"not aligned: .* shifted by \(\+1\d, \+1\d\) px"):
        check_aligned(draw_faces(InMemoryFaces(moved, labels), 20), detector, "moved")
