"""How many photographs that hang wrong, or show half a face, would be enrolled without a word.

    python scripts/count_misplaced.py BUNDLE PHOTOGRAPHS [--most 66]

PHOTOGRAPHS is a tar file or a folder. Portraits are those with one face, not narrower than 60 px, that may be enrolled
as they are. Each is turned by 90, 180 and 270 degrees, and cut through the middle of the face: left, right, above and
below. Of what becomes of it, a row says: refused or no face found; turned upright, so enrolled as it should be;
enrolled without a word. For half faces that is all that are enrolled.
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


def enrolled(recognizer: Recognizer, image: Image) -> int | None:
    """Return by how much a picture was turned before its face was enrolled; None if it was refused."""
    try:
        taken = recognizer.take(image, "picture", largest=True)
    except NoFaceError:
        return None
    return None if recognizer.gate.refuses(taken.quality, template=True) else taken.turned_deg


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
        if len(found) != 1 or found.boxes[0, 2] < LEAST_WIDTH_PX or enrolled(recognizer, image) != 0:
            continue
        portraits += 1
        for turn_deg in (90, 180, 270):
            back = enrolled(recognizer, np.ascontiguousarray(np.rot90(image, -turn_deg // 90)))
            said = "refused" if back is None else "turned upright" if back == turn_deg else "without a word"
            counts.setdefault(f"turned by {turn_deg}°", Counter())[said] += 1
        for name, part in halves(image, found.boxes[0]).items():
            said = "refused" if min(part.shape[:2]) < 1 or enrolled(recognizer, part) is None else "without a word"
            counts.setdefault(name, Counter())[said] += 1
    print(f"{portraits} portraits\n\n| picture | refused | turned upright | without a word |\n|---|---|---|---|")
    for name, own in counts.items():
        print(
            f"| {name} | "
            + " | ".join(str(own[said]) for said in ("refused", "turned upright", "without a word"))
            + " |"
        )


if __name__ == "__main__":
    main()
