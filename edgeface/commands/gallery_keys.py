"""`edgeface gallery keygen`, `encrypt`, `rekey` and `decrypt`: whether a gallery can be read without a key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt
from edgeface.commands.gallery import Force

if TYPE_CHECKING:
    from edgeface.runtime.gallery.key import GalleryKey

KeyPlace = Annotated[str, typer.Argument(help="File to write, or keyring, or keyring:NAME for the system's keyring.")]


def gallery_keygen_command(key: KeyPlace, *, force: Force = False, as_json: opt.Json = False) -> None:
    """Make a key for encrypted galleries. Without it they cannot be read: keep a copy in a safe place.

    Example: edgeface gallery keygen gallery.key
    """
    from edgeface.runtime.gallery.key import make_key

    make_key(key, force=force)
    if as_json:
        console.print_json({"key": key})
        return
    typer.echo(f"gallery key: {key}; without it the gallery is lost, so keep a copy in a safe place")


def gallery_encrypt_command(
    *, gallery: opt.GalleryPath = None, gallery_key: opt.GalleryKeyPlace = None, as_json: opt.Json = False
) -> None:
    """Encrypt a gallery that is not. Enrolling into a new gallery with a key encrypts it from the start.

    Example: edgeface gallery encrypt --gallery-key gallery.key
    """
    from edgeface.errors import ConfigError, GalleryError
    from edgeface.runtime.gallery.reader import is_encrypted

    key = console.gallery_key(gallery_key)
    if key is None:
        raise ConfigError("give the key to encrypt with: --gallery-key FILE, made by `edgeface gallery keygen FILE`")
    path = gallery or console.default_gallery()
    if is_encrypted(path):
        raise GalleryError(f"gallery {path} is encrypted already; change its key with `edgeface gallery rekey`")
    _protect(gallery, None, key, "edgeface gallery encrypt", as_json)


def gallery_rekey_command(
    *,
    new_key: Annotated[str, typer.Option(help="Key to encrypt with from now on; as in --gallery-key.")],
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    as_json: opt.Json = False,
) -> None:
    """Change the key of an encrypted gallery.

    Example: edgeface gallery rekey --gallery-key old.key --new-key new.key
    """
    key = _present_key(gallery_key)
    _protect(gallery, key, console.gallery_key(new_key), "edgeface gallery rekey", as_json)


def gallery_decrypt_command(
    *, gallery: opt.GalleryPath = None, gallery_key: opt.GalleryKeyPlace = None, as_json: opt.Json = False
) -> None:
    """Turn the encryption of a gallery off.

    Example: edgeface gallery decrypt --gallery-key gallery.key
    """
    key = _present_key(gallery_key)
    _protect(gallery, key, None, "edgeface gallery decrypt", as_json)


def _present_key(gallery_key: str | None) -> "GalleryKey":
    from edgeface.errors import ConfigError

    key = console.gallery_key(gallery_key)
    if key is None:
        raise ConfigError("give the key that the gallery has now: --gallery-key FILE")
    return key


def _protect(
    gallery: Path | None, before: "GalleryKey | None", after: "GalleryKey | None", command: str, as_json: bool
) -> None:
    from edgeface.runtime.gallery.gallery import Gallery
    from edgeface.runtime.gallery.protection import protect

    path = gallery or console.default_gallery()
    with Gallery(path, key=before, command=command) as opened:
        templates = protect(opened, after)
    if as_json:
        console.print_json({"gallery": str(path), "encrypted": after is not None, "templates": templates})
        return
    typer.echo(f"{path} is {'encrypted' if after else 'not encrypted any more'} ({templates} templates)")
