"""Where the files of a bundle lie: a folder, or a zip of one. Either may be hostile.

The bundle's path itself may be a symbolic link, so that a device can switch from one version to the next by moving a
link. Inside nothing but plain files is read: no links, pipes or devices, which is decided on the open file and not on
its name.

A zip is refused as a whole for an entry that is not a plain file with a plain name, for a second entry of one name,
for encryption, for sizes or ratios of a bomb, and for the trailers by which one file can be two archives.
"""

import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final, Protocol

from edgeface.errors import BundleError
from edgeface.manifest import MAX_FILE_BYTES, MAX_FILES, is_plain_name

MAX_RATIO: Final = 200
"""A larger entry may not shrink to less than this part. Trained weights do not even halve."""
MAX_SMALL_BYTES: Final = 1 << 20
"""Entries up to this size may shrink as they like."""
SHARED: Final = ("detector.onnx", "quality.onnx")
"""What the bundles of the package have in common. Their manifests list it like any other file."""
MAX_DIRECTORY_BYTES: Final = 1 << 16
"""Of a zip's list of entries; some hundred bytes each."""

_END: Final = struct.Struct("<4s4H2LH")
_END_MAGIC: Final = b"PK\x05\x06"
_ZIP64_MAGIC: Final = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES: Final = 20


class Container(Protocol):
    """Files by plain names."""

    path: Path
    remedy: str
    """What to do about a file that is missing or broken."""

    def names(self) -> tuple[str, ...]:
        """Return the names of what is there, sorted."""
        ...

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return the content of a file of at most `limit` bytes.

        Raises:
            BundleError: it is missing, not a plain file, larger, or cannot be read.
        """
        ...


class Folder:
    """A folder of plain files."""

    remedy = "copy or export the bundle again"

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> tuple[str, ...]:
        """Return the names of everything in the folder."""
        try:
            return tuple(sorted(entry.name for entry in self.path.iterdir()))
        except OSError as error:
            raise BundleError(f"bundle {self.path} cannot be read: {error.strerror}") from error

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return the content of a file, which was looked at after it was opened."""
        # Not following links and not waiting for pipes; neither flag exists on Windows.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = self.path / name
        if file.is_symlink():
            raise BundleError(f"{name} of bundle {self.path} is a symbolic link; bundles hold plain files only")
        try:
            with os.fdopen(os.open(file, flags), "rb") as opened:
                if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                    raise BundleError(f"{name} of bundle {self.path} is not a plain file; refused")
                data = opened.read(limit + 1)
        except FileNotFoundError:
            raise _missing(self, name) from None
        except OSError as error:
            raise BundleError(f"{name} of bundle {self.path} cannot be read: {error.strerror}") from error
        if len(data) > limit:
            raise _too_large(self, name, limit)
        return data


class Shipped(Folder):
    """The folder of a bundle that comes with the package. What such bundles share lies once, beside their folders."""

    remedy = "install edgeface again: pip install --force-reinstall --no-deps edgeface"

    def names(self) -> tuple[str, ...]:
        """Return the names of everything in the folder, and of the shared files."""
        return tuple(sorted({*super().names(), *(name for name in SHARED if (self.path.parent / name).is_file())}))

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return the content of a file, a shared one from beside the folder."""
        if name in SHARED and not (self.path / name).exists():
            return _Beside(self.path.parent).read(name, limit)
        return super().read(name, limit)


class _Beside(Folder):
    remedy = Shipped.remedy


class Zip:
    """A zip whose entries are plain files.

    Raises:
        BundleError: it is not a zip, or one that is refused.
    """

    remedy = "copy it again"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = {entry.filename: entry for entry in self._checked_entries()}

    def names(self) -> tuple[str, ...]:
        """Return the names of the entries."""
        return tuple(sorted(self._entries))

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return the content of an entry; its size is counted while it unpacks, whatever the zip says."""
        entry = self._entries.get(name)
        if entry is None:
            raise _missing(self, name)
        if entry.file_size > limit:
            raise _too_large(self, name, limit)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(entry) as opened:
                data = opened.read(limit + 1)
                intact = len(data) == entry.file_size and not opened.read(1)
        except (*_BROKEN, OSError) as error:
            raise BundleError(f"{name} of bundle {self.path} cannot be unpacked: {error}; copy it again") from None
        if len(data) > limit:
            raise _too_large(self, name, limit)
        if not intact:
            raise BundleError(f"{name} of bundle {self.path} does not have the size that the zip says; copy it again")
        return data

    def _checked_entries(self) -> list[zipfile.ZipInfo]:
        try:
            self._check_end()
            with zipfile.ZipFile(self.path) as archive:
                entries = archive.infolist()
        except OSError as error:
            raise BundleError(f"bundle {self.path} cannot be read: {error.strerror}") from error
        except _BROKEN as error:
            raise BundleError(f"{self.path} is neither a bundle folder nor an intact zip of one: {error}") from None
        seen: set[str] = set()
        for entry in entries:
            _check_entry(entry, self.path)
            if entry.filename in seen:
                raise BundleError(f"zip {self.path} has two entries called {entry.filename}; pack the bundle again")
            seen.add(entry.filename)
        if len(entries) > MAX_FILES + 2:  # the manifest and its signature
            raise BundleError(f"zip {self.path} has {len(entries)} entries, more than the {MAX_FILES + 2} allowed")
        return entries

    def _check_end(self) -> None:
        """Check the end of the file before the list of entries is read into memory."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            file.seek(max(0, size - _END.size - _ZIP64_LOCATOR_BYTES))
            tail = file.read()
        if len(tail) < _END.size:
            raise zipfile.BadZipFile("it is too short")
        magic, *_, directory_bytes, _, comment_bytes = _END.unpack(tail[-_END.size :])
        if magic != _END_MAGIC or comment_bytes:
            raise zipfile.BadZipFile("it does not end as a zip without a comment does")
        if tail.startswith(_ZIP64_MAGIC) or directory_bytes > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its list of entries is too long")


def open_container(path: Path) -> Container:
    """Look at the files of a bundle, a folder or a zip.

    Raises:
        BundleError: it is neither.
    """
    return Folder(path) if path.is_dir() else Zip(path)


def _check_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    name, mode = entry.filename, entry.external_attr >> 16
    reason = None
    if not is_plain_name(name) or entry.orig_filename != name:
        reason = "has a name that is not a plain file name; zip the files themselves, without their folder"
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        reason = "is a link or another special file"
    elif entry.flag_bits & 0x1:
        reason = "is encrypted"
    elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        reason = f"is compressed by method {entry.compress_type}; store or deflate it"
    elif entry.file_size > MAX_FILE_BYTES:
        reason = f"unpacks to {entry.file_size} bytes, more than the {MAX_FILE_BYTES} allowed"
    elif entry.file_size > MAX_SMALL_BYTES and entry.file_size > MAX_RATIO * entry.compress_size:
        reason = f"unpacks {entry.compress_size} bytes to {entry.file_size}, as only a bomb does"
    if reason is not None:
        raise BundleError(f"entry {entry.orig_filename!r} of zip {path} {reason}; make it with `edgeface bundle pack`")


def _missing(container: Container, name: str) -> BundleError:
    return BundleError(f"{name} is missing from bundle {container.path}; {container.remedy}")


def _too_large(container: Container, name: str, limit: int) -> BundleError:
    return BundleError(
        f"{name} of bundle {container.path} is larger than the {limit} bytes that it may have; {container.remedy}"
    )


_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""What Python's zipfile raises on zips that were broken on purpose."""
