"""Photographs of people nobody named: everybody is held against a changed copy, by place."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgeface.images import read_image, write_image
from edgeface.runtime.photographs import changed_copy, original_boxes, try_photographs
from edgeface.runtime.recognizer import open_recognizer
from edgeface.scoring import COSINE
from tests.test_cli import fails, run


@pytest.fixture(scope="module")
def recognizer():
    return open_recognizer("default", provider="cpu")


@pytest.fixture
def folder(tmp_path):
    from skimage import data

    write_image(tmp_path / "in" / "woman.png", np.ascontiguousarray(data.astronaut()[..., :3]))
    write_image(tmp_path / "in" / "wall.png", np.full((200, 300, 3), 120, np.uint8))
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    return tmp_path / "in"


def test_boxes_of_the_copy_come_back():
    image = np.zeros((80, 120, 3), np.uint8)
    image[16:40, 20:60] = 200
    copy = changed_copy(image)
    assert copy.shape == (60, 90, 3)
    rows, columns = np.nonzero(copy[..., 0] > 70)
    box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert copy.max() == 140
    np.testing.assert_allclose(original_boxes(np.array([box], np.float32), 120)[0], [20, 16, 40, 24], atol=1)


def test_a_person_is_known_again(recognizer, folder, tmp_path):
    wall, woman = try_photographs(recognizer, folder, tmp_path / "out")
    assert (wall.name, wall.faces, wall.known, wall.unknown, wall.mistaken) == ("wall.png", 0, 0, 0, 0)
    assert (woman.name, woman.faces, woman.known, woman.unknown, woman.mistaken) == ("woman.png", 1, 1, 0, 0)
    assert (read_image(woman.picture) != read_image(folder / "woman.png")).any()  # something was drawn


def test_who_is_too_far_is_unknown_and_a_blind_embedder_mistakes(recognizer, folder, tmp_path):
    strict = replace(recognizer, limits=replace(recognizer.limits, cosine=0.9999))
    assert [trial.unknown for trial in try_photographs(strict, folder, tmp_path / "out")] == [0, 1]
    both = np.hstack([read_image(folder / "woman.png"), read_image(folder / "woman.png")[:, ::-1]])
    write_image(tmp_path / "twins" / "t.png", np.ascontiguousarray(both))
    twins = try_photographs(recognizer, tmp_path / "twins", tmp_path / "out")[0]
    assert twins.faces == 2 and twins.known + twins.mistaken == 2

    class Blind:
        contract = recognizer.embedder.contract

        def embed(self, faces):
            return np.ones((len(faces), 1), np.float32)

    blind = try_photographs(
        replace(recognizer, embedder=Blind(), scoring=COSINE), tmp_path / "twins", tmp_path / "out"
    )[0]
    assert (blind.known, blind.mistaken) == (1, 1)


def test_the_demo_says_it(folder, tmp_path, monkeypatch):
    fails("no folder of photographs", "demo", "--out", tmp_path / "o", "--pictures", tmp_path / "none")
    assert not (tmp_path / "o").exists()

    class Result:
        outcomes, correct, seconds, files = (), 0, 1.0, ()
        report = type("Report", (), {"accuracy": 1.0})

    monkeypatch.setattr("edgeface.demo.run_demo", lambda *arguments, **options: Result)
    told = run("demo", "--out", tmp_path / "o", "--pictures", folder, "--json")
    assert told.exit_code == 0, told.output
    facts = json.loads(told.stdout)
    assert facts["photographs"][1] == {"name": "woman.png", "faces": 1, "known": 1, "unknown": 0, "mistaken": 0}
    assert facts["files"] == [str(tmp_path / "o" / "photographs" / name) for name in ("wall.png", "woman.png")]
