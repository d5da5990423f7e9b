"""Networks: sizes against the paper, shapes, and that every part learns."""

import pytest
import torch
from torch import nn

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.models import MODELS, build_model, count_parameters


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


@pytest.mark.parametrize(("name", "low", "high"), [("resnet-edge", 1.0e6, 1.6e6), ("resnet-nano", 0.3e6, 0.9e6)])
def test_small_residual_networks_are_small(name: str, low: float, high: float) -> None:
    assert low < count_parameters(build_model(name, 128)) < high


@pytest.mark.parametrize("name", sorted(MODELS))
def test_shape_gradient_and_independence_of_the_batch(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, 96)
    faces = torch.rand(3, 3, 112, 112) * 2 - 1
    model(faces).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    model.eval()
    with torch.no_grad():
        embeddings = model(faces)
        assert embeddings.shape == (3, 96)
        assert embeddings.dtype == torch.float32
        torch.testing.assert_close(model(faces[1:2]), embeddings[1:2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "mobilefacenet"])
def test_networks_for_int8_have_only_relu(name: str) -> None:
    kinds = {type(m) for m in build_model(name, 64).modules() if not isinstance(m, nn.Sequential)}
    assert nn.PReLU not in kinds
    assert kinds & {nn.ReLU, nn.ReLU6}


def test_same_seed_same_weights() -> None:
    states = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        states.append(build_model("resnet-nano", 32).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_unknown_network() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'resnet'; choose one of: mobilefacenet"):
        build_model("resnet", 128)


@pytest.mark.parametrize("size", [0, -1, 5000])
def test_impossible_embedding_size(size: int) -> None:
    with pytest.raises(ConfigError, match="between 1 and 4096"):
        build_model("resnet-nano", size)
