"""What a camera does to a clean picture: exposure, colour cast, coarse pixels, blur, noise, JPEG."""

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from edgeface.data.synthetic.nuisance import Nuisance
from edgeface.images import decode_image, encode_image


def photograph(image: npt.NDArray[np.uint8], nuisance: Nuisance) -> npt.NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB as the camera of `nuisance` gives it; always the same for the same input."""
    height, width = image.shape[:2]
    picture: MatLike = _tone(image, nuisance)
    if nuisance.coarseness > 1.0:
        small_wh = max(8, round(width / nuisance.coarseness)), max(8, round(height / nuisance.coarseness))
        picture = cv2.resize(picture, small_wh, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    if nuisance.blur_px > 0.05:
        picture = cv2.GaussianBlur(picture, (0, 0), nuisance.blur_px)
    if nuisance.noise > 0:
        noise = np.random.default_rng(nuisance.seed).standard_normal((height, width, 3), np.float32)
        picture = cv2.add(picture, noise * np.float32(nuisance.noise), dtype=cv2.CV_8U)
    if nuisance.jpeg_quality > 0:
        encoded = encode_image(np.asarray(picture, np.uint8), ".jpg", nuisance.jpeg_quality)
        picture = decode_image(encoded)
    return np.asarray(picture, np.uint8)


def _tone(image: npt.NDArray[np.uint8], nuisance: Nuisance) -> npt.NDArray[np.uint8]:
    """Apply exposure, tint and gamma through one table a channel."""
    if nuisance.exposure == 1.0 and nuisance.gamma == 1.0 and nuisance.tint == (1.0, 1.0, 1.0):
        return image
    level = np.linspace(0.0, 1.0, 256)[:, None] * np.array(nuisance.tint) * nuisance.exposure
    table = np.rint(255.0 * np.clip(level, 0.0, 1.0) ** nuisance.gamma).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)
