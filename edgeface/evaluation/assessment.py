"""Everything that `edgeface eval` measures of a model, in one go: every item is embedded once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import UNKNOWN, Skipped, left_out
from edgeface.data.pairs import Pairs
from edgeface.data.usable import check_share, without
from edgeface.evaluation.bootstrap import Resampling, intervals
from edgeface.evaluation.comparison import ComparisonReport, agreement, find_differences, find_flips
from edgeface.evaluation.groups import GroupRates, Labels, measure_groups
from edgeface.evaluation.identification import IdentificationReport, Search, identify
from edgeface.evaluation.items import Items
from edgeface.evaluation.models import OpenModel
from edgeface.evaluation.verification import (
    OPERATING_POINTS,
    Progress,
    VerificationReport,
    rate_name,
    score_embeddings,
)
from edgeface.evaluation.weighted import MEASURES, WeightedPairs
from edgeface.intervals import Interval, Rate, clustered_rate, independent_rate, wilson
from edgeface.metrics import OperatingPoint, threshold_at_fmr


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, on what.

    Attributes:
        protocol: name of the pairs.
        items: faces or templates.
        pairs: between indices of items.
        fmr: false match rate of the threshold at which groups, mistakes and flips are looked at, in (0, 1).
        replicates: draws of the bootstrap; 0 for none.
        seed: of them.
        search: gallery and probes; None for no identification.
        labels: groups of items; None for none.
        broken: pictures that were left out because they cannot be read.
        lost_pairs: pairs that needed one of them.
    """

    protocol: str
    items: Items
    pairs: Pairs
    fmr: float = 1e-3
    replicates: int = 1000
    seed: int = 0
    search: Search | None = None
    labels: Labels | None = None
    broken: tuple[Skipped, ...] = ()
    lost_pairs: int = 0

    def usable(self) -> "Plan":
        """Decode every picture once, and return the plan without those that cannot be read and what needs them.

        Raises:
            DataError: they are too many (`edgeface.data.usable.check_share`), or too little is left.
        """
        needed = self.items.members(self.used)
        broken = self.items.faces.faults(needed)
        if not broken:
            return self
        check_share(tuple(broken.values()), len(needed), self.items.faces.name)
        items, gone = self.items.without(np.array(sorted(broken), np.int64))
        pairs = without(self.pairs, gone, left_out(broken.values()))
        return replace(
            self,
            items=items,
            pairs=pairs,
            search=None if self.search is None else self.search.without(gone),
            broken=tuple(broken.values()),
            lost_pairs=len(self.pairs) - len(pairs),
        )

    @property
    def used(self) -> npt.NDArray[np.int64]:
        """The items that must be embedded, sorted."""
        searched = [self.search.gallery, self.search.probes] if self.search else []
        return np.unique(np.concatenate([self.pairs.used, *searched]))

    @property
    def resampling(self) -> Resampling | None:
        """How the pairs are drawn again."""
        if not self.replicates:
            return None
        labels = self.items.labels
        return Resampling(
            self.pairs.same, labels[self.pairs.first], labels[self.pairs.second], self.replicates, self.seed
        )


@dataclass(frozen=True, slots=True)
class Assessment:
    """What was measured of a model.

    Attributes:
        plan: what was asked.
        model: its name; `precision` and `provider` say what ran.
        report: scores of the pairs.
        intervals: 95 % of `accuracy`, `eer`, `auc`, `d_prime` and of the TAR at each supported rate, by name; empty
            without bootstrap.
        point: the threshold for the asked false match rate.
        fmr: share of the impostor pairs that it accepts; `fnmr` that of the genuine pairs that it refuses.
        identification: None if there was no search.
        groups: empty if there were no labels.
        comparison: None if there was no other model.
    """

    plan: Plan
    model: str
    precision: str
    provider: str
    report: VerificationReport
    intervals: Mapping[str, Interval]
    point: OperatingPoint
    fmr: Rate
    fnmr: Rate
    identification: IdentificationReport | None = None
    groups: tuple[GroupRates, ...] = ()
    comparison: ComparisonReport | None = None

    def names(self, pair: int) -> tuple[str, str]:
        """Return the names of both sides of a pair."""
        items, pairs = self.plan.items, self.plan.pairs
        return items.names[pairs.first[pair]], items.names[pairs.second[pair]]

    def mistakes(self, same: bool) -> npt.NDArray[np.int64]:
        """Return the pairs that are decided wrongly at the threshold, the worst first.

        Args:
            same: false non-matches (genuine pairs refused) if true, else false matches.
        """
        scores = self.report.scores
        wrong = np.flatnonzero((self.report.same == same) & ((scores < self.point.threshold) == same))
        return wrong[np.argsort(scores[wrong] if same else -scores[wrong], kind="stable")]


def assess(
    plan: Plan, model: OpenModel, against: OpenModel | None = None, progress: Progress | None = None
) -> Assessment:
    """Measure a model, and compare it with another one if there is one.

    Raises:
        DataError: too many pictures cannot be read, an embedding is zero or not finite, or there are too few pairs.
    """
    plan = plan.usable()
    used = plan.used
    embeddings = plan.items.embed(model.embedder, used, progress)
    fitness = None if model.judge is None else plan.items.fitness(model.judge, used)
    report = score_embeddings(embeddings, used, plan.pairs, model.scoring, fitness)
    point = threshold_at_fmr(report.scores[~report.same], plan.fmr)
    rates = [rate for rate in OPERATING_POINTS if rate_name(rate) in report.tar]
    names = (*MEASURES, *(rate_name(rate) for rate in rates))
    found: dict[str, Interval] = {}
    if plan.resampling:
        weighted = WeightedPairs(report.scores, report.same, report.correct, rates)
        found = dict(zip(names, intervals(weighted.measure, plan.resampling), strict=True))
        found |= _faultless(plan, report)
    fmr, fnmr = _error_rates(plan, report, point.threshold)
    return Assessment(
        plan=plan,
        model=model.name,
        precision=model.precision,
        provider=model.provider,
        report=report,
        intervals=found,
        point=point,
        fmr=fmr,
        fnmr=fnmr,
        identification=_identify(plan, model, embeddings, fitness, used),
        groups=_groups(plan, model, embeddings, fitness, used, report, point),
        comparison=_compare(plan, model, embeddings, report, point, against, rates, progress) if against else None,
    )


def _faultless(plan: Plan, report: VerificationReport) -> dict[str, Interval]:
    """Return Wilson's interval for each share that is 0 or 1: no draw has an error that the pairs do not have.

    Where people are known, all pairs of a person count as one trial, as in `clustered_rate`.
    """
    people = plan.items.labels[plan.pairs.first]

    def trials(kind: npt.NDArray[np.bool_]) -> int:
        return int(kind.sum()) if np.any(people[kind] == UNKNOWN) else len(np.unique(people[kind]))

    genuine = trials(report.same)
    shares = {name: (tar, genuine) for name, tar in report.tar.items()}
    shares["eer"] = (report.eer, min(genuine, trials(~report.same)))
    shares["accuracy"] = (report.accuracy, trials(np.ones(len(report.same), bool)))
    return {name: wilson(share, count) for name, (share, count) in shares.items() if share in (0, 1)}


def _error_rates(plan: Plan, report: VerificationReport, threshold: float) -> tuple[Rate, Rate]:
    """Return FMR and FNMR on the pairs of the list."""
    wrong = (report.scores >= threshold) != report.same
    sides = np.stack([plan.items.labels[plan.pairs.first], plan.items.labels[plan.pairs.second]])
    rates = []
    for kind, people in ((~report.same, sides), (report.same, sides[:1])):
        if np.any(people[:, kind] == UNKNOWN):
            rates.append(independent_rate(int(wrong[kind].sum()), int(kind.sum())))
            continue
        numbers = np.unique(people[:, kind], return_inverse=True)[1].ravel()
        errors = np.bincount(numbers, weights=np.tile(wrong[kind], len(people))).astype(np.int64)
        rates.append(clustered_rate(errors, np.bincount(numbers), people_a_trial=len(people)))
    return rates[0], rates[1]


def _identify(
    plan: Plan,
    model: OpenModel,
    embeddings: npt.NDArray[np.float32],
    fitness: npt.NDArray[np.float32] | None,
    used: npt.NDArray[np.int64],
) -> IdentificationReport | None:
    if plan.search is None:
        return None
    enrolled, looked = (np.searchsorted(used, side) for side in (plan.search.gallery, plan.search.probes))
    known = (None, None) if fitness is None else (fitness[enrolled], fitness[looked])
    gallery = model.scoring.templates(embeddings[enrolled], fitness=known[0])
    probes = model.scoring.probes(embeddings[looked], known[1])
    return identify(gallery, probes, plan.search)


def _groups(
    plan: Plan,
    model: OpenModel,
    embeddings: npt.NDArray[np.float32],
    fitness: npt.NDArray[np.float32] | None,
    used: npt.NDArray[np.int64],
    report: VerificationReport,
    point: OperatingPoint,
) -> tuple[GroupRates, ...]:
    if plan.labels is None:
        return ()
    compared = plan.pairs.used  # not what only the search needs: asking for one should change no other number
    place = np.searchsorted(used, compared)
    known = None if fitness is None else fitness[place]
    sides = model.scoring.probes(embeddings[place], known), model.scoring.templates(embeddings[place], fitness=known)
    people = plan.items.labels[compared]
    return measure_groups(plan.labels, sides, compared, people, plan.pairs, report.scores, point.threshold, point.fmr)


def _compare(
    plan: Plan,
    model: OpenModel,
    embeddings: npt.NDArray[np.float32],
    report: VerificationReport,
    point: OperatingPoint,
    against: OpenModel,
    rates: list[float],
    progress: Progress | None,
) -> ComparisonReport:
    used = plan.used
    others = plan.items.embed(against.embedder, used, progress)
    fitness = None if against.judge is None else plan.items.fitness(against.judge, used)
    other = score_embeddings(others, used, plan.pairs, against.scoring, fitness)
    other_point = threshold_at_fmr(other.scores[~other.same], plan.fmr)
    names = plan.items.names
    sides = [(names[a], names[b]) for a, b in zip(plan.pairs.first, plan.pairs.second, strict=True)]
    shared = model.space != "" and model.space == against.space
    return ComparisonReport(
        name=against.name,
        precision=against.precision,
        provider=against.provider,
        report=other,
        point=other_point,
        differences=find_differences(report, other, rates, plan.resampling),
        flips=find_flips(sides, report, point.threshold, other, other_point.threshold),
        agreement=agreement(embeddings, others, [names[i] for i in used]) if shared else None,
    )
