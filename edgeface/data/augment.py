"""Random changes to a training face: what cameras, compression and imperfect alignment do to it.

Each change draws from the generator it is given and from nothing else, so that a face in an epoch looks the
same whichever process prepares it and whenever.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.conditions.drawing import worsen
from edgeface.images import decode_image, encode_image
from edgeface.plugins import Kind, build, is_plugin

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """The probability of each change, in [0, 1]; 0 leaves it out.

    Attributes:
        flip: mirror left and right.
        jitter: turn by up to 8 degrees, scale by up to 8 %, shift by up to 5 pixels.
        colour: brightness, contrast, saturation and tint.
        grey: no colour at all.
        blur: Gaussian, up to 1.6 pixels, or along a line as a moving camera does.
        downscale: shrink to 20 to 80 pixels and enlarge again.
        jpeg: compress at quality 15 to 80.
        noise: of the sensor, up to 12 of 255.
        cutout: cover a rectangle of up to a quarter of the face.
        blend: mix with another face of the set, before all else; nobody has the face that comes out.
        warp: move the parts of the face against one another, likewise.
        conditions: put the face under what a door does to it: night, motion, a mask, dark glasses and more, of any
            strength (`edgeface.conditions.drawing`). A stored teacher answers for the face as it is, so the student
            learns that these change nothing.
        name: of a plug-in that changes each face after all this, however likely; empty for none. It derives from
            `Augmentation`.
        options: of the plug-in, all that its constructor takes; in a file and on the command line they are keys of
            `augment`.
    """

    BESIDE_PLUGIN = frozenset(
        {"flip", "jitter", "colour", "grey", "blur", "downscale", "jpeg", "noise", "cutout", "blend", "warp"}
        | {"conditions", "name", "options"}
    )
    """Keys of edgeface's own changes; all others are for the constructor of a plug-in, if there is one."""

    flip: float = 0.5
    jitter: float = 0.8
    colour: float = 0.6
    grey: float = 0.05
    blur: float = 0.1
    downscale: float = 0.15
    jpeg: float = 0.15
    noise: float = 0.1
    cutout: float = 0.15
    blend: float = 0.0
    warp: float = 0.0
    conditions: float = 0.0
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @staticmethod
    def names_plugin(name: object) -> bool:
        """Tell whether there is a plug-in of this name."""
        return isinstance(name, str) and is_plugin(Kind.augmentation, name)

    def chances(self) -> dict[str, float]:
        """Return the probability of each change."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "options")}

    @property
    def makes_faces(self) -> bool:
        """Whether there will be faces without identity, which only a teacher that sees them can teach about."""
        return self.blend > 0 or self.warp > 0


class Augmentation(ABC):
    """A change to training faces from outside this package; see `edgeface.plugins`.

    One object is made in each process that prepares faces. What its constructor takes are its options.
    """

    @abstractmethod
    def __call__(self, face: Image, rng: np.random.Generator) -> Image:
        """Return a changed copy of a face.

        Args:
            face: (112, 112, 3) uint8 RGB; to be left as it is.
            rng: the only source of chance, or else a run that is resumed will not end as it would have.

        Returns:
            (112, 112, 3) uint8 RGB.
        """


def build_augmentation(config: AugmentConfig) -> Augmentation | None:
    """Load the plug-in of a configuration, which runs its code; None where there is none.

    Raises:
        UnknownNameError, PluginError: as `edgeface.plugins.build`.
    """
    if not config.name:
        return None
    made: Augmentation = build(Kind.augmentation, config.name, Augmentation, (), config.options)
    return made


def augment(face: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    """Return a changed copy of a face.

    Args:
        face: (112, 112, 3) uint8 RGB; left as it is.
        config: how likely each change is.
        rng: the only source of chance.

    Returns:
        (112, 112, 3) uint8 RGB.
    """
    # Drawn all at once, so that leaving one change out does not alter the others' draws.
    chance = rng.random(9)
    if chance[0] < config.flip:
        face = np.ascontiguousarray(face[:, ::-1])
    # Before the face moves: masks and glasses are drawn where the template has mouth and eyes.
    if config.conditions and rng.random() < config.conditions:
        face = worsen(face, rng.random(), rng)
    if chance[1] < config.jitter:
        face = jitter(face, rng)
    if chance[2] < config.colour:
        face = change_colour(face, rng)
    if chance[3] < config.grey:
        face = np.repeat(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    if chance[4] < config.blur:
        face = blur(face, rng)
    if chance[5] < config.downscale:
        face = downscale(face, rng)
    if chance[6] < config.noise:
        face = add_noise(face, rng)
    if chance[7] < config.jpeg:
        face = decode_image(encode_image(face, ".jpg", int(rng.integers(15, 81))))
    if chance[8] < config.cutout:
        face = cut_out(face, rng)
    return face


def jitter(face: Image, rng: np.random.Generator) -> Image:
    """Apply a small similarity about the centre, as an imperfect alignment would."""
    height, width = face.shape[:2]
    angle_rad = math.radians(rng.uniform(-8, 8))
    scale = math.exp(rng.uniform(-0.08, 0.08))
    shift = rng.uniform(-5, 5, 2)
    a, b = scale * math.cos(angle_rad), scale * math.sin(angle_rad)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    turn = np.array([[a, -b], [b, a]])
    matrix = np.hstack([turn, (centre - turn @ centre + shift)[:, None]])
    return _typed(cv2.warpAffine(face, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


def change_colour(face: Image, rng: np.random.Generator) -> Image:
    """Change brightness, contrast, saturation and tint: one affine map of the colours."""
    contrast, saturation = np.exp(rng.uniform(-0.4, 0.4)), rng.uniform(0.4, 1.5)
    tint = np.exp(rng.uniform(-0.1, 0.1, 3))
    luma = np.array([0.299, 0.587, 0.114])
    mix = saturation * np.eye(3) + (1 - saturation) * luma  # rows: red, green, blue
    mix = contrast * tint[:, None] * mix
    mean = face.mean(axis=(0, 1))
    offset = mean - mix @ mean + rng.uniform(-35, 35)
    # cv2.transform rounds and saturates
    return _typed(cv2.transform(face, np.hstack([mix, offset[:, None]])))


def blur(face: Image, rng: np.random.Generator) -> Image:
    """Blur by a Gaussian, or along a line of 3 to 9 pixels."""
    if rng.random() < 0.5:
        return _typed(cv2.GaussianBlur(face, (0, 0), rng.uniform(0.4, 1.6), borderType=cv2.BORDER_REPLICATE))
    length = int(rng.integers(1, 5)) * 2 + 1
    kernel = np.zeros((length, length), np.float32)
    angle_rad, half = rng.uniform(0, math.pi), length // 2
    reach = (round(half * math.cos(angle_rad)), round(half * math.sin(angle_rad)))
    cv2.line(kernel, (half - reach[0], half - reach[1]), (half + reach[0], half + reach[1]), 1.0)
    return _typed(cv2.filter2D(face, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE))


def downscale(face: Image, rng: np.random.Generator) -> Image:
    """Shrink and enlarge again: a face that was far from the camera."""
    side = int(rng.integers(20, 81))
    small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return _typed(cv2.resize(small, (face.shape[1], face.shape[0]), interpolation=cv2.INTER_LINEAR))


def add_noise(face: Image, rng: np.random.Generator) -> Image:
    """Add Gaussian noise, each pixel and channel on its own."""
    noise = rng.standard_normal(face.shape, np.float32) * np.float32(rng.uniform(2, 12))
    return np.clip(face + noise, 0, 255).astype(np.uint8)


def cut_out(face: Image, rng: np.random.Generator) -> Image:
    """Cover a rectangle with one random grey: a hand, a mask, sunglasses."""
    height, width = face.shape[:2]
    box_height, box_width = (int(side * rng.uniform(0.15, 0.5)) for side in (height, width))
    top, left = int(rng.integers(0, height - box_height)), int(rng.integers(0, width - box_width))
    face = face.copy()
    face[top : top + box_height, left : left + box_width] = rng.integers(0, 256)
    return face


def _typed(image: npt.NDArray[np.generic]) -> Image:
    """Say what OpenCV's own annotations leave open: a uint8 picture gives a uint8 picture."""
    return np.asarray(image, np.uint8)
