"""JPEG pictures out of a stream of bytes, whatever lies between them.

An MJPEG stream over HTTP should have a boundary and a length before each picture, and many cameras get one of them
wrong or leave it out. A JPEG says itself where it ends, so neither is asked.
"""

import re
from typing import Final

from edgeface.errors import ImageError

MAX_PICTURE: Final = 32 * 1024 * 1024
"""Bytes of one picture; more is refused."""
MAX_GAP: Final = 256 * 1024
"""Bytes between two pictures, as of the header of a part; more is refused."""

_BEGIN: Final = b"\xff\xd8\xff"
# In the compressed pixels, 0xFF is followed by 0, by a restart marker or by itself; all else ends them.
_END_OF_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_BEGINS, _ENDS, _SCAN = 0xD8, 0xD9, 0xDA
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length


class NoPictureError(Exception):
    """The stream has no JPEG where one must be, or one that never ends; says which."""


class JpegSplitter:
    """Takes bytes as they come, and gives whole JPEG files (ITU-T T.81, annex B)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # what was looked at, within a picture that begins the buffer
        self._is_inside = False
        self._is_scan = False
        self._gap = 0

    @property
    def is_inside(self) -> bool:
        """Whether a picture has begun that has not ended."""
        return self._is_inside

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next picture, None until there are more bytes.

        Raises:
            ImageError: a picture was cut off or is none; the next one may be whole.
            NoPictureError: see there; nothing more can be read.
        """
        if not self._is_inside and not self._find_begin():
            return None
        while True:
            if self._is_scan:
                found = _END_OF_SCAN.search(self._buffer, self._at)
                if found is None:
                    self._at = max(self._at, len(self._buffer) - 1)
                    self._check_size()
                    return None
                self._at, self._is_scan = found.start(), False
            if len(self._buffer) < self._at + 4 and self._marker() != _ENDS:
                self._check_size()
                return None
            marker = self._marker()
            if marker == _ENDS:
                return self._take(self._at + 2)
            if marker == _BEGINS:
                self._take(self._at)
                raise ImageError("a picture in the stream is cut off")
            if marker == 0xFF:
                self._at += 1
            elif marker in _BARE:
                self._at += 2
            else:
                length = int.from_bytes(self._buffer[self._at + 2 : self._at + 4])
                if marker is None or marker == 0 or length < 2:
                    self._take(2)
                    raise ImageError("a picture in the stream is damaged")
                self._at += 2 + length
                self._is_scan = marker == _SCAN

    def _marker(self) -> int | None:
        """Return the marker that is looked at; None where there is none."""
        two = self._buffer[self._at : self._at + 2]
        return two[1] if len(two) == 2 and two[0] == 0xFF else None

    def _find_begin(self) -> bool:
        at = self._buffer.find(_BEGIN)
        skipped = at if at >= 0 else max(0, len(self._buffer) - len(_BEGIN) + 1)
        del self._buffer[:skipped]
        self._gap += skipped
        if self._gap > MAX_GAP:
            raise NoPictureError(f"sends {self._gap:,} bytes in which no JPEG picture begins")
        self._is_inside, self._is_scan, self._at = at >= 0, False, 2
        return self._is_inside

    def _check_size(self) -> None:
        if len(self._buffer) > MAX_PICTURE:
            raise NoPictureError(f"sends a picture of more than {MAX_PICTURE:,} bytes")

    def _take(self, end: int) -> bytes:
        picture = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._is_inside, self._gap = False, 0
        return picture
