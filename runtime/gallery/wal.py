"""A gallery file and its write-ahead log as one picture in memory, for places where SQLite may not write.

SQLite reads a database with such a log only if it can make an index of it (`-shm`) beside it. Where nothing can be
written, on a read-only or full disk or in somebody else's folder, this reads both files as they lie: every page of the
database, then over them the pages of the log up to its last whole transaction, as SQLite itself does after a crash
(https://www.sqlite.org/fileformat2.html#the_write_ahead_log). Nothing that was committed is left out.
"""

import functools
import os
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

_HEADER: Final = 32
_FRAME: Final = 24  # bytes before the page of a frame
_MAGIC: Final = 0x377F0682  # the lowest bit says that the checksums are big-endian
_MASK: Final = 0xFFFFFFFF
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
_TRIES: Final = 5
_FRAMES_AT_ONCE: Final = 256


class UnsettledError(Exception):
    """The files cannot be read as they lie: `why` in words."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp(path: Path) -> Stamp:
    """Return what tells one state of a database and its log from another; None for a file that is not there."""
    return tuple(map(_stat, (path, _beside(path, "-wal"))))


def committed_image(path: Path) -> bytes:
    """Return the bytes of a database with all that was committed, as one without a write-ahead log.

    Raises:
        OSError: the database cannot be read.
        UnsettledError: a change broke off in a rollback journal, or another program keeps changing the file.
    """
    if _begins(_beside(path, "-journal"), len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC:
        raise UnsettledError(
            f"a change that broke off waits in {path.name}-journal and has to be undone first; copy both files to a "
            "place that can be written"
        )
    log = _beside(path, "-wal")
    for _ in range(_TRIES):
        before = _stat(path), _begins(log, _HEADER)
        # In this order: what a checkpoint of another program moves in between is then still in the log.
        image = bytearray(path.read_bytes())
        frames = log.read_bytes() if log.exists() else b""
        if before == (_stat(path), _begins(log, _HEADER)):
            _apply(image, frames)
            if len(image) >= 20:
                image[18:20] = b"\x01\x01"  # file format versions: there is no write-ahead log any more
            return bytes(image)
    raise UnsettledError("another program keeps changing it; try again")


def _apply(image: bytearray, log: bytes) -> None:
    """Write the pages of whole transactions of a write-ahead log over those of the database."""
    size = _page_size(log)
    if size is None:
        return
    count = (len(log) - _HEADER) // (_FRAME + size)
    raw = np.frombuffer(log, np.uint8, count * (_FRAME + size), _HEADER).reshape(count, _FRAME + size)
    heads = raw[:, :_FRAME].copy().view(">u4").astype(np.int64)  # page, pages after a commit, two salts, two checksums
    salts = np.frombuffer(log, ">u4", 2, 16).astype(np.int64)
    sane = (heads[:, 2:4] == salts).all(axis=1) & (heads[:, 0] > 0)
    count = count if sane.all() else int(sane.argmin())
    count = _sound_frames(raw[:count], heads, log)
    commits = np.flatnonzero(heads[:count, 1])
    if not commits.size:
        return
    last = int(commits[-1])
    pages = int(heads[last, 1])
    newest = dict(zip(heads[: last + 1, 0].tolist(), range(last + 1), strict=True))
    if pages > len(image) // size + len(newest):
        return  # no database is that large: the log is not of this file
    del image[pages * size :]
    image.extend(bytes(pages * size - len(image)))
    for page, frame in newest.items():
        if page <= pages:
            image[(page - 1) * size : page * size] = raw[frame, _FRAME:].tobytes()


def _page_size(log: bytes) -> int | None:
    """Return the page size of a log, or None if it has no sound header."""
    if len(log) < _HEADER or int.from_bytes(log[:4], "big") & ~1 != _MAGIC:
        return None
    size = int.from_bytes(log[8:12], "big")
    if not 512 <= size <= 65536 or size & (size - 1):
        return None
    words = np.frombuffer(log[:24], _words(log)).astype(np.uint32)[None]
    found = _advance((0, 0), *_sums(words)[0], 3)
    return size if found == (int.from_bytes(log[24:28], "big"), int.from_bytes(log[28:32], "big")) else None


def _sound_frames(raw: npt.NDArray[np.uint8], heads: npt.NDArray[np.int64], log: bytes) -> int:
    """Return how many frames fit their checksums, each of which goes on from the one before."""
    state = int.from_bytes(log[24:28], "big"), int.from_bytes(log[28:32], "big")
    steps = (raw.shape[1] - 16) // 8
    for start in range(0, len(raw), _FRAMES_AT_ONCE):
        part = raw[start : start + _FRAMES_AT_ONCE]
        covered = np.concatenate([part[:, :8], part[:, _FRAME:]], axis=1)
        for number, (first, second) in enumerate(_sums(covered.view(_words(log)).astype(np.uint32)), start):
            state = _advance(state, first, second, steps)
            if state != (heads[number, 4], heads[number, 5]):
                return number
    return len(raw)


def _words(log: bytes) -> str:
    return ">u4" if log[3] & 1 else "<u4"


def _sums(words: npt.NDArray[np.uint32]) -> list[tuple[int, int]]:
    """Return the two checksums of each row as they come out of zeros.

    SQLite takes two words x, y at a time: a += x + b, b += y + a. So each word counts as often as a Fibonacci number
    says, the last ones 1, 0 times in a and 1, 1 times in b.
    """
    numbers = _fibonacci(words.shape[1] + 1)
    first = (words * numbers[-2::-1]).sum(axis=1, dtype=np.uint32)
    second = (words * numbers[:0:-1]).sum(axis=1, dtype=np.uint32)
    return list(zip(first.tolist(), second.tolist(), strict=True))


def _advance(state: tuple[int, int], first: int, second: int, steps: int) -> tuple[int, int]:
    """Return the checksums after `steps` pairs of words whose own sums are `first` and `second`."""
    numbers = _fibonacci(2 * steps + 2)
    before, at, after = (int(numbers[2 * steps + shift]) for shift in (-1, 0, 1))
    one, two = state
    return (before * one + at * two + first) & _MASK, (at * one + after * two + second) & _MASK


@functools.cache
def _fibonacci(count: int) -> npt.NDArray[np.uint32]:
    """Return the Fibonacci numbers 0, 1, 1, 2, ... modulo 2^32."""
    numbers = [0, 1]
    while len(numbers) < count:
        numbers.append((numbers[-1] + numbers[-2]) & _MASK)
    return np.array(numbers[:count], np.uint32)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _begins(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except FileNotFoundError:
        return b""
