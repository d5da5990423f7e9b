"""`edgeface eval` from the command line to the report: comparisons, pictures, HTML, and mistakes of the user."""

import csv
import json
import pickle
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeface.data import Pairs
from edgeface.data.synthetic import crops
from edgeface.evaluation import markup
from edgeface.evaluation.bootstrap import Resampling
from edgeface.evaluation.comparison import agreement, find_differences, find_flips, flips_csv
from edgeface.evaluation.plots import det_picture, roc_picture, score_picture
from edgeface.evaluation.sheets import FacePair, picture_sheet
from edgeface.evaluation.verification import VerificationReport, score_pairs
from edgeface.export.graph import with_contract
from edgeface.images import decode_image, write_image
from edgeface.intervals import wilson
from tests.test_cli import fails, run
from tests.test_runtime_bundle import mean_colour_network, write_bundle

PEOPLE, EACH = 12, 6


def network(weights: tuple[float, float, float]) -> bytes:
    """The network of mean colours, with the colours weighted: another model of the same dimension."""
    model = mean_colour_network()
    model.graph.initializer.append(numpy_helper.from_array(np.array(weights, np.float32), "weights"))
    model.graph.node.insert(2, helper.make_node("Mul", ["mean", "weights"], ["weighted"]))
    for node in model.graph.node[3:]:
        node.input[0] = "weighted"
    return bytes(with_contract(model, 3).SerializeToString())


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Identity folders of drawn people, one of whom has a name that is markup and a formula."""
    folder = tmp_path_factory.mktemp("faces")
    images, labels = crops(PEOPLE, EACH, seed=5)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = "<b>$x_1$&amp;" if label == 3 else f"person{label}"
        write_image(folder / name / f"{index:03}.png", image)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_bundle(tmp_path_factory.mktemp("bundle") / "b.bundle"))


def keys(faces: Path) -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in faces.rglob("*.png"))


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def facts_of(*arguments: Any) -> dict[str, Any]:
    result = run("eval", *arguments, "--json")
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def test_stable_keys_and_what_the_pairs_support(bundle: Path, faces: Path) -> None:
    facts = facts_of(bundle, "--data", faces, "--precision", "int8", "--bootstrap", "100")
    stable = "protocol pairs accuracy accuracy_se eer auc tar precision provider model"
    assert set(stable.split()) <= set(facts)
    impostors = facts["impostor_pairs"]
    assert all(impostors >= 3 / float(rate) for rate in facts["tar"]) and facts["tar"]
    assert all(impostors < needed for needed in facts["unsupported"].values()) and facts["unsupported"]["1e-6"] == 3e6
    for name in ("accuracy", "eer", "auc"):
        low, high = facts["intervals"][name]
        assert 0 <= low <= facts[name] <= high <= 1
    assert facts["bootstrap"] == {"replicates": 100, "drawn": "identities", "seed": 0}
    assert facts["threshold"]["asked_fmr"] == 1e-3 and facts["threshold"]["fmr"] == pytest.approx(3 / impostors)
    text = run("eval", bundle, "--data", faces, "--precision", "int8", "--bootstrap", "0").stdout
    assert "Left out" in text and "1e-6 (3,000,000)" in text and "not asked for" in text
    assert "too few for 0.001, which needs 3,000 impostor pairs" in " ".join(text.split())


def test_the_report(bundle: Path, faces: Path, tmp_path: Path) -> None:
    labels = write_csv(tmp_path / "l.csv", ["key", "half"], [[key, i % 2] for i, key in enumerate(keys(faces))])
    out = tmp_path / "report"
    options = ["--labels", labels, "--identify", "drawn", "--against-precision", "int8", "--fmr", "0.1"]
    facts = facts_of(bundle, "--precision", "fp32", "--data", faces, "--out", out, "--bootstrap", "100", *options)
    names = {Path(name).name for name in facts.pop("files")}
    assert (
        names
        == {path.name for path in out.iterdir()}
        >= {
            "report.html",
            "results.json",
            "flipped.csv",
            "det.png",
            "roc.png",
            "scores.png",
            "cmc.png",
            "strangers.png",
            "false_matches.png",
            "false_non_matches.png",
        }
    )
    assert json.loads((out / "results.json").read_text()) == facts
    for path in out.glob("*.png"):
        assert decode_image(path.read_bytes()).std() > 5, path
    page = (out / "report.html").read_text()
    tags = Tags(page)
    assert page.count("data:image/png;base64,") == 7 and not re.search(r"https?://|<script|<b>", page)
    assert tags.open == [] and {"h1", "h2", "table", "img"} <= tags.seen and "b" not in tags.seen
    assert "&lt;b&gt;$x_1$&amp;amp;/" in page  # the name of a person, as data
    # Two copies of one network: nothing flips, and nothing differs.
    assert facts["comparison"]["flipped"] == {"mended": 0, "broken": 0, "pairs": []}
    assert facts["comparison"]["agreement"]["min_cosine"] == pytest.approx(1)
    for difference in facts["comparison"]["differences"].values():
        assert difference == {"value": 0, "interval": [0, 0], "significant": False}
    assert facts["identification"]["gallery"] == PEOPLE // 2
    assert [group["value"] for group in facts["groups"]] == ["", "0", "1"]
    assert len(run("eval", bundle, "--data", faces, *options, "--bootstrap", "0").stdout.splitlines()) > 30


class Tags(HTMLParser):
    """Which elements there are, and which were not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen = set[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_another_model_is_compared_pair_by_pair(bundle: Path, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "red.onnx").write_bytes(network((1, 0.2, 0.2)))
    facts = facts_of(
        bundle, "--data", faces, "--against", tmp_path / "red.onnx", "--fmr", "0.1", "--out", tmp_path / "o"
    )
    comparison = facts["comparison"]
    assert comparison["agreement"] is None  # another space
    assert comparison["differences"]["accuracy"]["value"] == pytest.approx(facts["accuracy"] - comparison["accuracy"])
    for rate, tar in facts["tar"].items():
        assert comparison["differences"][f"tar at {rate}"]["value"] == pytest.approx(tar - comparison["tar"][rate])
    flips = comparison["flipped"]["pairs"]
    assert len(flips) == comparison["flipped"]["mended"] + comparison["flipped"]["broken"] > 0
    for flip in flips:
        assert flip["accepted"] == (flip["score"] >= facts["threshold"]["cosine"])
        assert flip["accepted"] != (flip["against_score"] >= comparison["cosine"])
    rows = list(csv.DictReader((tmp_path / "o" / "flipped.csv").read_text().splitlines()))
    assert [(row["first"], row["second"]) for row in rows] == [(flip["first"], flip["second"]) for flip in flips]
    assert [row["accepted"] for row in rows] == [str(int(flip["accepted"])) for flip in flips]


def test_a_foreign_network_against_a_bundle(bundle: Path, faces: Path, tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)]
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
    shapes: list[tuple[str, list[str | int | None]]] = [("x", ["n", 3, 112, 112]), ("y", ["n", 3])]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(nodes, "g", [infos[0]], [infos[1]], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "f.onnx")
    whole = ["--input-layout", "nchw", "--channel-order", "rgb", "--mean", "0", "--scale", "1", "--data", faces]
    facts = facts_of(tmp_path / "f.onnx", *whole, "--against", bundle, "--bootstrap", "100")
    assert facts["comparison"]["accuracy"] == facts["accuracy"]
    assert facts["comparison"]["precision"] == "int8" and facts["precision"] == "as stored"
    fails("name the other one with --against", "eval", tmp_path / "f.onnx", *whole, "--against-precision", "int8")


def test_templates_from_the_command_line(bundle: Path, faces: Path, tmp_path: Path) -> None:
    named = keys(faces)
    halves = [[f"{key.partition('/')[0]}:{number % 2}", key] for number, key in enumerate(named)]
    templates = write_csv(tmp_path / "t.csv", ["template", "key"], halves)
    people = sorted({key.partition("/")[0] for key in named})
    pairs = [[f"{a}:0", f"{b}:1", int(a == b)] for a in people for b in people]
    listed = write_csv(tmp_path / "p.csv", ["first", "second", "same"], pairs)
    options = ["--data", faces, "--templates", templates, "--template-pairs", listed]
    facts = facts_of(bundle, *options, "--identify", "drawn", "--out", tmp_path / "o")
    assert (facts["protocol"], facts["pairs"], facts["genuine_pairs"]) == ("p", PEOPLE**2, PEOPLE)
    assert facts["bootstrap"]["drawn"] == "identities"
    assert facts["identification"]["gallery"] == facts["identification"]["mated"] == PEOPLE // 2
    fails("go together", "eval", bundle, "--data", faces, "--templates", templates)
    fails("give one of them", "eval", bundle, *options, "--pairs", listed)


def test_a_search_changes_no_other_number(bundle: Path, faces: Path, tmp_path: Path) -> None:
    named = keys(faces)
    labels = write_csv(tmp_path / "l.csv", ["key", "half"], [[key, i % 2] for i, key in enumerate(named)])
    options = ["--data", faces, "--labels", labels, "--bootstrap", "0", "--fmr", "0.1"]
    alone, searched = facts_of(bundle, *options), facts_of(bundle, *options, "--identify", "drawn")
    assert searched.pop("identification") and alone == searched


def test_a_verification_file_knows_no_people(bundle: Path, faces: Path, tmp_path: Path) -> None:
    """Pairs are drawn then, groups are those of the list, and a report of before leaves no picture behind."""
    pictures = [(faces / f"{key}.png").read_bytes() for key in keys(faces)]
    same = [index % 2 == 0 for index in range(60)]
    places = [i if s else i + side * EACH for i, s in enumerate(same) for side in (0, 1)]
    sides = [pictures[place % len(pictures)] for place in places]
    (tmp_path / "few.bin").write_bytes(pickle.dumps((sides, same)))
    labels = write_csv(tmp_path / "l.csv", ["key", "g"], [[f"{number:03}", "x"] for number in range(120)])
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "flipped.csv").write_text("of another run")
    options = ["--data", tmp_path / "few.bin", "--labels", labels, "--out", tmp_path / "o", "--fmr", "0.1"]
    facts = facts_of(bundle, *options)
    assert facts["bootstrap"]["drawn"] == "pairs" and facts["protocol"] == "few"
    assert [(g["genuine_pairs"], g["impostor_pairs"]) for g in facts["groups"]] == [(30, 30), (30, 30)]
    assert not (tmp_path / "o" / "flipped.csv").exists()
    assert facts["tar"]["1e-1"] == 1  # a picture and itself
    assert facts["intervals"]["1e-1"] == pytest.approx(wilson(1, 30))  # 30 pairs do not show that it is always so
    assert not (tmp_path / "o" / "false_non_matches.png").exists()
    fails("0 people with two or more faces", "eval", bundle, *options[:2], "--identify", "drawn")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fmr", "1.5"], "--fmr is a rate between 0 and 1"),
        (["--fmr", "0"], "--fmr is a rate between 0 and 1"),
        (["--bootstrap", "5"], "100 or more, or 0"),
        (["--identify", "/no/list.csv"], "cannot read /no/list.csv"),
        (["--labels", "/no/labels.csv"], "cannot read /no/labels.csv"),
        (["--against", "/no/model"], "model not found: /no/model"),
        (["--against-precision", "fp16"], "fp16"),
        (["--against-provider", "cuda"], "cuda"),
    ],
)
def test_mistakes_are_one_line(bundle: Path, faces: Path, options: list[str], message: str) -> None:
    fails(message, "eval", bundle, "--data", faces, *options)


def test_a_folder_that_cannot_be_written(bundle: Path, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fails("cannot write to .*file", "eval", bundle, "--data", "/no/faces", "--out", tmp_path / "file")  # known at once


def scored(scores: list[float], same: list[bool]) -> VerificationReport:
    places = np.arange(len(scores))
    return score_pairs(np.array(scores), Pairs(places, places, np.array(same), places // 2 % 2))


def test_flips_are_counted_by_hand() -> None:
    same = [True, True, False, False, True, False]
    first = scored([0.9, 0.1, 0.2, 0.8, 0.6, 0.1], same)
    second = scored([0.9, 0.7, 0.6, 0.1, 0.2, 0.1], same)
    flips = find_flips([(f"a{i}", f"b{i}") for i in range(6)], first, 0.5, second, 0.4)
    assert [(flip.first, flip.accepted, flip.mended) for flip in flips] == [
        ("a3", True, False),
        ("a1", False, False),
        ("a2", False, True),
        ("a4", True, True),
    ]
    assert flips_csv(flips).splitlines()[1] == "a3,b3,0,0.800000,0.100000,1,0"


def test_a_real_difference_is_significant_and_one_pair_is_not() -> None:
    rng = np.random.default_rng(0)
    same = np.arange(600) % 2 == 0
    good = rng.normal(np.where(same, 0.7, 0.0), 0.15)
    bad = good + rng.normal(0, 0.3, 600)
    one = good.copy()
    one[np.argmax(np.where(same, good, -1))] = -1
    unknown = np.full(600, -1)
    for labels, people in ((unknown, unknown), (np.arange(600) // 2 * 2, np.arange(600) // 2 * 2 + ~same)):
        resampling = Resampling(same, labels, people, 500)
        reports = [scored(list(scores), list(same)) for scores in (good, bad, one)]
        real = {d.measure: d for d in find_differences(reports[0], reports[1], (0.01,), resampling)}
        chance = {d.measure: d for d in find_differences(reports[0], reports[2], (0.01,), resampling)}
        assert real["accuracy"].significant and real["tar at 1e-2"].significant and real["auc"].value > 0
        assert chance["accuracy"].value == pytest.approx(1 / 600) and not chance["accuracy"].significant
        assert not chance["tar at 1e-2"].significant
    mirrored = {d.measure: d for d in find_differences(reports[1], reports[0], (0.01,), resampling)}
    assert mirrored["auc"].value == -real["auc"].value
    assert real["auc"].interval and mirrored["auc"].interval
    ends = [-end for end in reversed(real["auc"].interval)]
    assert mirrored["auc"].interval == pytest.approx(ends, abs=1e-3)


def test_agreement_names_the_worst() -> None:
    first = np.eye(3, dtype=np.float32)
    second = first.copy()
    second[1] = [0.6, 0.8, 0]
    found = agreement(first, second, ["a", "b", "c"])
    assert found.worst == "b" and found.minimum == pytest.approx(0.8)
    assert found.mean == pytest.approx(2.8 / 3)


def test_curves_of_perfect_and_hopeless_models() -> None:
    same = [True, False] * 40
    perfect, hopeless = scored([1.0, 0.0] * 40, same), scored([0.0, 1.0] * 40, same)
    flat = scored([0.5] * 80, same)
    for picture in (det_picture, roc_picture):
        assert decode_image(picture({"p": perfect, "h": hopeless, "f": flat})).shape[2] == 3
    assert decode_image(score_picture({"p": perfect}, 0.5)).std() > 5


def test_a_sheet_shows_both_faces() -> None:
    red, green = (np.full((112, 112, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0)))
    sheet = decode_image(picture_sheet([FacePair(red, green, 0.5, ("$\\frac{$/漢字", "long/" * 20))] * 5))
    for colour in ((255, 0, 0), (0, 255, 0)):
        mask = np.all(np.abs(sheet.astype(int) - colour) < 9, axis=2).astype(np.uint8)
        assert cv2.connectedComponents(mask)[0] == 6  # five squares and the background


def test_markup_escapes_text_everywhere() -> None:
    evil = "<script>alert(1)</script>\"'&"
    parts = [markup.heading(evil), markup.paragraph(evil), markup.note(evil), markup.table([evil], [[evil]])]
    page = markup.page(evil, [*parts, markup.picture(b"png", evil)])
    assert "<script" not in page and page.count("&lt;script&gt;") == 8
    assert Tags(page).open == []
