"""GIF 87a and 89a: blocks that lie in the file, and frames that fit the screen."""

import struct
from typing import Final

from edgeface.image_formats.broken import BrokenPicture, other_size

MAX_FRAMES: Final = 20_000


def check(data: bytes, size_wh: tuple[int, int]) -> None:
    """Walk the blocks.

    Raises:
        BrokenPicture: a frame reaches out of the screen, or the file ends before the picture.
    """
    try:
        _walk(data, size_wh)
    except (IndexError, struct.error):
        raise BrokenPicture("the GIF is cut off", cut=True) from None


def _walk(data: bytes, size_wh: tuple[int, int]) -> None:
    at = 13 + _palette(data[10])
    for frames in range(MAX_FRAMES):
        while data[at] == 0x21:  # an extension
            at = _after_blocks(data, at + 2)
        if data[at] == 0x3B:
            if not frames:
                raise BrokenPicture("the GIF has no picture")
            return
        if data[at] != 0x2C:
            raise BrokenPicture(f"the GIF has a block of the unknown kind {data[at]:#04x}")
        x, y, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
        if not (width and height and x + width <= size_wh[0] and y + height <= size_wh[1]):
            raise other_size(f"a frame at ({x}, {y})", (width, height), size_wh)
        at += 10 + _palette(flags)
        if not 2 <= data[at] <= 11:
            raise BrokenPicture(f"the GIF has codes of {data[at]} bits, which there are not")
        at = _after_blocks(data, at + 1)
    raise BrokenPicture(f"the GIF has more than {MAX_FRAMES:,} frames")


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    while length := data[at]:
        at += 1 + length
    return at + 1
