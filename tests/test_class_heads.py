"""Heads over classes against slow versions, row by row in float64, written from the papers."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as reference
from torch.nn import functional

from edgeface.errors import ConfigError, DataError, UnknownNameError
from edgeface.losses import (
    IGNORED,
    LOSSES,
    AdaFace,
    ArcFace,
    CenterLoss,
    CosineHead,
    CurricularFace,
    ElasticFace,
    MagFace,
    PairHead,
    build_loss,
)

CLASSES, SIZE, ROWS = 6, 4, 24
Rows = list[list[float]]


def arc(theta: float, margin: float) -> float:
    return math.cos(theta + margin) if theta + margin <= math.pi else math.cos(theta) - margin * math.sin(margin)


def psi(angle: float) -> float:
    k = math.floor(angle / math.pi)
    sign = 1 if k % 2 == 0 else -1
    return sign * math.cos(angle) - 2 * k


def slow(
    embeddings: np.ndarray,
    weight: np.ndarray,
    labels: list[int],
    scale: float,
    harder: Callable[[int, float, float], float],
    *,
    smoothing: float = 0.0,
    filter_above: float = 0.0,
    curriculum: float | None = None,
) -> float:
    """Mean cross-entropy; `harder` answers for row, theta and length of the embedding; weight is (C, K, D)."""
    losses = []
    for row, (x, label) in enumerate(zip(embeddings.astype(float), labels, strict=True)):
        if label == IGNORED:
            continue
        cosines = []
        for centers in weight.astype(float):
            cosines.append(max(x @ w / np.linalg.norm(x) / np.linalg.norm(w) for w in centers))
        target = harder(row, math.acos(min(1.0, max(-1.0, cosines[label]))), float(np.linalg.norm(x)))
        logits = []
        for k, cosine in enumerate(cosines):
            if k == label:
                logits.append(scale * target)
            elif filter_above and cosine > filter_above:
                logits.append(0.0)
            elif curriculum is not None and cosine > target:
                logits.append(scale * cosine * (curriculum + cosine))
            else:
                logits.append(scale * cosine)
        log_total = math.log(sum(math.exp(z) for z in logits))
        wanted = [smoothing / len(logits) + (1 - smoothing) * (k == label) for k in range(len(logits))]
        losses.append(sum(share * (log_total - z) for share, z in zip(wanted, logits, strict=True)))
    return float(np.mean(losses))


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    labels[2] = IGNORED
    return 3 * torch.randn(ROWS, SIZE, generator=generator), labels


CASES: list[tuple[str, dict[str, Any], Callable[[int, float, float], float], dict[str, Any]]] = [
    ("arcface", {"label_smoothing": 0.1}, lambda _r, t, _a: arc(t, 0.5), {"smoothing": 0.1}),
    ("cosface", {"interclass_filtering": 0.3}, lambda _r, t, _a: math.cos(t) - 0.35, {"filter_above": 0.3}),
    (
        "norm-softmax",
        {"interclass_filtering": 0.2, "label_smoothing": 0.3},
        lambda _r, t, _a: math.cos(t),
        {"smoothing": 0.3, "filter_above": 0.2},
    ),
    ("sphereface", {"margin": 4.0}, lambda _r, t, _a: psi(4 * t), {}),
    ("sphereface", {"margin": 1.35}, lambda _r, t, _a: psi(1.35 * t), {}),
    ("combined", {}, lambda _r, t, _a: arc(t, 0.3) - 0.2, {}),
    ("combined", {"m1": 1.2, "m2": 0.4, "m3": 0.1}, lambda _r, t, _a: psi(1.2 * t + 0.4) - 0.1, {}),
    ("subcenter-arcface", {"subcenters": 3}, lambda _r, t, _a: arc(t, 0.5), {}),
    ("subcenter-arcface", {"subcenters": 1, "margin": 0.2}, lambda _r, t, _a: arc(t, 0.2), {}),
    ("elasticface", {"margin_sd": 0.0}, lambda _r, t, _a: arc(t, 0.5), {}),
    ("elasticface", {"margin_sd": 0.0, "form": "cos"}, lambda _r, t, _a: math.cos(t) - 0.5, {}),
    (
        "magface",
        {"length_low": 4.0, "length_high": 8.0, "length_weight": 0.0},
        lambda _r, t, a: arc(t, 0.45 + (0.8 - 0.45) * (min(max(a, 4), 8) - 4) / 4),
        {},
    ),
]


@pytest.mark.parametrize(("name", "options", "harder", "extra"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_loss_is_that_of_the_paper(
    name: str, options: dict[str, Any], harder: Any, extra: dict[str, Any], dtype: torch.dtype
) -> None:
    torch.manual_seed(3)
    head = build_loss(name, CLASSES, SIZE, scale=8.0, **options)
    assert isinstance(head, CosineHead)
    embeddings, labels = batch()
    embeddings = embeddings.to(dtype)
    weight = head.weight.detach().numpy().reshape(CLASSES, -1, SIZE)
    expected = slow(embeddings.float().numpy(), weight, labels.tolist(), 8.0, harder, **extra)
    np.testing.assert_allclose(head(embeddings, labels).item(), expected, rtol=3e-5)


@pytest.mark.parametrize("name", [n for n in sorted(LOSSES) if n != "adaface"])
def test_gradients_are_those_of_the_loss(name: str) -> None:
    """Finite differences in float64, by the embeddings and every parameter; adaface has a constant in its own test."""
    torch.manual_seed(1)
    options: dict[str, Any] = {}
    if issubclass(LOSSES[name], CosineHead):
        options = {"scale": 5.0, "label_smoothing": 0.1, "interclass_filtering": 0.6}
    if name == "magface":
        options |= {"length_low": 1.0, "length_high": 20.0}
    if name == "triplet":
        options = {"margin": 0.6}
    head = build_loss(name, CLASSES, SIZE, **options).double().eval()
    if isinstance(head, CurricularFace):
        head.t.fill_(0.3)
    embeddings, labels = batch()
    embeddings = embeddings.double().requires_grad_()
    parameters = list(head.parameters())

    def value(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        names = [key for key, _ in head.named_parameters()]
        result = torch.func.functional_call(head, dict(zip(names, weights, strict=True)), (x, labels))
        assert isinstance(result, torch.Tensor)
        return result

    assert head(embeddings, labels).item() > 0
    assert torch.autograd.gradcheck(value, (embeddings, *parameters), eps=1e-6, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(value(embeddings, *parameters), embeddings)[0][2], torch.zeros(SIZE).double()
    )


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of theirs, with NumPy 2
def test_sphereface_and_subcenters_agree_with_pytorch_metric_learning() -> None:
    torch.manual_seed(0)
    embeddings, labels = functional.normalize(batch()[0]), batch()[1].clamp_min(0)
    sphere = build_loss("sphereface", CLASSES, SIZE, margin=3.0, scale=7.0)
    theirs = reference.SphereFaceLoss(CLASSES, SIZE, margin=3, scale=7.0)  # scales by the length, here 1
    sub = build_loss("subcenter-arcface", CLASSES, SIZE, scale=7.0)
    other = reference.SubCenterArcFaceLoss(
        num_classes=CLASSES, embedding_size=SIZE, margin=math.degrees(0.5), scale=7.0, sub_centers=3
    )
    for ours, oracle in ((sphere, theirs), (sub, other)):
        assert isinstance(ours, CosineHead)
        with torch.no_grad():
            oracle.W.copy_(ours.weight.T)
        torch.testing.assert_close(ours(embeddings, labels), oracle(embeddings, labels), rtol=1e-4, atol=1e-5)


def test_curricular_hard_negatives_weigh_more_as_t_rises() -> None:
    torch.manual_seed(3)
    head = CurricularFace(CLASSES, SIZE, scale=8.0, momentum=0.5)
    embeddings, labels = batch()
    weight = head.weight.detach().numpy()[:, None]
    unit = functional.normalize(embeddings) @ functional.normalize(head.weight.detach()).T
    known = labels != IGNORED
    mean = unit[known, labels[known]].mean().item()
    t = 0.0
    for _ in range(3):
        t = 0.5 * t + 0.5 * mean
        expected = slow(
            embeddings.numpy(), weight, labels.tolist(), 8.0, lambda _r, theta, _a: arc(theta, 0.5), curriculum=t
        )
        np.testing.assert_allclose(head(embeddings, labels).item(), expected, rtol=3e-5)
        assert head.t.item() == pytest.approx(t, rel=1e-5)
    head.eval()(embeddings, labels)
    assert head.t.item() == pytest.approx(t, rel=1e-5)


def test_adaface_adapts_to_the_length() -> None:
    torch.manual_seed(3)
    head = AdaFace(CLASSES, SIZE, scale=8.0)
    embeddings, labels = batch()
    embeddings.requires_grad_()
    weight = head.weight.detach().numpy()[:, None]
    values = embeddings.detach().numpy()
    lengths = np.linalg.norm(values, axis=1)[labels.numpy() != IGNORED]
    mean, sd = lengths.mean(), lengths.std(ddof=1)
    quality: list[float] = np.clip((np.linalg.norm(values, axis=1) - mean) / ((sd + 1e-3) / 0.333), -1, 1).tolist()

    def harder(row: int, theta: float, _length: float) -> float:
        q = quality[row]  # not that of the moved embedding: it has no gradient
        return math.cos(min(max(theta - 0.4 * q, 0), math.pi)) - (0.4 + 0.4 * q)

    loss = head(embeddings, labels)
    np.testing.assert_allclose(loss.item(), slow(values, weight, labels.tolist(), 8.0, harder), rtol=3e-5)
    loss.backward()
    slopes = np.zeros(values.shape)
    for place in np.ndindex(*values.shape):
        step = np.zeros(values.shape)
        step[place] = 1e-6
        up, down = (slow(values + s, weight, labels.tolist(), 8.0, harder) for s in (step, -step))
        slopes[place] = (up - down) / 2e-6
    assert embeddings.grad is not None
    np.testing.assert_allclose(embeddings.grad.numpy(), slopes, rtol=2e-3, atol=1e-5)


def test_adaface_statistics_are_a_running_mean_at_first() -> None:
    head = AdaFace(2, 2, momentum=0.9)
    for _ in range(3):
        head(torch.tensor([[3.0, 4.0], [0.0, 7.0]]), torch.tensor([0, 1]))
    head(torch.tensor([[10.0, 0.0]]), torch.tensor([0]))  # one row has no standard deviation
    np.testing.assert_allclose(head.length.numpy(), [6 * 0.75 + 10 * 0.25, math.sqrt(2) * 0.75, 4], rtol=1e-6)


def test_magface_draws_lengths_out() -> None:
    head = MagFace(CLASSES, SIZE, length_low=2.0, length_high=5.0, length_weight=3.0)
    plain = MagFace(CLASSES, SIZE, length_low=2.0, length_high=5.0, length_weight=0.0)
    plain.load_state_dict(head.state_dict())
    embeddings, labels = batch()
    a = embeddings.norm(dim=1).clamp(2, 5)[labels != IGNORED]
    expected = 3 * (1 / a + a / 25).mean()
    torch.testing.assert_close(head(embeddings, labels) - plain(embeddings, labels), expected, rtol=1e-4, atol=1e-4)


def test_elasticface_draws_margins() -> None:
    head = ElasticFace(CLASSES, SIZE, margin=0.5, margin_sd=0.1)
    twin = copy.deepcopy(head)
    embeddings, labels = batch()
    first, second = head(embeddings, labels).item(), head(embeddings, labels).item()
    assert first != second
    assert twin(embeddings, labels).item() == first
    again = ElasticFace(CLASSES, SIZE, margin=0.5, margin_sd=0.1)
    again.load_state_dict(twin.state_dict())  # as a resumed run
    assert again(embeddings, labels).item() == second
    draws = head._margins(20_000)
    assert draws.mean().item() == pytest.approx(0.5, abs=0.005)
    assert draws.std().item() == pytest.approx(0.1, rel=0.05)
    arcface = ArcFace(CLASSES, SIZE)
    arcface.weight = head.weight
    torch.testing.assert_close(head.eval()(embeddings, labels), arcface(embeddings, labels))


def test_center_loss_and_its_centres() -> None:
    torch.manual_seed(0)
    head = CenterLoss(CLASSES, SIZE, center_weight=0.2, center_rate=0.5)
    embeddings, labels = batch()
    centers = np.zeros((CLASSES, SIZE))
    x, y = embeddings.double().numpy(), labels.numpy()
    for _ in range(3):
        softmax = functional.cross_entropy(head.linear(embeddings), labels, ignore_index=IGNORED).item()
        pull = np.mean([np.sum((x[i] - centers[y[i]]) ** 2) / 2 for i in range(ROWS) if y[i] != IGNORED])
        assert head(embeddings, labels).item() == pytest.approx(softmax + 0.2 * pull, rel=1e-5)
        for j in range(CLASSES):
            mine = x[y == j]
            centers[j] += 0.5 * np.sum(mine - centers[j], axis=0) / (1 + len(mine))
        np.testing.assert_allclose(head.centers.numpy(), centers, rtol=1e-4, atol=1e-5)
    head.eval()(embeddings, labels)
    np.testing.assert_allclose(head.centers.numpy(), centers, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_one_class(name: str) -> None:
    head = build_loss(name, 1, SIZE)
    embeddings = torch.randn(6, SIZE, requires_grad=True)
    loss = head(embeddings, torch.zeros(6, dtype=torch.int64))
    loss.backward()
    assert torch.isfinite(loss)
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()
    if isinstance(head, CosineHead) and name != "magface":
        assert loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("label", [CLASSES, -2, 10**9])
def test_labels_out_of_range(name: str, label: int) -> None:
    head = build_loss(name, CLASSES, SIZE)
    message = rf"label {label} is out of range for 6 identities; use 0 to 5"
    with pytest.raises(DataError, match=message):
        head(torch.randn(3, SIZE), torch.tensor([0, label, 1]))


@pytest.mark.parametrize("name", [n for n, kind in LOSSES.items() if issubclass(kind, CosineHead)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_angle_at_scale_64(name: str, dtype: torch.dtype) -> None:
    """From 0 to 180 degrees to the own class, and both ends exactly."""
    head = build_loss(name, 2, 2, scale=64.0, label_smoothing=0.1, interclass_filtering=0.4)
    assert isinstance(head, CosineHead)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2).repeat_interleave(len(head.weight) // 2, 0))
    angles = torch.linspace(0, math.pi, 181)
    embeddings = (20 * torch.stack([angles.cos(), angles.sin()], 1)).to(dtype).requires_grad_()
    loss = head(embeddings, torch.zeros(181, dtype=torch.int64))
    loss.backward()
    assert torch.isfinite(loss)
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()
    assert head.weight.grad is not None
    assert torch.isfinite(head.weight.grad).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "arcface",
            {"mining": "hard"},
            r"loss.mining = 'hard' has no effect on the loss arcface; .* label_smoothing, marg",
        ),
        ("triplet", {"label_smoothing": 0.1}, r"loss.label_smoothing = 0.1 has no effect on the loss triplet"),
        ("triplet", {"scale": 64.0}, r"loss.scale"),
        ("triplet", {"soft_margin": True, "margin": 0.2}, "a soft margin has no margin, 0.2"),
        ("n-pair", {"memory": 10}, r"loss.memory = 10 has no effect"),
        ("center", {"margin": 0.3}, r"loss.margin"),
        ("arcface", {"label_smoothing": 1.0}, r"loss.label_smoothing = 1.0 is out of range"),
        ("arcface", {"interclass_filtering": -0.1}, "interclass_filtering"),
        ("combined", {"margin": 0.5}, r"has no single margin, 0.5 was asked; its options are m1, m2, m3, scale"),
        ("sphereface", {"margin": 0.5}, r"out of range for SphereFace; use 1 to 8"),
        ("magface", {"length_low": 9.0, "length_high": 3.0}, "no range of lengths"),
        ("magface", {"margin_high": 0.2}, r"loss.margin_high = 0.2"),
        ("subcenter-arcface", {"subcenters": 0}, "subcenters"),
        ("center", {"center_rate": 2.0}, "center_rate"),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_loss(name, CLASSES, SIZE, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("triplet", {"mining": "semihard"}, "choose one of: all, easy-positive, hard, semi-hard"),
        ("triplet", {"distance": "l2"}, "choose one of: angular, cosine, euclidean, squared-euclidean"),
        ("contrastive", {"form": "x"}, "distance, squared-distance"),
        ("elasticface", {"form": "x"}, "arc, cos"),
    ],
)
def test_bad_names(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        build_loss(name, CLASSES, SIZE, **options)


def test_every_option_can_be_configured() -> None:
    from edgeface.losses.config import LossConfig

    taken = {option for kind in LOSSES.values() for option in kind.options()}
    assert taken == set(LossConfig.__dataclass_fields__) - {"name", "weight", "options"}
    assert {name for name, kind in LOSSES.items() if issubclass(kind, PairHead)} == {
        "contrastive", "multi-similarity", "n-pair", "supcon", "triplet"
    }  # fmt: skip


def test_memory_at_many_classes() -> None:
    """Beyond cosines and gradients, no tensor of the size of the classes is made that autograd keeps."""
    classes = 5000
    head = ArcFace(classes, 64)
    embeddings = torch.randn(8, 64, requires_grad=True)
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = head(embeddings, torch.arange(8))
    large = {t.data_ptr(): tuple(t.shape) for t in kept if t.numel() >= 8 * classes}
    assert sorted(large.values()) == [(8, classes), (classes, 64)]  # the cosines and the weight itself
    assert head.weight.data_ptr() in large
    loss.backward()
