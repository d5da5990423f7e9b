"""What a run begins with, and what it notices before it starts or goes on: weights, data, pairs, room on the disk."""

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from edgeface.data import UNKNOWN, InMemoryFaces
from edgeface.errors import CheckpointError, DataError, TrainingError
from edgeface.files import is_full, new_folder
from edgeface.models import MODELS, build_model
from edgeface.models.iresnet import IResNet
from edgeface.training import TrainConfig, train
from edgeface.training.beginning import begin_with
from edgeface.training.checkpoint import BACKBONE, STATE
from edgeface.training.config import ModelConfig
from edgeface.training.fingerprint import fingerprint, what_differs
from edgeface.training.journal import read_journal
from tests.test_training import Stop, StopAt, toy_config, toy_faces
from tests.test_weights import TINY, Foreign, adaface


def short(**base: Any) -> TrainConfig:
    """Two epochs of four steps, nothing verified."""
    run = {"epochs": 2, "val_pairs": 0}
    return toy_config(**run, base=base)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "first"
    train(short(), run, faces=toy_faces())
    return run


class TestBeginning:
    def test_a_file_begins_a_run_as_its_folder_does(self, first: Path, tmp_path: Path) -> None:
        state = load_file(first / "checkpoint" / BACKBONE)
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pt")
        begun = []
        for start in (first / "checkpoint", first / "checkpoint" / BACKBONE, tmp_path / "w.pt"):
            torch.manual_seed(1)
            backbone = build_model("resnet-nano", 16)
            begin_with(ModelConfig("resnet-nano", 16, str(start)), backbone)
            begun.append(backbone.state_dict())
        for other in begun:
            weights = {name for name in state if not name.endswith("num_batches_tracked")}
            assert all(torch.equal(other[name], state[name]) for name in weights)

    def test_a_run_from_a_file(self, first: Path, tmp_path: Path) -> None:
        torch.save(load_file(first / "checkpoint" / BACKBONE), tmp_path / "w.pt")
        with pytest.raises(Stop):
            train(
                short(model={"start": str(tmp_path / "w.pt")}, optimizer={"lr": 0.0}),
                tmp_path / "run",
                faces=toy_faces(),
                progress=StopAt(4),
            )
        begun = load_file(tmp_path / "run" / "checkpoint" / BACKBONE)
        for name, tensor in load_file(first / "checkpoint" / BACKBONE).items():
            if name.endswith((".weight", ".bias")):
                torch.testing.assert_close(begun[name], tensor, msg=name)

    def test_weights_of_a_network_that_sees_bgr_are_turned(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edgeface.models.iresnet.WIDTHS", TINY["widths"])
        monkeypatch.setitem(MODELS, "ir-small", lambda d: IResNet(d, depths=TINY["depths"], subsampled=True))
        foreign, rgb = Foreign(), torch.randn(2, 3, 112, 112)
        with torch.no_grad():
            theirs = adaface(foreign, rgb.flip(1), **TINY)
            torch.save(foreign.state, tmp_path / "w.pt")
            backbone = build_model("ir-small", TINY["size"])
            begin_with(ModelConfig("ir-small", TINY["size"], str(tmp_path / "w.pt")), backbone)
            torch.testing.assert_close(backbone.eval()(rgb), theirs, atol=1e-4, rtol=1e-4)

    def test_blocks_that_stay_fresh_are_told(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        small = build_model("resnet-edge", 16)
        torch.save(small.state_dict(), tmp_path / "w.pt")
        deep = build_model("resnet-edge-deep", 16)
        begin_with(ModelConfig("resnet-edge-deep", 16, str(tmp_path / "w.pt")), deep)
        assert "lacks stages.0.0, stages.0.1, stages.1.2: blocks that begin as ones that change nothing" in caplog.text
        faces = torch.randn(2, 3, 112, 112)
        with torch.no_grad():
            assert torch.equal(deep.eval()(faces), small.eval()(faces))

    def test_what_does_not_fit(self, first: Path, tmp_path: Path) -> None:
        torch.save(load_file(first / "checkpoint" / BACKBONE), tmp_path / "w.pt")
        for config, message in (
            (ModelConfig("resnet-nano", 32, str(tmp_path / "w.pt")), r"embeddings of 16 numbers .* set it to 16"),
            (
                ModelConfig("resnet-edge", 16, str(tmp_path / "w.pt")),
                r"does not fit resnet-edge: stages\.2\.0\.conv1\.weight is 96 x 64 x 3 x 3 in",
            ),
            (ModelConfig("resnet-nano", 16, str(tmp_path / "none")), r"model.start = .*none not found; give a run"),
            (ModelConfig("resnet-nano", 16, str(tmp_path)), "no checkpoint in"),
        ):
            with pytest.raises(CheckpointError, match=message):
                begin_with(config, build_model(config.name, config.embedding_size))

    def test_a_run_is_resumed_without_what_it_began_with(self, first: Path, tmp_path: Path) -> None:
        shutil.copytree(first, tmp_path / "start")
        config = short(model={"start": str(tmp_path / "start")})
        train(config, tmp_path / "whole", faces=toy_faces())
        with pytest.raises(Stop):
            train(config, tmp_path / "run", faces=toy_faces(), progress=StopAt(6))
        shutil.rmtree(tmp_path / "start")
        train(config, tmp_path / "run", faces=toy_faces(), resume=True)
        ours, theirs = (load_file(tmp_path / run / "checkpoint" / BACKBONE) for run in ("run", "whole"))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        with pytest.raises(CheckpointError, match="not found"):
            train(config, tmp_path / "new", faces=toy_faces())


def named(faces: InMemoryFaces, **changes: Any) -> InMemoryFaces:
    """The same pictures under other names."""
    samples = [replace(sample, **{k: v(sample) for k, v in changes.items()}) for sample in faces.samples]
    other = faces.select(range(len(faces)))
    super(InMemoryFaces, other).__init__(other.name, samples)
    return other


class TestOtherData:
    @pytest.mark.parametrize(
        ("faces", "message"),
        [
            (named(toy_faces(), key=lambda s: f"new/{s.key}"), "its pictures have other names now"),
            (named(toy_faces(), identity=lambda s: f"p{s.identity}"), "its people have other names now"),
            (toy_faces().select([*range(6, 72), *range(6)]), "its pictures come in another order now"),
        ],
    )
    def test_data_of_the_same_counts_is_noticed(self, first: Path, faces: InMemoryFaces, message: str) -> None:
        with pytest.raises(CheckpointError, match=f"other data than toy, although both have 48 .*: {message}"):
            train(short(), first, faces=faces, resume=True)

    def test_other_people_on_the_same_pictures(self) -> None:
        faces = toy_faces(people=3, each=2)
        swapped = InMemoryFaces(faces.images, np.array([0, 1, 0, 1, 2, 2]))
        assert what_differs(fingerprint(faces), fingerprint(swapped)) == "its pictures are of other people"
        assert what_differs(fingerprint(faces), fingerprint(faces)) is None

    @pytest.mark.parametrize("old", [None, {}, {"unknown": "x"}])
    def test_old_checkpoints_are_resumed(self, first: Path, tmp_path: Path, old: Any) -> None:
        shutil.copytree(first, tmp_path / "run")
        state = json.loads((tmp_path / "run" / "checkpoint" / STATE).read_text())
        assert set(state["fingerprint"]) == {"people", "pictures", "order", "labels"}
        if old is None:
            del state["fingerprint"]
        else:
            state["fingerprint"] = old
        (tmp_path / "run" / "checkpoint" / STATE).write_text(json.dumps(state))
        assert train(short(), tmp_path / "run", faces=toy_faces(), resume=True).step == 8


class TestPairs:
    def train(self, tmp_path: Path, faces: InMemoryFaces, loss: dict[str, Any], **run: Any) -> None:
        config = toy_config(epochs=1, val_pairs=0, **run, base={"loss": {"scale": 30.0, "margin": -1.0} | loss})
        train(config, tmp_path / "run", faces=faces, progress=StopAt(1))

    @pytest.mark.parametrize("loss", ["triplet", "contrastive", "n-pair", "multi-similarity", "supcon"])
    def test_one_picture_a_person(self, loss: str, tmp_path: Path) -> None:
        faces = toy_faces(people=40, each=1)
        with pytest.raises(DataError, match=f"loss {loss} compares two pictures of a person, and toy has one of each"):
            self.train(tmp_path, faces, {"name": loss})
        assert not (tmp_path / "run").exists()

    def test_batches_without_pairs(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        faces = toy_faces(people=300, each=2)
        with pytest.raises(DataError, match=r"no batch of 2 has them; set run.sampler=pk"):
            self.train(tmp_path, faces.select(range(0, 80)), {"name": "triplet"}, batch_size=2)
        with pytest.raises(Stop):
            self.train(tmp_path, faces, {"name": "triplet"}, batch_size=12, log_steps=1)
        assert "% of the batches of 12 have them; set run.sampler=pk" in caplog.text

    def test_batches_with_pairs(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        loss = {"name": "triplet"}
        with pytest.raises(Stop):
            self.train(tmp_path, toy_faces(), loss, sampler="pk", faces_per_identity=3, log_steps=1)
        assert "compares two pictures" not in caplog.text

    def test_other_losses_need_none(self, tmp_path: Path) -> None:
        with pytest.raises(Stop):
            self.train(tmp_path, toy_faces(people=40, each=1), {"name": "softmax"}, log_steps=1)

    def test_faces_of_nobody_are_no_pair(self) -> None:
        from edgeface.training.pairing import _share_with_pairs

        rows = [[UNKNOWN, UNKNOWN, 1, 2], [1, 1, UNKNOWN, 2], [1, 1, 1, 1], [1, 1, UNKNOWN, UNKNOWN], [3, 4, 5, 3]]
        expected = [
            len(known := [x for x in row if x != UNKNOWN]) > len(set(known)) > 1 for row in rows
        ]  # somebody twice, and somebody else
        for row, wanted in zip(rows, expected, strict=True):
            assert _share_with_pairs(np.array([row])) == wanted, row
        assert _share_with_pairs(np.array(rows)) == np.mean(expected)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to write more than this into a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Full:
    """Lets the disk be full from a step on."""

    def __init__(self, step: int, size: int) -> None:
        self.step, self.size = step, size

    def update(self, status: Any) -> None:
        if status.step == self.step:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, hard))


class TestFullDisk:
    @pytest.mark.parametrize("size", [100, 20_000], ids=["metrics", "checkpoint"])
    def test_the_checkpoint_before_stays_whole(self, first: Path, tmp_path: Path, size: int) -> None:
        run = tmp_path / "run"
        with (
            largest_file(resource.RLIM_INFINITY),
            pytest.raises(TrainingError, match=r"no room for what step \d .*go on with --resume; the last") as error,
        ):
            train(short(), run, faces=toy_faces(), progress=Full(4, size))
        assert "\n" not in str(error.value)
        assert json.loads((run / "checkpoint" / STATE).read_text())["step"] == 4
        assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
        train(short(), run, faces=toy_faces(), resume=True)
        ours, theirs = (load_file(folder / "checkpoint" / BACKBONE) for folder in (run, first))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert [line["step"] for line in read_journal(run / "metrics.jsonl")] == [3, 4, 6, 8]

    def test_the_first_checkpoint(self, first: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        with largest_file(20_000), pytest.raises(TrainingError, match=r"no checkpoint yet: .* without --resume"):
            train(short(), run, faces=toy_faces())
        with pytest.raises(CheckpointError, match="ended before its first checkpoint; start it again without --resume"):
            train(short(), run, faces=toy_faces(), resume=True)
        assert train(short(), run, faces=toy_faces()).step == 8

    def test_the_class_matrix_and_the_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("edgeface.training.class_store._Writer.write_data", full)
        with pytest.raises(TrainingError, match="no room for what step 4 writes"):
            train(short(), tmp_path / "run", faces=toy_faces())
        monkeypatch.setattr("edgeface.training.loop.write_text", full)
        with pytest.raises(TrainingError, match="no room for the run"):
            train(short(), tmp_path / "run", faces=toy_faces())

    def test_curves_are_not_worth_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(122, "Disk quota exceeded")

        monkeypatch.setattr("edgeface.training.record.draw_curves", full)
        assert train(short(), tmp_path / "run", faces=toy_faces()).step == 8
        assert "no room for" in caplog.text and "curves.png: Disk quota exceeded" in caplog.text

    def test_other_errors_stay_what_they_are(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("edgeface.training.record.append_line", broken)
        with pytest.raises(OSError, match="Input/output"):
            train(short(), tmp_path / "run", faces=toy_faces())

    def test_what_says_that_there_is_no_room(self) -> None:
        assert is_full(OSError(28, "x")) and is_full(SafetensorError("I/O error: x (os error 27)"))
        assert not is_full(OSError(2, "x")) and not is_full(ValueError("(os error 2)"))
        try:
            try:
                raise OSError(122, "quota")
            except OSError as error:
                raise RuntimeError("while writing") from error
        except RuntimeError as error:
            assert is_full(error)

    def test_a_folder_that_cannot_take_its_name_is_put_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import os

        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "old").write_text("old")
        rename, calls = os.rename, []

        def second_fails(source: Any, target: Any) -> None:
            calls.append(source)
            if len(calls) == 2:
                raise OSError(28, "No space left on device")
            rename(source, target)

        monkeypatch.setattr(os, "rename", second_fails)
        with pytest.raises(OSError, match="No space"), new_folder(tmp_path / "a") as folder:
            (folder / "new").write_text("new")
        assert [path.name for path in tmp_path.rglob("*")] == ["a", "old"]
