"""Faces made for distillation: what they are, that they come out the same again, and what a teacher says of them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.data import UNKNOWN, Sample, StoredFaces, open_faces
from edgeface.data.augment import AugmentConfig
from edgeface.data.faceset import Blob
from edgeface.data.loader import AugmentedFaces
from edgeface.data.morphing import blend, warp
from edgeface.data.teacher import read_targets
from edgeface.data.views import TEACHER_FILE, Views, teach_faces
from edgeface.errors import ConfigError, DataError
from edgeface.images import encode_image
from edgeface.training.config import load_config
from edgeface.training.teacher import open_teacher
from tests.test_cli import run

SEEDS = st.integers(0, 2**32 - 1)


class Means:
    """A teacher that answers with the means of the left and the right half, and a constant."""

    def embed(self, faces):
        halves = np.stack(
            [faces[:, :, :56].mean((1, 2, 3)), faces[:, :, 56:].mean((1, 2, 3)), np.full(len(faces), 9.0)], 1
        )
        return (halves / np.linalg.norm(halves, axis=1, keepdims=True)).astype(np.float32)


def smooth_face(seed):
    rng = np.random.default_rng(seed)
    across, down = np.meshgrid(np.arange(112), np.arange(112))
    waves = [128 + 90 * np.sin(rng.uniform(0.02, 0.1) * across + rng.uniform(0.02, 0.1) * down) for _ in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def face_set(samples, pictures):
    return StoredFaces("made", samples, [Blob(encode_image(picture)) for picture in pictures])


@pytest.fixture
def faces():
    samples = [Sample("a", "anna", "train"), Sample("b", None, "train"), Sample("v", "vera", "val")]
    return face_set(samples, [smooth_face(seed) for seed in range(3)])


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_blend_lies_between_its_two_faces(seed):
    one, other = smooth_face(seed), smooth_face(seed + 1)
    mixed = blend(one, other, np.random.default_rng(seed)).astype(int)
    assert mixed.shape == one.shape
    between = [
        np.all((mixed >= np.minimum(one, second).astype(int) - 1) & (mixed <= np.maximum(one, second).astype(int) + 1))
        for second in (other, other[:, ::-1])
    ]
    assert any(between)
    # Neither of the two as it was.
    assert np.abs(mixed - one).max() > 1 and np.abs(mixed - other).max() > 1


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_warp_moves_by_a_few_pixels_and_changes_no_colour(seed):
    flat = np.full((112, 112, 3), 77, np.uint8)
    assert np.all(warp(flat, np.random.default_rng(seed)) == 77)
    ramp = np.repeat(np.tile(2 * np.arange(112, dtype=np.uint8), (112, 1))[..., None], 3, axis=2)
    moved = np.abs(warp(ramp, np.random.default_rng(seed)).astype(int) - ramp) / 2
    assert 0.2 < moved.mean() < 6


def test_views_are_the_face_and_then_others_the_same_each_time(faces):
    views = Views(faces, 4, seed=1)
    assert [(s.key, s.identity, s.split) for s in views.samples] == [
        ("a", "anna", "train"),
        *((f"a~{view}", None, "train") for view in (1, 2, 3)),
        ("b", None, "train"),
        *((f"b~{view}", None, "train") for view in (1, 2, 3)),
        ("v", "vera", "val"),
    ]
    np.testing.assert_array_equal(views.read(0), faces.read(0))
    np.testing.assert_array_equal(views.read(8), faces.read(2))
    pictures = [views.read(place) for place in range(4)]
    assert all(np.any(pictures[i] != pictures[j]) for i in range(4) for j in range(i))
    chosen = Views(faces, 4, seed=1).select([3, 1])
    np.testing.assert_array_equal(chosen.read(0), pictures[3])
    np.testing.assert_array_equal(chosen.read(1), pictures[1])
    assert np.any(Views(faces, 4, seed=2).read(1) != pictures[1])


def test_nobody_of_the_val_part_is_mixed_into_a_training_view():
    samples = [Sample("t", None, "train"), Sample("v", None, "val")]
    dark, bright = np.full((112, 112, 3), 10, np.uint8), np.full((112, 112, 3), 250, np.uint8)
    views = Views(face_set(samples, [dark, bright]), 20, seed=0)
    assert max(views.read(place).max() for place in range(20)) == 10


def test_the_written_set_holds_what_the_teacher_says_of_each_picture(faces, tmp_path):
    seen = []
    report = teach_faces(
        faces, tmp_path / "out", Means(), views=3, seed=5, progress=lambda done, of: seen.append((done, of))
    )
    assert (report.faces, report.views, report.dimension) == (3, 7, 3)
    assert seen[-1] == (14, 14) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    written = open_faces(tmp_path / "out")
    assert written.label_counts()[UNKNOWN] == 5 and written.splits == {"train", "val"}
    targets = read_targets(tmp_path / "out" / TEACHER_FILE, written)
    for place in range(len(written)):
        picture = written.read(place)[None]
        both = Means().embed(picture)[0] + Means().embed(picture[:, :, ::-1])[0]
        np.testing.assert_allclose(targets[place], both / np.linalg.norm(both), atol=1e-3)
    with pytest.raises(DataError, match="exists already"):
        teach_faces(faces, tmp_path / "out", Means(), views=3)
    with pytest.raises(ConfigError, match="at least one view"):
        teach_faces(faces, tmp_path / "none", Means(), views=0)


def test_nothing_stays_when_the_teacher_fails(faces, tmp_path):
    class Failing:
        def embed(self, faces):
            raise DataError("no answer")

    with pytest.raises(DataError, match="no answer"):
        teach_faces(faces, tmp_path / "out", Failing(), views=2)
    assert list(tmp_path.iterdir()) == []


def test_the_command_makes_a_set_that_a_run_learns_from(faces, tmp_path):
    from edgeface.data.packing import pack_faces

    pack_faces(faces, tmp_path / "in")
    taught = run("data", "teach", tmp_path / "in", tmp_path / "out", "--views", "2", "--json")
    assert taught.exit_code == 0, taught.output
    assert json.loads(taught.stdout)["views"] == 5 and json.loads(taught.stdout)["dimension"] == 96
    trained = run(
        *("train", "--data", tmp_path / "out", "--recipe", "default-edge", "--epochs", "1", "--batch-size", "2"),
        *(
            "--set",
            f"teacher.path={tmp_path / 'out' / TEACHER_FILE}",
            "--set",
            "loss.weight=0",
            "--out",
            tmp_path / "a",
        ),
        *("--set", "augment.blend=0", "--set", "augment.warp=0", "--set", "optimizer.warmup_epochs=0", "--quiet"),
    )
    assert trained.exit_code == 0, trained.output


def test_made_faces_have_no_identity_and_need_a_teacher_that_sees_them(faces, tmp_path):
    import torch

    always = AugmentedFaces(faces, AugmentConfig(blend=1.0), seed=0)
    assert [always[0, place][1] for place in range(3)] == [UNKNOWN] * 3
    never = AugmentedFaces(faces, AugmentConfig(), seed=0)
    assert [never[0, place][1] for place in range(3)] == faces.labels.tolist()
    stored = tmp_path / "teacher.npz"
    np.savez(stored, key=np.array(["a"]), embedding=np.ones((1, 96)))
    for path in (str(stored), ""):
        config = load_config(None, [f"teacher.path={path}", "augment.warp=0.5"], "distill-edge")
        with pytest.raises(ConfigError, match=r"only a teacher that sees them"):
            open_teacher(config, faces, torch.device("cpu"))


def test_a_run_begins_with_the_weights_that_it_is_given(faces, tmp_path):
    from safetensors.torch import load_file

    options = ("--recipe", "distill-edge", "--epochs", "1", "--batch-size", "2", "--quiet", "--set", "loss.weight=0")
    from edgeface.data.packing import pack_faces

    pack_faces(faces, tmp_path / "in")
    keys = [sample.key for sample in open_faces(tmp_path / "in").samples]
    np.savez(tmp_path / "t.npz", key=np.array(keys), embedding=np.eye(96)[: len(keys)])
    taught = (
        *options,
        "--set",
        "optimizer.warmup_epochs=0",
        "--data",
        tmp_path / "in",
        "--set",
        f"teacher.path={tmp_path / 't.npz'}",
    )
    first = run("train", *taught, "--out", tmp_path / "a")
    assert first.exit_code == 0, first.output
    again = ("--set", f"model.start={tmp_path / 'a'}", "--set", "optimizer.lr=1e-9", "--set", "run.seed=1")
    begun = run("train", *taught, *again, "--out", tmp_path / "b")
    assert begun.exit_code == 0, begun.output
    before, after = (load_file(tmp_path / name / "checkpoint" / "backbone.safetensors") for name in "ab")
    assert all(np.allclose(before[n], after[n], atol=1e-6) for n in before if n.endswith("weight"))
    deeper = run("train", *taught, *again, "--set", "model.name=resnet-edge-deep", "--out", tmp_path / "deep")
    assert deeper.exit_code == 0, deeper.output
    grown = load_file(tmp_path / "deep" / "checkpoint" / "backbone.safetensors")
    assert all(np.allclose(before[n], grown[n], atol=1e-6) for n in before if n.endswith("weight"))
    assert len(grown) > len(before)
    wrong = run("train", *taught, "--set", f"model.start={tmp_path / 'nowhere'}", "--out", tmp_path / "c")
    assert wrong.exit_code == 1 and "nowhere" in wrong.output


def test_faces_that_the_teacher_does_not_know_are_counted(faces, tmp_path, caplog):
    import torch

    np.savez(tmp_path / "t.npz", key=np.array(["a", "v"]), embedding=np.eye(96)[:2])
    config = load_config(None, [f"teacher.path={tmp_path / 't.npz'}"], "distill-edge")
    assert open_teacher(config, faces, torch.device("cpu")) is not None
    assert "1 of 3 faces have no embedding" in caplog.text and "the first is b" in caplog.text


def test_faces_of_nobody_are_left_out_without_a_teacher_and_counted(caplog):
    from edgeface.training.preparation import prepare

    samples = [*(Sample(f"{who}{n}", who) for who in ("anna", "bert", "carl", "dora") for n in (1, 2)), Sample("x")]
    everybody = face_set(samples, [smooth_face(seed) for seed in range(len(samples))])
    config = load_config(None, ["run.batch_size=2", "data.val_identities=0"], "distill-edge")
    assert len(prepare(config, everybody, None).faces) == 8
    assert "left out 1 of 9 faces, whose identity is not known" in caplog.text
