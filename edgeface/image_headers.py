"""How large a picture says it is, from the first bytes of its file, and whether all of the file agrees.

A few kilobytes can ask for gigabytes of pixels; this is asked before a decoder is let near them. OpenCV has
no such question: its own limit is set for the whole process before it is loaded, and far above ours.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edgeface.image_formats import bmp, gif, heif, jpeg, jpeg2000, netpbm, png, tiff, webp
from edgeface.image_formats.broken import BrokenPicture
from edgeface.image_kinds import picture_kind


@dataclass(frozen=True, slots=True)
class Checked:
    """A picture whose structure holds.

    Attributes:
        data: what to decode: the file, perhaps without parts that no decoder needs.
        by_rows: whether a decoder that makes it smaller needs memory for some rows only, not for all pixels.
    """

    data: bytes
    by_rows: bool = False


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels as the header of a picture says; None where it says none.

    They are those of the pixels as stored: a picture that is turned by its orientation has them swapped. Nothing else
    of the file is looked at; `check_structure` does that.
    """
    read = _SIZES.get(picture_kind(data))
    try:
        size_wh = None if read is None else read(data)
    except (struct.error, IndexError, ValueError, OverflowError, BrokenPicture):  # cut off in the header
        return None
    return size_wh if size_wh is not None and min(size_wh) > 0 else None


def check_structure(data: bytes, size_wh: tuple[int, int]) -> Checked:
    """Check that a picture is what its header says, all through the file.

    Args:
        data: a file of a kind that is read.
        size_wh: from `picture_size`.

    Raises:
        BrokenPicture: another size is stated elsewhere, something lies outside of the file, or the file asks for far
            more memory or time than its pixels need.
    """
    kind = picture_kind(data)
    try:
        if kind == "PNG":
            return Checked(png.check(data, size_wh))
        if kind == "JPEG":
            return Checked(data, by_rows=not jpeg.check(data, size_wh))
        _CHECKS[kind](data, size_wh)
    except (struct.error, IndexError):
        raise BrokenPicture(f"the {kind} is cut off", cut=True) from None
    return Checked(data)


def _png(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """ITU-T T.81, annex B: segments of a marker and a length, up to the start of a frame."""
    at = 2
    for _ in range(jpeg.MAX_SEGMENTS):
        marker, at = jpeg.next_marker(data, at)
        if marker in jpeg.FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if marker in (0xD9, 0xDA):  # the end, or pixels without a frame
            return None
        if marker not in jpeg.BARE and marker != 0:
            (length,) = struct.unpack_from(">H", data, at)
            at += max(2, length)
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    """RFC 9649: lossy, lossless, or extended with the size of the canvas."""
    kind = data[12:16]
    if kind == b"VP8X":
        if len(data) < 30:
            return None
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    return webp.frame_size(data, kind, 20, len(data) - 20) if kind in (b"VP8 ", b"VP8L") else None


def _bmp(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return width, abs(height)  # a negative height is a picture from the top down


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _netpbm(data: bytes) -> tuple[int, int] | None:
    header = netpbm.read_header(data)
    return None if header is None else (header.width, header.height)


def _tiff(data: bytes) -> tuple[int, int] | None:
    """TIFF 6.0, section 2, and BigTIFF: ImageWidth and ImageLength of the first page."""
    page = tiff.first_page(data)
    width, height = page.value(tiff.WIDTH), page.value(tiff.HEIGHT)
    return None if width is None or height is None else (width, height)


_SIZES: Final[dict[str, Callable[[bytes], tuple[int, int] | None]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WebP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
    "GIF": _gif,
    "AVIF": heif.size,
    "HEIC": heif.size,
    "PNM": _netpbm,
    "JPEG 2000": jpeg2000.size,
}
_CHECKS: Final[dict[str, Callable[[bytes, tuple[int, int]], None]]] = {
    "WebP": webp.check,
    "BMP": bmp.check,
    "TIFF": tiff.check,
    "GIF": gif.check,
    "AVIF": heif.check,
    "HEIC": heif.check,
    "PNM": netpbm.check,
    "JPEG 2000": jpeg2000.check,
}
