"""Losses over pairs and triplets against loops over the batch and an independent library; mining; the memory."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning import distances as reference_distances
from pytorch_metric_learning import losses as reference
from pytorch_metric_learning import miners
from torch.nn import functional

from edgeface.losses import DISTANCES, IGNORED, LOSSES, MINING, PairHead, build_loss
from edgeface.losses.mining import count_triplets

CLASSES, SIZE = 5, 4
PAIR_LOSSES = sorted(name for name, kind in LOSSES.items() if issubclass(kind, PairHead))


def batch(seed: int = 0, rows: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (rows,), generator=generator)
    return 3 * torch.randn(rows, SIZE, generator=generator), labels


def units(embeddings: torch.Tensor) -> np.ndarray:
    x = embeddings.double().numpy()
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def pairs_of(labels: list[int]) -> list[tuple[int, int, bool]]:
    return [(i, j, labels[i] == labels[j]) for i, j in itertools.permutations(range(len(labels)), 2)]


def all_triplets(labels: list[int]) -> list[tuple[int, int, int]]:
    rows = range(len(labels))
    return [
        (a, p, n)
        for a, p, n in itertools.product(rows, rows, rows)
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]
    ]


def mined(d: np.ndarray, labels: list[int], mining: str) -> set[tuple[int, int, int]]:
    """The choice by the words of the papers, anchor by anchor."""
    chosen = set()
    for a in range(len(labels)):
        positives = [p for p in range(len(labels)) if p != a and labels[p] == labels[a]]
        negatives = [n for n in range(len(labels)) if labels[n] != labels[a]]
        if not positives or not negatives:
            continue
        if mining == "all":
            chosen |= {(a, p, n) for p in positives for n in negatives}
        elif mining == "hard":
            chosen.add((a, max(positives, key=lambda p: d[a, p]), min(negatives, key=lambda n: d[a, n])))
        else:
            easiest = [min(positives, key=lambda p: d[a, p])]
            for p in easiest if mining == "easy-positive" else positives:
                beyond = [n for n in negatives if d[a, n] > d[a, p]]
                if beyond:
                    chosen.add((a, p, min(beyond, key=lambda n: d[a, n])))
    return chosen


def squared(x: np.ndarray) -> np.ndarray:
    return np.asarray(((x[:, None] - x[None]) ** 2).sum(2))


@pytest.mark.parametrize("mining", sorted(MINING))
@pytest.mark.parametrize("seed", range(5))
def test_mining(mining: str, seed: int) -> None:
    embeddings, labels = batch(seed)
    d = squared(units(embeddings))
    same = (labels[:, None] == labels).fill_diagonal_(False)
    triplets = MINING[mining](torch.from_numpy(d), same, labels[:, None] != labels)
    ours = set(zip(*(t.tolist() for t in (triplets.anchor, triplets.positive, triplets.negative)), strict=True))
    assert ours == mined(d, labels.tolist(), mining)
    assert len(ours) == len(triplets.anchor) > 0


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_counts_of_triplets(margin: float, seed: int) -> None:
    """Also with equal distances, which whole coordinates make."""
    points = torch.randint(0, 3, (15, 2), generator=torch.Generator().manual_seed(seed)).double()
    labels = batch(seed, 15)[1]
    d = squared(points.numpy())
    same = (labels[:, None] == labels).fill_diagonal_(False)
    counts = count_triplets(torch.from_numpy(d), same, labels[:, None] != labels, margin)
    triplets = all_triplets(labels.tolist())
    hard = sum(d[a, n] <= d[a, p] for a, p, n in triplets)
    easy = sum(d[a, n] >= d[a, p] + margin and d[a, n] > d[a, p] for a, p, n in triplets)
    assert (counts.hard, counts.easy, counts.semi_hard) == (hard, easy, len(triplets) - hard - easy)


@pytest.mark.parametrize("mining", sorted(MINING))
@pytest.mark.parametrize("soft", [False, True])
def test_triplet(mining: str, soft: bool) -> None:
    embeddings, labels = batch()
    d = squared(units(embeddings))
    gaps = [d[a, p] - d[a, n] for a, p, n in mined(d, labels.tolist(), mining)]
    losses = [math.log1p(math.exp(g)) if soft else max(0.0, g + 0.3) for g in gaps]
    losses = [value for value in losses if value > 0]
    options: dict[str, Any] = {"soft_margin": True} if soft else {"margin": 0.3}
    head = build_loss("triplet", CLASSES, SIZE, mining=mining, **options)
    assert head(embeddings, labels).item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert head.counts()["used"] == len(losses)


@pytest.mark.parametrize("mining", sorted(MINING))
@pytest.mark.parametrize("form", ["distance", "squared-distance"])
def test_contrastive(mining: str, form: str) -> None:
    embeddings, labels = batch()
    d = squared(units(embeddings))
    pairs = {(i, j, same) for i, j, same in pairs_of(labels.tolist())}
    if mining != "all":
        triplets = mined(d, labels.tolist(), mining)
        pairs = {(a, p, True) for a, p, _ in triplets} | {(a, n, False) for a, _, n in triplets}
    losses = []
    for i, j, same in pairs:
        negative = max(0.0, 1.2 - math.sqrt(d[i, j])) ** 2 if form == "distance" else max(0.0, 1.2 - d[i, j])
        losses.append(d[i, j] if same else negative)
    head = build_loss("contrastive", CLASSES, SIZE, mining=mining, form=form, margin=1.2)
    assert head(embeddings, labels).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_supervised_contrastive() -> None:
    embeddings, labels = batch()
    s = units(embeddings) @ units(embeddings).T / 0.2
    y, losses = labels.tolist(), []
    for i in range(len(y)):
        positives = [p for p in range(len(y)) if p != i and y[p] == y[i]]
        total = math.log(sum(math.exp(s[i, a]) for a in range(len(y)) if a != i))
        if positives:
            losses.append(-sum(s[i, p] - total for p in positives) / len(positives))
    head = build_loss("supcon", CLASSES, SIZE, temperature=0.2)
    assert head(embeddings, labels).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_n_pair() -> None:
    embeddings, labels = batch()
    x, y = units(embeddings), labels.tolist()
    people = {label: [i for i, other in enumerate(y) if other == label][:2] for label in sorted(set(y))}
    duos = [rows for rows in people.values() if len(rows) == 2]
    losses = [math.log1p(sum(math.exp(7 * (x[a] @ x[q] - x[a] @ x[p])) for b, q in duos if b != a)) for a, p in duos]
    head = build_loss("n-pair", CLASSES, SIZE, scale=7.0)
    assert head(embeddings, labels).item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert head.counts()["used"] == len(duos)


def test_agree_with_pytorch_metric_learning() -> None:
    """With its conventions: it averages over what is not zero, and counts positive and negative pairs apart."""
    embeddings, labels = batch(3, 20)
    distance = reference_distances.LpDistance(power=2)
    miner = miners.TripletMarginMiner(margin=0.4, type_of_triplets="all", distance=distance)
    oracles: list[tuple[str, dict[str, Any], Any]] = [
        ("triplet", {"mining": "all", "margin": 0.4}, reference.TripletMarginLoss(margin=0.4, distance=distance)),
        ("supcon", {}, reference.SupConLoss()),
        ("n-pair", {"scale": 1.0}, reference.NPairsLoss()),
    ]
    for name, options, oracle in oracles:
        ours, theirs = (embeddings.clone().requires_grad_() for _ in range(2))
        head = build_loss(name, CLASSES, SIZE, **options)
        loss, other = head(ours, labels), oracle(theirs, labels)
        torch.testing.assert_close(loss, other, rtol=1e-4, atol=1e-5)
        loss.backward()
        other.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    assert build_loss("triplet", CLASSES, SIZE, mining="all", margin=0.4)(embeddings, labels) == pytest.approx(
        reference.TripletMarginLoss(margin=0.4, distance=distance)(
            embeddings, labels, miner(embeddings, labels)
        ).item(),
        rel=1e-4,
    )
    multi = reference.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
    indices = miners.MultiSimilarityMiner(epsilon=0.1)(embeddings, labels)
    loss = build_loss("multi-similarity", CLASSES, SIZE)(embeddings, labels)
    torch.testing.assert_close(loss, multi(embeddings, labels, indices), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_ignored_rows_are_as_if_not_there(name: str) -> None:
    embeddings, labels = batch()
    labels[[1, 5]] = IGNORED
    head = build_loss(name, CLASSES, SIZE)
    known = labels != IGNORED
    assert head(embeddings, labels).item() == pytest.approx(head(embeddings[known], labels[known]).item())


@pytest.mark.parametrize("name", PAIR_LOSSES)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [2], [], [IGNORED, IGNORED], [0, 0, 0, 0]])
def test_nothing_to_compare(name: str, labels: list[int]) -> None:
    """One face a person, one person, no one: no triplet. Contrastive pairs alone still teach something."""
    embeddings = torch.randn(len(labels), SIZE, requires_grad=True)
    head = build_loss(name, CLASSES, SIZE)
    loss = head(embeddings, torch.tensor(labels, dtype=torch.int64))
    loss.backward()
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()
    counts = head.counts()
    assert counts["triplets_easy"] == counts["triplets_semi_hard"] == counts["triplets_hard"] == 0
    one_kind = name in ("contrastive", "multi-similarity") and len(labels) > 2
    if not one_kind:
        assert loss.item() == 0
        assert torch.all(embeddings.grad == 0)
        assert counts["batches_unused"] == 1


@pytest.mark.parametrize("name", PAIR_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_equal_and_opposite_embeddings(name: str, dtype: torch.dtype) -> None:
    x = torch.tensor([[3.0, 4, 0, 0]] * 4 + [[-3.0, -4, 0, 0]] * 4).to(dtype).requires_grad_()
    head = build_loss(name, CLASSES, SIZE)
    loss = head(x, torch.tensor([0, 0, 1, 1, 0, 1, 2, 2]))
    loss.backward()
    assert torch.isfinite(loss)
    assert loss.dtype == torch.float32
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("distance", sorted(DISTANCES))
@pytest.mark.parametrize("mining", sorted(MINING))
def test_embeddings_of_zero(distance: str, mining: str) -> None:
    """As a network gives that has died."""
    x = torch.zeros(6, SIZE, requires_grad=True)
    loss = build_loss("triplet", CLASSES, SIZE, distance=distance, mining=mining)(x, torch.tensor([0, 0, 1, 1, 2, 2]))
    loss.backward()
    assert torch.isfinite(loss)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", [n for n in PAIR_LOSSES if "memory" in LOSSES[n].options()])
def test_memory_compares_with_former_batches(name: str) -> None:
    """The loss of a batch with memory is that of its rows among all faces seen, the old ones without a gradient."""
    head, oracle = build_loss(name, CLASSES, SIZE, memory=20), build_loss(name, CLASSES, SIZE)
    assert isinstance(oracle, PairHead)
    first, second = batch(0, 8), batch(1, 8)
    assert head(*first).item() == pytest.approx(oracle(*first).item())
    embeddings = second[0].clone().requires_grad_()
    loss = head(embeddings, second[1])
    everything = functional.normalize(torch.cat([second[0], first[0]]))
    equal = second[1][:, None] == torch.cat([second[1], first[1]])
    expected, _ = oracle.compare(everything[:8], everything, equal.clone().fill_diagonal_(False), ~equal)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0


def test_memory_forgets_the_oldest() -> None:
    head = build_loss("contrastive", CLASSES, 2, memory=5)
    assert isinstance(head, PairHead)
    assert head.memory is not None
    for label in range(4):
        head(torch.eye(2), torch.tensor([label, label]))
    assert sorted(head.memory.recall()[1].tolist()) == [1, 2, 2, 3, 3]
    head(torch.randn(7, 2), torch.tensor([IGNORED, 4, 4, 4, 4, 0, 0]))
    assert sorted(head.memory.recall()[1].tolist()) == [0, 0, 4, 4, 4]
    head.eval()(torch.eye(2), torch.tensor([1, 1]))
    assert head.memory.stored == 13  # two of seven were dropped at once, as were the ignored
