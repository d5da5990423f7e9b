"""Labelled photographs to train a face detector on, or to measure one."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import Extent, Skipped, left_out
from edgeface.data.parallel import in_order
from edgeface.data.tar import TarError, members
from edgeface.data.usable import check_share
from edgeface.errors import DataError, ImageError
from edgeface.files import parse_json
from edgeface.images import decode_image

log = logging.getLogger(__name__)

LABELS: Final = "detect.jsonl"
SURE_SCORE: Final = 0.6
"""A face that its labeller gave less than this is neither taught nor held against the network."""


NO_LANDMARKS: Final = [[np.nan] * 2] * 5

CACHE_BYTES: Final = 1_500_000_000
"""So much memory goes to decoded pictures: decoding would take a quarter of the training time."""


TURNED_WEIGHT: Final = 8.0
"""A picture with a face in profile is drawn so many times more often than one with frontal faces only."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """A picture and its faces.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) float32 x, y, width, height in pixels, pixel centres at integers.
        landmarks: (N, 5, 2) float32 (x, y) in pixels; left eye, right eye, nose, left and right mouth corner. NaN
            where a face has none.
        scores: (N,) float32 in [0, 1], how sure the labeller was; below `SURE_SCORE` the face is left out of
            the loss.
    """

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def sure(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the face is taught."""
        return self.scores >= SURE_SCORE


@dataclass(frozen=True, slots=True)
class Census:
    """What a labelled set is made of.

    Attributes:
        pictures: in all.
        empty: of them, without a face.
        taught: faces that their labeller was sure of.
        unsure: faces that are left out, since it was not.
        bare: taught faces without landmarks; they teach box and score alone.
    """

    pictures: int
    empty: int
    taught: int
    unsure: int
    bare: int

    def __str__(self) -> str:
        return (
            f"{self.pictures} pictures, {self.empty} of them without a face; {self.taught} faces to learn, "
            f"{self.bare} of them without landmarks; {self.unsure} left out, their labeller being unsure"
        )


class DetectionSet:
    """One part of a labelled folder, its encoded pictures held in memory, and the decoded ones while they fit."""

    def __init__(self, records: list[dict[str, Any]], files: dict[str, bytes]) -> None:
        self._records = records
        self._files = files
        self._decoded: dict[int, npt.NDArray[np.uint8]] = {}
        self._room = CACHE_BYTES
        self._cumulative = np.cumsum([1 + TURNED_WEIGHT * max([0.0, *map(_turned, r["faces"])]) for r in records])

    def __len__(self) -> int:
        return len(self._records)

    @property
    def names(self) -> tuple[str, ...]:
        """The pictures' file names, in order."""
        return tuple(record["file"] for record in self._records)

    @property
    def census(self) -> Census:
        """What is in it."""
        faces = [face for record in self._records for face in record["faces"]]
        taught = [face for face in faces if face["score"] >= SURE_SCORE]
        return Census(
            pictures=len(self),
            empty=sum(not record["faces"] for record in self._records),
            taught=len(taught),
            unsure=len(faces) - len(taught),
            bare=sum(face["landmarks"] is None for face in taught),
        )

    def draw(self, rng: np.random.Generator) -> Labelled:
        """Read a random picture; those with a face that looks aside or down come more often.

        Portraits look into the camera, people in front of a camera that waits for them often do not.
        """
        return self.read(int(np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], side="right")))

    def read(self, index: int) -> Labelled:
        """Decode one picture.

        Raises:
            ImageError: it is not a readable picture.
        """
        record = self._records[index]
        image = self._decoded.get(index)
        if image is None:
            image = decode_image(self._files[record["file"]], record["file"])
            image.flags.writeable = False
            if image.nbytes <= self._room:
                self._decoded[index], self._room = image, self._room - image.nbytes
        faces = record["faces"]
        return Labelled(
            image,
            np.array([face["box"] for face in faces], np.float32).reshape(-1, 4),
            np.array([face["landmarks"] or NO_LANDMARKS for face in faces], np.float32).reshape(-1, 5, 2),
            np.array([face["score"] for face in faces], np.float32),
        )


def open_detection_set(folder: Path, split: str) -> DetectionSet:
    """Open one part of a folder of `detect.jsonl` and `detect-SPLIT.tar`.

    Each line of `detect.jsonl` is {"file", "split", "faces": [{"box": [x, y, w, h], "score", "landmarks": five
    [x, y]}]} in pixels of that file; the tar holds the files of one split. A picture without faces may leave out
    `faces`, a face its `landmarks` and, if it is certain, its `score`.

    Args:
        folder: where both are.
        split: `train` or `val`.

    Raises:
        DataError: a file is missing or malformed, the part is empty, or too many of its pictures cannot be read.
    """
    labels, archive = folder / LABELS, folder / f"detect-{split}.tar"
    for path in (labels, archive):
        if not path.is_file():
            raise DataError(f"detector training data not found: {path}; a folder needs {LABELS} and detect-*.tar")
    try:
        lines = labels.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {labels}: {error}") from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line)
            if record["split"] == split:
                records.append(_checked(record))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise DataError(f"line {number} of {labels} is not a labelled picture: {error!r}") from None
    try:
        files = {m.name: Extent(archive, m.offset, m.size).read() for m in members(archive) if m.is_plain}
    except (TarError, OSError) as error:
        raise DataError(f"{archive} is not an intact tar file: {error}; copy it again") from None
    missing = [record["file"] for record in records if record["file"] not in files]
    if missing:
        raise DataError(f"{archive} lacks {len(missing)} of {len(records)} pictures, the first is {missing[0]}")
    if not records:
        raise DataError(f"{labels} lists no picture of the part {split!r}")
    return _without_broken(DetectionSet(records, files), records, files, str(archive))


def _without_broken(
    every: DetectionSet, records: list[dict[str, Any]], files: dict[str, bytes], name: str
) -> DetectionSet:
    """Leave out pictures that cannot be read, and tell; reading each once keeps training from ending at one."""

    def fault(index: int) -> Skipped | None:
        try:
            decode_image(files[records[index]["file"]], records[index]["file"])
        except ImageError as error:
            return Skipped(records[index]["file"], str(error), error.kind)
        return None

    faults = list(in_order(fault, len(records)))
    broken = [one for one in faults if one is not None]
    if not broken:
        return every
    check_share(broken, len(records), name)
    log.warning("left out %d of %d pictures of %s: %s", len(broken), len(records), name, left_out(broken))
    return DetectionSet([record for record, one in zip(records, faults, strict=True) if one is None], files)


def _turned(face: dict[str, Any]) -> float:
    """Return how far a face is turned, from 0 (frontal) to 1 (profile): its eyes move together."""
    if face["score"] < SURE_SCORE or face["landmarks"] is None:
        return 0.0
    left_eye, right_eye, _, left_mouth, right_mouth = np.array(face["landmarks"], np.float64)
    across = float(np.linalg.norm(right_eye - left_eye))
    down = float(np.linalg.norm((left_mouth + right_mouth - left_eye - right_eye) / 2))
    return float(np.clip(1 - across / max(down, 1e-6), 0, 1))


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """Check a line, and name what it may leave out.

    Raises:
        ValueError, KeyError, TypeError: it is no labelled picture.
    """
    faces = []
    for face in record.get("faces") or ():
        landmarks, score = face.get("landmarks"), face.get("score", 1.0)
        numbers = [*face["box"], *(value for point in landmarks or () for value in point), score]
        if len(numbers) != (15 if landmarks else 5) or not np.all(np.isfinite(numbers)):
            raise ValueError(f"a face needs a box of 4, five landmarks or none, and a score, got {face}")
        if min(face["box"][2:]) <= 0:
            raise ValueError(f"a box has width {face['box'][2]} and height {face['box'][3]}")
        faces.append({"box": face["box"], "landmarks": landmarks or None, "score": score})
    return {"file": str(record["file"]), "faces": faces}
