"""What kind of file this is, by its first bytes: a picture that is read, one that is not, or something else.

The name of a file says nothing: photographs are sent on with the wrong ending, and web pages are saved as pictures.
"""

import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from edgeface.image_formats import heic, heif, jpeg2000, tiff
from edgeface.image_formats.broken import BrokenPicture

HEAD_BYTES: Final = 4096
"""So many bytes of a file tell its kind; of a camera's raw file they mostly do."""

SURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Files with these endings are listed without a look inside: a hundred thousand of them take a second."""

IMAGE_SUFFIXES: Final = SURE_SUFFIXES | {
    *(".jpe", ".jfif", ".apng", ".dib", ".gif", ".avif", ".heic", ".heif", ".hif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".jp2", ".j2k", ".jpx", ".jpc"),
}
"""File names with these endings (any case) are meant to be pictures."""

COMPANION_SUFFIXES: Final = frozenset(
    (
        *(".csv", ".db", ".html", ".ini", ".json", ".jsonl", ".lst", ".md", ".npy", ".npz", ".onnx", ".toml", ".txt"),
        *(".xml", ".yaml", ".yml"),
    )
)
"""Files with these endings, and no picture inside, lie beside pictures for good reasons: they are not told."""

NO_PICTURE: Final = "not a picture"
EMPTY: Final = "empty file"

UNREADABLE: Final = "unreadable file"

READ: Final = frozenset({"JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF", "AVIF", "HEIC", "PNM", "JPEG 2000"})
"""Kinds that are read; HEIC with the extra `heic` only."""

PICTURES: Final = frozenset(
    {"JPEG XL", "JPEG XR", "camera RAW", "SVG", "Photoshop", "OpenEXR", "Radiance HDR", "TGA", "icon", "web page"}
)
"""Kinds that are pictures, or were meant to be, and are not read."""

ADVICE: Final = {
    "HEIC": "install its reader with: pip install 'edgeface[heic]', or convert it to JPEG",
    "JPEG XL": "convert it to JPEG",
    "JPEG XR": "convert it to JPEG",
    "camera RAW": "develop it to JPEG with the camera's program",
    "SVG": "it is a drawing, not a photograph; leave it out",
    "PDF": "take the pictures out of it",
    "Photoshop": "save it as JPEG",
    "OpenEXR": "convert it to JPEG",
    "Radiance HDR": "convert it to JPEG",
    "TGA": "convert it to JPEG",
    "icon": "use the photograph that it was made of",
    "video": "take pictures from it, or give the file itself to edgeface run --source",
    "web page": "it was saved instead of the picture; download it again",
    "Git LFS pointer": "fetch the file itself with: git lfs pull",
    "archive": "unpack it",
    EMPTY: "copy it again",
    NO_PICTURE: "use JPEG, PNG or WebP",
}
"""What to do about a file of a kind that is not read."""


@dataclass(frozen=True, slots=True)
class _Magic:
    name: str
    test: Callable[[bytes], bool]


def _starts(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(prefixes)


def _matches(pattern: bytes) -> Callable[[bytes], bool]:
    compiled = re.compile(pattern, re.IGNORECASE | re.DOTALL)
    return lambda data: compiled.match(data, 0, 1024) is not None


def _is_raw(data: bytes) -> bool:
    if data[8:10] == b"CR" and data[:2] in (b"II", b"MM"):
        return True
    try:
        return tiff.is_raw(tiff.first_page(data))
    except (struct.error, BrokenPicture, OverflowError):
        return False


def _branded(*names: bytes) -> Callable[[bytes], bool]:
    return lambda data: bool(heif.brands(data) & set(names))


_TIFF: Final = _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_XML: Final = rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,400}>\s*)?(?:<!--.{0,400}?-->\s*)*"

_BMP_HEADERS: Final = frozenset(struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124))
_MAGIC: Final = (
    _Magic(EMPTY, lambda data: not data),
    _Magic("JPEG", _starts(b"\xff\xd8\xff")),
    _Magic("PNG", _starts(b"\x89PNG\r\n\x1a\n")),
    _Magic("WebP", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP"),
    _Magic("GIF", _starts(b"GIF87a", b"GIF89a")),
    _Magic("camera RAW", lambda data: _TIFF(data) and _is_raw(data)),
    _Magic("TIFF", _TIFF),
    _Magic("camera RAW", _starts(b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")),
    _Magic("camera RAW", _branded(b"crx ")),
    _Magic("AVIF", _branded(b"avif", b"avis")),
    _Magic("HEIC", _branded(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")),
    _Magic("video", lambda data: data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    _Magic("video", lambda data: data[:4] == b"RIFF" and data[8:12] == b"AVI "),
    _Magic("video", _starts(b"\x1a\x45\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"FLV\1", b"\x30\x26\xb2\x75")),
    _Magic("JPEG 2000", _starts(jpeg2000.BOX, jpeg2000.STREAM)),
    _Magic("JPEG XL", _starts(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    _Magic("JPEG XR", _starts(b"II\xbc\1")),
    _Magic("PNM", _matches(rb"P[1-6][\s#]+[0-9#]|P7\s*\n(?:#|WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE)")),
    _Magic("BMP", lambda data: data[:2] == b"BM" and data[14:18] in _BMP_HEADERS),
    _Magic("Photoshop", _starts(b"8BPS")),
    _Magic("OpenEXR", _starts(b"\x76\x2f\x31\x01")),
    _Magic("Radiance HDR", _starts(b"#?RADIANCE", b"#?RGBE")),
    _Magic("icon", _starts(b"\0\0\1\0", b"\0\0\2\0", b"icns")),
    _Magic("PDF", _starts(b"%PDF")),
    _Magic("SVG", _matches(_XML + rb"(?:<!DOCTYPE svg.{0,600}?>\s*)?<(?:svg:)?svg[\s>]")),
    _Magic("web page", _matches(_XML + rb"<(?:!doctype html|html|head|body|script)[\s>]")),
    _Magic("Git LFS pointer", _starts(b"version https://git-lfs")),
    _Magic("archive", _starts(b"PK\3\4", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")),
    _Magic("TGA", lambda data: len(data) > 18 and _is_targa(data)),
)


def picture_kind(head: bytes) -> str:
    """Return what a file is, from its first `HEAD_BYTES` bytes or all of it: a name in `READ` or `ADVICE`."""
    return next((magic.name for magic in _MAGIC if magic.test(head)), NO_PICTURE)


def unread_kind(path: str) -> str | None:
    """Say what a file in a folder of pictures is that is not read; None if it is read, or looks so by its name.

    A companion of pictures, such as a list, has the kind that is empty.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SURE_SUFFIXES:
        return None
    try:
        with open(path, "rb") as file:
            kind = picture_kind(file.read(HEAD_BYTES))
    except OSError:
        return UNREADABLE
    if can_read(kind):
        return None
    return "" if suffix in COMPANION_SUFFIXES and kind not in READ else kind


def can_read(kind: str) -> bool:
    """Whether pictures of a kind are read here, with what is installed."""
    return kind in READ and (kind != "HEIC" or heic.is_installed())


def describe_kinds(kinds: Iterable[str]) -> str:
    """Count kinds and say what to do about them: `8 HEIC, 1 truncated JPEG; HEIC: convert it to JPEG`."""
    counts = Counter(kinds).most_common()
    advice = [f"{kind}: {ADVICE[kind]}" for kind, _ in counts if kind in ADVICE and kind != NO_PICTURE]
    return "; ".join((", ".join(f"{count} {kind}" for kind, count in counts), *advice))


def _is_targa(data: bytes) -> bool:
    """Targa has no mark at its beginning; so a header of it is one that makes sense in every field."""
    _, mapped, kind, _, length, _, _, _, width, height, depth, flags = struct.unpack_from("<BBBHHBHHHHBB", data)
    return (
        mapped in (0, 1)
        and kind in (1, 2, 3, 9, 10, 11)
        and (mapped == 1) == (length > 0)
        and 0 < width <= 16384
        and 0 < height <= 16384
        and depth in (8, 15, 16, 24, 32)
        and flags & 0xC0 == 0
    )
