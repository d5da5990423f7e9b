"""Masks and dark glasses, drawn where the landmarks of a face say."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.conditions.pixels import Image, lay_over
from edgeface.faces import FACE_SIZE, TEMPLATE

BITS: Final = 4
"""Outlines are drawn to a sixteenth of a pixel."""

Floats = npt.NDArray[np.floating]
Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 255."""


@dataclass(frozen=True, slots=True)
class Mask:
    """What a mask looks like.

    Lengths across are in distances of the eyes, lengths down in distances from eyes to mouth.

    Attributes:
        nose: how far below the eyes it begins, on the nose.
        cheek: how far below the eyes it begins, at its sides.
        chin: how far below the eyes it ends.
        half_width: from the middle to its side.
        jaw: its half width at the height of the mouth, as a share of `half_width`.
        bend: power of its upper edge: 1 is a roof, 2 a bow, more is flat with steep ends.
        colour: of its cloth.
        folds: lines across it.
        seam: whether a line runs down its middle.
        pattern: `plain`, `checks`, `stripes` or `dots`.
        second: colour of the pattern.
        straps: whether straps are seen.
    """

    nose: float = 0.22
    cheek: float = 0.35
    chin: float = 1.75
    half_width: float = 1.08
    jaw: float = 0.88
    bend: float = 1.6
    colour: Colour = (205.0, 222.0, 235.0)
    folds: int = 3
    seam: bool = False
    pattern: str = "plain"
    second: Colour = (120.0, 120.0, 120.0)
    straps: bool = True


@dataclass(frozen=True, slots=True)
class Glasses:
    """What dark glasses look like. Lengths are in distances of the eyes.

    Attributes:
        half_width: of a lens.
        half_height: of a lens.
        square: power of its outline (superellipse): 2 is an ellipse, 4 nearly a rectangle.
        drop: how far the middle of a lens lies below the eye.
        spread: how much further apart the lenses are than the eyes, as a share.
        tint: colour of the lens.
        density: how much of what is behind it the lens hides, 0 to 1.
        gleam: brightness of the reflection, 0 to 255.
        frame: colour of the frame.
        frame_width: of the frame's line.
        band: whether one band of glass covers both eyes.
    """

    half_width: float = 0.42
    half_height: float = 0.33
    square: float = 2.6
    drop: float = 0.06
    spread: float = 0.06
    tint: Colour = (18.0, 18.0, 20.0)
    density: float = 0.96
    gleam: float = 50.0
    frame: Colour = (25.0, 22.0, 20.0)
    frame_width: float = 0.05
    band: bool = False


def wear_mask(face: Image, mask: Mask, rng: np.random.Generator, landmarks: Floats = TEMPLATE) -> Image:
    """Draw a mask over mouth and nose.

    Args:
        face: (H, W, 3) uint8 RGB; left as it is.
        mask: what it looks like.
        rng: of the light on it and of small differences between its two sides.
        landmarks: (5, 2) left eye, right eye, nose, left and right mouth corner in pixels of `face`.
    """
    across, down = _frame(face, landmarks)
    edge = np.linspace(-1, 1, 33)
    top = mask.nose + (mask.cheek - mask.nose) * np.abs(edge) ** mask.bend
    upper = np.stack([edge * mask.half_width, top], axis=1)
    # From the side straight down to the mouth, then a half ellipse round the chin.
    angles_rad = np.linspace(0, np.pi, 33)
    waist = mask.half_width * mask.jaw
    lower = np.stack([waist * np.cos(angles_rad), 1 + (mask.chin - 1) * np.sin(angles_rad)], axis=1)
    outline = np.concatenate([upper, lower]) + rng.normal(0, 0.015, 2)
    share = _filled(face, [_placed(outline, landmarks)])
    cloth = _cloth(mask, across, down, rng)
    if mask.straps:
        for way in (-1, 1):
            for height in (mask.cheek + 0.06, 1.0):
                side = mask.half_width if height < 1 else waist
                strap = np.array([[way * side, height], [way * (side + 0.7), height - 0.35 * (height - 0.3)]])
                face = _line(face, _placed(strap, landmarks), mask.colour, 1.2)
    return lay_over(_shadow(face, share), cloth, share)


def wear_glasses(face: Image, glasses: Glasses, rng: np.random.Generator, landmarks: Floats = TEMPLATE) -> Image:
    """Draw dark glasses over the eyes.

    Args:
        face: (H, W, 3) uint8 RGB; left as it is.
        glasses: what they look like.
        rng: of the reflections.
        landmarks: (5, 2) left eye, right eye, nose, left and right mouth corner in pixels of `face`.
    """
    eyes, unit = np.asarray(landmarks[:2], np.float64), _eye_distance(landmarks)
    along = (eyes[1] - eyes[0]) / unit
    below = np.array([-along[1], along[0]])
    angles_rad = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(angles_rad), np.sin(angles_rad)], axis=1)
    round_off = np.sign(circle) * np.abs(circle) ** (2 / glasses.square)
    middle = eyes.mean(axis=0)
    centres = [middle + (eye - middle) * (1 + glasses.spread) + glasses.drop * unit * below for eye in eyes]
    sizes = np.array([glasses.half_width, glasses.half_height])
    if glasses.band:
        centres, sizes = [np.mean(centres, axis=0)], np.array([0.5 + glasses.half_width, glasses.half_height])
    lenses = [centre + unit * ((round_off * sizes) @ np.stack([along, below])) for centre in centres]
    share = _filled(face, lenses)
    height, width = face.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    slope = rng.uniform(-1.0, 1.0)
    streak = (columns * slope + rows - rng.uniform(0.2, 0.8) * height) / (0.09 * height)
    gleam = np.float32(glasses.gleam) * np.exp(-(streak**2))
    layer = np.asarray(glasses.tint, np.float32) + gleam[..., None]
    line = max(0.8, glasses.frame_width * unit)
    for way, centre in ((-1, centres[0]), (1, centres[-1])):
        temple = np.stack([centre + way * along * sizes[0] * unit, centre + way * along * 2.2 * unit])
        face = _line(face, temple, glasses.frame, line)
    if not glasses.band:
        bridge = np.stack([centres[0] + along * sizes[0] * unit, centres[1] - along * sizes[0] * unit])
        face = _line(face, bridge - 0.1 * unit * below, glasses.frame, line)
    face = lay_over(face, layer, share * np.float32(glasses.density))
    for lens in lenses:
        face = _line(face, np.concatenate([lens, lens[:1]]), glasses.frame, line)
    return face


def _cloth(mask: Mask, across: Floats, down: Floats, rng: np.random.Generator) -> Floats:
    """Return the lit cloth of a mask, (H, W, 3) grey values."""
    base = np.broadcast_to(np.asarray(mask.colour, np.float32), (*across.shape, 3)).copy()
    period = rng.uniform(0.12, 0.3)
    waves = {
        "plain": np.zeros(across.shape, bool),
        "stripes": np.sin(2 * np.pi * (across * np.cos(period) + down * np.sin(period)) / period) > 0,
        "checks": (np.sin(2 * np.pi * across / period) > 0) ^ (np.sin(2 * np.pi * down / period) > 0),
        "dots": np.sin(2 * np.pi * across / period) * np.sin(2 * np.pi * down / period) > 0.5,
    }
    base[waves[mask.pattern]] = mask.second
    lean = rng.uniform(-0.25, 0.25)
    light = rng.uniform(0.6, 1.05) * (1 - 0.28 * across**2 + lean * across - 0.18 * (down - 0.9) ** 2)
    for fold in range(mask.folds):
        height = mask.nose + (mask.chin - mask.nose) * (fold + 1) / (mask.folds + 1)
        light = light - 0.13 * np.exp(-(((down - height - 0.06 * across**2) / 0.035) ** 2))
    if mask.seam:
        light = light - 0.2 * np.exp(-((across / 0.03) ** 2)) - 0.1 * np.abs(across)
    uneven = cv2.resize(
        rng.normal(0, 0.05, (5, 5)).astype(np.float32), across.shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    lit: Floats = base * np.clip(light + uneven, 0.05, 1.3)[..., None].astype(np.float32)
    return lit


def _frame(face: Image, landmarks: Floats) -> tuple[Floats, Floats]:
    """Return where each pixel lies on the face, (H, W) twice: across, and down from the eyes."""
    origin, axes = _axes(landmarks)
    rows, columns = np.mgrid[: face.shape[0], : face.shape[1]].astype(np.float32)
    inverse = np.linalg.inv(axes).astype(np.float32)
    x, y = columns - np.float32(origin[0]), rows - np.float32(origin[1])
    return inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y


def _axes(landmarks: Floats) -> tuple[Floats, Floats]:
    """Return the middle of the eyes, (2,), and what one step across and one down are in pixels, (2, 2) in columns."""
    points = np.asarray(landmarks, np.float64)
    origin = points[:2].mean(axis=0)
    return origin, np.stack([points[1] - points[0], points[3:].mean(axis=0) - origin], axis=1)


def _placed(points: Floats, landmarks: Floats) -> Floats:
    """Turn (K, 2) places on a face into pixels."""
    origin, axes = _axes(landmarks)
    placed: Floats = origin + points @ axes.T
    return placed


def _eye_distance(landmarks: Floats) -> float:
    return float(np.hypot(*(np.asarray(landmarks[1], np.float64) - landmarks[0])))


def _filled(face: Image, outlines: list[Floats]) -> Floats:
    """Return how much of each pixel lies within the outlines, (H, W) from 0 to 1."""
    layer = np.zeros(face.shape[:2], np.uint8)
    for outline in outlines:
        cv2.fillPoly(layer, [_fixed(outline)], 255, cv2.LINE_AA, BITS)
    return layer.astype(np.float32) / 255


def _line(face: Image, points: Floats, colour: Colour, width_px: float) -> Image:
    layer = np.zeros(face.shape[:2], np.uint8)
    thick = max(1, round(width_px * face.shape[1] / FACE_SIZE))
    cv2.polylines(layer, [_fixed(points)], False, 255, thick, cv2.LINE_AA, BITS)
    return lay_over(face, np.asarray(colour, np.float32), layer.astype(np.float32) / 255)


def _fixed(points: Floats) -> npt.NDArray[np.int32]:
    """Return points in pixels as OpenCV draws them between pixels: whole numbers of `BITS` more bits."""
    return np.rint(points * (1 << BITS)).astype(np.int32)


def _shadow(face: Image, share: Floats) -> Image:
    """Darken the skin beside something that lies on it."""
    soft = cv2.GaussianBlur(share.astype(np.float32), (0, 0), 2.0)
    return lay_over(face, np.zeros(3, np.float32), 0.25 * soft)
