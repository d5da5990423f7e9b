"""The cohort and the score that is relative to it: the obvious way, an inner product, and hostile files."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.cohort import MAX_COHORT_BYTES, Cohort, most_members, read_cohort, write_cohort
from edgeface.errors import BundleError, DataError
from edgeface.metrics import cosine_scores
from edgeface.scoring import COSINE, Scoring

SPACE = "ab" * 32


def unit_rows(count, dimension=8, seed=0, lean=0.0):
    """Random directions; with `lean` they share one, as blurred faces do."""
    rows = np.random.default_rng(seed).normal(size=(count, dimension)) + lean * np.eye(1, dimension)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cohort_of(members, nearest=5, plain=100, surcharge=0.5):
    return read_cohort(write_cohort(members, SPACE, plain, nearest, surcharge), SPACE, members.shape[1])


def slow_mean(cohort, face):
    """The cohort mean, the obvious way."""
    cosines = sorted((float(np.dot(face.astype(np.float64), member)) for member in cohort.members), reverse=True)
    return max(0.0, sum(cosines[: cohort.nearest]) / cohort.nearest)


def slow_allowance(cohort, face):
    mean = slow_mean(cohort, face)
    return mean / 2 + (cohort.surcharge * (mean - cohort.usual) if mean > cohort.usual else 0.0)


@settings(max_examples=30)
@given(st.integers(1, 99), st.integers(1, 12), st.integers(0, 99), st.sampled_from([0.0, 3.0]), st.floats(0, 2))
def test_the_normalised_score_is_what_the_slow_way_gives_and_an_inner_product(
    nearest, dimension, seed, lean, surcharge
):
    cohort = cohort_of(unit_rows(100, dimension, seed), nearest, surcharge=surcharge)
    scoring = Scoring(cohort)
    templates, faces = unit_rows(7, dimension, seed + 1, lean), unit_rows(3, dimension, seed + 2)
    allowances = [slow_allowance(cohort, template) for template in templates]
    slow = np.empty((3, 7))
    for row, face in enumerate(faces):
        for column, template in enumerate(templates):
            cosine = float(np.dot(face.astype(np.float64), template))
            slow[row, column] = max(-1.0, cosine - slow_allowance(cohort, face) - allowances[column])
    products = scoring.probes(faces) @ scoring.templates(templates).T
    assert products.shape == (3, 7) and products.dtype == np.float32
    assert np.maximum(products, -1) == pytest.approx(slow, abs=2e-5)
    assert scoring.pairs(faces, 2.5 * templates[:3]) == pytest.approx(np.diag(slow[:, :3]), abs=2e-5)
    assert scoring.pairs(templates[:3], faces) == pytest.approx(scoring.pairs(faces, templates[:3]), abs=2e-6)
    known = scoring.templates(templates, cohort.means(templates))
    assert np.array_equal(known, scoring.templates(templates))


def test_many_faces_at_once_get_what_each_alone_gets(monkeypatch):
    cohort, faces = cohort_of(unit_rows(120)), unit_rows(50, seed=3)
    alone = np.concatenate([cohort.means(face[None]) for face in faces])
    monkeypatch.setattr("edgeface.cohort._BLOCK", 700)  # five at a time
    assert cohort.means(faces) == pytest.approx(alone, abs=1e-6)
    assert cohort.means(faces[:0]).shape == (0,)


def test_what_all_faces_have_in_common_goes_away():
    """Faces that lean one way resemble each other by that alone; the cohort has such faces, so it shows."""
    cohort = cohort_of(np.concatenate([unit_rows(300, 32, 1), unit_rows(300, 32, 2, lean=8.0)]), 20)
    scoring = Scoring(cohort)
    plain, leaning = unit_rows(200, 32, 3), unit_rows(200, 32, 4, lean=8.0)
    cosines = [COSINE.pairs(faces[:100], faces[100:]).mean() for faces in (plain, leaning)]
    scores = [scoring.pairs(faces[:100], faces[100:]).mean() for faces in (plain, leaning)]
    assert cosines[1] - cosines[0] > 0.5
    assert abs(scores[1] - scores[0]) < 0.5 * (cosines[1] - cosines[0])


def test_without_a_cohort_it_is_the_cosine():
    one, two = unit_rows(5), unit_rows(5, seed=1)
    assert COSINE.templates(one) is one and COSINE.probes(two) is two and COSINE.extra == 0
    assert np.array_equal(COSINE.pairs(one, two), cosine_scores(one, two))
    assert (COSINE.word, Scoring(cohort_of(unit_rows(100))).word) == ("cosine", "normalised score")
    with pytest.raises(DataError, match="zero or not finite"):
        Scoring(cohort_of(unit_rows(100))).pairs(one * 0, two)


def slow_usual(members, plain, nearest):
    """The median over the plain members of the mean cosine with the nearest others."""
    means = []
    for row in range(plain):
        cosines = [float(np.dot(members[row].astype(np.float64), other)) for other in np.delete(members, row, axis=0)]
        means.append(np.mean(sorted(cosines)[-nearest:]))
    return float(np.median(means))


def test_a_file_gives_back_what_was_written_up_to_eight_bits():
    members = unit_rows(most_members(96), 96)
    data = write_cohort(members, SPACE, 20, 20)
    read = read_cohort(data, SPACE, 96)
    assert read.usual == pytest.approx(slow_usual(members, 20, 20), abs=1e-5) and read.surcharge == 0.5
    assert len(data) <= MAX_COHORT_BYTES and len(members) > 3000
    assert read.members.shape == members.shape and read.nearest == 20 and read.space == SPACE
    assert np.linalg.norm(read.members, axis=1) == pytest.approx(np.ones(len(members)), abs=1e-6)
    assert cosine_scores(read.members, members).min() > 0.9999
    assert write_cohort(members, SPACE, 20, 20) == data and len(read.id) == 16
    assert read_cohort(write_cohort(members, SPACE, 20, 21), SPACE, 96).id != read.id


def test_what_cannot_be_a_cohort_is_not_written():
    for count, plain, nearest in ((99, 50, 5), (100, 50, 100), (100, 50, 0), (100, 0, 5), (100, 101, 5)):
        with pytest.raises(BundleError, match="a cohort has 100 to"):
            write_cohort(unit_rows(count), SPACE, plain, nearest)
    with pytest.raises(BundleError, match="a cohort has 100 to"):
        write_cohort(unit_rows(most_members(96) + 1, 96), SPACE, 100)
    for factor in (2.0, np.nan):
        with pytest.raises(BundleError, match="not of unit length"):
            write_cohort(unit_rows(100) * factor, SPACE, 100)


def test_another_space_is_refused():
    data = write_cohort(unit_rows(100), SPACE, 100)
    with pytest.raises(BundleError, match=r"embedding space abababababab \(8 numbers\), the bundle is of cdcdcdcdcdcd"):
        read_cohort(data, "cd" * 32, 8, "cohort.bin of bundle x")
    with pytest.raises(BundleError, match=r"\(16\): they cannot be compared; make a cohort with the bundle's own"):
        read_cohort(data, SPACE, 16)


def altered(**changes):
    """A cohort with another header."""
    header, _, numbers = write_cohort(unit_rows(100), SPACE, 100, 5).partition(b"\n")
    return json.dumps(json.loads(header) | changes).encode() + b"\n" + numbers


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "edgeface cohort 2"},
        {"space": "x"},
        {"members": 99},
        {"members": 101},
        {"members": 10**30},
        {"members": "100"},
        {"members": 100.0},
        {"dimension": 0},
        {"nearest": 0},
        {"nearest": 101},
        {"usual": -0.1},
        {"usual": 1.1},
        {"usual": "x"},
        {"surcharge": -1},
        {"surcharge": float("inf")},
        {"scale": 0},
        {"scale": -1.0},
        {"scale": float("nan")},
        {"scale": None},
        {"more": 1},
    ],
)
def test_a_header_that_does_not_fit_is_refused(changes):
    with pytest.raises(BundleError, match=r"^cohort\.bin .*(export it again|own network)$"):
        read_cohort(altered(**changes), SPACE, 8)


def test_members_without_a_direction_are_refused():
    data = bytearray(write_cohort(unit_rows(100), SPACE, 100))
    data[-8:] = bytes(8)
    with pytest.raises(BundleError, match="a member is zero"):
        read_cohort(bytes(data), SPACE, 8)
    with pytest.raises(BundleError, match="at most 300000"):
        read_cohort(bytes(MAX_COHORT_BYTES + 1), SPACE, 8)


@given(st.binary(max_size=400), st.integers(0, 1000), st.integers(0, 8))
def test_any_bytes_are_a_cohort_or_an_error_of_ours(junk, place, length):
    whole = write_cohort(unit_rows(100), SPACE, 100)
    for data in (junk, whole[:place], whole[:place] + junk[:length] + whole[place + length :], junk + whole):
        try:
            read = read_cohort(data, SPACE, 8)
        except BundleError:
            continue
        assert isinstance(read, Cohort) and np.isfinite(read.members).all()


def test_a_mean_is_exact_to_float32_for_a_known_answer():
    members = np.eye(4, dtype=np.float32)[np.arange(100) % 4]
    cohort = cohort_of(members, 50)  # 25 at cosine 0.6, 25 at 0.8
    face = np.array([[0.6, 0.8, 0, 0]], np.float32)
    assert cohort.means(face)[0] == pytest.approx(float(Fraction(7, 10)))
    assert cohort.means(-face)[0] == 0  # nobody is near: not below 0
    assert cohort.usual == pytest.approx((24 * 1 + 26 * 0) / 50)
    assert cohort.allowances(np.array([0.7, 0.3], np.float32)).tolist() == pytest.approx([0.35 + 0.5 * 0.22, 0.15])
