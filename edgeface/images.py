"""Pictures from disk and memory, always as (H, W, 3) uint8 RGB."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import ImageError
from edgeface.files import PRIVATE, write_bytes
from edgeface.image_headers import picture_size

IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""File names with these endings (any case) are taken for pictures."""

MAX_PIXELS: Final = 100_000_000
"""A picture with more pixels is refused by its header: it would take hundreds of megabytes once decoded."""
MAX_BYTES: Final = 1 << 30
"""A file with more bytes is not even read."""


def decode_image(data: bytes, name: str = "image") -> npt.NDArray[np.uint8]:
    """Decode an encoded picture (JPEG, PNG, WebP, ...), turned upright by its EXIF orientation.

    Args:
        data: the encoded bytes.
        name: what to call the picture in an error.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the bytes are empty, not a JPEG, PNG, WebP, BMP or TIFF, or a picture of more than `MAX_PIXELS`
            pixels, which is found out before it is decoded.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); replace the file")
    size_wh = picture_size(data)
    if size_wh is None:
        raise ImageError(f"{name} is not a readable picture ({len(data)} bytes); use JPEG, PNG or WebP")
    if size_wh[0] * size_wh[1] > MAX_PIXELS:
        raise ImageError(f"{name} has {size_wh[0]} x {size_wh[1]} pixels, more than {MAX_PIXELS:,}; shrink it first")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:  # OpenCV's own limit on the number of pixels
        raise ImageError(f"{name} cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"{name} is not a readable picture ({len(data)} bytes); use JPEG, PNG or WebP")
    decoded: npt.NDArray[np.uint8] = image
    return decoded


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture file; see `decode_image` for what comes back and what is raised."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(f"picture {path} has {size:,} bytes, more than {MAX_BYTES:,}; shrink it first")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"picture not found: {path}") from None
    except OSError as error:
        raise ImageError(f"picture {path} cannot be read: {error.strerror}") from error
    return decode_image(data, str(path))


def encode_image(image: npt.NDArray[np.uint8], suffix: str = ".png", quality: int = 92) -> bytes:
    """Encode (H, W, 3) uint8 RGB in the format named by `suffix` (`.png`, `.jpg`, `.webp`)."""
    options = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality], ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality]}
    done, data = cv2.imencode(suffix, image[:, :, ::-1], options.get(suffix, []))
    if not done:
        raise ImageError(f"cannot encode a picture as {suffix}")
    return bytes(data)


def write_image(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB to `path`, atomically, in the format of its suffix; for its owner only."""
    write_bytes(path, encode_image(image, path.suffix.lower()), mode=PRIVATE)
