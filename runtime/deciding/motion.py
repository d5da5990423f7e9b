"""Where a face is going: a constant velocity, corrected by half of what it was wrong by (an alpha-beta filter)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

GAIN: Final = 0.5
"""Share of the error that corrects the velocity. Boxes tremble: all of it would follow the noise."""
LEAST_STEP_S: Final = 1e-3
"""Frames that are nearer in time are taken for one."""
MAX_STRIDE: Final = 1.0
"""A box is expected at most so many of its sides from where it was last seen, however long that is ago."""


@dataclass(frozen=True, slots=True)
class Motion:
    """The velocity of a box's centre, in pixels a second."""

    x: float
    y: float

    def expected(self, box: Floats, after_s: float) -> Floats:
        """Return a (4,) box moved on to where it should be `after_s` seconds later."""
        side = float(np.sqrt(max(float(box[2]) * float(box[3]), 0.0)))
        dx, dy = self.x * after_s, self.y * after_s
        distance = float(np.hypot(dx, dy))
        if distance == 0:
            return box
        share = min(1.0, MAX_STRIDE * side / distance)
        return box + np.array([share * dx, share * dy, 0, 0], np.float32)

    def after(self, old: Floats, new: Floats, after_s: float) -> "Motion":
        """Return the motion once a (4,) box that was `old` turned out to be `new`, `after_s` seconds later."""
        if after_s < LEAST_STEP_S:  # two sightings at one time say nothing; a clock that went back begins anew
            return STILL
        x, y = (float(new[axis] + new[axis + 2] / 2 - old[axis] - old[axis + 2] / 2) / after_s for axis in (0, 1))
        return Motion(self.x + GAIN * (x - self.x), self.y + GAIN * (y - self.y))


STILL: Final = Motion(0.0, 0.0)
