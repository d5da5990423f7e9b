"""What motion, focus, distance and compression take from a face."""

import math

import cv2
import numpy as np

from edgeface.conditions.pixels import Image, typed
from edgeface.images import decode_image, encode_image


def motion(face: Image, length_px: float, angle_rad: float) -> Image:
    """Smear a face along a line, as moving during the exposure does.

    Args:
        face: (H, W, 3) uint8 RGB.
        length_px: of the line, 1 or more; in pixels of the crop.
        angle_rad: of the line, 0 along x, clockwise.
    """
    side = math.ceil(length_px) | 1
    half = side // 2
    # Each of many points of the line gives its share to the four pixels around it, so any length and angle will do.
    places = np.linspace(-0.5, 0.5, 8 * side + 1) * (length_px - 1)
    kernel = np.zeros((side + 2, side + 2))
    x, y = half + 1 + places * math.cos(angle_rad), half + 1 + places * math.sin(angle_rad)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for right, share_x in ((0, 1 - (x - left)), (1, x - left)):
        for below, share_y in ((0, 1 - (y - top)), (1, y - top)):
            np.add.at(kernel, (top + below, left + right), share_x * share_y)
    return typed(cv2.filter2D(face, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE))


def gauss(face: Image, sigma_px: float) -> Image:
    """Blur a face as a lens out of focus does, by a Gaussian of this standard deviation in pixels of the crop."""
    return typed(cv2.GaussianBlur(face, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE))


def small(face: Image, side_px: int) -> Image:
    """Shrink a face to this side in pixels and enlarge it again: a face that was far from the camera."""
    shrunk = cv2.resize(face, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return typed(cv2.resize(shrunk, (face.shape[1], face.shape[0]), interpolation=cv2.INTER_LINEAR))


def jpeg(face: Image, quality: int) -> Image:
    """Compress a face as JPEG of this quality, 1 to 100, and read it again."""
    return decode_image(encode_image(face, ".jpg", quality))
