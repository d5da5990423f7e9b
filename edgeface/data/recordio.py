"""RecordIO of MXNet (`train.rec` with `train.idx`), as insightface distributes training sets, without MXNet.

A record is `magic, flag and length, data, padding to 4 bytes`, all little-endian 32-bit words; the flag, the upper
3 bits, says that data was cut where it held the magic number itself: 0 whole, 1 first, 2 middle, 3 last part. The
data of a record is an IRHeader (flag, label, id, id2; a flag above 0 is the number of labels that follow) and the
picture. Records without a picture describe the set: the first one says how many pictures and classes there are,
others the range of a class. Layout: dmlc-core `recordio.h`, MXNet `python/mxnet/recordio.py`.
"""

import logging
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeface.data.faceset import Extent, Sample, Skipped, Stored, StoredFaces
from edgeface.errors import DataError

log = logging.getLogger(__name__)

MAGIC: Final = 0xCED7230A
_MAGIC_BYTES: Final = struct.pack("<I", MAGIC)
_WORDS: Final = struct.Struct("<II")
_HEADER: Final = struct.Struct("<IfQQ")
_LENGTH_MASK: Final = (1 << 29) - 1
MAX_LABELS: Final = 4096
"""Labels of one record; a larger count is damage."""

Span = tuple[int, int]
"""Offset and length of a part."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A picture in several parts of a file, between which the magic number belongs; `skip` bytes are its header."""

    path: Path
    spans: tuple[Span, ...]
    skip: int

    def read(self) -> bytes:
        """Read and join the parts; raises DataError."""
        return _MAGIC_BYTES.join(Extent(self.path, *span).read() for span in self.spans)[self.skip :]


def open_record(path: Path) -> StoredFaces:
    """List the faces of a `.rec` file. Each header is read; pictures are read later, from their place.

    The `.idx` beside it, if there is one, says where records begin and what their keys are; without it the file
    is walked from its beginning. Takes some 5 microseconds a record.

    Raises:
        DataError: the file is missing, cut short or no RecordIO, its index does not fit it, or it has no picture.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise DataError(f"{path} is empty; copy or download it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _list(path, data)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _list(path: Path, data: mmap.mmap) -> StoredFaces:
    index = path.with_suffix(".idx")
    places = _indexed(path, index, data) if index.is_file() else _walk(path, data)
    samples: list[tuple[int, str | None]] = []
    stored: list[Stored] = []
    skipped: list[Skipped] = []
    names: dict[float, str | None] = {}
    promised: float | None = None
    keys = set[int]()
    for key, spans in places:
        labels, skip, empty, number = _header(path, data, spans)
        key = number if key is None else key
        if key in keys:
            raise DataError(f"{path} has two records of the key {key}; copy it again, with its .idx file")
        keys.add(key)
        if empty:
            if len(keys) == 1 and len(labels) == 2:
                promised = labels[0] - 1
            elif len(labels) == 2 and labels[0] >= labels[1]:
                skipped.append(Skipped(str(key), f"record {key} of {path} is a class with no picture", "empty class"))
            continue
        if labels[0] not in names:
            names[labels[0]] = _class(labels[0])
        samples.append((key, names[labels[0]]))
        one = spans[0]
        stored.append(Extent(path, one[0] + skip, one[1] - skip) if len(spans) == 1 else Parts(path, spans, skip))
    if not samples:
        raise DataError(f"{path} has {len(keys)} records and no picture in them; is it a training set?")
    if promised is not None and promised != len(samples):
        log.warning("%s says that it has %.0f pictures; %d were found", path, promised, len(samples))
    if skipped:
        log.warning("%s has %d classes with no picture", path, len(skipped))
    width = len(str(max(key for key, _ in samples)))
    return StoredFaces(str(path), [Sample(f"{key:0{width}}", name) for key, name in samples], stored, skipped)


def _class(label: float) -> str | None:
    """Name a class by its number; what is negative or not finite is no class."""
    if not 0 <= label < float("inf"):
        return None
    return str(int(label)) if label == int(label) else str(label)


def _walk(path: Path, data: mmap.mmap) -> Iterator[tuple[None, tuple[Span, ...]]]:
    place = count = 0
    while place < len(data):
        spans, place = _spans(path, data, place, f"after {count} records")
        count += 1
        yield None, spans


def _indexed(path: Path, index: Path, data: mmap.mmap) -> Iterator[tuple[int, tuple[Span, ...]]]:
    """Go through the records in the order of the file, at the places that the index names."""
    entries: dict[int, int] = {}
    try:
        with index.open("rb") as file:
            while line := file.readline(64):
                fields = line.split()
                if len(fields) != 2 or not all(field.isdigit() and len(field) < 19 for field in fields):
                    raise DataError(f"{index}, line {len(entries) + 1}: expected KEY and OFFSET, got {line[:40]!r}")
                key, place = int(fields[0]), int(fields[1])
                if place in entries:
                    raise DataError(f"{index} lists the offset {place} twice; delete it to read {path.name} without it")
                entries[place] = key
    except OSError as error:
        raise DataError(f"cannot read {index}: {error.strerror}") from error
    if not entries:
        raise DataError(f"{index} is empty; delete it to read {path.name} without it")
    end = gaps = 0
    for place in sorted(entries):
        gaps += place != end
        spans, end = _spans(path, data, place, f"where {index.name} expects the record {entries[place]}")
        yield entries[place], spans
    gaps += end < len(data)
    if gaps:
        log.warning("%s leaves out records of %s, in %d places; delete it to read them all", index, path, gaps)


def _spans(path: Path, data: mmap.mmap, place: int, where: str) -> tuple[tuple[Span, ...], int]:
    """Return where the data of the record at `place` lies, and where the next record begins."""
    spans: list[Span] = []
    while True:
        if place + _WORDS.size > len(data):
            raise DataError(f"{path} ends {where}, at {len(data):,} bytes; copy or download it again, with its index")
        magic, word = _WORDS.unpack_from(data, place)
        flag, length = word >> 29, word & _LENGTH_MASK
        if magic != MAGIC or flag not in ((2, 3) if spans else (0, 1)):
            raise DataError(
                f"{path} has no record at byte {place:,}, {where}: it is damaged, no RecordIO file, or not the "
                "one that its index was made for"
            )
        if place + _WORDS.size + length > len(data):
            raise DataError(
                f"{path} is cut short {where}: {length:,} bytes should follow byte {place:,}; copy or download it again"
            )
        spans.append((place + _WORDS.size, length))
        place += _WORDS.size + (length + 3) // 4 * 4
        if flag in (0, 3):
            return tuple(spans), place


def _header(path: Path, data: mmap.mmap, spans: tuple[Span, ...]) -> tuple[tuple[float, ...], int, bool, int]:
    """Return the labels, the length of the header, whether nothing follows it, and the id."""
    source: bytes | mmap.mmap = data
    place, length = spans[0]
    if len(spans) > 1:  # cut anywhere, perhaps within the header
        source = _MAGIC_BYTES.join(data[start : start + size] for start, size in spans)
        place, length = 0, len(source)
    if length < _HEADER.size:
        raise DataError(f"{path} has a record of {length} bytes at byte {spans[0][0]:,}, too short for its header")
    count, label, number, _ = _HEADER.unpack_from(source, place)
    skip = _HEADER.size + 4 * count
    if count > MAX_LABELS or skip > length:
        raise DataError(
            f"{path} has a record of {length} bytes at byte {spans[0][0]:,} that promises {count} labels; it is damaged"
        )
    labels = struct.unpack_from(f"<{count}f", source, place + _HEADER.size) if count else (label,)
    return labels, skip, skip == length, number
