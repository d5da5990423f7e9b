"""Which libraries a Linux library needs, read from its file without loading it.

The layout is that of the System V ABI, chapters 4 and 5 (64 bits, little-endian: x86-64 and AArch64).
"""

import struct
from pathlib import Path
from typing import BinaryIO, Final

_HEADER: Final = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_ENTRY: Final = struct.Struct("<qQ")
_LOAD, _DYNAMIC = 1, 2  # p_type
_END, _NEEDED, _STRINGS = 0, 1, 5  # d_tag
_MOST_SEGMENTS: Final = 64
_MOST_ENTRIES: Final = 4096
_LONGEST_NAME: Final = 256


def needed_libraries(library: Path) -> tuple[str, ...]:
    """Return the names of the libraries that the loader looks for, in its order; none where that cannot be read."""
    try:
        with library.open("rb") as file:
            return _needed(file)
    except (OSError, struct.error, ValueError, OverflowError):
        return ()


def _needed(file: BinaryIO) -> tuple[str, ...]:
    header = _HEADER.unpack(file.read(_HEADER.size))
    magic, bits, order, segments_at, segment_size, count = *header[:3], header[7], header[11], header[12]
    if (magic, bits, order) != (b"\x7fELF", 2, 1) or segment_size != _SEGMENT.size or count > _MOST_SEGMENTS:
        return ()
    file.seek(segments_at)
    segments = [_SEGMENT.unpack(file.read(_SEGMENT.size)) for _ in range(count)]
    entries = []
    for kind, _, offset, _, _, size, _, _ in segments:
        if kind == _DYNAMIC:
            file.seek(offset)
            for _ in range(min(size // _ENTRY.size, _MOST_ENTRIES)):
                tag, value = _ENTRY.unpack(file.read(_ENTRY.size))
                if tag == _END:
                    break
                entries.append((tag, value))
    strings = next((value for tag, value in entries if tag == _STRINGS), None)
    if strings is None:
        return ()
    # The table's place is an address in memory; the segment that is loaded there says where it is in the file.
    for kind, _, offset, address, _, size, _, _ in segments:
        if kind == _LOAD and address <= strings < address + size:
            table = offset + strings - address
            return tuple(_name(file, table + value) for tag, value in entries if tag == _NEEDED)
    return ()


def _name(file: BinaryIO, place: int) -> str:
    file.seek(place)
    return file.read(_LONGEST_NAME).partition(b"\0")[0].decode()
