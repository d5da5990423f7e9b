"""How an anti-spoofing network does against attacks: APCER by kind of attack and BPCER, as in ISO/IEC 30107-3.

APCER is the share of presentations of one kind of attack that are taken for living faces, BPCER the share of living
faces that are taken for attacks. Pictures in which no face is found answer nothing and are counted apart: in the camera
loop they would not be recognised either.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.errors import DataError, ImageError
from edgeface.files import readable_name
from edgeface.image_kinds import SURE_SUFFIXES, describe_kinds, unread_kind
from edgeface.images import read_photograph
from edgeface.intervals import Rate, independent_rate
from edgeface.runtime.detection.detector import Detector
from edgeface.runtime.liveness.liveness import FakeFinder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Presentations:
    """The pictures of one kind.

    Attributes:
        kind: name of the attack, or `bona fide`.
        scores: (N,) float64, how live each face looked.
        no_face: pictures without a face.
        unreadable: files that are no pictures.
    """

    kind: str
    scores: npt.NDArray[np.float64]
    no_face: int
    unreadable: int

    def taken_for_live(self, threshold: float) -> Rate:
        """Return the share at or above a threshold; pictures are taken to be independent."""
        return independent_rate(int((self.scores >= threshold).sum()), len(self.scores))

    def taken_for_attack(self, threshold: float) -> Rate:
        """Return the share below a threshold."""
        return independent_rate(int((self.scores < threshold).sum()), len(self.scores))


@dataclass(frozen=True, slots=True, eq=False)
class AttackReport:
    """What a test found.

    Attributes:
        threshold: live from this score on.
        attacks: by kind, sorted by name.
        bona_fide: the living faces.
    """

    threshold: float
    attacks: tuple[Presentations, ...]
    bona_fide: Presentations

    @property
    def worst(self) -> Presentations:
        """The kind of attack that succeeds most often: the standard reports a system by it."""
        return max(self.attacks, key=lambda kind: kind.taken_for_live(self.threshold).value)

    def threshold_for(self, apcer: float) -> float | None:
        """Return the lowest threshold at which no kind of attack exceeds a rate; None if there is none up to 1."""
        candidates = np.unique(np.concatenate([kind.scores for kind in self.attacks]))
        above = [np.nextafter(float(score), np.inf) for score in candidates]
        for threshold in (0.0, *above):
            if threshold <= 1 and all(kind.taken_for_live(threshold).value <= apcer for kind in self.attacks):
                return float(threshold)
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the report for `json.dumps`."""
        strict = self.threshold_for(0.05)
        return {
            "threshold": self.threshold,
            "apcer": {kind.kind: _facts(kind, kind.taken_for_live(self.threshold)) for kind in self.attacks},
            "worst": self.worst.kind,
            "bpcer": _facts(self.bona_fide, self.bona_fide.taken_for_attack(self.threshold)),
            "bpcer20": None
            if strict is None
            else {"threshold": strict, **self.bona_fide.taken_for_attack(strict).to_json()},
        }


def run_attacks(
    detector: Detector,
    fakes: FakeFinder,
    attacks: Path,
    bona_fide: Path,
    threshold: float | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> AttackReport:
    """Show pictures of attacks and of living faces to a network; the largest face of each counts.

    Args:
        detector: finds the faces.
        fakes: says how live they look.
        attacks: a folder with one folder of pictures for each kind of attack.
        bona_fide: a folder of pictures of living people, at any depth.
        threshold: live from this score on; the network's own by default.
        advance: is told how many pictures are done.

    Raises:
        DataError: a folder is missing or has no pictures with a face.
    """
    kinds = {readable_name(folder.name): _pictures(folder) for folder in _folders(attacks)}
    living = _pictures(_existing(bona_fide))
    total, done = sum(map(len, kinds.values())) + len(living), 0

    def shown(files: list[Path]) -> Iterator[Path]:
        nonlocal done
        for file in files:
            yield file
            done += 1
            advance(done, total)

    tested = tuple(_present(kind, shown(files), detector, fakes) for kind, files in kinds.items())
    own = fakes.threshold if threshold is None else threshold
    return AttackReport(own, tested, _present("bona fide", shown(living), detector, fakes))


def _present(kind: str, files: Iterator[Path], detector: Detector, fakes: FakeFinder) -> Presentations:
    scores: list[float] = []
    no_face = unreadable = 0
    for file in files:
        try:
            image = read_photograph(file).image
        except ImageError:
            unreadable += 1
            continue
        found = detector.detect(image)
        if not len(found):
            no_face += 1
            continue
        largest = int(np.argmax(found.boxes[:, 2:].prod(axis=1)))
        scores.append(fakes.live(image, found.boxes[largest]))
    if not scores:
        raise DataError(
            f"no face was found in any picture of {kind!r} ({no_face} without a face, {unreadable} unreadable); "
            "give pictures as the camera sees them"
        )
    return Presentations(kind, np.array(scores), no_face, unreadable)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"folder not found: {folder}")
    return folder


def _folders(attacks: Path) -> list[Path]:
    folders = sorted(path for path in _existing(attacks).iterdir() if path.is_dir() and path.name[0] != ".")
    if not folders:
        raise DataError(f"{attacks} has no folders; it takes one for each kind of attack, such as print/ and screen/")
    return folders


def _pictures(folder: Path) -> list[Path]:
    every = sorted(path for path in folder.rglob("*") if path.name[0] != "." and path.is_file())
    kinds = {path: unread_kind(str(path)) for path in every}
    files = [path for path, kind in kinds.items() if kind is None]
    others = describe_kinds(kind for kind in kinds.values() if kind)
    name = readable_name(str(folder))
    if not files:
        what = f"; left out: {others}" if others else ""
        raise DataError(f"no pictures in {name}; it takes {', '.join(sorted(SURE_SUFFIXES))} and others{what}")
    if others:
        logger.warning("%s: left out files that are not read: %s", name, others)
    return files


def _facts(kind: Presentations, rate: Rate) -> dict[str, Any]:
    return {**rate.to_json(), "no_face": kind.no_face, "unreadable": kind.unreadable}
