"""Are six faces faster in one run than one by one? Each precision of a bundle, side by side in one race.

    python scripts/bench_batch.py my.bundle --threads 1 --provider cpu

Asked for: 1.3 times as fast. Prints the ratio for each precision, and where it is less, why.
"""

import argparse

from edgeface.runtime.batches import FACES, WORTH, race_batches
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import bundle_embedder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    embedders = {
        precision: bundle_embedder(bundle, precision=precision, provider=options.provider, threads=options.threads)[0]
        for precision in bundle.manifest.precisions
    }
    print(f"{FACES} faces in one run against one by one, {options.threads} threads, {options.rounds} rounds")
    for gain in race_batches(embedders, options.rounds):
        print(f"{'reached' if gain.ratio >= WORTH else 'missed'} {WORTH}: {gain}")


if __name__ == "__main__":
    main()
