"""A file that is being fetched: what is there of it outlives the process, so that a later one can go on."""

import contextlib
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

from edgeface.errors import FetchError

if sys.platform != "win32":  # two processes there would mix their bytes, which the hash finds out
    import fcntl

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class PartialFile:
    """The first bytes of a file, for one process at a time. Close it, or use it in a `with`.

    Args:
        path: where it lies; what is there already is taken for the beginning.

    Raises:
        FetchError: it cannot be opened or written, or another process is at it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(path, _FLAGS, 0o666), "r+b", buffering=0)
        except OSError as error:
            raise self._failure(error) from error
        try:
            self._lock()
            self.size_bytes = self._file.seek(0, os.SEEK_END)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "PartialFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, data: bytes) -> None:
        """Write `data` behind what is there."""
        rest = memoryview(data)
        try:
            while rest:
                written = self._file.write(rest) or 0
                self.size_bytes += written
                rest = rest[written:]
        except OSError as error:
            raise self._failure(error) from error

    def clear(self) -> None:
        """Throw away what is there."""
        try:
            self._file.truncate(0)
            self._file.seek(0)
        except OSError as error:
            raise self._failure(error) from error
        self.size_bytes = 0

    def read(self) -> bytes:
        """Return all that is there."""
        try:
            self._file.seek(0)
            return self._file.readall()
        except OSError as error:
            raise self._failure(error) from error

    def delete(self) -> None:
        """Take it off the disk; after that it can only be closed."""
        self.size_bytes = 0
        with contextlib.suppress(OSError):
            # Only if the name still is this file's: once deleted, another process may have taken it.
            if os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._file.fileno())):
                self.path.unlink()

    def close(self) -> None:
        """Close it. One with nothing in it is not kept."""
        if self.size_bytes == 0:
            self.delete()  # while it is locked, so that nobody else has begun
        self._file.close()
        if sys.platform == "win32" and self.size_bytes == 0:  # where an open file keeps its name
            self.path.unlink(missing_ok=True)

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FetchError(f"another process is writing {self.path}; wait until it is done") from error
        except OSError:
            pass  # a file system without locks

    def _failure(self, error: OSError) -> FetchError:
        return FetchError(f"cannot write {self.path}: {error.strerror or error}; see to it, or give --out")
