"""Which threshold the runtime takes: for the precisions at hand, the size of the gallery and the wanted rate."""

import dataclasses
import itertools
import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.commands.watching import Rules, rule_for
from edgeface.errors import BundleError, ConfigError
from edgeface.files import sha256
from edgeface.manifest import FileEntry, Threshold
from edgeface.operating_points import ScoreTable, comparison_rate, false_positive_rate
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.limits import Limits, bundle_limits
from edgeface.runtime.doctor import examine
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.loop import RunSettings
from edgeface.runtime.recognizer import open_recognizer
from edgeface.scores import MAX_SCORES_BYTES, SCORES_NAME, write_scores
from tests.test_loop import ANY_FACE, World, play, still
from tests.test_runtime_bundle import write_bundle

IMPOSTORS = 3000
SPREAD = {("int8", "int8"): 0.10, ("fp32", "fp32"): 0.11, ("fp32", "int8"): 0.13, ("int8", "fp32"): 0.12}
"""The spread of the impostor scores of each pair of precisions (gallery, probe), so that no two share a threshold."""


def table(pair):
    rng = np.random.default_rng(len(str(pair)))
    impostor = rng.normal(0, SPREAD[pair], IMPOSTORS).astype(np.float32)
    return ScoreTable.of(pair, impostor, rng.normal(0.6, 0.1, 500).astype(np.float32))


TABLES = {pair: table(pair) for pair in SPREAD}


def stored(pair, fmr):
    point = TABLES[pair].operating_point(fmr)
    return Threshold(
        asked_fmr=fmr,
        fmr=point.fmr,
        cosine=point.threshold,
        interval=point.interval,
        gallery=pair[0],
        precision=pair[1],
        pairs=point.pairs,
        data="drawn numbers",
    )


def scored_bundle(folder, **changes):
    """The toy bundle with score tables for every pair of precisions, but for what `changes` says."""
    write_bundle(folder)
    scores = write_scores(TABLES.values())
    manifest = open_bundle(folder).manifest
    update = {
        "thresholds": tuple(stored(pair, fmr) for pair in TABLES for fmr in (1e-2, 1e-3)),
        "scores": SCORES_NAME,
        "files": manifest.files | {SCORES_NAME: FileEntry(sha256=sha256(scores), bytes=len(scores))},
    } | changes
    (folder / SCORES_NAME).write_bytes(scores)
    (folder / "manifest.json").write_bytes(manifest.model_copy(update=update).to_json())
    return folder


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return open_bundle(scored_bundle(tmp_path_factory.mktemp("limits") / "b"))


def test_the_tables_are_part_of_the_bundle(opened, tmp_path):
    opened.verify()
    assert {(t.gallery, t.probe) for t in opened.scores()} == set(SPREAD)
    for made in opened.scores():
        pair = made.gallery, made.probe
        for fmr in (1e-2, 1e-3):
            threshold = opened.manifest.threshold_for(made.probe, fmr, gallery=made.gallery)
            assert threshold.cosine == made.operating_point(fmr).threshold
            assert threshold.cosine == TABLES[pair].operating_point(fmr).threshold
    folder = scored_bundle(tmp_path / "b")
    data = (folder / SCORES_NAME).read_bytes()
    (folder / SCORES_NAME).write_bytes(data.replace(b"3000", b"9000"))
    with pytest.raises(BundleError, match=r"scores.json.*was changed"):
        bundle_limits(open_bundle(folder), "int8")


def test_a_table_of_any_size_is_not_read(tmp_path):
    folder = scored_bundle(tmp_path / "b")
    facts = json.loads((folder / "manifest.json").read_text())
    facts["files"][SCORES_NAME]["bytes"] = MAX_SCORES_BYTES + 1
    (folder / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(BundleError, match="larger than"):
        bundle_limits(open_bundle(folder), "int8")
    del facts["files"][SCORES_NAME]
    (folder / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(BundleError, match=r"no hash for scores\.json"):
        open_bundle(folder)


def test_two_pictures_get_the_strictest_threshold_of_their_precision(opened):
    for probe in ("int8", "fp32"):
        limit = bundle_limits(opened, probe).search({probe: 1})
        assert limit.cosine == opened.manifest.threshold_for(probe, 1e-3).cosine
        assert limit.fmr == pytest.approx(1e-3) and limit.note is None
        assert limit.tar is not None and 0.9 < limit.tar < 1


@pytest.mark.parametrize("pair", SPREAD)
def test_the_precision_of_the_templates_chooses_the_threshold(opened, pair):
    gallery, probe = pair
    limit = bundle_limits(opened, probe, fpir=0.1).search({gallery: 20})
    assert limit.cosine == TABLES[pair].operating_point(comparison_rate(0.1, 20)).threshold
    assert limit.fpir == pytest.approx(0.1)
    assert (limit.templates, limit.note) == (20, None)


def test_several_precisions_and_unknown_ones_get_the_strictest(opened):
    limits = bundle_limits(opened, "int8", fpir=0.1)
    rate = comparison_rate(0.1, 6)
    own, mixed = (TABLES[gallery, "int8"].operating_point(rate).threshold for gallery in ("int8", "fp32"))
    assert own < mixed
    assert limits.search({"int8": 6}).cosine == own
    assert limits.search({"int8": 5, "fp32": 1}).cosine == mixed
    assert limits.search({"int8": 5, None: 1}).cosine == mixed
    assert limits.search({}).cosine == limits.search({None: 1}).cosine


def test_more_templates_are_stricter_until_the_pairs_give_out(opened):
    limits = bundle_limits(opened, "int8", fpir=0.1)
    found = [limits.search({"int8": count}) for count in (1, 2, 5, 20, 100, 101, 105, 106, 200, 10_000)]
    assert all(a.cosine < b.cosine for a, b in itertools.pairwise(found[:5]))
    assert all(a.cosine <= b.cosine for a, b in itertools.pairwise(found))
    assert [limit.note is None for limit in found] == [True] * 7 + [False] * 3  # 0.1 among 105 is 1.003e-3
    last = found[-1]
    assert last.fmr == 3 / IMPOSTORS
    assert last.cosine == TABLES["int8", "int8"].operating_point(1e-3).threshold
    assert last.fpir == false_positive_rate(1e-3, 10_000) > 0.9
    assert last.note is not None and "supports no false match rate below 0.001 for int8" in last.note
    assert f"{last.cosine:.4f}" in last.note and "among 10000 templates" in last.note


@given(*[st.floats(1e-4, 0.5)] * 2, *[st.integers(1, 5000)] * 2)
def test_more_templates_or_fewer_false_positives_are_never_laxer(one, other, few, many):
    few, many, lax, strict = min(few, many), max(few, many), max(one, other), min(one, other)
    limits = {rate: Limits("b", "int8", (), {"int8": TABLES["int8", "int8"]}, fpir=rate) for rate in (lax, strict)}
    loosest = limits[lax].search({"int8": few})
    for rate, count in ((strict, few), (lax, many)):
        limit = limits[rate].search({"int8": count})
        assert limit.cosine >= loosest.cosine
        assert limit.fpir is not None
        assert (limit.note is None) == (limit.fpir <= rate * (1 + 1e-6))


def test_a_rate_of_one_comparison_does_not_move_with_the_gallery(opened):
    limits = bundle_limits(opened, "int8", fmr=5e-3)
    assert limits.search({"int8": 1}).cosine == limits.search({"int8": 500}).cosine
    assert limits.search({"int8": 500}).fpir == pytest.approx(1 - 0.995**500)
    note = bundle_limits(opened, "int8", fmr=2e-6).search({"int8": 1}).note
    assert note is not None and "2e-06 is wanted" in note


def test_without_a_table_the_stored_thresholds_are_the_curve(tmp_path):
    opened = open_bundle(scored_bundle(tmp_path / "b", scores=None))
    limits = bundle_limits(opened, "int8", fpir=0.1)
    loose, strict = (opened.manifest.threshold_for("int8", fmr).cosine for fmr in (1e-2, 1e-3))
    assert limits.search({"int8": 1}).cosine == limits.search({"int8": 10}).cosine == loose
    assert limits.search({"int8": 11}).cosine == strict
    assert limits.search({"int8": 11}).note is None and limits.search({"int8": 200}).note is not None


def test_a_pair_that_nobody_measured_is_an_error(tmp_path):
    own = tuple(stored(("int8", "int8"), fmr) for fmr in (1e-2, 1e-3))
    opened = open_bundle(scored_bundle(tmp_path / "b", scores=None, thresholds=own))
    limits = bundle_limits(opened, "int8")
    with pytest.raises(BundleError, match="no threshold for int8 against templates in fp32; measure one"):
        limits.search({"fp32": 1})
    with pytest.raises(BundleError, match="no threshold for fp32; measure one"):
        bundle_limits(opened, "fp32")
    assert bundle_limits(opened, "fp32", cosine=0.3).search({"int8": 7}).cosine == 0.3


def test_a_manifest_that_names_no_gallery_means_the_same_precision(tmp_path):
    folder = write_bundle(tmp_path / "b")
    facts = json.loads((folder / "manifest.json").read_text())
    for threshold in facts["thresholds"]:
        del threshold["gallery"]
    (folder / "manifest.json").write_text(json.dumps(facts))
    assert {t.gallery for t in open_bundle(folder).manifest.thresholds} == {"int8"}


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"fmr": 1e-2, "fpir": 1e-2}, "--fmr and --fpir each choose"),
        ({"cosine": 0.3, "fpir": 1e-2}, "--threshold and --fpir each choose"),
        ({"fpir": 1.0}, "--fpir is a rate between 0 and 1, got 1.0"),
        ({"fmr": 0.0}, "--fmr is a rate between 0 and 1, got 0.0"),
    ],
)
def test_wishes_that_contradict_each_other(opened, wishes, message):
    with pytest.raises(ConfigError, match=message):
        bundle_limits(opened, "int8", **wishes)


# --- galleries and the loop


def template(seed, precision):
    vector = np.random.default_rng(seed).normal(size=3)
    return Template((vector / np.linalg.norm(vector)).astype(np.float32), precision=precision)


def test_a_gallery_knows_the_precision_of_each_template(tmp_path):
    with Gallery(tmp_path / "g.db", "a" * 64, 3, create=True) as gallery:
        gallery.enroll("Al", [template(0, "fp32"), template(1, "fp32"), template(2, "int8")])
        gallery.add("Bo", template(3, None).embedding)
        assert gallery.precisions() == {"fp32": 2, "int8": 1, None: 1}
        assert gallery.precisions("Al") == {"fp32": 2, "int8": 1}
        assert gallery.precisions("Cy") == {}
        assert [person.precisions for person in gallery.list()] == [("fp32", "int8"), ()]
        gallery.remove("Al")
        assert gallery.precisions() == {None: 1}


def test_the_loop_follows_a_gallery_that_grows(opened, tmp_path, caplog):
    limits = bundle_limits(opened, "int8", fpir=0.1)
    counts: dict[str | None, int] = {"int8": 1}
    world = World(still((100, 40), frames=20))
    settings = RunSettings(DecisionSettings(threshold=-1.0), ANY_FACE)
    gallery = GrowingGallery(counts)
    with caplog.at_level(logging.WARNING):
        events, summary = play(world, gallery, settings, limit=lambda: limits.search(counts))

    thresholds = [event.threshold for event in events if event.threshold is not None]
    alone, grown = (limits.search({"int8": count}) for count in (1, 400))
    assert thresholds[0] == alone.cosine and thresholds[-1] == grown.cosine
    assert summary.threshold == grown.cosine and summary.fmr == grown.fmr
    line = summary.to_json()
    assert (line["templates"], line["fpir"], line["threshold_note"]) == (400, grown.fpir, grown.note)
    assert caplog.text.count("supports no false match rate") == 1


class GrowingGallery:
    """One person; after some looks, hundreds of templates more."""

    def __init__(self, counts):
        self.counts, self.asked = counts, 0

    def templates(self, scoring=None):
        return ("alice",), np.eye(16, dtype=np.float32)[4:5]

    def changed(self):
        self.asked += 1
        if self.asked == 8:
            self.counts["int8"] = 400
        return self.asked in (8, 12)


def test_a_limit_that_fails_leaves_nobody_recognised(opened):
    """The gallery changed to templates that no threshold is known for: old people and old threshold are both void."""
    limits = bundle_limits(opened, "int8", fpir=0.1)
    counts: dict[str | None, int] = {"int8": 1}
    gallery = GrowingGallery(counts)

    def limit():
        if gallery.asked >= 8:
            counts["bf16"] = 1
        return limits.search(counts)

    events, summary = play(World(still((100, 40), frames=60)), gallery, limit=limit)
    assert summary.ended == "error" and "against templates in bf16" in str(summary.error)
    assert [event.event for event in events[:2]] == ["match", "error"]
    assert not any(event.event == "match" for event in events[1:])


def test_doctor_says_what_a_search_promises(opened, tmp_path):
    manifest = opened.manifest
    with Gallery(tmp_path / "g.db", manifest.space, 3, create=True) as gallery:
        gallery.enroll("Al", [template(0, "fp32")])
    facts = examine(str(opened.path), tmp_path / "g.db")["search"]
    assert (facts["ok"], facts["templates"]) == (True, 1)
    mixed = manifest.threshold_for("int8", 1e-3, gallery="fp32").cosine
    assert facts["precisions"]["int8"]["cosine"] == mixed
    with Gallery(tmp_path / "g.db", manifest.space, 3) as gallery:
        gallery.enroll("Bo", [template(1, "int8")])
    facts = examine(str(opened.path), tmp_path / "g.db")["search"]
    assert facts["ok"] is False and "supports no false match rate" in facts["why"]
    assert examine(str(opened.path))["search"] is None


def test_a_recognizer_compares_two_pictures_with_its_own_precision(opened):
    from edgeface.runtime.bundle import BUILT_IN_DETECTOR

    recognizer = open_recognizer(opened.path, precision="fp32", provider="cpu", detector=BUILT_IN_DETECTOR)
    assert recognizer.threshold.cosine == opened.manifest.threshold_for("fp32").cosine


def test_evidence_is_taken_where_there_are_scores(opened, tmp_path):
    """`auto` is the stricter rule where the bundle has what it needs, and never against what the user said."""
    limits = bundle_limits(opened, "int8")
    assert limits.can_weigh({"int8": 3}) and limits.can_weigh({})
    assert rule_for(Rules.auto, None, limits, {"int8": 3}) is Rules.llr
    assert rule_for(Rules.auto, 3, limits, {"int8": 3}) is Rules.votes
    assert rule_for(Rules.votes, None, limits, {"int8": 3}) is Rules.votes
    assert limits.search({"int8": 3}, weigh=True).evidence is not None
    bare = bundle_limits(opened, "int8", cosine=0.4)
    assert not bare.can_weigh({"int8": 3}) and rule_for(Rules.auto, None, bare, {"int8": 3}) is Rules.votes
    without = dataclasses.replace(limits, tables={})
    assert not without.can_weigh({"int8": 3})
    with pytest.raises(BundleError, match="--decision votes"):
        without.search({"int8": 3}, weigh=True)
