"""Does a quality network refuse the faces that would be missed? On labelled faces under the whole battery."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.conditions.battery import BATTERY, degrade
from edgeface.data.faceset import UNKNOWN, FaceSet
from edgeface.errors import DataError
from edgeface.evaluation.discard import REFUSED, DiscardCurve, discard_curve
from edgeface.faces import FACE_SIZE, TEMPLATE
from edgeface.runtime.deciding.fitness import FitnessNetwork
from edgeface.runtime.deciding.quality import measure

MAX_PEOPLE = 300
BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class FitnessReport:
    """What refusing faces saves.

    Attributes:
        people: each with a template as it is and a probe under every condition.
        pairs: genuine pairs of them.
        threshold: below it a pair is missed.
        missed: share of the pairs that is missed when none is refused.
        network: the curve when faces are refused by the quality network.
        measured: the curve when they are refused by the hand-made score, `Quality.score` without a network.
        clean_refused: share of faces as they are that lies below the network's limit.
    """

    people: int
    pairs: int
    threshold: float
    missed: float
    network: DiscardCurve
    measured: DiscardCurve
    clean_refused: float

    def to_json(self) -> dict[str, float | int]:
        """Return the figures by name."""
        return {
            "people": self.people,
            "pairs": self.pairs,
            "threshold": self.threshold,
            "missed": self.missed,
            "missed_after_refusing": self.network.at(REFUSED),
            "missed_after_refusing_by_measurement": self.measured.at(REFUSED),
            "area": self.network.area,
            "area_by_measurement": self.measured.area,
            "clean_refused": self.clean_refused,
        }


def assess_fitness(
    faces: FaceSet,
    network: FitnessNetwork,
    compare: Callable[[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], npt.NDArray[np.floating]],
    threshold: float,
    *,
    conditions: Sequence[str] = tuple(BATTERY),
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> FitnessReport:
    """Measure a quality network on people with two pictures or more, at most `MAX_PEOPLE` of them.

    Args:
        faces: aligned, labelled; nobody of them may have been learned from.
        network: to measure.
        compare: scores (N, 112, 112, 3) templates with as many probes, as the bundle does.
        threshold: of those scores.
        conditions: names of the battery that the probes are put under.
        seed: of the conditions.
        progress: told how many of how many conditions are done.

    Raises:
        DataError: nobody has two pictures.
    """
    templates, probes = _people(faces, seed)
    pictures, seconds = faces.read_many(templates), faces.read_many(probes)
    scores, said, by_hand, clean = [], [], [], np.zeros(0)
    for done, name in enumerate(conditions):
        degraded = np.stack(
            [degrade(face, name, faces.samples[row].key, seed) for row, face in zip(probes, seconds, strict=True)]
        )
        for start in range(0, len(degraded), BATCH):
            part = degraded[start : start + BATCH]
            scores.append(compare(pictures[start : start + BATCH], part))
            fitness = network.judge(part)
            said.append([0.0 if each.turn_deg else each.score for each in fitness])
            by_hand.append([_measured(face) for face in part])
        if name == conditions[0]:
            clean = np.concatenate(said)
        progress(done + 1, len(conditions))
    missed = np.concatenate(scores) < threshold
    return FitnessReport(
        people=len(templates),
        pairs=len(missed),
        threshold=threshold,
        missed=float(missed.mean()),
        network=discard_curve(np.concatenate(said), missed),
        measured=discard_curve(np.concatenate(by_hand), missed),
        clean_refused=float((clean < network.limits.compare).mean()),
    )


def _people(faces: FaceSet, seed: int) -> tuple[list[int], list[int]]:
    """Return a template and a probe of each person who has two pictures."""
    rng = np.random.default_rng(seed)
    labels, counts = np.unique(faces.labels[faces.labels != UNKNOWN], return_counts=True)
    chosen = rng.permutation(labels[counts >= 2])[:MAX_PEOPLE]
    if not len(chosen):
        raise DataError(f"nobody in {faces.name} has two pictures; give labelled faces, IDENTITY/PICTURE.jpg")
    pairs = [rng.permutation(np.flatnonzero(faces.labels == label))[:2].tolist() for label in chosen]
    return [first for first, _ in pairs], [second for _, second in pairs]


def _measured(face: npt.NDArray[np.uint8]) -> float:
    return measure(face, np.array([0, 0, FACE_SIZE, FACE_SIZE]), TEMPLATE).score
