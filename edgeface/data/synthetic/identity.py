"""Who a synthetic face is: the parameters that stay the same in every picture of one person.

Lengths are in face units: half the width of an average face is 1; x to the right, y down, z towards the
viewer, origin between the eyes. An aligned crop shows about 40 pixels a face unit.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

Rgb = tuple[float, float, float]
"""Red, green, blue in [0, 255]."""

Spot = tuple[float, float, float]
"""A mark on the skin: x, y and radius in face units."""

_SKINS: Final[tuple[Rgb, ...]] = (
    (252, 224, 204),
    (243, 205, 174),
    (228, 180, 140),
    (204, 146, 104),
    (158, 104, 68),
    (112, 72, 48),
)
_HAIRS: Final[tuple[Rgb, ...]] = (
    (24, 20, 20),
    (52, 34, 24),
    (92, 60, 36),
    (128, 72, 34),
    (168, 84, 40),
    (206, 164, 96),
    (230, 206, 150),
    (140, 138, 136),
    (220, 218, 214),
)
_IRISES: Final[tuple[Rgb, ...]] = (
    (58, 34, 20),
    (100, 62, 30),
    (134, 106, 52),
    (88, 124, 70),
    (70, 120, 160),
    (112, 140, 158),
    (52, 84, 140),
)
_FRAMES: Final[tuple[Rgb, ...]] = ((20, 20, 24), (90, 50, 28), (150, 30, 34), (40, 60, 120), (176, 150, 80))


@dataclass(frozen=True, slots=True)
class Identity:
    """One synthetic person; lengths in face units, colours in [0, 255], densities in [0, 1]."""

    skin_rgb: Rgb
    lip_rgb: Rgb
    iris_rgb: Rgb
    brow_rgb: Rgb
    hair_rgb: Rgb
    face_width: float
    forehead_height: float
    forehead_width: float
    jaw_width: float
    chin_width: float
    chin_height: float
    ear_size: float
    eye_spacing: float
    eye_half_width: float
    eye_height: float
    eye_slant: float
    eye_peak: float
    iris_radius: float
    lid_shade: float
    lash_width: float
    crease: float
    eye_bag: float
    brow_height: float
    brow_length: float
    brow_thickness: float
    brow_arch: float
    brow_slant: float
    nose_height: float
    nose_width: float
    nose_depth: float
    bridge_width: float
    tip_radius: float
    nostril: float
    mouth_height: float
    mouth_half_width: float
    upper_lip: float
    lower_lip: float
    cupid_bow: float
    mouth_droop: float
    cheek: float
    blush: float
    fold: float
    asymmetry: float
    hair_cover: float
    hair_top: float
    hair_side: float
    hair_length: float
    hair_curl: float
    hair_bumps: float
    fringe: tuple[float, float, float, float, float]
    sideburn: float
    moustache: float
    goatee: float
    beard: float
    glasses: bool
    glasses_rgb: Rgb
    glasses_half_width: float
    glasses_half_height: float
    glasses_roundness: float
    glasses_thickness: float
    moles: tuple[Spot, ...]
    freckles: tuple[Spot, ...]


@dataclass(frozen=True, slots=True)
class _Hair:
    """The ranges that one hair style draws from."""

    cover: tuple[float, float]
    top: tuple[float, float]
    side: tuple[float, float]
    length: tuple[float, float]
    curl: tuple[float, float]
    fringe: tuple[float, float]
    sweep: float


_STYLES: Final[tuple[_Hair, ...]] = (
    _Hair((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 0.0),  # bald
    _Hair((0.4, 0.8), (0.01, 0.05), (0.0, 0.04), (0.0, 0.0), (0.0, 0.0), (-0.1, 0.05), 0.0),  # cropped
    _Hair((1.0, 1.0), (0.08, 0.28), (0.02, 0.1), (0.0, 0.0), (0.0, 0.06), (-0.1, 0.1), 0.15),  # short
    _Hair((1.0, 1.0), (0.1, 0.25), (0.03, 0.12), (0.0, 0.0), (0.0, 0.03), (0.0, 0.15), 0.35),  # swept aside
    _Hair((1.0, 1.0), (0.08, 0.2), (0.08, 0.2), (0.9, 1.4), (0.0, 0.03), (0.2, 0.38), 0.1),  # bob with fringe
    _Hair((1.0, 1.0), (0.06, 0.2), (0.1, 0.25), (1.7, 2.8), (0.0, 0.06), (-0.1, 0.15), 0.3),  # long
    _Hair((1.0, 1.0), (0.25, 0.55), (0.2, 0.5), (0.4, 1.0), (0.08, 0.18), (0.0, 0.15), 0.1),  # curly
    _Hair((1.0, 1.0), (0.3, 0.6), (0.0, 0.05), (0.0, 0.0), (0.0, 0.06), (-0.1, 0.05), 0.15),  # quiff
)


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draw one person; nearly every parameter on its own, so that two people are hardly ever alike."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def chance(probability: float) -> bool:
        return bool(rng.random() < probability)

    def near(colour: Rgb, spread: float) -> Rgb:
        # Brightness varies more than hue: green hair is no natural variation.
        shift = rng.normal(0.0, spread) + rng.normal(0.0, 0.3 * spread, 3)
        red, green, blue = np.clip(np.asarray(colour) + shift, 8, 252).tolist()
        return red, green, blue

    skin_position = between(0, len(_SKINS) - 1)
    lower = min(int(skin_position), len(_SKINS) - 2)
    skin = near(_mix(_SKINS[lower], _SKINS[lower + 1], skin_position - lower), 6.0)
    # Fair hair on dark skin is possible but rare, as among people.
    darkest_only = skin_position > 3.2 and chance(0.8)
    hair = near(_HAIRS[int(rng.integers(3 if darkest_only else len(_HAIRS)))], 14.0)
    lip = near(_mix(skin, (190, 62, 74), between(0.15, 0.65)), 8.0)
    iris = near(_IRISES[int(rng.integers(2 if darkest_only else len(_IRISES)))], 10.0)
    style = _STYLES[int(rng.choice(len(_STYLES), p=[0.07, 0.11, 0.17, 0.15, 0.13, 0.14, 0.11, 0.12]))]
    sweep = between(-1.0, 1.0) * style.sweep
    fringe_base = between(*style.fringe)
    fringe = [fringe_base + sweep * (i - 2) / 2 + float(rng.normal(0.0, 0.035)) for i in range(5)]
    hairy_face = style.length[0] == 0 and chance(0.4)
    beard = between(0.15, 0.95) if hairy_face and chance(0.55) else 0.0
    return Identity(
        skin_rgb=skin,
        lip_rgb=lip,
        iris_rgb=iris,
        brow_rgb=_mix(near(hair, 6.0), (30, 22, 20), between(0.1, 0.6)),
        hair_rgb=hair,
        face_width=between(0.86, 1.12),
        forehead_height=between(0.68, 0.98),
        forehead_width=between(0.78, 0.95),
        jaw_width=between(0.62, 0.93),
        chin_width=between(0.2, 0.48),
        chin_height=between(1.34, 1.68),
        ear_size=between(0.7, 1.3),
        eye_spacing=between(0.37, 0.5),
        eye_half_width=between(0.16, 0.25),
        eye_height=between(0.07, 0.16),
        eye_slant=between(-0.16, 0.32),
        eye_peak=between(-0.4, 0.3),
        iris_radius=between(0.092, 0.13),
        lid_shade=between(0.72, 1.0),
        lash_width=between(0.012, 0.045),
        crease=between(0.02, 0.09) if chance(0.7) else 0.0,
        eye_bag=between(0.0, 0.35),
        brow_height=between(0.2, 0.38),
        brow_length=between(0.85, 1.45),
        brow_thickness=between(0.025, 0.1),
        brow_arch=between(-0.01, 0.12),
        brow_slant=between(-0.16, 0.16),
        nose_height=between(0.44, 0.64),
        nose_width=between(0.13, 0.28),
        nose_depth=between(0.2, 0.45),
        bridge_width=between(0.04, 0.11),
        tip_radius=between(0.05, 0.12),
        nostril=between(0.5, 1.3),
        mouth_height=between(0.9, 1.1),
        mouth_half_width=between(0.28, 0.46),
        upper_lip=between(0.035, 0.12),
        lower_lip=between(0.05, 0.16),
        cupid_bow=between(0.0, 0.7),
        mouth_droop=between(-0.06, 0.03),
        cheek=between(0.0, 0.18),
        blush=between(0.0, 0.22),
        fold=between(0.0, 0.3) if chance(0.6) else 0.0,
        asymmetry=float(rng.normal(0.0, 0.012)),
        hair_cover=between(*style.cover),
        hair_top=between(*style.top),
        hair_side=between(*style.side),
        hair_length=between(*style.length),
        hair_curl=between(*style.curl),
        hair_bumps=between(6.0, 16.0),
        fringe=(fringe[0], fringe[1], fringe[2], fringe[3], fringe[4]),
        sideburn=between(0.0, 0.45),
        moustache=between(0.4, 1.0) if hairy_face and chance(0.5) else beard,
        goatee=between(0.4, 1.0) if hairy_face and chance(0.4) else beard,
        beard=beard,
        glasses=chance(0.22),
        glasses_rgb=near(_FRAMES[int(rng.integers(len(_FRAMES)))], 8.0),
        glasses_half_width=between(0.28, 0.37),
        glasses_half_height=between(0.17, 0.3),
        glasses_roundness=between(2.0, 6.0),
        glasses_thickness=between(0.025, 0.07),
        moles=tuple(_spot(rng, 0.02, 0.05) for _ in range(int(rng.poisson(0.9)))),
        freckles=tuple(_freckle(rng) for _ in range(int(rng.integers(10, 32)))) if chance(0.2) else (),
    )


def nth_identity(seed: int, index: int) -> Identity:
    """Return person number `index` of the endless population `seed`; depends on these two numbers only."""
    return sample_identity(np.random.default_rng((seed, index)))


def _spot(rng: np.random.Generator, smallest: float, largest: float) -> Spot:
    return (
        float(rng.uniform(-0.75, 0.75)),
        float(rng.uniform(-0.5, 1.25)),
        float(rng.uniform(smallest, largest)),
    )


def _freckle(rng: np.random.Generator) -> Spot:
    side = 1.0 if rng.random() < 0.5 else -1.0
    x, y = rng.normal((0.4, 0.45), (0.2, 0.13)).tolist()
    return side * x, y, float(rng.uniform(0.01, 0.024))


def _mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue
