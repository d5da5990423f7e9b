"""Making keys and signing bundles, the releaser's side of `edgeface.runtime.signature`."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgeface.errors import ConfigError
from edgeface.files import PRIVATE, write_bytes
from edgeface.manifest import SIGNATURE_NAME
from edgeface.runtime.bundle import Bundle
from edgeface.runtime.packing import bundle_files, zip_files
from edgeface.runtime.signature import fingerprint, read_key_file, sign_manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

logger = logging.getLogger(__name__)

PASSPHRASE_VARIABLE: Final = "EDGEFACE_KEY_PASSPHRASE"


def make_key(path: Path, *, passphrase: str | None = None, force: bool = False) -> str:
    """Write a new private key, and its public key beside it with `.pub` added.

    Args:
        path: PEM file to write, readable by its owner only.
        passphrase: to encrypt the private key with, or None.
        force: replace keys that are there.

    Returns:
        The fingerprint of the public key.

    Raises:
        ConfigError: there is a key already, or the passphrase is empty.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not path.name:
        raise ConfigError(f"a key needs a file name, and {str(path)!r} has none; use for example release.key")
    public_path = path.with_name(f"{path.name}.pub")
    for existing in (path, public_path):
        if existing.exists() and not force:
            raise ConfigError(f"{existing} exists; choose another name, or replace the key for good with --force")
    if passphrase == "":
        raise ConfigError("the passphrase is empty; give one, or leave the option out")
    key = Ed25519PrivateKey.generate()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_bytes(path, private, mode=PRIVATE)
    write_bytes(public_path, public, mode=0o644)  # what others can write is not trusted
    return fingerprint(key.public_key().public_bytes_raw())


def is_encrypted(path: Path) -> bool:
    """Say whether a private key file needs a passphrase.

    Raises:
        ConfigError: it is missing or cannot be read.
    """
    return b"ENCRYPTED PRIVATE KEY" in read_key_file(path)


def read_private_key(path: Path, passphrase: str | None = None) -> "Ed25519PrivateKey":
    """Read an ed25519 private key from a PEM file.

    Raises:
        ConfigError: it is missing or not such a key, or encrypted and the passphrase is missing or wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    encrypted = is_encrypted(path)
    if encrypted and not passphrase:
        raise ConfigError(f"{path} needs a passphrase; set {PASSPHRASE_VARIABLE} or type it when asked")
    try:
        key = load_pem_private_key(read_key_file(path), (passphrase or "").encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted:
            raise ConfigError(f"the passphrase does not open {path}; give the one it was made with") from None
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is not an ed25519 private key; make one with `edgeface bundle keygen`")
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        logger.warning("private key %s can be read by others (mode %o); chmod 600 it", path, mode)
    return key


def sign_bundle(bundle: Bundle, key: "Ed25519PrivateKey") -> str:
    """Sign a bundle where it lies, after checking all of it; an older signature is replaced.

    A folder gets the file `manifest.sig`; a zip is written anew with it.

    Returns:
        The fingerprint of the key.

    Raises:
        BundleError: the bundle is not whole, or holds a network that would be refused.
        ConfigError: it cannot be written.
    """
    bundle.verify()
    signature = sign_manifest(bundle.manifest_bytes, key)
    try:
        if bundle.path.is_dir():
            write_bytes(bundle.path / SIGNATURE_NAME, signature.to_json())
        else:
            # Through a link the zip itself is replaced, not the link.
            write_bytes(bundle.path.resolve(), zip_files(bundle_files(bundle, signature.to_json())))
    except OSError as error:
        raise ConfigError(f"the signature of {bundle.path} cannot be written: {error.strerror}") from error
    return fingerprint(key.public_key().public_bytes_raw())
