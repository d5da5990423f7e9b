"""What the pipeline has to tell about a track."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.runtime.deciding.decision import Decision
from edgeface.runtime.deciding.quality import Quality
from edgeface.runtime.deciding.tracker import Track


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """The best look at a face so far: its quality, and the (112, 112, 3) uint8 RGB aligned face."""

    quality: Quality
    face: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Something new about a track: another decision, or its end with the last one.

    Attributes:
        track: which.
        decision: what is known.
        quality: of the face as it was last measured; None if it never was.
        is_last: the track has ended.
        best: the best look at it; None if there was none that was good enough.
        liveness: how live it is, in [0, 1]; None if that was not checked.
        is_request: nothing was decided: the person is asked to do what `decision.why` says.
    """

    track: Track
    decision: Decision
    quality: Quality | None
    is_last: bool
    best: Shot | None = None
    liveness: float | None = None
    is_request: bool = False
