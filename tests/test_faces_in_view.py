"""The pipeline with many, doubtful, improving and double faces."""

from types import SimpleNamespace

import numpy as np

from edgeface.faces import TEMPLATE
from edgeface.runtime.cameras.frames import Frame
from edgeface.runtime.deciding.attention import AttentionSettings
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.gate import Gate
from edgeface.runtime.deciding.quality import QualitySettings
from edgeface.runtime.detection.detections import Detections, DetectorSettings
from edgeface.runtime.pipeline import FramePipeline
from edgeface.runtime.timing import Laps

ANY = Gate(compare=QualitySettings(min_size_px=10, min_sharpness=0, min_brightness=0, max_brightness=255))
DECISION = DecisionSettings(threshold=0.5)


class Scene:
    """Faces as rows x, y, side, score; each column of faces is a person of their own, by the grey of its place."""

    def __init__(self, rows=(), people=4):
        self.rows = rows
        self.settings = DetectorSettings(min_score=0.6, low_share=0.5)
        self.batches = []
        self.people = people

    def detect(self, image):
        table = np.array(self.rows, np.float32).reshape(-1, 4)
        boxes = np.stack([table[:, 0], table[:, 1], table[:, 2], table[:, 2]], axis=1)
        landmarks = TEMPLATE[None] / 112 * boxes[:, None, 2:] + boxes[:, None, :2]
        return Detections(boxes, table[:, 3], landmarks.astype(np.float32))

    def embed(self, faces):
        self.batches.append(len(faces))
        return np.eye(8, dtype=np.float32)[faces[:, 56, 56, 0] // 30]


def gallery(*names):
    return SimpleNamespace(
        templates=lambda scoring=None: (names, np.eye(8, dtype=np.float32)[1 : len(names) + 1]), changed=lambda: False
    )


def picture(scene, greys):
    image = np.zeros((600, 2400, 3), np.uint8)
    for (x, y, side, _), grey in zip(scene.rows, greys, strict=True):
        image[int(y) : int(y + side), int(x) : int(x + side)] = grey
    return image


def play(pipeline, image, frames, start=0):
    answers = []
    for row in range(start, start + frames):
        pipeline.process(Frame(image, row, row * 0.04), Laps())
        answers += pipeline.drain()
    return answers


def test_two_hundred_faces_are_bounded_work_and_all_get_an_answer():
    scene = Scene([(60 * (n % 40), 100 * (n // 40), 40 if n % 2 else 30, 0.9) for n in range(200)])
    image = picture(scene, [210] * 200)
    pipeline = FramePipeline(scene, scene, gallery("alice"), DECISION, ANY)
    answers = play(pipeline, image, 150)

    assert max(scene.batches) == 8
    assert {answer.track.id for answer in answers} == set(range(1, 201))
    assert {answer.decision.state for answer in answers} == {"unknown"}
    # The larger ones came first.
    assert np.median([a.track.box[2] for a in answers[:20]]) == 40


def test_a_doubtful_face_keeps_its_track_and_is_neither_started_nor_embedded():
    scene = Scene([(100, 100, 80, 0.9)])
    image = picture(scene, [35])
    pipeline = FramePipeline(scene, scene, gallery("alice"), DECISION, ANY)
    assert [a.decision.identity for a in play(pipeline, image, 5)] == ["alice"]
    looks = pipeline.embedded
    scene.rows = [(100, 100, 80, 0.4), (600, 100, 80, 0.4)]
    found, tracks = pipeline.process(Frame(image, 5, 0.2), Laps())
    play(pipeline, image, 50, start=6)

    assert (len(found), [t.id for t in tracks]) == (1, [1])
    assert pipeline.embedded == looks and pipeline.tracks == 1
    assert pipeline.decision(1).identity == "alice"


def test_a_face_is_embedded_again_when_it_is_much_better_than_before():
    scene = Scene([(100, 100, 40, 0.9)])
    pipeline = FramePipeline(scene, scene, gallery("alice"), DECISION, ANY)
    play(pipeline, picture(scene, [35]), 10)
    assert pipeline.embedded == 3
    scene.rows = [(95, 95, 50, 0.9)]
    play(pipeline, picture(scene, [35]), 3, start=10)
    assert pipeline.embedded == 3  # 1.25 times is not more than that
    scene.rows = [(95, 95, 52, 0.9)]
    play(pipeline, picture(scene, [35]), 3, start=13)
    assert pipeline.embedded == 4


def test_the_best_shot_is_the_best_look_and_comes_with_the_answers():
    scene = Scene([(100, 100, 40, 0.9)])
    image = picture(scene, [35])
    rng = np.random.default_rng(0)
    image[100:140, 100:140] = np.clip(35 + rng.normal(0, 6, (40, 40, 1)), 0, 59)
    pipeline = FramePipeline(scene, scene, gallery("alice"), DecisionSettings(0.5, refresh_s=0), ANY)
    small = play(pipeline, image, 3)[0].best
    scene.rows = [(90, 90, 60, 0.9)]
    play(pipeline, image, 1, start=3)
    scene.rows = [(100, 100, 40, 0.9)]
    play(pipeline, image, 2, start=4)
    pipeline.end()
    (last,) = pipeline.drain()

    assert small is not None and last.best is not None and last.is_last
    assert small.quality.size_px == 40 and last.best.quality.size_px == 60
    assert last.best.quality.score > small.quality.score
    assert last.best.face.shape == (112, 112, 3)


def test_two_faces_of_one_name_are_never_both_matched():
    scene = Scene([(100, 100, 80, 0.9), (400, 100, 80, 0.9)])
    pipeline = FramePipeline(scene, scene, gallery("alice"), DECISION, ANY)
    answers = play(pipeline, picture(scene, [35, 35]), 60)

    assert [(a.track.id, a.decision.state) for a in answers] == [(1, "match"), (2, "unknown")]
    assert str(answers[1].decision.why).startswith("alice is already in view: track 1")


def test_no_limit_on_looks():
    scene = Scene([(60 * n, 0, 40, 0.9) for n in range(30)])
    pipeline = FramePipeline(scene, scene, gallery("alice"), DECISION, ANY, attention=AttentionSettings(max_looks=None))
    play(pipeline, picture(scene, [210] * 30), 1)
    assert scene.batches == [30]
