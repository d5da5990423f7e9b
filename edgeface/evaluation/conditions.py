"""What a bundle's stated false match rate is worth at a door: the battery, at the thresholds that ship."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.conditions.battery import BATTERY, CLEAN, degrade
from edgeface.data.faceset import UNKNOWN, FaceSet
from edgeface.errors import DataError, UnknownNameError
from edgeface.evaluation.verification import FaceEmbedder
from edgeface.intervals import Interval
from edgeface.metrics import RULE_OF_THREE
from edgeface.runtime.deciding.gate import Gate
from edgeface.runtime.deciding.quality import unfit
from edgeface.scoring import Scoring

MAX_PEOPLE: Final = 300
"""More are not taken: 300 people are 89 700 impostor comparisons."""
BATCH: Final = 64

Faces = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Rates:
    """What is accepted under one condition, of the comparisons whose faces the gate lets through.

    Attributes:
        genuine: comparisons of one person with a picture of themselves.
        impostors: comparisons of two people.
        tar: share of the genuine ones that is accepted; None where there is none.
        tar_interval: 95 % of it.
        fmr: share of the impostors that is accepted; None where there is none.
        fmr_interval: 95 % of it.
    """

    genuine: int
    impostors: int
    tar: float | None
    tar_interval: Interval | None
    fmr: float | None
    fmr_interval: Interval | None


@dataclass(frozen=True, slots=True)
class ConditionRates:
    """What one condition does.

    Attributes:
        name: key of the battery.
        title: the same in words.
        refused: share of the faces that the gate does not let through to be compared.
        no_template: share of the faces that it does not let become a template.
        both: templates and probes under the condition.
        probe: probes under the condition, templates as they are.
    """

    name: str
    title: str
    refused: float
    no_template: float
    both: Rates
    probe: Rates


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """All conditions.

    Attributes:
        people: each with a template and a probe.
        threshold: that is in use.
        fmr: what is promised of it; None for a threshold that the user gave.
        gated: whether there is a quality network that refuses faces.
        rows: a condition each.
    """

    people: int
    threshold: float
    fmr: float | None
    gated: bool
    rows: tuple[ConditionRates, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "people": self.people,
            "threshold": self.threshold,
            "promised_fmr": self.fmr,
            "gated": self.gated,
            "conditions": [
                {
                    "name": row.name,
                    "title": row.title,
                    "refused": row.refused,
                    "no_template": row.no_template,
                    "both": _plain(row.both),
                    "probe": _plain(row.probe),
                }
                for row in self.rows
            ],
        }

    def to_csv(self) -> str:
        """Return the same as CSV, a line for each condition and side."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            ["condition", "side", "refused", "no_template", *_plain(self.rows[0].both)] if self.rows else []
        )
        for row in self.rows:
            for side, rates in (("both", row.both), ("probe", row.probe)):
                values = [_cell(value) for value in _plain(rates).values()]
                writer.writerow([row.name, side, row.refused, row.no_template, *values])
        return out.getvalue()


def check_conditions(names: Sequence[str]) -> tuple[str, ...]:
    """Return the conditions that were asked for, `all` for the whole battery; the faces as they are always come first.

    Raises:
        UnknownNameError: there is no such condition.
    """
    for name in names:
        if name not in BATTERY and name != "all":
            raise UnknownNameError("condition", name, (*BATTERY, "all"))
    wanted = tuple(BATTERY) if "all" in names else names
    return tuple(dict.fromkeys((CLEAN, *wanted)))


def assess_conditions(
    faces: FaceSet,
    embedder: FaceEmbedder,
    scoring: Scoring,
    threshold: tuple[float, float | None],
    gate: Gate,
    *,
    names: Sequence[str] = tuple(BATTERY),
    people: int = MAX_PEOPLE,
    replicates: int = 1000,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> ConditionReport:
    """Put two pictures of each person under each condition, and compare everybody with everybody.

    Args:
        faces: aligned, labelled.
        embedder: of the bundle.
        scoring: likewise.
        threshold: that is in use, and the false match rate that it promises.
        gate: refuses faces; only what its quality network says counts here, as crops tell nothing of size and pose.
        names: from `check_conditions`.
        people: at most so many, drawn at random.
        replicates: draws of the bootstrap over people; 0 gives no intervals.
        seed: of people, conditions and draws.
        progress: told how many of how many conditions are done.

    Raises:
        DataError: fewer than two people have two pictures, or one of them cannot be read.
    """
    templates, probes = _two_each(faces, people, seed)
    sides = [(faces.read_many(rows), [faces.samples[row].key for row in rows]) for rows in (templates, probes)]
    draws = np.random.default_rng((seed, 1)).poisson(1, (replicates, len(templates))).astype(np.float64)
    clean: _Side | None = None
    rows = []
    for done, name in enumerate(names):
        seen = [
            _look(np.stack([degrade(f, name, key, seed) for f, key in zip(*side, strict=True)]), embedder, gate)
            for side in sides
        ]
        clean = clean or seen[0]
        both = (seen[0], seen[1])
        rows.append(
            ConditionRates(
                name=name,
                title=BATTERY[name].title,
                refused=float(np.mean([side.refused for side in seen])),
                no_template=float(np.mean([side.no_template for side in seen])),
                both=_rates(both, scoring, threshold[0], draws, template=False),
                probe=_rates((clean, seen[1]), scoring, threshold[0], draws, template=True),
            )
        )
        progress(done + 1, len(names))
    return ConditionReport(len(templates), *threshold, gate.network is not None, tuple(rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    embeddings: npt.NDArray[np.float32]
    fitness: npt.NDArray[np.float32] | None
    refused: npt.NDArray[np.bool_]
    no_template: npt.NDArray[np.bool_]


def _look(faces: Faces, embedder: FaceEmbedder, gate: Gate) -> _Side:
    embeddings = [embedder.embed(faces[start : start + BATCH]) for start in range(0, len(faces), BATCH)]
    refused = no_template = np.zeros(len(faces), bool)
    scores = None
    if gate.network is not None:
        said = gate.network.judge(faces)
        refused = np.array([unfit(fitness, gate.compare) is not None for fitness in said])
        no_template = np.array([unfit(fitness, gate.enrol) is not None for fitness in said])
        scores = np.array([fitness.score for fitness in said], np.float32)
    return _Side(np.concatenate(embeddings), scores, refused, no_template)


def _rates(
    sides: tuple[_Side, _Side], scoring: Scoring, threshold: float, draws: npt.NDArray[np.float64], *, template: bool
) -> Rates:
    """Compare each template with each probe; `template` asks of the templates what enrolment asks."""
    first, second = sides
    let_in = ~(first.no_template if template else first.refused)
    templates = scoring.templates(first.embeddings, fitness=first.fitness)
    scores = templates @ scoring.probes(second.embeddings, second.fitness).T
    accepted, compared = scores >= threshold, let_in[:, None] & ~second.refused[None, :]
    own = np.eye(len(scores), dtype=bool)
    counts = [float((compared & kind).sum()) for kind in (own, ~own)]
    tar, fmr = (
        (accepted & compared & kind).sum() / count if count else None
        for kind, count in zip((own, ~own), counts, strict=True)
    )
    tar_interval = fmr_interval = None
    if len(draws) and tar is not None:
        weights = draws * np.diagonal(compared)
        tar_interval = _interval(weights @ np.diagonal(accepted), weights.sum(axis=1), tar, None)
    if len(draws) and fmr is not None:
        pairs = (compared & ~own).astype(np.float64)
        total = np.einsum("bi,bi->b", draws @ pairs, draws)
        hits = np.einsum("bi,bi->b", draws @ (pairs * accepted), draws)
        # Only pairs of people are independent of one another, not both directions of each.
        fmr_interval = _interval(hits, total, fmr, min(1.0, RULE_OF_THREE / max(counts[1] / 2, 1)))
    return Rates(int(counts[0]), int(counts[1]), tar, tar_interval, fmr, fmr_interval)


def _interval(
    hits: npt.NDArray[np.float64], total: npt.NDArray[np.float64], rate: float, least_high: float | None
) -> Interval:
    drawn = hits[total > 0] / total[total > 0]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (0.0, 1.0)
    if rate == 0 and least_high is not None:
        high = max(high, least_high)
    return min(float(low), rate), max(float(high), rate)


def _two_each(faces: FaceSet, people: int, seed: int) -> tuple[list[int], list[int]]:
    """Return a template and a probe of each person who has two pictures, of at most `people` drawn at random."""
    rng = np.random.default_rng(seed)
    labels, counts = np.unique(faces.labels[faces.labels != UNKNOWN], return_counts=True)
    chosen = rng.permutation(labels[counts >= 2])[:people]
    if len(chosen) < 2:
        raise DataError(
            f"{len(chosen)} people in {faces.name} have two pictures, and it takes two such people; give labelled "
            "faces, IDENTITY/PICTURE.jpg"
        )
    pairs = [rng.permutation(np.flatnonzero(faces.labels == label))[:2].tolist() for label in chosen]
    return [first for first, _ in pairs], [second for _, second in pairs]


def _plain(rates: Rates) -> dict[str, Any]:
    return {
        "genuine": rates.genuine,
        "impostors": rates.impostors,
        "tar": rates.tar,
        "tar_interval": None if rates.tar_interval is None else list(rates.tar_interval),
        "fmr": rates.fmr,
        "fmr_interval": None if rates.fmr_interval is None else list(rates.fmr_interval),
    }


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
