"""PNG (ISO 15948) and APNG: chunks that lie in the file, one size, and enough data for it."""

import struct
from typing import Final

from edgeface.image_formats.broken import BrokenPicture, other_size

MAX_CHUNKS: Final = 200_000
"""A gigabyte in chunks of 8 kB, as libpng writes them, has fewer."""

MAX_SMALL: Final = 65_536
"""Bytes of a chunk that is no pixel data and is kept."""

INFLATION: Final = 1032
"""So many bytes come out of one byte of deflate at most."""

# All others say nothing that is used here: texts and colour profiles may unpack to gigabytes, and OpenCV's reader of
# animations crashes on broken ones, so an animation is the still picture that it is to a viewer that knows none.
KEPT: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"eXIf"})

# Colour type to channels and the bit depths that it may have.
_COLOURS: Final = {0: (1, {1, 2, 4, 8, 16}), 2: (3, {8, 16}), 3: (1, {1, 2, 4, 8}), 4: (2, {8, 16}), 6: (4, {8, 16})}


def check(data: bytes, size_wh: tuple[int, int]) -> bytes:
    """Walk the chunks; returns the file without those that no decoder needs.

    Raises:
        BrokenPicture: a chunk reaches out of the file, sizes differ, or the pixels cannot be in so little data.
    """
    at, kept, start, packed, count, needed = 8, list[bytes](), 0, 0, 0, 0
    while at < len(data):
        if at + 12 > len(data):
            raise BrokenPicture("the PNG is cut off between two chunks", cut=True)
        length, kind = struct.unpack_from(">I4s", data, at)
        if length > len(data) - at - 12:
            raise BrokenPicture(
                f"chunk {_name(kind)} of the PNG says {length:,} bytes where {len(data) - at - 12:,} are left",
                cut=True,
            )
        count += 1
        if count > MAX_CHUNKS:
            raise BrokenPicture(f"the PNG has more than {MAX_CHUNKS:,} chunks")
        if (kind == b"IHDR") != (count == 1):
            raise BrokenPicture("the PNG states its size twice" if kind == b"IHDR" else "the PNG has no header")
        if kind == b"IHDR":
            needed = _needed(data, at + 8, length, size_wh)
        elif kind == b"fcTL":
            _check_frame(data, at + 8, length, size_wh, first=packed == 0)
        packed += length if kind == b"IDAT" else 0
        end = at + 12 + length
        if kind not in KEPT or (kind != b"IDAT" and length > MAX_SMALL):
            kept.append(data[start:at])
            start = end
        at = end
        if kind == b"IEND":
            break
    else:
        raise BrokenPicture("the PNG has no end", cut=True)
    if packed * INFLATION < needed:
        raise BrokenPicture(f"the PNG has {packed:,} bytes for {size_wh[0]} x {size_wh[1]} pixels", cut=True)
    return b"".join((*kept, data[start:at])) if kept or at < len(data) else data


def _needed(data: bytes, at: int, length: int, size_wh: tuple[int, int]) -> int:
    """Check the header; returns how many bytes of pixels follow once they are unpacked."""
    if length != 13:
        raise BrokenPicture(f"the header of the PNG has {length} bytes instead of 13")
    stated_wh: tuple[int, int] = struct.unpack_from(">II", data, at)
    depth, colour = data[at + 8], data[at + 9]
    if stated_wh != size_wh:
        raise other_size("its header", stated_wh, size_wh)
    if colour not in _COLOURS or depth not in _COLOURS[colour][1]:
        raise BrokenPicture(f"the PNG has colour type {colour} with {depth} bits, which there is not")
    return size_wh[1] * ((size_wh[0] * int(depth) * _COLOURS[colour][0] + 7) // 8 + 1)


def _check_frame(data: bytes, at: int, length: int, size_wh: tuple[int, int], *, first: bool) -> None:
    """Check where a frame of an animation lies; the first one, before the pixels, is the picture itself."""
    if length != 26:
        raise BrokenPicture(f"a frame of the animated PNG is described in {length} bytes instead of 26")
    width, height, x, y = struct.unpack_from(">IIII", data, at + 4)
    whole = (width, height, x, y) == (*size_wh, 0, 0)
    if not (width and height and x + width <= size_wh[0] and y + height <= size_wh[1]) or (first and not whole):
        raise other_size(f"a frame at ({x}, {y})", (width, height), size_wh)


def _name(kind: bytes) -> str:
    return repr(kind.decode("latin-1")) if not kind.isalpha() else kind.decode()
