"""One network and budget under several losses: what is compared, how it is measured, what is written."""

import json
import math
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import edgeface.comparison.people
from edgeface.cli import app
from edgeface.comparison.angles import BINS, centre_angles, histogram
from edgeface.comparison.circles import embedded_in_two
from edgeface.comparison.comparison import Settings, compare, plan
from edgeface.comparison.contenders import STORY, contender, contenders
from edgeface.comparison.cost import StorageCounter
from edgeface.comparison.jobs import Job, Measurement, job
from edgeface.comparison.people import People, divided, drawn_people
from edgeface.comparison.results import ResultFile
from edgeface.comparison.table import cells, markdown, rows
from edgeface.comparison.target_logits import ANGLES_DEG, merged, target_logits
from edgeface.comparison.workers import Stopped, finish
from edgeface.data import InMemoryFaces, make_pairs
from edgeface.data.synthetic import crops
from edgeface.errors import ConfigError, DataError, TrainingError, UnknownNameError
from edgeface.losses import LOSSES
from edgeface.training.config import DataConfig

QUICK = ("run.batch_size=8", "run.epochs=1", "model.embedding_size=8", "optimizer.warmup_epochs=0.0")


@pytest.fixture(scope="module")
def people():
    training, test = crops(6, 4, seed=1), crops(8, 4, seed=1, start=100)
    tested = InMemoryFaces(*test)
    return People(InMemoryFaces(*training), tested, make_pairs(tested, 120), "toys")


@pytest.fixture(autouse=True, scope="module")
def short():
    with pytest.MonkeyPatch.context() as patch:
        for steps in ("circles.FIRST_STEPS", "circles.HEAD_STEPS", "circles.STEPS", "cost.TIMED_STEPS"):
            patch.setattr(f"edgeface.comparison.{steps}", 1)
        yield


class TestContenders:
    def test_the_story_has_every_loss_and_every_mining_once(self):
        assert {one.name for one in contenders()} == set(LOSSES)
        assert [one.label for one in contenders()] == list(STORY)
        minings = {one.options for one in contenders() if one.name == "triplet"}
        assert minings == {(f"mining={name}",) for name in ("all", "easy-positive", "hard", "semi-hard")}

    def test_all_share_everything_but_loss_and_sampler(self):
        configs = [one.config(seed=3) for one in contenders()]
        for part in ("data", "model", "optimizer", "augment", "teacher"):
            assert len({getattr(config, part) for config in configs}) == 1
        assert {config.run.batch_size for config in configs} == {64} and {c.run.seed for c in configs} == {3}
        samplers = {config.loss.name: config.run.sampler for config in configs}
        assert samplers["triplet"] == samplers["supcon"] == samplers["n-pair"] == "pk"
        assert samplers["softmax"] == samplers["arcface"] == samplers["center"] == "shuffle"

    def test_names_and_options(self):
        assert contender("triplet:semi-hard").config().loss.mining == "semi-hard"
        loss = contender("combined:m2=0.4:m3=0.1").config().loss
        assert (loss.m2, loss.m3) == (0.4, 0.1)
        assert [one.label for one in contenders(["arcface", "softmax", "arcface"])] == ["arcface", "softmax"]

    @pytest.mark.parametrize(
        ("text", "error", "message"),
        [
            ("arcfase", UnknownNameError, "unknown loss 'arcfase'; choose one of: adaface, .*triplet:semi-hard"),
            ("triplet:soft", UnknownNameError, "unknown mining of triplet 'soft'; choose one of: all, easy-positive"),
            ("arcface:hard", ConfigError, "'hard' in 'arcface:hard' is not an option"),
            ("arcface:temperature=1.0", ConfigError, "loss.temperature = 1.0 has no effect on the loss arcface"),
            ("arcface:margins=1", ConfigError, "unknown config key 'loss.margins'"),
        ],
    )
    def test_mistakes(self, text, error, message):
        with pytest.raises(error, match=message):
            contender(text).config()

    @pytest.mark.parametrize("key", ["loss.name=arcface", "run.seed=3", " run.sampler = pk", "data.path=x"])
    def test_what_the_comparison_sets_cannot_be_overridden(self, key):
        with pytest.raises(ConfigError, match="is set by the comparison itself"):
            contender("softmax").config([key])


class TestPeople:
    def test_people_to_measure_on_are_others(self):
        faces = InMemoryFaces(*crops(12, 3, seed=2))
        divided_faces = divided(faces, DataConfig(val_identities=0.5), 20)
        training, test = divided_faces.training, divided_faces.test
        assert len(training.identities) == len(test.identities) == 6
        assert not set(training.identities) & set(test.identities)
        assert len(training) + len(test) == len(faces)

    def test_drawn_people_are_others(self, monkeypatch):
        assert not set(edgeface.comparison.people.TRAIN_PEOPLE) & set(edgeface.comparison.people.TEST_PEOPLE)
        monkeypatch.setattr("edgeface.comparison.people.TRAIN_PEOPLE", range(0, 4))
        monkeypatch.setattr("edgeface.comparison.people.TEST_PEOPLE", range(50, 54))
        monkeypatch.setattr("edgeface.comparison.people.FACES_EACH", 2)
        drawn = drawn_people(4)
        expected, _ = crops(4, 2, 0, start=50)
        assert np.array_equal(drawn.test.read_many(range(8)), expected)
        assert not any(np.array_equal(a, b) for a in drawn.training.read_many(range(8)) for b in expected)

    def test_people_with_one_face_and_without_a_name_are_left_out(self):
        images, labels = crops(12, 3, seed=2)
        labels = labels.copy()
        labels[labels == 0] = [0, 20, -1]  # person 0 keeps one face, a stray one, and one without a name
        trained = divided(InMemoryFaces(images, labels), DataConfig(val_identities=0.34), 20).training
        assert min(trained.label_counts().values()) >= 2 and -1 not in trained.labels
        assert not {"00", "20"} & set(trained.identities)

    def test_splits_must_not_share_people(self):
        images, labels = crops(8, 2, seed=2)
        faces = InMemoryFaces(images, labels)
        faces.samples = tuple(
            type(s)(s.key, s.identity, "val" if label >= 4 else "train")
            for s, label in zip(faces.samples, labels, strict=True)
        )
        parts = divided(faces, DataConfig(), 8)
        assert (len(parts.training.identities), len(parts.test.identities)) == (4, 4)
        first = faces.samples[0]
        faces.samples = (type(first)(first.key, first.identity, "val"), *faces.samples[1:])
        with pytest.raises(DataError, match="1 people are in both splits"):
            divided(faces, DataConfig(), 8)

    def test_the_fingerprint_tells_people_and_pairs_apart(self, people):
        again = People(people.training, people.test, people.pairs, "another title")
        assert again.fingerprint == people.fingerprint
        others = make_pairs(people.test, 120, seed=1)
        assert People(people.training, people.test, others, "toys").fingerprint != people.fingerprint
        assert People(people.test, people.test, people.pairs, "toys").fingerprint != people.fingerprint


class TestAngles:
    def test_against_the_slow_way(self):
        rng = np.random.default_rng(0)
        labels = np.repeat([4, 7, 9], [3, 2, 1])
        embeddings = rng.normal(size=(6, 5)) * rng.uniform(0.5, 9, (6, 1))
        own, other = centre_angles(embeddings, labels)
        unit = [e / np.linalg.norm(e) for e in embeddings]

        def angle(face, members):
            mean = sum(unit[m] for m in members)
            return math.degrees(math.acos(unit[face] @ mean / np.linalg.norm(mean)))

        for face in range(5):  # the last has no other face of its person
            mine = [k for k in range(6) if labels[k] == labels[face] and k != face]
            assert own[face] == pytest.approx(angle(face, mine))
            foreign = [[k for k in range(6) if labels[k] == name] for name in {4, 7, 9} - {labels[face]}]
            assert other[face] == pytest.approx(min(angle(face, members) for members in foreign))
        assert len(own) == len(other) == 5

    def test_histogram_counts_all(self):
        counts = histogram(np.array([0.0, 1.9, 2.0, 90.0, 180.0]))
        assert len(counts) == BINS and sum(counts) == 5
        assert counts[0] == 2 and counts[1] == 1 and counts[45] == 1 and counts[-1] == 1


class TestCircles:
    def test_people_with_the_most_faces(self):
        images, labels = crops(10, 3, seed=3)
        faces = InMemoryFaces(images, labels).select([k for k in range(30) if k not in (0, 15)])  # of persons 0 and 5
        embeddings, people = embedded_in_two(contender("arcface").config(), faces)
        assert embeddings.shape == (24, 2) and np.bincount(people).tolist() == [3] * 8
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)

    def test_all_losses_start_alike(self, people, monkeypatch):
        monkeypatch.setattr("edgeface.comparison.circles.STEPS", 0)
        names = ("softmax", "supcon", "adaface")
        starts = [embedded_in_two(contender(name).config(), people.training)[0] for name in names]
        assert all(np.array_equal(start, starts[0]) for start in starts)


@pytest.mark.parametrize("kind", ["run", "circle", "cost"])
def test_classes_may_be_sampled(people, kind):
    overrides = ("run.batch_size=8", "run.epochs=1", "model.embedding_size=8", "optimizer.warmup_epochs=0")
    assert job(kind, contender("arcface:sample_rate=0.5"), overrides, 0).work(people)


class TestTargetLogits:
    @staticmethod
    def curves(text):
        one = contender(text)
        return target_logits(one, one.config())

    @pytest.mark.parametrize(
        ("text", "formula"),
        [
            ("norm-softmax", lambda a: math.cos(a)),
            ("cosface:margin=0.35", lambda a: math.cos(a) - 0.35),
            ("arcface:margin=0.5", lambda a: math.cos(a + 0.5) if a + 0.5 < math.pi else None),
            ("sphereface:margin=1.5", lambda a: math.cos(1.5 * a) if 1.5 * a < math.pi else -math.cos(1.5 * a) - 2),
            ("combined:m1=1.0:m2=0.3:m3=0.2", lambda a: math.cos(a + 0.3) - 0.2 if a + 0.3 < math.pi else None),
        ],
    )
    def test_closed_formulas(self, text, formula):
        (curve,) = self.curves(text)
        assert curve.label == text
        expected = [formula(math.radians(angle)) for angle in ANGLES_DEG]
        close = [e is None or abs(v - e) < 1e-3 for v, e in zip(curve.values, expected, strict=True)]
        assert all(close) and sum(e is not None for e in expected) > 250

    def test_adaface_by_length(self):
        short, middle, long = self.curves("adaface:margin=0.4")
        theta = np.radians(ANGLES_DEG)
        # The head keeps 4e-4 radians away from 0 and pi, where the arc cosine has no slope.
        np.testing.assert_allclose(middle.values, np.cos(theta) - 0.4, atol=5e-4)
        np.testing.assert_allclose(short.values, np.cos(np.minimum(theta + 0.4, math.pi)), atol=5e-4)
        np.testing.assert_allclose(long.values, np.cos(np.maximum(theta - 0.4, 0)) - 0.8, atol=5e-4)

    def test_magface_by_length(self):
        for curve, margin in zip(self.curves("magface"), (0.45, 0.625, 0.8), strict=True):
            at_60 = curve.values[np.argmin(abs(ANGLES_DEG - 60))]
            assert at_60 == pytest.approx(math.cos(math.pi / 3 + margin), abs=1e-5)

    @pytest.mark.parametrize("text", ["softmax", "center", "triplet", "supcon"])
    def test_others_have_none(self, text):
        assert self.curves(text) == ()

    def test_equal_curves_become_one(self):
        curves = [self.curves(text)[0] for text in ("arcface", "cosface", "curricularface", "subcenter-arcface")]
        assert [curve.label for curve in merged(curves)] == ["arcface, curricularface, subcenter-arcface", "cosface"]


class TestMemory:
    def test_what_is_alive_counts_once(self):
        with StorageCounter() as counter:
            first = torch.zeros(1000)
            view = first[10:].reshape(-1, 10)
            assert counter.now == 4000
            second = first + 1
            assert counter.now == 8000
            del first
            assert counter.now == 8000  # the view still holds it
            del view
            assert counter.now == 4000
            second += 1
            assert counter.now == 4000
            del second
        assert (counter.now, counter.peak) == (0, 8000)

    def test_what_autograd_keeps_counts(self):
        leaf = torch.ones(1000, requires_grad=True)
        with StorageCounter() as counter:
            total = (leaf * 2).exp().sum()
            assert counter.now == 4000 + 4  # the result of exp, which its slope needs, and the sum
            total.backward()
            del total
            assert counter.now == 4000  # the gradient
        assert 8000 <= counter.peak <= 12_100


def settings(*texts, seeds=1, overrides=QUICK):
    return Settings(contenders(texts), tuple(overrides), seeds)


@pytest.fixture(scope="module")
def compared(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    chosen = settings("triplet:semi-hard", "softmax", "adaface", seeds=2)
    return chosen, folder, compare(chosen, people, ResultFile(folder))


class TestComparison:
    def test_rows_and_files(self, compared, people):
        _, folder, result = compared
        assert [row.loss for row in result.rows] == ["triplet:semi-hard", "softmax", "adaface"]
        for row in result.rows:
            assert row.seeds == 2 and row.error == "" and 0.3 < row.accuracy <= 1 and row.accuracy_sd >= 0
            assert row.steps == 3  # 24 faces in batches of 8: as many for either sampler
            assert 0 < row.loss_ms < row.ms_per_step and 0 < row.loss_mb < 1 < row.mb_per_step
            assert set(row.tar) == set(row.tar_sd) == {"1e-1"}  # fewer than 300 impostor pairs support no more
        written = json.loads((folder / "comparison.json").read_text())
        assert [row["loss"] for row in written["rows"]] == [row.loss for row in result.rows]
        assert written["rows"][1]["accuracy"] == result.rows[1].accuracy
        assert written["settings"]["test_people"] == 8
        for path in result.files:
            assert path.parent == folder and path.is_file()
            assert path.suffix != ".png" or path.read_bytes().startswith(b"\x89PNG")
        lines = (folder / "comparison.md").read_text().splitlines()
        assert lines[0].startswith("| loss | accuracy |") and lines[1].count("---") == 5
        assert lines[3].startswith("| softmax | ") and "±" in lines[3]

    def test_the_spread_is_that_over_seeds(self, compared):
        _, folder, result = compared
        lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
        scores = [line["value"]["accuracy"] for line in lines if (line["kind"], line["loss"]) == ("run", "softmax")]
        assert len(scores) == 2
        assert result.rows[1].accuracy == pytest.approx(np.mean(scores))
        assert result.rows[1].accuracy_sd == pytest.approx(np.std(scores, ddof=1))

    def test_a_run_is_repeatable(self, compared, people):
        chosen, folder, _ = compared
        first = plan(chosen)[0]
        lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
        before = next(line["value"] for line in lines if line["key"] == first.key(people.fingerprint))
        again = first.work(people)
        assert isinstance(again, Measurement)
        assert again.accuracy == before["accuracy"] and again.own_deg == before["own_deg"]

    def test_what_is_measured_is_taken(self, compared, people, monkeypatch):
        chosen, folder, result = compared
        with pytest.raises(ConfigError, match="holds a comparison already"):
            ResultFile(folder)
        monkeypatch.setattr(Job, "work", None)
        again = compare(chosen, people, ResultFile(folder, resume=True))
        assert again.rows == result.rows

    def test_resume_after_an_interruption(self, compared, people, tmp_path, monkeypatch):
        chosen, _, result = compared
        done = []
        with pytest.raises(TrainingError, match=r"stopped after 4 of 12 jobs.*--resume"):
            compare(
                chosen,
                people,
                ResultFile(tmp_path),
                advance=lambda count, total, note="": done.append(count),
                stop=lambda: max(done) >= 4,
            )
        with (tmp_path / "results.jsonl").open("a") as file:
            file.write('{"key": "cut o')  # as a crash leaves it
        worked = []
        work = Job.work

        def counted(self, people):
            worked.append(self)
            return work(self, people)

        monkeypatch.setattr(Job, "work", counted)
        again = compare(chosen, people, ResultFile(tmp_path, resume=True))
        assert len(worked) == 8
        assert [row.accuracy for row in again.rows] == [row.accuracy for row in result.rows]
        lines = (tmp_path / "results.jsonl").read_text().splitlines()
        assert len(lines) == 12 and all(json.loads(line)["key"] for line in lines)

    def test_other_settings_are_not_taken(self, compared, people):
        chosen, folder, _ = compared
        other = Settings(chosen.contenders, (*chosen.overrides, "optimizer.lr=1e-3"), 2)
        assert not ResultFile(folder, resume=True).measured([each.key(people.fingerprint) for each in plan(other)])
        assert (
            len(ResultFile(folder, resume=True).measured([each.key(people.fingerprint) for each in plan(chosen)])) == 12
        )

    def test_a_loss_that_fails_is_a_row(self, people, tmp_path):
        diverging = ("optimizer.lr=1e6", "optimizer.clip_norm=0.0", "run.epochs=4")
        broken = job("run", contender("softmax"), (*QUICK, *diverging), 0)
        outcomes = dict(finish([broken, job("run", contender("arcface"), QUICK, 0)], people, 1, lambda: False))
        error, fine = outcomes.values()
        assert isinstance(fine, Measurement)
        assert isinstance(error, str) and "is not finite" in error and "lower optimizer.lr" in error

        chosen = settings("softmax", "arcface")
        original = Job.work

        def work(self, people):
            return original(broken if self.label == "softmax" else self, people)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Job, "work", work)
            result = compare(chosen, people, ResultFile(tmp_path))
        failed, measured = result.rows
        assert failed.accuracy is None and failed.seeds == 0 and failed.error == error
        assert measured.accuracy is not None and measured.error == ""
        text = (tmp_path / "comparison.md").read_text()
        assert "| softmax | failed |" in text and f"- softmax: {error}" in text
        assert all(path.is_file() for path in result.files)

        again = compare(chosen, people, ResultFile(tmp_path, resume=True))  # tries once more
        assert again.rows[0].error == "" and again.rows[0].accuracy is not None
        assert again.rows[1] == measured

    def test_processes_measure_the_same_and_can_be_stopped(self, compared, people):
        chosen, folder, _ = compared
        jobs = [each for each in plan(chosen) if each.kind == "run"][:3]
        before = ResultFile(folder, resume=True).measured([each.key(people.fingerprint) for each in jobs])
        outcomes: dict[Job, object] = {}
        with pytest.raises(Stopped):
            for each, value in finish([*jobs, *jobs, *jobs], people, 2, lambda: len(outcomes) > 1):
                outcomes[each] = value
        for each, here in outcomes.items():
            expected = before[each.key(people.fingerprint)]
            assert isinstance(here, Measurement) and isinstance(expected, Measurement)
            assert (here.accuracy, here.own_deg) == (expected.accuracy, expected.own_deg)


def test_a_table_of_nothing():
    table = rows(["arcface"], [])
    assert cells(table)[1][:2] == ["arcface", "failed"] and "| arcface | failed |" in markdown(table, "note")


class TestCommand:
    def run(self, *arguments):
        return CliRunner().invoke(app, ["compare", *map(str, arguments)])

    def test_json(self, people, tmp_path, monkeypatch):
        monkeypatch.setattr("edgeface.comparison.people.drawn_people", lambda pairs, workers: people)
        options = ["--losses", "softmax", "--seeds", 1, "--epochs", 1, "--embedding-size", 8, "--jobs", 1]
        for override in QUICK[:1] + QUICK[3:]:
            options += ["--set", override]
        result = self.run(*options, "--out", tmp_path / "o", "--json")
        assert result.exit_code == 0, result.output
        facts = json.loads(result.stdout)
        assert [row["loss"] for row in facts["rows"]] == ["softmax"]
        assert {"accuracy", "accuracy_sd", "tar", "ms_per_step", "mb_per_step", "loss_mb", "error"} <= set(
            facts["rows"][0]
        )
        assert facts["rows"][0]["accuracy_sd"] is None and len(facts["files"]) == 6

        again = self.run(*options, "--out", tmp_path / "o")
        assert again.exit_code == 1 and "holds a comparison already" in again.stderr
        resumed = self.run(*options, "--out", tmp_path / "o", "--resume", "-q")
        assert resumed.exit_code == 0 and re.search(r"softmax +\d+\.\d%", resumed.stdout)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--losses", "arcfase"], "unknown loss 'arcfase'; choose one of: "),
            (["--set", "run.seed=3"], "is set by the comparison itself"),
            (["--model", "none"], "unknown model 'none'"),
            (["--data", "/no/such/faces"], "no faces at /no/such/faces"),
        ],
    )
    def test_mistakes(self, arguments, message, tmp_path):
        result = self.run(*arguments, "--out", tmp_path)
        assert result.exit_code == 1 and message in result.stderr, result.output
