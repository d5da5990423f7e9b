"""What lies where in a tar file: names, places and sizes of its files, in one pass and bounded work.

The `tarfile` of Python believes what a header says: of a hostile one it raises what it likes, and takes quadratic time
over long extended headers. Data sets need little of the format, so that little is read here: ustar, GNU long names and
pax headers for names and sizes. Links, devices, folders and files with holes are told as such and never followed.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

BLOCK: Final = 512
MAX_HEADER: Final = 1 << 20
"""Bytes of one extended header; the longest names that systems allow have 4096."""

_FILES: Final = frozenset((b"0", b"\0", b"7"))
_WITHOUT_DATA: Final = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
_PAX, _PAX_FOR_ALL, _LONG_NAME, _LONG_LINK, _SPARSE = b"x", b"g", b"L", b"K", b"S"


class TarError(Exception):
    """The file is no tar file, or is cut short or broken; the message says where."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar file.

    Attributes:
        name: as it is written; bytes that are no UTF-8 are kept as `os.fsdecode` keeps them.
        offset: of its first byte.
        size: in bytes.
        is_plain: whether it is a regular file without holes, whose bytes lie there as they are.
    """

    name: str
    offset: int
    size: int
    is_plain: bool


def members(path: Path) -> Iterator[Member]:
    """Give what a tar file holds, in its order; it is whole if this ends without an error.

    Raises:
        TarError: it is no uncompressed tar file, or cut short or broken.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        offset, name = 0, None
        pax: dict[str, bytes] = {}
        while True:
            file.seek(offset)
            header = file.read(BLOCK)
            if header == bytes(BLOCK):
                if name is not None or pax:
                    raise TarError(f"an extended header before byte {offset} belongs to no file")
                return
            kind, size = _checked(header, offset)
            data = offset + BLOCK
            if kind in (_PAX, _PAX_FOR_ALL, _LONG_NAME, _LONG_LINK):
                text = _extended(file, data, size, total)
                if kind == _PAX:
                    pax = _records(text, offset)
                elif kind == _LONG_NAME:
                    name = os.fsdecode(text.split(b"\0", 1)[0])
                offset = data + _padded(size)
                continue
            size = 0 if kind in _WITHOUT_DATA else _size(pax, size, offset)
            if kind == _SPARSE:
                data = _past_sparse_map(file, header, data)
            if data + size > total:
                raise TarError(f"the file at byte {offset} goes on after the end")
            full_name = _name(header, name, pax)
            has_holes = kind == _SPARSE or any(key.startswith("GNU.sparse.") for key in pax)
            is_folder = kind == b"\0" and full_name.endswith("/")
            yield Member(full_name, data, size, kind in _FILES and not has_holes and not is_folder)
            offset, name, pax = data + _padded(size), None, {}


def _checked(header: bytes, offset: int) -> tuple[bytes, int]:
    """Return the kind and the size that a header says, after looking at its sum."""
    if len(header) < BLOCK:
        raise TarError("no end-of-archive mark" if not header else f"it ends within the header at byte {offset}")
    told = _number(header[148:156], offset)
    found = sum(header) - sum(header[148:156]) + 8 * 0x20
    signed = found - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
    if told not in (found, signed):  # old programs summed signed bytes
        raise TarError(f"the header at byte {offset} is none")
    return header[156:157], _number(header[124:136], offset)


def _number(field: bytes, offset: int) -> int:
    """Read an octal number, or a binary one as GNU writes large ones."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if len(digits) > 12 or digits.strip(b"01234567"):
        raise TarError(f"the header at byte {offset} holds {field!r} for a number")
    return int(digits, 8)


def _size(pax: dict[str, bytes], size: int, offset: int) -> int:
    told = pax.get("size")
    if told is None:
        return size
    if len(told) > 20 or not told.isdigit():
        raise TarError(f"the file at byte {offset} has {told[:40]!r} for a size")
    return int(told)


def _extended(file: IO[bytes], data: int, size: int, total: int) -> bytes:
    if size > MAX_HEADER:
        raise TarError(f"an extended header before byte {data} has {size} bytes, more than {MAX_HEADER}")
    if data + size > total:
        raise TarError(f"it ends within the extended header before byte {data}")
    file.seek(data)
    return file.read(size)


def _records(text: bytes, offset: int) -> dict[str, bytes]:
    """Read the records of a pax header, each `LENGTH KEY=VALUE` and a line end, with its own length in front."""
    found: dict[str, bytes] = {}
    place = 0
    while place < len(text) and text[place]:
        digits = text[place : place + 8].split(b" ", 1)[0]
        length = int(digits) if digits.isdigit() else 0
        record = text[place + len(digits) + 1 : place + length]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or record[-1:] != b"\n" or place + length > len(text):
            raise TarError(f"the extended header at byte {offset} is broken")
        found[key.decode("utf-8", "replace")] = value
        place += length
    return found


def _past_sparse_map(file: IO[bytes], header: bytes, data: int) -> int:
    goes_on = header[482]
    while goes_on:
        file.seek(data)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise TarError(f"it ends within the list of holes at byte {data}")
        data += BLOCK
        goes_on = block[504]
    return data


def _name(header: bytes, long_name: str | None, pax: dict[str, bytes]) -> str:
    told = pax.get("path")
    if told is not None:
        return os.fsdecode(told.split(b"\0", 1)[0])
    if long_name is not None:
        return long_name
    name = header[:100].split(b"\0", 1)[0]
    # What GNU tar writes at the place of the prefix is none.
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return os.fsdecode(prefix + b"/" + name if prefix else name)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
