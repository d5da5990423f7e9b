"""Several processes do what one would: heads that share their classes, whole runs, and what happens when one dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.errors import DataError, TrainingError
from edgeface.images import write_image
from edgeface.losses import IGNORED, LOSSES, CosineHead, build_loss
from edgeface.losses.objective import Objective
from edgeface.losses.ranks import ALONE, Ranks
from edgeface.training import Status, TrainConfig, train
from edgeface.training.checkpoint import BACKBONE, CLASSES, read_info
from edgeface.training.class_store import ClassRows, load_classes
from edgeface.training.journal import read_journal
from edgeface.training.launch import launch
from edgeface.training.processes import join
from edgeface.training.synced_norm import SyncedBatchNorm
from tests.test_training import Stop, StopAt, toy_config, toy_faces

ROOT = Path(__file__).parents[1]
COUNT = 2
ROWS, CLASS_COUNT, SIZE = 12, 7, 5
HEADS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in sorted(LOSSES)),
    ("arcface", {"label_smoothing": 0.2, "interclass_filtering": 0.3}),
    ("arcface", {"sample_rate": 0.4, "label_smoothing": 0.1}),
    ("adaface", {"sample_rate": 0.4}),
    ("curricularface", {"sample_rate": 0.4}),
    ("magface", {"sample_rate": 0.4, "length_low": 1.0, "length_high": 5.0}),
    ("subcenter-arcface", {"sample_rate": 0.4}),
    ("triplet", {"memory": 30}),
]


def head_results(name: str, options: dict[str, Any], ranks: Ranks) -> dict[str, Tensor]:
    """Loss, gradients and state after two steps of a head, with what this process has of the rows and classes."""
    torch.manual_seed(5)
    head = build_loss(name, CLASS_COUNT, SIZE, ranks, **options)
    objective = Objective(head, 1.5, 0.7, ranks)
    generator = torch.Generator().manual_seed(1)
    each = ROWS // ranks.count
    mine = slice(ranks.rank * each, (ranks.rank + 1) * each)
    results: dict[str, Tensor] = {}
    for step in range(2):
        embeddings = 2 * torch.randn(ROWS, SIZE, generator=generator)
        labels = torch.randint(CLASS_COUNT, (ROWS,), generator=generator).sort().values
        labels[ROWS - 1] = IGNORED
        targets = torch.randn(ROWS, SIZE, generator=generator)
        own = embeddings[mine].clone().requires_grad_()
        objective.zero_grad()
        loss = objective(own, labels[mine], targets[mine])[0]
        loss.backward()
        assert own.grad is not None
        results |= {f"{step} loss": loss.detach(), f"{step} rows": own.grad}
        for key, parameter in head.named_parameters():
            assert parameter.grad is not None
            results[f"{step} {'classes' if isinstance(head, CosineHead) else 'all'} {key}"] = parameter.grad.to_dense()
    return results | {f"all {key}": buffer for key, buffer in head.named_buffers()}


def work_on_heads(folder: Path) -> None:
    with join("cpu") as (ranks, _):
        for number, (name, options) in enumerate(HEADS):
            torch.save(head_results(name, options, ranks), folder / f"{number}-{ranks.rank}.pt")
        torch.manual_seed(ranks.rank)
        torch.save(norm_results(ranks), folder / f"norm-{ranks.rank}.pt")


def norm_results(ranks: Ranks) -> dict[str, Tensor]:
    """A batch norm over the rows of all processes, forward and backward, twice, and in evaluation mode."""
    values = torch.randn(ROWS, 3, 4, 4, generator=torch.Generator().manual_seed(2)) * 5 + 40
    plain = nn.BatchNorm2d(3)
    with torch.no_grad():
        plain.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm = plain if ranks.count == 1 else SyncedBatchNorm(plain, ranks)
    each = ROWS // ranks.count
    mine = values[ranks.rank * each : (ranks.rank + 1) * each].requires_grad_()
    mine.retain_grad()
    for _ in range(2):
        result = norm(mine)
        (result**3).sum().backward()
    assert mine.grad is not None
    return {
        "rows result": result.detach(),
        "rows slope": mine.grad,
        "sum weight": plain.weight.grad if plain.weight.grad is not None else torch.zeros(3),
        "all mean": plain.running_mean if plain.running_mean is not None else torch.zeros(3),
        "all variance": plain.running_var if plain.running_var is not None else torch.zeros(3),
        "rows evaluated": norm.eval()(mine).detach(),
    }


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    assert launch(COUNT, work_on_heads, folder)
    return folder


def assert_like_one(one: dict[str, Tensor], several: list[dict[str, Tensor]], tolerance: float = 2e-5) -> None:
    for key, expected in one.items():
        parts = [part[key] for part in several]
        if "rows" in key or "classes" in key:
            parts = [torch.cat(parts)]
        elif "sum" in key:
            parts = [torch.stack(parts).sum(0)]
        for part in parts:
            assert part.shape == expected.shape, key
            torch.testing.assert_close(part, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("number", range(len(HEADS)), ids=lambda n: "-".join([HEADS[n][0], *HEADS[n][1]]))
def test_loss_and_gradients_are_those_of_one_process(heads: Path, number: int) -> None:
    one = head_results(*HEADS[number], ALONE)
    assert any(value.abs().max() > 1e-3 for key, value in one.items() if "rows" in key)
    assert_like_one(one, [torch.load(heads / f"{number}-{rank}.pt") for rank in range(COUNT)])


def test_batch_norms_see_all_rows(heads: Path) -> None:
    assert_like_one(norm_results(ALONE), [torch.load(heads / f"norm-{rank}.pt") for rank in range(COUNT)], 1e-3)


def config_of(**options: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "loss": {"sample_rate": 0.5},
        "optimizer": {"name": "sgd", "lr": 0.02},  # AdamW turns rounding into whole steps where gradients vanish
        "data": {"workers": 0, "val_identities": 0.34},
    }
    return toy_config(base=base, sync_batch_norm=True, **options)


class Kill:
    """Ends a process at a step as a lack of memory would."""

    def update(self, status: Status) -> None:
        if status.step >= 6:
            os.kill(os.getpid(), signal.SIGKILL)


def work_on_run(run: Path, resume: bool) -> None:
    train(config_of(), run, faces=toy_faces(), resume=resume)


def work_until_step_6(run: Path) -> None:
    """The journal is the first process's: it ends there."""
    train(config_of(), run, faces=toy_faces(), progress=Kill())


def work_with_other_faces(folder: Path) -> None:
    rank = os.environ["RANK"]
    try:
        train(config_of(), folder / "run", faces=toy_faces(each=6 if rank == "0" else 7))
    except DataError as error:
        (folder / rank).write_text(str(error))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in one process."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(config_of(), run, faces=toy_faces())
    return run


def assert_close_runs(run: Path, other: Path) -> None:
    ours, theirs = (
        np.array([(line["step"], line["loss"]) for line in read_journal(folder / "metrics.jsonl")])
        for folder in (run, other)
    )
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)
    weights = [load_file(folder / "checkpoint" / BACKBONE) for folder in (run, other)]
    for key, values in weights[0].items():
        torch.testing.assert_close(values, weights[1][key], rtol=0.02, atol=2e-3)
    matrices = [read_classes(folder) for folder in (run, other)]
    for name in matrices[0]:
        torch.testing.assert_close(matrices[0][name], matrices[1][name], rtol=0.02, atol=2e-3)
    assert (matrices[0]["steps"] > 0).all()
    assert (matrices[0]["steps"] < 12).any()  # not every class was in every step


def read_classes(run: Path) -> dict[str, Tensor]:
    tensors = {"weight": torch.zeros(8, 16), "moment": torch.zeros(8, 16), "steps": torch.zeros(8)}
    load_classes(run / "checkpoint" / CLASSES, ClassRows(tensors, 8, 1, ALONE))
    return tensors


def test_a_run_killed_in_two_processes_goes_on_in_one(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"process 0 of 2 was killed \(SIGKILL\); .* go on with --resume"):
        launch(COUNT, work_until_step_6, run)
    assert read_info(run / "checkpoint").step == 4
    assert len(list((run / "checkpoint" / CLASSES).iterdir())) == COUNT
    train(config_of(), run, faces=toy_faces(), resume=True)
    assert_close_runs(run, whole)


def test_a_run_stopped_in_one_process_goes_on_in_two(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stop):
        train(config_of(), run, faces=toy_faces(), progress=StopAt(6))
    assert launch(COUNT, work_on_run, run, True)
    assert_close_runs(run, whole)


def test_processes_that_disagree_on_the_data(tmp_path: Path) -> None:
    assert launch(COUNT, work_with_other_faces, tmp_path)
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "0").read_text() == (
        "process 1 sees 56 faces of 8 identities in its data, this one 48 of 8 in toy; give all processes the same data"
    )
    assert (tmp_path / "1").read_text().startswith("process 0 sees 48 faces of 8 identities")


def work_that_fails(message: str) -> None:
    if os.environ["RANK"] == "1":
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)
    time.sleep(60)


def test_what_another_process_says_is_told() -> None:
    with pytest.raises(TrainingError, match=r"process 1 of 2 stopped: the disk is full; the run has ended"):
        launch(COUNT, work_that_fails, "the disk is full.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy faces in a folder, as the command takes them."""
    folder = tmp_path_factory.mktemp("faces")
    faces = toy_faces()
    for index, sample in enumerate(faces.samples):
        path = folder / f"p{sample.identity}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        write_image(path, faces.images[index])
    return folder


SETTINGS = ["model.name=resnet-nano", "model.embedding_size=16", "data.workers=0", "run.batch_size=12", "run.epochs=1"]


def test_nproc(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["train", "--data", str(folder), "--out", str(tmp_path / "run"), "--nproc", "2", "--json"]
    result = CliRunner().invoke(app, [*options, *(f"--set={s}" for s in SETTINGS)])
    assert result.exit_code == 0, result.output
    said = json.loads(capfd.readouterr().out)  # by the first process alone
    assert (said["steps"], said["classes"]) == (4, 8)


def test_torchrun(folder: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["-m", "edgeface", "train", "--data", str(folder), "--out", str(tmp_path / "run"), "--json"]
    settings = [f"--set={setting}" for setting in SETTINGS]
    done = subprocess.run([*torchrun, *options, *settings], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 4
    assert len(list((tmp_path / "run" / "checkpoint" / CLASSES).iterdir())) == 2


def test_a_batch_that_cannot_be_divided(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["train", "--data", str(folder), "--out", str(tmp_path / "run"), "--nproc", "2"]
    result = CliRunner().invoke(app, [*options, *(f"--set={s}" for s in SETTINGS), "--set=run.batch_size=13"])
    assert result.exit_code == 1
    said = capfd.readouterr().err + result.output
    assert said.count("run.batch_size = 13 cannot be divided among 2 processes") == 1


def test_processes_within_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(app, ["train", "--data", "faces", "--nproc", "2"])
    assert result.exit_code == 1
    assert "this is one of torchrun's already" in result.output
