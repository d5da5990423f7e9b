"""Decoding HEIC with pi-heif, which is an extra: OpenCV does not read what Apple's cameras write."""

import importlib.util
import struct
import subprocess
import sys
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.image_formats.broken import BrokenPicture

TIMEOUT_S: Final = 120.0
BASE_BYTES: Final = 1 << 30
BYTES_A_PIXEL: Final = 20
"""Memory that decoding may take: what the library itself needs, and its copies of the pixels."""


def is_installed() -> bool:
    """Whether the package is there; it is imported only when a picture needs it."""
    return importlib.util.find_spec("pi_heif") is not None


def decode(data: bytes, size_wh: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Decode the picture that the file shows, turned as its boxes say, in a process of its own.

    The orientation in Exif is not looked at: it says the same once more, and turning twice would be wrong.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        BrokenPicture: it cannot be decoded.
    """
    most = BASE_BYTES + BYTES_A_PIXEL * size_wh[0] * size_wh[1]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "edgeface.image_formats.heic_child", str(most)],
            input=data,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BrokenPicture(f"the HEIC cannot be decoded ({error})") from error
    if done.returncode != 0 or len(done.stdout) < 12:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise BrokenPicture(f"the HEIC cannot be decoded ({said or 'its reader crashed'})")
    width, height, channels = struct.unpack_from("<III", done.stdout)
    if width * height * channels != len(done.stdout) - 12 or not 1 <= channels <= 4:
        raise BrokenPicture(f"the HEIC decodes to {width} x {height} pixels of {channels} channels")
    pixels = np.frombuffer(done.stdout, np.uint8, offset=12).reshape(height, width, channels)
    return np.ascontiguousarray(pixels[:, :, :3] if channels > 2 else np.repeat(pixels[:, :, :1], 3, axis=2))
