"""Timing on the device: what is measured, what is said of int8, and what `auto` takes afterwards."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.errors import BundleError, ConfigError, ProviderError, UnknownNameError
from edgeface.runtime import bench
from edgeface.runtime.batches import BatchGain, race_batches
from edgeface.runtime.bench import measure
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import MAX_BATCH, bundle_embedder
from edgeface.runtime.measurements import Verdict
from edgeface.runtime.placement import Placement, causes, placement, processor_instructions
from edgeface.runtime.speed import fastest, fastest_batch, recall, remember
from tests.test_runtime_bundle import write_bundle

FRAME = np.full((160, 200, 3), 100, np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def opened(tmp_path):
    return open_bundle(write_bundle(tmp_path / "b"))


def quantized(middle):
    """x -> quantized convolution -> `middle` in float -> convolution in float -> y."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.integers(-9, 9, (4, 3, 3, 3), np.int8), "w8")
    constants = [
        numpy_helper.from_array(np.array(0.1, np.float32), "s"),
        numpy_helper.from_array(np.array(0, np.uint8), "zx"),
        numpy_helper.from_array(np.array(0, np.int8), "zw"),
        weight,
        numpy_helper.from_array(rng.random((2, 4, 1, 1), np.float32), "w"),
        numpy_helper.from_array(np.full((4, 1, 1), 0.2, np.float32), "slope"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "zx"], ["xq"], "q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "zx"], ["xd"], "d"),
        helper.make_node("DequantizeLinear", ["w8", "s", "zw"], ["wd"], "dw"),
        helper.make_node("Conv", ["xd", "wd"], ["c"], "first"),
        helper.make_node("QuantizeLinear", ["c", "s", "zx"], ["cq"], "q2"),
        helper.make_node("DequantizeLinear", ["cq", "s", "zx"], ["cd"], "d2"),
        *middle,
        helper.make_node("Conv", ["m", "w"], ["y"], "last"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, 6, 6))]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("middle", "prelus"),
    [
        ([helper.make_node("PRelu", ["cd", "slope"], ["m"], "p")], 1),
        ([helper.make_node("Sigmoid", ["cd"], ["m"], "s1")], 0),
    ],
)
def test_placement_tells_int8_from_float(middle, prelus):
    found = placement(quantized(middle), "toy")
    assert (found.int8, found.floats, found.prelus) == (1, ("last",), prelus)
    assert found.conversions == 2


def test_placement_refuses_what_is_no_network():
    with pytest.raises(BundleError):
        placement(b"nothing", "toy")


def test_causes():
    nothing = Placement(int8=9, floats=(), prelus=0, conversions=2)
    assert causes(nothing, frozenset({"avx2", "avx512_vnni"})) == ()
    assert causes(nothing, frozenset()) == ()  # not known is not missing
    assert "no 8-bit dot product" in causes(nothing, frozenset({"avx2"}))[0]
    floats = tuple(f"conv{i}" for i in range(10))
    said = causes(Placement(int8=30, floats=floats, prelus=33, conversions=50), frozenset({"asimddp"}))
    assert said[0].startswith("33 PReLUs run in float")
    assert said[1] == ("10 of 40 layers run in float: conv0, conv1, conv2, conv3, conv4, conv5, conv6, conv7, ...")
    assert "50 conversions" in said[2]


@pytest.mark.parametrize(
    ("ratio", "says"),
    [
        (2.0, "int8 is 2.00 times as fast as fp32 on cpu with 1 thread"),
        (1.02, "int8 is no faster than fp32 on cpu with 1 thread (1.02 of its speed): slow"),
        (0.6, "int8 is slower than fp32 on cpu with 1 thread (0.60 of its speed): slow"),
    ],
)
def test_verdict(ratio, says):
    assert str(Verdict("cpu", 1, "fp32", ratio, ("slow",) if ratio < 1.05 else ())) == says


def slower(embedders):
    return tuple(BatchGain(name, "cpu", 6, ratio) for name, ratio in zip(embedders, (0.5, 1.1), strict=True))


@pytest.mark.parametrize(
    ("ratio", "says", "batch"),
    [
        (1.5, "6 faces in one run are 1.50 times as fast as one by one", None),
        (1.2, "are little faster than one by one (1.20 times the speed): one face keeps the processor busy", None),
        (1.0, "are no faster than one by one (1.00 times", None),
        (0.8, "are slower than one by one (0.80 times", 1),
    ],
)
def test_what_a_batch_gains(ratio, says, batch):
    gain = BatchGain("fp32", "cpu", 6, ratio)
    assert says in str(gain) and gain.batch == batch


def watched_batches(embedder, monkeypatch):
    """Return a list that gets the number of faces of each run from now on."""
    shapes, plain = [], embedder.session.run

    def noted(feeds):
        shapes.append(len(feeds["faces"]))
        return plain(feeds)

    monkeypatch.setattr(embedder.session, "run", noted)
    return shapes


def test_a_race_runs_all_faces_both_ways(opened, monkeypatch):
    embedder, _ = bundle_embedder(opened, precision="fp32", provider="cpu")
    shapes = watched_batches(embedder, monkeypatch)
    (gain,) = race_batches({"fp32": embedder}, 2)
    assert shapes == [*[1] * 6, 6] * 4 and gain.ratio > 0


def test_processor_instructions():
    assert all(name == name.strip() and " " not in name for name in processor_instructions())


class TestMeasure:
    def test_rows(self, opened):
        result = measure(opened, FRAME, providers=["cpu"], threads=[1, 2], runs=10)
        embeds = [(row.precision, row.threads) for row in result.rows if row.stage == "embed"]
        assert embeds == [("fp32", 1), ("int8", 1), ("fp32", 2), ("int8", 2)]
        assert [row.stage for row in result.rows if row.stage != "embed"] == ["align"]  # the bundle has no detector
        assert all(0 < row.p50_ms <= row.p95_ms <= row.p99_ms for row in result.rows)
        assert [(v.provider, v.threads, v.against) for v in result.verdicts] == [("cpu", 1, "fp32"), ("cpu", 2, "fp32")]
        assert set(recall(opened.manifest)) == {"fp32", "int8"}
        assert result.auto == opened.resolve_precision("auto")

    def test_batches(self, opened, monkeypatch):
        monkeypatch.setattr(bench, "race_batches", lambda embedders, rounds, advance: slower(embedders))
        result = measure(opened, FRAME, providers=["cpu"], runs=10)
        assert [str(gain).split(":")[0] for gain in result.batches] == ["fp32 on cpu", "int8 on cpu"]
        assert [fastest_batch(opened.manifest, name) for name in ("fp32", "int8", "fp16")] == [1, None, None]
        embedder, _ = bundle_embedder(opened, precision="fp32", provider="cpu")
        shapes = watched_batches(embedder, monkeypatch)
        embedder.embed(np.zeros((3, 112, 112, 3), np.uint8))
        assert shapes == [1, 1, 1]
        assert bundle_embedder(opened, precision="int8", provider="cpu")[0].most == MAX_BATCH

    def test_each_round_runs_everything_once(self, opened, monkeypatch):
        order = []
        plain = bench._candidate

        def watched(stage, precision, *rest):
            candidate = plain(stage, precision, *rest)
            work = candidate.work

            def noted():
                order.append(precision or stage)
                work()

            candidate.work = noted
            return candidate

        monkeypatch.setattr(bench, "_candidate", watched)
        measure(opened, FRAME, providers=["cpu"], runs=10)
        assert order[-30:] == ["fp32", "int8", "align"] * 10

    def test_a_part_is_not_remembered(self, opened):
        measure(opened, FRAME, providers=["cpu"], precisions=["fp32"], runs=10)
        assert recall(opened.manifest) == {}

    def test_what_does_not_work_is_skipped_unless_it_was_named(self, opened):
        result = measure(opened, FRAME, runs=10)
        assert any("cuda" in reason for reason in result.skipped)
        with pytest.raises(ProviderError, match="cuda"):
            measure(opened, FRAME, providers=["cuda"], runs=10)

    def test_mistakes(self, opened):
        with pytest.raises(ConfigError, match="got 9, 1"):
            measure(opened, FRAME, runs=9)
        with pytest.raises(UnknownNameError, match="unknown provider 'gpu'"):
            measure(opened, FRAME, providers=["gpu"])
        with pytest.raises(BundleError, match="has no fp16"):
            measure(opened, FRAME, precisions=["fp16"], runs=10)


class TestSpeed:
    def test_auto_takes_what_is_fastest_here(self, opened):
        assert fastest(opened.manifest) == "int8"  # where it was exported
        remember(opened.manifest, {"fp32": 1.0, "int8": 2.0})
        assert opened.resolve_precision("auto") == "fp32"
        assert opened.resolve_precision("int8") == "int8"

    def test_another_bundle_is_another_measurement(self, opened, tmp_path):
        remember(opened.manifest, {"fp32": 1.0, "int8": 2.0})
        other = open_bundle(write_bundle(tmp_path / "other", name="other"))
        assert other.resolve_precision("auto") == "int8"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            '{"version": 0}',
            '{"version": 2, "embed_ms": {"fp32": "x"}}',
            '{"version": 2, "embed_ms": 3, "batches": []}',
        ],
    )
    def test_a_broken_file_counts_for_nothing(self, opened, text):
        remember(opened.manifest, {"fp32": 1.0, "int8": 2.0}).write_text(text)
        assert opened.resolve_precision("auto") == "int8"
        assert fastest_batch(opened.manifest, "fp32") is None

    def test_precisions_that_are_gone_do_not_count(self, opened):
        remember(opened.manifest, {"fp16": 0.5, "int8": 2.0, "fp32": 3.0})
        assert recall(opened.manifest) == {"int8": 2.0, "fp32": 3.0}


def test_command(tmp_path):
    path = write_bundle(tmp_path / "b")
    options = ["bench", "--bundle", str(path), "--provider", "cpu", "--runs", "10"]
    result = CliRunner().invoke(app, [*options, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {row["precision"] for row in report["rows"] if row["stage"] == "embed"} == {"fp32", "int8"}
    assert report["int8"][0]["says"].startswith("int8 is ")
    assert report["device"]["onnxruntime"]
    table = CliRunner().invoke(app, [*options, "-q"])
    assert "--precision auto takes " in table.stdout
    mistake = CliRunner().invoke(app, [*options, "--threads", "two"])
    assert mistake.exit_code == 1
    assert "--threads takes numbers, such as 1,2; got 'two'" in mistake.output
