"""JPEG (ITU-T T.81): one frame, one size, and no more scans than a picture needs."""

import re
import struct
from typing import Final

from edgeface.image_formats.broken import BrokenPicture, other_size

MAX_SEGMENTS: Final = 20_000
"""An Exif preview, a profile and a depth map in pieces of 64 kB take some hundred."""

MAX_SCANS: Final = 200
"""Encoders write about ten; each one makes a decoder go over the whole picture."""

MAX_SCANNED: Final = 4_000_000_000
"""Pixels of all scans together: ten scans of 400 megapixels."""

FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of the start of a frame, with or without differential or arithmetic coding; the others are tables."""

BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""

_AFTER_PIXELS: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_FILL: Final = re.compile(rb"\xff+")


def next_marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the next marker and where it ends; rubbish and padding before it are passed over, as decoders do.

    Raises:
        ValueError, IndexError: there is none.
    """
    fill = _FILL.match(data, data.index(b"\xff", at))
    assert fill is not None
    return data[fill.end()], fill.end() + 1


def check(data: bytes, size_wh: tuple[int, int]) -> bool:
    """Walk the segments up to the end of the picture.

    Returns:
        Whether a decoder must hold the whole picture, because it comes in several scans, instead of some rows of it.

    Raises:
        BrokenPicture: a second size is stated, the file ends before the picture, or there are far too many scans.
    """
    try:
        return _walk(data, size_wh)
    except (ValueError, IndexError, struct.error):
        raise BrokenPicture("the JPEG is cut off", cut=True) from None


def _walk(data: bytes, size_wh: tuple[int, int]) -> bool:
    at, frames, scans = 2, 0, 0
    for _ in range(MAX_SEGMENTS):
        marker, at = next_marker(data, at)
        if marker == 0xD9:
            if not scans:
                raise BrokenPicture("the JPEG has no pixels")
            return scans > 1
        if marker in BARE or marker == 0:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if marker in FRAMES:
            frames += 1
            height, width = struct.unpack_from(">HH", data, at + 3)
            if (width, height) != size_wh:
                raise other_size("another frame", (width, height), size_wh)
            if frames > 1:
                raise BrokenPicture("the JPEG has two frames")
        elif marker == 0xDC:
            (height,) = struct.unpack_from(">H", data, at + 2)
            if height != size_wh[1]:
                raise other_size("its line count", (size_wh[0], height), size_wh)
        elif marker in (0xDE, 0xDF):
            raise BrokenPicture("the JPEG is hierarchical, which no common decoder reads")
        at += max(2, length)
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS or scans * size_wh[0] * size_wh[1] > MAX_SCANNED:
                raise BrokenPicture(f"the JPEG has more than {scans - 1} scans of {size_wh[0]} x {size_wh[1]} pixels")
            found = _AFTER_PIXELS.search(data, at)
            if found is None:
                raise BrokenPicture("the JPEG is cut off", cut=True)
            at = found.start()
    raise BrokenPicture(f"the JPEG has more than {MAX_SEGMENTS:,} segments")
