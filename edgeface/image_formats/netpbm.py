"""PBM, PGM, PPM and PAM: a header in letters, and as many pixels as it says."""

import re
from dataclasses import dataclass
from typing import Final

from edgeface.image_formats.broken import BrokenPicture, other_size

MAX_HEADER: Final = 4096

_TOKEN: Final = re.compile(rb"(?:\s|#[^\r\n]*)*([0-9]{1,10})(?=\s)")
_LINE: Final = re.compile(rb"(WIDTH|HEIGHT|DEPTH|MAXVAL)[ \t]+([0-9]{1,10})\s*")


@dataclass(frozen=True, slots=True)
class Header:
    """Sizes of a file, and where its pixels begin."""

    width: int
    height: int
    channels: int
    most: int
    pixels_at: int


def read_header(data: bytes) -> Header | None:
    """Read the header of `P1` to `P7`; None if there is none that makes sense."""
    head = data[:MAX_HEADER]
    if head[:2] == b"P7":
        return _read_pam(head)
    numbers, at = list[int](), 2
    while len(numbers) < (2 if head[1:2] in b"14" else 3):
        found = _TOKEN.match(head, at)
        if found is None:
            return None
        numbers.append(int(found[1]))
        at = found.end()
    channels = 3 if head[1:2] in b"36" else 1
    return Header(numbers[0], numbers[1], channels, numbers[2] if len(numbers) > 2 else 1, at + 1)


def check(data: bytes, size_wh: tuple[int, int]) -> None:
    """Check that the pixels are there.

    Raises:
        BrokenPicture: there are too few, or a field makes no sense.
    """
    header = read_header(data)
    if header is None:
        raise BrokenPicture("the header of the PNM makes no sense", cut=len(data) < MAX_HEADER)
    if (header.width, header.height) != size_wh:
        raise other_size("its header", (header.width, header.height), size_wh)
    if not 1 <= header.most <= 65535 or not 1 <= header.channels <= 4:
        raise BrokenPicture(f"the PNM has {header.channels} channels up to {header.most}, which there are not")
    values = header.width * header.height * header.channels
    kind = data[1:2]
    if kind == b"4":
        needed = (header.width + 7) // 8 * header.height
    elif kind == b"1":
        needed = values
    elif kind in b"23":
        needed = 2 * values - 1
    else:
        needed = values * (2 if header.most > 255 else 1)
    if needed > len(data) - header.pixels_at:
        raise BrokenPicture(
            f"the PNM has {max(0, len(data) - header.pixels_at):,} bytes of pixels instead of {needed:,}", cut=True
        )


def _read_pam(head: bytes) -> Header | None:
    end = head.find(b"ENDHDR\n")
    if end < 0:
        return None
    fields: dict[bytes, int] = {}
    for line in head[2:end].splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        if found[1] in fields:
            return None
        fields[found[1]] = int(found[2])
    if len(fields) < 4:
        return None
    return Header(fields[b"WIDTH"], fields[b"HEIGHT"], fields[b"DEPTH"], fields[b"MAXVAL"], end + 7)
