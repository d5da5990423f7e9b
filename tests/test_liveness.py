"""Who is recognised but not alive is no match: in the loop, with a network, and in a test of attacks."""

import json
import random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeface.errors import BundleError, ConfigError, DataError, ImageError
from edgeface.faces import TEMPLATE
from edgeface.files import sha256
from edgeface.images import write_image
from edgeface.intervals import wilson
from edgeface.runtime.cameras.frames import FrameSequence
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.gate import Gate
from edgeface.runtime.deciding.quality import QualitySettings
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.events import ListSink
from edgeface.runtime.liveness.attacks import run_attacks
from edgeface.runtime.liveness.challenge import ChallengeSettings
from edgeface.runtime.liveness.liveness import LivenessCheck, LivenessSettings
from edgeface.runtime.liveness.spoofing import SpoofContract, open_spoof_detector, spoof_crop
from edgeface.runtime.loop import RunSettings, run

ANY_FACE = Gate(compare=QualitySettings(min_size_px=20, min_sharpness=0, min_brightness=0, max_brightness=255))
SETTINGS = RunSettings(DecisionSettings(threshold=0.5), ANY_FACE)


class Person:
    """Somebody before the camera, who can be told how to look; they are found, and are always alice."""

    def __init__(self, act, name=0):
        self.act = act
        self.name = name
        self.frame = 0
        self.looks = 0

    def detect(self, image):
        yaw, side = self.act(self.frame)
        self.frame += 1
        landmarks = TEMPLATE.copy()
        eyes = landmarks[1, 0] - landmarks[0, 0]
        landmarks[2, 0] = landmarks[[0, 1, 3, 4], 0].mean() + 0.42 * eyes * np.tan(np.deg2rad(yaw))
        points = (landmarks / 112 * side + 50).astype(np.float32)
        return Detections(np.array([[50, 50, side, side]], np.float32), np.ones(1, np.float32), points[None])

    def embed(self, faces):
        self.looks += len(faces)
        return np.eye(4, dtype=np.float32)[[self.name] * len(faces)]


class Alice:
    def templates(self, scoring=None):
        return ("alice",), np.eye(4, dtype=np.float32)[:1]

    def changed(self):
        return False


def play(person, check, frames=150, settings=SETTINGS):
    sink = ListSink()
    picture = np.full((400, 400, 3), 90, np.uint8)
    run(FrameSequence([picture] * frames, fps=25), person, person, Alice(), settings, [sink], liveness=check)
    return sink.events


def obedient(check):
    """Do what the check asks for, a moment later."""

    def act(frame):
        states = list(check._checks.values())
        what = states[0].challenge.instruction if states and states[0].challenge else ""
        yaw = {"turn your head to your left": 30.0, "turn your head to your right": -30.0}.get(what, 0.0)
        return yaw, 150.0 if what == "come closer" else 100.0

    return act


def told(events, *kinds):
    return [(e.event, e.identity) for e in events if e.event in kinds]


def challenged(seed=0, **more):
    return LivenessCheck(LivenessSettings(ChallengeSettings(**more)), rng=random.Random(seed))


@pytest.mark.parametrize("seed", range(4))
def test_a_person_who_does_what_is_asked_is_a_match_and_not_before(seed):
    check = challenged(seed)
    events = play(Person(obedient(check)), check)

    assert told(events, "match", "rejected", "unknown", "lost") == [("match", "alice"), ("lost", "alice")]
    requests = [e for e in events if e.event == "challenge"]
    assert len(requests) >= 2
    assert all(str(e.why).startswith("liveness: ") and e.identity is None for e in requests)
    match = next(e for e in events if e.event == "match")
    assert match.liveness == 1.0
    assert all(e.frame < match.frame for e in requests)


def test_a_photograph_is_recognised_and_rejected_with_the_reason():
    check = challenged()
    events = play(Person(lambda frame: (0.0, 100.0)), check, frames=400)

    assert told(events, "match") == []
    rejected = [e for e in events if e.event == "rejected"]
    assert rejected and all(e.identity is None and e.liveness == 0.0 for e in rejected)
    assert str(rejected[0].why).startswith("alice is not live: did not ")
    json.loads(rejected[0].to_json())


def test_after_so_many_attempts_it_stays_rejected():
    check = LivenessCheck(
        LivenessSettings(ChallengeSettings(timeout_s=1.0), attempts=2, pause_s=0.5), rng=random.Random(0)
    )
    person = Person(lambda frame: (0.0, 100.0))
    events = play(person, check, frames=300)
    assert sum(e.event == "challenge" for e in events) >= 2
    assert max(e.frame for e in events if e.event == "challenge") < 100
    assert [e.event for e in events][-1] == "lost" and events[-1].identity is None


def test_somebody_else_cannot_do_the_turning():
    """A picture of alice is taken away as soon as the challenge begins, and a stranger turns the head."""
    check = challenged(steps=3)
    person = Person(lambda frame: (0.0, 100.0))
    lively = obedient(check)

    def act(frame):
        if check._checks and next(iter(check._checks.values())).challenge is not None:
            person.name = 1
        return lively(frame)

    person.act = act
    events = play(person, check)
    assert told(events, "match") == []


def test_while_it_is_checked_a_face_is_compared_often():
    check = challenged()
    person = Person(lambda frame: (0.0, 100.0))
    play(person, check, frames=75)  # 3 s: recognised in 3 frames, then five times a second
    assert 3 + 11 <= person.looks <= 3 + 15
    unchecked = Person(lambda frame: (0.0, 100.0))
    play(unchecked, None, frames=75)
    assert unchecked.looks <= 3 + 3


# --- with a network


class Fakes:
    threshold = 0.5

    def __init__(self, *scores):
        self.scores = list(scores)
        self.asked = 0

    def live(self, image, box):
        self.asked += 1
        return self.scores[min(self.asked, len(self.scores)) - 1]


def test_a_network_has_the_last_word():
    passive = LivenessSettings(challenge=None, scores=5)
    fakes = Fakes(0.9)
    events = play(Person(lambda frame: (0.0, 100.0)), LivenessCheck(passive, fakes), frames=50)
    assert told(events, "match", "rejected") == [("match", "alice")]
    assert events[0].liveness == pytest.approx(0.9)
    assert 5 <= fakes.asked <= 5 + 4

    events = play(Person(lambda frame: (0.0, 100.0)), LivenessCheck(passive, Fakes(0.9, 0.9, 0.1)), frames=50)
    assert told(events, "match", "rejected") == [("rejected", None)]
    assert events[0].why == "alice is not live: looks live by 0.420, need 0.500"


def test_a_stranger_is_asked_for_nothing():
    fakes = Fakes(0.9)
    check = LivenessCheck(LivenessSettings(), fakes)
    events = play(Person(lambda frame: (0.0, 100.0), name=2), check, frames=30)
    assert told(events, "unknown", "challenge") == [("unknown", None)]
    assert fakes.asked == 0


def test_pictures_of_a_folder_are_judged_by_one_look():
    check = LivenessCheck(LivenessSettings(challenge=None, scores=1), Fakes(0.1))
    settings = RunSettings(DecisionSettings(threshold=0.5), ANY_FACE, stills=True)
    events = play(Person(lambda frame: (0.0, 100.0)), check, frames=2, settings=settings)
    assert told(events, "match", "rejected") == [("rejected", None)] * 2


def test_nothing_to_check_with_is_an_error():
    with pytest.raises(ConfigError, match="challenge, an anti-spoofing network"):
        LivenessCheck(LivenessSettings(challenge=None))


# --- the slot


def network(tmp_path, name="fas.onnx", shape=(1, 3, 8, 8), **changes: Any):
    """A network that says how bright the first channel is: logits (0, mean - 100)."""
    nodes = [
        helper.make_node("Slice", ["faces", "zero", "one", "axis"], ["first"]),
        helper.make_node("ReduceMean", ["first"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["mean", "hundred"], ["logit"]),
        helper.make_node("Sub", ["logit", "logit"], ["nothing"]),
        helper.make_node("Concat", ["nothing", "logit"], ["flat"], axis=0),
        helper.make_node("Reshape", ["flat", "shape"], ["logits"]),
    ]
    constants = {"zero": [0], "one": [1], "axis": [1], "shape": [1, 2]}
    initializers = [helper.make_tensor(key, TensorProto.INT64, [len(v)], v) for key, v in constants.items()]
    initializers.append(helper.make_tensor("hundred", TensorProto.FLOAT, [1], [100.0]))
    graph = helper.make_graph(
        nodes,
        "fas",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = model.SerializeToString()
    onnx.checker.check_model(model)
    (tmp_path / name).write_bytes(data)
    contract = {
        "format": "edgeface liveness 1",
        "sha256": sha256(data),
        "crop_scale": 1.0,
        "size_wh": [8, 8],
        "colour": "bgr",
        "output": "logits",
        "activation": "softmax",
        "live": 1,
        "threshold": 0.5,
        **changes,
    }
    (tmp_path / name).with_suffix(".json").write_text(json.dumps(contract))
    return tmp_path / name


BOX = np.array([20, 20, 40, 40], np.float32)


def test_the_contract_decides_what_the_network_sees(tmp_path):
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :, 2] = 101  # blue, the first channel of BGR
    detector = open_spoof_detector(network(tmp_path), provider="cpu")
    assert detector.live(image, BOX) == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)
    rgb = open_spoof_detector(network(tmp_path, "rgb.onnx", colour="rgb"), provider="cpu")
    assert rgb.live(image, BOX) == pytest.approx(0, abs=1e-5)
    halved = open_spoof_detector(network(tmp_path, "half.onnx", scale=[0.5, 1, 1], mean=[-101, 0, 0]), provider="cpu")
    assert halved.live(image, BOX) == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)
    other = open_spoof_detector(network(tmp_path, "other.onnx", live=0), provider="cpu")
    assert other.live(image, BOX) == pytest.approx(1 / (1 + np.exp(1)), abs=1e-5)
    sigmoid = open_spoof_detector(network(tmp_path, "sigmoid.onnx", activation="sigmoid"), provider="cpu")
    assert sigmoid.live(image, BOX) == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)


def test_the_crop_is_the_square_around_the_face():
    contract = SpoofContract(
        format="edgeface liveness 1",
        sha256="0" * 64,
        crop_scale=2.0,
        size_wh=(40, 40),
        colour="rgb",
        output="x",
        activation="none",
        live=0,
        threshold=0.5,
    )
    rows, columns = np.mgrid[:200, :200]
    image = np.stack([columns, rows, columns], axis=2).astype(np.uint8)
    crop = spoof_crop(image, np.array([90, 85, 20, 30], np.float32), contract)  # square of 60 around (100, 100)
    np.testing.assert_allclose(crop[0, :, 0], 70 + (np.arange(40) + 0.5) * 1.5 - 0.5, atol=0.6)
    np.testing.assert_allclose(crop[:, 0, 1], 70 + (np.arange(40) + 0.5) * 1.5 - 0.5, atol=0.6)
    beyond = spoof_crop(image, np.array([-30, 0, 20, 20], np.float32), contract)
    assert (beyond[:, :15, 0] == 0).all()
    with pytest.raises(ImageError, match="sides above 0"):
        spoof_crop(image, np.array([5, 5, 0, 10], np.float32), contract)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "of another network"),
        ({"output": "live"}, "has no output 'live'; it has: logits"),
        ({"size_wh": [16, 16]}, "its contract says one input"),
        ({"layout": "nhwc"}, "its contract says one input"),
        ({"colour": "yuv"}, "not a valid contract: colour"),
        ({"threshold": None}, "not a valid contract: threshold"),
        ({"more": 1}, "not a valid contract: more"),
    ],
)
def test_contracts_that_cannot_be_used_say_so(tmp_path, changes, message):
    with pytest.raises(BundleError, match=message):
        open_spoof_detector(network(tmp_path, **changes), provider="cpu")


def test_missing_files_and_values_say_so(tmp_path):
    path = network(tmp_path)
    path.with_suffix(".json").rename(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"fas\.json is missing"):
        open_spoof_detector(path)
    far = open_spoof_detector(network(tmp_path, "far.onnx", live=5), provider="cpu")
    with pytest.raises(ImageError, match="gave 2 values, number 5"):
        far.live(np.zeros((50, 50, 3), np.uint8), BOX)


# --- attacks


class Finder:
    def detect(self, image):
        if image.max() == 0:
            return Detections.empty()
        boxes = np.array([[0, 0, 5, 5], [10, 10, 20, 20]], np.float32)
        return Detections(boxes, np.ones(2, np.float32), np.zeros((2, 5, 2), np.float32))


class Brightness:
    threshold = 0.5

    def live(self, image, box):
        assert box[2] == 20  # the largest face
        return float(image[0, 0, 0]) / 100


def folder(path, *greys):
    path.mkdir(parents=True)
    for row, grey in enumerate(greys):
        write_image(path / f"{row}.png", np.full((40, 40, 3), grey, np.uint8))
    return path


def test_error_rates_by_kind_of_attack(tmp_path):
    folder(tmp_path / "attacks" / "print", 10, 20, 60, 0)
    folder(tmp_path / "attacks" / "screen", 10, 20, 30, 40)
    living = folder(tmp_path / "people", 90, 80, 40, 70, 65)
    (living / "broken.jpg").write_bytes(b"\xff\xd8no")
    done: list[tuple[int, int]] = []
    report = run_attacks(Finder(), Brightness(), tmp_path / "attacks", living, advance=lambda *step: done.append(step))
    facts = report.to_json()

    assert [kind.kind for kind in report.attacks] == ["print", "screen"] and report.worst.kind == "print"
    assert facts["apcer"]["print"] == {
        "rate": pytest.approx(1 / 3),
        "interval": list(wilson(1 / 3, 3)),
        "errors": 1,
        "trials": 3,
        "no_face": 1,
        "unreadable": 0,
    }
    assert facts["apcer"]["screen"]["rate"] == 0
    assert (facts["bpcer"]["rate"], facts["bpcer"]["unreadable"]) == (pytest.approx(1 / 5), 1)
    # Above 0.6 no attack passes: still one of five living people is turned away.
    assert facts["bpcer20"]["threshold"] == pytest.approx(0.6) and facts["bpcer20"]["rate"] == pytest.approx(1 / 5)
    assert report.threshold_for(0.5) == pytest.approx(0.2)
    assert done[-1] == (14, 14)
    strict = run_attacks(Finder(), Brightness(), tmp_path / "attacks", living, threshold=0.7)
    assert strict.to_json()["apcer"]["print"]["rate"] == 0 and strict.to_json()["bpcer"]["rate"] == pytest.approx(2 / 5)


def test_folders_that_cannot_be_used_say_so(tmp_path):
    living = folder(tmp_path / "people", 90)
    with pytest.raises(DataError, match="folder not found"):
        run_attacks(Finder(), Brightness(), tmp_path / "attacks", living)
    (tmp_path / "attacks").mkdir()
    with pytest.raises(DataError, match="one for each kind of attack"):
        run_attacks(Finder(), Brightness(), tmp_path / "attacks", living)
    folder(tmp_path / "attacks" / "print", 0)
    with pytest.raises(DataError, match="no face was found in any picture of 'print'"):
        run_attacks(Finder(), Brightness(), tmp_path / "attacks", living)
