"""The losses, samplers and live teachers as the training loop and the command line drive them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.data import InMemoryFaces
from edgeface.errors import BundleError, ConfigError, DataError
from edgeface.export.graph import export_backbone
from edgeface.images import write_image
from edgeface.losses import LOSSES, CosineHead, PairHead
from edgeface.models import build_model
from edgeface.training import TrainConfig, load_config, train
from edgeface.training.checkpoint import HEAD, STATE
from edgeface.training.journal import read_journal
from tests.test_training import Stop, StopAt, assert_same_run, toy_config, toy_faces


def config_of(name: str, *, run: dict[str, Any] | None = None, **options: Any) -> TrainConfig:
    loss = {"name": name, "scale": 30.0, "margin": -1.0, **options}
    return toy_config(base={"loss": loss}, **{"epochs": 2, **(run or {})})


@pytest.fixture(scope="module")
def faces() -> InMemoryFaces:
    return toy_faces()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_trains(name: str, faces: InMemoryFaces, tmp_path: Path) -> None:
    pairs = issubclass(LOSSES[name], PairHead)
    run = {"sampler": "pk", "faces_per_identity": 3} if pairs else {"sampler": "balanced"}
    options = {"label_smoothing": 0.1} if issubclass(LOSSES[name], CosineHead) else {}
    info = train(config_of(name, run=run, **options), tmp_path / "run", faces=faces)
    assert (info.loss, info.step) == (name, 8)
    lines = read_journal(tmp_path / "run" / "metrics.jsonl")
    assert all(np.isfinite(line["identity_loss"]) and line["identity_loss"] > 0 for line in lines)
    # 4 people with 3 faces each: 12 anchors, 2 positives, 9 negatives
    if pairs:
        for line in lines:
            total = sum(line[f"triplets_{kind}"] for kind in ("easy", "semi_hard", "hard"))
            assert total == pytest.approx(12 * 2 * 9, abs=1e-3)
            assert (line["pairs_positive"], line["pairs_negative"]) == (12, 12 * 9 / 2)
            assert line["used"] > 0
            assert line["batches_unused"] == 0
    else:
        assert "used" not in lines[0]


@pytest.mark.parametrize(
    ("name", "options", "run"),
    [
        ("triplet", {"memory": 20, "mining": "hard"}, {"sampler": "pk"}),
        ("elasticface", {}, {"sampler": "balanced"}),
        ("adaface", {}, {}),
        ("curricularface", {"sample_rate": 0.5}, {}),
        ("center", {}, {}),
    ],
)
def test_what_a_loss_remembers_survives_an_interruption(
    name: str, options: dict[str, Any], run: dict[str, Any], faces: InMemoryFaces, tmp_path: Path
) -> None:
    config = config_of(name, run=run, **options)
    train(config, tmp_path / "whole", faces=faces)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", faces=faces, progress=StopAt(6))
    train(config, tmp_path / "run", faces=faces, resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert load_file(tmp_path / "run" / "checkpoint" / HEAD)


def test_triplets_tell_strangers_apart(tmp_path: Path) -> None:
    config = config_of("triplet", run={"epochs": 6, "sampler": "pk", "eval_epochs": 6}, mining="semi-hard")
    info = train(config, tmp_path / "run", faces=toy_faces(people=24))
    assert info.accuracy is not None
    assert info.accuracy > 0.8


def test_a_run_of_an_older_version_can_be_resumed(faces: InMemoryFaces, tmp_path: Path) -> None:
    """Its configuration lacks the keys that came later."""
    with pytest.raises(Stop):
        train(toy_config(), tmp_path / "run", faces=faces, progress=StopAt(6))
    path = tmp_path / "run" / "checkpoint" / STATE
    state = json.loads(path.read_text())
    state["config"]["loss"] = {
        k: v for k, v in state["config"]["loss"].items() if k in ("name", "scale", "margin", "weight")
    }
    del state["config"]["run"]["sampler"], state["config"]["run"]["faces_per_identity"]
    path.write_text(json.dumps(state))
    assert train(toy_config(), tmp_path / "run", faces=faces, resume=True).step == 12


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.mining=hard"], r"loss.mining = 'hard' has no effect on the loss arcface"),
        (
            ["loss.name=triplet", "loss.label_smoothing=0.1"],
            r"loss.label_smoothing = 0.1 has no effect on the loss triplet",
        ),
        (["loss.name=triplet", "loss.scale=64"], r"loss.scale = 64.0 has no effect on the loss triplet"),
        (["loss.name=triplet", "loss.mining=5"], r"loss.mining = 5 is of type int; it should be str"),
        (["loss.soft_margin=1"], r"it should be bool"),
        (["loss.weight=0", "loss.memory=5", "teacher.path=t.npz"], r"loss.memory has no effect where loss.weight is 0"),
        (["run.sampler=p-k"], r"use one of: shuffle, balanced, pk"),
        (["run.faces_per_identity=4"], r"has no effect on the sampler shuffle"),
        (["run.sampler=pk", "run.faces_per_identity=5"], r"= 5 does not divide run.batch_size = 12"),
        (["loss.minin=hard"], r"unknown config key 'loss.minin' .* nearest: loss.mining"),
    ],
)
def test_bad_settings(overrides: list[str], message: str, faces: InMemoryFaces, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train(load_config(overrides=["run.batch_size=12", *overrides]), tmp_path / "run", faces=faces)


def test_one_face_a_person_offers_no_pairs(tmp_path: Path) -> None:
    faces = InMemoryFaces(np.zeros((30, 112, 112, 3), np.uint8), np.arange(30))
    config = toy_config(base={"data": {"val_identities": 0.0}}, sampler="pk")
    with pytest.raises(DataError, match="0 faces are of identities with at least 2"):
        train(config, tmp_path / "run", faces=faces)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("teacher") / "teacher.onnx"
    path.write_bytes(export_backbone(build_model("resnet-nano", 16).eval()).SerializeToString())
    return path


class TestLiveTeacher:
    @pytest.mark.parametrize("weight", [0.0, 1.0])
    def test_alone_and_beside_a_head(self, network: Path, faces: InMemoryFaces, tmp_path: Path, weight: float) -> None:
        base = {
            "teacher": {"path": str(network), "weight": 5.0},
            "loss": {"weight": weight},
            "data": {"val_identities": 0.0},
        }
        train(toy_config(base=base, epochs=6), tmp_path / "run", faces=faces)
        lines = read_journal(tmp_path / "run" / "metrics.jsonl")
        assert lines[-1]["teacher_loss"] < lines[0]["teacher_loss"]
        assert (lines[-1]["identity_loss"] is not None) == (weight > 0)

    def test_another_length(self, network: Path, faces: InMemoryFaces, tmp_path: Path) -> None:
        base = {"teacher": {"path": str(network)}, "model": {"embedding_size": 8}}
        with pytest.raises(
            ConfigError, match=r"embeddings have 16 numbers and model.embedding_size is 8; set it to 16"
        ):
            train(toy_config(base=base), tmp_path / "run", faces=faces)

    def test_a_transform_moves_it_into_another_space(self, network: Path, faces: InMemoryFaces, tmp_path: Path) -> None:
        transform = tmp_path / "transform.npz"
        np.savez(transform, mean=np.zeros(16), basis=np.eye(16)[:, :8], scale=np.ones(8))
        base = {
            "teacher": {"path": str(network), "transform": str(transform)},
            "model": {"embedding_size": 8},
            "loss": {"weight": 0.0},
        }
        info = train(toy_config(base=base, epochs=1), tmp_path / "run", faces=faces)
        assert info.embedding_size == 8

    def test_files_that_are_no_teacher(self, faces: InMemoryFaces, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read teacher.path"):
            train(toy_config(base={"teacher": {"path": str(tmp_path / "t.onnx")}}), tmp_path / "run", faces=faces)
        (tmp_path / "t.onnx").write_bytes(b"no network")
        with pytest.raises(BundleError, match=r"t\.onnx"):
            train(toy_config(base={"teacher": {"path": str(tmp_path / "t.onnx")}}), tmp_path / "run", faces=faces)


def test_command(faces: InMemoryFaces, tmp_path: Path) -> None:
    for index, sample in enumerate(faces.samples):
        path = tmp_path / "faces" / f"p{sample.identity}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, faces.images[index])
    settings = [
        "loss.mining=semi-hard", "loss.margin=0.3", "run.sampler=pk", "run.batch_size=12", "run.epochs=1",
        "optimizer.warmup_epochs=0", "model.name=resnet-nano", "model.embedding_size=16", "data.workers=0",
        "run.device=cpu",
    ]  # fmt: skip
    options = [
        "train",
        "--data",
        str(tmp_path / "faces"),
        "--out",
        str(tmp_path / "run"),
        "--loss",
        "triplet",
        "--json",
    ]
    result = CliRunner().invoke(app, [*options, *(f"--set={s}" for s in settings)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["loss"] == "triplet"
    assert read_journal(tmp_path / "run" / "metrics.jsonl")[-1]["triplets_hard"] > 0
