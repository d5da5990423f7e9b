"""How many photographs that hang wrong, or show half a face, would be enrolled without a word.

    python scripts/count_misplaced.py BUNDLE PHOTOGRAPHS [--most 66]

PHOTOGRAPHS is a tar file or a folder. Portraits are those with one face, not narrower than 60 px, that may be enrolled
as they are. Each is turned by 90, 180 and 270 degrees, and cut through the middle of the face: left, right, above and
below. Of what becomes of it, a row says: refused or no face found; enrolled upright, as its score with the portrait
shows; enrolled without a word. For half faces that is all that are enrolled.
"""

import argparse
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.errors import ImageError, NoFaceError
from edgeface.images import decode_photograph
from edgeface.runtime.recognizer import Recognizer, open_recognizer

LEAST_WIDTH_PX = 60.0

Image = npt.NDArray[np.uint8]


def photographs(place: Path) -> Iterator[Image]:
    """Give the pictures of a tar file or folder, by name."""
    if place.is_dir():
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            yield decode_photograph(path.read_bytes(), path.name).image
        return
    with tarfile.open(place) as archive:
        for member in sorted(archive.getmembers(), key=lambda one: one.name):
            if (file := archive.extractfile(member)) is not None:
                yield decode_photograph(file.read(), member.name).image


def halves(image: Image, box: npt.NDArray[np.floating]) -> dict[str, Image]:
    """Return what is left of a picture whose edge goes through the middle of a face, (4,) x, y, width, height."""
    middle_x, middle_y = int(box[0] + box[2] / 2), int(box[1] + box[3] / 2)
    parts = {
        "left half": image[:, :middle_x],
        "right half": image[:, middle_x:],
        "upper half": image[:middle_y],
        "lower half": image[middle_y:],
    }
    return {name: np.ascontiguousarray(part) for name, part in parts.items()}


def enrolled(recognizer: Recognizer, image: Image) -> npt.NDArray[np.float32] | None:
    """Return the (1, D) embedding that would be enrolled; None if the picture is refused."""
    if min(image.shape[:2]) < 1:
        return None
    try:
        taken = recognizer.take(image, "picture", largest=True)
    except NoFaceError:
        return None
    refused = recognizer.gate.refuses(taken.quality, template=True)
    return None if refused else recognizer.embed_face(taken.face)[None]


def main() -> None:
    """Count, and print a row for each kind of picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--most", type=int, default=66, help="Portraits to take.")
    options = parser.parse_args()
    recognizer = open_recognizer(options.bundle, provider="cpu")
    counts: dict[str, Counter[str]] = {}
    portraits = 0
    for image in photographs(options.photographs):
        if portraits == options.most:
            break
        try:
            found = recognizer.detector.detect(image)
        except ImageError:
            continue
        if len(found) != 1 or found.boxes[0, 2] < LEAST_WIDTH_PX or (own := enrolled(recognizer, image)) is None:
            continue
        portraits += 1
        for turn_deg in (90, 180, 270):
            said = "refused"
            if (anew := enrolled(recognizer, np.ascontiguousarray(np.rot90(image, -turn_deg // 90)))) is not None:
                alike = recognizer.scoring.pairs(own, anew)[0] >= recognizer.threshold.cosine
                said = "upright" if alike else "without a word"
            counts.setdefault(f"turned by {turn_deg}°", Counter())[said] += 1
        for name, part in halves(image, found.boxes[0]).items():
            said = "refused" if enrolled(recognizer, part) is None else "without a word"
            counts.setdefault(name, Counter())[said] += 1
    columns = ("refused", "upright", "without a word")
    print(f"{portraits} portraits\n\n| picture | {' | '.join(columns)} |\n|---|---|---|---|")
    for name, rows in counts.items():
        print(f"| {name} | {' | '.join(str(rows[column]) for column in columns)} |")


if __name__ == "__main__":
    main()
