"""AVIF and HEIC (ISO 23008-12): every size that the file and its coded pictures state."""

import struct
from typing import Final

from edgeface.image_formats.bits import Bits
from edgeface.image_formats.boxes import Heif, Item, boxes, read_heif
from edgeface.image_formats.broken import BrokenPicture, other_size

MAX_TILES: Final = 4096
CODED: Final = frozenset({b"av01", b"hvc1", b"hev1"})
MAX_PADDING: Final = 64
"""Pixels by which a coded picture may exceed what is shown of it: coders work in blocks."""


def size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of the picture that the file shows, before it is turned; None if it says none."""
    heif = read_heif(data)
    return _size(data, heif.items[heif.primary])


def turns(data: bytes) -> tuple[int, int | None]:
    """Return how the picture is to be turned.

    Returns:
        Quarter turns against the clock; and then 0 to mirror it top to bottom, 1 left to right, None for neither. The
        orientation in Exif does not count in these formats.
    """
    quarter, mirror = 0, None
    heif = read_heif(data)
    for box in heif.items[heif.primary].properties:
        if box.kind == b"irot" and box.end > box.start:
            quarter = data[box.start] & 3
        elif box.kind == b"imir" and box.end > box.start:
            mirror = data[box.start] & 1
    return quarter, mirror


def check(data: bytes, size_wh: tuple[int, int]) -> None:
    """Check that all that the picture consists of has the size that is stated for it.

    Raises:
        BrokenPicture: sizes differ, or a part lies outside of the file.
    """
    try:
        heif = read_heif(data)
        _check_item(data, heif, heif.items[heif.primary], size_wh, depth=0)
        # Thumbnails and depth maps are not decoded, but a decoder may look at them.
        for item in heif.items.values():
            stated = _size(data, item)
            if stated is not None and stated[0] * stated[1] > 2 * (size_wh[0] + 64) * (size_wh[1] + 64):
                raise other_size("another of its pictures", stated, size_wh)
    except (IndexError, struct.error):
        raise BrokenPicture("a part of the picture is too short", cut=True) from None


def _size(data: bytes, item: Item) -> tuple[int, int] | None:
    found = [struct.unpack_from(">II", data, box.start + 4) for box in item.properties if box.kind == b"ispe"]
    if len(set(found)) > 1:
        raise BrokenPicture(f"the file says two sizes of one picture: {found[0]} and {found[1]}")
    return (found[0][0], found[0][1]) if found else None


def _check_item(data: bytes, heif: Heif, item: Item, size_wh: tuple[int, int], *, depth: int) -> None:
    if depth > 2:
        raise BrokenPicture("the picture is made of pictures that are made of it")
    stated = _size(data, item)
    if stated is not None and stated != size_wh:
        raise other_size("its box 'ispe'", stated, size_wh)
    if item.kind in CODED:
        coded = _coded_sizes(data, item)
        if not coded:
            raise BrokenPicture("the coded picture has no header", cut=True)
        for width, height in coded:
            if not (0 <= width - size_wh[0] <= MAX_PADDING and 0 <= height - size_wh[1] <= MAX_PADDING):
                raise other_size("its coded picture", (width, height), size_wh)
    elif item.kind == b"grid":
        _check_grid(data, heif, item, size_wh, depth)
    else:
        raise BrokenPicture(f"the picture is made as {item.kind.decode('latin-1')!r}, which is not read")


def _check_grid(data: bytes, heif: Heif, item: Item, size_wh: tuple[int, int], depth: int) -> None:
    head = _content(data, item, 64)
    rows, columns = head[2] + 1, head[3] + 1
    width, height = struct.unpack_from(">II" if head[1] & 1 else ">HH", head, 4)
    if (width, height) != size_wh:
        raise other_size("its grid", (width, height), size_wh)
    if len(item.parts) != rows * columns or rows * columns > MAX_TILES:
        raise BrokenPicture(f"the picture has {len(item.parts)} tiles for {rows} x {columns}")
    tiles = {number: heif.items[number] for number in item.parts if number in heif.items}
    if len(tiles) != len(set(item.parts)) or len(tiles) != len(item.parts):
        raise BrokenPicture("a tile of the picture is missing, or there twice")
    sizes = {_size(data, tile) for tile in tiles.values()}
    tile_wh = sizes.pop()
    if sizes or tile_wh is None:
        raise BrokenPicture("the tiles of the picture have several sizes, or none")
    for tile, whole, count in zip(tile_wh, size_wh, (columns, rows), strict=True):
        if not tile * (count - 1) < whole <= tile * count:
            raise other_size(f"{rows} x {columns} tiles", (tile_wh[0] * columns, tile_wh[1] * rows), size_wh)
    for part in tiles.values():
        _check_item(data, heif, part, tile_wh, depth=depth + 1)


def _coded_sizes(data: bytes, item: Item) -> set[tuple[int, int]]:
    """Return every size that the headers of a coded picture state."""
    sizes = set()
    for box in item.properties:
        if box.kind == b"hvcC":
            sizes |= {_h265_size(unit) for unit in _parameter_sets(data, box.start, box.end) if unit[0] >> 1 & 63 == 33}
        elif box.kind == b"av1C":
            sizes |= _av1_sizes(data[box.start + 4 : box.end])
    content = _content(data, item)
    if item.kind == b"av01":
        sizes |= _av1_sizes(content)
    else:
        sizes |= {_h265_size(unit) for unit in _units(content) if unit and unit[0] >> 1 & 63 == 33}
    return sizes


def _content(data: bytes, item: Item, most: int | None = None) -> bytes:
    """Return the content of an item, or its beginning; longer than the file it cannot be."""
    if sum(end - start for start, end in item.extents) > len(data):
        raise BrokenPicture("the parts of the picture overlap")
    return b"".join(data[start:end] for start, end in item.extents)[:most]


def _parameter_sets(data: bytes, at: int, end: int) -> list[bytes]:
    """Return the units in an `hvcC` box."""
    units, at, arrays = [], at + 23, data[at + 22]
    for _ in range(arrays):
        (count,) = struct.unpack_from(">H", data, at + 1)
        at += 3
        for _ in range(count):
            (length,) = struct.unpack_from(">H", data, at)
            if not 2 <= length <= end - at - 2:
                raise BrokenPicture("the headers of the coded picture are too short", cut=True)
            units.append(data[at + 2 : at + 2 + length])
            at += 2 + length
    return units


def _units(content: bytes) -> list[bytes]:
    """Return the beginnings of the units of an H.265 picture, each after its length."""
    units, at = [], 0
    while at + 4 <= len(content):
        length = int.from_bytes(content[at : at + 4])
        if length > len(content) - at - 4:
            raise BrokenPicture("the coded picture is cut off", cut=True)
        units.append(content[at + 4 : at + 4 + min(length, 4096)])
        at += 4 + length
    return units


def _h265_size(unit: bytes) -> tuple[int, int]:
    """Return width and height of a sequence parameter set (H.265, 7.3.2.2)."""
    bits = Bits(unit[2:].replace(b"\0\0\3", b"\0\0"))
    bits.read(4)
    layers = bits.read(3)
    bits.read(1 + 96)  # the profile, tier and level of the whole
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.read(2 * (8 - layers))
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
    bits.read_exponential()
    if bits.read_exponential() == 3:
        bits.read(1)
    return bits.read_exponential(), bits.read_exponential()


def _av1_sizes(content: bytes) -> set[tuple[int, int]]:
    """Return width and height of every sequence header among the units of an AV1 picture (AV1, 5.5)."""
    sizes, at = set(), 0
    while at < len(content):
        kind, extended, sized = content[at] >> 3 & 15, content[at] >> 2 & 1, content[at] >> 1 & 1
        at += 1 + extended
        length = len(content) - at
        if sized:
            length, shift = 0, 0
            while True:
                length |= (content[at] & 127) << shift
                shift += 7
                at += 1
                if not content[at - 1] & 128:
                    break
                if shift > 56:
                    raise BrokenPicture("a unit of the coded picture has no length")
            if length > len(content) - at:
                raise BrokenPicture("the coded picture is cut off", cut=True)
        if kind == 1:
            sizes.add(_av1_size(content[at : at + length]))
        at += length
    return sizes


def _av1_size(header: bytes) -> tuple[int, int]:
    bits = Bits(header)
    bits.read(3 + 1)
    if bits.read(1):  # reduced, as in single pictures
        bits.read(5)
    else:
        model, delayed = 0, 0
        if bits.read(1):  # timing
            bits.read(64)
            if bits.read(1):
                bits.read_exponential()
            model = bits.read(1)
            if model:
                delayed = bits.read(5) + 1
                bits.read(32 + 5 + 5)
        initial = bits.read(1)
        for _ in range(bits.read(5) + 1):
            bits.read(12)
            if bits.read(5) > 7:
                bits.read(1)
            if model and bits.read(1):
                bits.read(2 * delayed + 1)
            if initial and bits.read(1):
                bits.read(4)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1


def brands(data: bytes) -> frozenset[bytes]:
    """Return what a file of boxes says that it is compatible with; empty if it is none."""
    if data[4:8] != b"ftyp":
        return frozenset()
    try:
        box = next(boxes(data, 0, min(len(data), int.from_bytes(data[:4]))))
    except (BrokenPicture, StopIteration):
        return frozenset({data[8:12]})
    names = {data[box.start : box.start + 4]}
    return frozenset(names | {data[at : at + 4] for at in range(box.start + 8, min(box.end, box.start + 400), 4)})
