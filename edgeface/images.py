"""Pictures from disk and memory, always as (H, W, 3) uint8 RGB."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import ImageError
from edgeface.files import PRIVATE, readable_name, write_bytes
from edgeface.image_formats import heic, heif
from edgeface.image_formats.broken import BrokenPicture
from edgeface.image_headers import check_structure, picture_size
from edgeface.image_kinds import ADVICE, EMPTY, IMAGE_SUFFIXES, NO_PICTURE, UNREADABLE, can_read, picture_kind

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "Photograph",
    "decode_image",
    "decode_photograph",
    "encode_image",
    "read_image",
    "read_photograph",
    "write_image",
]

MAX_PIXELS: Final = 100_000_000
"""A picture of more pixels is not decoded to its full size: it would take hundreds of megabytes."""
MAX_BYTES: Final = 1 << 30
"""A file with more bytes is not even read."""

MAX_PIXELS_BY_ROWS: Final = 420_000_000
"""A photograph of up to so many pixels is decoded at reduced size where the decoder does so row by row: JPEG."""
MAX_PIXELS_WHOLE: Final = 120_000_000
"""The same where it decodes all pixels first, at 6 to 11 bytes each: progressive JPEG, PNG, WebP, TIFF, BMP, PNM."""
MAX_PIXELS_COSTLY: Final = 50_000_000
"""Pictures of more pixels are refused where decoding takes 12 to 24 bytes for each: GIF, AVIF, HEIC, JPEG 2000."""

SPARSE_PIXELS: Final = 16_000_000
PIXELS_A_BYTE: Final = 10_000
"""A larger picture than the former has less pixels for each byte than the latter: even a black photograph has."""

TOO_LARGE: Final = "too large"
_REDUCED: Final = {1: 0, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_SHRUNK: Final = frozenset({"JPEG", "PNG", "WebP", "TIFF", "BMP", "PNM"})


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """A picture that may have been decoded at reduced size.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.
        reduction: 1, or 2, 4 or 8 where a pixel of `image` stands for so many each way; multiply coordinates by it to
            have those of the file.
        size_wh: width and height of the picture in the file, upright.
    """

    image: npt.NDArray[np.uint8]
    reduction: int
    size_wh: tuple[int, int]


def decode_image(data: bytes, name: str = "image") -> npt.NDArray[np.uint8]:
    """Decode an encoded picture at its full size, turned upright by its orientation.

    JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, PNM, JPEG 2000 and, with the extra `heic`, HEIC; of several pages or frames
    the first. The kind is told from the bytes, not from the name.

    Args:
        data: the encoded bytes.
        name: what to call the picture in an error.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the bytes are empty, of another kind, broken, or a picture of more than `MAX_PIXELS` pixels, or
            `MAX_PIXELS_COSTLY` in some formats; all of it is found out before it is decoded, as far as can be.
    """
    return _decode(data, readable_name(name), reduce=False).image


def decode_photograph(data: bytes, name: str = "image") -> Photograph:
    """Decode a picture of which the exact size does not matter: one of more than `MAX_PIXELS` pixels comes smaller.

    Raises:
        ImageError: as `decode_image`, but only for pictures of more than `MAX_PIXELS_BY_ROWS` or `MAX_PIXELS_WHOLE`
            pixels.
    """
    return _decode(data, readable_name(name), reduce=True)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture file; see `decode_image` for what comes back and what is raised."""
    return decode_image(_read(path), str(path))


def read_photograph(path: Path) -> Photograph:
    """Read a picture file; see `decode_photograph` for what comes back and what is raised."""
    return decode_photograph(_read(path), str(path))


def encode_image(image: npt.NDArray[np.uint8], suffix: str = ".png", quality: int = 92) -> bytes:
    """Encode (H, W, 3) uint8 RGB in the format named by `suffix` (`.png`, `.jpg`, `.webp`)."""
    options = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality], ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality]}
    done, data = cv2.imencode(suffix, image[:, :, ::-1], options.get(suffix, []))
    if not done:
        raise ImageError(f"cannot encode a picture as {suffix}")
    return bytes(data)


def write_image(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB to `path`, atomically, in the format of its suffix; for its owner only."""
    write_bytes(path, encode_image(image, path.suffix.lower()), mode=PRIVATE)


def _read(path: Path) -> bytes:
    name = readable_name(str(path))
    try:
        if not os.path.isfile(path) and os.path.exists(path):
            raise ImageError(f"picture {name} is no file; a folder or device cannot be read as a picture", NO_PICTURE)
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(f"picture {name} has {size:,} bytes, more than {MAX_BYTES:,}; shrink it first", TOO_LARGE)
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"picture not found: {name}", "missing file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"picture {name} cannot be read: {reason}", UNREADABLE) from error


def _decode(data: bytes, name: str, *, reduce: bool) -> Photograph:
    kind = _readable_kind(data, name)
    size_wh = picture_size(data)
    if size_wh is None:
        raise _broken(name, data, BrokenPicture(f"the header of the {kind} is cut off or makes no sense"), kind)
    pixels = size_wh[0] * size_wh[1]
    sparse = pixels > SPARSE_PIXELS and pixels > PIXELS_A_BYTE * len(data)
    most = MAX_PIXELS if kind in _SHRUNK else min(MAX_PIXELS, MAX_PIXELS_COSTLY)
    if reduce and not sparse and kind in _SHRUNK:
        most = MAX_PIXELS_BY_ROWS if kind == "JPEG" else MAX_PIXELS_WHOLE
    _check_pixels(size_wh, most, name)
    try:
        if sparse:
            raise BrokenPicture(f"it says {size_wh[0]} x {size_wh[1]} pixels", cut=True)
        checked = check_structure(data, size_wh)
        if not checked.by_rows:
            _check_pixels(size_wh, min(most, MAX_PIXELS_WHOLE), name)
        reduction = next(r for r in _REDUCED if -(-size_wh[0] // r) * -(-size_wh[1] // r) <= MAX_PIXELS)
        image = _pixels(checked.data, kind, reduction, size_wh)
        # A HEIC may show a part of what is stored.
        shown_wh = (image.shape[1], image.shape[0]) if kind == "HEIC" else _upright(size_wh, image, reduction)
    except BrokenPicture as broken:
        raise _broken(name, data, broken, kind) from broken
    return Photograph(image, reduction, shown_wh)


def _readable_kind(data: bytes, name: str) -> str:
    """Return the kind of a picture.

    Raises:
        ImageError: it is none that is read here.
    """
    kind = picture_kind(data)
    if kind == EMPTY:
        raise ImageError(f"{name} is empty (0 bytes); replace the file", kind)
    if kind == NO_PICTURE:
        raise ImageError(f"{name} is not a readable picture ({len(data)} bytes); {ADVICE[kind]}", kind)
    if not can_read(kind):
        raise ImageError(f"{name} is no picture that can be read here but {kind}; {ADVICE[kind]}", kind)
    return kind


def _upright(size_wh: tuple[int, int], image: npt.NDArray[np.uint8], reduction: int) -> tuple[int, int]:
    """Return the size as stored, or with its sides swapped, whichever the decoded picture has.

    Raises:
        BrokenPicture: it has neither.
    """
    height, width = image.shape[:2]
    for side_wh in (size_wh, size_wh[::-1]):
        if abs(width * reduction - side_wh[0]) < reduction and abs(height * reduction - side_wh[1]) < reduction:
            return side_wh[0], side_wh[1]
    raise BrokenPicture(f"it says {size_wh[0]} x {size_wh[1]} pixels and decodes to {width} x {height}")


def _pixels(data: bytes, kind: str, reduction: int, size_wh: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Decode a file that was checked."""
    if kind == "HEIC":
        return heic.decode(data, size_wh)
    by_decoder = kind == "JPEG" and reduction > 1
    flags = _REDUCED[reduction] if by_decoder else cv2.IMREAD_COLOR_RGB
    if kind == "AVIF":
        flags |= cv2.IMREAD_IGNORE_ORIENTATION  # that of Exif; the format has its own
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BrokenPicture(f"the {kind} cannot be decoded ({' '.join(error.err.split())})") from error
    if image is None:
        raise BrokenPicture(f"the {kind} cannot be decoded", cut=kind == "JPEG")
    if by_decoder:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # it reduces to BGR only
    elif reduction > 1:  # OpenCV would do this too, but to a wrong shape where a TIFF is turned
        smaller_wh = (-(-image.shape[1] // reduction), -(-image.shape[0] // reduction))
        image = cv2.resize(image, smaller_wh, interpolation=cv2.INTER_AREA)
    decoded: npt.NDArray[np.uint8] = image
    return _turned(decoded, *heif.turns(data)) if kind == "AVIF" else decoded


def _turned(image: npt.NDArray[np.uint8], quarter: int, mirror: int | None) -> npt.NDArray[np.uint8]:
    """Turn an (H, W, 3) picture by quarters against the clock, then mirror it: 0 top to bottom, 1 left to right."""
    image = np.rot90(image, quarter)
    return np.ascontiguousarray(image if mirror is None else np.flip(image, mirror))


def _check_pixels(size_wh: tuple[int, int], most: int, name: str) -> None:
    if size_wh[0] * size_wh[1] > most:
        raise ImageError(
            f"{name} has {size_wh[0]} x {size_wh[1]} pixels, more than {most:,}; shrink it first", TOO_LARGE
        )


def _broken(name: str, data: bytes, broken: BrokenPicture, kind: str) -> ImageError:
    what, advice = ("truncated", "copy it again") if broken.cut else ("broken", "save it anew as JPEG or PNG")
    return ImageError(f"{name} is not a readable picture ({len(data)} bytes): {broken}; {advice}", f"{what} {kind}")
