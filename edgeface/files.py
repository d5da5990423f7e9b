"""Writing files and folders so that a crash or a full disk leaves the old one or the new one, never half."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final


def write_bytes(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write a file atomically: a temporary file beside it is flushed to disk, then takes its name.

    `mode` is its permissions, those of any new file by default; it never had wider ones.
    """
    with new_file(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def new_file(path: Path, *, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Give a temporary file that takes the name `path` when the block ends without an error; see `write_bytes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
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


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically; what UTF-8 cannot hold, the bytes of a foreign name, is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder that takes the name `path` when the block ends without an error.

    An existing folder of that name is replaced as a whole; on an error it stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=_temporary(path), dir=path.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f"{_temporary(path)}old.", dir=path.parent))
            os.rename(path, old / "old")
            os.rename(temporary, path)
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


_UNWRITABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _temporary(path: Path) -> str:
    """Return how the temporary name of a file begins: hidden, and short where its own name is as long as may be."""
    return "." + os.fsdecode(os.fsencode(path.name)[:_LONGEST].decode("utf-8", "ignore").encode()) + "."


_LONGEST: Final = 200
"""Bytes; a name has 255 at most on the usual file systems."""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
