"""Orders of faces that choose identities first, and their shares for several processes."""

from collections import Counter

import numpy as np
import pytest

from edgeface.data.loader import EpochBatches, occurrences
from edgeface.data.samplers import BalancedBatches, PKBatches, RankBatches
from edgeface.errors import ConfigError, DataError

LABELS = np.array([0] * 20 + [1] * 3 + [2] * 7 + [3] + [4] * 2 + [-1] * 5 + [5] * 4)


def build(name: str, first_step: int = 0, seed: int = 1) -> EpochBatches:
    if name == "pk":
        return PKBatches(LABELS, 8, 3, seed, first_step, faces_per_identity=4)
    if name == "balanced":
        return BalancedBatches(LABELS, 8, 3, seed, first_step)
    return EpochBatches(len(LABELS), 8, 3, seed, first_step)


def test_occurrences() -> None:
    values = np.random.default_rng(0).integers(0, 5, 50)
    assert occurrences(values).tolist() == [list(values[:i]).count(v) for i, v in enumerate(values)]


def test_pk_batches_hold_k_faces_of_p_identities() -> None:
    batches = list(build("pk"))
    assert len(batches) == len(build("pk")) == 3 * (36 // 8)  # one face alone and five unknown left out
    for places in batches:
        labels = [int(LABELS[index]) for _, index in places]
        assert labels == [label for label in dict.fromkeys(labels) for _ in range(4)]
        assert len(set(labels)) == 2
        assert not {-1, 3} & set(labels)
        for label in set(labels):
            faces = [index for _, index in places if LABELS[index] == label]
            assert len(set(faces)) == min(4, LABELS.tolist().count(label))
    assert {int(LABELS[index]) for places in batches for _, index in places} == {0, 1, 2, 4, 5}


def test_balanced_batches_show_every_identity_equally_often() -> None:
    batches = list(build("balanced"))
    assert len(batches) == 3 * (37 // 8)
    for epoch in range(3):
        seen = Counter(int(LABELS[i]) for places in batches[4 * epoch : 4 * epoch + 4] for _, i in places)
        assert set(seen) == {0, 1, 2, 3, 4, 5}
        assert max(seen.values()) - min(seen.values()) <= 1


@pytest.mark.parametrize("name", ["pk", "balanced"])
def test_faces_of_an_identity_come_in_turn_and_never_in_the_same_place(name: str) -> None:
    """A face that comes again has another place, so another augmentation, also in later epochs."""
    batches = list(build(name))
    places = [place for chosen in batches for place in chosen]
    assert len(set(places)) == len(places)
    per_epoch = build(name).steps_per_epoch
    for epoch in range(3):
        seen = Counter(i for chosen in batches[per_epoch * epoch : per_epoch * (epoch + 1)] for _, i in chosen)
        for label in {int(LABELS[i]) for i in seen}:
            times = [seen[i] for i in np.flatnonzero(label == LABELS).tolist()]
            assert max(times) - min(times) <= 1


@pytest.mark.parametrize("name", ["pk", "balanced", "shuffle"])
def test_resuming_seeds_and_epochs(name: str) -> None:
    whole = list(build(name))
    assert all(list(build(name, done)) == whole[done:] for done in range(len(whole) + 1))
    assert list(build(name)) == whole
    assert list(build(name, seed=2)) != whole
    per_epoch = build(name).steps_per_epoch
    first, second = ([[i for _, i in b] for b in whole[k * per_epoch : (k + 1) * per_epoch]] for k in (0, 1))
    assert first != second


@pytest.mark.parametrize("name", ["pk", "balanced", "shuffle"])
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("done", [0, 5])
def test_processes_share_each_batch(name: str, world_size: int, done: int) -> None:
    whole = list(build(name, done))
    ranks = [RankBatches(build(name, done), rank, world_size) for rank in range(world_size)]
    parts = [list(rank) for rank in ranks]
    assert {len(part) for part in parts} == {len(rank) for rank in ranks} == {len(whole)}
    assert all(len(places) == 8 // world_size for part in parts for places in part)
    assert [[p for part in parts for p in part[step]] for step in range(len(whole))] == whole
    if name == "pk":
        assert all(len({int(LABELS[i]) for _, i in places}) == 2 // world_size for part in parts for places in part)


@pytest.mark.parametrize(("name", "world_size"), [("pk", 4), ("balanced", 3), ("shuffle", 16)])
def test_a_batch_that_cannot_be_shared(name: str, world_size: int) -> None:
    with pytest.raises(ConfigError, match=rf"run.batch_size = 8 cannot be divided among {world_size} processes"):
        RankBatches(build(name), 0, world_size)


@pytest.mark.parametrize("k", [0, 1, 3, 8, 16])
def test_k_that_does_not_fit(k: int) -> None:
    with pytest.raises(ConfigError, match=rf"run.faces_per_identity = {k} does not divide run.batch_size = 8"):
        PKBatches(LABELS, 8, 1, 0, faces_per_identity=k)


def test_too_few_people() -> None:
    with pytest.raises(DataError, match=r"5 identities have at least 2 faces, a batch needs 6; .* at most 20"):
        PKBatches(LABELS, 24, 1, 0, faces_per_identity=4)
    with pytest.raises(DataError, match="0 faces are of identities with at least 2, fewer than a batch of 8"):
        PKBatches(np.arange(30), 8, 1, 0)
    with pytest.raises(DataError, match="0 faces are of identities"):
        BalancedBatches(np.full(30, -1), 8, 1, 0)
