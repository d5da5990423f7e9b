"""True and false decisions of both rules on simulated tracks of people of whom it is known who they are.

usage: bench_decisions.py BUNDLE FACES [--people N] [--strangers N] [--looks N] [--fpir RATE ...]

FACES holds aligned faces by person, as for `edgeface eval --data`; take people that the bundle's thresholds were not
measured on where there are any. One face each of N people is the gallery. A track is a series of looks at one or two
photographs of one person: each look is moved, zoomed, blurred, lit and made noisy anew, so that looks at one track
resemble each other as frames do. Everybody in the gallery comes once, and N strangers do.

For each rule and wanted FPIR: the share of tracks of known people that got their name, of those that got another one,
and of strangers that got a name, each with a 95 % interval, and the looks that a right name took. Then three votes at
the threshold at which they name as few strangers as the evidence does. Last, how much looks at one track have in
common: the intraclass correlation of the log-likelihood ratios of strangers.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.data import open_faces
from edgeface.intervals import independent_rate
from edgeface.runtime.bundle import Bundle, open_bundle
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.evidence import Evidence
from edgeface.runtime.deciding.judge import Judge
from edgeface.runtime.deciding.limits import bundle_limits
from edgeface.runtime.deciding.tracker import Track
from edgeface.runtime.embedder import bundle_embedder
from edgeface.runtime.gallery.comparison import Comparison, People

FRAME_S = 0.04


@dataclass(frozen=True, slots=True)
class SimulatedTrack:
    """The looks at one track, and who it is; None for a stranger."""

    name: str | None
    looks: tuple[Comparison, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("faces")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--strangers", type=int, default=400)
    parser.add_argument("--looks", type=int, default=8)
    parser.add_argument("--fpir", type=float, nargs="+", default=[1e-1, 1e-2])
    parser.add_argument("--harm", type=float, default=1.0, help="how bad the looks are; 1 is an ordinary camera")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = open_bundle(options.bundle)
    tracks = simulate(options, bundle)
    for fpir in options.fpir:
        limits = bundle_limits(bundle, options.precision, fpir=fpir)
        limit = limits.search({options.precision: options.people}, weigh=True)
        if limit.evidence is None:
            raise SystemExit("the bundle has no score tables")
        print(f"FPIR {fpir:g} among {options.people}: threshold {limit.cosine:.3f}, FMR {limit.fmr:.2g}")
        rules = {}
        for votes, window in ((3, 5), (2, 5), (1, 1)):
            rules[f"{votes} votes of {window}"] = DecisionSettings(
                limit.cosine, limit.fmr, votes=votes, window=window, hold=min(2, window)
            )
        for least, correlation in ((1, 0.0), (1, 0.7), (2, 0.7), (3, 0.7), (2, 0.5), (2, 1.0)):
            rules[f"llr, {least} looks, r = {correlation:g}"] = DecisionSettings(
                limit.cosine, limit.fmr, votes=least, rule="llr", evidence=limit.evidence, correlation=correlation
            )
        for name, settings in rules.items():
            print(f"  {name:20} {decided(tracks, settings)}")
        fewest = decided(tracks, rules["llr, 2 looks, r = 0.7"]).false
        print(f"  {as_strict(tracks, rules['3 votes of 5'], fewest)}")
    evidence = limits.search({options.precision: options.people}, weigh=True).evidence
    if evidence is not None:
        print(f"correlation of strangers' looks at one track: {correlation_of(tracks, evidence):.2f}")


def as_strict(tracks: Sequence[SimulatedTrack], settings: DecisionSettings, most: int) -> str:
    """Return what a rule decides at the lowest threshold at which it names at most so many strangers."""
    for threshold in np.arange(settings.threshold, 1.0, 0.005).tolist():
        raised = replace(settings, threshold=threshold)
        found = decided(tracks, raised)
        if found.false <= most:
            return f"{settings.votes} votes at {threshold:.3f}   {found}"
    raise AssertionError("no cosine reaches 1")


def simulate(options: argparse.Namespace, bundle: Bundle) -> list[SimulatedTrack]:
    """Draw people, enrol some, and look at all of them."""
    rng = np.random.default_rng(options.seed)
    faces = open_faces(options.faces)
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(faces.labels.tolist()):
        rows.setdefault(label, []).append(row)
    several = [label for label, own in rows.items() if len(own) >= 3]
    known = rng.permutation(several)[: options.people].tolist()
    others = rng.permutation([label for label in rows if label not in set(known)])[: options.strangers].tolist()
    embedder, _ = bundle_embedder(bundle, precision=options.precision, provider="cpu", threads=1)
    gallery = People(
        [str(label) for label in known], embedder.embed(faces.read_many(np.array([rows[p][0] for p in known])))
    )
    tracks = []
    for label in [*known, *others]:
        own = rows[label][1:] if label in set(known) else rows[label]
        chosen = rng.permutation(own)[:2]
        pictures = faces.read_many(chosen)
        looks = np.stack(
            [harmed(pictures[at * len(pictures) // options.looks], rng, options.harm) for at in range(options.looks)]
        )
        found = gallery.compare(embedder.embed(looks))
        tracks.append(SimulatedTrack(str(label) if label in set(known) else None, found))
    return tracks


def harmed(face: npt.NDArray[np.uint8], rng: np.random.Generator, harm: float) -> npt.NDArray[np.uint8]:
    """Return another look at an aligned face: moved, turned, zoomed, lit, blurred and made noisy."""
    size = len(face)
    matrix = cv2.getRotationMatrix2D(
        (size / 2, size / 2), rng.normal(0, 3 * harm), float(np.exp(rng.normal(0, 0.03 * harm)))
    )
    matrix[:, 2] += rng.normal(0, 1.5 * harm, 2)
    moved = cv2.warpAffine(face, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    moved = cv2.GaussianBlur(moved, (0, 0), 0.3 + abs(rng.normal(0, 0.8 * harm)))
    lit = moved * np.exp(rng.normal(0, 0.15 * harm)) + rng.normal(0, 10 * harm)
    noisy = lit + rng.normal(0, 4 * harm, face.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Decided:
    """What one rule decided: tracks by outcome, and the looks that right names took."""

    right: int
    wrong: int
    false: int
    known: int
    strangers: int
    looks: tuple[int, ...]

    def __str__(self) -> str:
        parts = [
            ("right", self.right, self.known),
            ("another name", self.wrong, self.known),
            ("strangers named", self.false, self.strangers),
        ]
        told = []
        for what, errors, trials in parts:
            rate = independent_rate(errors, trials)
            told.append(f"{what} {rate.value:.1%} ({rate.interval[0]:.1%} to {rate.interval[1]:.1%})")
        mean = f"{np.mean(self.looks):.2f}" if self.looks else "no"
        return ", ".join([*told, f"after {mean} looks"])


def decided(tracks: Sequence[SimulatedTrack], settings: DecisionSettings) -> Decided:
    """Return what one rule decides."""
    right = wrong = false = 0
    took: list[int] = []
    for track in tracks:
        judge = Judge(settings)
        names: list[str] = []
        for count, look in enumerate(track.looks, 1):
            time_s = count * FRAME_S
            judge.see(Track(1, np.zeros(4, np.float32), 0.0, time_s))
            decision = judge.look(1, look, time_s)
            if decision.is_news and decision.identity is not None:
                names.append(decision.identity)
                if names == [track.name]:
                    took.append(count)
        false += bool(names) and track.name is None
        right += track.name is not None and names == [track.name]
        wrong += track.name is not None and any(name != track.name for name in names)
    known = sum(track.name is not None for track in tracks)
    return Decided(right, wrong, false, known, len(tracks) - known, tuple(took))


def correlation_of(tracks: Sequence[SimulatedTrack], evidence: Evidence) -> float:
    """Return the intraclass correlation ICC(1) of what strangers' looks say for whom the first one is nearest."""
    table = []
    for track in tracks:
        first = track.looks[0].best
        if track.name is not None or first is None:
            continue
        row = []
        for look in track.looks:
            match = next(
                (m for m in (look.best, look.runner_up) if m is not None and m.name == first.name), look.runner_up
            )
            row.append(evidence.ratio(match.score) if match is not None else 0.0)
        table.append(row)
    values = np.array(table)
    looks = values.shape[1]
    between = looks * values.mean(axis=1).var(ddof=1)
    within = values.var(axis=1, ddof=1).mean()
    return float((between - within) / (between + (looks - 1) * within))


if __name__ == "__main__":
    main()
