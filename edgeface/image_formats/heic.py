"""Decoding HEIC with pi-heif, which is an extra: OpenCV does not read what Apple's cameras write."""

import importlib.util

import numpy as np
import numpy.typing as npt

from edgeface.image_formats.broken import BrokenPicture


def is_installed() -> bool:
    """Whether the package is there; it is imported only when a picture needs it."""
    return importlib.util.find_spec("pi_heif") is not None


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode the picture that the file shows, turned as its boxes say.

    The orientation in Exif is not looked at: it says the same once more, and turning twice would be wrong.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        BrokenPicture: it cannot be decoded.
    """
    import pi_heif

    try:
        file = pi_heif.open_heif(data, convert_hdr_to_8bit=True, bgr_mode=False)
        image = np.asarray(file)
    except Exception as error:  # it raises whatever comes to hand
        raise BrokenPicture(f"the HEIC cannot be decoded ({' '.join(str(error).split())[:120]})") from error
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise BrokenPicture(f"the HEIC decodes to {image.dtype} of {image.ndim} dimensions")
    if image.ndim == 2 or image.shape[2] < 3:
        image = np.repeat(image.reshape(*image.shape[:2], -1)[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])
