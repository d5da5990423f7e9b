"""Cohort means in a gallery: stored with a template, sealed with it, computed where they are missing or outdated."""

import sqlite3

import numpy as np
import pytest

from edgeface.errors import GalleryError
from edgeface.runtime.gallery.comparison import People
from edgeface.runtime.gallery.exchange import export_gallery
from edgeface.runtime.gallery.export_reader import read_export
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.importing import merge_gallery, take_in
from edgeface.runtime.gallery.protection import protect
from edgeface.scoring import COSINE, Scoring
from tests.test_cohort import cohort_of, unit_rows
from tests.test_gallery import DIMENSION, SPACE, unit
from tests.test_gallery_encryption import KEY, change
from tests.test_search import KINDS

COHORT, OTHER_COHORT = (cohort_of(unit_rows(200, DIMENSION, seed), 20) for seed in (7, 8))
SCORING, OTHER = Scoring(COHORT), Scoring(OTHER_COHORT)
EMBEDDINGS = np.stack([unit(seed) for seed in range(4)])


@pytest.fixture
def path(tmp_path):
    (tmp_path / "g").mkdir()
    return tmp_path / "g" / "people.db"


def make(path, key=None):
    return Gallery(path, SPACE, DIMENSION, create=True, key=key)


def stored(path):
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT cohort, cohort_mean FROM templates ORDER BY id").fetchall()
    connection.close()
    return rows


def close_to(matrix, scoring):
    """Tell whether a gallery gives what the embeddings give, whatever it has stored."""
    return np.allclose(matrix, scoring.templates(EMBEDDINGS), atol=1e-6)


@pytest.mark.parametrize("key", [None, KEY])
def test_means_are_stored_where_there_is_a_cohort_and_computed_where_they_are_missing(path, key):
    with make(path, key) as gallery:
        gallery.enroll("Al", [Template(row) for row in EMBEDDINGS[:2]])
        gallery.enroll("Bo", [Template(EMBEDDINGS[2])], SCORING)
        gallery.enroll("Cy", [Template(EMBEDDINGS[3])], OTHER)
    ids, means = zip(*stored(path), strict=True)
    assert ids == (None, None, COHORT.id, OTHER_COHORT.id) and means[:2] == (None, None)
    assert means[2] == pytest.approx(COHORT.means(EMBEDDINGS[2:3])[0])
    with Gallery(path, SPACE, DIMENSION, key=key) as gallery:
        for scoring in (SCORING, OTHER):
            names, matrix = gallery.templates(scoring)
            assert names == ("Al", "Al", "Bo", "Cy") and close_to(matrix, scoring)
        assert close_to(gallery.templates()[1], COSINE)  # the same gallery with a bundle that has no cohort
        assert not gallery.changed()


def test_what_is_stored_is_taken(path):
    with make(path) as gallery:
        gallery.enroll("Al", [Template(row) for row in EMBEDDINGS], SCORING)
    change(path, "UPDATE templates SET cohort_mean = 0.5 WHERE id = 2")
    with Gallery(path, SPACE, DIMENSION) as gallery:
        means = COHORT.means(EMBEDDINGS)
        means[1] = 0.5
        assert gallery.templates(SCORING)[1][:, -1] == pytest.approx(-COHORT.allowances(means))


@pytest.mark.parametrize("value", ["'x'", "2.0", "-0.1", "9e999", "x'00'"])
def test_a_mean_that_cannot_be_one_is_refused(path, value):
    with make(path) as gallery:
        gallery.enroll("Al", [Template(EMBEDDINGS[0])], SCORING)
    change(path, f"UPDATE templates SET cohort_mean = {value}")
    with Gallery(path, SPACE, DIMENSION) as gallery, pytest.raises(GalleryError, match="was altered"):
        gallery.templates(SCORING)


@pytest.mark.parametrize("alter", ["cohort_mean = 0", "cohort_mean = NULL, cohort = NULL", "cohort = 'x'"])
def test_a_sealed_record_does_not_open_with_another_mean(path, alter):
    """Who lowers a mean is taken for that person more easily."""
    with make(path, KEY) as gallery:
        gallery.enroll("Al", [Template(EMBEDDINGS[0])], SCORING)
    change(path, f"UPDATE templates SET {alter}")
    with Gallery(path, SPACE, DIMENSION, key=KEY) as gallery, pytest.raises(GalleryError, match="was altered"):
        gallery.templates(SCORING)


def test_means_survive_whatever_happens_to_a_gallery(path, tmp_path):
    with make(path) as gallery:
        gallery.enroll("Al", [Template(row) for row in EMBEDDINGS[:2]], SCORING)
        gallery.enroll("Bo", [Template(row) for row in EMBEDDINGS[2:]], SCORING)
        before = stored(path)
        gallery.rename("Bo", "Bob")
        gallery.merge("Bob", "Al")
        protect(gallery, KEY)
        assert close_to(gallery.templates(SCORING)[1], SCORING)
        protect(gallery, None)
        export_gallery(gallery, tmp_path / "people.jsonl", None)
        with make(tmp_path / "merged.db") as other:
            merge_gallery(other, gallery)
        with make(tmp_path / "imported.db") as other:
            take_in(other, read_export(tmp_path / "people.jsonl").people, "people.jsonl")
            assert close_to(other.templates(SCORING)[1], SCORING)
    assert stored(path) == before == stored(tmp_path / "merged.db")
    assert stored(tmp_path / "imported.db") == [(None, None)] * 4


def test_a_gallery_of_version_3_gets_means_when_it_is_read(path):
    with make(path) as gallery:
        gallery.enroll("Al", [Template(row) for row in EMBEDDINGS])
    connection = sqlite3.connect(path)
    connection.executescript(
        "ALTER TABLE templates DROP COLUMN cohort; ALTER TABLE templates DROP COLUMN cohort_mean; "
        "ALTER TABLE templates DROP COLUMN fitness; "
        "PRAGMA user_version = 3; VACUUM"
    )
    connection.close()
    with Gallery(path, SPACE, DIMENSION) as gallery:
        assert close_to(gallery.templates(SCORING)[1], SCORING)
        gallery.enroll("Bo", [Template(EMBEDDINGS[0])], SCORING)
    assert stored(path)[4][0] == COHORT.id


@KINDS
@pytest.mark.parametrize("claim", [None, "p1"])
def test_the_search_by_normalised_score_is_the_slow_one(kind, claim):
    faces, matrix = unit_rows(4, DIMENSION, 1), unit_rows(40, DIMENSION, 2, lean=2.0)
    names = [f"p{row % 9}" for row in range(40)]
    people = People(names, SCORING.templates(matrix), kind, SCORING)
    for face, found in zip(faces, people.compare(faces, claim), strict=True):
        best: dict[str, float] = {}
        for name, template in zip(names, matrix, strict=True):
            score = float(SCORING.pairs(face[None], template[None])[0])
            best[name] = max(best.get(name, -2), score)
        ranking = sorted(best, key=lambda name: -best[name])
        expected = (claim, next(name for name in ranking if name != claim)) if claim else tuple(ranking[:2])
        assert found.best is not None and found.runner_up is not None
        assert (found.best.name, found.runner_up.name) == expected
        assert (found.best.score, found.runner_up.score) == pytest.approx([best[name] for name in expected], abs=1e-5)
