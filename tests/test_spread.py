"""How far apart embeddings of different faces lie, and what a bound on cosines means then."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ExportError
from edgeface.export.spread import check_spread, from_relative, measure_spread


def cone(common: float, count: int = 60, dimension: int = 64, seed: int = 0):
    """Unit embeddings of strangers with a cosine of about `common`: a shared direction, and one of their own."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(count, dimension))
    own[:, 0] = 0
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    shared = np.eye(dimension)[0]
    return np.sqrt(common) * shared + np.sqrt(1 - common) * own


@pytest.mark.parametrize("common", [0.0, 0.5, 0.85, 0.99])
def test_the_spread_is_that_of_all_pairs(common):
    embeddings = cone(common)
    spread = measure_spread(embeddings)
    slow = [float(a @ b) for i, a in enumerate(embeddings) for b in embeddings[:i]]
    assert (spread.low, spread.high) == pytest.approx((min(slow), max(slow)))
    assert spread.median == pytest.approx(np.median(slow)) and spread.median == pytest.approx(common, abs=0.02)
    check_spread(spread)


def test_embeddings_that_are_all_alike_are_refused():
    for embeddings in (cone(0.9995), np.tile(cone(0.3)[:1], (20, 1))):
        spread = measure_spread(embeddings)
        with pytest.raises(ExportError, match=r"cosines from [01]\.\d{4} to [01]\.\d{4}, .*--output-transform"):
            check_spread(spread)
    for broken in (np.zeros((4, 8)), np.full((4, 8), np.nan)):
        with pytest.raises(ExportError, match="for 4 of 4 faces; check --mean"):
            measure_spread(broken)


@given(st.floats(0.01, 0.999), st.floats(0, 0.99))
def test_the_scale(relative, common):
    least = from_relative(relative, common)
    assert relative <= least + 1e-12 <= 1 + 1e-12
    assert 1 - (1 - least) / (1 - common) == pytest.approx(relative)
    assert from_relative(relative, 0) == pytest.approx(relative)
    assert from_relative(0, common) == pytest.approx(common)  # as far away as a stranger


@pytest.mark.parametrize("common", [0.0, 0.5, 0.95])
def test_it_is_the_cosine_without_the_common_part(common):
    """An error of one size on what tells faces apart is the same on the scale, however narrow the cone is."""
    rng = np.random.default_rng(1)
    embeddings = cone(common, dimension=256)
    error = rng.normal(size=embeddings.shape) * 0.2 * np.sqrt((1 - common) / 256)
    error[:, 0] = 0
    moved = embeddings + error
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    cosines = (embeddings * moved).sum(axis=1)
    relative = 1 - (1 - cosines) / (1 - measure_spread(embeddings).common)
    inner = embeddings[:, 1:], moved[:, 1:]
    own = (inner[0] * inner[1]).sum(axis=1) / np.prod([np.linalg.norm(part, axis=1) for part in inner], axis=0)
    np.testing.assert_allclose(relative, own, atol=3e-3)
    assert relative.mean() == pytest.approx(0.98, abs=0.005)
