"""Networks: sizes against the papers, parts against slow ones, shapes, and that every part learns."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from edgeface.errors import CheckpointError, ConfigError, MissingPackageError, UnknownNameError
from edgeface.models import MODELS, PUBLISHED, build_model, count_multiply_adds, count_parameters, describe_model
from edgeface.models.edgenext import CrossCovarianceAttention, FourierPlaces, LowRankLinear, SplitAttentionEncoder
from edgeface.models.layers import fixed_scale_norm
from edgeface.models.resnet import FaceResNet
from edgeface.training.checkpoint import load_weights

LARGE = ("ir34", "ir50", "ir101", "iresnet34", "iresnet50", "iresnet100", "iresnet200")  # parts of 18, more often


def slow_mobilefacenet_count(embedding_size: int, *, prelu: bool) -> int:
    """Table 1 of arXiv 1804.07573, added up layer by layer: weights, two per channel of batch norm, slopes."""
    slope = 1 if prelu else 0

    def conv(inputs: int, outputs: int, kernel: int, *, depthwise: bool = False, linear: bool = False) -> int:
        weights = outputs * kernel**2 * (1 if depthwise else inputs)
        return weights + 2 * outputs + (0 if linear else slope * outputs)

    total = conv(3, 64, 3) + conv(64, 64, 3, depthwise=True)
    inputs = 64
    for t, c, n in ((2, 64, 5), (4, 128, 1), (2, 128, 6), (4, 128, 1), (2, 128, 2)):
        for _ in range(n):
            hidden = inputs * t
            total += conv(inputs, hidden, 1) + conv(hidden, hidden, 3, depthwise=True)
            total += conv(hidden, c, 1, linear=True)
            inputs = c
    total += conv(inputs, 512, 1) + conv(512, 512, 7, depthwise=True, linear=True)
    return total + conv(512, embedding_size, 1, linear=True)


@pytest.mark.parametrize("embedding_size", [128, 512])
def test_mobilefacenet_has_the_size_of_the_paper(embedding_size: int) -> None:
    published = count_parameters(build_model("mobilefacenet", embedding_size))
    relu6 = count_parameters(build_model("mobilefacenet-relu6", embedding_size))
    assert published == slow_mobilefacenet_count(embedding_size, prelu=True)
    assert relu6 == slow_mobilefacenet_count(embedding_size, prelu=False)
    if embedding_size == 128:
        assert abs(published / 1e6 - 0.99) < 0.02  # the paper says 0.99 million


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("resnet-edge", 1.0e6, 1.6e6), ("resnet-edge-deep", 1.3e6, 1.7e6), ("resnet-nano", 0.3e6, 0.9e6)],
)
def test_small_residual_networks_are_small(name: str, low: float, high: float) -> None:
    assert low < count_parameters(build_model(name, 128)) < high


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_cost_is_that_of_the_papers(name: str) -> None:
    published, facts = PUBLISHED[name], describe_model(name)
    assert facts.embedding_size == published.embedding_size and facts.source == published.source
    if published.parameters is not None:
        assert facts.parameters / 1e6 == pytest.approx(published.parameters, rel=0.02)
    if published.multiply_adds is not None:
        # of mbf there is only the rounded figure in its name, which counts more than layers
        assert facts.multiply_adds / 1e6 == pytest.approx(published.multiply_adds, rel=0.03 if name == "mbf" else 0.02)


def test_every_network_has_a_source() -> None:
    assert set(PUBLISHED) == set(MODELS)


@pytest.mark.parametrize(
    ("depths", "name"),
    [
        ((2, 2, 2, 2), "iresnet18"),
        ((3, 4, 6, 3), "iresnet34"),
        ((3, 4, 14, 3), "iresnet50"),
        ((3, 13, 30, 3), "iresnet100"),
        ((6, 26, 60, 6), "iresnet200"),
        ((2, 2, 2, 2), "ir18"),
        ((3, 4, 6, 3), "ir34"),
        ((3, 4, 14, 3), "ir50"),
        ((3, 13, 30, 3), "ir101"),
    ],
)
def test_iresnet_added_up_by_hand(depths: tuple[int, ...], name: str) -> None:
    is_adaface = name in ("ir18", "ir34", "ir50", "ir101")
    weights = 3 * 64 * 9 + 3 * 64  # stem: kernel, batch norm, slopes
    multiply_adds = 112 * 112 * 3 * 64 * 9
    inputs, side = 64, 112
    for width, depth in zip((64, 128, 256, 512), depths, strict=True):
        for unit in range(depth):
            weights += 2 * inputs + inputs * width * 9 + 2 * width + width + width * width * 9 + 2 * width
            multiply_adds += side * side * inputs * width * 9
            if unit == 0:
                side //= 2
                if not (is_adaface and inputs == width):  # AdaFace's first shortcut takes every second place
                    weights += inputs * width + 2 * width
                    multiply_adds += side * side * inputs * width
            multiply_adds += side * side * width * width * 9
            inputs = width
    weights += 2 * 512 + 512 * 49 * 512 + 512  # norm, linear map and its offset
    weights += 0 if is_adaface else 512  # the offset of the last norm
    multiply_adds += 512 * 49 * 512
    facts = describe_model(name)
    assert (facts.parameters, facts.multiply_adds) == (weights, multiply_adds)


def test_multiply_adds_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 112 -> 56
        nn.BatchNorm2d(8),
        nn.PReLU(8),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),
        nn.Conv2d(8, 6, 14, stride=14, groups=2),  # 56 -> 4
        nn.Flatten(2),  # (N, 6, 16)
        CrossCovarianceAttention(16, heads=2, rank_ratio=0.5),
        nn.Flatten(),
        nn.Linear(96, 7),
        nn.BatchNorm1d(7),
    )
    convolutions = 56 * 56 * 8 * 3 * 9 + 56 * 56 * 8 * 25 + 4 * 4 * 6 * 4 * 14 * 14
    low_rank = 6 * (16 * 8 + 8 * 48) + 6 * (16 * 8 + 8 * 16)
    attention = 2 * (2 * 8 * 8 * 6)  # heads: 8 x 8 products over 6 places, twice
    model[4].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert count_multiply_adds(model) == convolutions + low_rank + attention + 96 * 7
    assert [module.training for module in model] == [index != 4 for index in range(10)]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(LARGE)))
def test_shape_learning_and_independence_of_the_batch(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, 96)
    faces = torch.rand(3, 3, 112, 112) * 2 - 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(faces), torch.arange(3))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert parameter.ndim == 1 or parameter.grad.any(), key
    model.eval()
    with torch.no_grad():
        embeddings = model(faces)
        assert embeddings.shape == (3, 96)
        assert embeddings.dtype == torch.float32
        torch.testing.assert_close(model(faces[1:2]), embeddings[1:2], rtol=1e-3, atol=1e-4)


def test_attention_between_channels_the_slow_way() -> None:
    torch.manual_seed(0)
    attention = CrossCovarianceAttention(12, heads=3, rank_ratio=0.5)
    with torch.no_grad():
        attention.temperature.copy_(torch.tensor([0.5, 1.0, 4.0]))
        x = torch.randn(2, 5, 12)
        actual = attention(x)
        qkv = attention.qkv(x).numpy().astype(np.float64)
    joined = np.zeros((2, 5, 12))
    for n in range(2):
        for head, temperature in enumerate((0.5, 1.0, 4.0)):
            query, key, value = (qkv[n, :, 12 * part + 4 * head : 12 * part + 4 * head + 4].T for part in range(3))
            for i in range(4):
                scores = np.array([query[i] @ k / np.linalg.norm(query[i]) / np.linalg.norm(k) for k in key])
                shares = np.exp(scores * temperature) / np.exp(scores * temperature).sum()
                joined[n, :, 4 * head + i] = sum(shares[j] * value[j] for j in range(4))
    with torch.no_grad():
        expected = attention.project(torch.from_numpy(joined).float())
    torch.testing.assert_close(actual, expected)


def test_places_are_sines_and_cosines() -> None:
    places = FourierPlaces(64, 14)
    waves = places.waves[0].numpy()
    for channel, row, column in ((0, 3, 9), (1, 3, 9), (17, 13, 0), (32, 5, 6), (63, 0, 13)):
        at = row if channel < 32 else column
        step = channel % 32
        angle = 2 * math.pi * (at + 1) / 14 / 10_000 ** (2 * (step // 2) / 32)
        assert waves[channel, row, column] == pytest.approx((math.sin, math.cos)[step % 2](angle), abs=1e-5)
    assert places().shape == (1, 64, 14, 14)


def test_splits_add_up_from_left_to_right() -> None:
    """The last part passes unfiltered; an untrained encoder is its shortcut."""
    encoder = SplitAttentionEncoder(10, splits=3, heads=2, rank_ratio=0.5, side=None)  # parts of 4, 4 and 2 channels
    assert [tuple(weight.shape) for weight in encoder.filters.parameters() if weight.ndim == 4] == [(4, 1, 3, 3)] * 2
    x = torch.randn(2, 10, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("ratio", "rank"), [(0.6, 6), (0.5, 5), (0.01, 2)])
def test_low_rank(ratio: float, rank: int) -> None:
    layer = LowRankLinear(10, 40, ratio)
    matrix = layer.up.weight @ layer.down.weight
    assert torch.linalg.matrix_rank(matrix) == rank
    x = torch.randn(3, 10)
    torch.testing.assert_close(layer(x), x @ matrix.T + layer.up.bias)


def test_the_last_norm_keeps_its_scale() -> None:
    norm = fixed_scale_norm(4)
    assert [name for name, _ in norm.named_parameters()] == ["bias"]
    assert {"weight", "bias", "running_mean", "running_var"} <= set(norm.state_dict())
    x = torch.randn(50, 4) * 3 + 1
    torch.testing.assert_close(norm(x), (x - x.mean(0)) / x.std(0, correction=0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["mobilefacenet-relu6", "resnet-edge", "resnet-edge-deep", "resnet-nano"])
def test_networks_for_int8_have_only_relu(name: str) -> None:
    kinds = {type(m) for m in build_model(name, 64).modules() if not isinstance(m, nn.Sequential)}
    assert nn.PReLU not in kinds
    assert kinds & {nn.ReLU, nn.ReLU6}


def test_a_deeper_network_answers_as_the_one_that_it_begins_with(tmp_path: Path) -> None:
    torch.manual_seed(3)
    small = build_model("resnet-edge", 16)
    small(torch.randn(8, 3, 112, 112))  # running statistics that are not those of a new network
    faces = torch.randn(2, 3, 112, 112)
    save_file(small.state_dict(), tmp_path / "small.safetensors")
    deep = build_model("resnet-edge-deep", 16)
    assert isinstance(deep, FaceResNet)
    fresh = load_weights(tmp_path / "small.safetensors", deep, optional=deep.neutral_parts)
    assert fresh == ("stages.0.0.", "stages.0.1.", "stages.1.2.")
    torch.testing.assert_close(deep.eval()(faces), small.eval()(faces), atol=0, rtol=0)
    # A block is there as a whole or not at all, and one that halves the resolution must be there.
    for lost in ("stages.1.1.norm1.weight", "stages.1.0.conv1.weight"):
        save_file({k: v for k, v in small.state_dict().items() if k != lost}, tmp_path / "cut.safetensors")
        with pytest.raises(CheckpointError, match=lost):
            load_weights(tmp_path / "cut.safetensors", deep, optional=deep.neutral_parts)
    save_file(deep.state_dict(), tmp_path / "deep.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit the network: .* stages\.0\.0"):
        load_weights(tmp_path / "deep.safetensors", small)


def test_same_seed_same_weights() -> None:
    states = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        states.append(build_model("resnet-nano", 32).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_unknown_network() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'resnet'; choose one of: edgeface-s, .*, timm:NAME"):
        build_model("resnet", 128)


@pytest.mark.parametrize("size", [0, -1, 5000])
def test_impossible_embedding_size(size: int) -> None:
    with pytest.raises(ConfigError, match="between 1 and 4096"):
        build_model("resnet-nano", size)


def test_timm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingPackageError, match=r"needs the package 'timm'; .* 'edgeface\[timm\]'"):
        build_model("timm:resnet18", 128)


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:vit_tiny_patch16_224"])
def test_networks_of_timm(name: str) -> None:
    pytest.importorskip("timm", exc_type=ImportError)
    torch.manual_seed(0)
    model = build_model(name, 48)
    faces = torch.rand(2, 3, 112, 112) * 2 - 1
    embeddings = model(faces)
    assert embeddings.shape == (2, 48) and model.training
    embeddings.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    seen = []
    model.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    model(faces)
    config = model.network.pretrained_cfg  # type: ignore[union-attr]
    mean, deviation = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))  # type: ignore[index]
    torch.testing.assert_close(seen[0], ((faces + 1) / 2 - mean) / deviation, atol=1e-5, rtol=1e-5)
    with pytest.raises(UnknownNameError, match="timm model"):
        build_model("timm:no_such_network", 48)
