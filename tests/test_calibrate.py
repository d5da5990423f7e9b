"""Thresholds from one's own faces: measured, written whole, and refused where there are too few people."""

import json
import subprocess
import sys

import numpy as np
import pytest

from edgeface.data import open_faces
from edgeface.errors import DataError
from edgeface.export.people import gather_people
from edgeface.export.recalibration import check_people
from edgeface.images import write_image
from edgeface.intervals import wilson
from edgeface.metrics import threshold_at_fmr
from edgeface.runtime.bundle import BUILT_IN_DETECTOR, open_bundle
from edgeface.runtime.canary import check_canaries
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.packing import pack_bundle
from edgeface.runtime.signing import make_key, read_private_key, sign_bundle
from tests.conftest import ROOT
from tests.test_architecture import HEAVY
from tests.test_cli import fails, run
from tests.test_limits import TABLES, scored_bundle
from tests.test_runtime_bundle import write_bundle

PEOPLE, EACH = 12, 3


def paint(folder, people=PEOPLE, each=EACH, seed=0):
    """Identity folders of crops for the embedder that sees colours only: everybody has one, with some noise."""
    rng = np.random.default_rng(seed)
    for person in range(people):
        colour = rng.uniform(20, 235, 3)
        for picture in range(each):
            face = rng.normal(colour + rng.normal(0, 12, 3), 10, (112, 112, 3))
            write_image(folder / f"person {person:02}" / f"{picture}.png", np.clip(face, 0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def colleagues(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("colleagues"))


@pytest.fixture
def bundle(tmp_path):
    return scored_bundle(tmp_path / "b.bundle")


def calibrate(bundle, data, *options):
    result = run("calibrate", bundle, "--data", data, "--fmr", "0.2,0.05", "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


def slow_scores(folder):
    """All cosines between pictures of two people and of one, the obvious way."""
    faces = open_faces(folder)
    colours = np.stack([faces.read(i).reshape(-1, 3).mean(axis=0) for i in range(len(faces))])
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    impostor: list[float] = []
    genuine: list[float] = []
    for i in range(len(faces)):
        for j in range(i + 1, len(faces)):
            (genuine if faces.labels[i] == faces.labels[j] else impostor).append(float(colours[i] @ colours[j]))
    return np.array(impostor), np.array(genuine)


def test_thresholds_are_those_of_all_pairs(bundle, colleagues, tmp_path):
    out = tmp_path / "ours.bundle"
    facts, _ = calibrate(bundle, colleagues, "--out", out)
    impostor, genuine = slow_scores(colleagues)
    assert {(t["gallery"], t["precision"]) for t in facts["thresholds"]} == set(TABLES)
    assert len(facts["thresholds"]) == 8
    for threshold in facts["thresholds"]:
        assert threshold["cosine"] == pytest.approx(threshold_at_fmr(impostor, threshold["fmr"]).threshold, abs=1e-6)
        assert threshold["measured_fmr"] == pytest.approx(
            np.mean(impostor >= threshold["cosine"]), abs=2 / len(impostor)
        )
        assert threshold["measured_fmr"] <= threshold["fmr"] == threshold["supported_fmr"]
        assert threshold["measured_fnmr"] == pytest.approx(np.mean(genuine < threshold["cosine"]), abs=1 / len(genuine))
        assert threshold["measured_fmr_interval"] == list(wilson(threshold["measured_fmr"], 66))
    assert facts["data"]["independent"] == PEOPLE * (PEOPLE - 1) // 2 == 66
    assert (facts["data"]["people"], facts["data"]["faces"]) == (PEOPLE, PEOPLE * EACH)
    assert facts["data"]["impostors"] == len(impostor) and facts["data"]["genuine"] == len(genuine)

    old = open_bundle(bundle).manifest.thresholds
    assert [before["cosine"] for before in facts["before"]] == [threshold.cosine for threshold in old]
    assert facts["before"][0]["measured_fmr"] == pytest.approx(np.mean(impostor >= old[0].cosine), abs=1e-3)

    written = open_bundle(out)
    written.verify()
    assert written.manifest.threshold_data is not None
    assert written.manifest.threshold_data.model_dump() == facts["data"]
    assert [check.state for check in check_canaries(written)] == ["same"] * len(written.manifest.precisions)
    assert [t.cosine for t in written.manifest.thresholds] == [t["cosine"] for t in facts["thresholds"]]
    for table in written.scores():
        stored = written.manifest.threshold_for(table.probe, 0.05, gallery=table.gallery)
        assert table.operating_point(0.05).threshold == stored.cosine
    card = written.read("MODEL_CARD.md").decode()
    assert f"{PEOPLE} people" in card and facts["data"]["sha256"] in card
    assert "| 0.05 | 0.05 | 0.4 | 0.99 | 1 |" in card
    assert open_bundle(bundle).manifest.thresholds == old  # the old one is as it was


def test_in_place_keeps_links_and_drops_the_signature(bundle, colleagues, tmp_path):
    make_key(tmp_path / "k")
    sign_bundle(open_bundle(bundle), read_private_key(tmp_path / "k"))
    link = tmp_path / "link"
    link.symlink_to(bundle)
    facts, said = calibrate(link, colleagues, "--in-place")
    assert facts["must_be_signed_again"] is True and "sign it again: edgeface bundle sign" in said
    assert link.is_symlink()
    changed = open_bundle(bundle)
    changed.verify()
    assert changed.signed_by is None and changed.signature() is None
    assert changed.manifest.threshold_data is not None
    assert changed.manifest.threshold_data.name == colleagues.name
    sign_bundle(changed, read_private_key(tmp_path / "k"))
    assert open_bundle(bundle, require_keys=[tmp_path / "k.pub"]).signed_by is not None


def test_zips_in_and_out(bundle, colleagues, tmp_path):
    zipped, new = tmp_path / "b.zip", tmp_path / "new.zip"
    pack_bundle(open_bundle(bundle), zipped)
    calibrate(zipped, colleagues, "--out", new)
    open_bundle(new).verify()
    assert open_bundle(zipped).manifest.threshold_data is None
    calibrate(zipped, colleagues, "--in-place")
    assert zipped.read_bytes() == new.read_bytes()


def test_nothing_is_lost_or_half_written(bundle, colleagues, tmp_path):
    options = ["--data", colleagues, "--fmr", "0.2"]
    (bundle / "notes.txt").write_text("mine")
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    fails(r"also has notes\.txt, which its manifest does not list", "calibrate", bundle, *options, "--in-place")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    fails("exists and is not a bundle", "calibrate", bundle, *options, "--out", tmp_path / "other")
    fails("either|with --out PATH", "calibrate", bundle, *options)
    fails("with --out PATH", "calibrate", bundle, *options, "--in-place", "--out", tmp_path / "x")
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before


def test_too_few_people_are_told_how_many_it_takes(bundle, colleagues, tmp_path):
    out = ["--out", tmp_path / "o"]
    message = (
        r"12 people in colleagues\d* are too few for a false match rate of 0\.001: that needs 3000 pairs .*78 people"
    )
    line = fails(message, "calibrate", bundle, "--data", colleagues, *out)
    assert "there are 66; give more people, or ask for --fmr 0.046" in line
    run("calibrate", bundle, "--data", colleagues, *out, "--fmr", "0.046")
    assert open_bundle(tmp_path / "o").manifest.thresholds[0].fmr == 0.046
    single = paint(tmp_path / "single", each=1)
    fails("nobody in single has two pictures", "calibrate", bundle, "--data", single, *out, "--fmr", "0.2")
    fails("no faces at", "calibrate", bundle, "--data", tmp_path / "none", *out)


@pytest.mark.parametrize("rate", [0.5, 0.1, 1e-2, 1e-3, 1e-4])
def test_as_many_people_as_it_says_are_enough_and_one_fewer_is_not(rate):
    with pytest.raises(DataError, match="which takes") as caught:
        check_people(2, [rate], "x")
    enough = int(str(caught.value).split("which takes ")[1].split(" ")[0])
    check_people(enough, [0.9, rate], "x")
    with pytest.raises(DataError):
        check_people(enough - 1, [0.9, rate], "x")
    if enough > 5:  # what is advised instead is accepted
        with pytest.raises(DataError) as caught:
            check_people(enough - 1, [rate], "x")
        advised = float(str(caught.value).split("--fmr ")[1])
        check_people(enough - 1, [advised], "x")
        assert advised < 1.2 * 3 / ((enough - 1) * (enough - 2) / 2)
    assert enough * (enough - 1) / 2 >= 3 / rate > (enough - 1) * (enough - 2) / 2 or enough == 4


def test_one_person_under_two_names_is_pointed_out(bundle, tmp_path):
    folder = paint(tmp_path / "people")
    (folder / "person 03" / "0.png").rename(folder / "person 07" / "9.png")
    facts, said = calibrate(bundle, folder, "--out", tmp_path / "o")
    first = facts["suspects"][0]
    assert "warning: person" in said and "look like one person" in said
    assert ["person 03", "person 07"] in [suspect["names"] for suspect in facts["suspects"]]
    assert first["score"] == max(suspect["score"] for suspect in facts["suspects"])


def test_a_bundle_without_thresholds_wants_to_know_the_rates(colleagues, tmp_path):
    folder = write_bundle(tmp_path / "b", thresholds=())
    options = ["--data", colleagues, "--out", tmp_path / "o"]
    fails("no thresholds so far; say for which rates", "calibrate", folder, *options)
    assert run("calibrate", folder, *options, "--fmr", "0.2").exit_code == 0
    assert open_bundle(tmp_path / "o").manifest.threshold_for("fp32", 0.2, gallery="int8").pairs > 500


def test_the_table_shows_old_beside_new(bundle, colleagues, tmp_path):
    result = run("calibrate", bundle, "--data", colleagues, "--out", tmp_path / "o", "--fmr", "0.1", "-q")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["faces", "FMR"]
    assert sum(line.startswith("old") for line in lines) == 8 and sum(line.startswith("new") for line in lines) == 4
    assert any("int8 against fp32" in line for line in lines)


def test_broken_pictures_are_left_out_and_photographs_need_a_detector(bundle, tmp_path):
    folder = paint(tmp_path / "people")
    (folder / "person 00" / "0.png").write_bytes(b"no picture")
    facts, said = calibrate(bundle, folder, "--out", tmp_path / "o")
    assert [skipped["picture"] for skipped in facts["skipped"]] == ["person 00/0"]
    assert "1 pictures were left out" in said
    write_image(folder / "person 00" / "large.png", np.full((200, 200, 3), 90, np.uint8))
    line = fails("has no face detector", "calibrate", bundle, "--data", folder, "--fmr", "0.2", "--out", tmp_path / "o")
    assert "--detector" in line


def test_many_faces_are_thinned_by_person(bundle, tmp_path, monkeypatch):
    folder = paint(tmp_path / "people", people=6, each=5)
    monkeypatch.setattr("edgeface.export.people.MAX_FACES", 12)
    taken = gather_people(
        open_faces(folder), lambda: pytest.fail("no photographs"), each=4, progress=lambda done, total: None
    )
    assert len(taken.faces) == 12 and np.bincount(taken.labels).tolist() == [4, 4, 4]


def test_a_device_without_torch_and_onnx_can_calibrate():
    block = "; ".join(f"sys.modules['{name}'] = None" for name in sorted(HEAVY))
    code = f"import sys; {block}; import edgeface.export.people, edgeface.export.recalibration"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)


@pytest.mark.skipif(not BUILT_IN_DETECTOR.is_file(), reason="this checkout has no built-in detector")
def test_photographs_and_precisions_from_enrolment_to_the_loop(bundle, tmp_path):
    from edgeface.data.synthetic import render_face
    from edgeface.data.synthetic.identity import nth_identity
    from edgeface.data.synthetic.nuisance import sample_nuisance

    rng = np.random.default_rng(0)
    for person in range(5):
        for picture in range(2):
            nuisance = sample_nuisance(rng, 0.2)
            image = render_face(nth_identity(0, person), nuisance, size_wh=(240, 240)).image
            write_image(tmp_path / "people" / f"p{person}" / f"{picture}.png", image)
    loose = ["--detector", BUILT_IN_DETECTOR]
    facts, _ = calibrate(bundle, tmp_path / "people", "--in-place", "--fmr", "0.6", *loose)
    assert facts["data"]["people"] == 5 and facts["data"]["faces"] >= 8

    options = ["--bundle", bundle, "--gallery", tmp_path / "g.db", *loose]
    picture = tmp_path / "people" / "p0" / "0.png"
    assert run("enroll", "Ada", "--image", picture, *options, "--precision", "fp32").exit_code == 0
    with Gallery(tmp_path / "g.db") as gallery:
        assert gallery.precisions() == {"fp32": 1}
    mixed = open_bundle(bundle).manifest.threshold_for("int8", gallery="fp32").cosine
    arguments = ["run", "--source", picture.parent, *options, "--precision", "int8", "--json"]
    *_, summary = [json.loads(line) for line in run(*arguments).stdout.splitlines()]
    assert summary["threshold"] == round(mixed, 6) and summary["templates"] == 1
    *_, summary = [json.loads(line) for line in run(*arguments, "--fpir", "0.9").stdout.splitlines()]
    assert summary["fpir"] == pytest.approx(0.9) and summary["threshold"] < round(mixed, 6)
    fails("--fmr and --fpir", *arguments, "--fpir", "0.9", "--fmr", "0.1")


def test_people_who_are_left_out_and_crops_that_are_checked(tmp_path):
    from edgeface.data.synthetic import crops
    from edgeface.runtime.detection.detector import open_detector

    images, labels = crops(4, 3, seed=2)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        write_image(tmp_path / "people" / f"person {label}" / f"{index}.png", image)
    write_image(tmp_path / "people" / "person 1" / "moved.png", np.roll(images[3], (20, 14), (0, 1)))
    write_image(tmp_path / "people" / "person 2" / "wall.png", np.full((112, 112, 3), 130, np.uint8))
    faces = open_faces(tmp_path / "people")

    def gather(**options):
        detector = lambda: open_detector(BUILT_IN_DETECTOR.read_bytes(), provider="cpu")  # noqa: E731
        return gather_people(faces, detector, progress=lambda done, total: None, **options)

    everything = gather()
    assert len(everything.faces) == 14 and not everything.skipped
    checked = gather(check_crops=True)
    reasons = {skipped.key: skipped.reason for skipped in checked.skipped}
    assert "no face is seen" in reasons["person 2/wall"]
    assert "px from the template" in reasons["person 1/moved"]
    assert len(checked.faces) == 14 - len(reasons) >= 10
    assert gather(without=["person 0", "person 3"]).names == ("person 1", "person 2")
    with pytest.raises(DataError, match="called 'nobody', who was to be left out"):
        gather(without=["nobody"])
