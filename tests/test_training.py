"""The training loop: what it learns, what it writes, and what happens when it stops half way."""

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeface.data import UNKNOWN, InMemoryFaces, make_pairs
from edgeface.errors import CheckpointError, ConfigError, DataError, TrainingError
from edgeface.images import read_image
from edgeface.losses import Softmax
from edgeface.models import build_model
from edgeface.training import Status, TrainConfig, Validation, load_backbone, train
from edgeface.training.checkpoint import BACKBONE, CLASSES, HEAD, OPTIMIZER, STATE
from edgeface.training.config import LossConfig
from edgeface.training.journal import read_journal

STEPS = 3 * 4  # 48 of 72 faces are trained on, in batches of 12
TIMINGS = {"faces_per_s", "data_wait"}


def toy_faces(people: int = 12, each: int = 6, seed: int = 0) -> InMemoryFaces:
    """People that differ in coarse patches, seen with noise."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (people, 7, 7, 3)).repeat(16, axis=1).repeat(16, axis=2)
    images = patches.repeat(each, axis=0) + rng.normal(0, 30, (people * each, 112, 112, 3))
    return InMemoryFaces(images.clip(0, 255).astype(np.uint8), np.arange(people).repeat(each), name="toy")


def toy_config(*, base: dict[str, Any] | None = None, **run: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "data": {"workers": 0, "val_identities": 0.34},
        "model": {"name": "resnet-nano", "embedding_size": 16},
        "loss": {"scale": 16.0, "margin": 0.2},
        "optimizer": {"lr": 3e-3, "warmup_epochs": 0.5},
        "run": {"epochs": 3, "batch_size": 12, "log_steps": 3, "val_pairs": 20, "device": "cpu", **run},
    }
    for section, table in (base or {}).items():
        values[section] = values.get(section, {}) | table
    return TrainConfig.from_dict(values)


class Stop(Exception):
    """What the tests interrupt with."""


class StopAt:
    """Interrupts once a step is reached."""

    def __init__(self, step: int) -> None:
        self.step = step

    def update(self, status: Status) -> None:
        if status.step >= self.step:
            raise Stop


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Status] = []

    def update(self, status: Status) -> None:
        self.seen.append(status)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(toy_config(), run, faces=toy_faces())
    return run


def without_timings(run: Path) -> list[dict[str, Any]]:
    lines = read_journal(run / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]


def assert_same_run(run: Path, other: Path) -> None:
    assert without_timings(run) == without_timings(other)
    classes = [str(path.relative_to(other / "checkpoint")) for path in (other / "checkpoint" / CLASSES).glob("*")]
    for name in (BACKBONE, HEAD, OPTIMIZER, *classes):
        ours, theirs = (load_file(folder / "checkpoint" / name) for folder in (run, other))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name


def assert_ended(pids: list[int], timeout_s: float = 30.0) -> None:
    """The processes that prepared faces end by themselves when the one that trains was killed."""
    assert pids
    until = time.monotonic() + timeout_s
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                assert time.monotonic() < until, pid
                time.sleep(0.05)


class TestRun:
    def test_folder(self, finished: Path) -> None:
        assert {p.name for p in finished.iterdir()} == {
            "config.json",
            "metrics.jsonl",
            "curves.png",
            "checkpoint",
            "best",
        }
        assert {p.name for p in (finished / "checkpoint").iterdir()} == {
            BACKBONE, HEAD, CLASSES, OPTIMIZER, STATE
        }  # fmt: skip
        assert {p.name for p in (finished / "best").iterdir()} == {BACKBONE, HEAD, STATE}
        assert TrainConfig.from_dict(json.loads((finished / "config.json").read_text())) == toy_config()
        assert read_image(finished / "curves.png").std() > 5

    def test_journal(self, finished: Path) -> None:
        lines = read_journal(finished / "metrics.jsonl")
        assert [line["step"] for line in lines] == [3, 4, 6, 8, 9, 12]
        assert [line["step"] for line in lines if "val_accuracy" in line] == [4, 8, 12]
        assert lines[-1]["loss"] < lines[0]["loss"]

    def test_it_is_reproducible(self, finished: Path, tmp_path: Path) -> None:
        train(toy_config(), tmp_path / "again", faces=toy_faces())
        assert_same_run(tmp_path / "again", finished)

    def test_worker_processes_change_nothing(self, finished: Path, tmp_path: Path) -> None:
        train(toy_config(base={"data": {"workers": 2}}), tmp_path / "again", faces=toy_faces())
        assert_same_run(tmp_path / "again", finished)

    def test_another_seed_is_another_run(self, finished: Path, tmp_path: Path) -> None:
        train(toy_config(seed=1), tmp_path / "other", faces=toy_faces())
        assert without_timings(tmp_path / "other") != without_timings(finished)

    def test_progress(self, tmp_path: Path) -> None:
        recorder = Recorder()
        info = train(toy_config(), tmp_path / "run", faces=toy_faces(), progress=recorder)
        last = recorder.seen[-1]
        assert (last.step, last.steps, last.epoch, last.epochs, last.eta_s) == (STEPS, STEPS, 3, 3, 0)
        assert last.faces_per_s > 0
        assert 0 <= last.data_wait <= 1
        assert last.val_accuracy == info.accuracy
        assert (info.step, info.epoch, info.classes, info.faces) == (STEPS, 3, 8, 48)
        assert info.best_accuracy is not None
        assert info.accuracy is not None
        assert info.best_accuracy >= info.accuracy

    def test_it_learns_to_verify_people_it_never_saw(self, tmp_path: Path) -> None:
        strangers = toy_faces(people=12, seed=9)
        validation = Validation(strangers, make_pairs(strangers, 200))
        config = toy_config(epochs=6, eval_epochs=6, base={"data": {"val_identities": 0.0}})
        info = train(config, tmp_path / "run", faces=toy_faces(people=20), validation=validation)
        assert info.classes == 20
        assert info.accuracy is not None
        assert info.accuracy > 0.9


class TestResume:
    @pytest.mark.parametrize("step", [6, 8, 9])
    def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
        self, finished: Path, tmp_path: Path, step: int
    ) -> None:
        run = tmp_path / "run"
        with pytest.raises(Stop):
            train(toy_config(), run, faces=toy_faces(), progress=StopAt(step))
        assert len(without_timings(run)) < len(without_timings(finished))
        train(toy_config(), run, faces=toy_faces(), resume=True)
        assert_same_run(run, finished)

    def test_after_kill_9(self, finished: Path, tmp_path: Path) -> None:
        script = (
            "import multiprocessing, os, signal, sys\n"
            "from pathlib import Path\n"
            "from tests.test_training import toy_config, toy_faces, train\n"
            "class Kill:\n"
            "    def update(self, status):\n"
            "        if status.step >= 9:\n"
            "            print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
            "            os.kill(os.getpid(), signal.SIGKILL)\n"
            "config = toy_config(base={'data': {'workers': 1}})\n"
            f"train(config, Path({str(tmp_path / 'run')!r}), faces=toy_faces(), progress=Kill())\n"
        )
        root = Path(__file__).parents[1]
        done = subprocess.run([sys.executable, "-c", script], check=False, cwd=root, stdout=subprocess.PIPE, text=True)
        assert done.returncode == -signal.SIGKILL
        assert_ended([int(pid) for pid in done.stdout.split()])
        with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
            file.write('{"step": 10, "lo')  # as a line cut off by the kill
        train(toy_config(), tmp_path / "run", faces=toy_faces(), resume=True)
        # Threads may differ between the processes, and with them the last bits of sums.
        ours, theirs = without_timings(tmp_path / "run"), without_timings(finished)
        assert [line["step"] for line in ours] == [line["step"] for line in theirs]
        np.testing.assert_allclose([line["loss"] for line in ours], [line["loss"] for line in theirs], rtol=1e-3)

    def test_sgd(self, tmp_path: Path) -> None:
        config = toy_config(base={"optimizer": {"name": "sgd", "lr": 0.05}})
        train(config, tmp_path / "whole", faces=toy_faces())
        with pytest.raises(Stop):
            train(config, tmp_path / "run", faces=toy_faces(), progress=StopAt(9))
        train(config, tmp_path / "run", faces=toy_faces(), resume=True)
        assert_same_run(tmp_path / "run", tmp_path / "whole")

    def test_a_checkpoint_moved_aside_is_found_again(self, finished: Path, tmp_path: Path) -> None:
        """A kill between the two renames leaves the old checkpoint under another name."""
        shutil.copytree(finished, tmp_path / "run")
        aside = tmp_path / "run" / ".checkpoint.old.x" / "old"
        aside.parent.mkdir()
        (tmp_path / "run" / "checkpoint").rename(aside)
        (tmp_path / "run" / ".checkpoint.half").mkdir()
        assert train(toy_config(), tmp_path / "run", faces=toy_faces(), resume=True).step == STEPS
        assert not list((tmp_path / "run").glob(".checkpoint*"))

    def test_a_finished_run_is_left_as_it_is(self, finished: Path, tmp_path: Path) -> None:
        shutil.copytree(finished, tmp_path / "run")
        assert train(toy_config(), tmp_path / "run", faces=toy_faces(), resume=True).step == STEPS
        assert_same_run(tmp_path / "run", finished)

    def test_a_run_is_not_overwritten(self, finished: Path) -> None:
        with pytest.raises(CheckpointError, match=r"holds a run already; resume it"):
            train(toy_config(), finished, faces=toy_faces())

    def test_nothing_to_resume(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"state.json is missing"):
            train(toy_config(), tmp_path / "run", faces=toy_faces(), resume=True)

    @pytest.mark.parametrize(
        ("config", "faces", "message"),
        [
            (toy_config(seed=3), toy_faces(), r"run.seed = 0, now it is 3"),
            (toy_config(base={"optimizer": {"lr": 1e-3}}), toy_faces(), "optimizer.lr"),
            (toy_config(), toy_faces(each=7), "trained on 48 faces of 8 identities, the data now has 56 of 8"),
        ],
    )
    def test_another_configuration_or_data(
        self, finished: Path, config: TrainConfig, faces: InMemoryFaces, message: str
    ) -> None:
        with pytest.raises(CheckpointError, match=message):
            train(config, finished, faces=faces, resume=True)


class TestCheckpoint:
    def test_backbone(self, finished: Path) -> None:
        model, info = load_backbone(finished)
        assert info.model == "resnet-nano"
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        with torch.no_grad():
            assert model(torch.zeros(2, 3, 112, 112)).shape == (2, 16)

    def test_a_run_folder_means_its_best_checkpoint(self, finished: Path) -> None:
        best, info = load_backbone(finished)
        same, _ = load_backbone(finished / "best")
        assert info.accuracy == info.best_accuracy
        assert all(torch.equal(a, b) for a, b in zip(best.parameters(), same.parameters(), strict=True))
        assert load_backbone(finished / "checkpoint")[1].step == STEPS

    def test_the_backbone_holds_nothing_of_the_head(self, finished: Path) -> None:
        folder = finished / "checkpoint"
        backbone, head, classes = (
            load_file(folder / name) for name in (BACKBONE, HEAD, f"{CLASSES}/classes-00001.safetensors")
        )
        assert not head
        assert {name: tensor.shape for name, tensor in classes.items()} == {
            "weight": (8, 16), "moment": (8, 16), "square": (8, 16), "steps": (8, 1)
        }  # fmt: skip
        assert (classes["steps"] == STEPS).all()
        assert not any(tensor.shape == (8, 16) for tensor in backbone.values())

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda f: shutil.rmtree(f), "no checkpoint in"),
            (lambda f: (f / STATE).write_text("{"), "cannot be read"),
            (lambda f: (f / STATE).write_text("[]"), "cannot be read"),
            (lambda f: edit_state(f, format_version=1), "format version 1, this edgeface reads 2"),
            (lambda f: edit_state(f, surprise=1), "lacks a field or has an unknown one"),
            (lambda f: edit_state(f, model="nonesuch"), "unknown model 'nonesuch'"),
            (lambda f: edit_state(f, embedding_size=32), "does not fit the network"),
            (lambda f: edit_state(f, model="resnet-edge"), "does not fit the network"),
            (lambda f: (f / BACKBONE).unlink(), "backbone.safetensors is missing"),
            (lambda f: (f / BACKBONE).write_bytes((f / BACKBONE).read_bytes()[:-9]), "cannot be read"),
            (lambda f: (f / BACKBONE).write_bytes(b"PK not safetensors"), "cannot be read"),
        ],
    )
    def test_damage(self, finished: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
        folder = tmp_path / "checkpoint"
        shutil.copytree(finished / "checkpoint", folder)
        damage(folder)
        with pytest.raises(CheckpointError, match=message):
            load_backbone(folder)


def edit_state(folder: Path, **changes: Any) -> None:
    state = json.loads((folder / STATE).read_text())
    (folder / STATE).write_text(json.dumps(state | changes))


class TestBadInput:
    @pytest.mark.parametrize("network_breaks_first", [False, True])
    def test_what_explodes_keeps_the_last_checkpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network_breaks_first: bool
    ) -> None:
        """The first epoch is saved; in the second, the loss or a running statistic is not finite."""
        forward = Softmax.forward
        calls: list[None] = []

        def breaks(self: Softmax, embeddings: Tensor, labels: Tensor) -> Tensor:
            calls.append(None)
            loss = forward(self, embeddings, labels)
            return loss * math.inf if len(calls) == 6 and not network_breaks_first else loss

        def poison(status: Status) -> None:
            if network_breaks_first and status.step == 6:
                norm = next(m for m in networks[-1].modules() if isinstance(m, nn.BatchNorm2d))
                assert norm.running_var is not None
                norm.running_var.fill_(math.inf)

        networks: list[nn.Module] = []

        def remember(name: str, size: int) -> nn.Module:
            networks.append(build_model(name, size))
            return networks[-1]

        monkeypatch.setattr(Softmax, "forward", breaks)
        monkeypatch.setattr("edgeface.training.learner.build_model", remember)
        config = toy_config(base={"loss": {"name": "softmax", "margin": -1.0}})
        what = "network is not finite at step 8" if network_breaks_first else "loss is not finite at step 6"
        progress = SimpleNamespace(update=poison)
        with pytest.raises(TrainingError, match=rf"the {what} of 12 .learning rate .* lower optimizer.lr"):
            train(config, tmp_path / "run", faces=toy_faces(), progress=progress)
        assert load_backbone(tmp_path / "run" / "checkpoint")[1].step == 4

    def test_a_rate_far_too_high(self, tmp_path: Path) -> None:
        config = toy_config(epochs=15, base={"optimizer": {"name": "sgd", "lr": 1e5, "clip_norm": 0.0}})
        with pytest.raises(TrainingError, match="not finite"):
            train(replace(config, loss=LossConfig(name="softmax")), tmp_path / "run", faces=toy_faces())

    def test_no_data(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="name them with --data"):
            train(toy_config(), tmp_path / "run")

    def test_one_identity(self, tmp_path: Path) -> None:
        faces = InMemoryFaces(np.zeros((20, 112, 112, 3), np.uint8), np.zeros(20, int), name="alone")
        with pytest.raises(DataError, match=r"alone has 1 identities .* at least 2"):
            train(toy_config(), tmp_path / "run", faces=faces)

    def test_no_identity(self, tmp_path: Path) -> None:
        faces = InMemoryFaces(np.zeros((20, 112, 112, 3), np.uint8), np.full(20, UNKNOWN))
        with pytest.raises(DataError, match=r"has 0 identities"):
            train(toy_config(), tmp_path / "run", faces=faces)

    def test_fewer_faces_than_a_batch(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"48 faces to train on, fewer than run.batch_size = 64"):
            train(toy_config(batch_size=64), tmp_path / "run", faces=toy_faces())

    @pytest.mark.parametrize("device", ["cuda:99", "meta", "gpu"])
    def test_devices(self, tmp_path: Path, device: str) -> None:
        with pytest.raises(ConfigError, match=r"run.device"):
            train(toy_config(device=device), tmp_path / "run", faces=toy_faces())

    def test_float16_on_a_cpu(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"float16"):
            train(toy_config(precision="float16"), tmp_path / "run", faces=toy_faces())


class TestTeacher:
    def write(self, path: Path, faces: InMemoryFaces, size: int) -> Path:
        """A teacher that knows the twelve people of the toy set, six faces each."""
        embedding = np.random.default_rng(0).standard_normal((12, size)).repeat(6, axis=0)
        np.savez(path, key=np.array([s.key for s in faces.samples]), embedding=embedding)
        return path

    def test_faces_without_identity_learn_from_the_teacher(self, tmp_path: Path) -> None:
        labelled = toy_faces()
        labels = np.where(np.arange(72) % 3 == 0, UNKNOWN, labelled.labels)
        faces = InMemoryFaces(labelled.images, labels)
        teacher = self.write(tmp_path / "t.npz", faces, 16)
        config = toy_config(
            base={"teacher": {"path": str(teacher)}, "data": {"val_identities": 0.0}, "loss": {"weight": 0.1}}
        )
        info = train(config, tmp_path / "run", faces=faces)
        assert (info.faces, info.classes) == (72, 12)
        lines = read_journal(tmp_path / "run" / "metrics.jsonl")
        assert lines[-1]["teacher_loss"] < lines[0]["teacher_loss"]
        assert lines[-1]["loss"] == pytest.approx(0.1 * lines[-1]["identity_loss"] + lines[-1]["teacher_loss"])

    def test_teacher_alone_needs_no_identity(self, tmp_path: Path) -> None:
        faces = InMemoryFaces(toy_faces().images, np.full(72, UNKNOWN))
        teacher = self.write(tmp_path / "t.npz", faces, 16)
        config = toy_config(base={"teacher": {"path": str(teacher)}, "loss": {"weight": 0.0}})
        info = train(config, tmp_path / "run", faces=faces)
        assert (info.classes, info.accuracy) == (0, None)
        assert load_backbone(tmp_path / "run")[1].step == 18

    def test_another_length(self, tmp_path: Path) -> None:
        teacher = self.write(tmp_path / "t.npz", toy_faces(), 8)
        with pytest.raises(ConfigError, match=r"embeddings have 8 numbers and model.embedding_size is 16; set it to 8"):
            train(toy_config(base={"teacher": {"path": str(teacher)}}), tmp_path / "run", faces=toy_faces())
