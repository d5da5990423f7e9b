"""The nearest people, against the obvious way and FAISS against NumPy; what is taken when."""

import importlib.util
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import MissingPackageError, UnknownNameError
from edgeface.runtime.gallery import search
from edgeface.runtime.gallery.comparison import People
from edgeface.runtime.gallery.matching import best_per_person, similarities
from edgeface.runtime.gallery.search import FaissIndex, NumpyIndex, open_index

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="FAISS is not installed")


def unit_rows(rng, count, dimension=8):
    matrix = rng.normal(size=(count, dimension)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@needs_faiss
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), st.sampled_from([None, "a", "zoe"]), st.data())
def test_faiss_gives_the_answers_of_numpy(names, claim, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    matrix = unit_rows(rng, len(names))
    if data.draw(st.booleans()):  # many that tie, also beyond what FAISS is asked for first
        matrix[:] = matrix[rng.integers(0, 2, len(names)).clip(max=len(names) - 1)]
    faces = unit_rows(rng, 3)
    one, two = (People(names, matrix, kind).compare(faces, claim) for kind in ("numpy", "faiss"))
    for ours, theirs in zip(one, two, strict=True):
        for a, b in ((ours.best, theirs.best), (ours.runner_up, theirs.runner_up)):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert a.score == pytest.approx(b.score, abs=1e-6)
        if ours.margin is None or ours.margin > 1e-6:
            assert (ours.best and ours.best.name) == (theirs.best and theirs.best.name)


@needs_faiss
def test_faiss_finds_a_runner_up_behind_a_person_with_many_templates():
    rng = np.random.default_rng(0)
    many = unit_rows(rng, 1) + 0.01 * rng.normal(size=(500, 8)).astype(np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    matrix = np.vstack([many, -many[:1]])
    (found,) = People(["a"] * 500 + ["b"], matrix, "faiss").compare(many[:1])
    assert found.best is not None and found.best.name == "a"
    assert found.runner_up is not None and found.runner_up.name == "b"
    assert found.runner_up.score == pytest.approx(-1, abs=1e-6)


KINDS = pytest.mark.parametrize("kind", ["numpy", pytest.param("faiss", marks=needs_faiss)])


@KINDS
@pytest.mark.parametrize("claim", [None, "p0", "p30"])
def test_of_many_equals_those_enrolled_first_are_named(kind, claim):
    matrix = np.tile(np.eye(1, 8, dtype=np.float32), (100, 1))
    (found,) = People([f"p{row}" for row in range(100)], matrix, kind).compare(matrix[:1], claim)
    assert found.best is not None and found.runner_up is not None
    assert (found.best.name, found.runner_up.name) == (claim or "p0", "p1" if claim in (None, "p0") else "p0")
    assert found.margin == 0


@KINDS
def test_a_large_gallery_is_searched_as_the_slow_way_does(kind):
    rng = np.random.default_rng(1)
    names = [f"person {i}" for i in rng.integers(0, 700, 3000)]
    matrix = unit_rows(rng, 3000, 32)
    faces = unit_rows(rng, 5, 32)
    for face, found in zip(faces, People(names, matrix, kind).compare(faces), strict=True):
        first, second = best_per_person(names, similarities(matrix, face), 2)
        assert found.best is not None and found.runner_up is not None
        assert (found.best.name, found.runner_up.name) == (first.name, second.name)
        assert found.best.score == pytest.approx(first.score, abs=1e-6)
        assert found.runner_up.score == pytest.approx(second.score, abs=1e-6)


def test_what_searches_follows_the_size_and_the_environment(monkeypatch, caplog):
    matrix, starts = unit_rows(np.random.default_rng(0), 6), np.arange(6)
    assert isinstance(open_index(matrix, starts), NumpyIndex)
    monkeypatch.setattr(search, "NUMPY_TEMPLATES", 5)
    assert isinstance(open_index(matrix, starts, "numpy"), NumpyIndex)
    monkeypatch.setenv("EDGEFACE_SEARCH", "numpy")
    assert isinstance(open_index(matrix, starts), NumpyIndex)
    monkeypatch.setenv("EDGEFACE_SEARCH", "annoy")
    with pytest.raises(UnknownNameError, match="unknown search 'annoy'; choose one of: auto, faiss, numpy"):
        open_index(matrix, starts)
    monkeypatch.delenv("EDGEFACE_SEARCH")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"faiss-cpu.*edgeface\[faiss\]"):
        open_index(matrix, starts, "faiss")
    with caplog.at_level(logging.WARNING):
        assert isinstance(open_index(matrix, starts), NumpyIndex)
    assert "searching 6 templates with NumPy" in caplog.text


@needs_faiss
def test_faiss_is_taken_for_what_is_too_large(monkeypatch):
    monkeypatch.setattr(search, "NUMPY_TEMPLATES", 5)
    assert isinstance(open_index(unit_rows(np.random.default_rng(0), 6), np.arange(6)), FaissIndex)
