"""The detector format of edgeface, `detector/1`.

An ONNX file with these keys in its metadata:

    edgeface.format      `detector/1`
    edgeface.strides     the strides of its levels, such as `8,16,32`
    edgeface.min_score   the score that its maker advises to ask for, such as `0.57`
    edgeface.max_face    longer side in pixels of the largest face that it was taught; may be missing. Where a
                         frame has room for larger ones, halved copies of it are shown to the network, too.

One input, `frame` (1, H, W, 3) uint8 RGB, H and W any multiples of the largest stride; normalisation is inside.
For each stride s three outputs, h = H / s, w = W / s:

    scores_s     (1, 1, h, w) float32   logits of "a face is centred in this cell"
    boxes_s      (1, 4, h, w) float32   distances from the cell's centre to the left, top, right and bottom side, in s
    landmarks_s  (1, 10, h, w) float32  offsets x0, y0, x1, y1, ... from the cell's centre, in s

The centre of the cell in row r and column c is ((c + 0.5) s, (r + 0.5) s).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import BundleError
from edgeface.runtime.detection.detections import (
    MAX_CANDIDATES,
    MULTIPLE,
    Detections,
    DetectorSettings,
    Fitted,
    best,
    fit,
    steady_landmarks,
    without_parts,
)
from edgeface.runtime.providers.session import Session

FORMAT_KEY: Final = "edgeface.format"
STRIDES_KEY: Final = "edgeface.strides"
MIN_SCORE_KEY: Final = "edgeface.min_score"
MAX_FACE_KEY: Final = "edgeface.max_face"
UNLIMITED: Final = 1_000_000
"""Pixels; larger than any frame."""
FORMAT: Final = "detector/1"
SMALLEST_FACE: Final = 24
"""Shorter side in pixels of the smallest face that such a network finds reliably: of 300 photographed faces shrunk to
24 px the built-in one finds 99.7 %, with a median landmark error of 0.11 eye distances; at 16 px 94 % and 0.17."""

LARGE_SHARE: Final = 0.4
"""In a halved frame only faces of at least this share of `max_face` count: smaller ones were seen before."""

KINDS: Final[dict[str, int]] = {"scores": 1, "boxes": 4, "landmarks": 10}
"""The outputs at each stride, with their numbers of channels."""


class EdgeDetector:
    """Finds faces with a network in the format `detector/1`."""

    def __init__(self, session: Session, settings: DetectorSettings | None = None, name: str = "detector") -> None:
        self.session = session
        self.settings = settings or DetectorSettings(min_score=advised_min_score(session, name))
        self.strides = _checked_strides(session, name)
        index = {tensor.name: index for index, tensor in enumerate(session.outputs)}
        self.max_face = _checked_max_face(session, name)
        self._order = [index[f"{kind}_{stride}"] for stride in self.strides for kind in KINDS]

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Find the faces in a picture.

        Args:
            image: (H, W, 3) uint8 RGB of any size; a picture without pixels has no faces.

        Raises:
            ImageError: the array is not such a picture.
        """
        if image.ndim == 3 and not image.size:
            return Detections.empty()
        return find_faces(image, self._maps, self.strides, self.settings, self.max_face)

    def _maps(self, frame: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        outputs = self.session.run({"frame": np.ascontiguousarray(frame)[None]})
        return [outputs[index][0] for index in self._order]


def find_faces(
    image: npt.NDArray[np.uint8],
    run: Callable[[npt.NDArray[np.uint8]], Sequence[npt.NDArray[Any]]],
    strides: Sequence[int],
    settings: DetectorSettings,
    max_face: int,
) -> Detections:
    """Find the faces in a picture, and in halved copies of it while a face larger than `max_face` would fit in.

    Args:
        image: (H, W, 3) uint8 RGB, not empty.
        run: the network: (H, W, 3) uint8, sides multiples of 32, to its maps, see `decode`.
        strides: of the maps.
        settings: how to look.
        max_face: the largest face that the network was taught, in pixels.
    """
    fitted = fit(image, settings.longest_side(image, SMALLEST_FACE))
    found = [decode(run(fitted.image), strides, settings.low_score)]
    halved: list[Fitted] = []
    frame = fitted.image
    while min(frame.shape[:2]) > max_face:
        halved.append(fit(frame, max(frame.shape[:2]) // 2))
        frame = halved[-1].image
        large = decode(run(frame), strides, settings.low_score)
        large = large.select(large.boxes[:, 2:].max(axis=1, initial=0) >= LARGE_SHARE * max_face)
        for step in reversed(halved):
            large = step.restore(large)
        found.append(large)
    candidates = Detections.join(found)
    kept = without_parts(best(candidates, settings.iou, MAX_CANDIDATES)).select(slice(settings.max_faces))
    return fitted.restore(steady_landmarks(kept, candidates))


def decode(maps: Sequence[npt.NDArray[Any]], strides: Sequence[int], min_score: float) -> Detections:
    """Read the faces out of a network's maps, looking closely only at cells that reach the score.

    Args:
        maps: for each stride in turn the scores (1, h, w), boxes (4, h, w) and landmarks (10, h, w), float32.
        strides: S strides.
        min_score: in (0, 1).

    Returns:
        Every cell that reaches the score, in no order, in pixels of the network's input.
    """
    min_logit = math.log(min_score / (1 - min_score))
    found = []
    for stride, logits, sides, points in zip(strides, maps[0::3], maps[1::3], maps[2::3], strict=True):
        rows, columns = np.nonzero(logits[0] >= min_logit)
        centre = (np.stack([columns, rows], axis=1) + 0.5).astype(np.float32)  # in strides
        left_top, right_bottom = sides[:2, rows, columns].T, sides[2:, rows, columns].T
        boxes = np.hstack([centre - left_top, left_top + right_bottom]) * stride
        landmarks = (points[:, rows, columns].T.reshape(-1, 5, 2) + centre[:, None]) * stride
        found.append(Detections(boxes, 1 / (1 + np.exp(-logits[0, rows, columns])), landmarks))
    return Detections.join(found)


def advised_min_score(session: Session, name: str = "detector") -> float:
    """Return the score that the maker of a `detector/1` network advises to ask for.

    Raises:
        BundleError: the network does not say, or what it says is not a score.
    """
    text = session.metadata.get(MIN_SCORE_KEY, "")
    try:
        score = float(text)
    except ValueError:
        score = 0.0
    if not 0 < score < 1:
        raise BundleError(f"{name} says {MIN_SCORE_KEY} = {text!r}, not a score between 0 and 1; export it again")
    return score


def _checked_max_face(session: Session, name: str) -> int:
    text = session.metadata.get(MAX_FACE_KEY, str(UNLIMITED))
    if not text.isdecimal() or int(text) < MULTIPLE:
        raise BundleError(f"{name} says {MAX_FACE_KEY} = {text!r}; it should be a number of pixels from {MULTIPLE} up")
    return int(text)


def _checked_strides(session: Session, name: str) -> tuple[int, ...]:
    if session.metadata.get(FORMAT_KEY) != FORMAT:
        raise BundleError(
            f"{name} is not in the format {FORMAT} (it says {session.metadata.get(FORMAT_KEY)!r}); "
            "export it with this edgeface"
        )
    text = session.metadata.get(STRIDES_KEY, "")
    strides = [int(word) for word in text.split(",") if word.isdecimal() and len(word) < 4]
    if not strides or ",".join(map(str, strides)) != text or any(s == 0 or MULTIPLE % s for s in strides):
        raise BundleError(f"{name} says {STRIDES_KEY} = {text!r}; it should be a list of divisors of {MULTIPLE}")
    frame = session.inputs[0]
    seen: set[tuple[str, str, Any]] = {(t.name, t.dtype, t.shape[1]) for t in session.outputs if len(t.shape) == 4}
    asked = {(f"{kind}_{s}", "tensor(float)", channels) for s in strides for kind, channels in KINDS.items()}
    if (frame.name, frame.dtype, len(frame.shape)) != ("frame", "tensor(uint8)", 4) or asked - seen:
        missing = ", ".join(sorted(name for name, _, _ in asked - seen)) or "nothing"
        raise BundleError(
            f"{name} does not meet the format {FORMAT}: its input is {frame.name} {frame.dtype} {frame.shape} "
            f"and of its outputs {missing} is missing or has another shape; export it again"
        )
    return tuple(strides)
