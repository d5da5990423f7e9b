"""The battery: named conditions, each the same picture for the same face, name and seed."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeface.conditions.covers import Glasses, Mask, wear_glasses, wear_mask
from edgeface.conditions.framing import Edge, cut, turned
from edgeface.conditions.light import backlight, dark, grey, infrared
from edgeface.conditions.pixels import Image
from edgeface.conditions.sharpness import gauss, jpeg, motion, small
from edgeface.errors import UnknownNameError

Change = Callable[[Image, np.random.Generator], Image]


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a door does to faces.

    Attributes:
        title: what it is, in a few words.
        kind: what is wrong with such a face: `none`, `size`, `blur`, `light`, `coding`, `colour`, `covered`,
            `turned`, `cut` or `mixed`.
        change: takes a face, (112, 112, 3) uint8 RGB, and the only source of chance; gives a new one.
    """

    title: str
    kind: str
    change: Change


def _small(side_px: int) -> Condition:
    return Condition(f"face of {side_px} px", "size", lambda face, rng: small(face, side_px))


def _motion(length_px: int) -> Condition:
    return Condition(
        f"motion of {length_px} px", "blur", lambda face, rng: motion(face, length_px, rng.uniform(0, math.pi))
    )


def _gauss(sigma_px: float) -> Condition:
    return Condition(f"out of focus, {sigma_px:g} px", "blur", lambda face, rng: gauss(face, sigma_px))


def _dark(mean: int) -> Condition:
    return Condition(f"dark, mean {mean} of 255, with noise", "light", lambda face, rng: dark(face, mean, 4.0, rng))


def _jpeg(quality: int) -> Condition:
    return Condition(f"JPEG of quality {quality}", "coding", lambda face, rng: jpeg(face, quality))


def _turned(quarters: int) -> Condition:
    return Condition(f"turned by {90 * quarters}°", "turned", lambda face, rng: turned(face, quarters, rng))


def _cut(edge: Edge) -> Condition:
    def change(face: Image, rng: np.random.Generator) -> Image:
        return cut(face, edge, rng.uniform(0.38, 0.55), rng.uniform(-0.2, 0.2))

    return Condition(f"cut {edge}", "cut", change)


MASKS: Final[tuple[Mask, ...]] = (
    Mask(),  # surgical, pale blue
    Mask(colour=(238.0, 238.0, 236.0), nose=0.12, cheek=0.42, bend=1.1, folds=0, seam=True, chin=1.7),  # cone
    Mask(colour=(28.0, 28.0, 30.0), nose=0.3, cheek=0.3, bend=2.0, folds=0, chin=1.65),  # black cloth
    Mask(colour=(150.0, 60.0, 62.0), second=(230.0, 220.0, 210.0), pattern="checks", folds=0, straps=False, jaw=0.95),
)
"""The masks of the battery."""

GLASSES: Final[tuple[Glasses, ...]] = (
    Glasses(),
    Glasses(square=2.0, half_width=0.36, half_height=0.36, frame=(160.0, 130.0, 60.0), frame_width=0.03),  # round
    Glasses(square=4.0, half_width=0.46, half_height=0.3, frame_width=0.08),
    Glasses(square=3.0, half_height=0.3, tint=(35.0, 30.0, 25.0), band=True, frame_width=0.03),
)
"""The dark glasses of the battery."""


def _mask(face: Image, rng: np.random.Generator) -> Image:
    return wear_mask(face, MASKS[int(rng.integers(len(MASKS)))], rng)


def _glasses(face: Image, rng: np.random.Generator) -> Image:
    return wear_glasses(face, GLASSES[int(rng.integers(len(GLASSES)))], rng)


def _door(face: Image, rng: np.random.Generator) -> Image:
    return jpeg(grey(dark(small(face, 48), 40, 1.0, rng)), 30)


CLEAN: Final = "clean"
"""The name of the condition that changes nothing."""

BATTERY: Final[dict[str, Condition]] = {
    CLEAN: Condition("as it is", "none", lambda face, rng: face),
    "size-48": _small(48),
    "size-32": _small(32),
    "size-24": _small(24),
    "size-16": _small(16),
    "motion-9": _motion(9),
    "motion-15": _motion(15),
    "gauss-2": _gauss(2.0),
    "gauss-3": _gauss(3.0),
    "dark-40": _dark(40),
    "dark-20": _dark(20),
    "backlight": Condition("light from behind", "light", lambda face, rng: backlight(face, 35, 40, rng)),
    "jpeg-20": _jpeg(20),
    "jpeg-8": _jpeg(8),
    "grey": Condition("without colour", "colour", lambda face, rng: grey(face)),
    "infrared": Condition("infrared lamp", "colour", lambda face, rng: infrared(face, 0.6, 0.8, rng)),
    "mask": Condition("mask", "covered", _mask),
    "sunglasses": Condition("dark glasses", "covered", _glasses),
    "mask-sunglasses": Condition("mask and dark glasses", "covered", lambda f, rng: _mask(_glasses(f, rng), rng)),
    "turned-90": _turned(1),
    "turned-180": _turned(2),
    "turned-270": _turned(3),
    "cut-left": _cut("left"),
    "cut-right": _cut("right"),
    "cut-above": _cut("above"),
    "cut-below": _cut("below"),
    "door": Condition("48 px, grey, dark, JPEG of quality 30", "mixed", _door),
}
"""Conditions by name, in the order in which tables show them."""


def degrade(face: Image, name: str, key: str = "", seed: int = 0) -> Image:
    """Put a face under a condition of the battery.

    The same face, name, key and seed give the same picture; another key or seed gives another draw of whatever the
    condition leaves to chance, such as the direction of a motion or the form of a mask.

    Args:
        face: (112, 112, 3) uint8 RGB, aligned; left as it is.
        name: a key of `BATTERY`.
        key: of the face, so that each face has a draw of its own.
        seed: of the measurement; choose another for another purpose, so that nothing is tuned on what is reported.

    Returns:
        (112, 112, 3) uint8 RGB.

    Raises:
        UnknownNameError: there is no such condition.
    """
    condition = BATTERY.get(name)
    if condition is None:
        raise UnknownNameError("condition", name, BATTERY)
    return condition.change(face, np.random.default_rng((seed, zlib.crc32(name.encode()), zlib.crc32(key.encode()))))
