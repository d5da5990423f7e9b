"""From a posed head to pixels: paint its outlines, light them, lay them over a background."""

from dataclasses import dataclass
from math import ceil, cos, radians, sin
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.data.synthetic.anatomy import pose_head
from edgeface.data.synthetic.identity import Identity
from edgeface.data.synthetic.nuisance import Nuisance
from edgeface.data.synthetic.sketch import Layer, PosedHead

_SHIFT: Final = 4  # fixed-point bits of OpenCV's drawing: a sixteenth of a pixel
_FINE: Final = 64.0  # faces with fewer pixels a face unit are painted twice as large, then averaged
_SOFT_SCALE: Final = 18.0  # pixels a face unit of the layer of soft shadows
_SOFT_BLUR: Final = 1.6
_SOFT_UNIT: Final = 150.0  # grey level of that layer that means a gain of 1


@dataclass(frozen=True, slots=True)
class RenderedFace:
    """A picture of one face and the truth about it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 where the head or body covers the background.
        landmarks: (5, 2) float32 (x, y) in pixels: left eye, right eye, nose tip, left and right corner
            of the mouth.
        box: (4,) float32 x, y, width, height in pixels of the face from the hairline to the chin.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    landmarks: npt.NDArray[np.float32]
    box: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FaceLayer:
    """One lit head, cut to its own rectangle, not yet laid over a background.

    Attributes:
        left: column of the picture where the layer starts.
        top: row where it starts.
        colour: (h, w, 3) float32 RGB in [0, 255], already multiplied by alpha.
        alpha: (h, w) float32 in [0, 1].
        landmarks: as in `RenderedFace`.
        box: as in `RenderedFace`.
    """

    left: int
    top: int
    colour: npt.NDArray[np.float32]
    alpha: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]
    box: npt.NDArray[np.float32]

    def cover(self, image: npt.NDArray[np.uint8]) -> None:
        """Lay the head over `image` (H, W, 3) uint8 RGB, in place."""
        height, width = self.alpha.shape
        if not height or not width:
            return
        part = image[self.top : self.top + height, self.left : self.left + width]
        through = cv2.merge([1.0 - self.alpha] * 3)
        cv2.add(cv2.multiply(part, through, dtype=cv2.CV_32F), self.colour, dst=part, dtype=cv2.CV_8U)


def render_face(
    identity: Identity,
    nuisance: Nuisance,
    size_wh: tuple[int, int] = (192, 192),
    matrix: npt.NDArray[np.float64] | None = None,
    background: npt.NDArray[np.uint8] | None = None,
) -> RenderedFace:
    """Paint one face; no camera effects (see `edgeface.data.synthetic.sensor`).

    Args:
        identity: who.
        nuisance: pose, expression, light and clothes.
        size_wh: width and height of the picture in pixels.
        matrix: (2, 3) similarity from face units to pixels; without it the head fills the picture.
        background: (H, W, 3) uint8 RGB of that size; without it the background is grey.

    Returns:
        The picture with its exact landmarks and box.
    """
    width, height = size_wh
    if matrix is None:
        scale = min(width, height) / 4.0
        matrix = np.array([[scale, 0.0, width / 2], [0.0, scale, height / 2 - 0.35 * scale]])
    image = np.full((height, width, 3), 128, np.uint8) if background is None else background.copy()
    layer = paint(pose_head(identity, nuisance), nuisance, matrix, size_wh)
    layer.cover(image)
    mask = np.zeros((height, width), np.uint8)
    rows, columns = layer.alpha.shape
    mask[layer.top : layer.top + rows, layer.left : layer.left + columns] = np.rint(layer.alpha * 255)
    return RenderedFace(image, mask, layer.landmarks, layer.box)


def paint(head: PosedHead, nuisance: Nuisance, matrix: npt.NDArray[np.float64], size_wh: tuple[int, int]) -> FaceLayer:
    """Paint and light a posed head inside a picture.

    Args:
        head: from `edgeface.data.synthetic.anatomy.pose_head`.
        nuisance: for the light.
        matrix: (2, 3) similarity from face units to pixels; pixel centres lie at integers.
        size_wh: width and height of the picture; what falls outside is not painted.

    Returns:
        The part of the picture that the head may touch; it may be empty.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    points = _apply(matrix, head.points)
    low = np.clip(np.floor(points.min(axis=0)) - 2, 0, size_wh).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 3, low, size_wh).astype(int)
    left, top = low.tolist()
    width, height = (high - low).tolist()
    landmarks = _apply(matrix, head.landmarks).astype(np.float32)
    box = _box(_apply(matrix, head.outline))
    if not width or not height:
        empty = np.zeros((height, width), np.float32)
        return FaceLayer(left, top, np.zeros((height, width, 3), np.float32), empty, landmarks, box)
    canvas = _fill(head, points - low, 2 if scale < _FINE else 1, width, height)
    local = matrix - np.array([[0, 0, left], [0, 0, top]])
    gain = _light(head, nuisance, local, width, height)
    alpha = canvas[:, :, 3] * np.float32(1 / 255)
    colour = cv2.multiply(canvas[:, :, :3], gain, dtype=cv2.CV_32F)
    # Without a bound a lit edge could outshine the background that it is blended with.
    colour = np.minimum(colour, 255.0 * alpha[:, :, None])
    return FaceLayer(left, top, colour, alpha, landmarks, box)


def _fill(
    head: PosedHead, points: npt.NDArray[np.float64], factor: int, width: int, height: int
) -> npt.NDArray[np.uint8]:
    """Return (height, width, 4) uint8 RGBA, colours multiplied by alpha: the outlines in flat colours."""
    # The canvas starts transparent black, so OpenCV's blending of edges leaves multiplied colours and alpha.
    canvas = np.zeros((height * factor, width * factor, 4), np.uint8)
    fixed = np.rint((points * factor + (factor - 1) / 2) * (1 << _SHIFT)).astype(np.int32)
    for patch in head.patches:
        if patch.layer is Layer.SOFT:
            continue
        contours = [fixed[start:end] for start, end in patch.spans]
        if patch.layer is Layer.HULL:
            contours = [np.asarray(cv2.convexHull(contours[0]), np.int32)]
        cv2.fillPoly(canvas, contours, (*patch.rgb, 255.0), cv2.LINE_AA, _SHIFT)
    if factor == 1:
        return canvas
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _light(
    head: PosedHead, nuisance: Nuisance, matrix: npt.NDArray[np.float64], width: int, height: int
) -> npt.NDArray[np.float32]:
    """Return (height, width, 3) float32 gains: soft shadows of the features times light on a round head."""
    ratio = max(1.0, float(np.hypot(matrix[0, 0], matrix[1, 0])) / _SOFT_SCALE)
    columns, rows = ceil(width / ratio), ceil(height / ratio)
    # Pixel centres lie at integers: u = (x + 0.5) * shrink - 0.5 in the shrunk picture.
    shrink = np.array([columns / width, rows / height])
    soft = np.full((rows, columns, 3), _SOFT_UNIT, np.uint8)
    small = (_apply(matrix, head.points) + 0.5) * shrink - 0.5
    fixed = np.rint(small * (1 << _SHIFT)).astype(np.int32)
    for patch in head.patches:
        if patch.layer is Layer.SOFT:
            red, green, blue = patch.rgb
            gain = red * _SOFT_UNIT, green * _SOFT_UNIT, blue * _SOFT_UNIT
            cv2.fillPoly(soft, [fixed[start:end] for start, end in patch.spans], gain, cv2.LINE_AA, _SHIFT)
    gains = np.asarray(cv2.GaussianBlur(soft, (7, 7), _SOFT_BLUR), np.float32) * np.float32(1 / _SOFT_UNIT)
    if nuisance.light_strength > 0:
        gains *= _lambert(head, nuisance, matrix, shrink, columns, rows)[:, :, None]
    return np.asarray(cv2.resize(gains, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _lambert(
    head: PosedHead,
    nuisance: Nuisance,
    matrix: npt.NDArray[np.float64],
    shrink: npt.NDArray[np.float64],
    columns: int,
    rows: int,
) -> npt.NDArray[np.float32]:
    """Return (rows, columns) float32 brightness of an ellipsoid lit by one lamp and some light all around."""
    azimuth, elevation = radians(nuisance.light_azimuth_deg), radians(nuisance.light_elevation_deg)
    lamp = sin(azimuth) * cos(elevation), -sin(elevation), cos(azimuth) * cos(elevation)
    inverse = np.linalg.inv(matrix[:, :2])
    x = ((np.arange(columns) + 0.5) / shrink[0] - 0.5 - matrix[0, 2])[None, :]
    y = ((np.arange(rows) + 0.5) / shrink[1] - 0.5 - matrix[1, 2])[:, None]
    normal_x = ((inverse[0, 0] * x + inverse[0, 1] * y - head.centre[0]) / (1.2 * head.width)).astype(np.float32)
    normal_y = ((inverse[1, 0] * x + inverse[1, 1] * y - head.centre[1]) / 1.65).astype(np.float32)
    radius = normal_x * normal_x + normal_y * normal_y
    normal_z = np.sqrt(np.maximum(0.12, 1.0 - radius))
    towards = (normal_x * lamp[0] + normal_y * lamp[1] + normal_z * lamp[2]) / np.sqrt(radius + normal_z * normal_z)
    strength = nuisance.light_strength
    brightness: npt.NDArray[np.float32] = (1.0 - strength) + strength * (0.12 + 1.08 * np.maximum(0.0, towards))
    return brightness


def _apply(matrix: npt.NDArray[np.float64], points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mapped: npt.NDArray[np.float64] = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def _box(outline: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    low, high = outline.min(axis=0), outline.max(axis=0)
    return np.concatenate([low, high - low]).astype(np.float32)
