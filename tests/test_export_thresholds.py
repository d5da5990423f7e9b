"""What export stores about scores: every pair of precisions, the pairs it was told, and the faces they came from."""

import hashlib

import numpy as np
import pytest
import torch

from edgeface.data import InMemoryFaces, make_pairs
from edgeface.data.pairs import Pairs
from edgeface.errors import DataError
from edgeface.evaluation.backbone import BackboneEmbedder
from edgeface.export.graph import export_backbone
from edgeface.export.pipeline import ExportSettings, LabelledPairs, Network, export_bundle
from edgeface.export.thresholds import choose_thresholds, precision_pairs, score_protocol
from edgeface.metrics import threshold_at_fmr
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.deciding.limits import bundle_limits
from edgeface.runtime.embedder import bundle_embedder
from tests.test_export import TinyNet


class Colours:
    """Embeds the mean colour, with an error of its own for each face as a precision has one."""

    def __init__(self, error):
        self.error = error

    def embed(self, images):
        mean = images.reshape(len(images), -1, 3).mean(axis=1)
        mean = mean + self.error * np.sin(mean * 7)
        return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


def painted(people, each, seed=0):
    rng = np.random.default_rng(seed)
    colours = np.repeat(rng.uniform(20, 235, (people, 3)), each, axis=0)
    colours = colours + rng.normal(0, 12, colours.shape)
    images = rng.normal(colours[:, None, None], 9, (len(colours), 112, 112, 3))
    return InMemoryFaces(np.clip(images, 0, 255).astype(np.uint8), np.repeat(np.arange(people), each))


def test_templates_are_the_first_face_of_a_pair_and_of_their_own_precision():
    people = painted(30, 3)
    pairs = make_pairs(people, 400)
    embedders = {"fp32": Colours(0.0), "int8": Colours(6.0)}
    scored = score_protocol(embedders, people, pairs, "painted", [0.1])

    assert list(scored.scores) == list(precision_pairs(embedders))
    for (gallery, probe), own in scored.scores.items():
        slow = [
            float(embedders[gallery].embed(people.images[[a]])[0] @ embedders[probe].embed(people.images[[b]])[0])
            for a, b in zip(pairs.first, pairs.second, strict=True)
        ]
        np.testing.assert_allclose(own.impostor, np.array(slow)[~pairs.same], atol=1e-6)
        np.testing.assert_allclose(own.genuine, np.array(slow)[pairs.same], atol=1e-6)
    mixed = scored.scores["fp32", "int8"].impostor
    assert np.abs(mixed - scored.scores["int8", "fp32"].impostor).max() > 1e-4

    for threshold in choose_thresholds(scored, [0.1, 0.05]):
        own = scored.scores[threshold.gallery, threshold.precision]
        slow_point = threshold_at_fmr(own.impostor, threshold.asked_fmr)
        assert threshold.cosine == np.nextafter(np.float32(slow_point.threshold), np.float32(2))
        assert threshold.tar == np.mean([score >= threshold.cosine for score in own.genuine.tolist()])
    data = scored.data
    assert data.sha256 == hashlib.sha256(people.images[pairs.used].tobytes()).hexdigest()
    assert (data.people, data.faces) == (30, len(pairs.used))
    assert data.independent == data.impostors == (~pairs.same).sum()


def test_people_are_not_counted_where_nobody_says_who_is_who():
    people = painted(6, 4)
    rows = np.arange(24)
    pairs = Pairs(rows, (rows + 1) % 24, np.arange(24) % 4 != 3, np.arange(24) % 2)
    nameless = InMemoryFaces(people.images, np.full(24, -1))
    assert score_protocol({"fp32": Colours(0)}, nameless, pairs, "x", [0.5]).data.people is None


def test_too_few_impostors_are_an_error():
    people = painted(2, 2)
    pairs = Pairs(np.array([0, 2, 0, 1]), np.array([1, 3, 2, 3]), np.array([1, 1, 0, 0], bool), np.array([0, 1, 0, 1]))
    with pytest.raises(DataError, match="at least 4 finite impostor scores"):
        score_protocol({"fp32": Colours(0)}, people, pairs, "x", [0.5])


def test_a_bundle_has_tables_for_every_pair_of_its_precisions(tmp_path):
    people, calibration = painted(20, 3), painted(16, 2, seed=1).images
    pairs = make_pairs(people, 200)
    torch.manual_seed(0)
    backbone = TinyNet().eval()
    network = Network(export_backbone(backbone), BackboneEmbedder(backbone).embed, {})
    settings = ExportSettings("tiny", fmr=(0.1, 1e-3))
    manifest = export_bundle(
        network, tmp_path / "b", settings, calibration, "painted", LabelledPairs(people, pairs, "painted")
    )
    opened = open_bundle(tmp_path / "b")
    opened.verify()
    tables = {(table.gallery, table.probe): table for table in opened.scores()}
    assert set(tables) == {("fp32", "fp32"), ("int8", "int8"), ("fp32", "int8"), ("int8", "fp32")}
    assert len(manifest.thresholds) == 8 and {t.data for t in manifest.thresholds} == {"painted"}
    networks = {name: bundle_embedder(opened, precision=name, provider="cpu")[0] for name in ("fp32", "int8")}
    impostors = int((~pairs.same).sum())
    for (gallery, probe), table in tables.items():
        first = networks[gallery].embed(people.read_many(pairs.first))
        second = networks[probe].embed(people.read_many(pairs.second))
        slow = threshold_at_fmr((first * second).sum(axis=1)[~pairs.same], 0.1)
        stored = manifest.threshold_for(probe, 0.1, gallery=gallery)
        assert stored.cosine == table.operating_point(0.1).threshold == pytest.approx(slow.threshold, abs=1e-5)
        tightest = manifest.threshold_for(probe, 1e-3, gallery=gallery)
        assert tightest.fmr == 3 / impostors and tightest.cosine == table.operating_point(1e-3).threshold
        assert bundle_limits(opened, probe).search({gallery: 1}).cosine == tightest.cosine
    card = opened.read("MODEL_CARD.md").decode()
    assert "| int8 | fp32 | 0.1 |" in card and "| 1 template | 10 templates | 100 templates | 1000 templates |" in card
    assert "20 people" in card and opened.manifest.threshold_data is not None
