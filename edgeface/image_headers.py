"""How large a picture says it is, from the first bytes of its file.

A few kilobytes can ask for gigabytes of pixels; this is asked before a decoder is let near them. OpenCV has
no such question: its own limit is set for the whole process before it is loaded, and far above ours.
"""

import struct
from typing import Final

# Start of frame, with or without differential or arithmetic coding; C4, C8 and CC between them are tables.
_JPEG_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_TIFF_TYPES: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of those that a width or height may have


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels as the header of a JPEG, PNG, WebP, BMP or TIFF says; None for all else.

    They are those of the pixels as stored: a picture that is turned by its EXIF orientation has them swapped.
    """
    try:
        if data[:3] == b"\xff\xd8\xff":
            size_wh = _jpeg(data)
        elif data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            size_wh = struct.unpack_from(">II", data, 16)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            size_wh = _webp(data)
        elif data[:2] == b"BM":
            size_wh = _bmp(data)
        elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            size_wh = _tiff(data)
        else:
            return None
    except (struct.error, IndexError):  # cut off in the header
        return None
    return size_wh if size_wh is not None and min(size_wh) > 0 else None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """ITU-T T.81, annex B: segments of a marker and a length, up to the start of a frame."""
    at = 2
    while True:
        while data[at] != 0xFF:  # rubbish between segments, which decoders pass over
            at += 1
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if marker in (0xD9, 0xDA):  # the end, or pixels without a frame
            return None
        if marker not in _JPEG_BARE and marker != 0:
            (length,) = struct.unpack_from(">H", data, at)
            at += max(2, length)


def _webp(data: bytes) -> tuple[int, int] | None:
    """RFC 9649: lossy, lossless, or extended with the size of the canvas."""
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        if len(data) < 30:
            return None
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    return None


def _bmp(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)  # a negative height is a picture from the top down


def _tiff(data: bytes) -> tuple[int, int] | None:
    """TIFF 6.0, section 2, and BigTIFF: ImageWidth (256) and ImageLength (257) of the first directory."""
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    found: dict[int, int] = {}
    for _ in range(min(entries, 4096)):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag in (256, 257) and kind in _TIFF_TYPES:
            (found[tag],) = struct.unpack_from(order + _TIFF_TYPES[kind], data, at + (12 if big else 8))
        at += 20 if big else 12
    return (found[256], found[257]) if len(found) == 2 else None
