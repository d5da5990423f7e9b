"""Secrets that sinks need: from the environment or a file, never from the command line, where `ps` shows them."""

import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from edgeface.errors import ConfigError
from edgeface.runtime.cameras.redaction import redact

logger = logging.getLogger(__name__)

_MAX_BYTES = 64 * 1024  # a JSON Web Token has some thousand


def secret(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the secret in the variable `name`, or in the file that the variable `name` + `_FILE` names.

    White space around it is removed, as an editor ends a file with a line end.

    Returns:
        The secret; None if neither variable is set.

    Raises:
        ConfigError: both are set, the file cannot be read, or the secret is empty, longer than a line or too long.
    """
    value, path = environment.get(name), environment.get(f"{name}_FILE")
    if value is not None and path is not None:
        raise ConfigError(f"both {name} and {name}_FILE are set; set one of them")
    if value is None and path is None:
        return None
    where = name if path is None else f"the file in {name}_FILE, {path},"
    text = (_read(Path(path), name) if path is not None else value or "").strip()
    if not text or not text.isprintable():
        raise ConfigError(f"{where} must hold one line, the secret")
    return text


def plain_address(url: str, schemes: Mapping[str, int], option: str, variables: str) -> tuple[SplitResult, int]:
    """Take the address of a server apart.

    Args:
        url: what the user gave.
        schemes: those that are allowed, with their ports.
        option: what the user gave it to, for errors.
        variables: where credentials belong, for errors.

    Returns:
        The parts, and the port.

    Raises:
        ConfigError: no address of such a server, or one with user name or password in it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{option}: {redact(url)} is no address: {error}") from error
    if parts.scheme not in schemes or not parts.hostname:
        choices = ", ".join(f"{scheme}://" for scheme in schemes)
        raise ConfigError(f"{option}: {redact(url)} does not begin with one of {choices} and a host")
    if "@" in parts.netloc:
        raise ConfigError(f"{option}: {redact(url)} holds credentials that others can see; put them into {variables}")
    if any(not " " < character < "\x7f" for character in url):
        raise ConfigError(f"{option}: {redact(url)} holds spaces or other characters that must be written as %XX")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:  # an empty part, or one of more than 63 characters
        raise ConfigError(f"{option}: {redact(url)} has a host that no name can be; check it") from error
    return parts, port or schemes[parts.scheme]


def _read(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007:
                logger.warning("everybody can read the secret in %s; take that right away with chmod o= ", path)
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"the file in {name}_FILE, {path}, is too long for a secret")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"the file in {name}_FILE, {path}, cannot be read: {reason}") from error
