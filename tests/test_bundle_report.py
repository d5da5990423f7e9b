"""The report of a bundle: true to the numbers, whole in itself, the same bytes each time, and readable."""

import hashlib
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.evaluation import markup
from edgeface.export.assembly import assemble, list_files
from edgeface.export.card import model_card
from edgeface.export.report import svg
from edgeface.export.report.charts import layer_chart
from edgeface.export.report.effects import count_flips, measure_effects, trade_off
from edgeface.export.report.page import bundle_report
from edgeface.export.report.wording import count, one_in, percentage
from edgeface.export.thresholds import PairScores, choose_thresholds, tabulate
from edgeface.files import sha256
from edgeface.intervals import wilson
from edgeface.manifest import (
    Accuracy,
    Calibration,
    EmbedderContract,
    Finetuning,
    Licences,
    Manifest,
    PrecisionEntry,
    Quantization,
    ThresholdData,
)
from tests.conftest import ROOT
from tests.test_architecture import HEAVY

RATES = (1e-2, 1e-3, 1e-4)


def words(text):
    return set(re.findall(r"\S+", text))


TAGS = words(
    "html head meta title style body h1 h2 h3 p ul li code div table tr th td "
    "svg line rect circle polyline polygon text"
)
ATTRIBUTES = words(
    "lang charset http-equiv content name class scope role aria-label viewbox x y x1 y1 x2 y2 cx cy r width height "
    "points transform text-anchor"
)
HOSTILE = 'x"><script src=http://evil.example/a.js>alert(1)</script><img src=//evil.example/p.png onerror=alert(2)>'


def scored(people=80, seed=0):
    """Scores of 3 000 pairs of each kind; int8 is fp32 with an error of its own for each pair."""
    rng = np.random.default_rng(seed)
    exact = rng.normal(0, 0.11, 3000), np.minimum(rng.normal(0.55, 0.12, 3000), 0.99)
    errors = {"fp32": 0.0, "int8": 0.03}
    scores = {
        (gallery, probe): PairScores(
            *(
                (kind + rng.normal(0, 1, 3000) * math.hypot(errors[gallery], errors[probe]) / 1.5).astype(np.float32)
                for kind in exact
            )
        )
        for gallery in errors
        for probe in errors
    }
    data = ThresholdData(
        name="drawn faces",
        sha256="d" * 64,
        people=people,
        faces=6000,
        genuine=3000,
        impostors=3000,
        independent=3000,
    )
    return tabulate(scores, data, RATES)


def record(**changes):
    losses = {f"net/conv{number}": 1e-4 * 1.5 ** (number % 7) for number in range(23)}
    values: dict[str, Any] = {
        "target": "x86-vnni",
        "activations": "uint8 asymmetric",
        "weights": "int8 symmetric",
        "per_channel": True,
        "reduce_range": False,
        "method": "percentile",
        "float_nodes": ("net/conv6", "net/conv13"),
        "bound": "minimum cosine 0.9871, at least 0.98 asked, on 50 held-out faces",
        "speed": "int8 takes 0.51 ms, fp32 1.06 ms: 2.08 times as fast",
        "sensitivity": losses,
    }
    return Quantization(**(values | changes))


def accuracy(shift):
    tar = {"1e-1": 0.998 - shift, "1e-2": 0.95 - shift, "1e-3": 0.91 - shift}
    return Accuracy(protocol="drawn faces", pairs=6000, accuracy=0.9731 - shift, accuracy_se=0.0021, eer=0.027, tar=tar)


def facts(measured=True, quantization=None, **changes):
    """A manifest as the export has it before it is assembled."""
    files = {"embedder.fp32.onnx": b"f" * 4000000, "embedder.int8.onnx": b"i" * 1000000}
    values: dict[str, Any] = {
        "name": "porch",
        "space": "ab" * 32,
        "embedder": EmbedderContract(dimension=128),
        "precisions": {
            name: PrecisionEntry(
                file=f"embedder.{name}.onnx",
                parity_images=200,
                min_cosine=smallest,
                mean_cosine=mean,
                latency_ms={"cpu": latency},
                quantization=(quantization or record()) if name == "int8" else None,
                accuracy=accuracy(shift) if measured else None,
            )
            for name, smallest, mean, latency, shift in (
                ("fp32", 1.0, 1.0, 1.06, 0.0),
                ("int8", 0.9834, 0.9952, 0.51, 0.0012),
            )
        },
        "calibration": Calibration(source="porch: 200 faces", images=200, sha256="c" * 64),
        "opset": 18,
        "ir_version": 10,
        "origin": {"source": "trained by edgeface", "model": "resnet-edge", "training classes": 269, "teacher": None},
        "tools": {"onnxruntime": "1.32.0"},
        "licences": Licences(weights="Apache-2.0", data="CC-BY-4.0"),
        "files": list_files(files),
    }
    return Manifest(**(values | changes))


def page(manifest=None, scores=None):
    """The report and the manifest that it is of."""
    whole, files = assemble(manifest or facts(), scores, RATES)
    return files["report.html"].decode(), whole


class Reader(HTMLParser):
    """Reads a page, checks that every tag closes in turn, and keeps what is in it."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.style = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.style += data
        elif self.open:
            self.words.append(data)
            if self.open[-1] in ("td", "th"):
                self.tables[-1][-1][-1] += data

    def handle_comment(self, data):
        pytest.fail(f"a comment: {data}")

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))

    def table(self, first):
        """The rows of the table whose first heading is this, without the headings."""
        (found,) = [rows[1:] for rows in self.tables if rows[0][0] == first]
        return found


def plain(text):
    return text.replace("\u00a0", " ")


@pytest.fixture(scope="module")
def scores():
    return scored()


@pytest.fixture(scope="module")
def report(scores):
    text, manifest = page(scores=scores)
    return Reader(text), manifest


VARIANTS = {
    "measured": lambda: page(scores=scored()),
    "not measured": lambda: page(facts(measured=False)),
    "hostile names": lambda: page(
        facts(
            name=HOSTILE,
            origin={HOSTILE: HOSTILE},
            calibration=Calibration(source=HOSTILE, images=1, sha256="c" * 64),
            tools={"a`b": "c`d"},
            licences=Licences(code=HOSTILE, weights="url(http://evil.example)", data=HOSTILE),
            quantization=record(
                float_nodes=(HOSTILE,),
                sensitivity={HOSTILE: 0.1, "b": 0.0},
                bound=HOSTILE,
                speed=HOSTILE,
                target=HOSTILE,
            ),
        ),
        replace(scored(), data=scored().data.model_copy(update={"name": HOSTILE})),
    ),
    "a hostile precision": lambda: page(
        facts(precisions={HOSTILE: facts().precisions["fp32"], "int8": facts().precisions["int8"]}),
        tabulate(
            {
                (gallery.replace("fp32", HOSTILE), probe.replace("fp32", HOSTILE)): own
                for (gallery, probe), own in scored().scores.items()
            },
            scored().data,
            RATES,
        ),
    ),
    "one precision": lambda: page(facts(precisions={"int8": facts().precisions["int8"]}), scored()),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_page_is_whole_in_itself(variant):
    """No script, no address that a browser would follow, nothing that runs; tags close in turn; pictures have words."""
    text, _ = VARIANTS[variant]()
    reader = Reader(text)
    assert text.startswith("<!DOCTYPE html>\n")
    for tag, attributes in reader.tags:
        assert tag in TAGS, tag
        for name, value in attributes.items():
            assert name in ATTRIBUTES, name
            if name != "aria-label":
                assert "//" not in value and "url" not in value
        if tag == "svg":
            assert attributes["role"] == "img" and len(attributes["aria-label"]) > 20
    assert not re.search(r"url|@import|expression|javascript", reader.style, re.I)
    policy = [attributes for _, attributes in reader.tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert [attributes["content"] for attributes in policy] == [markup.POLICY]
    assert markup.POLICY.startswith("default-src 'none';") and "http" not in markup.POLICY
    if "hostile" in variant:
        assert HOSTILE in "".join(reader.words)


def test_the_reader_would_notice():
    """The checks above can fail: on what they are there for, and on tags that do not close."""
    for wrong in ("<p><b></p></b>", "<p>", "<p></p></p>", "<!-- x -->"):
        with pytest.raises((AssertionError, IndexError, pytest.fail.Exception)):
            Reader(wrong)
    assert not {"img", "script", "link", "a", "iframe", "object", "use", "image"} & TAGS
    assert not {"src", "href", "xlink:href", "style", "onload", "id"} & ATTRIBUTES


def test_headings_follow_the_questions(report):
    _, manifest = report
    assert re.findall(r"<h2>(.*?)</h2>", bundle_report(manifest, None)) == [
        "In short",
        "What it is",
        "What it scores",
        "How sure that is",
        "What int8 costs",
        "Where the threshold comes from",
        "What it means in a gallery of many people",
        "At a door",
        "What it does not do",
        "What is in the bundle",
    ]


def test_what_it_is(report):
    reader, manifest = report
    for words in ("resnet-edge", "269", "128 numbers", manifest.space, "ONNX opset 18", "onnxruntime 1.32.0"):
        assert words in reader.text
    assert "Apache-2.0" in reader.text and "CC-BY-4.0" in reader.text and "Do not ship" not in reader.text
    assert "no face detector" in reader.text and "None" not in reader.text
    text, _ = page(facts(licences=Licences(data="CC0-1.0")), scored())
    assert text.count("Do not ship") == 2 and "allowed with the weights, and" in text


def test_the_card_says_what_may_not_be_shipped():
    manifest = facts(licences=Licences(), calibration=None, tools={})
    card = model_card(manifest)
    assert manifest.space in card and "edgeface bundle verify BUNDLE --key KEY.pub" in card
    assert "Do not ship this" in card and "allowed with the weights and the training data;" in card
    stated = manifest.model_copy(
        update={
            "licences": Licences(weights="MIT", data="CC-BY-4.0"),
            "calibration": Calibration(source="200 faces", images=200, sha256="c" * 64),
            "tools": {"torch": "2.13"},
        }
    )
    card = model_card(stated)
    assert "Do not ship" not in card and "- training data: CC-BY-4.0" in card
    assert "c" * 64 in card and "- made with: torch 2.13" in card


def test_accuracies_are_those_of_the_manifest(report):
    reader, _ = report
    (found,) = [rows for rows in reader.tables if "accuracy" in rows[0]]
    assert [[plain(cell) for cell in row] for row in found] == [
        ["precision", "accuracy", "equal error rate", "TAR at 1 in 10", "TAR at 1 in 100", "TAR at 1 in 1 000"],
        ["fp32", "97.31 % ± 0.21 %", "2.70 %", "99.80 %", "95.00 %", "91.00 %"],
        ["int8", "97.19 % ± 0.21 %", "2.70 %", "99.68 %", "94.88 %", "90.88 %"],
    ]
    assert "between 96.89 % and 97.73 %" in reader.text


def test_differences_are_int8_less_fp32(report):
    reader, _ = report
    assert reader.table("difference in") == [
        ["accuracy", "-0.12 points"],
        ["equal error rate", "none"],
        ["TAR at 1 in 10", "-0.12 points"],
        ["TAR at 1 in 100", "-0.12 points"],
        ["TAR at 1 in 1\u00a0000", "-0.12 points"],
    ]


def by_header(reader, header):
    (rows,) = [rows[1:] for rows in reader.tables if header in rows[0]]
    return [[plain(cell) for cell in row] for row in rows]


def test_flips_are_counted_one_by_one(report, scores):
    reader, manifest = report
    slow = []
    for rate in (1e-2, 1e-3):
        at = {name: manifest.threshold_for(name, rate).cosine for name in ("fp32", "int8")}
        lost = let_in = better = 0
        for kind in ("genuine", "impostor"):
            pairs = (getattr(scores.scores[name, name], kind).tolist() for name in ("fp32", "int8"))
            for exact, short in zip(*pairs, strict=True):
                first, second = exact >= at["fp32"], short >= at["int8"]
                if first != second:
                    right = second == (kind == "genuine")
                    better += right
                    lost += not right and kind == "genuine"
                    let_in += not right and kind == "impostor"
        assert lost > 5 and better > 5
        slow.append(
            [
                "int8",
                f"{one_in(rate)} strangers",
                f"{lost + let_in + better} of 6 000",
                *map(str, (lost, let_in, better)),
            ]
        )
    assert by_header(reader, "differ") == [[plain(cell) for cell in row] for row in slow]
    last = slow[-1][2].split()[0]
    assert f"25 % of the size of fp32 and takes 0.51 ms for a face instead of 1.06 ms; {last} of 6 000" in reader.text
    (only,) = count_flips([t for t in manifest.thresholds if t.asked_fmr == 1e-2], scores, "int8", "fp32")
    back = count_flips([t for t in manifest.thresholds if t.asked_fmr == 1e-2], scores, "fp32", "int8")[0]
    assert (only.worse, only.better, only.pairs) == (back.better, back.worse, 6000)


def test_networks_that_agree_flip_nothing(scores):
    same = replace(scores, scores={pair: scores.scores["fp32", "fp32"] for pair in scores.scores})
    same = tabulate(same.scores, same.data, RATES)
    flips = count_flips(choose_thresholds(same, RATES), same, "int8", "fp32")
    assert [flip.worse + flip.better for flip in flips] == [0, 0]
    assert "none of 6 000 decisions came out differently" in Reader(page(scores=same)[0]).text


def test_rates_have_the_intervals_of_the_pairs_that_count(report, scores):
    reader, manifest = report
    own = manifest.threshold_for("int8", 1e-2)
    refused = float(np.mean(scores.scores["int8", "int8"].genuine.astype(float) < own.cosine))
    low, high = wilson(refused, 3000)
    rows = by_header(reader, "own people refused")
    assert len(rows) == 4  # the threshold that was asked for 1e-4 is that for 1e-3
    told = f"{percentage(refused)} ({percentage(low)} to {percentage(high)})"
    assert [row[3] for row in rows if row[1] == f"{own.cosine:.4f}"] == [plain(told)]
    few = tabulate(scores.scores, scores.data.model_copy(update={"independent": 300}), [1e-2], disjoint=30)
    wide = measure_effects([own], few)[0]
    assert wide.fnmr_interval == wilson(refused, 30) and wide.fmr_interval == wilson(wide.fmr, 300)
    text = Reader(bundle_report(manifest.model_copy(update={"threshold_data": few.data}), few)).text
    assert "300 impostor pairs and 30 genuine pairs that count as independent" in text
    assert "What counts are the 300 pairs of people" in text


def test_what_the_pairs_cannot_show_is_said(report):
    reader, _ = report
    assert "3 000 impostor pairs therefore support no false match rate below 1 in 1 000" in reader.text
    assert "A rate of 1 in 10 000 takes 30 000 pairs" in reader.text
    assert "rule of three" in reader.text and "Asked was also for 1 in 10 000" in reader.text
    assert "reaches it with 30 000 pairs of people, which takes 246 people" in reader.text and 246 * 245 // 2 >= 30000
    assert "too few pairs to tell" in reader.text  # in the drawing
    assert "TAR at 1 in 10 000" not in reader.text


def test_thresholds_are_listed_for_every_pair_of_precisions(report):
    reader, manifest = report
    rows = by_header(reader, "camera in")
    told = [threshold for threshold in manifest.thresholds if threshold.asked_fmr != 1e-4]  # those for 1e-3 again
    assert len(rows) == len(told) == 8
    for row, threshold in zip(rows, told, strict=True):
        low, high = threshold.interval
        assert row == [
            f"1 in {round(1 / threshold.fmr):,} strangers".replace(",", " "),
            threshold.precision,
            threshold.gallery,
            f"{threshold.cosine:.4f}",
            f"{low:.4f} to {high:.4f}",
            plain(percentage(threshold.tar)),
            "drawn faces, 3 000 impostor pairs",
        ]
    alone = manifest.model_copy(update={"thresholds": manifest.thresholds[2:3]})
    (row,) = by_header(Reader(bundle_report(alone, None)), "camera in")
    assert row[0] == "1 in 1 000 strangers (asked: 1 in 10 000; too few pairs)"


def test_galleries_multiply_false_matches(report):
    reader, _ = report
    rows = by_header(reader, "1\u00a0000 templates")
    assert [row[0] for row in rows] == ["1 in 100 strangers", "1 in 1 000 strangers"]
    for row, rate in zip(rows, (1e-2, 1e-3), strict=True):
        for cell, size in zip(row[1:], (1, 10, 100, 1000), strict=True):
            nobody = 1.0
            for _ in range(size):
                nobody *= 1 - rate
            shown = re.search(r"([\d.]+)(?: %\)| in 100)$", cell)
            assert shown is not None and float(shown[1]) / 100 == pytest.approx(1 - nobody, rel=0.05)
            assert cell.startswith(plain(one_in(1 - nobody)))
    # 1 - (1 - 1/1000)^10 is below 1 %, with 11 templates above
    assert "1 in 100 strangers for somebody can be promised with them up to 10 templates" in reader.text


def test_int8_in_words_and_a_bar_for_each_layer(report):
    reader, _ = report
    assert "2.08 times as fast" in reader.text and "minimum cosine 0.9871, at least 0.98 asked" in reader.text
    assert (
        "2 layers stayed in float, as int8 would be no faster there or cost too much: net/conv6, net/conv13"
        in reader.text
    )
    assert [row[0] for row in by_header(reader, "smallest cosine")] == ["fp32", "int8"]
    assert by_header(reader, "smallest cosine")[1] == ["int8", "1.00 MB", "0.51 ms (cpu)", "0.9834", "0.9952"]
    bars = [attributes["class"] for tag, attributes in Reader(layer_chart(record())).tags if tag == "rect"]
    assert bars.count("fill one") == 21 + 1 and bars.count("hollow two") == 2 + 1  # and a sample of each
    costliest = by_header(reader, "costliest layers")
    assert [row[0] for row in costliest[:3]] == ["net/conv6", "net/conv13", "net/conv20"]
    assert [row[2] for row in costliest[:3]] == ["float", "float", "int8"]


@pytest.mark.parametrize(("kept", "outcome"), [(True, "is the one here"), (False, "the one from before is here")])
def test_fine_tuning_is_told(kept, outcome):
    tuned = Finetuning(epochs=6, faces=350, held_apart=50, loss_before=0.00375, loss_after=0.0033, kept=kept)
    reader = Reader(bundle_report(facts(quantization=record(finetuning=tuned)), None))
    assert "trained for 6 epochs on 350 faces" in reader.text and "from 0.00375 to 0.0033" in reader.text
    assert outcome in reader.text


def test_bars_are_as_high_as_their_layer_costs():
    rects = [
        a for t, a in Reader(layer_chart(record(sensitivity={"a": 1e-3, "b": 1e-2, "c": 0.0}))).tags if t == "rect"
    ]
    heights = [float(attributes["height"]) for attributes in rects[:3]]
    assert heights[1] - heights[0] == pytest.approx((heights[1] - heights[2]) / 5, abs=0.2)  # 1e-7 is shown for 0


def test_whatever_is_recorded_of_int8_is_told():
    """Also facts that this version of the report has no words for."""

    class Tuned(Quantization):
        fine_tuning: dict[str, float | str] | None = None

    tuned = Tuned(**(record().model_dump() | {"fine_tuning": {"epochs": 3, "learning_rate": 1e-4}}))
    assert "fine tuning" in Reader(bundle_report(facts(quantization=tuned), None)).text
    assert "epochs: 3, learning rate: 0.0001" in bundle_report(facts(quantization=tuned), None)
    odd = record(target="TARGET", activations="ACTIVATIONS", weights="WEIGHTS", method="METHOD")
    assert all(word in bundle_report(facts(quantization=odd), None) for word in ("TARGET", "ACTIVATIONS", "WEIGHTS"))


def test_without_pairs_it_says_so_and_how_to_get_them():
    text, manifest = page(facts(measured=False))
    told = Reader(text).text
    assert manifest.thresholds == ()
    assert "How often it is right was not measured" in told and "nobody knows yet how often" in told
    assert "`edgeface calibrate BUNDLE --data FOLDER --fmr 1e-2 --out NEW`".strip("`") in told
    assert "25 people for 1 in 100, 78 for 1 in 1 000" in told
    assert "There is none yet" in told and "gallery of many" not in told and "How sure" not in told
    assert text.count("<svg") == 1  # the layers alone
    assert "It does not detect spoofing" in told


def test_calibrated_on_other_faces_both_are_told_apart(scores):
    """After `edgeface calibrate` the accuracy is of the export's pairs and the rest of one's own."""
    own = replace(scores, data=scores.data.model_copy(update={"name": "colleagues", "independent": 435}), disjoint=60)
    reader = Reader(page(scores=tabulate(own.scores, own.data, [1e-2], disjoint=60))[0])
    assert "among 6 000 pairs (drawn faces)" in reader.text
    assert "On colleagues, 6 000 pictures of 80 people, which the thresholds were chosen on" in reader.text
    (table,) = [rows for rows in reader.tables if rows[0][1:2] == ["equal error rate"]]
    assert [plain(cell) for cell in table[0]] == ["precision", "equal error rate", "TAR at 1 in 10", "TAR at 1 in 100"]
    own_fp32 = own.scores["fp32", "fp32"]
    kept = np.sort(own_fp32.impostor)[::-1][30]  # the highest 30 of 3 000 may reach it
    assert plain(table[1][3]) == f"{100 * np.mean(own_fp32.genuine > kept):.2f} %"


def test_the_curve_is_that_of_an_independent_library(scores):
    from sklearn.metrics import det_curve  # which does not import where torch is blocked

    own = scores.scores["int8", "int8"]
    same = np.repeat([1, 0], [3000, 3000])
    fmr, fnmr, _ = det_curve(same, np.concatenate([own.genuine, own.impostor]))
    curve = trade_off(own, 3000)
    assert curve.fmr[0] == pytest.approx(1e-3) and curve.fmr[-1] == pytest.approx(0.5)
    for rate, refused in zip(curve.fmr, curve.fnmr, strict=True):
        assert refused == pytest.approx(fnmr[fmr <= rate + 1e-12].min())
    assert np.all(np.diff(curve.fnmr) <= 0)
    assert len(trade_off(own, 5).fmr) == 0  # 3 in 5 is no rate to draw


def test_areas_hold_all_pairs(scores):
    """The heights of the histogram's steps, read off the drawing, are the shares of the pairs."""
    text, _ = page(scores=scores)
    areas = [a for t, a in Reader(text).tags if t == "polygon"]
    assert [area["class"] for area in areas] == ["fill area two", "fill area one"]
    ticks = re.findall(r'y="([\d.]+)" text-anchor="end">(\d+)\u00a0%', text.split("share of the pairs")[0])
    (y0, low), (y1, high) = ((float(y), float(share) / 100) for y, share in (ticks[0], ticks[-1]))
    for area in areas:
        tops = [float(point.split(",")[1]) for point in area["points"].split()[1:-1:2]]
        shares = [low + (y - (y0 - 4)) / (y1 - y0) * (high - low) for y in tops]
        assert sum(shares) == pytest.approx(1, abs=0.02) and len(tops) == 60


def test_axes():
    log = svg.Axis(1e-3, 1, (), "", log=True)
    assert [log.share(value) for value in (1e-3, 1e-2, 0.1, 1, 5, 1e-9)] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 0])
    frame = svg.Frame(svg.Axis(-1, 1, (), ""), svg.Axis(0, 10, (), ""))
    assert frame.place(-1, 0) == (svg.LEFT, svg.SIZE_WH[1] - svg.BOTTOM)
    assert frame.place(1, 10) == (svg.SIZE_WH[0] - svg.RIGHT, svg.TOP)


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1e-2, "1 in 100"),
        (1e-3, "1 in 1 000"),
        (3 / 3000, "1 in 1 000"),
        (0.046, "1 in 22"),
        (3 / 66, "1 in 22"),
        (1e-1, "1 in 10"),
        (1 / 7, "1 in 7"),
        (0.3, "30 in 100"),
        (0.632, "63 in 100"),
        (0.99996, "more than 99 in 100"),
        (1 / 123456, "1 in 123 000"),
        (1e-6, "1 in 1 000 000"),
    ],
)
def test_rates_in_words(rate, words):
    assert plain(one_in(rate)) == words


@given(st.floats(1e-7, 0.995))
def test_rates_in_words_are_near(rate):
    above, below = plain(one_in(rate)).split(" in ")
    assert int(above) / int(below.replace(" ", "")) == pytest.approx(rate, rel=0.08)


def test_numbers_in_words():
    assert plain(count(29600000)) == "29 600 000"
    assert [plain(percentage(share)) for share in (0.5, 0, 1, 0.00034)] == ["50.00 %", "0.00 %", "100.00 %", "0.034 %"]


def luminance(colour):
    """Relative luminance of WCAG 2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(first, second):
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_and_lines_can_be_seen_on_light_and_dark_pages(report):
    style = report[0].style
    dark_rules = re.findall(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", style, re.S)
    light_rules = re.sub(r"@media.*?\}\s*\}", "", style, flags=re.S)
    schemes = [re.findall(r"--(\w+): (#\w{6})", rules) for rules in (light_rules, "".join(dark_rules))]
    names = {"ink", "paper", "dim", "line", "one", "two", "three"}
    used = set(re.findall(r"var\(--(\w+)\)", style))
    for scheme in (dict(found) for found in schemes):
        assert set(scheme) == names >= used
        assert all(contrast(scheme[name], scheme["paper"]) > 4.5 for name in ("ink", "dim", "one", "two", "three"))
    assert "color-scheme: light dark" in style


def test_the_same_facts_give_the_same_bytes(report, scores):
    """Also in another process, with other hashes of strings, and where matplotlib, torch and onnx are not."""
    text = bundle_report(report[1], scores)
    assert text == bundle_report(report[1], scored())
    assert not re.search(r"\b20\d\d-\d\d|\bid=", text)
    block = "; ".join(f"sys.modules['{name}'] = None" for name in sorted(HEAVY))
    code = (
        f"import sys, hashlib; {block}; from tests.test_bundle_report import page, scored; "
        "print(hashlib.sha256(page(scores=scored())[0].encode()).hexdigest())"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == hashlib.sha256(page(scores=scores)[0].encode()).hexdigest()


def test_assembling_lists_what_it_writes(scores):
    start = facts()
    manifest, files = assemble(start, scores, RATES)
    assert set(files) == {"scores.json", "MODEL_CARD.md", "report.html"}
    assert set(manifest.files) == set(start.files) | set(files)
    for name, data in files.items():
        assert (manifest.files[name].sha256, manifest.files[name].bytes) == (sha256(data), len(data))
    assert manifest.thresholds == choose_thresholds(scores, RATES) and manifest.scores == "scores.json"
    assert Manifest.parse(manifest.to_json()) == manifest
    assert "report.html" in files["MODEL_CARD.md"].decode()
    # Once more from what is there: neither the card nor the report changes because there already were ones.
    again, same = assemble(manifest, scores, RATES)
    assert (again, same) == (manifest, files)
    # Without scores thresholds stay as they are.
    kept, told = assemble(manifest, None, RATES)
    assert kept.thresholds == manifest.thresholds and set(told) == {"MODEL_CARD.md", "report.html"}
    assert "camera in" in told["report.html"].decode()


def small_network():
    """An fp32 embedder with two layers that can be quantized."""
    from onnx import TensorProto, helper, numpy_helper

    from edgeface.export.foreign import adapt
    from edgeface.export.preprocessing import Preprocessing

    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(0, 0.1, (6, 3, 16, 16)), "v": rng.normal(0, 1, (6, 8))}
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["maps"], "conv", strides=[16, 16]),
        helper.make_node("Relu", ["maps"], ["rectified"], "relu"),
        helper.make_node("GlobalAveragePool", ["rectified"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "v"], ["raw"], "gemm"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, 112, 112])],
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return adapt(model, Preprocessing("nchw", "rgb", 127.5, 1 / 127.5))


def test_from_export_to_calibration_and_a_signed_zip(tmp_path):
    from edgeface.data import InMemoryFaces, make_pairs
    from edgeface.errors import BundleError
    from edgeface.export.pipeline import ExportSettings, LabelledPairs, Network, export_bundle
    from edgeface.export.quantization.bounded import Bounds
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.embedder import open_embedder
    from edgeface.runtime.packing import pack_bundle
    from edgeface.runtime.signing import make_key, read_private_key, sign_bundle
    from tests.test_calibrate import paint
    from tests.test_cli import run

    model = small_network()
    reference = open_embedder(model.SerializeToString(), provider="cpu")
    rng = np.random.default_rng(1)
    colours = np.repeat(rng.uniform(20, 235, (24, 3)), 2, axis=0) + rng.normal(0, 9, (48, 3))
    faces = np.clip(rng.normal(colours[:, None, None], 12, (48, 112, 112, 3)), 0, 255).astype(np.uint8)
    people = InMemoryFaces(faces, np.repeat(np.arange(24), 2), name="drawn")
    labelled = LabelledPairs(people, make_pairs(people, 40), "drawn pairs")
    settings = ExportSettings("tiny", fmr=(0.2,), bounds=Bounds(min_cosine=0.5, sensitivity=True))
    network = Network(model, reference.embed, {"source": "a test"})
    made = export_bundle(network, tmp_path / "a.bundle", settings, faces[:32], "48 drawn faces", labelled)
    bundle = open_bundle(tmp_path / "a.bundle")
    bundle.verify()
    told = Reader(bundle.read("report.html").decode()).text
    assert "drawn pairs" in told and "48 drawn faces" in told and "costliest layers" in told
    assert bundle.manifest == made and bundle.unlisted() == ()

    folder = paint(tmp_path / "colleagues")
    result = run("calibrate", tmp_path / "a.bundle", "--data", folder, "--fmr", "0.2", "--out", tmp_path / "b.bundle")
    assert result.exit_code == 0, result.output
    ours = open_bundle(tmp_path / "b.bundle")
    new = Reader(ours.read("report.html").decode()).text
    assert "On colleagues, 36 pictures of 12 people, which the thresholds were chosen on" in new
    assert f"{ours.manifest.thresholds[0].cosine:.4f}" in new and "costliest layers" in new and "drawn pairs" in new
    assert ours.manifest.files["report.html"] != made.files["report.html"]

    make_key(tmp_path / "k")
    sign_bundle(ours, read_private_key(tmp_path / "k"))
    pack_bundle(open_bundle(tmp_path / "b.bundle"), tmp_path / "b.zip")
    zipped = open_bundle(tmp_path / "b.zip", require_keys=[tmp_path / "k.pub"])
    zipped.verify()
    assert zipped.read("report.html") == ours.read("report.html")
    page = tmp_path / "b.bundle" / "report.html"
    page.write_bytes(page.read_bytes().replace(b"1 in", b"1 IN", 1))
    with pytest.raises(BundleError, match=r"report\.html .* was changed"):
        open_bundle(tmp_path / "b.bundle").verify()
