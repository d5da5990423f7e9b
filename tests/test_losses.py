"""Losses against the formulas of their papers, an independent library and finite differences."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as reference
from torch import Tensor

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.losses import (
    IGNORED,
    LOSSES,
    ArcFace,
    CosFace,
    CosineHead,
    Distillation,
    Head,
    NormSoftmax,
    Softmax,
    build_loss,
)
from edgeface.losses.objective import Objective

CLASSES, SIZE = 5, 8


def scaled(name: str, scale: float) -> Head:
    """The loss with this scale, where it has one."""
    options: dict[str, Any] = {"scale": scale} if "scale" in LOSSES[name].options() else {}
    return build_loss(name, CLASSES, SIZE, **options)


def slow_margin(name: str, theta: float, margin: float) -> float:
    """What replaces cos(theta) of the target, by the text of each paper."""
    if name == "norm-softmax":
        return math.cos(theta)
    if name == "cosface":
        return math.cos(theta) - margin
    return math.cos(theta + margin) if theta + margin <= math.pi else math.cos(theta) - margin * math.sin(margin)


def slow_loss(
    name: str, embeddings: np.ndarray, weight: np.ndarray, labels: list[int], scale: float, margin: float
) -> float:
    """Row by row, with acos and cos, in float64."""
    total, rows = 0.0, 0
    for embedding, label in zip(embeddings.astype(float), labels, strict=True):
        if label == IGNORED:
            continue
        logits = []
        for k, direction in enumerate(weight.astype(float)):
            cosine = embedding @ direction / np.linalg.norm(embedding) / np.linalg.norm(direction)
            theta = math.acos(min(1.0, max(-1.0, cosine)))
            logits.append(scale * (slow_margin(name, theta, margin) if k == label else math.cos(theta)))
        largest = max(logits)
        total += largest + math.log(sum(math.exp(x - largest) for x in logits)) - logits[label]
        rows += 1
    return total / max(rows, 1)


def circle(degrees: list[float]) -> Tensor:
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


@pytest.mark.parametrize("name", ["arcface", "cosface", "norm-softmax"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_loss_on_a_circle(name: str, dtype: torch.dtype) -> None:
    """All angles between 0 and 180 degrees, among them those beyond pi - margin, and exactly 0 and 180."""
    head = build_loss(name, 4, 2, scale=10.0)
    assert isinstance(head, CosineHead)
    with torch.no_grad():
        head.weight.copy_(circle([0, 90, 180, 270]) * torch.tensor([[1.0], [3.0], [0.1], [7.0]]))
    embeddings = (circle(list(range(0, 360, 9))) * 2.5).to(dtype)
    labels = [degree % 4 for degree in range(len(embeddings))]
    labels[3] = IGNORED
    expected = slow_loss(name, embeddings.float().numpy(), head.weight.detach().numpy(), labels, 10.0, head.margin)
    loss = head(embeddings, torch.tensor(labels))
    assert loss.dtype == torch.float32
    np.testing.assert_allclose(loss.item(), expected, rtol=2e-5)


@pytest.mark.parametrize(("name", "theirs"), [("arcface", "ArcFaceLoss"), ("cosface", "CosFaceLoss")])
def test_agrees_with_pytorch_metric_learning(name: str, theirs: str) -> None:
    torch.manual_seed(0)
    head = build_loss(name, CLASSES, SIZE, scale=32.0)
    assert isinstance(head, CosineHead)
    margin = math.degrees(head.margin) if name == "arcface" else head.margin
    oracle = getattr(reference, theirs)(CLASSES, SIZE, margin=margin, scale=32.0)
    with torch.no_grad():
        oracle.W.copy_(head.weight.T)
    embeddings, labels = torch.randn(64, SIZE), torch.randint(0, CLASSES, (64,))
    ours, others = (embeddings.clone().requires_grad_() for _ in range(2))
    loss, other = head(ours, labels), oracle(others, labels)
    loss.backward()
    other.backward()
    torch.testing.assert_close(loss, other, rtol=1e-5, atol=1e-5)
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, others.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(head.weight.grad, oracle.W.grad.T, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["arcface", "cosface", "norm-softmax", "softmax"])
def test_gradient_is_that_of_the_formula(name: str) -> None:
    """Central differences of the slow loss, for embeddings and class directions."""
    torch.manual_seed(1)
    head = build_loss(name, CLASSES, SIZE, scale=4.0)
    if isinstance(head, CosineHead):
        torch.nn.init.normal_(head.weight)
    embeddings = torch.randn(12, SIZE, requires_grad=True)
    labels = [int(x) for x in torch.randint(0, CLASSES, (12,))]
    labels[0] = IGNORED
    head(embeddings, torch.tensor(labels)).backward()

    def value(e: np.ndarray) -> float:
        if isinstance(head, CosineHead):
            return slow_loss(name, e, head.weight.detach().numpy(), labels, 4.0, head.margin)
        assert isinstance(head, Softmax)
        logits = e @ head.linear.weight.detach().double().numpy().T + head.linear.bias.detach().double().numpy()
        rows = [r for r, label in enumerate(labels) if label != IGNORED]
        return float(np.mean([np.log(np.exp(logits[r]).sum()) - logits[r, labels[r]] for r in rows]))

    start = embeddings.detach().double().numpy()
    slopes = np.zeros_like(start)
    for place in np.ndindex(*start.shape):
        step = np.zeros_like(start)
        step[place] = 1e-6
        slopes[place] = (value(start + step) - value(start - step)) / 2e-6
    assert embeddings.grad is not None
    np.testing.assert_allclose(embeddings.grad.numpy(), slopes, rtol=1e-3, atol=1e-5)
    assert np.all(embeddings.grad[0].numpy() == 0)  # the ignored row


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_embedding_on_its_direction_has_finite_gradients(name: str, dtype: torch.dtype, sign: float) -> None:
    """At a cosine of exactly +-1 the sine has no finite slope."""
    head = scaled(name, 64.0)
    if isinstance(head, CosineHead):
        with torch.no_grad():
            head.weight.copy_(torch.eye(CLASSES, SIZE).repeat_interleave(len(head.weight) // CLASSES, 0))
    embeddings = (sign * 3 * torch.eye(CLASSES, SIZE)).to(dtype).requires_grad_()
    loss = head(embeddings, torch.arange(CLASSES))
    loss.backward()
    assert embeddings.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(embeddings.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize("head", [ArcFace(2, 2, margin=m) for m in (0.1, 0.5, 1.5)] + [CosFace(2, 2)])
def test_target_falls_with_the_angle(head: CosineHead) -> None:
    """Monotone over all of [0, pi], also where theta + margin passes pi."""
    cosine = torch.cos(torch.linspace(0, math.pi, 2001, dtype=torch.float64)).float()
    target = head.target_cosine(cosine)
    assert torch.all(target <= cosine + 1e-6)
    # Float32 knows angles near 0 and pi to 3e-4 only; ArcFace drops at pi - margin, it never rises.
    assert torch.all(target[1:] - target[:-1] < 1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_arcface_without_margin_is_the_norm_softmax(margin: float) -> None:
    torch.manual_seed(0)
    head, plain = ArcFace(CLASSES, SIZE, margin=margin), NormSoftmax(CLASSES, SIZE)
    plain.load_state_dict(head.state_dict())
    embeddings, labels = torch.randn(9, SIZE), torch.randint(0, CLASSES, (9,))
    close = torch.allclose(head(embeddings, labels), plain(embeddings, labels), atol=1e-5)
    assert close == (margin == 0)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_nothing_but_ignored_rows(name: str) -> None:
    head = build_loss(name, CLASSES, SIZE)
    embeddings = torch.randn(4, SIZE, requires_grad=True)
    loss = head(embeddings, torch.full((4,), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert embeddings.grad is not None
    assert torch.all(embeddings.grad == 0)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_float32_under_autocast(name: str) -> None:
    torch.manual_seed(0)
    head = build_loss(name, CLASSES, SIZE)
    embeddings, labels = torch.randn(9, SIZE), torch.randint(0, CLASSES, (9,))
    with torch.autocast("cpu", torch.bfloat16):
        low = copy.deepcopy(head)(embeddings, labels)  # some keep statistics of the batches they saw
    torch.testing.assert_close(low, head(embeddings, labels), rtol=0, atol=0)


def test_unknown_loss_lists_the_choices() -> None:
    with pytest.raises(
        UnknownNameError,
        match="unknown loss 'arcfaec'; choose one of: adaface, arcface, center, combined, contrastive, cosface",
    ):
        build_loss("arcfaec", 2, 2)


@pytest.mark.parametrize(("name", "margin"), [("arcface", 28.6), ("arcface", -0.1), ("cosface", 1.5), ("softmax", 0.1)])
def test_margin_out_of_range(name: str, margin: float) -> None:
    with pytest.raises(ConfigError, match="margin"):
        build_loss(name, 2, 2, margin=margin)


class TestDistillation:
    def test_is_the_mean_over_rows_with_a_teacher(self) -> None:
        rng = np.random.default_rng(0)
        embeddings, targets = rng.standard_normal((6, SIZE)), rng.standard_normal((6, SIZE))
        targets /= np.linalg.norm(targets, axis=1, keepdims=True)
        targets[[1, 4]] = 0
        rows = [0, 2, 3, 5]
        expected = np.mean([1 - embeddings[r] @ targets[r] / np.linalg.norm(embeddings[r]) for r in rows])
        loss = Distillation()(torch.tensor(embeddings, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32))
        np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)

    def test_no_teacher_for_any_row(self) -> None:
        embeddings = torch.randn(3, SIZE, requires_grad=True)
        loss = Distillation()(embeddings, torch.zeros(3, SIZE))
        loss.backward()
        assert loss.item() == 0
        assert embeddings.grad is not None
        assert torch.all(embeddings.grad == 0)


@pytest.mark.parametrize(("head_weight", "teacher_weight"), [(1.0, 0.0), (0.0, 2.0), (0.3, 0.7)])
def test_objective_is_the_weighted_sum(head_weight: float, teacher_weight: float) -> None:
    torch.manual_seed(0)
    head = build_loss("cosface", CLASSES, SIZE) if head_weight else None
    objective = Objective(head, head_weight, teacher_weight)
    embeddings, labels = torch.randn(9, SIZE), torch.randint(0, CLASSES, (9,))
    targets = torch.nn.functional.normalize(torch.randn(9, SIZE))
    total, identity, imitation = objective(embeddings, labels, targets)
    expected_identity = head(embeddings, labels).item() if head else 0.0
    expected_imitation = Distillation()(embeddings, targets).item() if teacher_weight else 0.0
    assert (None if identity is None else identity.item()) == (pytest.approx(expected_identity) if head else None)
    assert (imitation is None) == (teacher_weight == 0)
    assert total.item() == pytest.approx(head_weight * expected_identity + teacher_weight * expected_imitation)
