"""What a bundle's thresholds do to faces under the conditions of a door, with its cohort and by cosine.

    python scripts/measure_drift.py BUNDLE LFW [--cosine-threshold 0.68] [--conditions clean,mask]

300 people of LFW with two pictures or more, two each; every first picture against every second: 300 pairs of one
person, 89 700 of two. A row says of a condition what share of them is accepted, with both sides under it and the probe
alone. By cosine the threshold is the one that accepts as many clean pairs of one person as the bundle's does, unless
given.
"""

import argparse
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgeface.conditions.battery import BATTERY, CLEAN, degrade
from edgeface.data import open_faces
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import bundle_embedder
from edgeface.scoring import COSINE, Scoring

PEOPLE, DRAW, SEED = 300, 5, 3

Floats = npt.NDArray[np.float32]
Shares = tuple[float, float, float, float]
"""Of pairs of one person and of two that are accepted: both sides under the condition, then the probe alone."""


def read_people(lfw: str) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return 2 x 300 faces, first all first pictures, and their keys."""
    faces = open_faces(lfw)
    pictures: dict[str, list[int]] = {}
    for index, sample in enumerate(faces.samples):
        pictures.setdefault(sample.identity or "", []).append(index)
    several = sorted(name for name, own in pictures.items() if len(own) > 1)
    chosen = [several[place] for place in np.random.default_rng(DRAW).permutation(len(several))[:PEOPLE]]
    order = [pictures[name][turn] for turn in (0, 1) for name in chosen]
    return faces.read_many(order), [faces.samples[index].key for index in order]


def measure(embeddings: Mapping[str, Floats], scoring: Scoring, threshold: float) -> dict[str, Shares]:
    """Return what a threshold accepts, by condition; `embeddings` has (600, D) of each, the clean ones among them."""
    enrolled = scoring.templates(embeddings[CLEAN][:PEOPLE])
    found = {}
    for name, own in embeddings.items():
        probes = scoring.probes(own[PEOPLE:])
        shares: list[float] = []
        for templates in (scoring.templates(own[:PEOPLE]), enrolled):
            accepted = templates @ probes.T >= threshold
            same = float(np.diag(accepted).mean())
            shares += [same, float((accepted.sum() - np.diag(accepted).sum()) / (PEOPLE * (PEOPLE - 1)))]
        found[name] = (shares[0], shares[1], shares[2], shares[3])
    return found


def equal_threshold(embeddings: Floats, scoring: Scoring, threshold: float) -> float:
    """Return the cosine that as many clean pairs of one person reach as reach a threshold."""
    first, second = embeddings[:PEOPLE], embeddings[PEOPLE:]
    accepted = int((scoring.pairs(first, second) >= threshold).sum())
    return float(np.sort(COSINE.pairs(first, second))[::-1][max(0, accepted - 1)])


def show(name: str, shares: Shares) -> str:
    """Write a cell: TAR / FMR in percent, both sides and the probe alone."""
    both, one = (f"{100 * shares[at]:.0f} / {100 * shares[at + 1]:.2f}" for at in (0, 2))
    return f"{both} | {one}"


def print_table(embeddings: Mapping[str, Floats], scoring: Scoring, threshold: float, cosine: float) -> None:
    """Print the rows of all conditions."""
    new, old = measure(embeddings, scoring, threshold), measure(embeddings, COSINE, cosine)
    print(f"threshold {threshold:.4f} ({scoring.word}) and {cosine:.4f} (cosine); TAR / FMR in %\n")
    print(f"| condition | both sides, {scoring.word} | probe alone | both sides, cosine | probe alone |")
    print("|---|---|---|---|---|")
    for name in embeddings:
        print(f"| {name} | {show(name, new[name])} | {show(name, old[name])} |")


def main() -> None:
    """Embed all faces under each condition, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("lfw")
    parser.add_argument("--cosine-threshold", type=float)
    parser.add_argument("--conditions", default=",".join(BATTERY))
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    embedder, precision = bundle_embedder(bundle, provider="cpu")
    faces, keys = read_people(options.lfw)
    embeddings = {}
    for name in dict.fromkeys([CLEAN, *options.conditions.split(",")]):
        changed = [degrade(face, name, key, SEED) for face, key in zip(faces, keys, strict=True)]
        embeddings[name] = embedder.embed(np.stack(changed))
    scoring, threshold = bundle.scoring(), bundle.manifest.threshold_for(precision, 1e-3).cosine
    cosine = options.cosine_threshold
    if cosine is None:
        cosine = equal_threshold(embeddings[CLEAN], scoring, threshold)
    print_table(embeddings, scoring, threshold, cosine)


if __name__ == "__main__":
    main()
