"""Bringing a public model of the registry onto this machine: fetched, checked, and kept with its licence beside it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from edgeface.errors import BundleError, ConfigError, FetchError
from edgeface.files import sha256, write_bytes, write_text
from edgeface.runtime.cameras.redaction import redact
from edgeface.runtime.fetching.download import Advance, RefusedError, download
from edgeface.runtime.fetching.partial_file import PartialFile
from edgeface.runtime.fetching.registry import MODELS, Kind, PublicModel
from edgeface.runtime.inspecting.inspection import inspect_model

logger = logging.getLogger(__name__)

_ATTEMPTS: Final = 2
"""Of one address: what a resumed file got wrong, a fresh one may get right."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model that is on this machine.

    Attributes:
        model: what it is.
        path: where it lies.
        address: where it came from, without secrets; None if it was there already.
    """

    model: PublicModel
    path: Path
    address: str | None


def default_path(model: PublicModel) -> Path:
    """Return where a model lies if no place is named."""
    from platformdirs import user_data_path

    return user_data_path("edgeface") / "models" / model.file


def notice_path(path: Path) -> Path:
    """Return where the licence of the model at `path` lies."""
    return path.with_name(f"{path.name}.licence.txt")


def is_there(model: PublicModel, path: Path) -> bool:
    """Tell whether a model lies at `path`.

    Raises:
        FetchError: something else does, or it cannot be read.
    """
    try:
        if not path.exists():
            return False
        if path.is_file():
            seen = _sha256_of(path, model)
            if seen == model.sha256:
                return True
            what = f"another file: its SHA-256 is {seen}, that of {model.name} is {model.sha256}"
        else:
            what = "no file"
    except OSError as error:
        raise FetchError(f"cannot read {path}: {error.strerror or error}; see to it, or give --out") from error
    raise FetchError(f"{path} is {what}; remove it, or give another --out")


def fetch(
    model: PublicModel,
    path: Path,
    *,
    mirror: str | None = None,
    advance: Advance = lambda done, total: None,
    timeout_s: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
) -> Fetched:
    """Fetch a model, unless it is there, and write its licence beside it.

    The bytes gather in a hidden file beside `path`, which a later call goes on with. The model takes its name when its
    size and SHA-256 are those of the registry and `edgeface.runtime.inspecting.inspection` finds it fit to run.

    Args:
        model: of the registry.
        path: the file to write.
        mirror: where to fetch it instead: the file's own address, or that of its folder, which ends in `/`.
        advance: told of the bytes that are there.
        timeout_s: as `edgeface.runtime.fetching.download.download`.
        clock: as `edgeface.runtime.fetching.download.download`.

    Raises:
        ConfigError: the mirror is no address.
        FetchError: no address gives the right file, another file lies at `path`, or `path` cannot be written.
        BundleError: it is the right file but this edgeface cannot run it.
    """
    addresses = model.addresses if mirror is None else (_mirrored(mirror, model),)
    if is_there(model, path):
        return Fetched(model, path, None)
    with PartialFile(path.with_name(f".{path.name}.{model.sha256[:12]}.part")) as part:
        data, address = _first_good(model, addresses, part, path, advance, timeout_s, clock)
        try:
            inspect_model(data, model.file)
        except BundleError:
            part.delete()
            raise
        try:
            # The licence first: the model never lies without it.
            write_text(notice_path(path), notice(model))
            write_bytes(path, data)
        except OSError as error:
            raise FetchError(f"cannot write {path}: {error.strerror or error}; see to it, or give --out") from error
        part.delete()
    return Fetched(model, path, redact(address))


def fetched_file(name: str, kind: Kind) -> Path:
    """Return the file that an option names: its path, or the name of a model that was fetched to its usual place.

    Args:
        name: what the user gave; a file of that name goes first.
        kind: what it must be if it is a model of the registry.

    Raises:
        ConfigError: the model is of another kind, or not fetched yet.
        FetchError: what lies in its place is something else.
    """
    path = Path(name)
    if name not in MODELS or path.exists():
        return path
    model = MODELS[name]
    if model.kind != kind:
        raise ConfigError(f"{name} is a face {model.kind}, a face {kind} is needed")
    path = default_path(model)
    if not is_there(model, path):
        raise ConfigError(f"{name} is not on this machine yet; fetch it with: edgeface bundle fetch {name}")
    return path


def notice(model: PublicModel) -> str:
    """Return the text that lies beside a model: what it is, whose, and under which terms."""
    return (
        f"{model.file}\n"
        f"{model.title}\n\n"
        f"origin: {model.origin}\n"
        f"SHA-256: {model.sha256}\n"
        f"bytes: {model.size_bytes}\n"
        f"trained on: {model.training_data}\n"
        f"licence: {model.licence.name}, {model.licence.address}\n\n"
        f"{model.licence.notice}"
    )


def _first_good(
    model: PublicModel,
    addresses: tuple[str, ...],
    part: PartialFile,
    path: Path,
    advance: Advance,
    timeout_s: float,
    clock: Callable[[], float],
) -> tuple[bytes, str]:
    """Return the model's bytes and where they came from, from the first address that gives them."""
    if part.size_bytes > model.size_bytes:
        part.clear()
    reasons: dict[str, list[str]] = {}
    for address in addresses:
        try:
            for left in reversed(range(_ATTEMPTS)):
                was_begun = part.size_bytes > 0
                if part.size_bytes < model.size_bytes:
                    download(address, part, model.size_bytes, advance=advance, timeout_s=timeout_s, clock=clock)
                data = part.read()
                if (seen := sha256(data)) == model.sha256:
                    return data, address
                part.clear()
                if not (was_begun and left):
                    raise RefusedError(
                        f"its SHA-256 is {seen}, that of {model.name} is {model.sha256}; what came is deleted"
                    )
        except RefusedError as error:
            logger.info("%s: %s", redact(address), error)
            reasons.setdefault(str(error), []).append(redact(address))
    tried = "; nor from ".join(f"{' and '.join(places)}: {why}" for why, places in reasons.items())
    raise FetchError(
        f"{model.name} could not be fetched from {tried}. Without a network, bring the file to "
        f"{path}, or name a server that has it with --mirror"
    )


def _sha256_of(path: Path, model: PublicModel) -> str:
    """Hash a file, and no more of it than shows that it is another one."""
    with path.open("rb") as file:
        return sha256(file.read(model.size_bytes + 1))


def _mirrored(mirror: str, model: PublicModel) -> str:
    shown = redact(mirror)
    try:
        parts = urlsplit(mirror)
        _ = parts.port  # raises for one that is none
    except ValueError as error:
        raise ConfigError(f"--mirror: {shown} is no address: {error}") from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigError(f"--mirror: {shown} does not begin with https:// or http:// and a host")
    if "@" in parts.netloc:
        raise ConfigError(f"--mirror: {shown} holds credentials that others can see; name a server that needs none")
    if any(not " " < character < "\x7f" for character in mirror):
        raise ConfigError(f"--mirror: {shown} holds spaces or other characters that must be written as %XX")
    return mirror + model.file if mirror.endswith("/") else mirror
