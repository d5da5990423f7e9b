"""WebP (RFC 9649): chunks that lie in the file, and frames that fit the canvas."""

import struct

from edgeface.image_formats.broken import BrokenPicture, other_size


def check(data: bytes, size_wh: tuple[int, int]) -> None:
    """Walk the chunks.

    Raises:
        BrokenPicture: a chunk reaches out of the file, or a frame has another size than the canvas.
    """
    (stated,) = struct.unpack_from("<I", data, 4)
    end = stated + 8
    if not 12 <= end <= len(data):
        raise BrokenPicture(f"the WebP says {end:,} bytes and has {len(data):,}", cut=end > len(data))
    stills = frames = 0
    for kind, at, length in _chunks(data, 12, end):
        if kind in (b"VP8 ", b"VP8L"):
            stills += 1
            if frame_size(data, kind, at, length) != size_wh:
                raise other_size("its frame", frame_size(data, kind, at, length), size_wh)
        elif kind == b"ANMF":
            frames += 1
            _check_frame(data, at, length, size_wh)
        elif kind == b"VP8X":
            if length < 10:
                raise BrokenPicture("the WebP has a short header")
            canvas = (1 + int.from_bytes(data[at + 4 : at + 7], "little"), 1 + _three(data, at + 7))
            if canvas != size_wh:
                raise other_size("its canvas", canvas, size_wh)
    if stills > 1 or (stills and frames):
        raise BrokenPicture("the WebP has several pictures that are no animation")
    if not stills and not frames:
        raise BrokenPicture("the WebP has no picture", cut=True)


def frame_size(data: bytes, kind: bytes, at: int, length: int) -> tuple[int, int]:
    """Return the width and height of a lossy (`VP8 `) or lossless (`VP8L`) frame whose chunk begins at `at`."""
    if length < 10:
        raise BrokenPicture("the WebP has a frame without a header", cut=True)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, at + 6)
        return width & 0x3FFF, height & 0x3FFF
    (bits,) = struct.unpack_from("<I", data, at + 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _check_frame(data: bytes, at: int, length: int, size_wh: tuple[int, int]) -> None:
    if length < 16:
        raise BrokenPicture("the animated WebP has a frame without a header", cut=True)
    x, y = 2 * _three(data, at), 2 * _three(data, at + 3)
    width, height = 1 + _three(data, at + 6), 1 + _three(data, at + 9)
    if x + width > size_wh[0] or y + height > size_wh[1]:
        raise other_size(f"a frame at ({x}, {y})", (width, height), size_wh)
    for kind, start, inner in _chunks(data, at + 16, at + length):
        if kind in (b"VP8 ", b"VP8L") and frame_size(data, kind, start, inner) != (width, height):
            raise other_size("the pixels of a frame", frame_size(data, kind, start, inner), (width, height))


def _chunks(data: bytes, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """Return kind, start and length of each chunk."""
    found = []
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        if length > end - at - 8:
            raise BrokenPicture(f"a chunk of the WebP says {length:,} bytes and has {end - at - 8:,}", cut=True)
        found.append((kind, at + 8, length))
        at += 8 + length + length % 2
    return found


def _three(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")
