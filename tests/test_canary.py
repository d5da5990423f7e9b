"""The canary: a face that is the same everywhere, and what it tells of a bundle whose networks answer otherwise."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.files import sha256
from edgeface.manifest import Manifest
from edgeface.runtime.bundle import SHIPPED, open_bundle
from edgeface.runtime.canary import TOLERANCES, canary_face, check_canaries, make_canary, with_canaries
from edgeface.runtime.doctor import examine
from edgeface.runtime.placement import processor
from tests.test_runtime_bundle import write_bundle


class Means:
    """What the network of the toy bundle answers, by numpy."""

    def embed(self, faces):
        mean = faces.astype(np.float64).mean(axis=(1, 2))
        return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


def written(folder, **embedders):
    """A bundle with the canaries of these networks."""
    write_bundle(folder)
    manifest = with_canaries(Manifest.parse((folder / "manifest.json").read_bytes()), embedders)
    (folder / "manifest.json").write_bytes(manifest.to_json())
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_face_is_the_same_bytes_everywhere():
    face = canary_face()
    assert face.shape == (112, 112, 3) and face.dtype == np.uint8
    assert sha256(face.tobytes()) == "2fa59db6a6c37423bcbe6bd511e4ca42744e7045231178b56038c23920b34aa8"


def test_a_canary_is_five_numbers_spread_over_the_embedding():
    numbers = np.arange(512, dtype=np.float32)[None] / 512
    assert make_canary(SimpleNamespace(embed=lambda faces: numbers)).numbers == pytest.approx(
        [0, 102 / 512, 204 / 512, 307 / 512, 409 / 512], abs=1e-6
    )
    made = make_canary(Means())
    assert made.numbers == pytest.approx(tuple(Means().embed(canary_face()[None])[0]), abs=1e-6)
    assert made.processor == processor()


def test_a_bundle_whose_networks_answer_as_they_did(tmp_path):
    bundle = written(tmp_path / "b", fp32=Means(), int8=Means())
    checks = check_canaries(open_bundle(bundle))
    assert [(check.precision, check.provider, check.state, check.why) for check in checks] == [
        ("fp32", "cpu", "same", None),
        ("int8", "cpu", "same", None),
    ]
    assert all(check.difference is not None and check.difference < 1e-5 for check in checks)
    result = run("bundle", "verify", bundle)
    assert result.exit_code == 0 and "canary" not in result.output
    assert "no canaries" not in " ".join(open_bundle(bundle).manifest.lacks)
    health = examine(str(bundle))["bundle"]
    assert health["ok"] and {row["state"] for row in health["canaries"]} == {"same"}


class Other(Means):
    """The same with red and blue in each other's place."""

    def embed(self, faces):
        return super().embed(faces)[:, ::-1]


def test_a_network_that_answers_otherwise_is_told_with_what_changed(tmp_path):
    bundle = written(tmp_path / "b", fp32=Means(), int8=Other())
    facts = json.loads((bundle / "manifest.json").read_text())
    facts["precisions"]["int8"]["canary"] |= {"onnxruntime": "1.0", "processor": "abacus"}
    (bundle / "manifest.json").write_text(json.dumps(facts))
    told = run("bundle", "verify", bundle)
    assert told.exit_code == 1 and told.stdout == ""
    line = told.stderr.strip()
    assert "\n" not in line and line.startswith("error: int8 on cpu answers otherwise than where bundle test was made")
    for part in ("the onnxruntime is 1.", "and was 1.0; the processor is", "and was abacus", "edgeface calibrate"):
        assert part in line
    printed = run("bundle", "verify", bundle, "--json")
    assert printed.exit_code == 1
    facts = json.loads(printed.stdout)
    assert facts["ok"] is False and [row["state"] for row in facts["canaries"]] == ["same", "different"]
    off = np.abs(np.subtract(Other().embed(canary_face()[None])[0], Means().embed(canary_face()[None])[0])).max()
    assert facts["canaries"][1]["difference"] == pytest.approx(off * 3**0.5, abs=1e-5)
    health = examine(str(bundle))["bundle"]
    assert not health["ok"] and "answers otherwise" in health["why"]
    assert "canary of int8 on cpu: different" in run("doctor", "--bundle", bundle).stdout


def test_where_nothing_else_changed_that_is_said(tmp_path):
    found = check_canaries(open_bundle(written(tmp_path / "b", fp32=Other())))[0]
    assert "(onnxruntime and processor are the ones that it was made with)" in str(found.why)


def test_a_bundle_without_canaries_is_accepted_and_told_so(tmp_path):
    bundle = write_bundle(tmp_path / "b")
    result = run("bundle", "verify", bundle)
    assert result.exit_code == 0
    assert "note: canary of fp32: the bundle has none; `edgeface calibrate` adds it" in result.stderr
    assert any("no canaries" in text for text in open_bundle(bundle).manifest.lacks)
    health = examine(str(bundle))["bundle"]
    assert health["ok"] and {row["state"] for row in health["canaries"]} == {"none"}


def test_a_provider_that_cannot_run_it_is_no_difference(tmp_path):
    found = check_canaries(open_bundle(written(tmp_path / "b", fp32=Means())), "qnn")[0]
    assert (found.state, found.difference) == ("not run", None) and found.why


def test_a_canary_of_another_length_is_different(tmp_path):
    bundle = written(tmp_path / "b", fp32=SimpleNamespace(embed=lambda faces: np.ones((1, 2), np.float32)))
    assert check_canaries(open_bundle(bundle))[0].state == "different"


@pytest.mark.parametrize("name", SHIPPED)
def test_bundles_that_ship_have_canaries_which_hold(name):
    """If this fails after a network was made anew, run scripts/add_canaries."""
    checks = check_canaries(open_bundle(name))
    assert checks and all(check.state == "same" for check in checks), checks
    assert set(open_bundle(name).manifest.precisions) <= set(TOLERANCES)
