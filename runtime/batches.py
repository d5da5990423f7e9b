"""Are several faces faster in one run than one by one? On a CPU rarely: measured here, not assumed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.runtime.embedder import Embedder
from edgeface.runtime.placement import NOTABLE
from edgeface.runtime.timing import take_turns

FACES: Final = 6
"""As a frame with a small group shows."""
WORTH: Final = 1.3
"""A gain that one would hope for from a batch; less is said to be little, and why."""


@dataclass(frozen=True, slots=True)
class BatchGain:
    """What a batch gains.

    Attributes:
        precision: of the network.
        provider: that ran it.
        faces: that were embedded.
        ratio: median over the rounds of the time one by one by that in one run: above 1 the batch is faster.
    """

    precision: str
    provider: str
    faces: int
    ratio: float

    @property
    def batch(self) -> int | None:
        """How many faces to put into one run: 1 where a batch is slower, else None for as many as there are."""
        return 1 if self.ratio < 1 / NOTABLE else None

    def __str__(self) -> str:
        what = f"{self.precision} on {self.provider}: {self.faces} faces in one run"
        if self.ratio >= WORTH:
            return f"{what} are {self.ratio:.2f} times as fast as one by one"
        how = (
            "little faster than" if self.ratio >= NOTABLE else "no faster than" if self.batch is None else "slower than"
        )
        why = "one face keeps the processor busy already, so a batch saves only the cost of the calls"
        return f"{what} are {how} one by one ({self.ratio:.2f} times the speed): {why}"


def race_batches(
    embedders: Mapping[str, Embedder], rounds: int, advance: Callable[[int, int], None] = lambda done, total: None
) -> tuple[BatchGain, ...]:
    """Time the faces in one run and one by one, every network side by side.

    Args:
        embedders: by precision; those that take a fixed number of faces are left out.
        rounds: that count.
        advance: is told how many rounds are done.
    """
    rng = np.random.default_rng(0)
    works: list[Callable[[], object]] = []
    compared = []
    for precision, embedder in embedders.items():
        if embedder.batch is None and (embedder.session.max_batch or FACES) >= FACES:
            size = embedder.contract.size
            faces = rng.integers(0, 256, (FACES, size, size, 3), np.uint8)
            works += [partial(_embed, embedder, faces, 1), partial(_embed, embedder, faces, FACES)]
            compared.append((precision, embedder.session.provider))
    times = take_turns(works, rounds, max(2, rounds // 5), advance) if works else []
    gains = []
    for index, (precision, provider) in enumerate(compared):
        ratio = float(np.median(np.divide(times[2 * index], times[2 * index + 1])))
        gains.append(BatchGain(precision, provider, FACES, ratio))
    return tuple(gains)


def _embed(embedder: Embedder, faces: npt.NDArray[Any], step: int) -> None:
    for start in range(0, len(faces), step):
        embedder.session.run({embedder.contract.input: faces[start : start + step]})
