"""Templates, searches and labels from CSV files, against slow versions; each bad file is one clear error."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeface.data import UNKNOWN, InMemoryFaces, Pairs
from edgeface.data.faceset import Sample
from edgeface.errors import DataError
from edgeface.evaluation.groups import EVERYBODY, LEAST_GENUINE, Labels, measure_groups, read_labels
from edgeface.evaluation.identification import NOBODY, Search, draw_search, identify, read_search
from edgeface.evaluation.items import Items, face_items
from edgeface.evaluation.templates import read_template_pairs, read_templates


class Corners:
    """Embeds a face as the three colours of its corner pixel, of any length."""

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return faces[:, 0, 0].astype(np.float32)


class NamedFaces(InMemoryFaces):
    """Faces with keys such as `ann/1`, of which the first part is the identity, and a given corner pixel."""

    def __init__(self, keys: list[str], corners: npt.NDArray[np.uint8] | None = None) -> None:
        images = np.zeros((len(keys), 112, 112, 3), np.uint8)
        images[:, 0, 0] = [1, 0, 0] if corners is None else corners
        super().__init__(images, np.full(len(keys), UNKNOWN))
        samples = [Sample(key, key.partition("/")[0] if "/" in key else None) for key in keys]
        super(InMemoryFaces, self).__init__("memory", samples)


KEYS = ["ann/1", "ann/2", "ann/3", "bob/4", "bob/5", "cy/6", "dot"]


@pytest.fixture
def faces() -> NamedFaces:
    corners = np.random.default_rng(0).integers(1, 256, (len(KEYS), 3)).astype(np.uint8)
    return NamedFaces(KEYS, corners)


def write(path: Path, text: str) -> Path:
    path.write_text(text.replace(";", "\n") + "\n", encoding="utf-8")
    return path


def test_a_template_is_the_mean_of_its_media(tmp_path: Path, faces: NamedFaces) -> None:
    table = write(
        tmp_path / "t.csv", "template,key,media;T2,bob/4,;T1,ann/1,video;T1,ann/2,video;T1,3,still;T3,ann/1,video;T2,5,"
    )
    templates = read_templates(table, faces)
    assert templates.names == ("T2", "T1", "T3")
    assert [templates.faces.samples[i].key for i in templates.shown] == ["bob/4", "ann/1", "ann/1"]
    assert [faces.identities[label] for label in templates.labels] == ["bob", "ann", "ann"]
    unit = faces.images[:, 0, 0].astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    slow = np.stack([(unit[3] + unit[4]) / 2, ((unit[0] + unit[1]) / 2 + unit[2]) / 2, unit[0]])
    slow /= np.linalg.norm(slow, axis=1, keepdims=True)
    np.testing.assert_allclose(templates.embed(Corners(), np.arange(3)), slow, atol=1e-6)
    np.testing.assert_allclose(templates.embed(Corners(), np.array([0, 2])), slow[[0, 2]], atol=1e-6)


def test_a_template_of_two_people_has_no_identity(tmp_path: Path, faces: NamedFaces) -> None:
    assert read_templates(write(tmp_path / "t.csv", "template,key;T,ann/1;T,bob/4"), faces).labels.tolist() == [UNKNOWN]


def test_pairs_of_templates(tmp_path: Path, faces: NamedFaces) -> None:
    templates = read_templates(write(tmp_path / "t.csv", "template,key;A,1;B,2;C,4;D,5;E,6"), faces)
    text = "first,second,same;A,B,1;A,C,0;C,D,yes;B,D,False;E,A,0;E,B,NO"
    pairs = read_template_pairs(write(tmp_path / "p.csv", text), templates)
    assert pairs.first.tolist() == [0, 0, 2, 1, 4, 4] and pairs.second.tolist() == [1, 2, 3, 3, 0, 1]
    assert pairs.same.tolist() == [True, False, True, False, False, False]
    assert pairs.folds.tolist() == [0, 0, 1, 1, 0, 1]  # two folds, since there are two genuine pairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the columns template, key; it has: none"),
        ("template,key", "no rows"),
        ("template,face;T,ann/1", "it has: template, face"),
        ("template,key,key;T,ann/1,ann/2", "names a column twice"),
        ("template,key;T,eve/1", "1 of the 1 faces .* 'eve/1'"),
        ("template,key;T,ann/1;U,", "line 3: a row needs 2 cells"),
        ("template,key;T,ann/1,more", "line 2: a row needs 2 cells"),
        ("template,key;T,ann/1;T,ann/1", "into template 'T' twice"),
        ('template,key;T,"ann', "not a CSV file"),
    ],
)
def test_bad_templates(tmp_path: Path, faces: NamedFaces, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_templates(write(tmp_path / "t.csv", text), faces)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path, faces: NamedFaces) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_templates(tmp_path / "none.csv", faces)
    (tmp_path / "t.csv").write_bytes(b"template,key\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_templates(tmp_path / "t.csv", faces)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("A,B,1;A,X,0", "1 of the 2 templates .* 'X'"),
        ("A,B,maybe", "'maybe' is where 1"),
        ("A,B,1;B,A,1", "lists a pair twice"),
        ("A,A,1", "with itself"),
        ("A,B,1;C,D,1", "2 genuine and 0 impostor"),
        ("A,C,0;A,D,0", "0 genuine and 2 impostor"),
    ],
)
def test_bad_template_pairs(tmp_path: Path, faces: NamedFaces, rows: str, message: str) -> None:
    templates = read_templates(write(tmp_path / "t.csv", "template,key;A,1;B,2;C,4;D,5"), faces)
    with pytest.raises(DataError, match=message):
        read_template_pairs(write(tmp_path / "p.csv", f"first,second,same;{rows}"), templates)


def test_embeddings_without_a_direction_are_named(faces: NamedFaces) -> None:
    faces.images[4, 0, 0] = 0
    with pytest.raises(DataError, match=r"1 of 7 embeddings .* bob/5"):
        face_items(faces).embed(Corners(), np.arange(7))


def test_a_search_from_a_list(tmp_path: Path, faces: NamedFaces) -> None:
    text = "key,identity,role;4,Bob,gallery;1,Ann,gallery;2,Ann,probe;6,Cy,probe;5,Bob,probe"
    search = read_search(write(tmp_path / "s.csv", text), face_items(faces))
    assert search.gallery.tolist() == [3, 0] and search.probes.tolist() == [1, 5, 4]
    assert search.mate.tolist() == [1, NOBODY, 0]
    assert len(set(search.person.tolist())) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,Ann,gallery;2,Ann,gallery;3,Ann,probe", "'Ann' in the gallery twice"),
        ("1,Ann,gallery;1,Ann,probe", "lists 'ann/1' twice"),
        ("1,Ann,gallery;ann/1,Ann,probe", "lists 'ann/1' twice"),
        ("1,Ann,gallery;4,Bob,probe", "none of them of a person in the gallery"),
        ("2,Ann,probe", "0 people in the gallery"),
        ("1,Ann,galery;2,Ann,probe", "role 'galery'"),
        ("9,Ann,gallery", "1 of the 1 faces"),
        ("1,,gallery", "line 2"),
    ],
)
def test_bad_searches(tmp_path: Path, faces: NamedFaces, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_search(write(tmp_path / "s.csv", f"key,identity,role;{rows}"), face_items(faces))


def items_of(counts: list[int]) -> Items:
    return face_items(NamedFaces([f"{person:03}/{face}" for person, n in enumerate(counts) for face in range(n)]))


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_search_keeps_its_promises(seed: int) -> None:
    items = items_of([1, 1, 1, 1, 2, 3, 30, 5, 2])
    search = draw_search(items, seed)
    people = items.labels[search.gallery]
    assert len(set(people.tolist())) == len(people) == 5  # two of four with one face, three of five with several
    assert not set(search.gallery.tolist()) & set(search.probes.tolist())
    for probe, mate in zip(search.probes, search.mate, strict=True):
        person = items.labels[probe]
        assert (people[mate] == person) if mate != NOBODY else (person not in people)
    assert np.any(search.mate != NOBODY) and np.bincount(search.person).max() == 10
    again = draw_search(items, seed)
    assert np.array_equal(search.gallery, again.gallery) and np.array_equal(search.probes, again.probes)


def test_too_few_people_to_draw_a_search() -> None:
    with pytest.raises(DataError, match="1 people with two or more faces"):
        draw_search(items_of([1, 1, 4]))


def test_identification_equals_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    gallery = rng.integers(-2, 3, (20, 4)).astype(np.float32)  # small integers: exact, with ties
    probes = rng.integers(-2, 3, (400, 4)).astype(np.float32)
    mate = np.where(np.arange(400) < 60, rng.integers(0, 20, 400), NOBODY)
    search = Search(np.arange(20), np.arange(400), mate, np.where(mate == NOBODY, np.arange(400) + 20, mate))
    monkeypatch.setattr("edgeface.evaluation.identification.BLOCK", 7 * 20)
    found = identify(gallery, probes, search)
    ranks, scores, tops = [], [], []
    for probe, own in zip(probes, mate, strict=True):
        row = [float(probe @ face) for face in gallery]
        if own == NOBODY:
            tops.append(max(row))
        else:
            scores.append(row[own])
            ranks.append(sum(value >= row[own] for value in row))
    assert (found.gallery, found.mated, found.non_mated) == (20, 60, 340)
    assert found.cmc.tolist() == [np.mean([rank <= k for rank in ranks]) for k in range(1, 21)]
    assert {k: rate.value for k, rate in found.ranks.items()} == {k: found.cmc[k - 1] for k in (1, 5, 10)}
    assert np.all(np.diff(found.cmc) >= 0) and found.cmc[-1] == 1
    assert [point.fpir for point in found.open_set] == [0.1, 0.01] and found.unsupported == {"1e-3": 3000}
    for point in found.open_set:
        assert np.mean([top >= point.threshold for top in tops]) <= point.fpir
        missed = [rank > 1 or score < point.threshold for rank, score in zip(ranks, scores, strict=True)]
        assert point.fnir.errors == sum(missed)
    assert [nearest.score for nearest in found.nearest] == sorted(tops, reverse=True)[:16]
    for nearest in found.nearest:
        assert mate[nearest.probe] == NOBODY and probes[nearest.probe] @ gallery[nearest.enrolled] == nearest.score
    assert found.open_set[0].fnir.errors <= found.open_set[1].fnir.errors


def test_a_model_that_sees_no_difference_finds_nobody() -> None:
    search = Search(np.arange(3), np.arange(3), np.arange(3), np.arange(3))
    found = identify(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32), search)
    assert found.ranks[1].value == 0 and found.cmc.tolist() == [0, 0, 1]


def test_labels_of_some_faces(tmp_path: Path, faces: NamedFaces) -> None:
    labels = read_labels(write(tmp_path / "l.csv", "key,mask;ann/1,yes;2,no;elsewhere,no;dot,"), face_items(faces))
    assert labels.columns["mask"].tolist() == ["yes", "no", "", "", "", "", ""] and labels.left_out == ()


def test_a_column_of_numbers_makes_no_groups(tmp_path: Path) -> None:
    items = items_of([150])
    rows = ";".join(f"{name},{number},x" for number, name in enumerate(items.names))
    labels = read_labels(write(tmp_path / "l.csv", f"key,age,place;{rows}"), items)
    assert labels.left_out == ("age",) and set(labels.columns) == {"place"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key;ann/1", "the column key and no other"),
        ("name,mask;ann/1,no", "needs the columns key"),
        ("key,mask;eve/1,no;eve/2,no", "none of the 2 keys .* 'ann/1'"),
        ("key,mask;ann/1,no;1,yes", "lists 'ann/1' twice"),
        ("key,mask", "no rows"),
    ],
)
def test_bad_labels(tmp_path: Path, faces: NamedFaces, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_labels(write(tmp_path / "l.csv", text), face_items(faces))


def groups_of(known: bool):
    """Sixty faces of twenty people, of whom the first twelve are in group a."""
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(20), 3)
    embeddings = (rng.normal(size=(20, 5))[people] + rng.normal(size=(60, 5))).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    used = np.arange(60) * 2  # every other item of the set
    first, second = (used[side] for side in np.triu_indices(60, 1))
    same = people[first // 2] == people[second // 2]
    pairs = Pairs(first, second, same, np.zeros(len(same), np.int64))
    scores = np.einsum("nd,nd->n", embeddings[first // 2], embeddings[second // 2]).astype(np.float64)
    cells = np.full(120, "")
    cells[used] = np.where(people < 12, "a", np.where(people < 18, "b", "c"))
    labels = people if known else np.full(60, UNKNOWN)
    found = measure_groups(
        Labels({"group": cells}, ()), (embeddings, embeddings), used, labels, pairs, scores, 0.5, 0.01
    )
    return found, pairs, scores, cells


@pytest.mark.parametrize("known", [True, False])
def test_groups_equal_counting(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeface.evaluation.groups.BLOCK", 7 * 60)
    found, pairs, scores, cells = groups_of(known)
    assert [(group.column, group.value) for group in found] == [
        (EVERYBODY, ""),
        ("group", "a"),
        ("group", "b"),
        ("group", "c"),
    ]
    for group in found:
        within = np.array(
            [
                group.column == EVERYBODY or cells[a] == cells[b] == group.value
                for a, b in zip(pairs.first, pairs.second, strict=True)
            ]
        )
        impostor, genuine = within & ~pairs.same, within & pairs.same
        assert (group.impostor_pairs, group.genuine_pairs) == (impostor.sum(), genuine.sum())
        if group.fmr is not None:
            assert group.fmr.errors == np.sum(scores[impostor] >= 0.5)
        if group.fnmr is not None:
            assert group.fnmr.errors == np.sum(scores[genuine] < 0.5)
    assert found[0].fmr and found[1].fmr and found[1].fnmr


def test_a_group_with_too_few_pairs_says_so() -> None:
    found = groups_of(True)[0]
    small = found[-1]  # two people with three faces each
    assert small.fmr is None and small.fnmr is None
    assert (
        small.why
        == f"FMR 0.01 needs 300 impostor pairs, here are 9; FNMR needs {LEAST_GENUINE} genuine pairs, here are 6"
    )


def test_a_group_of_one_face(faces: NamedFaces) -> None:
    cells = np.array(["x", "", "", "", "", "", ""])
    pairs = Pairs(np.array([0, 0]), np.array([1, 3]), np.array([True, False]), np.array([0, 1]))
    used, people = np.array([0, 1, 3]), np.array([0, 0, 1])
    sides = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    found = measure_groups(Labels({"g": cells}, ()), sides, used, people, pairs, np.zeros(2), 0.5, 0.1)
    assert (found[1].items, found[1].impostor_pairs, found[1].genuine_pairs) == (1, 0, 0)
