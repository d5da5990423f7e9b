"""The gate before every comparison: the same for `verify`, `enroll`, `run` and `calibrate`, stricter for templates."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.fitness import Fitness
from edgeface.runtime.bundle import Bundle
from edgeface.runtime.deciding.fitness import open_fitness_network
from edgeface.runtime.deciding.quality import ENROLMENT_QUALITY, Quality, QualitySettings, measure, problem
from edgeface.runtime.providers.choice import ProviderLike
from edgeface.runtime.providers.session import Announce

logger = logging.getLogger(__name__)

Faces = npt.NDArray[np.uint8]

_BATCH: Final = 64


class FitnessJudge(Protocol):
    """Says how fit faces are; `edgeface.runtime.deciding.fitness.FitnessNetwork` is one."""

    def judge(self, faces: Faces) -> list[Fitness]:
        """Return what is said of each of (N, 112, 112, 3) uint8 RGB faces."""
        ...


def fitness_scores(judge: FitnessJudge, faces: Faces) -> npt.NDArray[np.float32]:
    """Return the (N,) float32 fitness of (N, 112, 112, 3) uint8 RGB faces, in [0, 1]."""
    parts = [judge.judge(faces[start : start + _BATCH]) for start in range(0, len(faces), _BATCH)]
    return np.array([said.score for part in parts for said in part], np.float32)


@dataclass(frozen=True, slots=True)
class Gate:
    """Which faces are good enough.

    Attributes:
        network: says how fit faces are; None where a bundle has none, then only measurements of the picture count.
        compare: what a face needs to be compared with templates or with another picture.
        enrol: what it needs to become a template.
    """

    network: FitnessJudge | None = None
    compare: QualitySettings = field(default_factory=QualitySettings)
    enrol: QualitySettings = ENROLMENT_QUALITY

    def measure(
        self,
        faces: Sequence[Faces],
        boxes: npt.NDArray[np.floating],
        landmarks: npt.NDArray[np.floating],
    ) -> list[Quality]:
        """Measure aligned faces.

        Args:
            faces: N of (112, 112, 3) uint8 RGB.
            boxes: (N, 4) x, y, width, height in pixels of the picture.
            landmarks: (N, 5, 2) in pixels of the picture.
        """
        said: Sequence[Fitness | None] = [None] * len(faces)
        if self.network is not None and len(faces):
            said = self.network.judge(np.stack(faces))
        return [measure(*each) for each in zip(faces, boxes, landmarks, said, strict=True)]

    def with_smallest(self, size_px: float) -> "Gate":
        """Return the same gate for faces of at least so many pixels.

        Raises:
            ConfigError: the size is negative.
        """
        return replace(
            self, compare=replace(self.compare, min_size_px=size_px), enrol=replace(self.enrol, min_size_px=size_px)
        )

    def refuses(self, quality: Quality, *, template: bool = False) -> str | None:
        """Say why a face is not good enough to be compared, or to become a template; None if it is."""
        return problem(quality, self.enrol if template else self.compare)


CONCLUSIVE: Final = ("eyes_covered", "mouth_covered", "cut", "dark")
"""Faults that make strangers alike: two masks, two dark pictures, two halves of a face.

Of blur, the fitness says how much is too much."""

OPEN: Final = Gate()
"""The gate of a bundle without a quality network."""


def bundle_gate(
    bundle: Bundle,
    *,
    provider: ProviderLike = "auto",
    threads: int = 1,
    announce: Announce = logger.warning,
) -> Gate:
    """Open the gate of a bundle; see `edgeface.runtime.providers.session.open_session` for the arguments.

    Raises:
        BundleError: its quality network cannot be used.
        ProviderError: the provider cannot run here.
    """
    entry, network = bundle.manifest.quality, bundle.quality()
    if entry is None or network is None:
        return OPEN
    name = f"quality network of bundle {bundle.path}"
    opened = open_fitness_network(network, provider=provider, threads=threads, name=name, announce=announce)
    return Gate(
        opened,
        replace(OPEN.compare, min_fitness=entry.min_fitness, refused_faults=CONCLUSIVE),
        replace(OPEN.enrol, min_fitness=entry.enrol_fitness),
    )
