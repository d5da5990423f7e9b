"""Distances against NumPy, at their corners, and which axioms of a metric hold for which."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.losses import DISTANCES

POINTS = st.lists(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3), min_size=3, max_size=3)
SEPARATES = {"euclidean", "squared-euclidean"}  # zero only between equal vectors, of any length
TRIANGLE = {"euclidean", "angular"}


def distance(name: str, points: list[list[float]]) -> np.ndarray:
    x = torch.tensor(points, dtype=torch.float64)
    return np.asarray(DISTANCES[name](x, x).numpy())


def at(degrees: float, length: float = 1.0) -> list[float]:
    return [length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees))]


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_values(name: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 5)), rng.standard_normal((6, 5))
    for i, j in np.ndindex(4, 6):
        cosine = a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j])
        expected = {
            "euclidean": np.linalg.norm(a[i] - b[j]),
            "squared-euclidean": np.sum((a[i] - b[j]) ** 2),
            "cosine": 1 - cosine,
            "angular": np.arccos(cosine),
        }[name]
        result = DISTANCES[name](torch.from_numpy(a), torch.from_numpy(b))
        assert result.shape == (4, 6)
        assert result[i, j].item() == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_gradient(name: str) -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (3, 4))
    assert torch.autograd.gradcheck(DISTANCES[name], (a, b))


@pytest.mark.parametrize("name", sorted(DISTANCES))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradient_at_equal_and_opposite_vectors(name: str, sign: float) -> None:
    a = torch.tensor([[0.6, 0.8], [1.0, 0.0]], requires_grad=True)
    value = DISTANCES[name](a, sign * a.detach())
    value.diagonal().sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    if sign > 0:
        assert value.diagonal().abs().max() < 1e-6
        assert torch.all(a.grad.abs() < 1e-6)


def test_small_angles_keep_their_digits_in_float32() -> None:
    """Where the arc cosine of a float32 knows nothing below 3e-4."""
    a = torch.tensor([[1.0, 0.0]])
    b = torch.tensor([[math.cos(1e-5), math.sin(1e-5)]])
    assert DISTANCES["angular"](a, b).item() == pytest.approx(1e-5, rel=1e-4)
    assert DISTANCES["angular"](a, -b).item() == pytest.approx(math.pi - 1e-5, abs=1e-6)


@pytest.mark.parametrize("name", sorted(DISTANCES))
@settings(max_examples=50, deadline=None)
@given(points=POINTS)
def test_axioms_that_hold(name: str, points: list[list[float]]) -> None:
    """Never negative, zero from itself, symmetric; the triangle inequality where the table says so."""
    points = [p if np.linalg.norm(p) > 1e-3 else [1.0, 0.0, 0.0] for p in points]
    d = distance(name, points)
    assert np.all(d >= -1e-12)
    np.testing.assert_allclose(np.diagonal(d), 0, atol=1e-7)
    np.testing.assert_allclose(d, d.T, atol=1e-9)
    if name in TRIANGLE:
        assert d[0, 2] <= d[0, 1] + d[1, 2] + 1e-7
    if name in SEPARATES and points[0] != points[1] and d[0, 1] == 0:
        assert np.allclose(points[0], points[1], atol=1e-150)  # the square of less is no number


def test_triangle_inequality_fails() -> None:
    """Two steps cost less than one: squares of 1 + 1 against 2; 45 + 45 degrees against 90."""
    square = distance("squared-euclidean", [[0.0], [1.0], [2.0]])
    assert square[0, 2] == pytest.approx(4) and square[0, 1] + square[1, 2] == pytest.approx(2)
    cosine = distance("cosine", [at(0), at(45), at(90)])
    assert cosine[0, 2] == pytest.approx(1)
    assert cosine[0, 1] + cosine[1, 2] == pytest.approx(2 - math.sqrt(2))
    assert cosine[0, 1] + cosine[1, 2] < cosine[0, 2]


@pytest.mark.parametrize("name", sorted(set(DISTANCES) - SEPARATES))
def test_zero_does_not_mean_equal(name: str) -> None:
    """One direction, two lengths."""
    assert distance(name, [at(30), at(30, 5)])[0, 1] == pytest.approx(0, abs=1e-7)


def test_on_unit_vectors_they_rank_alike() -> None:
    degrees = [0, 3, 50, 90, 120, 180]
    rows = {name: distance(name, [at(d) for d in degrees])[0] for name in DISTANCES}
    assert all(np.all(np.diff(row) > 0) for row in rows.values())
    np.testing.assert_allclose(rows["squared-euclidean"], 2 * rows["cosine"], atol=1e-12)
