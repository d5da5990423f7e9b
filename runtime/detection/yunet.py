"""YuNet, the face detector of the OpenCV Zoo, on onnxruntime.

Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023. The decoding
is that of OpenCV's FaceDetectorYN.
"""

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import BundleError
from edgeface.runtime.detection.detections import Detections, DetectorSettings, best, fit
from edgeface.runtime.providers.session import Session

STRIDES: Final = (8, 16, 32)
OUTPUTS: Final = frozenset(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)
"""The names by which a network is recognised as YuNet."""

MIN_SCORE: Final = 0.6
SMALLEST_FACE: Final = 24
"""Shorter side in pixels of the smallest face that it finds reliably: of 300 photographed faces shrunk to 24 px it
finds 99.0 %, with a median landmark error of 0.14 eye distances; at 16 px 95.7 % and 0.22, at 12 px 69 %."""
MAX_LOG_SIDE: Final = 8.0
"""A box side is at most e^8 strides; beyond that a broken network would overflow."""


class YuNetDetector:
    """Finds faces with a YuNet network, of dynamic or fixed input size."""

    def __init__(self, session: Session, settings: DetectorSettings | None = None, name: str = "detector") -> None:
        self.session = session
        self.settings = settings or DetectorSettings(min_score=MIN_SCORE)
        self._index = {tensor.name: index for index, tensor in enumerate(session.outputs)}
        tensor = session.inputs[0]
        if OUTPUTS - set(self._index) or tensor.dtype != "tensor(float)" or len(tensor.shape) != 4:
            raise BundleError(
                f"{name} is not a YuNet network: its input is {tensor.shape} {tensor.dtype} and its outputs are "
                f"{', '.join(self._index)}; use a face_detection_yunet file of the OpenCV Zoo"
            )
        height, width = tensor.shape[2:]
        self._canvas_wh = (width, height) if isinstance(width, int) and isinstance(height, int) else None

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Find the faces in a picture.

        Args:
            image: (H, W, 3) uint8 RGB of any size; a picture without pixels has no faces.

        Raises:
            ImageError: the array is not such a picture.
        """
        if image.ndim == 3 and not image.size:
            return Detections.empty()
        fitted = fit(image, self.settings.longest_side(image, SMALLEST_FACE), self._canvas_wh)
        blob = cv2.dnn.blobFromImage(fitted.image, swapRB=True)  # (1, 3, H, W) float32 BGR in [0, 255]
        outputs = self.session.run({self.session.inputs[0].name: blob})
        columns = fitted.image.shape[1]
        parts = [self._decode(outputs, stride, columns // stride) for stride in STRIDES]
        found = Detections.join(parts)
        return fitted.restore(best(found, self.settings.iou, self.settings.max_faces))

    def _decode(self, outputs: list[npt.NDArray[Any]], stride: int, columns: int) -> Detections:
        """Return the cells of one stride that reach the score."""
        cls, obj, bbox, kps = (outputs[self._index[f"{kind}_{stride}"]][0] for kind in ("cls", "obj", "bbox", "kps"))
        squared = np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1)
        cells = np.flatnonzero(squared >= self.settings.low_score**2)
        corner = np.stack([cells % columns, cells // columns], axis=1).astype(np.float32)
        centre = (corner + bbox[cells, :2]) * stride
        side = np.exp(np.minimum(bbox[cells, 2:], MAX_LOG_SIDE)) * stride
        landmarks = (kps[cells].reshape(-1, 5, 2) + corner[:, None]) * stride
        return Detections(np.hstack([centre - side / 2, side]), np.sqrt(squared[cells]), landmarks)
