"""Conditions drawn anew for each face of a training: other strengths, forms and colours than those of the battery."""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.conditions.covers import Glasses, Mask, wear_glasses, wear_mask
from edgeface.conditions.framing import Edge, cut, turned
from edgeface.conditions.light import backlight, dark, grey, infrared
from edgeface.conditions.pixels import Image
from edgeface.conditions.sharpness import gauss, jpeg, motion, small
from edgeface.faces import TEMPLATE

Draw = Callable[[Image, float, np.random.Generator], Image]
"""Takes a face, a strength from 0 (hardly seen) to 1 (stronger than the battery) and the only source of chance."""


def _toward(mild: float, strong: float, strength: float) -> float:
    return mild + (strong - mild) * strength


def draw_dark(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """Darkness, down to a mean grey value of 10, with as much noise as a poor sensor has."""
    gain = math.exp(rng.uniform(math.log(0.4), math.log(_toward(0.6, 6.0, strength))))
    night = dark(face, rng.uniform(_toward(90, 10, strength), 100), gain, rng)
    if rng.random() < 0.3:  # a camera that lifts the light again lifts the noise with it
        lift = np.float32(rng.uniform(1.2, 4.0))
        night = np.clip(night.astype(np.float32) * lift, 0, 255).astype(np.uint8)
    return night


def draw_backlight(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """Light from behind."""
    return backlight(face, rng.uniform(_toward(90, 20, strength), 110), rng.uniform(5, _toward(20, 70, strength)), rng)


def draw_blur(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """Motion up to 19 px, or out of focus up to 3.5 px."""
    if rng.random() < 0.55:
        return motion(face, rng.uniform(2, _toward(4, 19, strength)), rng.uniform(0, math.pi))
    return gauss(face, rng.uniform(0.5, _toward(0.8, 3.5, strength)))


def draw_small(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """A face far from the camera, down to 14 px."""
    return small(face, int(rng.integers(int(_toward(70, 14, strength)), 90)))


def draw_jpeg(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """Compression, down to a quality of 5."""
    return jpeg(face, int(rng.integers(int(_toward(60, 5, strength)), 75)))


def draw_infrared(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """No colour, or an infrared lamp."""
    if rng.random() < 0.35:
        return grey(face)
    return infrared(face, rng.uniform(0, _toward(0.3, 0.9, strength)), rng.uniform(0.2, 2.0), rng)


def draw_mask(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """A mask, a scarf or a neck gaiter of any colour; how far up it reaches grows with the strength."""
    nose = rng.uniform(_toward(0.55, 0.02, strength), 0.7)
    mask = Mask(
        nose=nose,
        cheek=nose + rng.uniform(-0.12, 0.3),
        chin=rng.uniform(1.5, 2.4),
        half_width=rng.uniform(0.8, 1.35),
        jaw=rng.uniform(0.7, 1.05),
        bend=rng.uniform(0.8, 3.0),
        colour=_colour(rng),
        folds=int(rng.integers(0, 5)),
        seam=rng.random() < 0.3,
        pattern=str(rng.choice(["plain", "plain", "stripes", "checks", "dots"])),
        second=_colour(rng),
        straps=rng.random() < 0.6,
    )
    return wear_mask(face, mask, rng, _moved_landmarks(rng))


def draw_glasses(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """Glasses of any form; how dark they are grows with the strength."""
    shade = rng.uniform(0, 70)
    glasses = Glasses(
        half_width=rng.uniform(0.3, 0.52),
        half_height=rng.uniform(0.2, 0.45),
        square=rng.uniform(1.6, 6.0),
        drop=rng.uniform(-0.05, 0.15),
        spread=rng.uniform(-0.03, 0.15),
        tint=(shade, shade * rng.uniform(0.6, 1.2), shade * rng.uniform(0.4, 1.3)),
        density=rng.uniform(_toward(0.2, 0.7, strength), 1.0),
        gleam=rng.uniform(0, 160),
        frame=_colour(rng),
        frame_width=rng.uniform(0.01, 0.12),
        band=rng.random() < 0.25,
    )
    return wear_glasses(face, glasses, rng, _moved_landmarks(rng))


def draw_turned(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """Turned by one, two or three quarters of a circle, whatever the strength."""
    return turned(face, int(rng.integers(1, 4)), rng)


def draw_cut(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """Cut by the edge of the picture, up to two thirds of the crop."""
    edges: tuple[Edge, ...] = ("left", "right", "above", "below")
    share = rng.uniform(0.05, _toward(0.15, 0.66, strength))
    return cut(face, edges[int(rng.integers(4))], share, rng.uniform(-0.35, 0.35))


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Return any colour; every second time a grey, as most masks and frames are."""
    if rng.random() < 0.5:
        shade = float(rng.uniform(5, 250))
        return shade, shade, shade
    red, green, blue = rng.uniform(5, 250, 3).tolist()
    return red, green, blue


def _moved_landmarks(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return TEMPLATE + rng.normal(0, 1.5, (5, 2))


SURROUNDINGS: Final[dict[str, Draw]] = {
    "dark": draw_dark,
    "backlight": draw_backlight,
    "blur": draw_blur,
    "small": draw_small,
    "jpeg": draw_jpeg,
    "infrared": draw_infrared,
}
"""What the place and the camera do to a face; whoever it is can still be taught."""

WORN: Final[dict[str, Draw]] = {"mask": draw_mask, "glasses": draw_glasses}
"""What people wear; whoever it is can still be taught."""

MISPLACED: Final[dict[str, Draw]] = {"turned": draw_turned, "cut": draw_cut}
"""Faces that are not where they belong; a gate should refuse them, an embedder need not know them."""


def worsen(face: Image, strength: float, rng: np.random.Generator) -> Image:
    """Put a face under one or two conditions that an embedder should see through.

    Args:
        face: (112, 112, 3) uint8 RGB, aligned; left as it is.
        strength: 0 is hardly seen, 1 is stronger than the battery; a curriculum lets it grow.
        rng: the only source of chance.

    Returns:
        (112, 112, 3) uint8 RGB.
    """
    chance = rng.random(3)
    if chance[0] < 0.45:
        face = list(WORN.values())[int(rng.integers(len(WORN)))](face, strength, rng)
    if chance[0] >= 0.45 or chance[1] < 0.4:
        face = _surround(face, strength, rng)
        if chance[2] < 0.25:
            face = _surround(face, strength, rng)
    return face


def _surround(face: Image, strength: float, rng: np.random.Generator) -> Image:
    weights = np.array([3.0, 0.7, 3.0, 1.0, 0.7, 1.6])  # in the order of SURROUNDINGS
    names = list(SURROUNDINGS)
    return SURROUNDINGS[names[int(rng.choice(len(names), p=weights / weights.sum()))]](face, strength, rng)
