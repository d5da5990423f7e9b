"""A cohort from the command to the camera loop: made, measured with, kept, left out, refused where it does not fit."""

import json

import numpy as np
import pytest

from edgeface.cohort import COHORT_NAME, write_cohort
from edgeface.data import InMemoryFaces, open_faces
from edgeface.errors import BundleError, DataError
from edgeface.evaluation.models import open_model
from edgeface.export import strangers
from edgeface.export.strangers import draw_strangers, make_cohort
from edgeface.files import sha256
from edgeface.images import write_image
from edgeface.manifest import CohortEntry, FileEntry, Manifest
from edgeface.metrics import threshold_at_fmr
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.embedder import bundle_embedder
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.loop import RunSettings
from edgeface.runtime.recognizer import open_recognizer
from edgeface.scoring import Scoring
from tests.test_calibrate import calibrate, paint
from tests.test_cli import fails, run
from tests.test_cohort import cohort_of, unit_rows
from tests.test_limits import scored_bundle
from tests.test_loop import ALICE, ANY_FACE, BOB, DIMENSION, World, person, play, still
from tests.test_runtime_bundle import write_bundle

COUNT = 120


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(strangers, "LEAST", COUNT)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Faces of people of whom nothing is known, and of three who have a name."""
    folder, rng = tmp_path_factory.mktemp("crowd"), np.random.default_rng(5)
    for number in range(COUNT + 6):
        face = rng.normal(rng.uniform(20, 235, 3), 10, (112, 112, 3))
        where = folder / f"{number:03}.png" if number < COUNT else folder / f"name {number % 3}" / f"{number}.png"
        write_image(where, np.clip(face, 0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def made(people, crowd, tmp_path_factory):
    """The toy bundle, the same with a cohort, and what `calibrate` said."""
    folder = tmp_path_factory.mktemp("bundles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strangers, "LEAST", COUNT)
        old = scored_bundle(folder / "old")
        facts, _ = calibrate(old, people, "--out", folder / "new", "--cohort", crowd)
    return old, folder / "new", facts


def no_detector():
    pytest.fail("no photographs")


def test_calibrate_puts_a_cohort_in_and_measures_with_it(made, people):
    old, new, facts = made
    bundle = open_bundle(new)
    bundle.verify()
    manifest = bundle.manifest
    assert (manifest.schema_version, manifest.scoring, facts["scoring"]) == (2, "normalised", "normalised")
    assert manifest.cohort is not None and manifest.cohort.members == COUNT + 3 and manifest.lacks == ()
    assert "3 of them with a name, 12 as they are, the others under drawn conditions" in manifest.cohort.source
    assert {threshold.scoring for threshold in manifest.thresholds} == {"normalised"}

    faces = open_faces(people)
    embedder = bundle_embedder(bundle, precision="fp32", provider="cpu")[0]
    embeddings = embedder.embed(faces.read_many(range(len(faces))))
    first, second = np.triu_indices(len(faces), 1)
    scores = bundle.scoring().pairs(embeddings[first], embeddings[second])
    impostor = scores[faces.labels[first] != faces.labels[second]]
    for threshold in facts["thresholds"]:
        assert threshold["cosine"] == pytest.approx(threshold_at_fmr(impostor, threshold["fmr"]).threshold, abs=1e-5)
    # What the old thresholds do was measured by cosine, as they were chosen.
    cosines = np.einsum("nd,nd->n", embeddings[first], embeddings[second])[faces.labels[first] != faces.labels[second]]
    before = facts["before"][0]
    assert before["measured_fmr"] == pytest.approx(np.mean(cosines >= before["cosine"]), abs=1e-3)
    assert open_bundle(old).manifest.cohort is None
    card = bundle.read("MODEL_CARD.md").decode()
    assert "compared by normalised score" in card and f"carries {COUNT + 3} strangers" in card
    report = bundle.read("report.html").decode()
    assert "normalised score: how alike two faces are" in report and "cosine: how alike" not in report


def test_a_cohort_stays_until_it_is_taken_out(made, people, tmp_path):
    old, new, facts = made
    again, _ = calibrate(new, people, "--out", tmp_path / "again")
    assert [t["cosine"] for t in again["thresholds"]] == [t["cosine"] for t in facts["thresholds"]]
    assert open_bundle(tmp_path / "again").read(COHORT_NAME) == open_bundle(new).read(COHORT_NAME)
    plain, _ = calibrate(new, people, "--out", tmp_path / "plain", "--no-cohort")
    straight, _ = calibrate(old, people, "--out", tmp_path / "straight")
    assert [t["cosine"] for t in plain["thresholds"]] == [t["cosine"] for t in straight["thresholds"]]
    bundle = open_bundle(tmp_path / "plain")
    bundle.verify()
    assert bundle.manifest.scoring == "cosine" and COHORT_NAME not in bundle.manifest.files
    fails("contradict each other", "calibrate", old, "--data", people, "--in-place", "--cohort", "x", "--no-cohort")
    fails("give that too", "calibrate", old, "--data", people, "--in-place", "--cohort-split", "train")


def test_eval_compares_as_the_bundle_does_or_by_cosine(made, people):
    _, new, _ = made
    found = {}
    for options in ((), ("--cosine",)):
        result = run(
            "eval", new, "--data", people, "--identify", "drawn", "--json", "--bootstrap", 0, "--fmr", 0.1, *options
        )
        assert result.exit_code == 0, result.output
        found[options] = json.loads(result.stdout)
    normalised, plain = found[()], found[("--cosine",)]
    assert (normalised["scoring"], plain["scoring"]) == ("normalised", "cosine")
    assert normalised["threshold"]["cosine"] < plain["threshold"]["cosine"]
    model = open_model(new)
    assert model.scoring.cohort is not None and open_model(new, cosine=True).scoring.cohort is None
    nearest = normalised["identification"]["nearest"][0]
    faces = open_faces(people)
    keys = [sample.key for sample in faces.samples]
    pair = model.embedder.embed(faces.read_many([keys.index(nearest["probe"]), keys.index(nearest["enrolled"])]))
    assert nearest["score"] == pytest.approx(model.scoring.pairs(pair[:1], pair[1:])[0], abs=1e-5)


def test_the_recognizer_of_a_bundle_with_a_cohort_has_its_scoring(made, tmp_path):
    from edgeface.runtime.bundle import BUILT_IN_DETECTOR

    old, new, _ = made
    with_cohort, without = (open_recognizer(path, detector=BUILT_IN_DETECTOR) for path in (new, old))
    assert with_cohort.scoring.kind == "normalised" and without.scoring.kind == "cosine"
    assert with_cohort.embedder.space == without.embedder.space  # so a gallery works with both
    assert with_cohort.threshold.cosine < without.threshold.cosine


def test_an_older_bundle_runs_as_before_and_says_what_it_lacks(tmp_path):
    folder = scored_bundle(tmp_path / "b")
    facts = json.loads((folder / "manifest.json").read_text())
    facts["schema_version"] = 1
    del facts["cohort"]
    for threshold in facts["thresholds"]:
        del threshold["scoring"]
    (folder / "manifest.json").write_text(json.dumps(facts))
    bundle = open_bundle(folder)
    bundle.verify()
    assert bundle.manifest.schema_version == 1 and bundle.scoring().cohort is None
    assert "no cohort" in bundle.manifest.lacks[0]
    said = run("bundle", "inspect", folder).stdout
    assert "none: scores are plain cosines" in said and "`edgeface calibrate BUNDLE" in said
    doctor = json.loads(run("doctor", "--bundle", folder, "--json").stdout)["bundle"]
    assert doctor["ok"] and doctor["scoring"] == "cosine" and doctor["lacks"] == list(bundle.manifest.lacks)


def with_cohort(folder, data, **changes):
    """The toy bundle, which takes in any bytes as its cohort."""
    write_bundle(folder, thresholds=())
    (folder / COHORT_NAME).write_bytes(data)
    facts = json.loads((folder / "manifest.json").read_text())
    facts["cohort"] = CohortEntry(file=COHORT_NAME, members=100, nearest=5, source="x").model_dump()
    facts["files"][COHORT_NAME] = FileEntry(sha256=sha256(data), bytes=len(data)).model_dump()
    (folder / "manifest.json").write_text(json.dumps(facts | changes))
    return folder


def test_a_cohort_of_another_space_is_refused(tmp_path):
    folder = with_cohort(tmp_path / "b", write_cohort(unit_rows(100, 3), "ab" * 32, 100))
    for use in (lambda bundle: bundle.verify(), lambda bundle: bundle.scoring()):
        with pytest.raises(
            BundleError, match=r"cohort\.bin of bundle .*embedding space abababababab.*cannot be compared"
        ):
            use(open_bundle(folder))
    fails("cannot be compared", "bundle", "verify", folder)
    doctor = json.loads(run("doctor", "--bundle", folder, "--json").stdout)["bundle"]
    assert not doctor["ok"] and "cannot be compared" in doctor["why"]


def test_a_manifest_that_contradicts_itself_is_refused(made, tmp_path):
    _, new, _ = made
    facts = json.loads((new / "manifest.json").read_text())
    for changes, message in (
        ({"schema_version": 1}, "schema version 1 has no cohort"),
        ({"cohort": None}, "a threshold is a normalised score, and there is no cohort"),
        (
            {"files": {name: entry for name, entry in facts["files"].items() if name != COHORT_NAME}},
            "no hash for cohort",
        ),
    ):
        with pytest.raises(BundleError, match=message):
            Manifest.parse(json.dumps(facts | changes).encode())
    data = b"x" * 300_001
    with pytest.raises(BundleError, match="larger than the 300000 bytes"):
        open_bundle(with_cohort(tmp_path / "b", data)).scoring()


def test_strangers_are_drawn_alike_and_nobody_is_there_twice(crowd):
    faces = open_faces(crowd)
    one, two = (draw_strangers(faces, 3, no_detector, seed=3) for _ in range(2))
    assert np.array_equal(one.faces, two.faces) and one.plain == 12
    assert not np.array_equal(one.faces, draw_strangers(faces, 3, no_detector, seed=4).faces)
    originals = {sha256(faces.read(index).tobytes()) for index in range(len(faces))}
    kept = [sha256(face.tobytes()) in originals for face in one.faces]
    assert all(kept[:12]) and not any(kept[12:])
    few_members = draw_strangers(faces, 2490, no_detector)  # as many numbers as leave room for 120
    assert len(few_members.faces) == COUNT and "without a name" in few_members.source


def test_too_few_strangers_are_told(monkeypatch, crowd, people, made, tmp_path):
    monkeypatch.setattr(strangers, "LEAST", 200)
    with pytest.raises(DataError, match=r"crowd\d* shows 123 strangers, a cohort needs 200 or more"):
        draw_strangers(open_faces(crowd), 3, no_detector)
    options = ["--data", people, "--fmr", "0.2", "--out", tmp_path / "o"]
    fails("shows 123 strangers", "calibrate", made[0], *options, "--cohort", crowd)
    assert not (tmp_path / "o").exists()


def test_a_network_that_gives_no_unit_embeddings_makes_no_cohort(crowd):
    class Broken:
        def embed(self, faces):
            return np.zeros((len(faces), 3), np.float32)

    with pytest.raises(BundleError, match="not of unit length"):
        make_cohort(draw_strangers(open_faces(crowd), 3, no_detector), Broken(), "ab" * 32)


def test_pictures_that_cannot_be_used_are_passed_over():
    images = np.random.default_rng(0).integers(0, 255, (COUNT, 112, 112, 3), np.uint8)
    faces = InMemoryFaces(images, np.full(COUNT, -1))
    read = faces.picture
    faces.picture = lambda index: (_ for _ in ()).throw(DataError("broken")) if index == 7 else read(index)  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"119 strangers in pictures that can be used"):
        draw_strangers(faces, 3, no_detector)


def test_the_loop_tells_normalised_scores(tmp_path):
    members = np.concatenate([unit_rows(99, DIMENSION, 2), person(ALICE)[None]])
    scoring = Scoring(cohort_of(members, 3))
    with Gallery(tmp_path / "g.db", "s", DIMENSION, create=True) as gallery:
        for name, grey in (("alice", ALICE), ("bob", BOB)):
            gallery.enroll(name, [Template(person(grey))], scoring)
        settings = RunSettings(DecisionSettings(threshold=-0.9), ANY_FACE)
        events, _ = play(World(still((100, ALICE), (400, BOB))), gallery, settings, scoring=scoring)
        own = {event.identity: event for event in events if event.event == "match"}
    # Alice resembles a stranger of the cohort, so that less speaks for her than for Bob.
    for name, grey in (("alice", ALICE), ("bob", BOB)):
        expected = scoring.pairs(person(grey)[None], person(grey)[None])[0]
        assert own[name].score == pytest.approx(expected, abs=1e-6) and own[name].scoring == "normalised"
    assert own["alice"].score < own["bob"].score
