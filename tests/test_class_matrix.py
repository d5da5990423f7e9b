"""The class matrix: its samples, its rows' own steps, and its file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from edgeface.errors import CheckpointError
from edgeface.losses import IGNORED, LOSSES, ArcFace, CosineHead, ElasticFace, build_loss
from edgeface.losses.classes import choose, draw_directions, sample
from edgeface.losses.ranks import ALONE, Ranks
from edgeface.training.class_store import ClassRows, load_classes, save_classes
from edgeface.training.config import OptimizerConfig
from edgeface.training.rows import RowOptimizer

COSINE = sorted(name for name, kind in LOSSES.items() if issubclass(kind, CosineHead))


class TestSample:
    @given(st.integers(1, 5000), st.integers(1, 9), st.integers(0, 2**31 - 1), st.integers(0, 10**6))
    def test_processes_draw_what_one_would(self, classes: int, count: int, seed: int, step: int) -> None:
        shares = [Ranks(rank, count).share(classes) for rank in range(count)]
        assert [c for share in shares for c in share] == list(range(classes))
        chunks = torch.arange(classes).chunk(count)
        assert [len(share) for share in shares][: len(chunks)] == [len(chunk) for chunk in chunks]
        whole = sample(seed, step, range(classes), 0.3)
        assert torch.equal(torch.cat([sample(seed, step, share, 0.3) for share in shares]), whole)

    def test_rate(self) -> None:
        draws = torch.stack([sample(3, step, range(10_000), 0.1) for step in range(50)]).double()
        assert draws.mean().item() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 500_000))
        assert draws.mean(0).max() < 0.4  # no class is favoured: 0.1 and seven standard deviations
        assert not torch.equal(draws[0], draws[1])
        assert not torch.equal(sample(4, 0, range(10_000), 0.1).double(), draws[0])

    def test_choose(self) -> None:
        labels = torch.tensor([7, IGNORED, 4, 11, 7, 5])
        sampled = torch.tensor([False, True, False, False, True])  # of the classes 4 to 8: 5 and 8
        chosen = choose(labels, range(4, 9), sampled)
        assert chosen.classes is not None
        assert (chosen.classes + 4).tolist() == [4, 5, 7, 8]
        assert chosen.rows.tolist() == [0, 2, 4, 5]
        assert chosen.columns.tolist() == [2, 0, 2, 1]
        everything = choose(labels, range(4, 9), None)
        assert everything.classes is None
        assert everything.columns.tolist() == [3, 0, 3, 1]

    @pytest.mark.parametrize("rows", [1, 3])
    def test_first_directions_do_not_depend_on_the_processes(self, rows: int) -> None:
        classes = 2500
        whole = torch.zeros(classes * rows, 2)
        draw_directions(whole, range(classes), 9)
        assert 0.009 < whole.std() < 0.011
        assert len(whole.unique(dim=0)) == len(whole)
        parts = [torch.zeros(len(Ranks(rank, 3).share(classes)) * rows, 2) for rank in range(3)]
        for rank, part in enumerate(parts):
            draw_directions(part, Ranks(rank, 3).share(classes), 9)
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("name", COSINE)
def test_sampled_loss_is_that_of_a_head_with_the_chosen_classes(name: str) -> None:
    classes, size = 60, 6
    torch.manual_seed(2)
    options: dict[str, Any] = {"label_smoothing": 0.1, "scale": 8.0}
    if name == "magface":
        options |= {"length_low": 0.5, "length_high": 9.0}
    partial = build_loss(name, classes, size, sample_rate=0.3, **options)
    assert isinstance(partial, CosineHead)
    labels = torch.tensor([5, 31, IGNORED, 5, 59])
    values = torch.randn(5, size)
    kept = sample(int(partial.draws[0]), 0, range(classes), 0.3)
    kept[labels[labels != IGNORED]] = True
    index = kept.nonzero().squeeze(1)
    small = build_loss(name, len(index), size, **options)
    assert isinstance(small, CosineHead)
    per_class = partial.per_class
    with torch.no_grad():
        small.weight.copy_(partial.weight.view(classes, per_class, size)[index].flatten(0, 1))
    if isinstance(partial, ElasticFace) and isinstance(small, ElasticFace):
        partial.margin_sd = small.margin_sd = 0.0  # they draw from seeds of their own
    of_small = torch.where(labels == IGNORED, IGNORED, torch.searchsorted(index, labels))
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    loss, expected = partial(ours, labels), small(theirs, of_small)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    gradient = partial.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert gradient._nnz() == len(index) * per_class
    dense = gradient.to_dense().view(classes, per_class, size)
    assert small.weight.grad is not None
    torch.testing.assert_close(dense[index].flatten(0, 1), small.weight.grad)
    assert not dense[~kept].any()


def test_evaluation_takes_every_class() -> None:
    torch.manual_seed(0)
    partial, whole = ArcFace(50, 4, sample_rate=0.1), ArcFace(50, 4)
    whole.weight = partial.weight
    embeddings, labels = torch.randn(3, 4), torch.tensor([0, 20, 49])
    assert torch.equal(partial.eval()(embeddings, labels), whole(embeddings, labels))
    assert partial.train()(embeddings, labels) < whole(embeddings, labels)


CONFIGS = [
    OptimizerConfig(name="adamw", weight_decay=0.1),
    OptimizerConfig(name="sgd", weight_decay=0.01, momentum=0.9),
    OptimizerConfig(name="sgd", weight_decay=0.0, momentum=0.0),
]


def torch_optimizer(weight: nn.Parameter, config: OptimizerConfig) -> torch.optim.Optimizer:
    if config.name == "adamw":
        return torch.optim.AdamW([weight], weight_decay=config.weight_decay)
    momentum, decay = config.momentum, config.weight_decay
    return torch.optim.SGD([weight], momentum=momentum, weight_decay=decay, nesterov=momentum > 0)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    optimizer.param_groups[0]["lr"] = lr


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.momentum}")
@pytest.mark.parametrize("block", [3, 1 << 20])
def test_dense_gradients_move_rows_as_torch_does(
    config: OptimizerConfig, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeface.training.rows.BLOCK", block * 3)
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(11, 3))
    twin = nn.Parameter(weight.detach().clone())
    ours, theirs = RowOptimizer(weight, config), torch_optimizer(twin, config)
    for step in range(6):
        weight.grad = torch.randn(11, 3)
        twin.grad = weight.grad.clone()
        for optimizer in (ours, theirs):
            set_rate(optimizer, 0.1 / (step + 1))
            optimizer.step()
    torch.testing.assert_close(weight, twin)
    assert (ours.tensors["steps"] == 6).all()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.momentum}")
def test_sparse_gradients_move_each_row_by_its_own_steps(
    config: OptimizerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one optimizer of torch for each row, which is asked only when the row is sampled."""
    monkeypatch.setattr("edgeface.training.rows.BLOCK", 6)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    weight = nn.Parameter(torch.randn(9, 2))
    rows = [nn.Parameter(row.clone()) for row in weight.detach()]
    ours, theirs = RowOptimizer(weight, config), [torch_optimizer(row, config) for row in rows]
    for step in range(8):
        index = torch.from_numpy(np.sort(rng.choice(9, 4, replace=False)))
        values = torch.randn(4, 2)
        weight.grad = torch.sparse_coo_tensor(
            index[None], values, weight.shape, is_coalesced=True, check_invariants=True
        )
        set_rate(ours, 0.1 / (step + 1))
        ours.step()
        for row, slope in zip(index.tolist(), values, strict=True):
            rows[row].grad = slope
            set_rate(theirs[row], 0.1 / (step + 1))
            theirs[row].step()
    torch.testing.assert_close(weight.detach(), torch.stack([row.detach() for row in rows]))
    assert ours.tensors["steps"].sum() == 32


def test_no_gradient_moves_nothing() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    RowOptimizer(weight, OptimizerConfig()).step()
    assert torch.equal(weight, torch.ones(2, 2))


class TestStore:
    CLASSES = 6

    def rows(self, fill: float | None = None) -> ClassRows:
        generator = torch.Generator().manual_seed(4)
        tensors = {"weight": torch.randn(12, 3, generator=generator), "steps": torch.arange(12.0)}
        if fill is not None:
            tensors = {name: torch.full_like(tensor, fill) for name, tensor in tensors.items()}
        return ClassRows(tensors, self.CLASSES, 2, ALONE)

    def test_what_was_saved_is_loaded(self, tmp_path: Path) -> None:
        save_classes(tmp_path / "classes", self.rows())
        loaded = self.rows(-1.0)
        load_classes(tmp_path / "classes", loaded)
        for name, tensor in self.rows().tensors.items():
            assert torch.equal(loaded.tensors[name], tensor)

    def test_the_file_is_plain_safetensors(self, tmp_path: Path) -> None:
        save_classes(tmp_path, self.rows())
        (file,) = tmp_path.iterdir()
        tensors = load_file(file)
        assert torch.equal(tensors["weight"].view(12, 3), self.rows().tensors["weight"])

    def damaged(self, folder: Path, damage: str) -> None:
        save_classes(folder, self.rows())
        (file,) = folder.iterdir()
        tensors = load_file(file)
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:-7])
        elif damage == "gone":
            file.unlink()
        elif damage == "gap":  # the first and the last third, as if the file of a process between was lost
            file.unlink()
            for number, place in enumerate((0, 4)):
                part = {name: tensor[place : place + 2].contiguous() for name, tensor in tensors.items()}
                offsets = {name: {"saved_offsets": [place, 0]} for name in part}
                metadata = {"DCP_SHARDING_INFO": json.dumps(offsets), "format": "pt"}
                save_file(part, folder / f"classes-{number}.safetensors", metadata)
        elif damage == "fewer":
            file.unlink()
            save_classes(folder, ClassRows({n: t[:10] for n, t in self.rows().tensors.items()}, 5, 2, ALONE))
        elif damage == "nan":
            rows = self.rows()
            rows.tensors["weight"][7, 1] = torch.nan
            save_classes(folder, rows)
        else:
            save_classes(folder, ClassRows({"weight": self.rows().tensors["weight"]}, 6, 2, ALONE))

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            ("cut", "cannot be read"),
            ("gone", r"'weight' in .* has the rows of 0 of 6 classes; a file is missing"),
            ("gap", r"has the rows of 4 of 6 classes; a file is missing"),
            ("fewer", r"has the rows of 5 of 6 classes"),
            ("nan", "not finite, in weight"),
            ("moment", r"'steps' in .* has the rows of 0 of 6"),
        ],
    )
    def test_damage(self, tmp_path: Path, damage: str, message: str) -> None:
        self.damaged(tmp_path / "classes", damage)
        with pytest.raises(CheckpointError, match=message):
            load_classes(tmp_path / "classes", self.rows(0.0))
