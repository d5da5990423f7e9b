"""Networks that somebody quantized already: they go in as what they are."""

import json
import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from edgeface.errors import ConfigError, ExportError
from edgeface.export.importing.quantized import quantized_form
from edgeface.export.importing.running import probe_faces
from edgeface.export.pipeline import ExportSettings, fit_settings
from edgeface.export.quantization.layers import find_layers
from edgeface.images import write_image
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import bundle_embedder
from tests.foreign_networks import CHANNELS, PLAIN, assert_comes_in, between, brought_in, expected, node, weights
from tests.test_cli import fails, run
from tests.test_export import smooth_pictures

OPTIONS = ["--input-layout", "nchw", "--channel-order", "rgb", "--mean", "127.5", "--scale", "0.0078125"]


class Faces(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self):
        self.left = iter(PLAIN.apply(face[None]) for face in probe_faces(8))

    def get_next(self):
        batch = next(self.left, None)
        return None if batch is None else {"x": batch}


@pytest.fixture(scope="module")
def floating(tmp_path_factory):
    """Convolution, sum, product, sigmoid, concatenation, pool and matrix product."""
    nodes = [
        node("Conv", ["maps", "w"], "a", kernel_shape=[1, 1]),
        node("Sigmoid", ["a"], "gate"),
        node("Mul", ["a", "gate"], "b"),
        node("Add", ["b", "maps"], "c"),
        node("LeakyRelu", ["c"], "d", alpha=0.1),
        node("Concat", ["d", "maps"], "e", axis=1),
        node("GlobalAveragePool", ["e"], "f"),
        node("Flatten", ["f"], "flat"),
    ]
    model = between(nodes, {"w": weights((CHANNELS, CHANNELS, 1, 1), 4)}, width=2 * CHANNELS, batch="n")
    path = tmp_path_factory.mktemp("float") / "net.onnx"
    onnx.save(model, path)
    return path


def quantized(floating, kind, **options):
    path = floating.with_name(f"{kind}-{'-'.join(map(str, options.values()))}.onnx")
    logging.disable(logging.WARNING)
    try:
        if kind == "dynamic":
            quantize_dynamic(floating, path, weight_type=QuantType.QUInt8)
        else:
            form = QuantFormat.QDQ if kind == "qdq" else QuantFormat.QOperator
            quantize_static(floating, path, Faces(), quant_format=form, **options)
    finally:
        logging.disable(logging.NOTSET)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "options", "form"),
    [
        ("qdq", {}, "static int8 (QDQ form)"),
        ("qdq", {"per_channel": True}, "static int8 (QDQ form)"),
        ("operators", {}, "static int8 (QOperator form)"),
        ("operators", {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}, "static int8 (QOperator"),
        ("dynamic", {}, "dynamic int8"),
    ],
)
def test_what_is_int8_stays_as_it_is(floating, tmp_path, kind, options, form):
    path = quantized(floating, kind, **options)
    model = onnx.load(path)
    domains = {part.domain for part in model.graph.node}
    assert kind != "operators" or "com.microsoft" in domains  # onnxruntime's own operators are met, too
    network = assert_comes_in(model, tmp_path, batch=1 if kind == "dynamic" else None, tolerance=0.02)
    assert network.quantized and form in network.origin["quantized"]
    assert {part.domain for part in network.model.graph.node} == {""}
    held = {t.data_type for t in network.model.graph.initializer if len(t.dims) == 4}
    assert held <= {TensorProto.INT8, TensorProto.UINT8}
    if kind == "dynamic":
        assert "scales are found from all faces" in network.origin["faces in a run"]


def test_weights_alone_in_int8_are_float(tmp_path):
    """Stored small and used in float32: nothing is computed in int8."""
    for scales, zeros, attributes in (
        (np.float32(0.02), np.int8(3), {}),
        (weights((CHANNELS,), 3, 0.02), np.arange(CHANNELS).astype(np.int8), {"axis": 0}),
    ):
        stored = {
            "q": (weights((CHANNELS, CHANNELS, 1, 1), 5) * 80).astype(np.int8),
            "s": np.asarray(scales),
            "z": np.asarray(zeros),
        }
        nodes = [
            node("DequantizeLinear", ["q", "s", "z"], "w", **attributes),
            node("Conv", ["maps", "w"], "a", kernel_shape=[1, 1]),
            node("Flatten", ["a"], "flat"),
        ]
        network = assert_comes_in(between(nodes, stored, opset=13), tmp_path)
        assert not network.quantized and "DequantizeLinear" not in {part.op_type for part in network.model.graph.node}
        assert any("stored in int8 and used in float32" in remark for remark in network.remarks)


def test_float_is_not_taken_for_int8():
    model = between([node("Flatten", ["maps"], "flat")])
    assert quantized_form(model, "x") is None


def test_forms_that_no_standard_operator_has(tmp_path):
    pool = node("QLinearGlobalAveragePool", ["q", "s", "z", "s", "z"], "p", domain="com.microsoft", channels_last=1)
    nodes = [
        node("QuantizeLinear", ["maps", "s", "z"], "q"),
        pool,
        node("DequantizeLinear", ["p", "s", "z"], "r"),
        node("Flatten", ["r"], "flat"),
    ]
    stored = {"s": np.array(0.1, np.float32), "z": np.array(3, np.uint8)}
    model = between(nodes, stored, width=CHANNELS, imports=[helper.make_opsetid("com.microsoft", 1)])
    with pytest.raises(ExportError, match="works on channels last, which standard operators cannot; export QDQ"):
        brought_in(model, tmp_path)


def test_what_can_be_asked_of_it(floating, tmp_path):
    network, _ = brought_in(quantized(floating, "qdq"), tmp_path)
    told: list[str] = []
    settings = fit_settings(ExportSettings("a", precisions=("fp32", "int8")), network, told.append)
    assert settings.precisions == ("int8",) and told == ["fp32 left out: the network is in int8 already"]
    for wrong, message in (
        ({"precisions": ("fp32",)}, "is in int8 already, so it cannot be had as fp32; use --precision int8"),
        ({"finetune": 2}, "--finetune trains on many faces at once, and this network is in int8 already"),
    ):
        with pytest.raises(ConfigError, match=message):
            fit_settings(ExportSettings("a", **{"precisions": ("fp32", "int8")} | wrong), network)


@pytest.fixture
def people(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeface.export.quantization.calibration.check_aligned", lambda *_: None)  # drawn clouds
    rng = np.random.default_rng(3)
    for index, picture in enumerate(smooth_pictures()):
        noisy = np.clip(picture + rng.normal(0, 9, picture.shape), 0, 255).astype(np.uint8)
        write_image(tmp_path / "people" / f"person {index % 24}" / f"{index}.png", noisy)
    return tmp_path / "people"


def export(model, people, out, *more):
    rest = ["--calibration", people, "--data", people, "--out", out, "--detector", "none", "--fmr", "0.1", *more]
    return ["export", "--onnx", model, *OPTIONS, *rest]


def test_bundles_of_one_face_and_of_int8(floating, people, tmp_path):
    """From the command line: what cannot be freed runs for one face, and int8 is called int8."""
    mixed = [
        node("Softmax", ["maps"], "odd", axis=0),
        node("Add", ["odd", "maps"], "sum"),
        node("Flatten", ["sum"], "flat"),
    ]
    onnx.save(between(mixed), tmp_path / "one.onnx")
    made = run(*export(tmp_path / "one.onnx", people, tmp_path / "one.bundle"))
    assert made.exit_code == 0, made.output
    assert "the network takes 1 face in every run: node odd (Softmax) works along the axis of the faces" in made.stderr
    bundle = open_bundle(tmp_path / "one.bundle")
    assert list(bundle.manifest.precisions) == ["fp32", "int8"]
    assert "- faces in a run: 1: node odd (Softmax)" in bundle.read("MODEL_CARD.md").decode()
    for precision in ("fp32", "int8"):
        embedder, _ = bundle_embedder(bundle, precision=precision, provider="cpu")
        assert embedder.batch == 1
    np.testing.assert_allclose(
        bundle_embedder(bundle, precision="fp32", provider="cpu")[0].embed(probe_faces()),
        expected(onnx.load(tmp_path / "one.onnx")),
        atol=2e-5,
    )
    fails(
        "takes 1 face in every run, not 4; use --batch 1",
        *export(tmp_path / "one.onnx", people, tmp_path / "o", "--batch", "4"),
    )
    assert (
        run(*export(tmp_path / "one.onnx", people, tmp_path / "o", "--batch", "1", "--precision", "fp32")).exit_code
        == 0
    )

    path = quantized(floating, "dynamic")
    made = run(*export(path, people, tmp_path / "int8.bundle", "--json"))
    assert made.exit_code == 0, made.output
    assert list(json.loads(made.stdout)["precisions"]) == ["int8"]
    bundle = open_bundle(tmp_path / "int8.bundle")
    assert list(bundle.manifest.precisions) == ["int8"] and bundle.manifest.precisions["int8"].quantization is None
    card = bundle.read("MODEL_CARD.md").decode()
    assert "- quantized: by its maker: dynamic int8" in card and "fp32" not in card.split("## What it scores")[1]
    scores = []
    for model in ([path, *OPTIONS], [tmp_path / "int8.bundle"]):
        evaluated = run("eval", *model, "--data", people, "--json", "--bootstrap", "0")
        assert evaluated.exit_code == 0, evaluated.output
        scores.append(json.loads(evaluated.stdout)["auc"])
    assert scores[0] == pytest.approx(scores[1], abs=0.01)


def test_choices_on_the_command_line(floating, people, tmp_path):
    evaluate = ["eval", floating, *OPTIONS, "--data", people, "--bootstrap", "0"]
    assert run(*evaluate, "--output", "y").exit_code == 0
    fails("--output z: .* makes no such tensor; its outputs are y", *evaluate, "--output", "z")
    fails("NAME=NUMBER, such as is_train=0; got 'a=b'", *evaluate, "--set-input", "a=b")
    fails("has no such input, it has x", *evaluate, "--set-input", "label=0")
    fails(
        "--output and --set-input are for foreign networks", "eval", "default-edge", "--data", people, "--output", "y"
    )


def test_shape_arithmetic_that_onnxruntime_cannot_follow(tmp_path):
    """As torch writes F.normalize: the shape of the embedding, asked for in the graph, is not declared."""
    nodes = [
        *(node("ReduceMean", ["maps"], "flat", axes=[2, 3], keepdims=0),),
        *(node("Shape", ["row"], "sizes"), node("ReduceL2", ["row"], "length", axes=[-1], keepdims=1)),
        *(node("Clip", ["length", "least"], "safe"), node("Expand", ["safe", "sizes"], "lengths")),
        node("Div", ["row", "lengths"], "y"),
    ]
    model = between(nodes, {"least": np.array(1e-12, np.float32)}, width=CHANNELS, batch="n")
    parts = list(model.graph.node)
    last = next(part for part in parts if part.op_type == "Gemm")
    last.output[0] = "row"
    model.graph.node.remove(last)
    model.graph.node.insert(next(i for i, part in enumerate(parts) if part.op_type == "Shape"), last)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "Divy_dim_1"
    network, _ = brought_in(model, tmp_path)
    graph = find_layers(network.model)
    assert {layer.kind for layer in graph.layers} >= {"Conv", "Gemm"}
