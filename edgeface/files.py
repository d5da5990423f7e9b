"""Writing files and folders so that a crash or a full disk leaves the old one or the new one, never half."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors that say that there is no room."""


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
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
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
    """Write a UTF-8 file atomically."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder that takes the name `path` when the block ends without an error.

    An existing folder of that name is replaced as a whole; on an error it stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
