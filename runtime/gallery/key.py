"""The key of an encrypted gallery: 32 random bytes in a file, an environment variable or the keyring of the system."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgeface.errors import ConfigError, MissingPackageError
from edgeface.files import PRIVATE, write_bytes
from edgeface.ownership import readable_by_others, writable_by_others

KEY_VARIABLE: Final = "EDGEFACE_GALLERY_KEY"
KEY_BYTES: Final = 32

KEYRING: Final = "keyring"
"""Instead of a file name: the keyring of the operating system, entry `gallery`; `keyring:NAME` for another entry."""

_KEYRING_SERVICE: Final = "edgeface"
_KEYRING_ENTRY: Final = "gallery"
_MAX_FILE_BYTES: Final = 1 << 10


@dataclass(frozen=True, slots=True)
class GalleryKey:
    """A key, and where it came from for messages. Its bytes are never printed."""

    raw: bytes = field(repr=False)
    """32 bytes."""
    origin: str

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise ConfigError(f"a gallery key has {KEY_BYTES} bytes, {self.origin} has {len(self.raw)}; {_MAKE_ONE}")


_MAKE_ONE: Final = "make one with `edgeface gallery keygen FILE`"


def find_key(where: str | None, environment: Mapping[str, str] | None = None) -> GalleryKey | None:
    """Return the key from where it is said to be, else from the environment variable, else None.

    Args:
        where: a key file, or `keyring`, or `keyring:NAME`; None asks the environment.
        environment: instead of that of the process.

    Raises:
        ConfigError: there is no key there, or none that can be used.
        MissingPackageError: the keyring needs its package.
    """
    if where is not None:
        return _read_keyring(entry) if (entry := _keyring_entry(where)) else read_key(Path(where))
    text = (os.environ if environment is None else environment).get(KEY_VARIABLE)
    # A variable that is set but empty is a slip that must not leave a gallery open.
    return None if text is None else _parse(text, KEY_VARIABLE)


def read_key(path: Path) -> GalleryKey:
    """Read a key file: 32 bytes as base64 or hexadecimal digits, readable by its owner only.

    Raises:
        ConfigError: missing, open to others, where others could put another one in its place, or no key.
    """
    try:
        if reason := writable_by_others(path):
            raise ConfigError(f"gallery key {path} is refused: {reason}")
        with path.open("rb") as file:
            if reason := readable_by_others(file.fileno()):
                raise ConfigError(f"gallery key {path} is refused: {reason}; chmod 600 {path}")
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"gallery key not found: {path}; {_MAKE_ONE}") from None
    except OSError as error:
        raise ConfigError(f"gallery key {path} cannot be read: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"gallery key {path} is larger than any key; {_MAKE_ONE}")
    return _parse(data.decode("ascii", "replace"), str(path))


def make_key(where: str, *, force: bool = False) -> None:
    """Make a new random key and put it into a file, mode 0600, or into the keyring.

    Args:
        where: as in `find_key`.
        force: replace a key that is there. What it encrypted is lost, unless it is kept elsewhere.

    Raises:
        ConfigError: there is a key already, or it cannot be written.
        MissingPackageError: the keyring needs its package.
    """
    text = base64.b64encode(os.urandom(KEY_BYTES)).decode()
    entry = _keyring_entry(where)
    if not force and (_from_keyring(entry) is not None if entry else os.path.lexists(where)):
        raise ConfigError(f"{where} exists; choose another name, or replace the key for good with --force")
    if entry:
        _ask_keyring("set_password", entry, text)
        return
    try:
        write_bytes(Path(where), f"{text}\n".encode(), mode=PRIVATE)
    except OSError as error:
        raise ConfigError(f"gallery key {where} cannot be written: {error.strerror}; give another path") from error


def _parse(text: str, origin: str) -> GalleryKey:
    text = text.strip()
    try:
        if re.fullmatch(r"[0-9a-fA-F]{64}", text):
            return GalleryKey(bytes.fromhex(text), origin)
        return GalleryKey(base64.b64decode(text, validate=True), origin)
    except (binascii.Error, ValueError):  # the text itself is a secret, so it is not shown
        raise ConfigError(f"{origin} is no gallery key: neither base64 nor hexadecimal digits; {_MAKE_ONE}") from None


def _keyring_entry(where: str) -> str | None:
    name, _, entry = where.partition(":")
    return (entry or _KEYRING_ENTRY) if name == KEYRING else None


def _read_keyring(entry: str) -> GalleryKey:
    text = _from_keyring(entry)
    if text is None:
        raise ConfigError(
            f"the keyring has no gallery key {entry!r}; make one with `edgeface gallery keygen keyring:{entry}`"
        )
    return _parse(text, f"keyring entry {entry!r}")


def _from_keyring(entry: str) -> str | None:
    found: str | None = _ask_keyring("get_password", entry)
    return found


def _ask_keyring(what: str, *arguments: str) -> Any:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise MissingPackageError("keyring", "keyring") from None
    try:
        return getattr(keyring, what)(_KEYRING_SERVICE, *arguments)
    except KeyringError as error:
        raise ConfigError(
            f"the keyring of this system cannot be used: {error or type(error).__name__}; keep the key in a file"
        ) from error
