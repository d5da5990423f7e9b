"""TIFF 6.0 and BigTIFF: one value for each tag of the first page, and pixels that lie in the file."""

import struct
from dataclasses import dataclass
from typing import Final

from edgeface.image_formats.broken import BrokenPicture, other_size

SUBSAMPLED: Final = 6
"""The photometric interpretation YCbCr, whose colours may have fewer pixels."""

MAX_TAGS: Final = 4096
MAX_PAGES: Final = 10_000
MAX_RAW: Final = 800_000_000
"""Bytes of the pixels as they lie in the file once unpacked: 100 megapixels of four channels with 16 bits."""

MAX_TILE: Final = 1 << 24
"""Pixels of a tile, which is decoded as a whole; 256 x 256 are usual."""

TYPE_BYTES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_WHOLE: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIPS, SAMPLES, ROWS, STRIP_BYTES, PLANES = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUB_PAGES, DNG = 322, 323, 324, 325, 330, 50706

PLAIN: Final = 1
PACKED: Final = frozenset({PLAIN, 2, 3, 4, 5, 7, 8, 32773, 32946})
"""Packings that are read: none, CCITT, LZW, JPEG, deflate, PackBits."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tag of a page: `count` values of `kind`, which lie at `at` of the file."""

    kind: int
    count: int
    at: int


@dataclass(frozen=True, slots=True)
class Page:
    """The tags of a page, the first of several equal ones; `doubled` names those others."""

    data: bytes
    order: str
    tags: dict[int, Entry]
    doubled: frozenset[int]
    next_at: int

    def values(self, tag: int) -> tuple[int, ...]:
        """Return the whole numbers of a tag; none if it is not there.

        Raises:
            struct.error: they do not lie in the file.
        """
        entry = self.tags.get(tag)
        if entry is None or entry.kind not in _WHOLE:
            return ()
        size = TYPE_BYTES[entry.kind] * entry.count
        if entry.at + size > len(self.data):
            raise struct.error("out of the file")
        return struct.unpack_from(f"{self.order}{entry.count}{_WHOLE[entry.kind]}", self.data, entry.at)

    def value(self, tag: int, default: int | None = None) -> int | None:
        """Return the first number of a tag."""
        entry = self.tags.get(tag)
        if entry is None or entry.kind not in _WHOLE or not entry.count:
            return default
        return int(struct.unpack_from(self.order + _WHOLE[entry.kind], self.data, entry.at)[0])


def first_page(data: bytes) -> Page:
    """Read the tags of the first page.

    Raises:
        struct.error: they do not lie in the file.
    """
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    return _read_page(data, at, order, big)


def is_raw(page: Page) -> bool:
    """Whether the first page is the preview of a camera's raw file: DNG, NEF, ARW, PEF and their like."""
    if DNG in page.tags or page.value(PHOTOMETRIC) in (32803, 34892):
        return True
    return bool((page.value(SUBFILE, 0) or 0) & 1) and SUB_PAGES in page.tags


def check(data: bytes, size_wh: tuple[int, int]) -> None:
    """Check the first page, which is the one that is decoded, and that the chain of pages ends.

    Raises:
        BrokenPicture: a tag is there twice, pixels lie outside of the file, or it takes far more memory than pixels.
    """
    try:
        page = first_page(data)
        _check_page(page, size_wh)
        _check_chain(page)
    except (struct.error, IndexError, OverflowError, MemoryError):
        raise BrokenPicture("the TIFF is cut off", cut=True) from None


def _read_page(data: bytes, at: int, order: str, big: bool) -> Page:
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    step, inline = (20, 8) if big else (12, 4)
    if entries > MAX_TAGS:
        raise BrokenPicture(f"the TIFF has {entries:,} tags")
    tags, doubled = dict[int, Entry](), set[int]()
    for _ in range(entries):
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, at)
        place = at + step - inline
        if TYPE_BYTES.get(kind, 1) * count > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        if tag in tags:
            doubled.add(tag)
        tags.setdefault(tag, Entry(kind, count, place))
        at += step
    following = int.from_bytes(data[at : at + (8 if big else 4)], "little" if order == "<" else "big")
    return Page(data, order, tags, frozenset(doubled), following)


def _check_page(page: Page, size_wh: tuple[int, int]) -> None:
    if page.doubled:
        raise BrokenPicture(f"the TIFF has the tag {min(page.doubled)} twice")
    stated_wh = (page.value(WIDTH) or 0, page.value(HEIGHT) or 0)
    if stated_wh != size_wh:
        raise other_size("its tags", stated_wh, size_wh)
    for tag, entry in page.tags.items():
        size = TYPE_BYTES.get(entry.kind, 1) * entry.count
        if entry.at + size > len(page.data):
            raise BrokenPicture(f"tag {tag} of the TIFF has {size:,} bytes, which do not lie in the file", cut=True)
    packing = page.value(COMPRESSION, PLAIN)
    if packing not in PACKED:
        raise BrokenPicture(f"the TIFF is packed as {packing}, which is not read")
    samples, bits = page.value(SAMPLES, 1) or 0, page.values(BITS) or (1,)
    if not 1 <= samples <= 8 or len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 10, 12, 14, 16, 32, 64):
        raise BrokenPicture(f"the TIFF has {samples} channels of {bits[0]} bits, which are not read")
    if len(bits) not in (1, samples):
        raise BrokenPicture(f"the TIFF has {samples} channels and says the bits of {len(bits)}")
    if size_wh[0] * size_wh[1] * samples * bits[0] // 8 > MAX_RAW:
        raise BrokenPicture(f"the TIFF unpacks to more than {MAX_RAW:,} bytes")
    apart = samples if page.value(PLANES, 1) == 2 else 1
    _check_pixels(page, size_wh, samples // apart * bits[0], apart, plain=packing == PLAIN)


def _check_pixels(page: Page, size_wh: tuple[int, int], bits: int, planes: int, *, plain: bool) -> None:
    """Check the strips or tiles of which the page consists; `bits` are those of a pixel in one of its planes."""
    tiled = TILE_WIDTH in page.tags or TILE_HEIGHT in page.tags
    if tiled == (STRIPS in page.tags):
        raise BrokenPicture("the TIFF has both strips and tiles, or neither")
    if tiled:
        width, height = page.value(TILE_WIDTH) or 0, page.value(TILE_HEIGHT) or 0
        if not (width and height) or width * height > MAX_TILE:
            raise BrokenPicture(f"the TIFF has tiles of {width} x {height} pixels")
        offsets, lengths = page.values(TILES), page.values(TILE_BYTES)
    else:
        width, height = size_wh[0], min(page.value(ROWS, size_wh[1]) or 0, size_wh[1])
        if not height:
            raise BrokenPicture("the TIFF has strips without rows")
        offsets, lengths = page.values(STRIPS), page.values(STRIP_BYTES)
    count = -(-size_wh[0] // width) * -(-size_wh[1] // height) * planes
    if len(offsets) != count or len(lengths) != count:
        raise BrokenPicture(f"the TIFF has {len(offsets)} offsets and {len(lengths)} lengths for {count} pieces")
    if max(at + length for at, length in zip(offsets, lengths, strict=True)) > len(page.data):
        raise BrokenPicture("pixels of the TIFF lie outside of the file", cut=True)
    if plain and not tiled and page.value(PHOTOMETRIC) != SUBSAMPLED:
        last = size_wh[1] - (count // planes - 1) * height
        rows = [height] * (count // planes - 1) + [last]
        if any(length < (width * bits + 7) // 8 * high for length, high in zip(lengths, rows * planes, strict=True)):
            raise BrokenPicture("a strip of the TIFF is too short for its pixels", cut=True)


def _check_chain(page: Page) -> None:
    """Follow the pages to the end; pages after the first may have any size, but must not lead back."""
    data, order = page.data, page.order
    big = data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    seen, at = {start}, page.next_at
    while at and at < len(data):
        if at in seen or len(seen) > MAX_PAGES:
            raise BrokenPicture("the pages of the TIFF lead back to an earlier one, or are far too many")
        seen.add(at)
        try:
            (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
            (at,) = struct.unpack_from(
                order + ("Q" if big else "I"), data, at + (8 + 20 * entries if big else 2 + 12 * entries)
            )
        except (struct.error, OverflowError):
            return  # a page that is cut off is not decoded
