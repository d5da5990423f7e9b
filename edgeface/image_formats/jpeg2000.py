"""JPEG 2000 (ISO 15444-1), as a file of boxes or a bare codestream: one size, and no more work than pixels need."""

import struct
from typing import Final

from edgeface.image_formats.boxes import Box, boxes
from edgeface.image_formats.broken import BrokenPicture, other_size

BOX: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
STREAM: Final = b"\xff\x4f\xff\x51"

MAX_TILES: Final = 4096


def size(data: bytes) -> tuple[int, int] | None:
    """Return width and height as the codestream says."""
    at = _stream(data)
    return None if at is None else _size(data, at)


def check(data: bytes, size_wh: tuple[int, int]) -> None:
    """Check the sizes of the file against each other.

    Raises:
        BrokenPicture: they differ, or it takes far more memory or time than a picture does.
    """
    try:
        at = _stream(data)
        if at is None:
            raise BrokenPicture("the JPEG 2000 has no picture", cut=True)
        if _size(data, at) != size_wh:
            raise other_size("its codestream", _size(data, at), size_wh)
        for stated in _headers(data):
            if stated != size_wh:
                raise other_size("its header", stated, size_wh)
        _check_stream(data, at)
    except (struct.error, IndexError):
        raise BrokenPicture("the JPEG 2000 is cut off", cut=True) from None


def _stream(data: bytes) -> int | None:
    if data[:4] == STREAM:
        return 0
    return next((box.start for box in boxes(data, 0, len(data)) if box.kind == b"jp2c"), None)


def _size(data: bytes, at: int) -> tuple[int, int]:
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    return max(0, right - left), max(0, bottom - top)


def _headers(data: bytes) -> list[tuple[int, int]]:
    if data[:4] == STREAM:
        return []
    outer: list[Box] = [box for box in boxes(data, 0, len(data)) if box.kind == b"jp2h"]
    found = [inner for box in outer for inner in boxes(data, box.start, box.end) if inner.kind == b"ihdr"]
    sizes = [struct.unpack_from(">II", data, box.start) for box in found]
    return [(width, height) for height, width in sizes]


def _check_stream(data: bytes, at: int) -> None:
    right, bottom, left, top, tile_w, tile_h, tile_x, tile_y, parts = struct.unpack_from(">IIIIIIIIH", data, at + 8)
    if not (tile_w and tile_h and tile_x <= left < tile_x + tile_w and tile_y <= top < tile_y + tile_h):
        raise BrokenPicture("the tiles of the JPEG 2000 make no sense")
    tiles = -(-(right - tile_x) // tile_w) * -(-(bottom - tile_y) // tile_h)
    if tiles > MAX_TILES:
        raise BrokenPicture(f"the JPEG 2000 has {tiles:,} tiles")
    if not 1 <= parts <= 4:
        raise BrokenPicture(f"the JPEG 2000 has {parts} channels, which are not read")
    for part in range(parts):
        depth, across, down = struct.unpack_from(">BBB", data, at + 42 + 3 * part)
        if (across, down) not in ((1, 1), (2, 1), (2, 2)) or (depth & 127) + 1 > 16:
            raise BrokenPicture("the channels of the JPEG 2000 have depths or sizes that are not read")
