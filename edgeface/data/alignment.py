"""Aligned crops from raw photographs: one face of each, with a journal that lets a run go on where it stopped."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import FaceSet, Skipped
from edgeface.data.finder import CHOICES, FaceFinder, Floats
from edgeface.data.names import file_names
from edgeface.data.parallel import in_order
from edgeface.errors import ConfigError, DataError, EdgefaceError, UnknownNameError
from edgeface.faces import align
from edgeface.files import PRIVATE, make_private_folder, parse_json, write_bytes
from edgeface.images import encode_image

JOURNAL: Final = "align.jsonl"
"""Name of the journal in the output folder: a line of settings, then one for each photograph."""

SUFFIXES: Final = (".jpg", ".png", ".webp")

Progress = Callable[[int, int], None]
Measure = Callable[[npt.NDArray[np.uint8], Floats, Floats], Mapping[str, float]]
"""From a crop, its box (4,) and its landmarks (5, 2) in the photograph to measures of quality."""


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """How crops are made.

    Attributes:
        choice: which face of several, a name in `CHOICES`.
        suffix: format of the crops.
        quality: of JPEG and WebP, 1 to 100.
        min_score: faces that the detector is less sure of are not taken.
        min_size_px: faces whose shorter side is smaller are not taken.

    Raises:
        ConfigError: a value is out of range.
    """

    choice: str = "prominent"
    suffix: str = ".jpg"
    quality: int = 95
    min_score: float = 0.0
    min_size_px: float = 0.0

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise UnknownNameError("choice of face", self.choice, CHOICES)
        if self.suffix not in SUFFIXES:
            raise UnknownNameError("format of crops", self.suffix, SUFFIXES)
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality lies in 1 to 100, got {self.quality}; use for example 95")


@dataclass(frozen=True, slots=True)
class AlignReport:
    """What became of the photographs.

    Attributes:
        photographs: number of all.
        aligned: crops that are there now, `kept` included.
        kept: of these, made by an earlier run.
        several: photographs with more than one face.
        no_face: keys of photographs without a face.
        unreadable: photographs that cannot be read.
        quality: 5th, 50th and 95th percentile of each measure over the crops.
    """

    photographs: int
    aligned: int
    kept: int
    several: int
    no_face: tuple[str, ...]
    unreadable: tuple[Skipped, ...]
    quality: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def align_photographs(
    photographs: FaceSet,
    out: Path,
    detector: FaceFinder,
    settings: AlignSettings = AlignSettings(),  # frozen
    *,
    measure: Measure | None = None,
    detector_name: str = "",
    workers: int = 0,
    progress: Progress | None = None,
) -> AlignReport:
    """Write an aligned crop of one face of each photograph into identity folders.

    Each crop appears whole or not at all. A second run with the same settings skips what the first has done.

    Args:
        photographs: pictures of any size.
        out: folder for the crops and the journal.
        detector: finds faces and landmarks.
        settings: which face, and how it is written.
        measure: quality of each crop, for the journal and the report.
        detector_name: goes into the journal; a run with another detector does not go on with this one.
        workers: threads; 0 is one a core.
        progress: told how many of how many photographs are done.

    Raises:
        DataError: the folder holds something else, or crops made with other settings; or the disk cannot be written.
    """
    names = file_names(photographs.samples)
    header = {"format": "edgeface align 1", "detector": detector_name, **asdict(settings)}
    done = _read_journal(out, header)

    def work(index: int) -> dict[str, Any]:
        key = photographs.samples[index].key
        file = names[index] + settings.suffix
        before = done.get(key)
        if before is not None and ("file" not in before or (before["file"] == file and (out / file).is_file())):
            return {**before, "kept": True}
        return {"key": key, **_align_one(photographs, index, out, file, detector, settings, measure)}

    lines: list[dict[str, Any]] = []
    try:
        with (out / JOURNAL).open("a", encoding="utf-8") as journal:
            for line in in_order(work, len(photographs), workers):
                if not line.get("kept"):
                    journal.write(json.dumps(line, ensure_ascii=False) + "\n")
                    journal.flush()
                lines.append(line)
                if progress:
                    progress(len(lines), len(photographs))
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}; what is done stays: run it again") from error
    return _report(lines, photographs.skipped)


def _align_one(
    photographs: FaceSet,
    index: int,
    out: Path,
    file: str,
    detector: FaceFinder,
    settings: AlignSettings,
    measure: Measure | None,
) -> dict[str, Any]:
    """Make one crop; returns the rest of its line in the journal."""
    try:
        photograph = photographs.photograph(index)
        image = photograph.image
        found = detector.detect(image)
        # In pixels of the file, also where it was decoded at reduced size.
        boxes, scores = np.asarray(found.boxes, np.float64) * photograph.reduction, np.asarray(found.scores)
        usable = np.flatnonzero((scores >= settings.min_score) & (boxes[:, 2:].min(axis=1) >= settings.min_size_px))
        if not len(usable):
            return {"faces": 0}
        value = CHOICES[settings.choice](boxes[usable], *photograph.size_wh)
        best = int(usable[int(np.argmax(value))])
        crop = align(image, found.landmarks[best])
    except EdgefaceError as error:
        return {"error": str(error), "kind": error.kind}
    write_bytes(out / file, encode_image(crop, settings.suffix, settings.quality), mode=PRIVATE)
    quality = measure(crop, boxes[best], np.asarray(found.landmarks[best]) * photograph.reduction) if measure else {}
    return {
        "file": file,
        "faces": len(usable),
        "score": round(float(scores[best]), 4),
        "box": [round(float(v), 1) for v in boxes[best]],
        "quality": dict(quality),
    }


def _read_journal(out: Path, header: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what earlier runs did, by key, and leave a journal that can be appended to."""
    path = out / JOURNAL
    try:
        make_private_folder(out)
        if not path.exists():
            if any(out.iterdir()):
                raise DataError(f"{out} is not empty and not of an earlier run; give a new folder")
            write_bytes(path, (json.dumps(header) + "\n").encode(), mode=PRIVATE)
            return {}
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):  # the run before was cut off within a line
            os.truncate(path, whole)
        first, *lines = [parse_json(line) for line in data[:whole].splitlines()]
        if first != header:
            other = sorted(key for key in header if not isinstance(first, dict) or first.get(key) != header[key])
            raise DataError(
                f"{out} holds crops that were made with another {', '.join(other)}; give a new folder or those settings"
            )
        return {line["key"]: line for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it to align again") from error
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}; give another folder") from error


def _report(lines: list[dict[str, Any]], skipped: tuple[Skipped, ...]) -> AlignReport:
    crops = [line for line in lines if "file" in line]
    measures = sorted({name for line in crops for name in line["quality"]})
    table = {name: [line["quality"][name] for line in crops if name in line["quality"]] for name in measures}
    spread = {name: np.percentile(values, [5, 50, 95]).round(4).tolist() for name, values in table.items()}
    return AlignReport(
        photographs=len(lines),
        aligned=len(crops),
        kept=sum(bool(line.get("kept")) for line in crops),
        several=sum(line["faces"] > 1 for line in crops),
        no_face=tuple(line["key"] for line in lines if line.get("faces") == 0),
        unreadable=(
            *skipped,
            *(Skipped(line["key"], line["error"], line.get("kind", "")) for line in lines if "error" in line),
        ),
        quality={name: (low, middle, high) for name, (low, middle, high) in spread.items()},
    )
