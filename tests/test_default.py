"""The bundle that comes with the package: whole, small, at work on photographs, and clear about damage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeface.data import open_faces, read_lfw_pairs
from edgeface.errors import BundleError
from edgeface.evaluation.models import open_model
from edgeface.images import write_image
from edgeface.runtime.bundle import BUILT_IN_DETECTOR, SHIPPED, open_bundle
from edgeface.runtime.recognizer import open_recognizer
from tests.test_cli import fails, run

FOLDER = SHIPPED["default"]


@pytest.fixture(scope="module")
def photograph():
    """The one photograph of a face that a package of the tests carries, (512, 512, 3) uint8 RGB."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[..., :3])


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A copy of the package's bundles that a test may damage."""
    shutil.copytree(FOLDER.parent, tmp_path / "bundles")
    monkeypatch.setitem(SHIPPED, "default", tmp_path / "bundles" / "default")
    return tmp_path / "bundles"


def test_it_is_whole_and_says_where_it_comes_from():
    bundle = open_bundle("default")
    bundle.verify()
    manifest = bundle.manifest
    assert bundle.unlisted() == ()
    assert manifest.embedder.dimension == 96 and set(manifest.precisions) == {"int8"}
    assert {threshold.asked_fmr for threshold in manifest.thresholds} == {1e-2, 1e-3}
    assert all(threshold.fmr == threshold.asked_fmr for threshold in manifest.thresholds)
    assert manifest.scoring == "normalised" and manifest.lacks == ()
    card = bundle.read("MODEL_CARD.md").decode()
    for said in ("Davis King", "CC0-1.0", "7485 people", "128 x 96 numbers", "research use", "where it fails"):
        assert said in card
    assert "Do not ship" not in card


def test_it_is_small_and_shares_its_detector():
    sizes = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert sizes["embedder.int8.onnx"] < 6_000_000 and "detector.onnx" not in sizes
    assert open_bundle("default").detector() == BUILT_IN_DETECTOR.read_bytes()
    total = sum(file.stat().st_size for file in FOLDER.parent.rglob("*") if file.is_file())
    assert total < 9_000_000


def test_how_it_was_made_is_told_for_these_bytes():
    told = (FOLDER.parent / "DEFAULT.md").read_text()
    files = open_bundle("default").manifest.files
    for name in ("embedder.int8.onnx", "scores.json", "cohort.bin", "detector.onnx"):
        assert files[name].sha256 in told, name


def test_the_small_one_is_whole_small_and_says_what_it_is():
    bundle = open_bundle("default-edge")
    bundle.verify()
    assert bundle.unlisted() == () and bundle.detector() == BUILT_IN_DETECTOR.read_bytes()
    folder = SHIPPED["default-edge"]
    assert "detector.onnx" not in {file.name for file in folder.iterdir()}
    assert (folder / "embedder.int8.onnx").stat().st_size < 1_600_000 and bundle.manifest.scoring == "normalised"
    assert {threshold.asked_fmr for threshold in bundle.manifest.thresholds} == {1e-2, 1e-3}
    assert "non-commercial" in bundle.read("MODEL_CARD.md").decode()
    told = (folder.parent / "DEFAULT-EDGE-TRAINING.md").read_text()
    assert all(
        bundle.manifest.files[name].sha256 in told for name in ("embedder.int8.onnx", "scores.json", "cohort.bin")
    )


def test_every_command_that_takes_a_bundle_knows_the_word(tmp_path):
    assert "default is whole: 8 files" in run("bundle", "verify", "default").stdout
    assert json.loads(run("doctor", "--bundle", "default", "--json").stdout)["bundle"]["ok"] is True
    assert open_model(Path("default")).space == open_bundle("default").manifest.space
    packed = run("bundle", "pack", "default", tmp_path / "d.zip")
    assert packed.exit_code == 0, packed.output
    open_bundle(tmp_path / "d.zip").verify()  # with the detector


def test_a_person_is_the_same_in_another_light_and_mirrored(photograph, tmp_path):
    write_image(tmp_path / "a.png", photograph)
    write_image(tmp_path / "b.png", (photograph[:, ::-1] * 0.6).astype(np.uint8))
    verified = run("verify", tmp_path / "a.png", tmp_path / "b.png", "--json")  # the word is the default
    assert verified.exit_code == 0, verified.output
    facts = json.loads(verified.stdout)
    assert facts["same"] is True and facts["precision"] == "int8" and facts["fmr"] == 1e-3
    assert facts["score"] > facts["threshold"] + 0.1
    recognizer = open_recognizer("default", provider="cpu")
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    one, other = recognizer.embed_one(photograph, "a"), recognizer.embed_face(noise)
    assert recognizer.scoring.pairs(one[None], other[None])[0] < recognizer.threshold.cosine


@pytest.mark.parametrize(("name", "least"), [("default", 0.97), ("default-edge", 0.85)])
def test_people_of_lfw_are_told_apart(shared, name, least):
    faces = open_faces(shared / "lfw")
    pairs = read_lfw_pairs(shared / "lfw" / "pairs.txt", faces)
    chosen = np.r_[0:100, 300:400]  # of the first fold, 100 pairs of each kind
    assert pairs.same[chosen].sum() == 100
    model, threshold = open_model(Path(name)), open_bundle(name).manifest.threshold_for("int8", 1e-2)
    one, two = (model.embedder.embed(faces.read_many(side[chosen])) for side in (pairs.first, pairs.second))
    right = (model.scoring.pairs(one, two) >= threshold.cosine) == pairs.same[chosen]
    assert right.mean() >= least


@pytest.mark.parametrize("name", ["embedder.int8.onnx", "detector.onnx", "scores.json", "cohort.bin", "MODEL_CARD.md"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_bytes(file.read_bytes()[:-7]), "bytes, its manifest says"),
        (lambda file: file.write_bytes(b"\x00" + file.read_bytes()[1:]), "was changed"),
        (lambda file: file.write_bytes(file.read_bytes() + b"\n"), "larger than"),
    ],
)
def test_damage_names_the_file_and_says_install_again(installed, name, damage, message):
    damage(installed / name if name == "detector.onnx" else installed / "default" / name)
    with pytest.raises(BundleError, match=rf"^{name} .*{message}.*; install edgeface again: pip install"):
        open_bundle("default").verify()


def test_a_manifest_that_cannot_be_used(installed):
    manifest = installed / "default" / "manifest.json"
    whole = manifest.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole.replace(b'"schema_version": 2', b'"schema_version": 9')):
        manifest.write_bytes(content)
        with pytest.raises(BundleError, match=r"manifest\.json .*install edgeface again") as caught:
            open_bundle("default")
        assert "export" not in str(caught.value)
    manifest.unlink()
    fails("manifest.json is missing .*install edgeface again", "bundle", "inspect", "default")


def test_no_folder_at_all(installed):
    shutil.rmtree(installed / "default")
    with pytest.raises(BundleError, match=r"manifest\.json is missing .*install edgeface again"):
        open_bundle("default")


def test_the_installed_one_is_not_calibrated_in_place(tmp_path):
    people = tmp_path / "people"
    rng = np.random.default_rng(0)
    for person in range(25):
        for number in range(2):
            write_image(people / f"p{person}" / f"{number}.png", rng.integers(0, 256, (112, 112, 3), np.uint8))
    options = ["calibrate", "default", "--data", people, "--fmr", "0.01"]
    before = (FOLDER / "manifest.json").read_bytes()
    fails("belongs to the installed package; give a new one with --out", *options, "--in-place")
    assert (FOLDER / "manifest.json").read_bytes() == before
    # Noise is no face: the gate lets nothing of it through.
    fails("there are 0; give more people", *options, "--out", tmp_path / "ours.bundle")
    assert not (tmp_path / "ours.bundle").exists()
