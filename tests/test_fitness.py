"""The gate: what a quality network says, what is refused and why, and pictures that are turned upright."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from edgeface.errors import ConfigError, DataError, NoFaceError
from edgeface.evaluation.discard import discard_curve, judge_views
from edgeface.faces import TEMPLATE
from edgeface.fitness import FAULTS, OUTPUTS, TURNS, Fitness, FitnessLimits
from edgeface.runtime.deciding.gate import Gate
from edgeface.runtime.deciding.quality import ENROLMENT_QUALITY, QualitySettings, measure, unfit
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.portrait import take_portrait

SAID = {"fitness": 0.9, "upright": 1.0}
BOX = np.array([0, 0, 112, 112])


def said(**values):
    return np.array([{**SAID, **values}.get(name, 0.0) for name in OUTPUTS], np.float32)


def test_what_a_network_says_is_put_in_words():
    fit = Fitness.of(said())
    assert (fit.turn_deg, fit.faults, fit.words()) == (0, (), "")
    bad = Fitness.of(said(fitness=0.2, upright=0.1, turned_180=0.9, dark=0.6, cut=0.8, blurred=0.4))
    assert (bad.turn_deg, bad.faults) == (180, ("cut", "dark"))
    assert bad.words() == "upside down, part of the face is outside the picture, too dark"
    assert Fitness.of(said(upright=0.1, turned_90=0.9)).words() == "turned by 90°"
    assert Fitness.of(said(upright=0.4, turned_90=0.3, turned_180=0.3)).turn_deg == 0  # it does not know


@pytest.mark.parametrize("wrong", [np.zeros(9), np.full(10, np.nan), np.full(10, 1.5), np.full(10, -1.0)])
def test_what_is_no_answer_of_a_quality_network_is_refused(wrong):
    with pytest.raises(DataError, match="10 numbers from 0 to 1"):
        Fitness.of(wrong)


@given(st.floats(0, 1), st.floats(0, 1))
def test_limits_survive_being_written(compare, enrol):
    again = FitnessLimits.parse(FitnessLimits(compare, enrol).text())
    assert abs(again.compare - compare) < 1e-4 and abs(again.enrol - enrol) < 1e-4


@pytest.mark.parametrize("text", ["", "1", "0.1 0.2 0.3", "a b", "nan 0", "-1 0", "0 2"])
def test_limits_that_are_none_are_refused(text):
    with pytest.raises(DataError, match="two numbers"):
        FitnessLimits.parse(text)


def test_the_gate_names_the_reason():
    compare = QualitySettings(min_fitness=0.5)
    assert unfit(Fitness(0.6), compare) is None
    assert unfit(Fitness(0.4), compare) == "unfit: fitness 0.40, need 0.50"
    assert unfit(Fitness(0.4, faults=("mouth_covered",)), compare) == "the mouth is covered: fitness 0.40, need 0.50"
    assert unfit(Fitness(0.9, faults=("mouth_covered",)), compare) is None
    assert unfit(Fitness(0.9, faults=("mouth_covered",)), ENROLMENT_QUALITY) == "the mouth is covered"
    assert unfit(Fitness(0.9, faults=("blurred",)), ENROLMENT_QUALITY) == "blurred"
    some = QualitySettings(refused_faults=("cut",))
    assert unfit(Fitness(0.9, faults=("blurred",)), some) is None
    assert unfit(Fitness(0.9, faults=("cut", "blurred")), some) == "part of the face is outside the picture, blurred"
    assert unfit(Fitness(0.9, 180), compare) == "upside down; turn the picture, or the camera's with --rotate 180"
    assert (unfit(Fitness(0.9, 90), compare) or "").endswith("--rotate 270")
    with pytest.raises(ConfigError, match="min_fitness"):
        QualitySettings(min_fitness=1.1)


def test_a_face_that_hangs_upside_down_is_refused_before_its_pose_is_looked_at():
    face = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    quality = measure(face, BOX, TEMPLATE[::-1], Fitness(0.9, 180))
    assert (Gate().refuses(quality) or "").startswith("upside down")
    assert quality.score == 0


def test_with_a_network_its_word_counts_for_what_is_covered():
    grey = np.random.default_rng(0).integers(60, 200, (112, 112, 3), np.uint8)
    grey[80:106, 34:78] = 120  # nothing to see where the mouth should be
    assert "mouth" in measure(grey, BOX, TEMPLATE).covered
    assert measure(grey, BOX, TEMPLATE, Fitness(0.8)).covered == ()
    assert measure(grey, BOX, TEMPLATE, Fitness(0.8, faults=("eyes_covered",))).covered == ("eyes",)


class Marked:
    """Finds the template's landmarks wherever a picture is, and knows by a red corner which way up it hangs."""

    def __init__(self, blind=()):
        self.blind = blind  # turns at which it finds no face
        self.network = self

    def corner(self, image):
        corners = [image[0, 0], image[0, -1], image[-1, -1], image[-1, 0]]  # clockwise
        return next(turn for turn, pixel in enumerate(corners) if pixel[0] == 255 and pixel[1] == 0)

    def detect(self, image):
        if 90 * self.corner(image) in self.blind:
            return Detections.empty()
        return Detections(
            np.array([[0, 0, 112, 112]], np.float32), np.array([0.9], np.float32), TEMPLATE[None].astype(np.float32)
        )

    def judge(self, faces):
        return [Fitness(0.9 if self.corner(face) == 0 else 0.3, 90 * self.corner(face)) for face in faces]


def upright():
    image = np.random.default_rng(1).integers(1, 250, (112, 112, 3), np.uint8)
    image[0, 0] = (255, 0, 0)
    return image


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("blind", [(), (90, 270), (90, 180, 270)])
def test_a_picture_that_hangs_wrong_is_turned(quarters, blind):
    marked = Marked(blind)
    image = np.ascontiguousarray(np.rot90(upright(), -quarters))
    taken = take_portrait(image, marked, Gate(marked), "a.jpg")
    assert taken.turned_deg == 90 * quarters
    assert np.array_equal(taken.face, upright())


def test_without_a_network_no_picture_is_turned():
    image = np.ascontiguousarray(np.rot90(upright(), 2))
    assert np.array_equal(take_portrait(image, Marked(), Gate(), "a.jpg").face, image)
    with pytest.raises(NoFaceError, match=r"no face found in a\.jpg"):
        take_portrait(image, Marked((180,)), Gate(), "a.jpg")


def test_a_picture_without_any_face_says_so():
    marked = Marked((0, 90, 180, 270))
    with pytest.raises(NoFaceError, match=r"no face found in a\.jpg"):
        take_portrait(upright(), marked, Gate(marked), "a.jpg")


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_discard_curve_is_what_refusing_leaves(data):
    count = data.draw(st.integers(1, 60))
    quality = np.array(data.draw(st.lists(st.integers(0, 8), min_size=count, max_size=count)), float)
    missed = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    curve = discard_curve(quality, missed)
    assert curve.at(0) == pytest.approx(missed.mean())
    distinct = np.random.default_rng(0).permutation(count) / count  # no ties: the slow version is plain
    curve = discard_curve(distinct, missed)
    for refused in range(0, count, 7):
        share = refused / count
        if share > 0.95:
            break
        kept = missed[np.argsort(distinct)[refused:]]
        assert curve.at(share) == pytest.approx(kept.mean(), abs=0.02 + 1.5 / max(1, count - refused))


def test_a_discard_curve_of_equal_qualities_is_flat():
    missed = np.arange(100) % 4 == 0
    curve = discard_curve(np.ones(100), missed)
    assert np.allclose(curve.missed, 0.25)
    assert curve.area == pytest.approx(0.25 * 0.95)


def test_a_perfect_quality_leaves_no_misses():
    missed = np.arange(100) < 20
    assert discard_curve(np.arange(100.0), missed).at(0.2) == pytest.approx(0, abs=0.01)
    assert discard_curve(-np.arange(100.0), missed).at(0.2) == pytest.approx(0.25, abs=0.01)


class Truth:
    def __init__(self, rng, count):
        self.fitness = rng.random(count).astype(np.float32)
        self.turns = rng.integers(0, 4, count)
        self.faults = rng.choice(np.array([-1, 0, 1], np.float32), (count, len(FAULTS)))


def test_what_a_network_says_is_judged_as_others_judge_it():
    rng = np.random.default_rng(4)
    truth, words = Truth(rng, 200), rng.random((200, len(OUTPUTS))).round(2)
    report = judge_views(words, truth)
    assert report.views == 200
    assert report.fitness_error == pytest.approx(np.abs(words[:, 0] - truth.fitness).mean())
    assert report.fitness_correlation == pytest.approx(spearmanr(words[:, 0], truth.fitness).statistic)
    assert report.turns == np.mean(words[:, 1 : 1 + len(TURNS)].argmax(axis=1) == truth.turns)
    for place, name in enumerate(FAULTS):
        told = truth.faults[:, place] >= 0
        expected = roc_auc_score(truth.faults[told, place], words[told, 1 + len(TURNS) + place])
        assert report.faults[name] == pytest.approx(expected)


def test_a_fault_that_no_view_has_has_no_figure():
    truth = Truth(np.random.default_rng(4), 20)
    truth.faults[:, 0] = 0
    assert judge_views(np.random.default_rng(5).random((20, len(OUTPUTS))), truth).faults[FAULTS[0]] is None


@given(arrays.arrays(np.float32, 10, elements=st.floats(0, 1, width=32)))
def test_every_answer_in_range_can_be_read(values):
    fitness = Fitness.of(values)
    assert 0 <= fitness.score <= 1 and fitness.turn_deg in (0, 90, 180, 270)
    assert set(fitness.faults) == {name for name, value in zip(FAULTS, values[-5:], strict=True) if value >= 0.5}


def test_a_negative_smallest_face_is_refused():
    with pytest.raises(ConfigError, match="smallest face"):
        Gate().with_smallest(-1)
    assert Gate().with_smallest(60).enrol.min_size_px == 60
