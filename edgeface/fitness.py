"""How fit a face is to be recognised: what a quality network says, and the words for it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import DataError

TURNS: Final = ("upright", "turned_90", "turned_180", "turned_270")
"""How a face hangs in its crop, clockwise; one of them holds."""
FAULTS: Final = ("eyes_covered", "mouth_covered", "cut", "dark", "blurred")
"""What may be wrong with a face; any number of them holds."""
OUTPUTS: Final = ("fitness", *TURNS, *FAULTS)
"""What a quality network gives for each face, in order: float32 in [0, 1]. The turns together are 1."""

FORMAT_KEY: Final = "edgeface.quality"
"""The entry of a network's metadata that says how it is used ..."""
FORMAT: Final = "1: " + " ".join(OUTPUTS)
"""... (N, 112, 112, 3) uint8 RGB faces in, (N, 10) float32 out, in the order that it names."""

LIMITS_KEY: Final = "edgeface.quality.limits"
"""The entry that says which fitness a face should have at least; see `FitnessLimits`."""

LIKELY: Final = 0.5
"""A turn or fault is said to be there from this probability on."""

_WORDS: Final = {
    "eyes_covered": "the eyes are covered",
    "mouth_covered": "the mouth is covered",
    "cut": "part of the face is outside the picture",
    "dark": "too dark",
    "blurred": "blurred",
}


@dataclass(frozen=True, slots=True)
class FitnessLimits:
    """The least fitness that a quality network advises, in [0, 1].

    Attributes:
        compare: of a face that is compared.
        enrol: of one that becomes a template.
    """

    compare: float
    enrol: float

    def text(self) -> str:
        """Return both as they are written into the metadata."""
        return f"{self.compare:.4f} {self.enrol:.4f}"

    @classmethod
    def parse(cls, text: str) -> "FitnessLimits":
        """Read what `text` wrote.

        Raises:
            DataError: it is something else.
        """
        try:
            compare, enrol = (float(part) for part in text.split())
        except ValueError:
            compare = enrol = -1.0
        if not (0 <= compare <= 1 and 0 <= enrol <= 1):
            raise DataError(f"the limits of a quality network are two numbers from 0 to 1, it says {text!r}")
        return cls(compare, enrol)


@dataclass(frozen=True, slots=True)
class FitnessAllowance:
    """What a face loses for being unfit.

    Attributes:
        fit: from this fitness on nothing, in [0, 1].
        slope: score that it loses for each unit of fitness below, 0 or more.
    """

    fit: float
    slope: float

    def of(self, fitness: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what faces of these (N,) fitnesses lose, (N,) float32; nothing where it is NaN, which is not known."""
        lacking = np.nan_to_num(np.maximum(np.float32(self.fit) - fitness, 0), nan=0.0)
        allowances: npt.NDArray[np.float32] = (np.float32(self.slope) * lacking).astype(np.float32)
        return allowances


@dataclass(frozen=True, slots=True)
class Fitness:
    """What a quality network says of one face.

    Attributes:
        score: how near its embedding is expected to be to that of the same face in a good picture, in [0, 1]: 1 as
            near as can be, 0 no nearer than another person's.
        turn_deg: how the face hangs in its crop, clockwise: 0, 90, 180 or 270.
        faults: names of `FAULTS`, the surest first.
    """

    score: float
    turn_deg: int = 0
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: npt.NDArray[np.floating]) -> "Fitness":
        """Read what a network said of one face, (10,) in the order of `OUTPUTS`.

        Raises:
            DataError: a number is missing or not in [0, 1].
        """
        if said.shape != (len(OUTPUTS),) or not np.all((said >= -1e-3) & (said <= 1 + 1e-3)):
            raise DataError(f"a quality network gives {len(OUTPUTS)} numbers from 0 to 1 for a face, it gave {said}")
        turns, faults = said[1 : 1 + len(TURNS)], said[-len(FAULTS) :]
        turn = int(turns.argmax()) if turns.max() >= LIKELY else 0
        named = tuple(FAULTS[place] for place in np.argsort(-faults, kind="stable") if faults[place] >= LIKELY)
        return cls(float(np.clip(said[0], 0, 1)), 90 * turn, named)

    def words(self) -> str:
        """Say what is wrong, in words; empty where nothing is."""
        turned = {0: "", 180: "upside down"}.get(self.turn_deg, f"turned by {self.turn_deg}°")
        return ", ".join(part for part in (turned, *(_WORDS[name] for name in self.faults)) if part)
