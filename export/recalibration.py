"""New thresholds for a bundle, measured on the faces of those who use it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.errors import BundleError, ConfigError, DataError
from edgeface.evaluation.verification import FaceEmbedder
from edgeface.export.alike import alike
from edgeface.export.assembly import assemble, list_files
from edgeface.export.people import People
from edgeface.export.report.effects import Effect, measure_effects
from edgeface.export.strangers import NewCohort
from edgeface.export.thresholds import PairScores, PrecisionPair, Scored, precision_pairs, tabulate
from edgeface.files import new_folder, write_bytes
from edgeface.intervals import pairs_needed, people_needed
from edgeface.manifest import MANIFEST_NAME, Manifest, ThresholdData
from edgeface.metrics import RULE_OF_THREE
from edgeface.operating_points import MIN_COMPARISONS
from edgeface.runtime.bundle import SHIPPED, Bundle, bundle_scoring
from edgeface.runtime.canary import with_canaries
from edgeface.runtime.packing import zip_files
from edgeface.scoring import Scoring

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Suspect:
    """Two names that may be one person: the score of their most similar faces is that of one person's."""

    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True)
class Recalibration:
    """A bundle's new thresholds.

    Attributes:
        manifest: of the new bundle.
        before: what the old thresholds do to these faces.
        after: what the new ones do.
        suspects: names that may be one person, the most similar first.
        files: what changes in the bundle, by name; the rest is taken over.
    """

    manifest: Manifest
    before: tuple[Effect, ...]
    after: tuple[Effect, ...]
    suspects: tuple[Suspect, ...]
    files: Mapping[str, bytes]


def check_people(people: int, rates: Sequence[float], name: str, *, only_alike: bool = False) -> None:
    """Refuse false match rates that so many people do not support.

    All pictures are compared with all, but those of the same two people resemble each other: by the rule of three, a
    rate needs 3 / rate pairs of *people*. Where only those who are alike count, every second pair does.

    Raises:
        DataError: there are too few people.
    """
    pairs = people * (people - 1) // (4 if only_alike else 2)
    rate = min(rates)
    needed = max(MIN_COMPARISONS, pairs_needed(rate))
    if pairs >= needed:
        return
    enough = people_needed(2 * needed if only_alike else needed)
    advice = "give more people"
    if pairs >= MIN_COMPARISONS:
        advice += f", or ask for --fmr {_rounded_up(RULE_OF_THREE / pairs):g}"
    raise DataError(
        f"{people} people in {name} are too few for a false match rate of {rate:g}: that needs {needed} pairs of two "
        f"people, which takes {enough} people, and there are {pairs}; {advice}"
    )


def recalibrate(
    bundle: Bundle,
    embedders: Mapping[str, FaceEmbedder],
    people: People,
    name: str,
    rates: Sequence[float],
    step: Step = lambda _: None,
    *,
    cohort: NewCohort | None = None,
    plain: bool = False,
    only_alike: bool = False,
    allowance: float | None = None,
) -> Recalibration:
    """Choose the thresholds of a bundle anew, for each pair of its precisions; nothing is written.

    Its canaries are those of the networks as they answer here, which is where the thresholds hold.

    Args:
        bundle: whose thresholds.
        embedders: its networks, one for each of its precisions.
        people: to choose them on.
        name: what to call these.
        rates: false match rates.
        step: told what is going on.
        cohort: to put into the bundle; None keeps the one that it has.
        plain: take its cohort out instead, so that scores are cosines.
        only_alike: of pairs of two people, only those of people who are alike count; see `edgeface.export.alike`.
        allowance: what faces lose of their scores for each unit of fitness that they lack to be templates; None keeps
            what the bundle has.

    Raises:
        BundleError: its cohort cannot be read, or `allowance` needs a cohort or a quality network that it lacks.
        DataError: there are too few people for these rates, or nobody has two faces.
    """
    check_people(len(people.names), rates, name, only_alike=only_alike)
    first, second = np.triu_indices(len(people.labels), 1)
    same = people.labels[first] == people.labels[second]
    if not same.any():
        raise DataError(f"nobody in {name} has two pictures that can be used; give at least two of some people")
    embeddings = {}
    for precision, embedder in embedders.items():
        step(f"{precision}: embedding {len(people.faces)} faces")
        embeddings[precision] = embedder.embed(people.faces)
    old = bundle.scoring()
    described = _with_allowance(_with_cohort(bundle.manifest, cohort, plain), allowance)
    new = bundle_scoring(described, (cohort.scoring if cohort else old).cohort)
    count = len(people.names)
    strangers = ~np.eye(count, dtype=bool)
    if only_alike:
        strangers = alike(embeddings[bundle.manifest.baseline], people.labels)
    impostor = strangers[people.labels[first], people.labels[second]]
    data = ThresholdData(
        name=name,
        sha256=people.sha256,
        people=count,
        faces=len(people.faces),
        genuine=int(same.sum()),
        impostors=int(impostor.sum()),
        independent=int(strangers.sum()) // 2,
        only_alike=only_alike,
    )
    # Two pairs with a face in common are not independent: of n faces of a person, n // 2 pairs are.
    disjoint = int((np.bincount(people.labels) // 2).sum())

    def score(scoring: Scoring) -> Scored:
        scores: dict[PrecisionPair, PairScores] = {}
        for gallery, probe in precision_pairs(embedders):
            templates = scoring.templates(embeddings[gallery], fitness=people.fitness)
            matrix = templates @ scoring.probes(embeddings[probe], people.fitness).T
            found = np.clip(matrix[first, second], -1.0, 1.0)
            scores[gallery, probe] = PairScores(found[impostor], found[same])
        return tabulate(scores, data, rates, disjoint=disjoint, scoring=scoring.kind)

    scored = score(new)
    manifest, files = assemble(with_canaries(described, embedders), scored, rates)
    if cohort is not None and not plain:
        files[cohort.entry.file] = cohort.data
    before = measure_effects(bundle.manifest.thresholds, scored if new == old else score(old))
    own = scored.scores[bundle.manifest.baseline, bundle.manifest.baseline]
    suspects = _suspects(people, first[impostor], second[impostor], own)
    return Recalibration(manifest, before, measure_effects(manifest.thresholds, scored), suspects, files)


def check_place(bundle: Bundle, out: Path | None) -> None:
    """Refuse to replace a bundle of the installed package.

    Raises:
        BundleError: that was asked.
    """
    if out is None and bundle.path in SHIPPED.values():
        raise BundleError(f"bundle {bundle.path} belongs to the installed package; give a new one with --out")


def write_recalibrated(bundle: Bundle, result: Recalibration, out: Path | None) -> Path:
    """Write the bundle with its new thresholds: all of it or nothing, and never with the old signature.

    Args:
        bundle: the old one.
        result: its new thresholds.
        out: folder, or a zip if it ends in `.zip`; None replaces the old one where it lies.

    Returns:
        Where the new bundle lies.

    Raises:
        BundleError: `out` is something else than a bundle, or files would be lost that the manifest does not list.
        ConfigError: it cannot be written.
    """
    check_place(bundle, out)
    target = bundle.path.resolve() if out is None else out  # a link to a bundle stays a link
    is_zip = not target.is_dir() if out is None else out.suffix == ".zip"
    if out is None and bundle.unlisted():
        raise BundleError(
            f"bundle {bundle.path} also has {', '.join(bundle.unlisted())}, which its manifest does not list and "
            "replacing it would lose; move that elsewhere, or give --out"
        )
    if not is_zip and target.exists() and not (target / MANIFEST_NAME).is_file():
        raise BundleError(f"{target} exists and is not a bundle; choose another --out")
    kept = {name: bundle.read(name) for name in result.manifest.files if name not in result.files}
    files = {MANIFEST_NAME: result.manifest.to_json()} | kept | dict(result.files)
    try:
        if is_zip:
            write_bytes(target, zip_files(dict(sorted(files.items()))))
        else:
            with new_folder(target) as folder:
                for name, data in files.items():
                    (folder / name).write_bytes(data)
    except OSError as error:
        raise ConfigError(f"bundle {target} cannot be written: {error.strerror}; give another --out") from error
    return target


def _with_cohort(manifest: Manifest, cohort: NewCohort | None, plain: bool) -> Manifest:
    """Return the manifest with a new cohort listed, as it is if there is none, or without any."""
    if cohort is None and not plain:
        return manifest
    old = manifest.cohort.file if manifest.cohort is not None else None
    files = {name: entry for name, entry in manifest.files.items() if name != old}
    if cohort is None or plain:
        return manifest.model_copy(update={"cohort": None, "files": files})
    files |= list_files({cohort.entry.file: cohort.data})
    return manifest.model_copy(update={"cohort": cohort.entry, "files": files})


def _with_allowance(manifest: Manifest, allowance: float | None) -> Manifest:
    """Return the manifest with another allowance for fitness; without a cohort there is none."""
    quality = manifest.quality
    if allowance and (quality is None or manifest.cohort is None):
        lacking = "quality network" if quality is None else "cohort"
        raise BundleError(f"an allowance for fitness needs a quality network and a cohort, and there is no {lacking}")
    if quality is None:
        return manifest
    if manifest.cohort is None:
        allowance = 0.0
    elif allowance is None:
        return manifest
    return manifest.model_copy(update={"quality": quality.model_copy(update={"allowance": allowance})})


def _rounded_up(rate: float) -> float:
    """Return the next rate of two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return math.ceil(rate / unit - 1e-9) * unit


def _suspects(
    people: People, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp], scores: PairScores
) -> tuple[Suspect, ...]:
    """Return names whose most similar faces are as similar as the median two of one person."""
    alike = np.flatnonzero(scores.impostor >= np.median(scores.genuine))
    best: dict[tuple[str, str], float] = {}
    for row in alike[np.argsort(-scores.impostor[alike], kind="stable")].tolist():
        names = sorted((people.names[people.labels[first[row]]], people.names[people.labels[second[row]]]))
        best.setdefault((names[0], names[1]), float(scores.impostor[row]))
    return tuple(Suspect(*names, score) for names, score in best.items())
