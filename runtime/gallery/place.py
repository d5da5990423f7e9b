"""Where a gallery lies: whether it is a file, whether it may be written there, and whether there is room."""

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeface.errors import GalleryError, NoGalleryError
from edgeface.files import make_private_folder

_SPARE_BYTES: Final = 1 << 20
_FULL_BYTES: Final = 1 << 16  # with less, a full disk is why a file cannot be written


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a file cannot be written, and what mends it; both as parts of a sentence."""

    why: str
    mend: str


_FULL = Obstacle("its disk is full", "free some space")
_READ_ONLY_DISK = Obstacle("its disk is mounted read-only", "mount it for writing")
_NOT_PERMITTED = Obstacle("this user may not write it", "check the permissions of the file and its folder")
_NOT_IN_FOLDER = Obstacle("this user may not write in its folder", "check the permissions of the folder")
_UNKNOWN = Obstacle("it cannot be written where it lies", "check its disk")


def create_empty(path: Path) -> None:
    """Make an empty file for the owner only, unless there is one; SQLite gives its log the same mode.

    Raises:
        GalleryError: it cannot be made.
    """
    try:
        make_private_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise GalleryError(f"gallery {path} cannot be made: {error.strerror}; give another path") from error


def check_kind(path: Path) -> None:
    """Look whether there is a regular file.

    Raises:
        GalleryError: there is not.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise NoGalleryError(f"gallery not found: {path}; enrol somebody to make it") from None
    except OSError as error:
        raise GalleryError(f"gallery {path} cannot be opened: {error.strerror}; check the path") from error
    if stat.S_ISDIR(mode):
        raise GalleryError(f"gallery {path} is a folder; give a file name")
    if not stat.S_ISREG(mode):  # a pipe would be waited for
        raise GalleryError(f"gallery {path} is no regular file; give another path")


def unwritable(path: Path) -> Obstacle | None:
    """Say why this user cannot write a file, as far as that can be told without trying; None if nothing is known."""
    if _may_write(path):
        return None
    return _READ_ONLY_DISK if _is_read_only(path) else _NOT_PERMITTED


def obstacle(path: Path) -> Obstacle:
    """Say why a file could not be written, after that has failed."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(path.absolute().parent).free < _FULL_BYTES:
            return _FULL
    if not _may_write(path.absolute().parent):
        return _NOT_IN_FOLDER
    return _UNKNOWN


def lacks_room(path: Path, size: int) -> str | None:
    """Say why a file of so many bytes cannot be written anew, after its name; None if the disk has room for it."""
    try:
        free = shutil.disk_usage(path.absolute().parent).free
    except OSError:
        return None
    return None if free >= room_needed(size) else no_room(path, size)


def no_room(path: Path, size: int) -> str:
    """Say that there is no room to write a file of so many bytes anew."""
    free = ""
    with contextlib.suppress(OSError):
        free = f", of which {shutil.disk_usage(path.absolute().parent).free / 1e6:.1f} MB are free"
    return (
        f"has no room to be written anew: that takes {room_needed(size) / 1e6:.1f} MB of its disk for a moment{free}; "
        "until there is room and it is opened again, what was removed can still be found in it"
    )


def room_needed(size: int) -> int:
    """Return how many bytes of the disk it takes for a moment to write a file of `size` bytes anew."""
    return size + size // 64 + _SPARE_BYTES


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _is_read_only(path: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)
