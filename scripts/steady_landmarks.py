"""Give the labels of a detection folder steadier landmarks: the mean of what their labeller says of moved copies.

python scripts/steady_landmarks.py --data DIR --detector yunet.onnx --out NEW --copies train=16,val=24

A detector's landmarks tremble as a face moves by a pixel or is shown larger. Each sure face is cut out 16 times or so
at another size, angle and place, every second time mirrored; the mean of what is found there is steadier, and no eye is
favoured. The labeller places landmarks a little otherwise on such cut-outs than on the whole picture; what all
faces of the train split have in common of that, as seen from the eyes, is put back. `detect.jsonl` is written anew, the
pictures are linked.
"""

import argparse
import json
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.data.detection import LABELS, SURE_SCORE, Labelled, open_detection_set
from edgeface.files import write_text
from edgeface.runtime.detection.detector import Detector, open_detector
from edgeface.training.detection.geometry import MIRRORED, move_landmarks, placement

SIDE: Final = 192
"""Cut-outs are that wide and high, in pixels, ..."""

FACES: Final = (80.0, 130.0)
"""... the faces in them this long."""

FEWEST: Final = 8
"""With fewer copies in which the face is found, a label stays as it is."""

KEPT: Final = 0.8
"""Share of the copies that the mean is taken of: those nearest to the median."""

Points = npt.NDArray[np.floating]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of detect.jsonl and detect-*.tar")
    parser.add_argument("--detector", type=Path, required=True, help="ONNX detector that made the labels")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--copies", default="train=16,val=24", help="of each face, by split")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    detector = open_detector(arguments.detector.read_bytes(), provider="cpu", min_score=0.2, max_side=SIDE)
    steady: dict[str, list[Points | None]] = {}
    for part in arguments.copies.split(","):
        split, _, copies = part.partition("=")
        pictures = open_detection_set(arguments.data, split)
        for index, name in enumerate(pictures.names):
            rng = np.random.default_rng([arguments.seed, index])
            picture = pictures.read(index)
            steady[name] = [steady_points(rng, picture, row, detector, int(copies)) for row in range(len(picture))]
            if index % 500 == 0:
                print(f"{split}: {index} of {len(pictures)}", flush=True)
    records = [json.loads(line) for line in (arguments.data / LABELS).read_text().splitlines()]
    shift = common_shift(records, steady)
    print("put back, in distances between the eyes:", shift.round(4).tolist())
    for record in records:
        for face, points in zip(record["faces"], steady.get(record["file"], ()), strict=False):
            if points is not None:
                face["landmarks"] = (points + shift @ eye_axes(points)).round(3).tolist()
    write_text(arguments.out / LABELS, "".join(json.dumps(record) + "\n" for record in records))
    for archive in arguments.data.glob("detect-*.tar"):
        (arguments.out / archive.name).symlink_to(archive.resolve())


def steady_points(
    rng: np.random.Generator, picture: Labelled, row: int, detector: Detector, copies: int
) -> Points | None:
    """Return the mean landmarks (5, 2) of one face over moved copies, None if it is found in too few."""
    if picture.scores[row] < SURE_SCORE:
        return None
    x, y, w, h = picture.boxes[row].tolist()
    found = []
    for copy in range(copies):
        side = float(np.exp(rng.uniform(*np.log(FACES))))
        scale = side / max(w, h)
        angle_rad = rng.normal(0, np.radians(5))
        middle = SIDE / 2 - 0.5 + rng.uniform(-8, 8), SIDE / 2 - 0.5 + rng.uniform(-8, 8)
        matrix = placement((x + w / 2, y + h / 2), middle, scale, angle_rad, bool(copy % 2))
        way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        seen = detector.detect(np.asarray(cv2.warpAffine(picture.image, matrix, (SIDE, SIDE), flags=way), np.uint8))
        if not len(seen):
            continue
        off = np.abs(seen.boxes[:, :2] + seen.boxes[:, 2:] / 2 - SIDE / 2).max(axis=1)
        nearest = int(off.argmin())
        if off[nearest] <= 25 and 0.6 < seen.boxes[nearest, 2:].max() / side < 1.6:
            found.append(move_landmarks(seen.landmarks[[nearest]], cv2.invertAffineTransform(matrix))[0])
    if len(found) < FEWEST:
        return None
    points = np.array(found, np.float64)
    order = np.linalg.norm(points - np.median(points, axis=0), axis=2).mean(axis=1).argsort()
    mean: Points = points[order[: max(FEWEST, int(KEPT * len(points)))]].mean(axis=0)
    return mean


def eye_axes(points: Points) -> Points:
    """Return two rows in pixels: from the left eye to the right one, and the same turned downwards."""
    across = points[1] - points[0]
    return np.array([across, [-across[1], across[0]]])


def common_shift(records: list[dict[str, Any]], steady: dict[str, list[Points | None]]) -> Points:
    """Return labels minus steady points (5, 2), the median of the train split, the same for left and right."""
    shifts = [
        (np.array(face["landmarks"]) - points) @ np.linalg.inv(eye_axes(points))
        for record in records
        if record["split"] == "train"
        for face, points in zip(record["faces"], steady.get(record["file"], ()), strict=False)
        if points is not None and face["score"] >= 0.8
    ]
    middle = np.median(np.array(shifts), axis=0)
    symmetric: Points = (middle + middle[list(MIRRORED)] * [-1, 1]) / 2
    return symmetric


if __name__ == "__main__":
    main()
