"""Which threshold holds: it depends on the wanted error rate, on how many templates a face is held against, and on the
precisions that made the templates and the face.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgeface.errors import BundleError, ConfigError
from edgeface.manifest import Threshold
from edgeface.operating_points import ScoreTable, comparison_rate, false_positive_rate
from edgeface.runtime.bundle import Bundle
from edgeface.runtime.deciding.evidence import Evidence


@dataclass(frozen=True, slots=True)
class OperatingThreshold:
    """A score from which on a face counts as somebody, and what it promises.

    Attributes:
        cosine: accept at this score or above.
        fmr: false match rate of one comparison at it, None for a threshold that the user gave.
        templates: how many a face is held against.
        fpir: how often a stranger then finds at least one, at most; None where `fmr` is.
        tar: share of genuine comparisons that reach it on the data that it was chosen on; None if not known.
        note: why this is not the threshold that was wanted; None if it is.
        evidence: what a score says, where it was asked for and the bundle has score tables.
    """

    cosine: float
    fmr: float | None
    templates: int = 1
    fpir: float | None = None
    tar: float | None = None
    note: str | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class _Point:
    """A threshold of one pair of precisions, as `OperatingThreshold`; `pairs` is how many count as independent."""

    cosine: float
    fmr: float
    tar: float | None
    pairs: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What the faces of one precision may be held against, and with which threshold.

    Attributes:
        bundle: its name, for messages.
        probe: precision of the faces.
        stored: thresholds of the bundle for faces of this precision.
        tables: score tables, by the precision of the templates; they are asked before `stored`.
        cosine: the threshold that the user gave; then nothing else counts.
        fmr: wanted false match rate of one comparison, whatever the number of templates.
        fpir: wanted false positive rate of a search; by default the lowest rate that a stored threshold has.
    """

    bundle: str
    probe: str
    stored: tuple[Threshold, ...] = ()
    tables: Mapping[str, ScoreTable] = field(default_factory=dict)
    cosine: float | None = None
    fmr: float | None = None
    fpir: float | None = None

    def search(self, templates: Mapping[str | None, int], *, weigh: bool = False) -> OperatingThreshold:
        """Return the threshold for faces that are held against templates.

        N counts templates, not people: what several templates of one person add to the chance of a false match is
        between nothing and the full share of each, and the full share is safe. Templates of several precisions get the
        strictest of their thresholds, and so do those of which no precision is known.

        Args:
            templates: how many there are of each precision, None for those that do not say.
            weigh: say also what a score says; see `edgeface.runtime.deciding.evidence`.

        Raises:
            BundleError: there is no threshold for one of these precisions, or no score table, and `weigh`.
        """
        count = max(1, sum(templates.values()))
        if self.cosine is not None:
            return OperatingThreshold(self.cosine, None, count)
        wanted = self.fmr or comparison_rate(self.wanted_fpir, count)
        galleries = list(self._galleries(templates))
        points = [self._point(gallery, wanted) for gallery in galleries]
        strictest = max(points, key=lambda point: point.cosine)
        evidence = self._evidence(galleries[points.index(strictest)]) if weigh else None
        fmr = max(point.fmr for point in points)
        fpir = false_positive_rate(fmr, count)
        note = None
        if fmr > wanted * (1 + 1e-9):
            aim = f"{self.fmr:g}" if self.fmr else f"{wanted:.2g} ({self.wanted_fpir:g} in a search among {count})"
            pairs = min(point.pairs for point in points if point.fmr == fmr)
            note = (
                f"bundle {self.bundle} supports no false match rate below {fmr:.2g} for {self.probe}, {aim} is wanted: "
                f"its {pairs} independent impostor pairs are too few; with the strictest threshold they support, "
                f"{strictest.cosine:.4f}, at most {fpir:.2g} of looks at a stranger find somebody among {count} "
                "templates; calibrate on more people, or ask for less with --fpir"
            )
        return OperatingThreshold(strictest.cosine, fmr, count, fpir, strictest.tar, note, evidence)

    def can_weigh(self, templates: Mapping[str | None, int]) -> bool:
        """Whether `search` can say what a score says: there are scores for all templates, and no bare threshold."""
        return self.cosine is None and set(self._galleries(templates)) <= set(self.tables)

    @property
    def wanted_fpir(self) -> float:
        """The false positive rate that a search should have.

        Raises:
            BundleError: none is wanted, and the bundle has no threshold to go by.
        """
        if self.fpir is not None:
            return self.fpir
        own = [threshold for threshold in self.stored if threshold.gallery == self.probe]
        if not self.stored:
            raise self._missing(self.probe)
        return min(threshold.fmr for threshold in own or self.stored)

    def _galleries(self, templates: Mapping[str | None, int]) -> Iterable[str]:
        """Return the precisions whose thresholds count; if one is not known, all that there are."""
        named = {gallery for gallery in templates if gallery is not None}
        if None not in templates and named:
            return named
        return named | set(self.tables) | {threshold.gallery for threshold in self.stored} or {self.probe}

    def _point(self, gallery: str, fmr: float) -> _Point:
        """Return the threshold against templates of one precision whose false match rate is `fmr`, or the nearest."""
        table = self.tables.get(gallery)
        if table is not None:
            point = table.operating_point(fmr)
            return _Point(point.threshold, point.fmr, table.true_match_rate(point.threshold), table.independent)
        stored = [threshold for threshold in self.stored if threshold.gallery == gallery]
        if not stored:
            raise self._missing(gallery)
        strict = [threshold for threshold in stored if threshold.fmr <= fmr * (1 + 1e-9)]
        chosen = max(strict, key=lambda t: t.fmr) if strict else min(stored, key=lambda t: t.fmr)
        return _Point(chosen.cosine, chosen.fmr, chosen.tar, chosen.pairs)

    def _evidence(self, gallery: str) -> Evidence:
        table = self.tables.get(gallery)
        if table is None:
            raise BundleError(
                f"bundle {self.bundle} has no scores of {self.probe} against {gallery}, which adding up evidence "
                "needs; make them with `edgeface calibrate`, or use --decision votes"
            )
        return Evidence.of(table)

    def _missing(self, gallery: str) -> BundleError:
        templates = "" if gallery == self.probe else f" against templates in {gallery}"
        return BundleError(
            f"bundle {self.bundle} has no threshold for {self.probe}{templates}; measure one on labelled faces with "
            "`edgeface calibrate`, or give --threshold"
        )


def bundle_limits(
    bundle: Bundle,
    precision: str,
    *,
    cosine: float | None = None,
    fmr: float | None = None,
    fpir: float | None = None,
) -> Limits:
    """Return the thresholds of a bundle for faces of a precision; the rest is as in `Limits`.

    Raises:
        BundleError: the bundle has none for templates of any precision and `cosine` is not given, or its score tables
            cannot be read.
        ConfigError: more than one of `cosine`, `fmr` and `fpir` is given, or a rate is out of range.
    """
    given = {"--threshold": cosine, "--fmr": fmr, "--fpir": fpir}
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} each choose the threshold; give one of them")
    for option, rate in (("--fmr", fmr), ("--fpir", fpir)):
        if rate is not None and not 0 < rate < 1:
            raise ConfigError(f"{option} is a rate between 0 and 1, got {rate}; use for example 1e-2")
    name = bundle.manifest.name
    if cosine is not None:
        return Limits(name, precision, cosine=cosine)
    tables = {table.gallery: table for table in bundle.scores() if table.probe == precision}
    stored = tuple(threshold for threshold in bundle.manifest.thresholds if threshold.precision == precision)
    limits = Limits(name, precision, stored, tables, fmr=fmr, fpir=fpir)
    limits.search({})  # so that a bundle without thresholds is refused before anything is opened
    return limits
