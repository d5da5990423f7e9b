"""People for the thresholds of default-edge, whom it never saw: the part `val`, and those of LFW with one picture.

    python scripts/held_out_people.py DATA OUT

A person with one picture makes pairs of two people only, and has no part in any test that needs pairs of one person.
Few pictures of the others, so that most pairs are of two people of LFW: pairs across both sets are too easy.
DATA is as runtime/bundles/DEFAULT.md says; OUT becomes identity folders for `edgeface calibrate`.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from edgeface.data import open_faces
from edgeface.data.faceset import FaceSet
from edgeface.export.people import MAX_FACES
from edgeface.files import new_folder

EACH = 4


def write(faces: FaceSet, indices: list[int], out: Path, suffix: str) -> None:
    """Write pictures as they are into a folder for each person."""
    for index in indices:
        sample = faces.samples[index]
        folder = out / (sample.identity or "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{Path(sample.key).name}{suffix}").write_bytes(faces.encoded(index))


def main() -> None:
    """Write the folder, all of it or nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="Folder with faces/ and lfw/.")
    parser.add_argument("out", type=Path, help="Folder to write.")
    options = parser.parse_args()
    held_out = open_faces(str(options.data / "faces"), split="val")
    few = [
        index
        for label in np.unique(held_out.labels)
        for index in np.flatnonzero(held_out.labels == label)[:EACH].tolist()
    ]
    lfw = open_faces(str(options.data / "lfw"))
    pictures = Counter(sample.identity for sample in lfw.samples)
    single = [index for index, sample in enumerate(lfw.samples) if pictures[sample.identity] == 1]
    single = single[:: -(-len(single) // (MAX_FACES - len(few)))]  # calibrate takes no more
    with new_folder(options.out) as folder:
        write(held_out, few, folder, ".webp")
        write(lfw, single, folder, ".jpg")
    print(f"{len(held_out.identities)} people with {len(few)} pictures, {len(single)} with one picture")


if __name__ == "__main__":
    main()
