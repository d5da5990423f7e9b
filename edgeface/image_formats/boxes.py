"""The boxes of ISO base media files (ISO 14496-12, 23008-12), in which AVIF, HEIC and JPEG 2000 come."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from edgeface.image_formats.broken import BrokenPicture

MAX_BOXES: Final = 20_000
"""A photograph of 48 megapixels in tiles of 512 pixels has some hundred."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its kind, and where its content begins and ends in the file."""

    kind: bytes
    start: int
    end: int


@dataclass(slots=True)
class Item:
    """One of the pictures, or other things, of which a HEIF file consists.

    Attributes:
        kind: `av01`, `hvc1`, `grid`, `Exif`, ...
        properties: boxes that describe it, in order.
        extents: (start, end) of its content in the file.
        parts: numbers of the items that it is made of.
    """

    kind: bytes = b""
    properties: list[Box] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Heif:
    """The items of a HEIF file by their numbers, and the number of the picture that it shows."""

    items: dict[int, Item]
    primary: int


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Give the boxes between two places.

    Raises:
        BrokenPicture: one reaches out, or there are far too many.
    """
    for _ in range(MAX_BOXES):
        if start >= end:
            return
        if start + 8 > end:
            raise BrokenPicture("the file is cut off between two boxes", cut=True)
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            if start + 16 > end:
                raise BrokenPicture("the file is cut off in a box", cut=True)
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        elif size == 0:
            size = end - start
        if not head <= size <= end - start:
            raise BrokenPicture(
                f"the box {kind.decode('latin-1')!r} says {size:,} bytes where {end - start:,} are left", cut=True
            )
        yield Box(kind, start + head, start + size)
        start += size
    raise BrokenPicture(f"the file has more than {MAX_BOXES:,} boxes")


def read_heif(data: bytes) -> Heif:
    """Read what a HEIF file consists of.

    Raises:
        BrokenPicture: it lacks a part, or something lies outside of the file.
    """
    meta = [box for box in boxes(data, 0, len(data)) if box.kind == b"meta"]
    if len(meta) != 1:
        raise BrokenPicture(f"the file has {len(meta)} boxes 'meta' instead of one", cut=not meta)
    try:
        return _read_meta(data, meta[0])
    except (struct.error, IndexError):
        raise BrokenPicture("a box of the file is too short", cut=True) from None


def _read_meta(data: bytes, meta: Box) -> Heif:
    found: dict[bytes, Box] = {}
    for box in boxes(data, meta.start + 4, meta.end):
        if box.kind in found and box.kind != b"free":
            raise BrokenPicture(f"the file has the box {box.kind.decode('latin-1')!r} twice")
        found[box.kind] = box
    if missing := [kind for kind in (b"pitm", b"iinf", b"iloc", b"iprp") if kind not in found]:
        raise BrokenPicture(f"the file lacks the box {missing[0].decode()!r}")
    items: dict[int, Item] = {}
    _read_kinds(data, found[b"iinf"], items)
    _read_places(data, found[b"iloc"], found.get(b"idat"), items)
    _read_properties(data, found[b"iprp"], items)
    if b"iref" in found:
        _read_parts(data, found[b"iref"], items)
    (primary,) = struct.unpack_from(">I" if data[found[b"pitm"].start] else ">H", data, found[b"pitm"].start + 4)
    if primary not in items:
        raise BrokenPicture("the picture that the file shows is not in it")
    return Heif(items, primary)


def _read_kinds(data: bytes, box: Box, items: dict[int, Item]) -> None:
    for entry in boxes(data, box.start + (8 if data[box.start] else 6), box.end):
        version = data[entry.start]
        if entry.kind != b"infe" or version < 2:
            continue
        number, _, kind = struct.unpack_from(">IH4s" if version > 2 else ">HH4s", data, entry.start + 4)
        items.setdefault(number, Item()).kind = kind


def _read_places(data: bytes, box: Box, inner: Box | None, items: dict[int, Item]) -> None:
    version, sizes, sizes_too = data[box.start], data[box.start + 4], data[box.start + 5]
    widths = {"offset": sizes >> 4, "length": sizes & 15, "base": sizes_too >> 4, "index": sizes_too & 15}
    if version == 0:
        widths["index"] = 0
    if not set(widths.values()) <= {0, 4, 8}:
        raise BrokenPicture("the table of places in the file makes no sense")
    (count,) = struct.unpack_from(">I" if version == 2 else ">H", data, box.start + 6)
    at = box.start + (10 if version == 2 else 8)
    for _ in range(min(count, MAX_BOXES)):
        (number,) = struct.unpack_from(">I" if version == 2 else ">H", data, at)
        at += 4 if version == 2 else 2
        method = 0
        if version:
            method = data[at + 1] & 15
            at += 2
        base = int.from_bytes(data[at + 2 : at + 2 + widths["base"]])
        at += 2 + widths["base"]
        (pieces,) = struct.unpack_from(">H", data, at)
        at += 2
        item = items.setdefault(number, Item())
        for _ in range(pieces):
            at += widths["index"]
            offset = int.from_bytes(data[at : at + widths["offset"]])
            at += widths["offset"]
            length = int.from_bytes(data[at : at + widths["length"]])
            at += widths["length"]
            if at > box.end:
                raise BrokenPicture("the table of places in the file is too short", cut=True)
            start = base + offset + (inner.start if method == 1 and inner is not None else 0)
            end = start + length if widths["length"] else len(data)
            if not start <= end <= len(data):
                raise BrokenPicture("a part of the picture lies outside of the file", cut=True)
            item.extents.append((start, end))
            if len(item.extents) > MAX_BOXES:
                raise BrokenPicture("a part of the picture is in far too many pieces")


def _read_properties(data: bytes, box: Box, items: dict[int, Item]) -> None:
    known: list[Box] = []
    for inner in boxes(data, box.start, box.end):
        if inner.kind == b"ipco":
            known = list(boxes(data, inner.start, inner.end))
    for inner in boxes(data, box.start, box.end):
        if inner.kind != b"ipma":
            continue
        version, wide = data[inner.start], data[inner.start + 3] & 1
        (count,) = struct.unpack_from(">I", data, inner.start + 4)
        at = inner.start + 8
        for _ in range(min(count, MAX_BOXES)):
            (number,) = struct.unpack_from(">I" if version else ">H", data, at)
            at += 4 if version else 2
            linked = data[at]
            at += 1
            for _ in range(linked):
                place = struct.unpack_from(">H", data, at)[0] & 0x7FFF if wide else data[at] & 0x7F
                at += 2 if wide else 1
                if at > inner.end:
                    raise BrokenPicture("the table of properties in the file is too short", cut=True)
                if place and place <= len(known):
                    items.setdefault(number, Item()).properties.append(known[place - 1])


def _read_parts(data: bytes, box: Box, items: dict[int, Item]) -> None:
    wide = data[box.start]
    for inner in boxes(data, box.start + 4, box.end):
        if inner.kind != b"dimg":
            continue
        form, size = (">I", 4) if wide else (">H", 2)
        (number,) = struct.unpack_from(form, data, inner.start)
        (count,) = struct.unpack_from(">H", data, inner.start + size)
        parts = struct.unpack_from(f">{count}{form[1]}", data, inner.start + size + 2)
        items.setdefault(number, Item()).parts.extend(parts)
