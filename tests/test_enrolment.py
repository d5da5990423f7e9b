"""The enrolment coach: what it takes, refuses and asks for; and who may be enrolled."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.data.synthetic import render_face
from edgeface.data.synthetic.identity import nth_identity
from edgeface.data.synthetic.nuisance import sample_nuisance
from edgeface.errors import ConfigError, GalleryError, NoFaceError
from edgeface.faces import TEMPLATE
from edgeface.images import write_image
from edgeface.runtime.bundle import BUILT_IN_DETECTOR
from edgeface.runtime.cameras.frames import FrameSequence
from edgeface.runtime.deciding.limits import Limits
from edgeface.runtime.deciding.quality import Quality
from edgeface.runtime.detection.detector import Detections, FixedDetector
from edgeface.runtime.enrolling.coach import Advice, Coach, CoachSettings, Teller, View, pitch, redundant
from edgeface.runtime.enrolling.coach_view import CoachView
from edgeface.runtime.enrolling.enrolment import CAMERA_PATIENCE_S, coached_portraits, enroll, resemblances
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.recognizer import Recognizer
from tests.test_runtime_bundle import write_bundle


def view(yaw=0.0, nod=0.0, **more):
    facts = {"size_px": 100.0, "sharpness": 0.3, "brightness": 120.0, "roll_deg": 0.0} | more
    return View(Quality(yaw_deg=yaw, **facts), nod)


def axis(index, towards=0.0, dimension=8):
    """Unit vectors that are `towards` alike, as a cosine to the first axis."""
    vector = np.zeros(dimension, np.float32)
    vector[index] = math.sqrt(1 - towards**2)
    vector[0] += towards
    return vector


def shoot(coach, now_s, seen, embedding):
    advice = coach.look(now_s, 1, seen)
    return coach.take(now_s, seen, embedding) if advice.fault is None else advice


POSES = {"frontal": (0, 3), "left": (25, 3), "right": (-25, 3), "up": (2, -12), "down": (-2, 18)}


# --- what the coach takes


def test_the_frontal_face_comes_first_and_then_every_angle_in_any_order():
    coach = Coach()
    assert str(coach.look(0, 0)) == "0 of 5: look straight into the camera; not taken, nobody is in view"
    assert coach.look(0, 3).fault == "3 faces are in view, come alone"
    assert shoot(coach, 1, view(25), axis(1)).fault == "that looks left"
    assert shoot(coach, 1, view(15), axis(1)).fault == "in between: turned by about 15°"
    for step, angle in enumerate(("frontal", "down", "left", "up", "right"), 1):
        assert not coach.done
        advice = shoot(coach, step, view(*POSES[angle]), axis(step, 0.5))
        assert advice.fault is None and advice.taken == step
    assert coach.done and coach.missing == () and str(advice) == "5 of 5: done"


def test_it_asks_for_what_is_missing_and_refuses_what_there_is_enough_of():
    coach = Coach(CoachSettings(shots=3, angles=3))
    advice = shoot(coach, 0, view(), axis(1))
    assert advice.instruction == "turn your head a little to your left" and coach.missing == ("left", "right")
    assert shoot(coach, 1, view(), axis(2)).fault == "there are enough that look frontal"
    assert shoot(coach, 1, view(nod=15), axis(2)).fault == "there are enough that look down"
    assert shoot(coach, 1, view(-20), axis(2)).instruction == "turn your head a little to your left"
    assert shoot(coach, 2, view(20), axis(3)).instruction == ""
    assert coach.done


def test_up_and_down_count_from_the_persons_own_level():
    for level in (-20.0, 0.0, 20.0):
        coach = Coach()
        shoot(coach, 0, view(nod=level), axis(1))
        for nod, expected in ((-15, "up"), (-5, "frontal"), (5, "frontal"), (15, "down")):
            assert coach.angle(view(nod=level + nod)) == expected
    assert Coach().angle(view(nod=40)) is None


@pytest.mark.parametrize(
    ("seen", "fault"),
    [
        (view(size_px=20.0), "too small: 20 px, need 40"),
        (view(brightness=5.0), "too dark: 5 of 255, need 20"),
        (view(sharpness=0.01), "blurred: sharpness 0.010, need 0.050"),
        (view(50), "turned away: about 50°, at most 45°"),
    ],
)
def test_a_poor_face_is_refused_with_the_reason(seen, fault):
    coach = Coach(CoachSettings(angles=1))
    assert coach.look(0, 1, seen).fault == fault
    assert coach.taken == 0


def test_pictures_are_apart_in_time_and_differ():
    coach = Coach(CoachSettings(shots=3, angles=1, max_cosine=0.9))
    assert shoot(coach, 10.0, view(), axis(0)).fault is None
    assert shoot(coach, 10.4, view(), axis(1)).fault == "too soon after the last picture"
    assert (
        shoot(coach, 10.5, view(), axis(1, 0.91)).fault == "nearly the same as one before (cosine 0.91), move a little"
    )
    assert coach.taken == 1
    assert shoot(coach, 10.5, view(), axis(1, 0.89)).fault is None
    assert coach.look(10.9, 1, view()).fault is not None  # from the picture that was taken on


def test_somebody_else_who_steps_in_is_refused():
    coach = Coach(CoachSettings(angles=1, min_score=0.3))
    shoot(coach, 0, view(), axis(0))
    assert (
        shoot(coach, 1, view(), axis(1, 0.2)).fault
        == "does not look like the person in the pictures before (cosine 0.20)"
    )
    assert shoot(coach, 1, view(), axis(1, 0.4)).fault is None


@given(st.integers(1, 20), st.integers(1, 5))
def test_as_many_pictures_are_wanted_as_asked_for(shots, angles):
    settings = CoachSettings(shots=shots, angles=angles)
    wanted = settings.wanted
    assert sum(wanted.values()) == (0 if angles == 1 else shots)
    assert len(wanted) == (0 if angles == 1 else min(shots, angles))
    assert not wanted or max(wanted.values()) - min(wanted.values()) <= 1
    coach, now_s = Coach(settings), 0.0
    dimension = shots + 1
    while not coach.done:
        pose = POSES[coach.missing[0]] if coach.missing else (30, 0)
        assert shoot(coach, now_s, view(*pose), axis(coach.taken, dimension=dimension)).fault is None
        now_s += 1
    assert coach.taken == shots


@pytest.mark.parametrize("wrong", [{"shots": 0}, {"angles": 0}, {"angles": 6}, {"frontal_deg": 30}, {"nodded_deg": 0}])
def test_settings_that_cannot_be_used(wrong):
    with pytest.raises(ConfigError):
        CoachSettings(**wrong)


def test_lines_come_when_they_change_but_not_too_often():
    teller = Teller(1.0)
    dark, small, taken = Advice(0, 2, "look", "too dark"), Advice(0, 2, "look", "too small"), Advice(1, 2, "turn")
    said = [
        teller.say(now, advice) for now, advice in ((0, dark), (0.5, small), (1.1, small), (5, small), (5.1, taken))
    ]
    assert said == [str(dark), None, str(small), None, str(taken)]


# --- where the head points


@given(
    st.floats(-35, 35), st.floats(-40, 40), st.floats(20, 300), st.tuples(st.floats(-500, 500), st.floats(-500, 500))
)
def test_pitch_is_that_of_a_head_in_space(down_deg, roll_deg, size, shift):
    """Eyes and mouth in a plane, the nose before it; turned in space and seen from afar."""
    points = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.54 * 1.134, 0.42], [-0.4, 1.134, 0], [0.4, 1.134, 0]])
    a, r = math.radians(down_deg), math.radians(roll_deg)
    y = points[:, 1] * math.cos(a) + points[:, 2] * math.sin(a)  # y and the view point down and out of the face
    x = points[:, 0]
    seen = np.stack([x * math.cos(r) - y * math.sin(r), x * math.sin(r) + y * math.cos(r)], axis=1) * size + shift
    assert pitch(seen) == pytest.approx(down_deg, abs=0.2)


def test_pitch_of_landmarks_that_are_no_face():
    assert pitch(np.zeros((5, 2))) == 0
    assert pitch(np.array([[0, 0], [10, 0], [5, 5], [0, -5], [10, -5]])) == 0


# --- with a camera


def face(yaw=0.0, down=0.0, width=100.0, x=10.0):
    landmarks = TEMPLATE.astype(np.float64) / 112 * width
    eyes = 35.24 / 112 * width
    landmarks[2] += math.tan(math.radians(yaw)) * 0.42 * eyes, math.tan(math.radians(down)) * 0.42 * eyes
    box = np.array([[x, 10, width, width]], np.float32)
    return Detections(box, np.array([0.9], np.float32), (landmarks + np.array([x, 10]))[None].astype(np.float32))


class Embeddings:
    """Gives one embedding after the other."""

    space, dimension = "a" * 64, 8

    def __init__(self, answers):
        self.answers = iter(answers)

    def embed(self, faces):
        return next(self.answers)[None]


def scene(answers, embeddings, frames=200):
    noise = np.random.default_rng(0).integers(60, 190, (240, 640, 3), np.uint8)
    limits = Limits("test", "fp32", cosine=0.5)
    recognizer = Recognizer(FixedDetector(answers), Embeddings(embeddings), "fp32", limits, "test")  # type: ignore[arg-type]
    return recognizer, FrameSequence([noise] * frames, fps=4)


def clock(step_s=0.0):
    times = iter(np.arange(100_000) * step_s)
    return lambda: float(next(times))


NOBODY = Detections.empty()
TWO = Detections.join([face(), face(x=200)])


def test_a_camera_gives_what_the_coach_wants():
    answers = [NOBODY, TWO, face(width=20), face(30), face(), face(), face(30), face(30), *[face(-30)] * 9]
    # The first right one is the same as the left one, so that another is taken.
    recognizer, source = scene(answers, [axis(1), axis(2), axis(2), axis(3)])
    heard = []

    def show(frame, found, advice):
        heard.append(advice.fault)
        return True

    coach = Coach(CoachSettings(shots=3, angles=3))
    taken = list(coached_portraits(recognizer, source, coach, show, clock()))
    assert heard == [
        "nobody is in view",
        "2 faces are in view, come alone",
        "too small: 20 px, need 40",
        "that looks left",
        None,
        "there are enough that look frontal",
        None,
        "there are enough that look left",
        "nearly the same as one before (cosine 1.00), move a little",
        None,
    ]
    assert [portrait.face.shape for portrait in taken] == [(112, 112, 3)] * 3
    assert [round(portrait.quality.yaw_deg / 10) for portrait in taken] == [0, 3, -3]
    assert [portrait.source for portrait in taken] == ["memory picture 1", "memory picture 2", "memory picture 3"]
    np.testing.assert_array_equal([portrait.embedding for portrait in taken], [axis(1), axis(2), axis(3)])


def test_a_camera_that_sees_nobody_gives_up_with_the_reason():
    recognizer, source = scene(face(width=20), [], frames=10_000)
    with pytest.raises(NoFaceError, match=r"only 0 of 5 good pictures .*too small: 20 px.*still wanted: frontal, left"):
        list(coached_portraits(recognizer, source, Coach(), None, clock(CAMERA_PATIENCE_S / 50)))
    assert len(recognizer.detector.seen) == 50


def test_patience_counts_from_the_last_picture():
    recognizer, source = scene(face(), [axis(1)], frames=10_000)
    with pytest.raises(NoFaceError, match=r"only 1 of 5 .*there are enough that look frontal"):
        list(coached_portraits(recognizer, source, Coach(), None, clock(CAMERA_PATIENCE_S / 50)))
    assert len(recognizer.detector.seen) == 51


def test_a_source_that_ends_and_a_user_who_stops():
    recognizer, source = scene(face(), [axis(1)], frames=3)
    with pytest.raises(NoFaceError, match=r"only 1 of 2 .*--shots and --angles"):
        list(coached_portraits(recognizer, source, Coach(CoachSettings(shots=2)), None, clock()))
    recognizer, source = scene(face(), [axis(1)])
    with pytest.raises(NoFaceError, match="stopped after 1 of 5 pictures"):
        list(coached_portraits(recognizer, source, Coach(), lambda *_: False, clock()))


def test_a_file_has_its_own_time():
    recognizer, source = scene(face(), [axis(index) for index in range(4)])  # 4 frames a second
    list(coached_portraits(recognizer, source, Coach(CoachSettings(shots=4, angles=1)), None, clock()))
    assert len(recognizer.detector.seen) == 7  # every second frame is half a second later


def test_the_picture_is_a_mirror_with_the_advice():
    image = np.zeros((240, 640, 3), np.uint8)
    image[:, 600:] = 255
    drawn = CoachView().draw(image, face(), Advice(1, 5, "look up", "too dark: 3"))
    assert drawn.shape == image.shape and drawn is not image and image[:, :600].max() == 0
    assert (drawn[200:, :40] == 255).all()
    assert drawn[10:110, 529 - 3 : 529 + 4].max() > 0  # the box, at the right now
    assert CoachView().draw(image, NOBODY, Advice(0, 5, "", None)).shape == image.shape


# --- who may be enrolled


def test_somebody_like_somebody_else_is_refused_by_name_and_score(tmp_path):
    path = tmp_path / "g.db"
    limits = Limits("test", "fp32", cosine=0.5)

    def put(name, *embeddings, **more):
        recognizer, source = scene(face(), embeddings)
        coach = Coach(CoachSettings(shots=len(embeddings), angles=1))
        portraits = coached_portraits(recognizer, source, coach, None, clock())
        return enroll(recognizer, path, name, portraits, limits=limits, **more)

    assert put("Al", axis(0), axis(1, 0.6)).warnings == ()
    assert put("Bo", axis(2), axis(3, 0.3)).warnings == ()
    with pytest.raises(GalleryError, match=r"Cy looks like Al, .*: cosine 0\.700, threshold 0\.500; .*--force"):
        put("Cy", axis(4), axis(5, 0.7))
    with Gallery(path) as gallery:
        assert [p.name for p in gallery.list()] == ["Al", "Bo"]
    (warning,) = put("Cy", axis(4), axis(5, 0.7), force=True).warnings
    assert warning == (
        "Cy looks like Al, who is in the gallery: cosine 0.700, threshold 0.500; one may be taken for the other"
    )
    assert put("Bo", axis(2, 0.4)).warnings == ()  # like Bo, and it is Bo
    (warning,) = put("Bo", axis(6)).warnings
    assert "do not look like the Bo who was enrolled before: cosine 0.000" in warning


def test_without_a_threshold_for_the_gallery_enrolling_goes_on_with_a_warning(tmp_path):
    for name, limits in (("Al", None), ("Bo", Limits("test", "fp32"))):
        recognizer, source = scene(face(), [axis(0)])
        portraits = coached_portraits(recognizer, source, Coach(CoachSettings(shots=1, angles=1)), None, clock())
        result = enroll(recognizer, tmp_path / "g.db", name, portraits, limits=limits)
    assert result.people == 2
    assert result.warnings[0].startswith("not checked whether Bo is like somebody else in the gallery: bundle test has")


def test_resemblances_against_the_obvious_way():
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = rng.normal(size=(9, 4)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        names, new = list("aabbcc"), rows[6:]
        nearest = {
            n: max(float(r @ e) for r, m in zip(rows, names, strict=False) if m == n for e in new) for n in "abc"
        }
        warned = resemblances("a", new, names, rows[:6], 0.8, force=True)
        other = max("bc", key=nearest.__getitem__)
        assert any(f"a looks like {other}" in w for w in warned) == (nearest[other] >= 0.8)
        assert any("do not look like the a" in w for w in warned) == (nearest["a"] < 0.8)


def test_too_many_of_the_same_are_told(tmp_path):
    recognizer, source = scene(face(), [axis(0)] * 4)
    coach = Coach(CoachSettings(shots=4, angles=1, max_cosine=2.0))
    result = enroll(recognizer, tmp_path / "g.db", "Al", coached_portraits(recognizer, source, coach, None, clock()))
    assert result.templates == 4
    assert result.warnings[0].startswith("3 of the 4 templates of Al say nothing that the others do not")


@given(st.lists(st.integers(0, 3), max_size=12))
def test_redundant_templates_are_those_beyond_one_of_each(kinds):
    vectors = np.array([axis(kind) for kind in kinds], np.float32).reshape(-1, 8)
    assert redundant(vectors) == len(kinds) - len(set(kinds))


# --- on the command line


@pytest.mark.skipif(not BUILT_IN_DETECTOR.is_file(), reason="this checkout has no built-in detector")
def test_the_command_refuses_somebody_like_somebody_else_and_takes_a_source(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for index in range(3):
        nuisance = sample_nuisance(rng, 0.3)
        write_image(folder / f"{index}.png", render_face(nth_identity(0, 1), nuisance, size_wh=(320, 320)).image)
    # The embedder sees colours only, so that everybody looks like everybody.
    options = ["--bundle", write_bundle(tmp_path / "b.bundle"), "--detector", BUILT_IN_DETECTOR]
    options += ["--gallery", tmp_path / "g.db"]

    def run(*arguments):
        return CliRunner().invoke(app, ["enroll", *map(str, [*arguments, *options])])

    picture = ["--image", folder / "0.png"]
    assert run("Ada", *picture).exit_code == 0
    refused = run("Bob", *picture)
    assert refused.exit_code == 1 and "error: Bob looks like Ada, who is in the gallery: cosine 1.000" in refused.stderr
    forced = run("Bob", *picture, "--force", "--json")
    assert forced.exit_code == 0 and "Bob looks like Ada" in json.loads(forced.stdout)["warnings"][0]
    assert "warning: Bob looks like Ada" in forced.stderr
    asked = run("Cy", "--source", folder, "--shots", "2", "--angles", "1", "--threshold", "1")
    assert asked.exit_code == 1 and "1 of 2: look at the camera, and move a little" in asked.stderr
    assert "only 1 of 2 good pictures" in asked.stderr and "nearly the same as one before" in asked.stderr
    both = run("Cy", *picture, "--camera", "0")
    assert both.exit_code == 1 and "give pictures with --image" in both.stderr
