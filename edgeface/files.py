"""Writing files and folders so that a crash or a full disk leaves the old one or the new one, never half.

What is private is for its owner only, from the moment it is made: pictures, names and templates of people, events about
them, keys. Folders that are made for it are as well; a folder that is there already stays as its owner wants it, and so
does a file that is only added to.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

_LONGEST: Final = 200
"""Bytes of a name that go into that of a temporary file; a name has 255 at most on the usual file systems."""

_UNWRITABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, lone surrogates and line breaks."""
PRIVATE: Final = 0o600
"""Permissions of a file that only its owner may read."""

_PRIVATE_FOLDER: Final = 0o700

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors that say that there is no room."""


def write_bytes(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write a file atomically: a temporary file beside it is flushed to disk, then takes its name.

    `mode` is its permissions, those of any new file by default; it never had wider ones. With `PRIVATE`, folders that
    are missing are made for the owner only as well.
    """
    with new_file(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def new_file(path: Path, *, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Give a temporary file that takes the name `path` when the block ends without an error; see `write_bytes`."""
    _make_folder(path.parent, mode == PRIVATE)
    handle, temporary = tempfile.mkstemp(prefix=_temporary(path), dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask() if mode is None else mode)  # mkstemp makes files private
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_text(path: Path, text: str, *, mode: int | None = None) -> None:
    """Write a UTF-8 file atomically; what UTF-8 cannot hold, the bytes of a foreign name, is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), mode=mode)


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for the owner only; one that is there stays as it is.

    Raises:
        OSError: that is impossible, or a file has the name.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)


def open_private(path: Path, flags: int) -> int:
    """Open a file as `os.open` does, with its folders and, if `flags` make it, for the owner only.

    Returns:
        Its descriptor. A file that is there already keeps its permissions.

    Raises:
        OSError: as `os.open`.
    """
    make_private_folder(path.parent)
    return os.open(path, flags, PRIVATE)


@contextlib.contextmanager
def new_folder(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder that takes the name `path` when the block ends without an error.

    An existing folder of that name is replaced as a whole; on an error it stays as it was. `private` makes it for its
    owner only, and so whatever lies in it.
    """
    _make_folder(path.parent, private)
    temporary = Path(tempfile.mkdtemp(prefix=_temporary(path), dir=path.parent))
    try:
        yield temporary
        os.chmod(temporary, _PRIVATE_FOLDER if private else 0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f"{_temporary(path)}old.", dir=path.parent))
            os.rename(path, old / "old")
            try:
                os.rename(temporary, path)
            except BaseException:
                os.rename(old / "old", path)
                os.rmdir(old)
                raise
            shutil.rmtree(old)
        else:
            os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def readable_name(name: str) -> str:
    """Return the name of a file or folder as text that can be written anywhere.

    Bytes that are not UTF-8, which Python keeps as lone surrogates, become `\\xNN`, and control characters and line
    breaks their escapes. Everything else stays. The file itself is only found by its real name.
    """
    if name.isprintable():
        return name
    return "".join(_escaped(letter) if unicodedata.category(letter) in _UNWRITABLE else letter for letter in name)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text says; whatever is wrong with it is a ValueError, also nesting without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_full(error: BaseException) -> bool:
    """Say whether an error means that there is no room, also where a library only says so in words."""
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while cause is not None and cause not in seen:
        seen.append(cause)
        number = re.search(r"\(os error (\d{1,4})\)", str(cause))
        if (number and int(number[1]) in FULL) or (isinstance(cause, OSError) and cause.errno in FULL):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as `sha256` does, without reading it whole into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _temporary(path: Path) -> str:
    """Return how the temporary name of a file begins: hidden, and short where its own name is as long as may be."""
    return "." + os.fsdecode(os.fsencode(path.name)[:_LONGEST].decode("utf-8", "ignore").encode()) + "."


def _make_folder(path: Path, private: bool) -> None:
    if private:
        make_private_folder(path)
    else:
        path.mkdir(parents=True, exist_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
