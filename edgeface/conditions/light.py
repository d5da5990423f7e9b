"""Too little light, light from behind, no colour, and the light of an infrared lamp."""

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.conditions.pixels import Image, rounded

READ_NOISE: float = 1.5
"""Standard deviation of what a sensor adds without any light, in grey values."""


def dark(face: Image, mean: float, gain: float, rng: np.random.Generator) -> Image:
    """Take the light away and leave the sensor's noise.

    Light comes in portions, so the variance of a pixel is its brightness times a gain (shot noise; Foi et al., 2008,
    "Practical Poissonian-Gaussian noise modeling", equation 3, with the normal approximation for both parts).

    Args:
        face: (H, W, 3) uint8 RGB.
        mean: mean grey value that is left, 0 to 255.
        gain: variance of a pixel over its grey value; 1 is a good small camera at night, 4 a poor one.
        rng: the only source of chance.
    """
    # A picture that is darker than asked stays as dark as it is.
    light = face.astype(np.float32) * np.float32(min(1.0, mean / max(1.0, _mean(face))))
    return _with_noise(light, gain, rng)


def backlight(face: Image, mean: float, veil: float, rng: np.random.Generator) -> Image:
    """Put a bright window behind a face: the face dark and flat, the rest blown out, a veil of stray light over both.

    Args:
        face: (H, W, 3) uint8 RGB.
        mean: mean grey value of the face before the veil, 0 to 255.
        veil: stray light, grey values added at the edge of the window.
        rng: the only source of chance.
    """
    height, width = face.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    reach = rng.uniform(0.40, 0.50, 2) * (width, height)
    away = np.hypot((columns - 0.5 * width) / reach[0], (rows - 0.56 * height) / (1.25 * reach[1]))
    window = np.clip((away - 1) / 0.15, 0, 1)[..., None]
    shade = face.astype(np.float32) * np.float32(min(1.0, mean / max(1.0, _mean(face))))
    haze = np.float32(veil) * np.clip(away, 0.3, 1)[..., None]
    light = shade * (1 - window) + np.float32(rng.uniform(235, 255)) * window + haze
    return _with_noise(light, 0.6, rng)


def grey(face: Image) -> Image:
    """Take the colour away."""
    return np.repeat(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)


def infrared(face: Image, fall: float, gain: float, rng: np.random.Generator) -> Image:
    """Light a face as a lamp beside the lens does in infrared: no colour, pale skin, dark towards the edge.

    Skin reflects more the redder the light is, and lips lose their contrast; the red channel comes nearest.

    Args:
        face: (H, W, 3) uint8 RGB.
        fall: how much darker the edge is than the middle, 0 to 1.
        gain: noise, as of `dark`.
        rng: the only source of chance.
    """
    height, width = face.shape[:2]
    single = np.clip(face.astype(np.float32) @ np.array([1.25, -0.05, -0.20], np.float32), 0, 255)
    pale = 255 * (single / 255) ** np.float32(rng.uniform(0.55, 0.85))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    spot = rng.uniform(0.4, 0.6, 2) * (width, height)
    away = np.hypot(columns - spot[0], rows - spot[1]) / (0.7 * width)
    lit = pale * (1 - np.float32(fall) * np.clip(away, 0, 1) ** 2) * np.float32(rng.uniform(0.7, 1.1))
    noisy = _with_noise(lit[..., None], gain, rng)
    return np.repeat(noisy, 3, axis=2)


def _with_noise(light: npt.NDArray[np.floating], gain: float, rng: np.random.Generator) -> Image:
    spread = np.sqrt(np.maximum(light, 0) * np.float32(gain) + np.float32(READ_NOISE**2))
    return rounded(light + spread * rng.standard_normal(light.shape, np.float32))


def _mean(face: Image) -> float:
    return sum(cv2.mean(face)[:3]) / 3
