"""`--task detect`: train, eval and export of a face detector on a handful of drawn scenes."""

import io
import json
import tarfile

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.data.detection import Labelled, open_detection_set
from edgeface.errors import BundleError, ConfigError, ExportError
from edgeface.evaluation.detection import DetectorReport, Operation, evaluate_detector, evaluate_file, landmark_offsets
from edgeface.export import detector_int8
from edgeface.export.cleaning import serialize
from edgeface.export.detector import export_detector
from edgeface.export.detector_int8 import DetectorBounds, calibration_frames, quantize_detector
from edgeface.export.quantization.targets import resolve_target
from edgeface.images import encode_image
from edgeface.runtime.bundle import BUILT_IN_DETECTOR
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.detection.detector import FixedDetector, open_detector
from edgeface.runtime.detection.edge_detector import EdgeDetector
from edgeface.runtime.providers.session import open_session
from edgeface.runtime.signature import KEY_VARIABLE
from edgeface.training.detection.checkpoint import load_detector
from edgeface.training.detection.scenes import drawn_scenes

TINY = ["--set", "model.widths=[8,8,16,16,16]", "--set", "model.neck=16", "--set", "data.scenes=3"]
SHORT = ["--set", "run.steps=2", "--set", "run.side=64", "--batch-size", "2", "--set", "run.threads=1"]


def write_folder(folder, scenes, first_val):
    folder.mkdir()
    lines = []
    for split, part in (("train", scenes[:first_val]), ("val", scenes[first_val:])):
        with tarfile.open(folder / f"detect-{split}.tar", "w") as tar:
            for index, picture in enumerate(part):
                encoded = encode_image(picture.image, ".png")
                member = tarfile.TarInfo(f"{split}{index}.png")
                member.size = len(encoded)
                tar.addfile(member, io.BytesIO(encoded))
                faces = [
                    {"box": box.tolist(), "landmarks": points.tolist()}
                    for box, points in zip(picture.boxes, picture.landmarks, strict=True)
                ]
                lines.append({"file": member.name, "split": split, "faces": faces})
    (folder / "detect.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detect") / "data"
    write_folder(folder, drawn_scenes(14, seed=4), 6)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    """A run folder that the command made."""
    out = tmp_path_factory.mktemp("detect") / "run"
    result = invoke("train", "--task", "detect", "--data", data, "--out", out, *TINY, *SHORT, "--json")
    facts = json.loads(result.stdout)
    assert facts["run"] == str(out) and facts["steps"] == 2 and facts["pictures"] == 8
    return out


@pytest.fixture(scope="module")
def fp32(run):
    network, info = load_detector(run)
    return export_detector(network, min_score=0.5, max_face=info.max_face)


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def complaint(*arguments):
    """Return the only line of an error."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code != 0
    return str(result.exception) if not result.stderr else result.stderr.strip().splitlines()[-1]


def test_a_run_is_resumed_by_the_command(run, data, tmp_path):
    out = tmp_path / "run"
    invoke("train", "--task", "detect", "--data", data, "--out", out, *TINY, *SHORT, "--quiet")
    again = invoke("train", "--task", "detect", "--data", data, "--out", out, *TINY, *SHORT, "--resume")
    assert "next: edgeface export" in again.stdout
    first, second = load_detector(run)[0].state_dict(), load_detector(out)[0].state_dict()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--task", "detect", "--data", "DATA", "--loss", "arcface"], "--loss means nothing to --task detect"),
        (["train", "--task", "detect", "--data", "DATA", "--nproc", "2"], "--nproc means nothing to --task detect"),
        (["train", "--task", "detect", "--data", "DATA", "--set", "run.epochs=3"], "unknown config key 'run.epochs'"),
        (["train", "--task", "detect", "--data", "DATA", "--recipe", "demo"], "is for --task embed"),
        (["train", "--task", "find", "--data", "DATA"], "unknown task 'find'; choose one of: detect, embed"),
        (["train", "--task", "detect"], "needs labelled pictures: give --data FOLDER"),
        (["train", "--task", "detect", "--data", "EMPTY"], "detect.jsonl"),
        (["eval", "RUN", "--task", "detect"], "needs labelled pictures"),
        (["eval", "RUN", "--task", "detect", "--data", "DATA", "--identify", "drawn"], "--identify means nothing"),
        (["eval", "gone.onnx", "--task", "detect", "--data", "DATA"], "no detector gone.onnx"),
        (["eval", "EMPTY", "--task", "detect", "--data", "DATA"], "no detector checkpoint"),
        (["eval", "default", "--data", "DATA", "--max-side", "320"], "--max-side means nothing to --task embed"),
        (["export", "RUN", "--out", "x.onnx", "--calibration", "DATA", "--fmr", "1"], "--fmr means nothing"),
        (["export", "RUN", "--out", "x", "--calibration", "DATA"], "should end in .onnx"),
        (
            ["export", "RUN", "--out", "x.onnx", "--calibration", "DATA", "--precision", "fp16"],
            "precision of a detector",
        ),
        (["export", "--task", "detect", "--out", "x.onnx", "--calibration", "DATA"], "takes the run folder"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(run, data, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    places = {"DATA": data, "RUN": run, "EMPTY": tmp_path}
    assert message in complaint(*(places.get(argument, argument) for argument in arguments))
    assert not list(tmp_path.iterdir())


def test_eval_measures_run_folders_and_files_alike(run, fp32, data, tmp_path):
    file = tmp_path / "same.onnx"
    file.write_bytes(serialize(fp32))
    common = ["--task", "detect", "--data", data, "--max-side", "320"]
    folder, onnx_file = (json.loads(invoke("eval", model, *common, "--json").stdout) for model in (run, file))
    assert folder["average_precision"] == pytest.approx(onnx_file["average_precision"], abs=1e-6)
    assert folder["recall"] == onnx_file["recall"] and folder["advised"] is None
    assert onnx_file["advised"]["min_score"] == 0.5


def test_eval_of_the_built_in_detector_beside_another(run, data):
    table = invoke("eval", BUILT_IN_DETECTOR, "--task", "detect", "--data", data, "--against", run).stdout
    assert "detector.onnx" in table and "landmark error" in table and "nose" in table
    facts = json.loads(
        invoke(
            *("eval", BUILT_IN_DETECTOR, "--task", "detect", "--data", data, "--split", "train", "--against", run),
            "--json",
        ).stdout
    )
    assert facts["pictures"] == 6 and facts["against"]["recall"] <= facts["recall"]
    assert facts["recall"] > 0.8 and np.shape(facts["landmark_bias"]) == (5, 2)


def test_a_constant_offset_shows_in_the_bias():
    box = np.array([[10, 20, 40, 50]], np.float32)
    points = np.array([[[20, 35], [40, 35], [30, 45], [22, 58], [38, 58]]], np.float32)
    picture = Labelled(np.zeros((96, 96, 3), np.uint8), box, points, np.ones(1, np.float32))
    found = Detections(box, np.array([0.9], np.float32), points + np.array([1, -2], np.float32))
    report = evaluate_detector(FixedDetector(found), [picture] * 3, advised=0.95)
    assert report.landmark_bias == [[0.05, -0.1]] * 5 and report.landmark_spread == [[0, 0]] * 5
    assert report.landmark_error == pytest.approx(np.hypot(1, 2) / 20)
    assert report.advised == Operation(0.95, recall=0.0, false_positives=0.0)
    np.testing.assert_allclose(landmark_offsets(found.landmarks[0], points[0]), [[0.05, -0.1]] * 5, rtol=1e-6)


def test_false_positives_count_at_the_advised_score():
    box = np.array([[10, 20, 40, 50]], np.float32)
    points = np.zeros((1, 5, 2), np.float32)
    picture = Labelled(np.zeros((96, 96, 3), np.uint8), box, points, np.ones(1, np.float32))
    boxes = np.array([[10, 20, 40, 50], [50, 60, 20, 30], [1, 1, 10, 10]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.7, 0.3], np.float32), np.repeat(points, 3, axis=0))
    report = evaluate_detector(FixedDetector(found), [picture] * 2, advised=0.5)
    assert report.advised == Operation(0.5, recall=1.0, false_positives=1.0)


def test_export_writes_both_precisions(run, data, tmp_path):
    out = tmp_path / "made.onnx"
    facts = json.loads(
        invoke(
            *("export", run, "--out", out, "--calibration", data, "--calibration-images", "16", "--max-drop", "90"),
            *("--target", "x86-vnni", "--min-score", "0.4", "--json"),
        ).stdout
    )["precisions"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.fp32.onnx", "made.int8.onnx"]
    for precision in ("fp32", "int8"):
        file = tmp_path / f"made.{precision}.onnx"
        assert facts[precision]["bytes"] == file.stat().st_size
        opened = open_detector(file.read_bytes(), provider="cpu")
        assert isinstance(opened, EdgeDetector) and opened.settings.min_score == 0.4
        assert opened.max_face == load_detector(run)[1].max_face
        opened.detect(np.zeros((70, 150, 3), np.uint8))
    assert facts["int8"]["quantization"]["activations"] == "uint8 asymmetric"


def report(recall, error=0.05):
    """A report of nothing but the two figures that bounds look at."""
    return DetectorReport(100, 100, recall, 0.5, recall, error, [], [])


def test_the_bounds_look_at_recall_and_landmarks(data):
    bounds = DetectorBounds(open_detection_set(data, "val"), max_drop=1.0)
    assert bounds.judge(report(0.99), report(0.98))[0] and bounds.judge(report(0.9), report(0.99))[0]
    assert not bounds.judge(report(0.99), report(0.97))[0]
    assert bounds.judge(report(0.99), report(0.99, 0.0524))[0]
    assert not bounds.judge(report(0.99), report(0.99, 0.0526))[0]
    assert not bounds.judge(report(0.99), report(0.99, None))[0]
    assert bounds.judge(report(0.99, None), report(0.99, None))[0]
    with pytest.raises(ConfigError, match="--max-drop"):
        DetectorBounds(open_detection_set(data, "val"), max_drop=-1)


def test_int8_says_nearly_the_same_on_frames_of_any_size(fp32, data, monkeypatch):
    monkeypatch.setattr(detector_int8, "evaluate_file", lambda *_: report(0.9))
    monkeypatch.setattr(detector_int8, "_speed", lambda *_: "as fast as it may be")
    frames = calibration_frames(open_detection_set(data, "train"), 16)
    assert frames.shape == (16, 320, 320, 3)
    bounds = DetectorBounds(open_detection_set(data, "val"))
    made = quantize_detector(fp32, frames, resolve_target("x86-vnni"), "minmax", bounds, report(0.9))
    quantized = onnx.load_model_from_string(made.data)
    convolutions = [node for node in quantized.graph.node if node.op_type == "Conv"]
    assert not convolutions[0].input[0].endswith(".dq")  # of the picture itself
    assert sum(".dq" in node.input[0] for node in convolutions) >= 20
    before, after = (open_session(data, provider="cpu", threads=1) for data in (serialize(fp32), made.data))
    assert before.metadata == after.metadata
    frame = np.random.default_rng(1).integers(0, 256, (1, 96, 192, 3), np.uint8)
    for name, want, got in zip(before.outputs, before.run({"frame": frame}), after.run({"frame": frame}), strict=True):
        assert want.shape == got.shape
        assert np.corrcoef(want.ravel(), got.ravel())[0, 1] > 0.98 or np.abs(want - got).max() < 0.1, name


def test_layers_become_float_until_the_bounds_hold(fp32, data, monkeypatch):
    monkeypatch.setattr(detector_int8, "_speed", lambda *_: "")
    tried = []

    def judged_by_size(file, *_):
        kinds = [node.op_type for node in onnx.load_model_from_string(file).graph.node]
        tried.append(kinds.count("QuantizeLinear"))
        return report(0.9 if tried[-1] <= limit else 0.5)

    monkeypatch.setattr(detector_int8, "evaluate_file", judged_by_size)
    frames = calibration_frames(open_detection_set(data, "train"), 16)
    bounds, target = DetectorBounds(open_detection_set(data, "val")), resolve_target("x86-vnni")
    limit = 12
    made = quantize_detector(fp32, frames, target, "minmax", bounds, report(0.9))
    assert made.report.recall == 0.9 and 2 < len(made.record.float_nodes) < 40 and max(tried) > limit
    limit = -1
    with pytest.raises(ExportError, match=r"even with every layer in float: 40\.00 points of recall lost"):
        quantize_detector(fp32, frames, target, "minmax", bounds, report(0.9))
    with pytest.raises(ExportError, match="at least 16"):
        quantize_detector(fp32, frames[:3], target, "minmax", bounds, report(0.9))


def test_any_known_detector_is_evaluated_and_nothing_else(fp32, data):
    pictures = open_detection_set(data, "val")
    assert evaluate_file(serialize(fp32), pictures, 320).pictures == 8
    stripped = onnx.ModelProto()
    stripped.CopyFrom(fp32)
    del stripped.metadata_props[:]
    with pytest.raises(BundleError, match="not a face detector"):
        evaluate_file(stripped.SerializeToString(), pictures, 320)


def test_a_device_that_requires_signed_bundles_measures_no_loose_detector(data, tmp_path, monkeypatch):
    invoke("bundle", "keygen", tmp_path / "a.key")
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "a.key.pub"))
    monkeypatch.setattr("edgeface.evaluation.detection.open_detector", lambda *_, **__: pytest.fail("opened"))
    assert "loose ONNX file" in complaint("eval", BUILT_IN_DETECTOR, "--task", "detect", "--data", data)
