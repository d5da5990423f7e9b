"""Training a detector: metrics, data, and the loop on a handful of pictures."""

import functools
import io
import json
import shutil
import tarfile
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
import pytest
import torch

from edgeface.data.detection import DetectionSet, open_detection_set
from edgeface.errors import CheckpointError, ConfigError, DataError, TrainingError
from edgeface.evaluation.detection import TorchDetector, evaluate_detector, match
from edgeface.images import encode_image
from edgeface.models.detector import FaceDetector
from edgeface.runtime.detection.detections import Detections, DetectorSettings
from edgeface.runtime.detection.detector import FixedDetector
from edgeface.training.config import load_config
from edgeface.training.detection import loop
from edgeface.training.detection.batches import make_batch
from edgeface.training.detection.checkpoint import load_detector
from edgeface.training.detection.config import DetectorConfig, load_detector_config
from edgeface.training.detection.loop import DetectorProgress, train_detector
from edgeface.training.detection.scenes import drawn_scenes
from tests.detector_faces import TINY, labelled

# Metrics.


def found(boxes, scores):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scores, np.float32), labelled(boxes).landmarks)


def test_metrics_on_a_known_answer():
    face, other = [10, 10, 30, 30], [60, 60, 30, 30]
    pictures = [labelled([face]), labelled([face, other], scores=[1.0, 0.5])] + [labelled([])] * 18
    answers = [
        found([face], [0.9]),
        found([face, other, [10, 60, 30, 30]], [0.7, 0.65, 0.6]),  # `other` is unsure: neither good nor bad
        found([[0, 0, 20, 20]], [0.8]),
    ]
    report = evaluate_detector(FixedDetector(answers), pictures)
    # By score: hit 0.9, miss 0.8, hit 0.7, miss 0.6; at 20 pictures one miss is allowed.
    assert (report.pictures, report.faces) == (20, 2)
    assert report.recall == 1.0 and report.min_score == pytest.approx(0.7)
    assert report.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert report.landmark_error == pytest.approx(0, abs=1e-6)
    strict = evaluate_detector(FixedDetector(answers), pictures[:10])
    assert strict.recall == 0.5 and strict.min_score == pytest.approx(0.9)


def test_the_second_detection_of_a_face_is_a_miss():
    face = np.array([[10, 10, 30, 30]], np.float32)
    assert match(np.vstack([face, face + 1]), face, np.ones(1, bool)) == [0, -1]
    assert match(np.vstack([face, face + 1]), face, np.zeros(1, bool)) == [0, 0]


def test_nothing_to_find_is_an_error():
    with pytest.raises(DataError, match="no face"):
        evaluate_detector(FixedDetector([]), [labelled([])])


# Data and the loop.


@functools.cache
def ten_scenes():
    return drawn_scenes(10, seed=2)


@pytest.fixture
def folder(tmp_path):
    """Ten drawn scenes in the layout of a training folder."""
    data = tmp_path / "data"
    data.mkdir()
    lines = []
    for split, first in (("train", 0), ("val", 6)):
        with tarfile.open(data / f"detect-{split}.tar", "w") as tar:
            for index, picture in enumerate(ten_scenes()[first : first + 6], start=first):
                encoded = encode_image(picture.image, ".png")
                member = tarfile.TarInfo(f"{index}.png")
                member.size = len(encoded)
                tar.addfile(member, io.BytesIO(encoded))
                faces = [
                    {"box": box.tolist(), "score": 0.9, "landmarks": points.tolist()}
                    for box, points in zip(picture.boxes, picture.landmarks, strict=True)
                ]
                height, width = picture.image.shape[:2]
                lines.append({"file": member.name, "split": split, "width": width, "height": height, "faces": faces})
    (data / "detect.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return data


def config(folder, **changes):
    """A tiny run; `changes` are of any section."""
    values: dict[str, dict[str, Any]] = {
        "data": {"path": str(folder), "scenes": 3},
        "model": asdict(TINY),
        "optimizer": {},
        "run": {"steps": 4, "batch_size": 2, "side": 64, "checkpoint_steps": 2},
    }
    for section, table in DetectorConfig().to_dict().items():
        values[section] |= {name: changes[name] for name in changes if name in table}
    return DetectorConfig.from_dict(values)


def test_the_set_reads_what_was_written(folder):
    pictures = open_detection_set(folder, "val")
    expected = ten_scenes()[6:]
    assert len(pictures) == 4
    for index, picture in enumerate(expected):
        for _ in range(2):  # decoded, then remembered
            read = pictures.read(index)
            np.testing.assert_array_equal(read.image, picture.image)
            np.testing.assert_allclose(read.boxes, picture.boxes, rtol=1e-6)
            np.testing.assert_allclose(read.landmarks, picture.landmarks, rtol=1e-6)


def test_turned_faces_are_drawn_more_often(folder):
    lines = (folder / "detect.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        for face in record["faces"]:
            face["landmarks"] = [[0, 0], [10, 0], [5, 5], [1, 10], [9, 10]]  # frontal: as wide as high
    records[0]["faces"] = [
        {"box": [3, 4, 20, 30], "score": 0.9, "landmarks": [[0, 0], [5, 0], [5, 5], [0, 10], [5, 10]]}
    ]
    (folder / "detect.jsonl").write_text("\n".join(map(json.dumps, records)))
    pictures = open_detection_set(folder, "train")
    turned = pictures.read(0).image
    rng = np.random.default_rng(0)
    hits = sum(np.array_equal(pictures.draw(rng).image, turned) for _ in range(600))
    assert 250 < hits < 350  # half turned: 1 + 8 / 2 times as often as each of the five others, so in a half


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 11"),
        ('{"split": "train"}', "line 11"),
        ('{"file": "0.png", "split": "train", "faces": [{"box": [1, 2, 3], "score": 1, "landmarks": []}]}', "box of 4"),
        ('{"file": "gone.png", "split": "train", "faces": []}', "gone.png"),
        ('{"file": "0.png", "split": "train", "faces": ["a"]}', "line 11"),
        ("[" * 100_000, "line 11"),
        ("\udcff", "cannot read"),
    ],
)
def test_broken_labels_are_reported(folder, line, message):
    with (folder / "detect.jsonl").open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        open_detection_set(folder, "train")


def test_missing_data_is_reported(folder):
    with pytest.raises(DataError, match=r"detect-test\.tar"):
        open_detection_set(folder, "test")
    (folder / "detect-val.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(DataError, match="tar") as caught:
        open_detection_set(folder, "val")
    assert "\n" not in str(caught.value)


def test_a_broken_picture_is_left_out_and_told(folder, caplog):
    data = bytearray((folder / "detect-train.tar").read_bytes())
    with tarfile.open(folder / "detect-train.tar") as tar:
        first = next(iter(tar))
    whole = len(open_detection_set(folder, "train"))
    data[first.offset_data + 8 : first.offset_data + first.size] = bytes(first.size - 8)
    (folder / "detect-train.tar").write_bytes(data)
    pictures = open_detection_set(folder, "train")
    assert len(pictures) == whole - 1 and first.name not in pictures.names
    assert f"left out 1 of {whole} pictures" in caplog.text and "PNG" in caplog.text
    pictures.read(0)


def test_a_resumed_run_ends_like_an_uninterrupted_one(folder, tmp_path, monkeypatch):
    seen: list[DetectorProgress] = []
    scores = train_detector(config(folder), tmp_path / "whole", seen.append)
    assert [progress.step for progress in seen] == [4] and scores.pictures == 4

    interrupt_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        train_detector(config(folder), tmp_path / "parts")
    assert load_detector(tmp_path / "parts")[1].step == 2
    train_detector(config(folder), tmp_path / "parts", resume=True)
    whole, info = load_detector(tmp_path / "whole")
    parts, _ = load_detector(tmp_path / "parts" / "checkpoint")
    assert info.step == 4 and info.config.model == TINY and info.scores == scores
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, msg=name)
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 4


def test_a_run_may_begin_with_trained_weights(folder, tmp_path):
    train_detector(config(folder, steps=2), tmp_path / "first")
    train_detector(config(folder, steps=1, start=str(tmp_path / "first"), lr=0.0), tmp_path / "second")
    first, second = (load_detector(tmp_path / name)[0].state_dict() for name in ("first", "second"))
    for name, tensor in first.items():
        if name.endswith(("weight", "bias")):
            torch.testing.assert_close(second[name], tensor, msg=name)


def interrupt_at(monkeypatch, call):
    """Stop the next run when it makes this batch, counted from 1."""
    calls = []

    def interrupted(rng, draw, batch, side):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return make_batch(rng, draw, batch, side)

    monkeypatch.setattr(loop, "make_batch", interrupted)


def test_a_run_is_resumed_without_what_it_began_with_but_not_with_other_pictures(folder, tmp_path, monkeypatch):
    train_detector(config(folder, steps=1), tmp_path / "first")
    settings = config(folder, start=str(tmp_path / "first"))
    interrupt_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        train_detector(settings, tmp_path / "run")
    shutil.rmtree(tmp_path / "first")
    names = DetectionSet.names.fget  # type: ignore[attr-defined]  # a property, for mypy a method
    with monkeypatch.context() as patch:
        patch.setattr(DetectionSet, "names", property(lambda self: tuple(f"new/{name}" for name in names(self))))
        with pytest.raises(CheckpointError, match="other data: its pictures have other names now"):
            train_detector(settings, tmp_path / "run", resume=True)
    assert train_detector(settings, tmp_path / "run", resume=True).pictures == 4
    with pytest.raises(CheckpointError, match="no detector checkpoint"):
        train_detector(settings, tmp_path / "new")


def test_a_full_disk_is_one_sentence(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgeface.training.detection.checkpoint.save_file", full)
    with pytest.raises(TrainingError, match=r"what step 2 writes in .*; there is no checkpoint yet: free some space"):
        train_detector(config(folder), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_loss_that_is_not_finite_stops_the_run(folder, tmp_path):
    with pytest.raises(TrainingError, match=r"optimizer\.lr"):
        train_detector(config(folder, steps=20, lr=1e30, warmup_steps=1), tmp_path / "run")


def test_broken_checkpoints_are_reported(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no detector checkpoint"):
        load_detector(tmp_path)
    train_detector(config(folder, steps=1), tmp_path / "run")
    weights = tmp_path / "run" / "checkpoint" / "detector.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="broken"):
        load_detector(tmp_path / "run")
    with pytest.raises(CheckpointError):
        train_detector(config(folder), tmp_path / "run", resume=True)


@pytest.mark.parametrize("wrong", [{"side": 100}, {"side": 32}, {"steps": 0}, {"scene_share": 2.0}, {"scenes": 0}])
def test_the_configuration_is_checked(folder, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        config(folder, **wrong)


def test_a_run_is_not_resumed_with_other_settings(folder, tmp_path):
    train_detector(config(folder, steps=2), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run\.steps = 2, not 4"):
        train_detector(config(folder), tmp_path / "run", resume=True)
    train_detector(config(folder, steps=2, threads=1), tmp_path / "run", resume=True)  # decides nothing


def test_a_run_does_not_begin_with_another_shape(folder, tmp_path):
    train_detector(config(folder, steps=1), tmp_path / "first")
    with pytest.raises(ConfigError, match="another shape"):
        train_detector(config(folder, neck=24, start=str(tmp_path / "first")), tmp_path / "second")


def test_the_recipe_is_read_and_overridden(tmp_path):
    (tmp_path / "a.toml").write_text("[run]\nsteps = 12\nseed = 5\n")
    made = load_detector_config(tmp_path / "a.toml", ["run.seed=6", "model.widths=[8, 8, 8, 8, 8]"])
    assert (made.run.steps, made.run.seed, made.model.widths) == (12, 6, (8, 8, 8, 8, 8))
    assert DetectorConfig.from_dict(made.to_dict()) == made
    text = (resources.files("edgeface.training") / "recipes" / "detector.toml").read_text()
    assert all(f"# {word}:" in text for word in ("Data", "Hardware", "Time", "Reaches"))
    for wrong, message in (
        ("run.steps=many", "should be int"),
        ("steps=1", "nearest: run.steps"),
        ("model.widths=[1]", "an array of 5"),
        ("run.steps", "has no value"),
        ("loss.name=arcface", "the sections are data"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_detector_config(overrides=[wrong])
    with pytest.raises(ConfigError, match="is for --task embed"):
        load_detector_config(recipe="demo")
    with pytest.raises(ConfigError, match="is for --task detect"):
        load_config(recipe="detector")


def test_pictures_without_faces_and_faces_without_landmarks_are_trained_on(folder, tmp_path):
    records = [json.loads(line) for line in (folder / "detect.jsonl").read_text().splitlines()]
    first, second = [r for r in records if r["split"] == "train" and len(r["faces"]) >= 1][:2]
    faces = sum(len(r["faces"]) for r in records if r["split"] == "train")
    gone, bare = len(first["faces"]), len(second["faces"])
    del first["faces"]
    for face in second["faces"]:
        del face["landmarks"]
    del second["faces"][0]["score"]
    (folder / "detect.jsonl").write_text("\n".join(map(json.dumps, records)))
    census = open_detection_set(folder, "train").census
    assert (census.bare, census.taught, census.unsure) == (bare, faces - gone, 0)
    assert census.pictures == 6 and census.empty >= 1
    told: list[str] = []
    scores = train_detector(config(folder, scene_share=0.0), tmp_path / "run", tell=told.append)
    assert told == [str(census)] and f"{bare} of them without landmarks" in told[0]
    for name, tensor in load_detector(tmp_path / "run")[0].state_dict().items():
        assert torch.isfinite(tensor).all(), name
    assert scores.pictures == 4


def test_the_torch_detector_leaves_pictures_of_any_size_alone():
    image = np.random.default_rng(0).integers(0, 256, (45, 71, 3), np.uint8)
    assert len(TorchDetector(FaceDetector(TINY), DetectorSettings(min_score=0.9)).detect(image)) == 0
