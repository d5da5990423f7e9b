"""What somebody who is being enrolled sees: themselves as in a mirror, and what to do."""

import numpy as np
import numpy.typing as npt

from edgeface.runtime.deciding.decision import Decision
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.enrolling.coach import Advice
from edgeface.runtime.showing.draw import FaceView, Overlay


class CoachView:
    """Draws the pictures; it holds the font, so make one and keep it."""

    def __init__(self) -> None:
        self._overlay = Overlay()

    def draw(self, image: npt.NDArray[np.uint8], found: Detections, advice: Advice) -> npt.NDArray[np.uint8]:
        """Return a new picture, left and right exchanged, with the faces and the advice.

        Args:
            image: (H, W, 3) uint8 RGB.
            found: its faces.
            advice: on the upper edge, and what is wrong at the face.
        """
        mirrored = np.ascontiguousarray(image[:, ::-1])
        last = image.shape[1] - 1
        boxes, landmarks = found.boxes.copy(), found.landmarks.copy()
        boxes[:, 0] = last - boxes[:, 0] - boxes[:, 2]
        landmarks[:, :, 0] = last - landmarks[:, :, 0]
        decision = Decision(
            state="pending",
            identity=None,
            score=None,
            threshold=1.0,
            runner_up=None,
            margin=None,
            votes=advice.taken,
            frames=advice.shots,
            why=advice.fault or f"{advice.taken} of {advice.shots} taken",
        )
        views = [FaceView(row, boxes[row], landmarks[row], decision) for row in range(len(found))]
        self._overlay.draw(mirrored, views, str(advice))
        return mirrored
