"""People who are alike, scores of unfit faces, and what is stated of a door."""

import json
import math
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.door import DoorRates
from edgeface.errors import BundleError, DataError, GalleryError
from edgeface.evaluation.conditions import ConditionRates, ConditionReport, Rates
from edgeface.export.alike import alike
from edgeface.export.assembly import assemble
from edgeface.export.card import model_card
from edgeface.export.people import People
from edgeface.export.recalibration import check_people, recalibrate
from edgeface.export.report.door import restate_door
from edgeface.faces import TEMPLATE
from edgeface.fitness import Fitness, FitnessAllowance
from edgeface.manifest import Manifest, QualityEntry
from edgeface.metrics import threshold_at_fmr
from edgeface.runtime.bundle import Bundle, bundle_scoring, open_bundle
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.gate import Gate, fitness_scores
from edgeface.runtime.deciding.limits import Limits
from edgeface.runtime.deciding.quality import QualitySettings, measure
from edgeface.runtime.gallery.comparison import People as Compared
from edgeface.runtime.gallery.exchange import export_gallery
from edgeface.runtime.gallery.export_reader import read_export
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.importing import take_in
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.loop import RunSettings
from edgeface.runtime.portrait import Portrait
from edgeface.runtime.recognizer import Recognizer
from edgeface.runtime.verification import verify
from edgeface.scoring import COSINE, Scoring
from tests.test_bundle_report import facts, page, scored
from tests.test_calibrate import calibrate, paint
from tests.test_cli import fails
from tests.test_cohort import cohort_of, slow_allowance, unit_rows
from tests.test_limits import scored_bundle
from tests.test_loop import ALICE, BOB, DIMENSION, World, person, play, still

COHORT = cohort_of(unit_rows(100))
SCORING = Scoring(COHORT, FitnessAllowance(0.9, 0.5))
KEY = GalleryKey(bytes(range(32)), "k")


# --- who is alike


def slow_alike(means):
    """The nearer half of the others of each, one by one."""
    centre = means - means.mean(axis=0)
    centre = centre / np.linalg.norm(centre, axis=1, keepdims=True)
    found = np.zeros((len(means), len(means)), bool)
    for one in range(len(means)):
        others = sorted((o for o in range(len(means)) if o != one), key=lambda o: -float(centre[one] @ centre[o]))
        for other in others[: math.ceil(len(others) / 2)]:
            found[one, other] = found[other, one] = True
    return found


@settings(max_examples=30)
@given(st.integers(3, 12), st.integers(0, 99))
def test_alike_is_the_nearer_half_of_the_others_of_either(people, seed):
    labels = np.repeat(np.arange(people), 1 + np.arange(people) % 3)
    rows = unit_rows(len(labels), 6, seed)
    means = np.stack([rows[labels == one].mean(axis=0) for one in range(people)])
    found = alike(rows, labels)
    assert np.array_equal(found, found.T) and not found.diagonal().any()
    assert np.array_equal(found, slow_alike(means))


def test_of_two_kinds_of_people_only_those_of_one_kind_are_alike():
    kinds = np.repeat([1.0, -1.0], 30)
    rows = np.random.default_rng(0).normal(0, 0.3, (60, 6))
    rows[:, 0] += kinds
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    found = alike(rows, np.arange(60))
    same = kinds[:, None] == kinds
    assert found[~same].mean() < 0.1 and found[same & ~np.eye(60, dtype=bool)].mean() > 0.95


def test_two_people_are_alike():
    assert alike(unit_rows(2), np.array([0, 1])).tolist() == [[False, True], [True, False]]


def test_calibrating_on_people_who_are_alike_counts_their_pairs_only(tmp_path):
    data = paint(tmp_path / "people")
    bundle = scored_bundle(tmp_path / "b")
    every, _ = calibrate(bundle, data, "--fmr", "0.2", "--out", tmp_path / "all")
    facts, _ = calibrate(bundle, data, "--fmr", "0.2", "--only-alike", "--out", tmp_path / "alike")
    assert every["data"]["only_alike"] is False and facts["data"]["only_alike"] is True
    assert every["data"]["independent"] == 66 and 33 <= facts["data"]["independent"] < 60
    assert facts["data"]["impostors"] == 9 * facts["data"]["independent"]  # three pictures of each
    few = ("calibrate", bundle, "--data", data, "--fmr", "0.05", "--only-alike", "--out", tmp_path / "few")
    fails("needs 60 pairs of two people, which takes 16 people, and there are 33", *few)
    strict, lax = (found["thresholds"][0]["cosine"] for found in (facts, every))
    assert strict > lax
    made = open_bundle(tmp_path / "alike")
    assert "only those who are alike count" in made.read("MODEL_CARD.md").decode()
    assert "only those who are alike count" in made.read("report.html").decode()
    assert "alike count" not in open_bundle(tmp_path / "all").read("MODEL_CARD.md").decode()


@pytest.mark.parametrize(("people", "rate"), [(36, 1e-2), (111, 1e-3)])
def test_it_takes_so_many_people(people, rate):
    check_people(people, [rate], "people", only_alike=True)
    with pytest.raises(DataError, match=f"which takes {people} people"):
        check_people(people - 1, [rate], "people", only_alike=True)


# --- what an unfit face loses


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=10, max_size=10), st.floats(0, 2), st.integers(0, 99))
def test_unfit_faces_lose_what_the_slow_way_says_on_both_sides(fitness, slope, seed):
    scoring = Scoring(COHORT, FitnessAllowance(0.9, slope))
    rows, known = unit_rows(10, 8, seed), np.array(fitness, np.float32)

    def loss(row):
        lacking = 0.0 if math.isnan(known[row]) else max(0.0, 0.9 - float(known[row]))
        return slow_allowance(COHORT, rows[row]) + slope * lacking

    slow = [[float(rows[a] @ rows[b]) - loss(a) - loss(b) for b in range(4, 10)] for a in range(4)]
    products = scoring.templates(rows[:4], fitness=known[:4]) @ scoring.probes(rows[4:], known[4:]).T
    assert products == pytest.approx(np.array(slow), abs=3e-5)
    pairs = scoring.pairs(rows[:4], rows[4:8], (known[:4], known[4:8]))
    assert pairs == pytest.approx(np.maximum(np.diag(np.array(slow)[:, :4]), -1), abs=3e-5)


def test_without_fitness_or_a_cohort_nothing_changes():
    rows = unit_rows(6)
    plain, low = Scoring(COHORT), np.zeros(6, np.float32)
    assert np.array_equal(SCORING.probes(rows), plain.probes(rows))
    assert np.array_equal(plain.probes(rows, low), plain.probes(rows))
    assert np.array_equal(SCORING.templates(rows, fitness=np.full(6, 0.9, np.float32)), plain.templates(rows))
    assert COSINE.probes(rows, low) is rows


def unfit(manifest, allowance):
    quality = QualityEntry(file="quality.onnx", min_fitness=0.5, enrol_fitness=0.9, allowance=allowance)
    files = manifest.files | {"quality.onnx": next(iter(manifest.files.values()))}
    return manifest.model_copy(update={"quality": quality, "files": files})


def test_a_manifest_says_it_and_needs_a_cohort():
    manifest = unfit(facts(), 0.5)
    assert bundle_scoring(manifest, COHORT) is COSINE
    with pytest.raises(BundleError, match="an allowance for fitness needs a cohort"):
        Manifest.parse(manifest.to_json())
    with pytest.raises(BundleError, match="allowance"):
        Manifest.parse(manifest.to_json().replace(b'"allowance": 0.5', b'"allowance": 11'))


def test_calibrate_asks_for_what_an_allowance_needs(tmp_path):
    data, bundle = paint(tmp_path / "people"), scored_bundle(tmp_path / "b")
    wanted = ("calibrate", bundle, "--data", data, "--fmr", "0.2", "--allowance", "0.5", "--out", tmp_path / "new")
    fails("there is no quality network", *wanted)
    assert not (tmp_path / "new").exists()


class Held(Bundle):
    """A bundle that was never written: what is asked of it is its manifest and how faces are compared."""

    def __init__(self, manifest, cohort):
        self.manifest, self.cohort = manifest, cohort

    def scoring(self):
        return bundle_scoring(self.manifest, self.cohort)


class Known:
    """Embeds faces that carry a number as the row of that number."""

    def __init__(self, rows):
        self.rows = rows

    def embed(self, faces):
        return self.rows[faces[:, 0, 0, 0] % len(self.rows)]  # also the face of the canary


def test_thresholds_are_of_scores_with_the_allowance(tmp_path):
    rows, labels = unit_rows(24, 8, 5), np.repeat(np.arange(12), 2)
    fitness = np.random.default_rng(1).uniform(0.5, 1, 24).astype(np.float32)
    faces = np.zeros((24, 112, 112, 3), np.uint8) + np.arange(24, dtype=np.uint8)[:, None, None, None]
    people = People(faces, labels, tuple("abcdefghijkl"), (), fitness)
    manifest = unfit(facts(precisions={"int8": facts().precisions["int8"]}, thresholds=()), 0.0)
    entry = open_bundle("default").manifest.cohort
    manifest = manifest.model_copy(
        update={"cohort": entry, "files": manifest.files | {"cohort.bin": next(iter(manifest.files.values()))}}
    )
    held = Held(manifest, COHORT)
    found = {
        allowance: recalibrate(held, {"int8": Known(rows)}, people, "p", [0.1], allowance=allowance)
        for allowance in (None, 0.5)
    }
    i, j = np.triu_indices(24, 1)
    other = labels[i] != labels[j]
    for allowance, scoring in ((None, Scoring(COHORT)), (0.5, SCORING)):
        scores = scoring.pairs(rows[i], rows[j], (fitness[i], fitness[j]))
        made = found[allowance].manifest
        assert made.quality is not None and made.quality.allowance == (allowance or 0)
        expected = threshold_at_fmr(scores[other], 0.1).threshold
        assert made.thresholds[0].cosine == pytest.approx(expected, abs=1e-5)
    assert found[0.5].manifest.thresholds[0].cosine < found[None].manifest.thresholds[0].cosine
    told = model_card(found[0.5].manifest)
    assert "A face of less fitness than 0.90 loses 0.5" in told and "loses" not in model_card(found[None].manifest)


# --- one score, wherever


class Says:
    """A quality network with one answer."""

    def __init__(self, *scores):
        self.scores = scores

    def judge(self, faces):
        return [Fitness(self.scores[row % len(self.scores)]) for row in range(len(faces))]


@pytest.mark.parametrize("key", [None, KEY])
def test_a_gallery_remembers_how_fit_templates_are(tmp_path, key):
    rows = unit_rows(5)
    fitness = [0.5, 0.95, None, 0.7]
    path = tmp_path / "g.db"
    with Gallery(path, "s", 8, create=True, key=key) as gallery:
        gallery.enroll("Al", [Template(row, fitness=f) for row, f in zip(rows[:3], fitness, strict=False)], SCORING)
        gallery.add("Bo", rows[3])
        gallery.enroll("Cy", [Template(rows[4], fitness=0.7)])
        gallery.merge("Cy", "Bo")
    known = np.array([0.5, 0.95, math.nan, math.nan, 0.7], np.float32)
    expected = SCORING.templates(rows, fitness=known)
    with Gallery(path, "s", 8, key=key) as gallery:
        assert gallery.templates(SCORING)[1] == pytest.approx(expected, abs=1e-6)
        export_gallery(gallery, tmp_path / "out", key)
    with Gallery(tmp_path / "new.db", "s", 8, create=True) as copy:
        take_in(copy, read_export(tmp_path / "out", key).people, "out")
        assert copy.templates(SCORING)[1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("key", "value"), [(None, "2.0"), (None, "'x'"), (KEY, "1.0"), (KEY, "NULL")])
def test_who_alters_a_fitness_is_found_out(tmp_path, key, value):
    path = tmp_path / "g.db"
    with Gallery(path, "s", 8, create=True, key=key) as gallery:
        gallery.enroll("Al", [Template(unit_rows(1)[0], fitness=0.5)], SCORING)
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE templates SET fitness = {value}")
    connection.commit()
    connection.close()
    with pytest.raises(GalleryError, match="was altered"), Gallery(path, "s", 8, key=key) as gallery:
        gallery.templates(SCORING)


def test_verify_and_a_search_say_the_same():
    """One unfit face, one fit: the score of `verify`, and that of a gallery with one of them."""
    rows, fitness = unit_rows(2, 8, 3, lean=3.0), np.array([0.95, 0.6], np.float32)
    face = np.full((112, 112, 3), 128, np.uint8)
    box = np.array([0, 0, 112, 112], np.float32)

    class Pair(Recognizer):
        def take(self, image, name, *, largest=False):
            said = Fitness(float(fitness[image[0, 0, 0]]))
            return Portrait(image, measure(face, box, TEMPLATE, said), name)

        def embed_face(self, image):
            return rows[image[0, 0, 0]]

    gate = Gate(compare=QualitySettings(min_sharpness=0))
    pair = Pair(None, None, "int8", Limits("b", "int8", cosine=0.0), "b", gate, SCORING)  # type: ignore[arg-type]
    pictures = [np.full((112, 112, 3), number, np.uint8) for number in range(2)]
    found = verify(pair, pictures[0], pictures[1])
    searched = Compared(("a",), SCORING.templates(rows[:1], fitness=fitness[:1]), scoring=SCORING)
    (match,) = searched.compare(rows[1:], fitness=fitness[1:])
    assert match.best is not None and found.score == pytest.approx(match.best.score, abs=1e-6)
    plain = replace(pair, scoring=Scoring(COHORT))
    assert verify(plain, pictures[0], pictures[1]).score == pytest.approx(found.score + 0.15, abs=1e-6)


def test_the_loop_takes_off_what_a_face_lacks(tmp_path):
    scoring = Scoring(cohort_of(unit_rows(100, DIMENSION)), FitnessAllowance(0.9, 0.5))
    compare = QualitySettings(min_size_px=40, min_sharpness=0, min_brightness=0, max_brightness=255)
    scores = {}
    for fitness in (0.95, 0.6):
        with Gallery(tmp_path / f"{fitness}.db", "s", DIMENSION, create=True) as gallery:
            for name, grey in (("alice", ALICE), ("bob", BOB)):
                gallery.enroll(name, [Template(person(grey))], scoring)
            settings = RunSettings(DecisionSettings(threshold=-0.9), Gate(Says(fitness), compare))
            events, _ = play(World(still((100, ALICE))), gallery, settings, scoring=scoring)
        scores[fitness] = next(event.score for event in events if event.event == "match")
    assert scores[0.6] == pytest.approx(scores[0.95] - 0.15, abs=1e-5)


def test_fitness_of_many_faces_comes_in_order():
    faces = np.zeros((130, 112, 112, 3), np.uint8)
    faces[:, 0, 0, 0] = np.arange(130)

    class Numbered:
        def judge(self, faces):
            return [Fitness(int(face[0, 0, 0]) / 200) for face in faces]

    assert fitness_scores(Numbered(), faces) == pytest.approx(np.arange(130) / 200)
    assert fitness_scores(Numbered(), faces[:0]).shape == (0,)


# --- at a door


def report():
    """Two conditions: one at which enough pairs are left, and one at which they are not."""
    some = Rates(90, 8000, 0.9, (0.85, 0.95), 0.002, (0.001, 0.004))
    few = Rates(3, 6, 0.5, None, 0.5, None)
    none = Rates(0, 0, None, None, None, None)
    rows = (
        ConditionRates("clean", "as it <is>", 0.01, 0.02, some, some),
        ConditionRates("mask", "mask", 0.99, 1.0, few, none),
    )
    return ConditionReport(100, 0.25, 1e-3, True, rows)


def test_what_eval_measures_is_stated_in_card_and_report():
    rates = DoorRates.of({"data": "/home/me/lfw", **json.loads(json.dumps(report().to_json()))})
    assert rates.data == "lfw"
    assert rates.worst is not None and rates.worst.title == "as it <is>" and not rates.rows[1].counts
    manifest = facts(door=rates)
    assert Manifest.parse(manifest.to_json()).door == rates
    card = model_card(manifest)
    assert "| as it <is> | 1.0% | 0.20% | 0.10% to 0.40% | 90.0% | 90.0% |" in card
    assert "| mask | 99.0% | too few are left | | | |" in card and "Worst: as it <is>" in card
    before, _ = page(facts())
    text, _ = page(manifest)
    assert restate_door(before, rates) == text and restate_door(text, None) == before
    assert "0.20\u00a0%" in text and "as it &lt;is&gt;" in text and text.count("<svg") == before.count("<svg") + 1
    assert "Not measured: `edgeface eval" in model_card(facts())


def test_new_thresholds_forget_what_others_did_at_a_door():
    rates = DoorRates.of({"data": "lfw", **report().to_json()})
    manifest, _ = assemble(facts(door=rates), scored(), (1e-2,))
    assert manifest.door is None
    assert assemble(facts(door=rates), None, (1e-2,))[0].door == rates


@pytest.mark.parametrize("change", [{"people": 1}, {"promised_fmr": None}, {"conditions": [{}]}, {"conditions": 3}])
def test_what_is_no_result_of_eval_is_refused(change):
    with pytest.raises(DataError, match="no results of `edgeface eval --conditions`"):
        DoorRates.of({"data": "lfw", **report().to_json()} | change)
