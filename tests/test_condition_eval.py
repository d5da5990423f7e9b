"""`edgeface eval --conditions` and `--at shipped`: what the thresholds that ship are worth, counted the slow way."""

import csv
import json

import numpy as np
import pytest

from edgeface.conditions.battery import BATTERY, degrade
from edgeface.data import open_faces
from edgeface.data.synthetic import crops
from edgeface.errors import DataError, UnknownNameError
from edgeface.evaluation.condition_report import condition_rows, conditions_picture
from edgeface.evaluation.conditions import assess_conditions, check_conditions
from edgeface.fitness import Fitness
from edgeface.images import decode_image, write_image
from edgeface.runtime.deciding.gate import OPEN, Gate
from edgeface.runtime.deciding.quality import QualitySettings
from edgeface.scoring import COSINE
from tests.test_cli import fails, run
from tests.test_runtime_bundle import write_bundle

PEOPLE = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    images, labels = crops(PEOPLE, 3, seed=2)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        write_image(folder / f"person{label}" / f"{index:02}.png", image)
    write_image(folder / "alone" / "one.png", images[0])
    return folder


class Colours:
    """An embedder: the mean of each quarter's colours less grey, to unit length."""

    def embed(self, faces):
        quarters = faces.reshape(len(faces), 2, 56, 2, 56, 3).mean(axis=(2, 4)).reshape(len(faces), -1) - 128
        return (quarters / np.linalg.norm(quarters, axis=1, keepdims=True)).astype(np.float32)


class Bright:
    """A quality network: dark faces are unfit, and what is darker than 90 does not become a template."""

    def judge(self, faces):
        return [Fitness(0.2 if face.mean() < 70 else 0.9, 0, ("dark",) if face.mean() < 90 else ()) for face in faces]


GATE = Gate(Bright(), QualitySettings(min_fitness=0.5), QualitySettings(min_fitness=0.5, refused_faults=("dark",)))


def slowly(faces, name, threshold, gate, seed):
    """Compare everybody, one by one; returns TAR and FMR with both sides degraded, then with the probe alone."""
    rng = np.random.default_rng(seed)
    labels, counts = np.unique(faces.labels, return_counts=True)
    pairs = [
        rng.permutation(np.flatnonzero(faces.labels == label))[:2] for label in rng.permutation(labels[counts >= 2])
    ]

    def picture(row, condition):
        return degrade(faces.read(int(row)), condition, faces.samples[int(row)].key, seed)

    def passes(face, template):
        if gate is OPEN:
            return True
        return face.mean() >= (90 if template else 70)

    rates = []
    for template_name, is_template in ((name, False), ("clean", True)):
        found: dict[bool, list[bool]] = {True: [], False: []}
        for i, (first, _) in enumerate(pairs):
            for j, (_, second) in enumerate(pairs):
                one, two = picture(first, template_name), picture(second, name)
                if passes(one, is_template) and passes(two, False):
                    a, b = Colours().embed(np.stack([one, two]))
                    found[i == j].append(float(a @ b) >= threshold)
        rates += [np.mean(found[True]) if found[True] else None, np.mean(found[False]) if found[False] else None]
    return rates


@pytest.mark.parametrize("gate", [OPEN, GATE], ids=["open", "gated"])
def test_rates_are_those_of_comparing_one_by_one(folder, gate):
    faces = open_faces(folder)
    names = ("clean", "dark-40", "backlight", "mask")
    report = assess_conditions(faces, Colours(), COSINE, (0.93, 1e-2), gate, names=names, replicates=100, seed=3)
    assert report.people == PEOPLE and report.gated == (gate is GATE)
    for row in report.rows:
        expected = slowly(faces, row.name, 0.93, gate, 3)
        assert [row.both.tar, row.both.fmr, row.probe.tar, row.probe.fmr] == [
            None if rate is None else pytest.approx(rate) for rate in expected
        ]
        for rates in (row.both, row.probe):
            if rates.fmr is not None and rates.fmr_interval is not None:
                assert rates.fmr_interval[0] <= rates.fmr <= rates.fmr_interval[1]
            if rates.tar is not None and rates.tar_interval is not None:
                assert rates.tar_interval[0] <= rates.tar <= rates.tar_interval[1]
    dark = report.rows[1]
    assert dark.refused == (1.0 if gate is GATE else 0.0)
    assert (dark.both.genuine, dark.both.impostors) == ((0, 0) if gate is GATE else (PEOPLE, PEOPLE * (PEOPLE - 1)))


def test_no_false_match_still_has_an_upper_end(folder):
    report = assess_conditions(open_faces(folder), Colours(), COSINE, (1.0, 1e-3), OPEN, names=("clean",), seed=1)
    rates = report.rows[0].both
    assert rates.fmr == 0
    assert rates.fmr_interval is not None
    assert rates.fmr_interval[0] == 0
    assert rates.fmr_interval[1] == pytest.approx(3 / (PEOPLE * (PEOPLE - 1) / 2))


def test_names_of_conditions():
    assert check_conditions(["mask"]) == ("clean", "mask")
    assert check_conditions(["all"]) == tuple(BATTERY)
    with pytest.raises(UnknownNameError, match="dark-20"):
        check_conditions(["dark-21"])


def test_people_with_one_picture_are_not_enough(tmp_path):
    for name in "ab":
        write_image(tmp_path / name / "1.png", np.zeros((112, 112, 3), np.uint8))
    with pytest.raises(DataError, match=r"0 people in .* have two pictures"):
        assess_conditions(open_faces(tmp_path), Colours(), COSINE, (0.5, 1e-2), OPEN)


def test_a_condition_that_lets_nobody_through_is_shown_as_such(folder):
    report = assess_conditions(
        open_faces(folder), Colours(), COSINE, (0.9, None), GATE, names=("clean", "dark-20"), replicates=0
    )
    assert condition_rows(report)[1][3:5] == ["-", "-"]
    assert decode_image(conditions_picture(report)).shape[2] == 3


def test_the_command_writes_a_page_a_picture_and_the_numbers(folder, tmp_path):
    bundle, out = write_bundle(tmp_path / "b"), tmp_path / "out"
    arguments = ("eval", bundle, "--data", folder, "--conditions", "mask,grey", "--fmr", "1e-2", "--bootstrap", "100")
    result = run(*arguments, "--seed", "4", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert [row["name"] for row in facts["conditions"]] == ["clean", "mask", "grey"]
    assert (facts["threshold"], facts["promised_fmr"], facts["gated"]) == (0.3, 1e-2, False)
    page = (out / "report.html").read_text()
    assert "without colour" in page and "<script" not in page
    assert decode_image((out / "conditions.png").read_bytes()).size
    rows = list(csv.DictReader((out / "conditions.csv").read_text().splitlines()))
    assert [(row["condition"], row["side"]) for row in rows][:3] == [
        ("clean", "both"),
        ("clean", "probe"),
        ("mask", "both"),
    ]
    table = run(*arguments)
    assert "without colour" in table.stdout and "no quality network" in " ".join(table.output.split())


def test_what_conditions_cannot_go_with(folder, tmp_path):
    bundle = write_bundle(tmp_path / "b")
    fails(
        "means nothing to --task embed with --conditions",
        *("eval", bundle, "--data", folder, "--conditions", "all"),
        "--identify",
        "drawn",
    )
    fails("unknown condition 'fog'", "eval", bundle, "--data", folder, "--conditions", "fog")
    fails("give --data", "eval", bundle, "--conditions", "all")


def test_the_thresholds_that_ship_are_measured_on_the_pairs(folder, tmp_path):
    bundle = write_bundle(tmp_path / "b")
    result = run(
        "eval", bundle, "--data", folder, "--precision", "int8", "--at", "shipped", "--bootstrap", "100", "--json"
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert [one["promised_fmr"] for one in facts["shipped"]] == [1e-2, 1e-3]
    assert [one["threshold"] for one in facts["shipped"]] == [0.3, 0.4]
    for one in facts["shipped"]:
        assert one["tar_interval"][0] <= one["tar"] <= one["tar_interval"][1]
    # Mean colours of drawn faces are all alike, so whatever the promise says, nearly everybody is let in.
    assert facts["shipped"][0]["fmr"] >= facts["shipped"][1]["fmr"] > 0.9
    table = run("eval", bundle, "--data", folder, "--precision", "int8", "--at", "shipped", "--bootstrap", "0")
    assert "promised FMR" in table.stdout
    fails("--at takes the word shipped", "eval", bundle, "--data", folder, "--at", "home")
    fails("ships no threshold for fp32", "eval", bundle, "--data", folder, "--precision", "fp32", "--at", "shipped")
