"""Protobuf's wire format, read within limits.

A message is a row of fields: a tag (field number and wire type), then a value. Protobuf's own parsers forgive a lot:
they skip fields that they do not know, merge a message that occurs twice and cut numbers that are too long. Whoever
checks a file must not see another file than the one who runs it, so here everything that could be read in two ways is
an error.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

MAX_FIELDS: Final = 500_000
"""In one file, over all of its messages. Face networks have some thousands."""

MAX_VARINT_BYTES: Final = 10


class WireError(ValueError):
    """The bytes are not protobuf, or are so in a way that is refused; caught where the file's name is known."""


class WireReader:
    """Reads messages of one file and counts their fields."""

    def __init__(self, max_fields: int = MAX_FIELDS) -> None:
        self._left = max_fields

    def spend(self, count: int) -> None:
        """Count fields, or items of a packed field, as read.

        Raises:
            WireError: the file has too many.
        """
        self._left -= count
        if self._left < 0:
            raise WireError("it has too many fields")

    def fields(self, message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
        """Yield (field number, wire type, value) of a message; the value is a number for VARINT, else bytes.

        Raises:
            WireError: it is truncated, a tag or number is out of range, or a group is used.
        """
        position, end = 0, len(message)
        while position < end:
            self.spend(1)
            tag, position = read_varint(message, position)
            number, wire = tag >> 3, tag & 7
            if not 1 <= number < 1 << 29:
                raise WireError(f"a field has the number {number}")
            if wire == VARINT:
                value, position = read_varint(message, position)
                yield number, wire, value
                continue
            if wire == LENGTH:
                size, position = read_varint(message, position)
            elif wire in (FIXED64, FIXED32):
                size = 8 if wire == FIXED64 else 4
            else:  # groups, which nobody writes any more, and numbers that mean nothing
                raise WireError(f"field {number} has the wire type {wire}")
            if size > end - position:
                raise WireError(f"field {number} says it has {size} bytes, {end - position} are left: truncated")
            yield number, wire, message[position : position + size]
            position += size

    def packed_varints(self, packed: memoryview) -> list[int]:
        """Return the numbers of a packed field.

        Raises:
            WireError: they are truncated or too many.
        """
        self.spend(count_varints(packed))
        numbers, position = [], 0
        while position < len(packed):
            number, position = read_varint(packed, position)
            numbers.append(number)
        return numbers


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the unsigned 64-bit number at `position`, and the position after it.

    Raises:
        WireError: the message ends within it, or it needs more than 64 bits.
    """
    value = shift = 0
    for byte in message[position : position + MAX_VARINT_BYTES]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, position
        shift += 7
    raise WireError("a number is truncated or has more than 64 bits")


def count_varints(packed: memoryview) -> int:
    """Return how many numbers a packed field holds, without reading them.

    Raises:
        WireError: the last one is truncated.
    """
    if not packed:
        return 0
    if packed[-1] >= 0x80:
        raise WireError("a packed number is truncated")
    return int((np.frombuffer(packed, np.uint8) < 0x80).sum())


def signed(value: int) -> int:
    """Turn an unsigned 64-bit number into the signed one with the same bits: protobuf's int64."""
    return value - (1 << 64) if value >> 63 else value
