"""Windows and OS/2 bitmaps: a palette, an offset and pixels that lie in the file."""

import struct
from typing import Final

from edgeface.image_formats.broken import BrokenPicture

HEADERS: Final = frozenset({12, 40, 52, 56, 64, 108, 124})
RLE: Final = frozenset({1, 2})
_RAW: Final = frozenset({0, 3, 6})  # plain, or with masks for the channels


def check(data: bytes, size_wh: tuple[int, int]) -> None:
    """Check the header against the length of the file.

    Raises:
        BrokenPicture: a field makes no sense, or the pixels do not lie in the file.
    """
    offset, header = struct.unpack_from("<II", data, 10)
    if header not in HEADERS:
        raise BrokenPicture(f"the header of the bitmap has {header} bytes, which there is not")
    if len(data) < 14 + header:
        raise BrokenPicture("the bitmap is cut off", cut=True)
    compression = colours = 0
    if header == 12:
        height = size_wh[1]
        planes, depth = struct.unpack_from("<HH", data, 22)
    else:
        height, planes, depth, compression = struct.unpack_from("<iHHI", data, 22)
        (colours,) = struct.unpack_from("<I", data, 46)
    if planes != 1 or depth not in (1, 2, 4, 8, 16, 24, 32):
        raise BrokenPicture(f"the bitmap has {planes} planes of {depth} bits, which there is not")
    if colours > (1 << depth if depth <= 8 else 256):
        raise BrokenPicture(f"the bitmap has a palette of {colours:,} colours for {depth} bits")
    if compression in RLE and (depth != {1: 8, 2: 4}[compression] or height < 0):
        raise BrokenPicture(f"the bitmap is packed as {compression} with {depth} bits, which there is not")
    if compression not in RLE | _RAW:
        raise BrokenPicture(f"the bitmap is packed as {compression}, which is not read")
    if not 14 + header <= offset <= len(data):
        raise BrokenPicture(f"the pixels of the bitmap begin at {offset:,} of {len(data):,} bytes", cut=True)
    needed = (size_wh[0] * depth + 31) // 32 * 4 * size_wh[1]
    if compression in _RAW and needed > len(data) - offset:
        raise BrokenPicture(f"the bitmap has {len(data) - offset:,} bytes of pixels instead of {needed:,}", cut=True)
