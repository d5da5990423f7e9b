"""What a person sees: help, one line for each mistake, exit codes, JSON."""

import errno
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeface import __version__
from edgeface.cli import app
from edgeface.data.synthetic import crops, render_face
from edgeface.data.synthetic.identity import nth_identity
from edgeface.data.synthetic.nuisance import sample_nuisance
from edgeface.images import write_image
from edgeface.runtime.bundle import BUILT_IN_DETECTOR
from edgeface.runtime.gallery.gallery import Gallery
from tests.test_runtime_bundle import write_bundle

COMMANDS = (
    "demo",
    "train",
    "compare",
    "eval",
    "export",
    "calibrate",
    "verify",
    "enroll",
    "run",
    "bench",
    "models",
    "losses",
    "plugins",
    "schema",
    "doctor",
    "gallery",
    "bundle",
    "data",
    "liveness",
)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fails(message, *arguments):
    """The command must end with exit code 1 and one line that matches; returns that line."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "Traceback" not in result.output, result.output
    assert re.search(message, lines[0]), lines[0]
    return lines[0]


@pytest.fixture
def bundle(tmp_path):
    """A bundle with an embedder that sees colours only, and no detector."""
    return write_bundle(tmp_path / "b.bundle")


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Two pictures of one drawn person, and one of another."""
    folder = tmp_path_factory.mktemp("portraits")
    rng = np.random.default_rng(0)
    for name, person in (("a1", 1), ("a2", 1), ("b1", 2)):
        nuisance = sample_nuisance(rng, 0.3)
        write_image(folder / f"{name}.png", render_face(nth_identity(0, person), nuisance, size_wh=(320, 320)).image)
    return folder


def test_help_names_every_command():
    result = run("--help")
    assert result.exit_code == 0
    assert all(command in result.output for command in COMMANDS)
    assert run("--version").output.strip() == f"edgeface {__version__}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = run(command, "--help")
    assert result.exit_code == 0 and "Usage" in result.output


def test_an_unknown_option_is_usage():
    assert run("verify", "--no-such-option").exit_code == 2


def test_the_module_runs_too():
    done = subprocess.run(
        [sys.executable, "-m", "edgeface", "verify", "a", "b"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stderr.startswith("error: picture not found: a")
    assert done.stdout == ""


@pytest.fixture
def listing(tmp_path):
    """A command that prints a table."""
    with Gallery(tmp_path / "g.db", "space", 4, create=True) as gallery:
        gallery.add("Ada", np.eye(4, dtype=np.float32)[0])
    return ["gallery", "list", "--gallery", str(tmp_path / "g.db")]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(listing):
    command = [sys.executable, "-m", "edgeface", *listing]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    message = "error: there is no room: No space left on device; free some space and try again\n"
    assert (done.returncode, done.stderr) == (1, message)


def test_what_the_system_refuses_is_one_line(listing, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("edgeface.commands.console.table", fail)
    error: Exception = OSError(errno.ENOSPC, "No space", "somewhere")
    fails("^error: there is no room for somewhere: No space; free some space", *listing)
    error = OSError(errno.EACCES, "No right", "some\nwhere")
    fails("^error: cannot use some where: No right; check what was named, and your rights to it$", *listing)
    error = MemoryError()
    fails("not enough memory", *listing)
    error = OSError("a bug of ours")
    assert run(*listing).exception is error


def test_pictures_that_cannot_be_used(tmp_path, bundle):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a jpeg")
    write_image(tmp_path / "good.png", np.zeros((50, 50, 3), np.uint8))
    fails("picture not found", "verify", tmp_path / "none.jpg", tmp_path / "good.png", "--bundle", bundle)
    fails("not a readable picture", "verify", tmp_path / "good.png", tmp_path / "broken.jpg", "--bundle", bundle)


def test_bundles_that_cannot_be_used(tmp_path, bundle, portraits):
    pictures = [portraits / "a1.png", portraits / "a2.png"]
    fails("bundle not found", "verify", *pictures, "--bundle", tmp_path / "none")
    fails("has no face detector", "verify", *pictures, "--bundle", bundle)
    fails("has no threshold for fp32", "verify", *pictures, "--bundle", bundle, "--precision", "fp32")
    fails("provider cuda is not in", "verify", *pictures, "--bundle", bundle, "--provider", "cuda")
    data = bytearray((bundle / "int8.onnx").read_bytes())
    data[50] ^= 255
    (bundle / "int8.onnx").write_bytes(data)
    fails("int8.onnx.*was changed", "verify", *pictures, "--bundle", bundle)
    (bundle / "manifest.json").write_text("{")
    fails("not a valid manifest", "verify", *pictures, "--bundle", bundle)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "data"),
        (["train", "--data", "/no/such/folder"], "no faces at /no/such/folder"),
        (["train", "--data", ".", "--set", "run.epoch=3"], "epoch.*epochs"),
        (["train", "--data", ".", "--set", "run.epochs=many"], "run.epochs"),
        (["train", "--data", ".", "--recipe", "none"], "unknown recipe 'none'; choose one of"),
        (["eval", "/no/such/model", "--data", "."], "model not found"),
        (["eval", "."], "--data"),
        (["export", "--out", "x", "--calibration", "."], "either a run folder"),
        (["export", "/no/run", "--out", "x", "--calibration", "/no/faces"], "no faces at /no/faces"),
        (["export", "/no/run", "--out", "x", "--calibration", ".", "--fmr", "2"], "between 0 and 1"),
        (["export", "/no/run", "--out", "x", "--calibration", ".", "--detector", "/no.onnx"], "detector not found"),
        (["run", "--bundle", "x"], "either a camera"),
        (["run", "--bundle", "/no/bundle", "--camera", "0"], "bundle not found"),
        (["enroll", "bob", "--bundle", "x"], "either|give pictures"),
        (["gallery", "list", "--gallery", "/no/gallery.db"], "gallery not found"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    fails(message, *arguments)


def test_foreign_networks_need_their_whole_preprocessing(tmp_path, labelled_faces):
    arguments = ["export", "--onnx", tmp_path / "n.onnx", "--out", tmp_path / "o", "--calibration", labelled_faces]
    fails("nothing is guessed", *arguments)
    fails("missing: --channel-order, --mean", *arguments, "--input-layout", "nchw", "--scale", "1")
    whole = ["--input-layout", "nchw", "--channel-order", "rgb", "--mean", "0", "--scale", "1"]
    fails("network not found", *arguments, *whole)
    (tmp_path / "n.onnx").write_bytes(b"\x08\x08 this is no protobuf \xff\xff")
    fails("not an ONNX file", *arguments, *whole)
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def labelled_faces(tmp_path_factory):
    """Identity folders of drawn people."""
    folder = tmp_path_factory.mktemp("faces")
    images, labels = crops(8, 6, seed=5)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        write_image(folder / f"person{label}" / f"{index:03}.png", image)
    return folder


def test_eval_speaks_json(bundle, labelled_faces, tmp_path):
    result = run(
        "eval", bundle, "--data", labelled_faces, "--precision", "int8", "--json", "--plot", tmp_path / "r.png"
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert {"protocol", "pairs", "accuracy", "accuracy_se", "eer", "auc", "tar", "precision", "provider"} <= set(facts)
    assert facts["provider"] == "cpu" and facts["pairs"] > 100
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert "accuracy" in run("eval", bundle, "--data", labelled_faces).stdout


@pytest.mark.skipif(not BUILT_IN_DETECTOR.is_file(), reason="this checkout has no built-in detector")
class TestRecognition:
    """Pictures in, decisions out, with the built-in detector and the embedder that sees colours only."""

    def test_verify(self, bundle, portraits):
        options = ["--bundle", bundle, "--detector", BUILT_IN_DETECTOR, "--json"]
        result = run("verify", portraits / "a1.png", portraits / "a1.png", *options)
        same = json.loads(result.stdout)
        assert result.exit_code == 0
        assert same["same"] is True and same["score"] == pytest.approx(1) and same["why"] is None
        assert set(same) == {"schema", "same", "score", "scoring", "threshold", "fmr", "precision", "why"}
        other = run("verify", portraits / "a1.png", portraits / "b1.png", *options, "--threshold", "0.99999")
        assert other.exit_code == 3
        facts = json.loads(other.stdout)
        assert facts["same"] is False and "below the threshold" in facts["why"] and facts["fmr"] is None
        told = run("verify", portraits / "a1.png", portraits / "b1.png", *options[:-1], "--threshold", "0.99999")
        assert told.exit_code == 3 and told.stdout.startswith("two people: cosine ")

    def test_a_picture_without_a_face_and_with_several(self, bundle, portraits, tmp_path):
        from edgeface.images import read_image

        one = read_image(portraits / "a1.png")
        write_image(tmp_path / "two.png", np.hstack([one, read_image(portraits / "b1.png")]))
        write_image(tmp_path / "none.png", np.full((240, 320, 3), 90, np.uint8))
        options = ["--bundle", bundle, "--detector", BUILT_IN_DETECTOR]
        fails("no face found in .*none.png", "verify", portraits / "a1.png", tmp_path / "none.png", *options)
        fails("2 faces found in .*two.png", "verify", portraits / "a1.png", tmp_path / "two.png", *options)
        assert run("verify", portraits / "a1.png", tmp_path / "two.png", *options, "--largest").exit_code == 0

    def test_enroll_list_run_remove(self, bundle, portraits, tmp_path):
        gallery = tmp_path / "g.db"
        options = ["--bundle", bundle, "--detector", BUILT_IN_DETECTOR, "--gallery", gallery]
        pictures = ["--image", portraits / "a1.png", "--image", portraits / "a2.png"]
        assert run("enroll", "Ada", *pictures, *options).exit_code == 0
        listed = json.loads(run("gallery", "list", "--gallery", gallery, "--json").stdout)
        assert [(p["name"], p["templates"]) for p in listed["people"]] == [("Ada", 2)]

        result = run("run", "--source", portraits, *options, "--threshold", "0", "--json", "--events", tmp_path / "e")
        assert result.exit_code == 0, result.output
        *events, summary = [json.loads(line) for line in result.stdout.splitlines()]
        assert summary["event"] == "summary" and summary["frames"] == 3
        assert {"detect", "embed", "total"} <= set(summary["stage_ms"])
        assert {e["identity"] for e in events if e["event"] == "match"} == {"Ada"}
        assert [json.loads(line) for line in (tmp_path / "e").read_text().splitlines()] == events

        more = ["--events", tmp_path / "f", "--snapshots", tmp_path / "shots", "--record", tmp_path / "out.avi"]
        more += ["--on-match", "sh -c 'cat >> \"$0\"' " + str(tmp_path / "hooked")]
        result = run("run", "--source", portraits, *options, "--threshold", "0", "--json", *more)
        assert result.exit_code == 0, result.output
        *events, summary = [json.loads(line) for line in result.stdout.splitlines()]
        matches = [event for event in events if event["event"] == "match"]
        assert sorted((tmp_path / "hooked").read_text().splitlines()) == sorted(json.dumps(m) for m in matches)
        assert sorted(p.name for p in (tmp_path / "shots").iterdir()) == sorted(m["snapshot"] for m in matches)
        assert {sink["name"].split()[0]: sink["sent"] for sink in summary["sinks"]} == {
            "standard": len(events),
            "hooks": len(matches),
            "file": len(events),
            "recording": 3,
            "snapshots": len(matches),
        }
        spoken = run("run", "--source", portraits, *options, "--threshold", "0", "--events", tmp_path / "f").stdout
        assert re.search(rf"^file {tmp_path}/f +{len(events)} +0 +0 +0 +0$", spoken, re.MULTILINE), spoken

        fails("no camera|camera 7", "run", "--camera", "7", *options)
        fails("no file or folder", "run", "--source", tmp_path / "none.mp4", *options)
        fails("claim|nobody", "run", "--source", portraits, *options, "--claim", "Eve")
        fails("not a bare threshold", "run", "--source", portraits, *options, "--threshold", "0", "--decision", "llr")
        fails("cannot turn their heads", "run", "--source", portraits, *options, "--liveness", "challenge")
        assert "removed Ada" in run("gallery", "remove", "Ada", "--gallery", gallery).stdout
        result = run("run", "--source", portraits, *options)
        assert result.exit_code == 0, result.output
        assert f"nobody is enrolled in {gallery} yet" in result.stderr
        assert "3 unknown" in result.stdout
        fails("Ada", "gallery", "remove", "Ada", "--gallery", gallery)

    def test_all_pictures_are_enrolled_or_none(self, bundle, portraits, tmp_path):
        write_image(tmp_path / "none.png", np.full((240, 320, 3), 90, np.uint8))
        options = ["--bundle", bundle, "--detector", BUILT_IN_DETECTOR, "--gallery", tmp_path / "g.db"]
        fails("no face", "enroll", "Ada", "--image", portraits / "a1.png", "--image", tmp_path / "none.png", *options)
        assert not (tmp_path / "g.db").exists()

    def test_a_gallery_of_another_space(self, bundle, portraits, tmp_path):
        with Gallery(tmp_path / "g.db", "f" * 64, 3, create=True) as gallery:
            gallery.add("Ada", np.array([1, 0, 0], np.float32))
        options = ["--bundle", bundle, "--detector", BUILT_IN_DETECTOR, "--gallery", tmp_path / "g.db"]
        fails("space", "run", "--source", portraits, *options)
        fails("space", "enroll", "Bob", "--image", portraits / "a1.png", *options)


def test_doctor(bundle):
    facts = json.loads(run("doctor", "--bundle", bundle, "--json").stdout)
    assert {"providers", "cameras", "display", "bundle", "versions"} <= set(facts)
    assert [p["works"] for p in facts["providers"] if p["name"] == "cpu"] == [True]
    assert facts["bundle"]["ok"] is True
    (bundle / "fp32.onnx").write_bytes(b"x")
    facts = json.loads(run("doctor", "--bundle", bundle, "--json").stdout)
    assert facts["bundle"]["ok"] is False and "fp32.onnx" in facts["bundle"]["why"]
    assert "fp32.onnx" in run("doctor", "--bundle", bundle).stdout


def test_models_lists_what_can_be_trained():
    result = run("models", "--json")
    assert result.exit_code == 0, result.output
    models = {row["name"]: row for row in json.loads(result.stdout)["models"]}
    assert {"mobilefacenet", "iresnet100", "edgeface-xs"} <= set(models)
    assert models["iresnet50"]["embedding_size"] == 512 and "1801.07698" in models["iresnet50"]["source"]
    assert 43e6 < models["iresnet50"]["parameters"] < 44e6 and 6.2e9 < models["iresnet50"]["multiply_adds"] < 6.4e9
    table = run("models", "mobilefacenet").stdout.splitlines()
    assert len(table) == 3 and re.search(r"mobilefacenet +1\.00 M +221 M +128 +Chen", table[2])
    fails("unknown model 'mobilnet'; choose one of", "models", "mobilnet")
